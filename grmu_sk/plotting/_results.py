"""Reading the tidy table of a comparison."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from ..metrics import AVERAGE_GAP_METRICS
from ..utils.validation import check_unique_columns

COLUMNS = ("dataset", "ratio", "seed", "method", "reweight", "metric", "value")
#: Columns of a benchmark's results that a single comparison has no need of.
OPTIONAL_COLUMNS = ("forget", "selection", "variant")
#: What runs of one setting share, apart from the seed.
SETTING = ("dataset", "forget", "ratio", "selection")
#: What tells models apart.
MODEL = ("method", "reweight", "variant")
GOLD = ("retrain", 1)
RESEEDED_GOLD = ("gold_reseeded", 1)
GOLD_LABEL = "retrain + reweight (gold standard)"
RESEEDED_LABEL = "gold standard, other seed"

#: What stands for a metric in words, and its unit.
METRICS = {
    "AVG_GAP": ("average gap (100 = gold standard)", "%"),
    "RA": ("accuracy on remaining rows", "%"),
    "UA": ("accuracy on forgotten rows", "%"),
    "TA": ("test accuracy", "%"),
    "MIA": ("forgotten rows taken for non-members", "%"),
    "MIA_balanced": ("forgotten rows taken for non-members", "%"),
    "EO": ("equalized odds gap", "%"),
    "GA": ("accuracy of the forgotten groups", "%"),
    "DP": ("demographic parity gap", "%"),
    "EP": ("equal opportunity gap", "%"),
    "WG": ("worst group accuracy", "%"),
    "cost": ("cost of unlearning", "training epochs"),
    "seconds": ("time of unlearning", "s"),
}


def check_results(
    results: Any, *, single: Iterable[str] = ("dataset", "forget", "selection")
) -> pd.DataFrame:
    """Check that a frame is the tidy table of one comparison.

    Parameters
    ----------
    results : DataFrame
        As returned by :func:`grmu_sk.benchmark.compare`, or the results of a benchmark, which
        have the columns ``forget``, ``selection`` and ``variant`` too.
    single : iterable of str, default=("dataset", "forget", "selection")
        Columns that may hold one value only, because a figure averages over the others.

    Returns
    -------
    DataFrame
        The same rows with all columns, ``reweight`` as 0 and 1, the name of each ``model``, and
        the average gap if it was not there and can be computed.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        If it is empty, lacks a column, holds a row twice, text among its values, or several
        values in a column of ``single``; if ``reweight`` is not 0 or 1; or if runs have no gold
        standard to compute the average gap from.
    """
    if not isinstance(results, pd.DataFrame):
        raise TypeError(f"results must be a DataFrame, got {type(results).__name__}.")
    missing = [column for column in COLUMNS if column not in results]
    if missing:
        raise ValueError(
            f"results lacks the columns {missing}; it has {list(results)}. Pass the tidy table of "
            "grmu_sk.benchmark.compare (or results.csv of `grmu demo`) as it is."
        )
    check_unique_columns(results, "results")
    if results.empty:
        raise ValueError("results is empty: there is nothing to draw.")
    if not results["reweight"].isin([0, 1]).all():
        odd = sorted({repr(v) for v in results["reweight"] if v not in (0, 1)})
        raise ValueError(f"results['reweight'] must hold 0 and 1 only, got {', '.join(odd)}.")
    if not pd.api.types.is_numeric_dtype(results["value"]):
        raise ValueError(
            f"results['value'] must be numbers, got dtype {results['value'].dtype}. Convert it: "
            "results['value'].astype(float)."
        )
    results = _with_all_columns(results)
    _check_rows_once(results)
    for column in single:
        values = results[column].unique().tolist()
        if len(values) > 1:
            raise ValueError(
                f"results holds several values of {column!r}: {values}. An average over them would "
                f"mean nothing; choose one: results[results[{column!r}] == {values[0]!r}]."
            )
    return _with_average_gap(results)


def _with_all_columns(results: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with every column filled; a CSV file gives NaN for empty text."""
    filled = {
        name: results[name].astype(object).where(results[name].notna(), "")
        if name in results
        else ""
        for name in OPTIONAL_COLUMNS
    }
    results = results.assign(reweight=(results["reweight"] == 1).astype(int), **filled)
    models = results[list(MODEL)].drop_duplicates()
    names = {key: model_name(*key) for key in models.itertuples(index=False, name=None)}
    keys = results[list(MODEL)].itertuples(index=False, name=None)
    return results.assign(model=[names[key] for key in keys])


