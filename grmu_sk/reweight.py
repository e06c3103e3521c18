"""REWEIGHT: sample what remains so that every group keeps its share of the training data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch.utils.data import WeightedRandomSampler

from .groups import GroupEncoder, attribute_column

__all__ = ["ReweightSampler", "group_balance_weights"]


def group_balance_weights(
    group_counts: NDArray[np.int64], remaining: NDArray[np.int64], pairs: list[Any] | None = None
) -> NDArray[np.float64]:
    r"""Return the probability of each remaining row under REWEIGHT.

    .. math:: P(x_i) \propto \frac{n_{train}(g_i)}{n_{rest}(g_i)}

    Parameters
    ----------
    group_counts : ndarray of shape (n_groups,)
        Rows of each group in the training data.
    remaining : ndarray of shape (n_rest,)
        Group number of each remaining row.
    pairs : list of tuple or None, default=None
        The pair (y, a) of each group, for error messages.

    Returns
    -------
    ndarray of shape (n_rest,)
        Probabilities; they sum to 1.

    Raises
    ------
    ValueError
        If a group of the training data has no remaining row.
    """
    left = np.bincount(remaining, minlength=len(group_counts))
    gone = np.flatnonzero((group_counts > 0) & (left == 0))
    if len(gone):
        names = [pairs[g] if pairs is not None else g for g in gone]
        raise ValueError(
            f"REWEIGHT has nothing to sample for the group(s) {names}: all of their rows are "
            "forgotten or held out by the net's train_split. Leave at least one row of each group "
            "to train on, or use reweight=False."
        )
    ratio = np.divide(group_counts, left, out=np.zeros(len(left)), where=left > 0)
    weights = ratio[remaining]
    return weights / weights.sum()


class ReweightSampler(TransformerMixin, BaseEstimator):
    r"""Sampling probabilities that give back to each group its share of the training data.

    Deletion requests rarely come evenly from all groups. Training on the rest then sees less of
    the groups that asked most. REWEIGHT [1]_ draws the remaining rows with replacement with

    .. math:: P(x_i) \propto \frac{n_{train}(g_i)}{n_{rest}(g_i)}

    so that in expectation every group :math:`g = (y, a)` is seen exactly as often as before the
    requests.

    Parameters
    ----------
    None : this estimator has no parameters.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels (or group ids) seen in :meth:`fit`.
    group_counts_ : ndarray of shape (n_groups,)
        Training rows of each pair (y, a).

    See Also
    --------
    grmu_sk.RetrainUnlearner : Retrain on what remains, by default with these weights.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import ReweightSampler
    >>> y, a = [0, 0, 1, 1, 1, 1], ["x", "x", "x", "x", "y", "y"]
    >>> sampler = ReweightSampler().fit(y, groups=a)
    >>> sampler.transform(y[:5], groups=a[:5]).round(3).tolist()  # one (1, "y") has left
    [0.167, 0.167, 0.167, 0.167, 0.333]
    """

    __metadata_request__fit = {"groups": True}
    __metadata_request__transform = {"groups": True}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True  # labels, like LabelEncoder
        tags.input_tags.two_d_array = False
        return tags

    def fit(self, X: ArrayLike, y: Any = None, groups: Any = None) -> ReweightSampler:
        """Count the groups of the training data.

        Parameters
        ----------
        X : array-like of shape (n_samples,)
            Labels y of the training rows; or their group ids, when ``groups`` is None.
        y : None
            Ignored; present for API consistency.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Protected attribute of the training rows.

        Returns
        -------
        ReweightSampler
            The fitted sampler.

        Raises
        ------
        ValueError
            If a value is missing or the lengths differ.
        """
        labels = attribute_column(X, name="y")
        encoder = GroupEncoder().fit(labels, groups)
        counts = np.bincount(encoder.transform(labels, groups), minlength=len(encoder.pairs_))
        self._encoder, self.classes_, self.group_counts_ = encoder, encoder.classes_, counts
        return self

    def transform(self, X: ArrayLike, groups: Any = None) -> NDArray[np.float64]:
        """Return the probability of each remaining row.

        Parameters
        ----------
        X : array-like of shape (n_rest,)
            Labels, or group ids, of the remaining rows.
        groups : array-like of shape (n_rest,) or (n_rest, n_attributes), default=None
            Protected attribute of the remaining rows.

        Returns
        -------
        ndarray of shape (n_rest,)
            P(x_i); sums to 1.

        Raises
        ------
        ValueError
            If a group is new, or one of the training data has no remaining row.
        """
        check_is_fitted(self)
        remaining = self._encoder.transform(attribute_column(X, name="y"), groups)
        return group_balance_weights(self.group_counts_, remaining, self._encoder.pairs_)

    def fit_transform(self, X: ArrayLike, y: Any = None, groups: Any = None) -> NDArray[np.float64]:
        """Fit and transform the same rows: every row is equally probable.

        Parameters
        ----------
        X : array-like of shape (n_samples,)
            Labels, or group ids.
        y : None
            Ignored; present for API consistency.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Protected attribute.

        Returns
        -------
        ndarray of shape (n_samples,)
            P(x_i); sums to 1.
        """
        return self.fit(X, groups=groups).transform(X, groups)

    def to_torch(
        self,
        X: ArrayLike,
        groups: Any = None,
        *,
        num_samples: int | None = None,
        generator: torch.Generator | None = None,
    ) -> WeightedRandomSampler:
        """Return a torch sampler over the remaining rows, with replacement.

        Parameters
        ----------
        X : array-like of shape (n_rest,)
            Labels, or group ids, of the remaining rows.
        groups : array-like of shape (n_rest,) or (n_rest, n_attributes), default=None
            Protected attribute of the remaining rows.
        num_samples : int or None, default=None
            Rows an epoch; None means ``n_rest``.
        generator : torch.Generator or None, default=None
            Source of randomness; None means torch's global one.

        Returns
        -------
        WeightedRandomSampler
            For a :class:`torch.utils.data.DataLoader` over the remaining rows.

        Raises
        ------
        ValueError
            As :meth:`transform` does.
        TypeError
            If a number is none, or labels come in a form that cannot be read.
        """
        weights = self.transform(X, groups)
        return WeightedRandomSampler(
            weights.tolist(), num_samples or len(weights), generator=generator
        )
