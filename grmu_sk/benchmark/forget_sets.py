"""Forget sets: drawn as the paper draws them, stored row by row, and recognisable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..groups import Pair, attribute_column, check_pairs, in_pairs, sample_forget_set
from ..utils.arguments import about, as_random_state, check_types, to_array
from .splits import Splits

__all__ = [
    "ForgetSet",
    "ForgetSetMismatch",
    "data_fingerprint",
    "draw_forget_set",
    "product_pairs",
]


class ForgetSetMismatch(ValueError):
    """Two steps of a comparison speak of different rows."""


@dataclass(frozen=True, eq=False)
class ForgetSet:
    """The rows that are to be forgotten, and what they were drawn from.

    Build one with :func:`draw_forget_set`, or from a file with :meth:`from_dict`.

    Parameters
    ----------
    rows : ndarray of shape (n_forget,), int64
        Row numbers of the training rows, ascending.
    pairs : list of tuple
        The groups (y, a) they were drawn from; empty if from all training rows.
    ratio : float
        Share of those groups' rows.
    seed : int
        Seed of the draw.
    fingerprint : str
        SHA-256 of the data set's name, the labels and attributes of all training rows, and
        ``rows``, in hexadecimal.
    stratified : bool, default=False
        Whether the share was drawn from each group by itself.
    """

    rows: NDArray[np.int64]
    pairs: list[Pair]
    ratio: float
    seed: int
    fingerprint: str
    stratified: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ForgetSet):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def mask(self, n_rows: int) -> NDArray[np.bool_]:
        """Return the rows as a mask, which is what ``fit(forget=...)`` takes.

        Parameters
        ----------
        n_rows : int
            Number of training rows.

        Returns
        -------
        ndarray of shape (n_rows,)
            True for rows to forget.

        Raises
        ------
        ForgetSetMismatch
            If there are too few training rows for these row numbers.
        """
        check_types(ForgetSet.mask, locals())
        if len(self.rows) and self.rows[-1] >= n_rows:
            raise ForgetSetMismatch(
                f"The forget set names row {self.rows[-1]}, but there are {n_rows} training rows: "
                "it belongs to other data."
            )
        mask = np.zeros(n_rows, dtype=bool)
        mask[self.rows] = True
        return mask

    def check(self, splits: Splits) -> None:
        """Raise unless these are rows of these data.

        Parameters
        ----------
        splits : Splits
            The data that a step of the comparison is about to use.

        Raises
        ------
        ForgetSetMismatch
            If name, labels, attributes or rows are others than when the set was drawn.
        """
        check_types(ForgetSet.check, locals())
        found = _fingerprint(splits, self.rows)
        if found != self.fingerprint:
            raise ForgetSetMismatch(
                f"The forget set (seed {self.seed}, ratio {self.ratio}, fingerprint "
                f"{self.fingerprint[:12]}) was drawn from other training rows than those of "
                f"{splits.name!r} with {len(splits.train.y)} rows (fingerprint {found[:12]}). "
                "Use the same files, options and seed for pretraining, retraining and unlearning, "
                "or start with an empty results folder."
            )

    def require(self, fingerprint: str, step: str) -> None:
        """Raise unless a step was run with this forget set.

        Parameters
        ----------
        fingerprint : str
            What the step recorded.
        step : str
            Its name, for the message.

        Raises
        ------
        ForgetSetMismatch
            If it was another forget set.
        """
        check_types(ForgetSet.require, locals())
        if fingerprint != self.fingerprint:
            raise ForgetSetMismatch(
                f"{step} was run with another forget set (fingerprint {fingerprint[:12]}) than "
                f"this one (fingerprint {self.fingerprint[:12]}, seed {self.seed}, ratio "
                f"{self.ratio}): their results cannot be compared. Run {step} again, or use the "
                "forget set it was run with."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a JSON file, every row number among them.

        Returns
        -------
        dict
            What :meth:`from_dict` takes.
        """
        return asdict(self) | {
            "rows": self.rows.tolist(),
            "pairs": [list(pair) for pair in self.pairs],
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any], splits: Splits) -> ForgetSet:
        """Return a stored forget set, after making sure that it belongs to these data.

        Parameters
        ----------
        stored : dict
            As returned by :meth:`to_dict`.
        splits : Splits
            The data.

        Returns
        -------
        ForgetSet
            The set.

        Raises
        ------
        ForgetSetMismatch
            If it was drawn from other data, or its rows were changed.
        ValueError
            If a value is missing.
        """
        check_types(cls.from_dict, locals())
        names = ("rows", "pairs", "ratio", "seed", "fingerprint", "stratified")
        missing = [name for name in names if name not in stored]
        if missing:
            raise ValueError(
                f"The stored forget set has no {', '.join(missing)}; draw it again with "
                "draw_forget_set."
            )
        values = {name: stored[name] for name in names}
        with about("stored"):
            values["rows"] = _row_numbers(to_array(stored["rows"], "stored['rows']"))
            values["pairs"] = [(y, a) for y, a in stored["pairs"]]
        forget_set = cls(**values)
        forget_set.mask(len(splits.train.y))
        forget_set.check(splits)
        return forget_set


def _row_numbers(rows: NDArray[Any]) -> NDArray[np.int64]:
    if rows.ndim != 1 or (len(rows) and rows.dtype.kind not in "iu"):
        raise ValueError(f"stored['rows'] must be row numbers, got {rows.dtype} {rows.shape}.")
    return rows.astype(np.int64)