def _check_rows_once(results: pd.DataFrame) -> None:
    keys = [*SETTING, "seed", *MODEL, "metric"]
    repeated = results.duplicated(keys)
    if repeated.any():
        first = _stated(results.loc[repeated, keys].iloc[0].to_dict())
        raise ValueError(
            f"results holds {int(repeated.sum())} rows twice, the first for {first}: an average "
            "would count them twice. Were two tables of the same seeds joined?"
        )


def _stated(keys: dict[Any, Any]) -> dict[Any, Any]:
    """Leave out the columns that the frame did not have."""
    return {name: value for name, value in keys.items() if value != ""}


def gold_deltas(results: pd.DataFrame) -> pd.Series:
    """Return how far each row is from the gold standard of the same setting and seed.

    Parameters
    ----------
    results : DataFrame
        A checked table.

    Returns
    -------
    Series of float
        Absolute differences, one entry a row; NaN where there is no gold standard.
    """
    keys = [*SETTING, "seed", "metric"]
    gold = results[is_gold(results)].set_index(keys)["value"]
    of_row = gold.reindex(pd.MultiIndex.from_frame(results[keys])).to_numpy(dtype=float)
    return (results["value"] - of_row).abs()


def _with_average_gap(results: pd.DataFrame) -> pd.DataFrame:
    """Add the average gap of every run, if it is not there and its six terms are."""
    there = set(results["metric"])
    if "AVG_GAP" in there or not there.issuperset(AVERAGE_GAP_METRICS):
        return results
    terms = results[results["metric"].isin(AVERAGE_GAP_METRICS)]
    terms = terms.assign(delta=gold_deltas(terms))
    _check_gold_of(terms)
    runs = terms.groupby([*SETTING, "seed", *MODEL, "model"], sort=False)["delta"]
    incomplete = runs.size()[lambda n_terms: n_terms < len(AVERAGE_GAP_METRICS)]
    if len(incomplete):
        raise ValueError(
            f"The average gap needs {', '.join(AVERAGE_GAP_METRICS)} of every run, and "
            f"{len(incomplete)} runs lack some, the first of {incomplete.index[0][-1]!r}."
        )
    gap = 100 - runs.agg(lambda deltas: deltas.mean(skipna=False))
    rows = gap.rename("value").reset_index().assign(metric="AVG_GAP")
    return pd.concat([results, rows], ignore_index=True)


def _check_gold_of(terms: pd.DataFrame) -> None:
    lost = terms[terms["delta"].isna() & terms["value"].notna()]
    if len(lost):
        first = _stated(lost[[*SETTING, "seed", "metric"]].iloc[0].to_dict())
        raise ValueError(
            "results has no AVG_GAP, and it cannot be computed: there is no gold standard (method "
            f"'retrain' with reweight 1) for {first}. Keep the gold standard of every seed in the "
            "frame."
        )


def check_metrics(results: pd.DataFrame, metrics: Iterable[str]) -> None:
    """Check that the metrics are among the results.

    Parameters
    ----------
    results : DataFrame
        A checked table.
    metrics : iterable of str
        What is to be drawn.

    Raises
    ------
    ValueError
        If one is not there.
    """
    there = results["metric"].unique().tolist()
    missing = [metric for metric in metrics if metric not in there]
    if missing:
        raise ValueError(f"results has no metric {missing}; there are {there}.")


def choose_methods(results: pd.DataFrame, methods: str | Sequence[str] | None) -> pd.DataFrame:
    """Return the rows of the methods asked for, and of the gold standard.

    Parameters
    ----------
    results : DataFrame
        A checked table.
    methods : sequence of str or None
        Names of methods, such as ``"miu"``, or of models, such as ``"miu + reweight"``; None
        keeps all.

    Returns
    -------
    DataFrame
        Their rows: those of the gold standards, then of the methods in the order asked for.

    Raises
    ------
    ValueError
        If a name is not there, or none is given.
    """
    if methods is None:
        return results
    methods = [methods] if isinstance(methods, str) else list(methods)
    if not all(isinstance(name, str) for name in methods):
        raise TypeError(f"methods must be names, got {methods!r}.")
    if not methods:
        raise ValueError("methods is empty: name at least one, such as methods=['miu'].")
    known = set(results["method"]) | set(results["model"])
    unknown = [name for name in methods if name not in known]
    if unknown:
        there = results["method"].unique().tolist()
        raise ValueError(
            f"results has no methods {unknown}; there are {there}, and of these a single model "
            "is chosen by its name in the legend, such as 'miu + reweight'."
        )
    is_golden = results["model"].isin([GOLD_LABEL, RESEEDED_LABEL])
    parts, rest = [results[is_golden]], results[~is_golden]
    for name in methods:
        chosen = (rest["method"] == name) | (rest["model"] == name)
        parts.append(rest[chosen])
        rest = rest[~chosen]
    return pd.concat(parts)


