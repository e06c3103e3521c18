"""Membership attacks: signals read from a model, scores of rows, and their AUC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics.fidelity import log_odds_of_label
from ..validation import to_array, to_numbers

# What float32 probabilities can express; certain answers of other models are taken for that.
_LARGEST_LOG_ODDS = float(-np.log(np.finfo(np.float32).tiny))
# Nets that all agree on a row have no spread, and a row that differs would score infinitely.
_SMALLEST_DEVIATION = 1e-6
# Of a bootstrap, so many numbers are in memory at once.
_NUMBERS_AT_ONCE = 2_000_000

Counts = tuple[NDArray[np.float64], NDArray[np.float64]]


def log_odds_of(estimator: Any, X: Any, y: ArrayLike) -> NDArray[np.float64]:
    """Return the log-odds that a model gives to the true label of each row.

    Parameters
    ----------
    estimator : estimator
        Fitted, with ``classes_`` and ``predict_log_proba`` or ``predict_proba``.
    X : array-like of shape (n_samples, ...)
        Inputs.
    y : array-like of shape (n_samples,)
        Labels.

    Returns
    -------
    ndarray of shape (n_samples,)
        Log-odds, between -87.3 and 87.3.

    Raises
    ------
    ValueError
        If a label is not among the classes, or the model's answers are NaN or of another shape.
    """
    has_logs = hasattr(estimator, "predict_log_proba")
    with np.errstate(divide="ignore"):
        answers = estimator.predict_log_proba(X) if has_logs else np.log(estimator.predict_proba(X))
    odds = log_odds_of_label(y, answers, classes=estimator.classes_)
    return np.clip(odds, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)


def lira_scores(
    log_odds: ArrayLike, reference_log_odds: ArrayLike, is_in: ArrayLike
) -> NDArray[np.float64]:
    r"""Score each row by a likelihood ratio of Gaussians fitted to reference models.

    With :math:`\phi_i = \log \frac{p(y_i|x_i)}{1 - p(y_i|x_i)}` of the attacked model, and
    :math:`\mu` the mean of the same number over the reference models that were trained on row
    :math:`i` ("in") and over the others ("out"), the score is [1]_

    .. math::

        \log \mathcal{N}(\phi_i; \mu_{in,i}, \sigma_{in}^2)
        - \log \mathcal{N}(\phi_i; \mu_{out,i}, \sigma_{out}^2)

    with one variance for all rows, of the deviations from each row's own mean, as [1]_ has it for
    few models. The higher it is, the more the model looks as if it had been trained on the row.

    Parameters
    ----------
    log_odds : array-like of shape (n_samples,)
        :math:`\phi` of the attacked model.
    reference_log_odds : array-like of shape (n_models, n_samples)
        :math:`\phi` of the reference models.
    is_in : bool array-like of shape (n_models, n_samples)
        Whether the reference model was trained on the row.

    Returns
    -------
    ndarray of shape (n_samples,)
        Scores in nats.

    Raises
    ------
    ValueError
        If shapes do not fit, numbers are not finite, or a row has too few reference models.

    See Also
    --------
    rmia_scores : Needs fewer models for the same power.

    References
    ----------
    .. [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramèr, "Membership Inference
       Attacks From First Principles", IEEE Symposium on Security and Privacy, 2022.

    Examples
    --------
    >>> from grmu_sk.audit import lira_scores
    >>> references = [[2.0, 2.2], [0.0, 0.2], [2.4, 2.6], [0.4, 0.6]]
    >>> is_in = [[True, True], [False, False], [True, True], [False, False]]
    >>> lira_scores([2.2, 0.4], references, is_in).round(1).tolist()
    [25.0, -25.0]
    """
    target, references, inside = _check_signals(log_odds, reference_log_odds, is_in)
    out_mean, out_deviation = _gaussian(references, ~inside)
    in_mean, in_deviation = _gaussian(references, inside)
    z_out, z_in = (target - out_mean) / out_deviation, (target - in_mean) / in_deviation
    return (z_out**2 - z_in**2) / 2 + np.log(out_deviation / in_deviation)


def _gaussian(references: NDArray[Any], used: NDArray[Any]) -> tuple[NDArray[np.float64], float]:
    """Return the mean of each row over the models that are used for it, and the deviation."""
    counts = used.sum(axis=0)
    mean = np.average(references, 0, used)
    squares = np.where(used, (references - mean) ** 2, 0.0)
    freedom = counts - 1
    if not freedom.any():
        raise ValueError("No row has two reference models of the same kind: train more of them.")
    return mean, max(float(np.sqrt(squares.sum() / freedom.sum())), _SMALLEST_DEVIATION)


def rmia_scores(
    log_odds: ArrayLike,
    reference_log_odds: ArrayLike,
    is_in: ArrayLike,
    population: ArrayLike,
) -> NDArray[np.float64]:
    r"""Score each row by pairwise likelihood ratios against rows of the population.

    With :math:`p(x|\theta)` the probability that the attacked model gives to the true label, and
    :math:`p(x)` what models in general give to it, the score is [1]_ the share of the population
    rows :math:`z` that row :math:`x` beats:

    .. math::

        s(x) = \Pr_z\left[ \frac{p(x|\theta) / p(x)}{p(z|\theta) / p(z)} \ge 1 \right],
        \qquad p(x) = \tfrac{1}{2} \left( \bar p_{in}(x) + \bar p_{out}(x) \right)

    with the means over reference models that were trained on the row, and that were not. The higher
    the score, the more the model looks as if it had been trained on the row.

    Parameters
    ----------
    log_odds : array-like of shape (n_samples,)
        :math:`\log \frac{p}{1 - p}` of the attacked model for the true label.
    reference_log_odds : array-like of shape (n_models, n_samples)
        The same of the reference models.
    is_in : bool array-like of shape (n_models, n_samples)
        Whether the reference model was trained on the row.
    population : array-like of int
        Which of the rows the attacked model was never trained on; at least two. A row of the
        population is not compared with itself.

    Returns
    -------
    ndarray of shape (n_samples,)
        Scores in [0, 1].

    Raises
    ------
    ValueError
        If shapes do not fit, numbers are not finite, or a row has too few reference models.

    See Also
    --------
    lira_scores : Gaussians in place of the population.

    References
    ----------
    .. [1] S. Zarifzadeh, P. Liu and R. Shokri, "Low-Cost High-Power Membership Inference Attacks",
       ICML 2024.

    Examples
    --------
    >>> from grmu_sk.audit import rmia_scores
    >>> references = [[3.0, 0.0, 0.5], [-2.0, 0.1, 0.4]]
    >>> is_in = [[True, False, True], [False, True, False]]
    >>> rmia_scores([3.1, 0.2, -0.3], references, is_in, population=[1, 2]).tolist()
    [1.0, 1.0, 0.0]
    """
    target, references, inside = _check_signals(log_odds, reference_log_odds, is_in)
    others = np.unique(to_array(population, "population")).astype(np.int64)
    if len(others) < 2 or others[0] < 0 or others[-1] >= len(target):
        raise ValueError(f"population must name at least two of {len(target)} rows, got {others}.")
    probability = np.exp(_log_sigmoid(references))
    general = (np.average(probability, 0, inside) + np.average(probability, 0, ~inside)) / 2
    log_ratio = _log_sigmoid(target) - np.log(general)
    ordered = np.sort(log_ratio[others])
    n_beaten = np.searchsorted(ordered, log_ratio, side="right")
    n_compared = np.full(len(target), len(others))
    n_beaten[others] -= 1  # that was the row itself
    n_compared[others] -= 1
    return n_beaten / n_compared


def _log_sigmoid(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of the probability that has these log-odds."""
    return -np.logaddexp(0.0, -log_odds)


def _check_signals(
    log_odds: ArrayLike, reference_log_odds: ArrayLike, is_in: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Check what an attack is given; a row needs a model of each kind."""
    target = to_numbers(log_odds, "log_odds")
    references = to_numbers(reference_log_odds, "reference_log_odds")
    inside = to_array(is_in, "is_in").astype(bool)
    if references.shape[1:] != target.shape or inside.shape != references.shape:
        raise ValueError("reference_log_odds and is_in must have a column for each row.")
    for name, array in (("log_odds", target), ("reference_log_odds", references)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite values.")
    for word, used in (("in", inside), ("out", ~inside)):
        if not (has_models := used.any(axis=0)).all():
            row = int(np.flatnonzero(~has_models)[0])
            raise ValueError(f"Row {row} has no reference models with the row {word}.")
    return target, references, inside


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


@dataclass
class Comparison:
    """Attacked rows and the non-members they are compared with.

    Non-members are weighted so that each group has the share among them that it has among the
    attacked rows; none is left out.

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

    members: NDArray[np.int64]
    nonmembers: NDArray[np.int64]
    group: NDArray[np.int64]
    n_bootstrap: int
    seed: int

    def __post_init__(self) -> None:
        self.member_group = self.group[self.members]
        has_members = np.isin(self.group[self.nonmembers], self.member_group)
        self.nonmembers = self.nonmembers[has_members]
        self.nonmember_group = self.group[self.nonmembers]
        size = int(np.max(self.group)) + 1
        of_members = np.bincount(self.member_group, minlength=size)
        of_nonmembers = np.bincount(self.nonmember_group, minlength=size)
        self.weights = (of_members / np.maximum(of_nonmembers, 1))[self.nonmember_group]

    @property
    def effective_nonmembers(self) -> float:
        """Kish's effective sample size of the weighted non-members."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())

    def auc(self, scores: NDArray[np.float64]) -> float:
        """Return the AUC of the rows themselves."""
        ones = np.ones((1, len(self.members)))
        split = scores[self.members], scores[self.nonmembers]
        return float(weighted_auc(*split, ones, self.weights[np.newaxis])[0])

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
