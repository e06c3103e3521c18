"""What few seeds allow to say: bootstrap intervals and paired comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_SEEDS = 3
LEVEL = 0.95
N_DRAWS = 10_000
SEED = 0
MAX_EXACT_PAIRS = 12  # 4096 sign patterns
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class PairedComparison:
    """How far one model is from another over the seeds they share.

    Parameters
    ----------
    difference : float
        Mean of the differences, in the unit of the values.
    low, high : float
        Bootstrap interval of that mean; NaN with fewer than three pairs.
    p_value : float
        Two-sided sign-flip permutation test of a mean difference of zero; NaN without pairs.
    n_pairs : int
        Seeds that both have.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n_pairs: int

    @property
    def told_apart(self) -> bool:
        """Whether the interval exists and leaves zero out."""
        return bool(self.low > 0 or self.high < 0)


def bootstrap_interval(
    values: ArrayLike, *, level: float = LEVEL, n_draws: int = N_DRAWS, seed: int = SEED
) -> tuple[float, float]:
    r"""Percentile bootstrap interval of a mean over seeds.

    From :math:`n` values, :math:`n` are drawn with replacement, ``n_draws`` times. The interval
    spans the :math:`(1 - \text{level}) / 2` and :math:`(1 + \text{level}) / 2` quantiles of the
    means of these draws.

    Parameters
    ----------
    values : array-like of shape (n_seeds,)
        One number a seed, in any unit. NaN stands for a run that gave none, and is left out.
    level : float, default=0.95
        Share of the draws inside the interval, in (0, 1).
    n_draws : int, default=10000
        How often to draw.
    seed : int, default=0
        Seed of the draws.

    Returns
    -------
    low, high : float
        In the unit of the values; both NaN with fewer than three values, of which no interval can
        be resolved.

    Raises
    ------
    ValueError
        If ``values`` is not one-dimensional or holds infinity, ``level`` lies outside (0, 1), or
        ``n_draws`` is not positive.

    Notes
    -----
    With three values there are ten different draws only: the interval then says little more than
    the smallest and the largest of them.

    References
    ----------
    .. [1] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993.

    Examples
    --------
    >>> from grmu_sk.benchmark.statistics import bootstrap_interval
    >>> low, high = bootstrap_interval([98.1, 97.4, 97.9, 98.3, 97.6])
    >>> 97.4 < low < high < 98.3
    True
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
    if n_draws < 1:
        raise ValueError(f"n_draws must be positive, got {n_draws}.")
    sample = _finite(values, "values")
    if len(sample) < MIN_SEEDS:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = rng.choice(sample, size=(n_draws, len(sample))).mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    *,
    level: float = LEVEL,
    n_draws: int = N_DRAWS,
    seed: int = SEED,
) -> PairedComparison:
    r"""Compare two models seed by seed.

    The test flips the signs of the differences :math:`d_s = a_s - b_s`, which under equality are
    as likely positive as negative, and counts how often :math:`|\bar d|` is at least as large as
    observed: over all :math:`2^n` patterns up to twelve pairs, beyond that over ``n_draws``
    random ones. With three pairs no p-value below 0.25 can occur.

    Parameters
    ----------
    first, second : array-like of shape (n_seeds,)
        One number a seed, the same seeds in the same order. Pairs with a NaN are left out.
    level : float, default=0.95
        Level of the bootstrap interval of the mean difference, in (0, 1).
    n_draws : int, default=10000
        Draws of the bootstrap, and of the test where patterns are drawn.
    seed : int, default=0
        Seed of the draws.

    Returns
    -------
    PairedComparison
        The mean of ``first - second``, its interval and p-value.

    Raises
    ------
    ValueError
        If the lengths differ, or as by :func:`bootstrap_interval`.

    References
    ----------
    .. [1] P. Good, "Permutation, Parametric and Bootstrap Tests of Hypotheses", Springer, 2005.

    Examples
    --------
    >>> from grmu_sk.benchmark.statistics import compare_paired
    >>> compare_paired([3.0, 4.0, 5.0], [1.0, 1.0, 1.0]).p_value
    0.25
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise ValueError(
            f"first and second must have one number for the same seeds each, got the shapes "
            f"{a.shape} and {b.shape}."
        )
    difference = _finite(a - b, "first - second")
    low, high = bootstrap_interval(difference, level=level, n_draws=n_draws, seed=seed)
    if not len(difference):
        return PairedComparison(float("nan"), low, high, float("nan"), 0)
    p_value = _sign_flip_test(difference, n_draws, seed)
    return PairedComparison(float(difference.mean()), low, high, p_value, len(difference))


def _sign_flip_test(difference: NDArray[np.float64], n_draws: int, seed: int) -> float:
    n_pairs = len(difference)
    observed = abs(difference.mean()) - _TOLERANCE
    if n_pairs <= MAX_EXACT_PAIRS:
        signs = np.array(list(product([1.0, -1.0], repeat=n_pairs)))
        return float((abs(signs @ difference) / n_pairs >= observed).mean())
    signs = np.random.default_rng(seed).choice([1.0, -1.0], size=(n_draws, n_pairs))
    n_extreme = (abs(signs @ difference) / n_pairs >= observed).sum()
    return float((n_extreme + 1) / (n_draws + 1))  # the observed pattern is one of them


def _finite(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one number a seed, got the shape {array.shape}.")
    if np.isinf(array).any():
        raise ValueError(f"{name} holds infinity; a run that gave no number is written as NaN.")
    return array[~np.isnan(array)]