def is_gold(results: pd.DataFrame) -> pd.Series:
    """Mark the rows of the gold standard.

    Parameters
    ----------
    results : DataFrame
        A checked table.

    Returns
    -------
    Series of bool
        One entry a row.
    """
    of_method = (results["method"] == GOLD[0]) & (results["reweight"] == GOLD[1])
    return of_method & (results["variant"] == "")


def summarize(results: pd.DataFrame, keys: Iterable[str]) -> pd.DataFrame:
    """Return what is drawn of the runs that differ by their seed alone.

    Parameters
    ----------
    results : DataFrame
        A checked table.
    keys : iterable of str
        Columns whose values tell apart what is averaged.

    Returns
    -------
    DataFrame
        Indexed by the keys, in order of appearance: mean, std (divided by the number of seeds),
        low and high over seeds, and delta: the mean over seeds of the absolute difference to the
        gold standard of the same seed. Runs that diverged (NaN) are left out.
    """
    rows = results.assign(delta=gold_deltas(results))
    return rows.groupby(list(keys), sort=False).agg(
        mean=("value", "mean"),
        std=("value", lambda values: values.std(ddof=0)),
        low=("value", "min"),
        high=("value", "max"),
        delta=("delta", "mean"),
    )


def model_name(method: str, reweight: int, variant: str = "") -> str:
    """Return what a model is called in a figure.

    Parameters
    ----------
    method : str
        Its ``method``.
    reweight : int
        Its ``reweight``.
    variant : str, default=""
        Its ``variant``: what was changed for an ablation.

    Returns
    -------
    str
        Such as ``"miu + reweight"`` or ``"miu + reweight, no_calibration"``.
    """
    if (method, reweight, variant) == (*GOLD, ""):
        return GOLD_LABEL
    if (method, reweight, variant) == (*RESEEDED_GOLD, ""):
        return RESEEDED_LABEL
    name = f"{method} + reweight" if reweight else method
    return f"{name}, {variant}" if variant else name


def group_name(pair: Any) -> str:
    """Return what a group is called in a figure.

    Parameters
    ----------
    pair : tuple
        The group (y, a), where a is a tuple if there are several attributes.

    Returns
    -------
    str
        Such as ``">50K, Female"`` or ``">50K, Female, Black"``.
    """
    y, a = pair
    return ", ".join(map(str, (y, *a))) if isinstance(a, tuple) else f"{y}, {a}"


def group_of_metric(metric: str) -> str:
    """Return the name of the group whose accuracy a metric is.

    Parameters
    ----------
    metric : str
        Such as ``"group_accuracy[>50K, Female]"``; several attributes may stand there as Python
        writes a tuple.

    Returns
    -------
    str
        As :func:`group_name` gives it.
    """
    inside = metric.removeprefix("group_accuracy[").removesuffix("]")
    found = re.fullmatch(r"(.*?), (\(.*\))", inside)
    if found is None:
        return inside
    try:
        attributes = ast.literal_eval(found[2])
    except (ValueError, SyntaxError):  # the parentheses belong to a name
        return inside
    return group_name((found[1], attributes))


def diverged_notes(results: pd.DataFrame) -> dict[str, str]:
    """Return what labels say about runs that gave no finite loss.

    Parameters
    ----------
    results : DataFrame
        A checked table.

    Returns
    -------
    dict of str to str
        For each model; empty where all runs are finite.
    """
    runs = results.groupby(["model", *SETTING, "seed"], sort=False)["value"]
    # a single metric may be undefined; of a run that diverged nothing is known
    diverged = runs.agg(lambda values: values.isna().all()).groupby("model", sort=False)
    counts = diverged.agg(["sum", "size"])
    return {
        str(model): f" ({n_diverged} of {n_runs} runs diverged)" if n_diverged else ""
        for model, n_diverged, n_runs in counts.itertuples()
    }
