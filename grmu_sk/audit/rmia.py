"""RMIA: does the model know the row better than other rows, its hardness counted in."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..utils.arguments import check_types, to_array
from ._signals import check_signals, log_sigmoid

__all__ = ["rmia_scores"]


def rmia_scores(
    log_odds: ArrayLike,
    reference_log_odds: ArrayLike,
    is_in: ArrayLike,
    population: ArrayLike,
    *,
    gamma: float = 1.0,
    online: bool = True,
    offline_scale: float = 0.3,
) -> NDArray[np.float64]:
    r"""Score each row by pairwise likelihood ratios against rows of the population.

    With :math:`p(x|\theta)` the probability that the attacked model gives to the true label, and
    :math:`p(x)` what models in general give to it, the score is [1]_ the share of the population
    rows :math:`z` that row :math:`x` beats:

    .. math::

        s(x) = \Pr_z\left[ \frac{p(x|\theta) / p(x)}{p(z|\theta) / p(z)} \ge \gamma \right],
        \qquad p(x) = \tfrac{1}{2} \left( \bar p_{in}(x) + \bar p_{out}(x) \right)

    with the means over reference models that were trained on the row, and that were not. Offline,
    :math:`\bar p_{in}(x)` is guessed as :math:`a\,\bar p_{out}(x) + 1 - a`. The higher the score,
    the more the model looks as if it had been trained on the row.

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
    gamma : float, default=1.0
        By how much a row has to beat another. The larger, the more rows tie at 0.
    online : bool, default=True
        Whether models trained on the row are used.
    offline_scale : float, default=0.3
        :math:`a`, in [0, 1].

    Returns
    -------
    ndarray of shape (n_samples,)
        Scores in [0, 1].

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If shapes do not fit, numbers are not finite, a parameter is out of range, or a row has too
        few reference models.

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
    check_types(rmia_scores, locals())
    target, references, inside = check_signals(
        log_odds, reference_log_odds, is_in, n_in=1 if online else 0, n_out=1
    )
    if not (math.isfinite(gamma) and gamma > 0):
        raise ValueError(f"gamma must be a positive number, got {gamma!r}.")
    if not 0 <= offline_scale <= 1:
        raise ValueError(f"offline_scale must lie in [0, 1], got {offline_scale!r}.")
    others = _population(population, len(target))
    log_ratio = log_sigmoid(target) - np.log(
        _general_probability(references, inside, online, offline_scale)
    )
    ordered = np.sort(log_ratio[others])
    n_beaten = np.searchsorted(ordered, log_ratio - math.log(gamma), side="right")
    n_compared = np.full(len(target), len(others))
    n_beaten[others] -= int(gamma <= 1)  # that was the row itself
    n_compared[others] -= 1
    return n_beaten / n_compared


def _population(population: ArrayLike, n_rows: int) -> NDArray[np.int64]:
    """Return the numbers of the rows of the population, each once."""
    numbers = to_array(population, "population")
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise ValueError(
            f"population must be a column of row numbers, got {numbers.dtype} of shape "
            f"{numbers.shape}."
        )
    others = np.unique(numbers)
    if len(others) < 2 or others[0] < 0 or others[-1] >= n_rows:
        raise ValueError(
            f"population must name at least two of the {n_rows} rows, got {numbers.tolist()}."
        )
    return others.astype(np.int64)


def _general_probability(
    references: NDArray[np.float64], inside: NDArray[np.bool_], online: bool, scale: float
) -> NDArray[np.float64]:
    probability = np.exp(log_sigmoid(references))
    out = np.where(inside, 0.0, probability).sum(axis=0) / (~inside).sum(axis=0)
    if not online:
        return ((1 + scale) * out + (1 - scale)) / 2
    return (out + np.where(inside, probability, 0.0).sum(axis=0) / inside.sum(axis=0)) / 2
