"""Groups: the pairs (y, a) of a target label and a protected attribute.

The paper counts accuracy, fairness and damage per *group*, and a group is always the pair of the
target label ``y`` and the attribute ``a``. Callers hand over only ``a`` (the argument called
``groups``); this module builds the pairs, numbers them ``g = a + S * y`` for ``C`` labels and ``S``
attribute values, and draws forget sets from them.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Hashable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, check_random_state

from .validation import about, label_column, to_array

Pair = tuple[Hashable, Hashable]

__all__ = ["GroupEncoder", "Pair", "attribute_column", "check_pairs", "sample_forget_set"]


def attribute_column(groups: Any, *, name: str = "groups") -> NDArray[Any]:
    """Turn a protected attribute into one column of hashable values.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Attribute values. Several columns are read as their intersection: each row becomes the
        tuple of its values.
    name : str, default="groups"
        What to call the argument in error messages.

    Returns
    -------
    ndarray of shape (n_samples,)
        The values; of dtype object when there are several columns.

    Raises
    ------
    ValueError
        If a value is missing, or the array has more than two dimensions or no column.

    Examples
    --------
    >>> from grmu_sk.groups import attribute_column
    >>> attribute_column([["f", 0], ["m", 1]]).tolist()
    [('f', 0), ('m', 1)]
    """
    with about(name):
        frame = _as_frame(groups, name)
    rows = np.flatnonzero(frame.isna().any(axis=1))
    if len(rows):
        raise ValueError(
            f"{name} has a missing value (NaN or None) in {len(rows)} rows, the first at row "
            f"{rows[0]}."
        )
    if frame.shape[1] == 1:
        return np.asarray(frame.iloc[:, 0].to_numpy())
    column = np.empty(len(frame), dtype=object)
    column[:] = list(frame.itertuples(index=False, name=None))
    return column


def attribute_of_rows(groups: Any, n_rows: int, of: str) -> NDArray[Any]:
    """Return the protected attribute, one value for each of the rows of ``of``."""
    attribute = attribute_column(groups)
    if len(attribute) != n_rows:
        raise ValueError(f"groups has {len(attribute)} rows but {of} has {n_rows}.")
    return attribute


def _as_frame(groups: Any, name: str) -> pd.DataFrame:
    if isinstance(groups, pd.Series | pd.Categorical | pd.Index):
        groups = pd.DataFrame({name: groups})
    if not isinstance(groups, pd.DataFrame):
        # object keeps the columns of a mixed list apart: ["f", 1] must not become ["f", "1"]
        is_array = hasattr(groups, "__array__")
        array = to_array(groups if is_array else np.array(groups, dtype=object), name)
        if array.ndim not in (1, 2):
            raise ValueError(f"{name} must be 1-D, or 2-D with attributes, got {array.shape}.")
        groups = pd.DataFrame(array)
        groups = groups.infer_objects() if array.dtype == object else groups
    if groups.shape[1] == 0:
        raise ValueError(f"{name} has no column: give at least one attribute.")
    return groups


def sorted_unique(values: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct values in order; values that cannot be ordered keep their first order."""
    unique = list(pd.unique(pd.Series(values)))
    with suppress(TypeError):
        unique.sort()
    out = np.empty(len(unique), dtype=values.dtype)
    out[:] = unique
    return out


