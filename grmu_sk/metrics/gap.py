"""Distance to the gold standard: average gap and tug of war."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ..groups import Pair, attribute_of_rows, check_pairs, in_pairs
from ..validation import about, label_column, to_numbers
from .accuracy import group_accuracies

AVERAGE_GAP = "AVG_GAP"
AVERAGE_GAP_METRICS = ("RA", "UA", "TA", "MIA", "EO", "GA")
#: Below so many test rows a group's accuracy is mostly chance.
FEWEST_ROWS = 30

Values: TypeAlias = Mapping[str, Any] | pd.DataFrame


def average_gap_score(
    values: Values, gold: Values, *, metrics: Iterable[str] = AVERAGE_GAP_METRICS
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
    metrics : iterable of str, default=("RA", "UA", "TA", "MIA", "EO", "GA")
        The metrics to average; others are ignored.

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
    grmu_sk.results.summarize : The terms of the sum, of many models.
    tug_of_war_score : A product over RA, UA and TA instead.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.metrics import average_gap_score
    >>> gold = {"RA": [0.90, 0.90], "GA": [0.50, 0.50]}
    >>> values = {"RA": [0.90, 0.90], "GA": [0.40, 0.60]}
    >>> round(average_gap_score(values, gold, metrics=["RA", "GA"]), 3)
    0.95
    """
    return 1 - float(_deltas_per_seed(values, gold, metrics).mean().mean())


def tug_of_war_score(values: Values, gold: Values) -> float:
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
    return float((1 - _deltas_per_seed(values, gold, ("RA", "UA", "TA"))).prod(axis=1).mean())


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


def average_gaps(
    results: pd.DataFrame,
    is_gold: pd.Series,
    run: Sequence[str],
    model: Sequence[str],
    *,
    whole: float = 1.0,
) -> pd.DataFrame:
    """Average gap of every run of a tidy table.

    Parameters
    ----------
    results : DataFrame
        One number a line, in the column ``value``, and its metric in ``metric``.
    is_gold : Series of bool
        Which lines are those of the gold standard.
    run : sequence of str
        Columns that a line shares with the gold standard of the same run.
    model : sequence of str
        Columns that tell the models of a run apart.
    whole : float, default=1.0
        What stands for all: 100 where the numbers are percentages.

    Returns
    -------
    DataFrame
        One line a run and model, of the metric ``AVG_GAP``; NaN where one of the six metrics, or
        that of the gold standard, is missing.
    """
    deltas = difference_to_reference(results, is_gold, [*run, "metric"]).abs()
    terms = results.assign(value=deltas)[results["metric"].isin(AVERAGE_GAP_METRICS)]
    gaps = terms.groupby([*run, *model], sort=False)["value"].agg(["mean", "count"]).reset_index()
    is_whole = gaps.pop("count") == len(AVERAGE_GAP_METRICS)
    return gaps.assign(metric=AVERAGE_GAP, value=(whole - gaps.pop("mean")).where(is_whole))


def _deltas_per_seed(values: Values, gold: Values, metrics: Iterable[str]) -> pd.DataFrame:
    """Return absolute differences: a row a seed, a column a metric."""
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    ours, golds = _per_seed(values, names, "values"), _per_seed(gold, names, "gold")
    if isinstance(values, pd.DataFrame) and isinstance(gold, pd.DataFrame):
        ours.index, golds.index = values.index, gold.index
    if set(ours.index) != set(golds.index) or len(ours) != len(golds) or ours.index.has_duplicates:
        raise ValueError(
            f"values and gold do not have the same seeds: {ours.index.tolist()} and "
            f"{golds.index.tolist()}."
        )
    return (ours - golds.loc[ours.index]).abs()


