"""Distance to the gold standard: average gap and tug of war."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..utils.arguments import to_numbers

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
    if isinstance(values, pd.DataFrame) and isinstance(gold, pd.DataFrame):
        seeds, others = values.index, gold.index
        is_repeated = seeds.has_duplicates or others.has_duplicates
        if not seeds.equals(others) and (set(seeds) != set(others) or is_repeated):
            raise ValueError(
                "values and gold do not have the same seeds: their indexes are "
                f"{seeds.tolist()} and {others.tolist()}."
            )
        gold = gold if seeds.equals(others) else gold.loc[seeds]
    sides: dict[str, Values] = {"values": values, "gold": gold}
    metrics = [metrics] if isinstance(metrics, str) else metrics
    names = list(dict.fromkeys([*values, *gold]) if metrics is None else metrics)
    if not names:
        raise ValueError("There are no metrics to compare.")
    for side, there in sides.items():
        if missing := [name for name in names if name not in there]:
            raise ValueError(f"{side} lacks the metrics {missing}; it has {list(there)}.")
    columns = {
        (side, name): _seed_values(there[name], f"{side}[{name!r}]")
        for name in names
        for side, there in sides.items()
    }
    if len({len(column) for column in columns.values()}) > 1:
        lengths = {f"{side}[{name!r}]": len(column) for (side, name), column in columns.items()}
        raise ValueError(
            f"Metrics differ in their number of seeds: {lengths}. Every seed is compared with the "
            "gold standard of the same seed."
        )
    return {name: np.abs(columns["values", name] - columns["gold", name]) for name in names}


def _seed_values(given: Any, name: str) -> NDArray[np.float64]:
    column = np.atleast_1d(to_numbers(given, name))
    if column.ndim != 1 or len(column) == 0:
        raise ValueError(
            f"{name} must be a number or one number a seed, got an array of shape {column.shape}."
        )
    if not ((column >= 0) & (column <= 1)).all():
        raise ValueError(
            f"{name} must hold fractions in [0, 1], got {column.tolist()}. Divide percentages by "
            "100, and leave out what is undefined (NaN)."
        )
    return column