class GroupEncoder:
    """Number the groups (y, a) as ``g = a + S * y``.

    The numbering is fixed by :meth:`fit`, so a label or attribute that vanishes later (because
    all its rows were forgotten) does not shift the others.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The distinct target labels, sorted.
    attributes_ : ndarray of shape (n_attributes,)
        The distinct attribute values, sorted (tuples for several columns).

    Examples
    --------
    >>> from grmu_sk.groups import GroupEncoder
    >>> encoder = GroupEncoder().fit(["cat", "dog", "dog"], ["day", "night", "day"])
    >>> encoder.transform(["dog", "cat"], ["day", "night"]).tolist()
    [2, 1]
    >>> encoder.pairs_[2]
    ('dog', 'day')
    """

    classes_: NDArray[Any]
    attributes_: NDArray[Any]

    def fit(self, y: ArrayLike, groups: Any = None) -> GroupEncoder:
        """Learn the labels and attribute values.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Target labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Protected attribute. With None there is one attribute value, and a group is a label.

        Returns
        -------
        GroupEncoder
            The fitted encoder.
        """
        labels, attribute = self._columns(y, groups)
        self.classes_ = sorted_unique(labels)
        self.attributes_ = sorted_unique(attribute)
        n_pairs = len(np.unique(self.transform(labels, None if groups is None else attribute)))
        if len(self.classes_) > 1 and n_pairs == len(self.attributes_) > 1:
            told = "groups already determines y: pass the protected attribute alone, not (y, a)."
            warnings.warn(told, UserWarning, stacklevel=3)
        return self

    def transform(self, y: ArrayLike, groups: Any = None) -> NDArray[np.int64]:
        """Return the group number of every row.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Target labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Protected attribute.

        Returns
        -------
        ndarray of shape (n_samples,)
            Numbers from 0 to ``len(pairs_) - 1``.

        Raises
        ------
        ValueError
            If a label or attribute value was not seen by :meth:`fit`.
        """
        labels, attribute = self._columns(y, groups)
        label_codes = codes_of(labels, self.classes_, "y")
        attribute_codes = codes_of(attribute, self.attributes_, "groups")
        return attribute_codes + len(self.attributes_) * label_codes

    @property
    def pairs_(self) -> list[Pair]:
        """The pair (y, a) of every group number, C * S of them, whether or not each occurs."""
        return [(y, a) for y in self.classes_.tolist() for a in self.attributes_.tolist()]

    @staticmethod
    def _columns(y: Any, groups: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        labels = label_column(y, name="y")
        if groups is None:
            return labels, np.zeros(len(labels), dtype=np.int64)
        return labels, attribute_of_rows(groups, len(labels), "y")


def value_index(values: NDArray[Any]) -> pd.Index[Any]:
    """Return labels or attribute values as an index of pandas."""
    if values.dtype == np.float16:  # which pandas has no index of
        values = values.astype(np.float32)
    # tuples must stay elements: an Index of tuples would become a MultiIndex
    return pd.Index(values, tupleize_cols=False)


def codes_of(values: NDArray[Any], known: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Return the position of every value among the known ones; ``name`` is for the error."""
    codes = value_index(known).get_indexer(value_index(values))
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise ValueError(
            f"{name} has the value {values.tolist()[row]!r} (row {row}), which was not there when "
            f"fitting: {known.tolist()}."
        )
    return codes.astype(np.int64)


def count_unknown(values: NDArray[Any], known: NDArray[Any] | None) -> dict[Hashable, int]:
    """Count the rows of each attribute value that ``fit`` has not seen, and warn of them.

    Such rows may not decide about a model, which could not learn of their groups. Of labels that
    ``fit`` has not seen :func:`codes_of` makes an error.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        The attribute of rows on which a model is measured.
    known : ndarray or None
        The values seen in ``fit``; None if it was given no groups, and no value is unknown then.

    Returns
    -------
    dict
        Rows by value, for values that are not known.

    Raises
    ------
    ValueError
        If these are most of the rows.
    """
    if known is None:
        return {}
    is_unknown = value_index(known).get_indexer(value_index(values)) < 0
    unknown: dict[Hashable, int] = pd.Series(values)[is_unknown].value_counts().to_dict()
    if unknown:
        message = f"groups holds values that fit has not seen, with these rows: {unknown}."
        if is_unknown.mean() > 0.5:
            raise ValueError(
                f"{message} If these are not the protected attribute but, say, subjects, name it "
                'for the scorer too: clone(ga_scorer).set_score_request(groups="attr").'
            )
        warnings.warn(f"{message} These rows do not count.", UserWarning, stacklevel=3)
    return unknown


def check_pairs(pairs: Any) -> list[Pair]:
    """Check a list of groups given as pairs (y, a).

    Parameters
    ----------
    pairs : tuple or sequence of tuples
        One pair ``(y, a)`` or several.

    Returns
    -------
    list of tuple
        The pairs.

    Raises
    ------
    ValueError
        If there is no pair or one is not of length two.

    Examples
    --------
    >>> from grmu_sk.groups import check_pairs
    >>> check_pairs(("blond", "male"))
    [('blond', 'male')]
    """
    if isinstance(pairs, tuple) and _is_pair(pairs) and not _is_pair(pairs[0]):
        pairs = [pairs]
    checked = list(pairs) if isinstance(pairs, Iterable) else []
    if not checked or not all(map(_is_pair, checked)):
        raise ValueError(f"forget_groups must be one or more pairs (y, attribute), got {pairs!r}.")
    return [(y, attribute) for y, attribute in checked]


def _is_pair(value: Any) -> bool:
    is_two = isinstance(value, tuple | list) and len(value) == 2
    return is_two and all(isinstance(part, Hashable) for part in value)


def in_pairs(y: NDArray[Any], attribute: NDArray[Any], pairs: Iterable[Pair]) -> NDArray[np.bool_]:
    """Mark the rows whose (y, a) is one of ``pairs``."""
    wanted = set(pairs)
    y_codes, labels = pd.factorize(y, use_na_sentinel=False)
    a_codes, values = pd.factorize(attribute, use_na_sentinel=False)
    is_wanted = [[(y, a) in wanted for a in values.tolist()] for y in labels.tolist()]
    return np.array(is_wanted, dtype=bool).reshape(len(labels), len(values))[y_codes, a_codes]


def is_in(values: NDArray[Any], wanted: Collection[Hashable]) -> NDArray[np.bool_]:
    """Mark the values that are among ``wanted``.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        Hashable values.
    wanted : collection
        Values to look for.

    Returns
    -------
    ndarray of shape (n_samples,)
        Boolean mask.
    """
    return pd.Series(values).isin(list(wanted)).to_numpy(dtype=bool)


def sample_forget_set(
    y: ArrayLike,
    groups: Any,
    *,
    forget_groups: Pair | Sequence[Pair],
    ratio: float = 0.5,
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.int64]:
    """Draw a forget set from one or several groups, as the paper does.

    The rows of all ``forget_groups`` are pooled and ``int(ratio * n_pool)`` of them are drawn
    without replacement, so several groups do not each lose the same share.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Target labels of the training rows.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute of the training rows.
    forget_groups : pair or sequence of pairs
        The groups (y, a) the requests come from.
    ratio : float, default=0.5
        Share of the pooled rows to forget, in (0, 1].
    random_state : int, RandomState instance or None, default=None
        Seed of the draw.

    Returns
    -------
    ndarray of shape (n_forget,)
        Row numbers, ascending.

    Raises
    ------
    ValueError
        If ``ratio`` is out of range, a group has no rows, or the draw would be empty.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.groups import sample_forget_set
    >>> y, a = [0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 1, 1]
    >>> rows = sample_forget_set(y, a, forget_groups=(1, 1), ratio=0.7, random_state=0)
    >>> len(rows), set(rows.tolist()) <= {3, 4, 5}
    (2, True)
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must lie in (0, 1], got {ratio!r}.")
    labels, attribute = label_column(y, name="y"), attribute_column(groups)
    check_consistent_length(labels, attribute)
    pairs = check_pairs(forget_groups)
    for pair in pairs:
        if not in_pairs(labels, attribute, [pair]).any():
            raise ValueError(f"The group (y, a) = {pair!r} has no rows to forget.")
    pool = np.flatnonzero(in_pairs(labels, attribute, pairs))
    n_forget = int(ratio * len(pool))
    if n_forget == 0:
        raise ValueError(f"ratio={ratio} of the {len(pool)} rows in {pairs} is less than one row.")
    rng = check_random_state(random_state)
    return np.sort(rng.choice(pool, size=n_forget, replace=False))