def draw_forget_set(
    splits: Splits,
    pairs: Sequence[Pair],
    ratio: float,
    seed: int,
    *,
    stratified: bool = False,
) -> ForgetSet:
    """Draw a forget set from the training rows.

    As in [1]_, the rows of all ``pairs`` are pooled and ``int(ratio * n_pool)`` of them are drawn
    uniformly, without replacement, so that several groups do not lose the same share each.

    Parameters
    ----------
    splits : Splits
        The data; only training rows are looked at.
    pairs : sequence of tuple
        The groups (y, a) to draw from; empty to draw from all training rows.
    ratio : float
        Share of the pooled rows, in (0, 1].
    seed : int
        Seed of the draw.
    stratified : bool, default=False
        Draw ``int(ratio * n_group)`` rows from each group instead. With one group this is the
        same draw.

    Returns
    -------
    ForgetSet
        The rows.

    Raises
    ------
    ValueError
        If ``ratio`` is out of range, a group has no rows, or nothing would be drawn.

    See Also
    --------
    grmu_sk.sample_forget_set : The draw itself, on labels and attributes.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.benchmark.forget_sets import draw_forget_set
    >>> from grmu_sk.benchmark.splits import Split, Splits
    >>> y, a = np.arange(40) % 2, np.arange(40) // 20
    >>> split = Split(np.zeros((40, 1)), y, a)
    >>> splits = Splits("example", split, split, split, [(1, 1)])
    >>> forget_set = draw_forget_set(splits, [(1, 1)], ratio=0.5, seed=0)
    >>> len(forget_set), set(zip(y[forget_set.rows].tolist(), a[forget_set.rows].tolist()))
    (5, {(1, 1)})
    """
    check_types(draw_forget_set, locals())
    chosen = check_pairs(pairs, name="pairs") if len(pairs) else []
    draw = _draw_by_group if stratified and chosen else _draw
    rows = draw(splits, chosen, ratio, seed)
    fingerprint = _fingerprint(splits, rows)
    return ForgetSet(rows, chosen, float(ratio), int(seed), fingerprint, bool(stratified))


def _draw(splits: Splits, pairs: list[Pair], ratio: float, seed: int) -> NDArray[np.int64]:
    train = splits.train
    drawn_from = pairs or _pairs_there(splits)
    return sample_forget_set(
        train.y, train.groups, forget_groups=drawn_from, ratio=ratio, random_state=seed
    )


def _draw_by_group(splits: Splits, pairs: list[Pair], ratio: float, seed: int) -> NDArray[np.int64]:
    rng = as_random_state(seed, "seed")
    train = splits.train
    parts = [
        sample_forget_set(
            train.y, train.groups, forget_groups=[pair], ratio=ratio, random_state=rng
        )
        for pair in dict.fromkeys(pairs)
        if _n_drawn(splits, pair, ratio)
    ]
    if not parts:
        raise ValueError(
            f"ratio={ratio} of each of the groups {pairs} is less than one row. Raise ratio, or "
            "draw from all of them together with stratified=False."
        )
    return np.sort(np.concatenate(parts))


def _n_drawn(splits: Splits, pair: Pair, ratio: float) -> bool:
    """Return whether a group gives any row; one that has none at all is left to raise."""
    attribute = attribute_column(splits.train.groups)
    n_rows = int(in_pairs(np.asarray(splits.train.y), attribute, [pair]).sum())
    return n_rows == 0 or not 0 < ratio <= 1 or int(ratio * n_rows) > 0


def _pairs_there(splits: Splits) -> list[Pair]:
    labels, attribute = np.asarray(splits.train.y), attribute_column(splits.train.groups)
    return list(dict.fromkeys(zip(labels.tolist(), attribute.tolist(), strict=True)))


def product_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Return every combination of the labels and the attribute values of some groups.

    The paper's forget sets of 9 and 25 groups are the products of 3 and 5 groups.

    Parameters
    ----------
    pairs : iterable of tuple
        Groups (y, a).

    Returns
    -------
    list of tuple
        All pairs of a label and an attribute value that occur among them, labels first.

    Examples
    --------
    >>> from grmu_sk.benchmark.forget_sets import product_pairs
    >>> product_pairs([("young", "x"), ("old", "y")])
    [('young', 'x'), ('young', 'y'), ('old', 'x'), ('old', 'y')]
    """
    listed = check_pairs(list(pairs))
    labels = dict.fromkeys(y for y, _ in listed)
    attributes = dict.fromkeys(a for _, a in listed)
    return list(product(labels, attributes))


def data_fingerprint(splits: Splits) -> str:
    """Return a digest of the training rows, for steps that know no forget set.

    Parameters
    ----------
    splits : Splits
        The data.

    Returns
    -------
    str
        SHA-256 of the name, and of labels and attributes of the training rows in their order, in
        hexadecimal.
    """
    return _fingerprint(splits, np.empty(0, dtype=np.int64))


def _fingerprint(splits: Splits, rows: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(json.dumps(splits.name).encode())
    for values in (to_array(splits.train.y, "y"), attribute_column(splits.train.groups)):
        names, codes = np.unique(values.astype(str), return_inverse=True)
        digest.update(json.dumps([len(values), names.tolist()]).encode())
        digest.update(codes.astype("<i8").tobytes())
    digest.update(np.asarray(rows).astype("<i8").tobytes())
    return digest.hexdigest()
