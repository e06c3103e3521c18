"""How well scores tell members from matched non-members, with bootstrap samples of the rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["Comparison", "weighted_auc"]

# Of a bootstrap, so many numbers are in memory at once.
_NUMBERS_AT_ONCE = 2_000_000

Counts = tuple[NDArray[np.float64], NDArray[np.float64]]


def weighted_auc(
    members: NDArray[np.float64],
    nonmembers: NDArray[np.float64],
    member_weights: NDArray[np.float64],
    nonmember_weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    r"""Return the probability that a member scores higher than a non-member; ties count half.

    .. math::

        \mathrm{AUC} = \frac{\sum_{ij} w_i v_j \left( [s_i > t_j] + \tfrac12 [s_i = t_j] \right)}
                            {\sum_i w_i \sum_j v_j}

    Parameters
    ----------
    members : ndarray of shape (n_members,)
        Their scores :math:`s`.
    nonmembers : ndarray of shape (n_nonmembers,)
        Their scores :math:`t`.
    member_weights : ndarray of shape (n_samples, n_members)
        Weights :math:`w`, a row for every sample.
    nonmember_weights : ndarray of shape (n_samples, n_nonmembers)
        Weights :math:`v`.

    Returns
    -------
    ndarray of shape (n_samples,)
        The value of each sample.
    """
    order = np.argsort(nonmembers, kind="stable")
    total = np.cumsum(nonmember_weights[:, order], axis=1)
    total = np.hstack([np.zeros((len(total), 1)), total])
    below = np.searchsorted(nonmembers[order], members, side="left")
    up_to = np.searchsorted(nonmembers[order], members, side="right")
    beaten = (total[:, below] + total[:, up_to]) / 2
    return (member_weights * beaten).sum(axis=1) / (member_weights.sum(axis=1) * total[:, -1])


class Comparison:
    """Attacked rows and the non-members they are compared with.

    Non-members are weighted so that each group has the share among them that it has among the
    attacked rows; none is thrown away for that.

    Parameters
    ----------
    members, nonmembers : ndarray
        Which candidates they are.
    group : ndarray of shape (n_candidates,)
        Group number of each candidate.
    n_bootstrap : int
        How many samples are drawn.
    seed : int
        Seed of the samples.
    """

    def __init__(
        self,
        members: NDArray[np.int64],
        nonmembers: NDArray[np.int64],
        group: NDArray[np.int64],
        n_bootstrap: int,
        seed: int,
    ) -> None:
        self.members = members
        self.member_group = group[members]
        has_members = np.isin(group[nonmembers], self.member_group)
        self.nonmembers = nonmembers[has_members]
        self.nonmember_group = group[self.nonmembers]
        self.n_bootstrap = n_bootstrap
        self.seed = seed
        size = int(np.max(group)) + 1
        of_members = np.bincount(self.member_group, minlength=size)
        of_nonmembers = np.bincount(self.nonmember_group, minlength=size)
        self.weights = (of_members / np.maximum(of_nonmembers, 1))[self.nonmember_group]

    @property
    def effective_nonmembers(self) -> float:
        """How many equally weighted non-members say as much: Kish's effective sample size."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    def auc(self, scores: NDArray[np.float64]) -> float:
        """Return the AUC of the rows themselves."""
        ones = np.ones((1, len(self.members)))
        return float(
            weighted_auc(
                scores[self.members], scores[self.nonmembers], ones, self.weights[np.newaxis]
            )[0]
        )

    def bootstrap_auc(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the AUC of each bootstrap sample.

        Parameters
        ----------
        scores : ndarray of shape (n_scores, n_candidates)
            Several scores of all candidates.

        Returns
        -------
        ndarray of shape (n_scores, n_bootstrap)
            The values; a column is one sample.
        """
        parts = [
            [weighted_auc(row[self.members], row[self.nonmembers], *counts) for row in scores]
            for counts in self._samples()
        ]
        return np.concatenate(parts, axis=1)

    def true_positive_rate(self, scores: NDArray[np.float64], fpr: float) -> float:
        """Return the share of members above a threshold that at most ``fpr`` non-members exceed."""
        order = np.argsort(-scores[self.nonmembers], kind="stable")
        values = scores[self.nonmembers][order]
        share = np.cumsum(self.weights[order]) / self.weights.sum()
        # rounding must not decide whether exactly the allowed share is too much
        too_many = np.flatnonzero(share > fpr + 1e-12)
        return float(np.mean(scores[self.members] > values[too_many[0]]))

    def _samples(self) -> Iterator[Counts]:
        """Yield how often each row is drawn, within its group and kind."""
        rng = np.random.default_rng(self.seed)
        n_rows = len(self.members) + len(self.nonmembers)
        at_once = max(1, min(self.n_bootstrap, _NUMBERS_AT_ONCE // n_rows))
        for start in range(0, self.n_bootstrap, at_once):
            size = min(at_once, self.n_bootstrap - start)
            drawn = _drawn(self.member_group, size, rng)
            yield drawn, _drawn(self.nonmember_group, size, rng) * self.weights


def _drawn(group: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw one row less than a group has, and let each count for a little more.

    As many draws as rows would give too small a variance, by a factor of (n - 1) / n (McCarthy and
    Snowden, 1985).
    """
    counts = np.empty((size, len(group)))
    for number in np.unique(group):
        rows = np.flatnonzero(group == number)
        n_draws = max(len(rows) - 1, 1)
        drawn = rng.multinomial(n_draws, np.full(len(rows), 1 / len(rows)), size=size)
        counts[:, rows] = drawn * (len(rows) / n_draws)
    return counts