def _per_seed(given: Values, names: list[str], side: str) -> pd.DataFrame:
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"{side} lacks the metrics {missing}; it has {list(given)}.")
    with about(side):  # different numbers of seeds, for example
        table = pd.DataFrame({name: np.atleast_1d(to_numbers(given[name], name)) for name in names})
    if table.empty or not ((table >= 0) & (table <= 1)).all(axis=None):
        raise ValueError(f"{side} must hold fractions in [0, 1], got {table.to_dict('list')}.")
    return table


class GroupDamage(NamedTuple):
    """The largest loss of accuracy among the groups that nobody asked to forget.

    Parameters
    ----------
    loss : float
        Accuracy of the gold standard minus that of the model; negative if no group lost.
    group : tuple
        The pair (y, a).
    n_rows : int
        Rows of that group.

    Examples
    --------
    >>> from grmu_sk.metrics import GroupDamage
    >>> GroupDamage(0.25, (1, "f"), 40).group
    (1, 'f')
    """

    loss: float
    group: Pair
    n_rows: int


def damage_to_other_groups(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    y_gold: ArrayLike,
    *,
    groups: Any,
    forget_groups: Pair | Sequence[Pair],
    min_rows: int = FEWEST_ROWS,
) -> GroupDamage:
    r"""Largest loss of accuracy over the groups that no row was forgotten of.

    .. math::

        \max_{g \notin G_f} \bigl( \mathrm{Acc}^\star(g) - \mathrm{Acc}(g) \bigr)

    with :math:`G_f` the forgotten groups and :math:`\mathrm{Acc}^\star` the gold standard's
    accuracy. GA and EO look at the forgotten groups, TA at all rows together; a method can match
    the gold standard there and harm a group that nobody asked about.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels of test rows.
    y_pred, y_gold : array-like of shape (n_samples,)
        Labels that the model and the gold standard predict.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute.
    forget_groups : pair or sequence of pairs
        The forgotten groups (y, a).
    min_rows : int, default=30
        Groups with fewer rows are left out: their accuracy is mostly chance.

    Returns
    -------
    GroupDamage
        The loss, the group and its number of rows. The largest of many differences is above zero
        for a second gold standard as well: hold it against that.

    Raises
    ------
    ValueError
        If no other group has so many rows, lengths differ, or a value is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.metrics import damage_to_other_groups
    >>> y, a = np.repeat([0, 1], 80), np.tile(["f", "m"], 80)
    >>> y_pred = np.where((y == 1) & (a == "f"), 0, y)
    >>> damage = damage_to_other_groups(y, y_pred, y, groups=a, forget_groups=(0, "f"))
    >>> damage.loss, damage.group, damage.n_rows
    (1.0, (1, 'f'), 40)
    """
    gold = group_accuracies(y_true, y_gold, groups=groups)
    lost = gold - group_accuracies(y_true, y_pred, groups=groups)
    true = label_column(y_true, name="y_true")
    attribute = attribute_of_rows(groups, len(true), "y_true")
    counts = {pair: int(in_pairs(true, attribute, [pair]).sum()) for pair in lost.index}
    asked = check_pairs(forget_groups)
    worst = hardest_hit(lost, counts, asked, min_rows)
    if worst is None:
        raise ValueError(f"No other group has {min_rows} rows or more: pass a smaller min_rows.")
    return GroupDamage(float(lost[worst]), worst, counts[worst])


def hardest_hit(
    lost: Mapping[Pair, float] | pd.Series,
    counts: Mapping[Pair, int],
    asked: Collection[Pair],
    min_rows: int = FEWEST_ROWS,
) -> Pair | None:
    """Return the group that lost most of those nobody asked about; None if none has rows enough.

    Parameters
    ----------
    lost : mapping or Series
        Loss of accuracy by group.
    counts : mapping
        Rows of each group.
    asked : collection of tuple
        The forgotten groups.
    min_rows : int, default=30
        Groups with fewer rows are left out.

    Returns
    -------
    tuple or None
        The group.
    """
    others = [pair for pair, n_rows in counts.items() if n_rows >= min_rows and pair not in asked]
    return max(others, key=lost.__getitem__, default=None)
