"""Distance to the gold standard: average gap and tug of war."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from grmu_sk.utils.arguments import is_iterable, to_numbers

__all__ = [
    "AVERAGE_GAP_METRICS",
    "TUG_OF_WAR_METRICS",
    "average_gap_score",
    "difference_to_reference",
    "metric_deltas",
    "tug_of_war_score",
]

AVERAGE_GAP_METRICS = ("RA", "UA", "TA", "MIA", "EO", "GA")
TUG_OF_WAR_METRICS = ("RA", "UA", "TA")

Values: TypeAlias = Mapping[str, Any] | pd.DataFrame


def average_gap_score(
    values: Values, gold: Values, *, metrics: Iterable[str] | None = AVERAGE_GAP_METRICS
) -> float:
    r"""Closeness to the gold standard, averaged over metrics: Avg. gap.

    With :math:`v_{m,s}` the metric :math:`m` of the seed :math:`s` and :math:`v^\star_{m,s}` that
    of the gold standard (retraining with REWEIGHT) for the same seed,

    .. math::

        \text{Avg. gap} = 1 - \frac{1}{|M|} \sum_{m \in M} \frac{1}{|S|} \sum_{s \in S}
        \left| v_{m,s} - v^\star_{m,s} \right|.

    The absolute difference is taken for each seed, then averaged; seeds that miss the gold
    standard on opposite sides do not cancel.

    Parameters
    ----------
    values : mapping of str to float or array-like of shape (n_seeds,), or DataFrame
        The metrics of the unlearned models, as fractions in [0, 1]. A DataFrame has one row a seed.
    gold : mapping of str to float or array-like of shape (n_seeds,), or DataFrame
        The metrics of the gold standard for the same seeds in the same order. The rows of two
        DataFrames are matched by their index.
    metrics : iterable of str or None, default=("RA", "UA", "TA", "MIA", "EO", "GA")
        The metrics to average; others are ignored. None takes all, and both sides must then have
        the same ones.

    Returns
    -------
    float
        A fraction in [0, 1]; 1 is the gold standard itself.

    Raises
    ------
    ValueError
        If a metric is missing, the seeds differ, or a value is NaN or outside [0, 1].

    See Also
    --------
    metric_deltas : The terms of the sum.
    tug_of_war_score : A product over RA, UA and TA instead.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.metrics import average_gap_score
    >>> gold = {"RA": [0.90, 0.90], "GA": [0.50, 0.50]}
    >>> values = {"RA": [0.90, 0.90], "GA": [0.40, 0.60]}
    >>> round(average_gap_score(values, gold, metrics=None), 3)
    0.95
    """
    return 1.0 - float(np.mean(list(metric_deltas(values, gold, metrics=metrics).values())))


def metric_deltas(
    values: Values, gold: Values, *, metrics: Iterable[str] | None = None
) -> dict[str, float]:
    r"""Mean absolute difference to the gold standard of each metric.

    .. math::

        \Delta_m = \frac{1}{|S|} \sum_{s \in S} \left| v_{m,s} - v^\star_{m,s} \right|

    Parameters
    ----------
    values : mapping of str to float or array-like of shape (n_seeds,), or DataFrame
        The metrics of the unlearned models, as fractions in [0, 1]. A DataFrame has one row a seed.
    gold : mapping of str to float or array-like of shape (n_seeds,), or DataFrame
        The metrics of the gold standard for the same seeds in the same order.
    metrics : iterable of str or None, default=None
        The metrics to compare. None takes all, and both sides must then have the same ones.

    Returns
    -------
    dict of str to float
        Fractions in [0, 1]; 0 is the gold standard itself.

    Raises
    ------
    ValueError
        If a metric is missing, the seeds differ, or a value is NaN or outside [0, 1].

    See Also
    --------
    average_gap_score : One minus the mean of these differences.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.metrics import metric_deltas
    >>> deltas = metric_deltas({"GA": [0.40, 0.60]}, {"GA": [0.50, 0.50]})
    >>> round(deltas["GA"], 3)
    0.1
    """
    return {
        metric: float(delta.mean())
        for metric, delta in _deltas_per_seed(values, gold, metrics).items()
    }


def tug_of_war_score(
    values: Values, gold: Values, *, metrics: Iterable[str] | None = TUG_OF_WAR_METRICS
) -> float:
    r"""Product of the closeness to the gold standard on the three splits: ToW.

    .. math::

        \mathrm{ToW} = \frac{1}{|S|} \sum_{s \in S} \prod_{m \in \{RA, UA, TA\}}
        \left( 1 - \left| v_{m,s} - v^\star_{m,s} \right| \right)

    The product is formed for each seed, then averaged.

    Parameters
    ----------
    values : mapping of str to float or array-like of shape (n_seeds,), or DataFrame
        The metrics of the unlearned models, as fractions in [0, 1]. A DataFrame has one row a seed.
    gold : mapping of str to float or array-like of shape (n_seeds,), or DataFrame
        The metrics of the gold standard for the same seeds in the same order.
    metrics : iterable of str or None, default=("RA", "UA", "TA")
        The factors; other metrics are ignored. None takes all, and both sides must then have the
        same ones.

    Returns
    -------
    float
        A fraction in [0, 1]; 1 is the gold standard itself.

    Raises
    ------
    ValueError
        If a metric is missing, the seeds differ, or a value is NaN or outside [0, 1].

    See Also
    --------
    average_gap_score : A mean over six metrics instead.

    References
    ----------
    .. [1] Zhao et al., "What Makes Unlearning Hard and What to Do About It", NeurIPS 2024.

    Examples
    --------
    >>> from grmu_sk.metrics import tug_of_war_score
    >>> values, gold = {"RA": 0.9, "UA": 0.5, "TA": 0.8}, {"RA": 1.0, "UA": 0.7, "TA": 0.8}
    >>> round(tug_of_war_score(values, gold), 3)
    0.72
    """
    deltas = _deltas_per_seed(values, gold, metrics)
    closeness = 1.0 - np.stack(list(deltas.values()))
    return float(closeness.prod(axis=0).mean())


def difference_to_reference(
    results: pd.DataFrame, is_reference: pd.Series, keys: Sequence[str]
) -> pd.Series:
    """Difference of each line of a tidy table to the reference of the same run and metric.

    Parameters
    ----------
    results : DataFrame
        One number a line, in the column ``value``.
    is_reference : Series of bool
        Which lines are those of the reference, such as the gold standard; at most one for each
        combination of ``keys``.
    keys : sequence of str
        Columns that a line shares with its reference: those that name run, seed and metric.

    Returns
    -------
    Series of float
        With sign, one entry a line; NaN where there is no reference.
    """
    reference = results[is_reference].set_index(list(keys))["value"]
    index = pd.MultiIndex.from_frame(results[list(keys)])
    return results["value"] - reference.reindex(index).to_numpy(dtype=float)


def _deltas_per_seed(
    values: Values, gold: Values, metrics: Iterable[str] | None
) -> dict[str, NDArray[np.float64]]:
    gold = _match_seeds(values, gold)
    deltas: dict[str, NDArray[np.float64]] = {}
    for metric in _metric_names(values, gold, metrics):
        value, ideal = _seed_values(values, metric, "values"), _seed_values(gold, metric, "gold")
        if len(value) != len(ideal):
            raise ValueError(
                f"{metric} has {len(value)} seeds in values but {len(ideal)} in gold: every seed "
                "is compared with the gold standard of the same seed."
            )
        deltas[metric] = np.abs(value - ideal)
    lengths = {metric: len(delta) for metric, delta in deltas.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Metrics differ in their number of seeds: {lengths}.")
    return deltas


def _match_seeds(values: Values, gold: Values) -> Values:
    if not (isinstance(values, pd.DataFrame) and isinstance(gold, pd.DataFrame)):
        return gold
    if values.index.equals(gold.index):
        return gold
    same = set(values.index) == set(gold.index)
    if not same or values.index.has_duplicates or gold.index.has_duplicates:
        raise ValueError(
            "values and gold do not have the same seeds: their indexes are "
            f"{values.index.tolist()} and {gold.index.tolist()}."
        )
    return gold.loc[values.index]


def _metric_names(values: Values, gold: Values, metrics: Iterable[str] | None) -> list[str]:
    for name, given in (("values", values), ("gold", gold)):
        if not isinstance(given, Mapping | pd.DataFrame):
            raise TypeError(f"{name} must be a mapping of metrics or a DataFrame, got {given!r}.")
    sides: dict[str, list[str]] = {"values": list(values), "gold": list(gold)}
    if metrics is None:
        names = sides["values"] + [name for name in sides["gold"] if name not in sides["values"]]
    else:
        if not is_iterable(metrics) or not all(isinstance(name, str) for name in metrics):
            raise TypeError(f"metrics must be names of metrics, got {metrics!r}.")
        names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise ValueError("There are no metrics to compare.")
    for side, there in sides.items():
        missing = [name for name in names if name not in there]
        if missing:
            raise ValueError(f"{side} lacks the metrics {missing}; it has {there}.")
    return names


def _seed_values(side: Values, metric: str, name: str) -> NDArray[np.float64]:
    column = np.atleast_1d(to_numbers(side[metric], f"{name}[{metric!r}]"))
    if column.ndim != 1 or len(column) == 0:
        raise ValueError(
            f"{name}[{metric!r}] must be a number or one number a seed, got an array of shape "
            f"{column.shape}."
        )
    if np.isnan(column).any():
        raise ValueError(f"{name}[{metric!r}] holds NaN: {column.tolist()}.")
    if (column < 0).any() or (column > 1).any():
        raise ValueError(
            f"{name}[{metric!r}] must hold fractions in [0, 1], got {column.tolist()}. Divide "
            "percentages by 100."
        )
    return column
