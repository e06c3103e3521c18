"""REWEIGHT as a step of an imbalanced-learn pipeline; needs the extra ``imblearn``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from imblearn.base import BaseSampler
from imblearn.utils import check_target_type
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Tags, check_consistent_length, check_random_state
from sklearn.utils.validation import validate_data

from .groups import GroupEncoder, attribute_column
from .parameters import WithParameters, parameter
from .randomness import RandomState
from .reweight import group_balance_weights
from .rows import take_rows
from .validation import check_class_labels, to_numbers

__all__ = ["ReweightResampler"]


class ReweightResampler(WithParameters, BaseSampler):  # type: ignore[misc, unused-ignore]
    r"""Draw rows so that each group gets the share it has in a reference.

    This is REWEIGHT [1]_ for pipelines of imbalanced-learn, and with it for any scikit-learn
    classifier: of the rows that remain after deletion requests as many are drawn, with
    replacement, with

    .. math:: P(x_i) \propto \frac{n_{ref}(g_i)}{n_{rest}(g_i)},

    :math:`g = (y, a)` being a row's label and protected attribute. In expectation every group is
    then seen in the proportions of the reference, such as the training data before the requests.

    Parameters
    ----------
    group_counts : mapping or None, default=None
        How often each group occurs in the reference: ``{(y, a): count}``, for example
        ``collections.Counter(zip(y_train, a_train))``. Only proportions matter. With several
        attribute columns ``a`` is the tuple of their values; without attributes the keys are
        labels, ``{y: count}``. None means that all groups that occur get equal shares, as
        imbalanced-learn's other samplers do with classes.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw.

    Attributes
    ----------
    sample_indices_ : ndarray of shape (n_samples,)
        Row numbers drawn by :meth:`fit_resample`.
    sampling_strategy_ : dict
        Rows of each label to be expected in a draw, rounded.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame.

    See Also
    --------
    grmu_sk.ReweightSampler : The probabilities alone, and a torch sampler.
    grmu_sk.RetrainUnlearner : Retraining with REWEIGHT; no resampler is needed there.

    Notes
    -----
    A pipeline hands ``groups`` to this step only with metadata routing switched on (no
    ``set_fit_resample_request`` is needed); with routing off imbalanced-learn 0.14 drops them
    silently.

    A pipeline of imbalanced-learn resamples X and y, but not the metadata of the steps behind:
    what comes after this step must not take ``groups`` or ``sample_weight``, since they would
    belong to other rows. Unlearners of this package take groups and sample by REWEIGHT
    themselves. Behind a sampler they refuse groups of another length, and such of pandas with
    another index than the drawn rows; where all are arrays, or the rows were numbered from 0 on, a
    draw of as many rows as before cannot be told from the rows themselves.

    A draw with replacement leaves some rows out and repeats others: about 37% of the rows of a
    group that keeps its size are not in it. Another small group, whose share did not change, can
    lose accuracy by that, above all with gradient boosting, which fits repeated rows closely. A
    classifier that takes weights needs no draw: pass the probabilities of
    :meth:`grmu_sk.ReweightSampler.transform`, times the number of rows, as ``sample_weight``.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from collections import Counter
    >>> import numpy as np
    >>> from grmu_sk.resampling import ReweightResampler
    >>> y, a = np.repeat([0, 0, 1, 1], 100), np.tile(["f", "m"], 200)
    >>> asked = np.arange(100, 180, 2)  # 40 rows with y=0, a="f" are to be forgotten
    >>> rest = np.setdiff1d(np.arange(400), asked)
    >>> before = Counter(zip(y.tolist(), a.tolist()))
    >>> resampler = ReweightResampler(before, random_state=0)
    >>> X_new, y_new = resampler.fit_resample(np.zeros((360, 1)), y[rest], groups=a[rest])
    >>> len(y_new), resampler.sampling_strategy_
    (360, {0: 180, 1: 180})
    """

    __metadata_request__fit = {"groups": True}
    __metadata_request__fit_resample = {"groups": True}

    _sampling_type = "bypass"

    group_counts: Mapping[Hashable, float] | None = parameter(None, kw_only=False)
    random_state: RandomState = parameter(None, "random_state")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True  # rows are taken as they are, whatever they hold
        tags.input_tags.string = True
        tags.sampler_tags.sample_indices = True
        return tags

    def fit(self, X: Any, y: ArrayLike, groups: Any = None) -> ReweightResampler:
        """Check the arguments; :meth:`fit_resample` draws.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix of length n_samples
            Inputs of the remaining rows.
        y : array-like of shape (n_samples,)
            Their labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Their protected attribute.

        Returns
        -------
        ReweightResampler
            The fitted resampler.

        Raises
        ------
        ValueError
            As :meth:`fit_resample` does.
        """
        self._fit_probabilities(X, y, groups)
        return self

    def fit_resample(self, X: Any, y: Any, groups: Any = None) -> tuple[Any, Any]:
        """Draw as many rows as there are, with replacement.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix of length n_samples
            Inputs of the remaining rows, of any rank and any type.
        y : array-like of shape (n_samples,)
            Their labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Their protected attribute; None means that a group is a label.

        Returns
        -------
        X_resampled : array-like, DataFrame or sparse matrix of length n_samples
            Drawn rows, of the same type as X; a DataFrame's index is numbered anew.
        y_resampled : array-like of shape (n_samples,)
            Their labels.

        Raises
        ------
        ValueError
            If labels are not classes, there is one class only, a value is missing, lengths
            differ, ``group_counts`` lacks a group of the rows, or the rows lack a group of it.
        """
        rng = check_random_state(self.random_state)
        probabilities = self._fit_probabilities(X, y, groups)
        rows = rng.choice(len(probabilities), size=len(probabilities), p=probabilities)
        self.sample_indices_ = rows
        drawn = take_rows(X, rows), take_rows(y, rows)
        # as imbalanced-learn's samplers do
        X, y = (
            part.reset_index(drop=True) if hasattr(part, "reset_index") else part for part in drawn
        )
        return X, y

    def _fit_resample(self, X: Any, y: Any, **params: Any) -> tuple[Any, Any]:
        # abstract in the base class; rows are taken without turning X into an array first
        return self.fit_resample(X, y, **params)

    def _fit_probabilities(self, X: Any, y: Any, groups: Any) -> NDArray[np.float64]:
        """Check everything, remember what was learnt, and return each row's probability."""
        if y is None:
            raise ValueError("ReweightResampler requires y to be passed, but the target y is None.")
        check_consistent_length(X, y)
        check_class_labels(y)
        encoded, _ = check_target_type(y, indicate_one_vs_all=True)  # undoes one-vs-all columns
        labels = attribute_column(encoded, name="y")
        encoder = GroupEncoder().fit(labels, groups)
        if len(encoder.classes_) < 2:
            raise ValueError(f"y has 1 class, {labels.tolist()[0]!r}: at least two are needed.")
        numbers = encoder.transform(labels, groups)
        names: list[Any] = encoder.classes_.tolist() if groups is None else encoder.pairs_
        occur = [names[number] for number in np.unique(numbers)]
        counts = dict.fromkeys(occur, 1) if self.group_counts is None else self.group_counts
        values = to_numbers(list(counts.values()), "group_counts")
        if not np.isfinite(values).all() or (values < 0).any() or not values.any():
            raise ValueError("group_counts must be finite, not negative and not all zero.")
        if unknown := [name for name in occur if name not in counts]:
            raise ValueError(
                f"group_counts has no entry for the group(s) {unknown}. A pipeline of "
                "imbalanced-learn drops groups silently unless metadata routing is switched on."
            )
        # groups of the reference that no row is in must be named too, or the mix would be another
        names += [name for name in counts if name not in names]
        reference: NDArray[Any] = np.array([float(counts.get(name, 0)) for name in names])
        probabilities = group_balance_weights(reference, numbers, names)
        validate_data(self, X, skip_check_array=True)
        expected = len(labels) * pd.Series(probabilities).groupby(labels, sort=False).sum()
        self.sampling_strategy_ = expected.round().astype(int).to_dict()
        return probabilities
