"""Tables of results: what stands in a row, and how a table is read, checked and summarised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from .metrics import AVERAGE_GAP_METRICS, difference_to_reference

__all__ = ["Row", "check_results", "format_table", "read_results", "summarize"]

COLUMNS = ("dataset", "ratio", "seed", "method", "reweight", "metric", "value")
#: Columns of a benchmark's results that a single comparison has no need of.
OPTIONAL_COLUMNS = ("forget", "selection", "variant")
#: What runs of one setting share, apart from the seed.
SETTING = ["dataset", "forget", "ratio", "selection"]
#: What tells models apart.
MODEL = ["method", "reweight", "variant"]
AVERAGE_GAP = "AVG_GAP"
GOLD_LABEL = "retrain + reweight (gold standard)"
RESEEDED_LABEL = "gold standard, other seed"
#: What stands for a metric in words, and its unit.
METRICS = {
    AVERAGE_GAP: ("average gap (100 = gold standard)", "%"),
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


@dataclass(frozen=True)
class Row:
    """A row of a table of results: a method, and how it is run.

    Rows are equal if they are the same row of the table.

    Parameters
    ----------
    method : str
        Name in the registry (``grmu_sk.unlearners.all_unlearners``); or ``"pretrain"``, the
        model before, or ``"gold_reseeded"``, the gold standard trained once more with another seed.
    reweight : bool
        Whether with REWEIGHT.
    variant : str, default=""
        What differs from the method as it is, such as ``"lam=0.1"``.
    parameters : dict
        What differs from the defaults of the method's constructor.
    """

    method: str
    reweight: bool
    variant: str = ""
    parameters: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        """Name for people."""
        name = f"{self.method} + reweight" if self.reweight else self.method
        return f"{name}, {self.variant.replace('_', ' ')}" if self.variant else name

    @property
    def title(self) -> str:
        """Name in figures, which say what the gold standard is."""
        return {GOLD: GOLD_LABEL, RESEEDED_GOLD: RESEEDED_LABEL}.get(self, self.label)

    def of(self, results: pd.DataFrame) -> pd.Series:
        """Mark the lines of a table that belong to this row.

        Parameters
        ----------
        results : DataFrame
            A checked table.

        Returns
        -------
        Series of bool
            One entry a line.
        """
        is_there = pd.Series(True, index=results.index)
        for column in MODEL:
            is_there &= results[column] == getattr(self, column)
        return is_there


PRETRAIN, RETRAIN = Row("pretrain", False), Row("retrain", False)
GOLD, RESEEDED_GOLD = Row("retrain", True), Row("gold_reseeded", True)


def rows_there(results: pd.DataFrame) -> list[Row]:
    """Return the rows of a checked table, in its order."""
    return [Row(m, bool(r), v) for m, r, v in results[MODEL].drop_duplicates().to_numpy()]


def read_results(path: str | Path) -> pd.DataFrame:
    """Read the results of a benchmark.

    Parameters
    ----------
    path : str or Path
        A CSV file, or the folder that holds it as ``results.csv``.

    Returns
    -------
    DataFrame
        With the columns dataset, forget, ratio, seed, selection, method, reweight, variant,
        metric, value; metrics in percent, NaN where a run gave no finite loss.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If a file cannot be read.
    ValueError
        If it is no CSV file, or :func:`check_results` refuses it.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "results.csv"
    if not file.is_file():
        raise FileNotFoundError(
            f"There are no results at {file}. Name a CSV file, or the folder that `grmu bench` "
            "wrote results.csv into."
        )
    try:
        table = pd.read_csv(file, low_memory=False)
        return check_results(table).drop(columns="model")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise ValueError(f"{file}: {str(error).strip()}") from error


def check_results(results: Any, *, single: Iterable[str] = ()) -> pd.DataFrame:
    """Check that a frame is a tidy table of results.

    Parameters
    ----------
    results : DataFrame
        As returned by :func:`grmu_sk.comparison.compare`, or the results of a benchmark, which
        have the columns ``forget``, ``selection`` and ``variant`` too.
    single : iterable of str, default=()
        Columns that may hold one value only, because what follows averages over the others.

    Returns
    -------
    DataFrame
        The same lines with all columns, ``reweight`` as 0 and 1, and the name of each ``model``.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        If it is empty, lacks a column, holds a line twice, a value that its column cannot have,
        or several values in a column of ``single``.
    """
    if not isinstance(results, pd.DataFrame):
        raise TypeError(f"results must be a DataFrame, got {type(results).__name__}.")
    missing = [column for column in COLUMNS if column not in results]
    if missing:
        raise ValueError(
            f"results lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(map(str, results))}. Pass the tidy table of grmu_sk.comparison.compare, "
            "or results.csv of `grmu demo` or `grmu bench`, as it is."
        )
    if results.columns.has_duplicates:
        twice = results.columns[results.columns.duplicated()].tolist()
        raise ValueError(f"results has several columns {twice}: keep one of each.")
    if results.empty:
        raise ValueError("results is empty: it holds no rows.")
    kept = [name for name in OPTIONAL_COLUMNS if name in results]
    # a CSV file gives NaN for empty text
    filled = {name: results[name].astype(object).where(results[name].notna(), "") for name in kept}
    results = results.assign(**dict.fromkeys(OPTIONAL_COLUMNS, "") | filled)
    _check_values(results)
    results = results.assign(reweight=(results["reweight"] == 1).astype(int))
    keys = [*SETTING, "seed", *MODEL, "metric"]
    repeated = results.duplicated(keys)
    if repeated.any():
        raise ValueError(
            f"results holds {int(repeated.sum())} rows twice, the first for "
            f"{_stated(results.loc[repeated, keys])}: an average would count them twice. Were two "
            "tables of the same seeds joined?"
        )
    for column in single:
        values = results[column].unique().tolist()
        if len(values) > 1:
            raise ValueError(
                f"results holds several values of {column!r}: {values}. An average over them would "
                f"mean nothing; choose one: results[results[{column!r}] == {values[0]!r}]."
            )
    titles = {(row.method, row.reweight, row.variant): row.title for row in rows_there(results)}
    models = results[MODEL].itertuples(index=False, name=None)
    return results.assign(model=[titles[model] for model in models])


def _check_values(results: pd.DataFrame) -> None:
    seeds, ratios, values = (
        pd.to_numeric(results[name], errors="coerce") for name in ("seed", "ratio", "value")
    )
    is_value = results["value"].isna() | (values.notna() & ~np.isinf(values))
    if is_value.all():
        is_value &= pd.api.types.is_numeric_dtype(results["value"])
    checks = [
        ("reweight", results["reweight"].isin([0, 1]), "0 and 1"),
        ("seed", seeds.mod(1) == 0, "whole numbers"),
        ("ratio", ratios.between(0, 1, inclusive="right"), "shares above 0 and at most 1"),
        ("selection", results["selection"].isin(["", "best", "last"]), "'best' and 'last'"),
        ("value", is_value, "finite numbers"),
    ]
    for name in ("dataset", "method", "metric"):
        is_text = results[name].map(lambda value: isinstance(value, str) and value != "")
        checks.append((name, is_text, "names"))
    for column, is_right, wanted in checks:
        wrong = np.flatnonzero(
            ~(is_value if column == "value" and not is_value.all() else is_right)
        )
        if len(wrong):
            raise ValueError(
                f"results[{column!r}] must hold {wanted} only, got "
                f"{results[column].iloc[wrong[0]]!r} in row {wrong[0]} (and in {len(wrong) - 1} of "
                f"the other {len(results) - 1}); its type is {results[column].dtype}."
            )


def _stated(lines: pd.DataFrame) -> dict[Any, Any]:
    """Return the first line, without the columns that the frame did not have."""
    return {name: value for name, value in lines.iloc[0].to_dict().items() if value != ""}


def differences_to(results: pd.DataFrame, row: Row) -> pd.Series:
    """Return how far each line is from a row of the same setting, seed and metric, with sign."""
    return difference_to_reference(results, row.of(results), [*SETTING, "seed", "metric"])


def average_gaps(results: pd.DataFrame) -> pd.DataFrame:
    """Return the average gap of every run, NaN where it lacks one of the six metrics."""
    terms = results[results["metric"].isin(AVERAGE_GAP_METRICS)]
    terms = terms.assign(delta=differences_to(terms, GOLD).abs())
    kept = [name for name in ("model",) if name in terms]
    runs = terms.groupby([*SETTING, "seed", *MODEL, *kept], sort=False)["delta"]
    gaps = runs.agg(["mean", "count"]).reset_index()
    value = (100 - gaps.pop("mean")).where(gaps.pop("count") == len(AVERAGE_GAP_METRICS))
    return gaps.assign(metric=AVERAGE_GAP, value=value)


def with_average_gap(results: pd.DataFrame) -> pd.DataFrame:
    """Add the average gap of every run of a checked table, if it is not there and its terms are.

    Parameters
    ----------
    results : DataFrame
        A checked table.

    Returns
    -------
    DataFrame
        With more lines.

    Raises
    ------
    ValueError
        If runs have no gold standard, or lack some of the terms.
    """
    there = set(results["metric"])
    if AVERAGE_GAP in there or not there.issuperset(AVERAGE_GAP_METRICS):
        return results
    gaps = average_gaps(results)
    terms = results[results["metric"].isin(AVERAGE_GAP_METRICS)]
    lost = terms[differences_to(terms, GOLD).isna() & terms["value"].notna()]
    if len(lost):
        raise ValueError(
            "results has no AVG_GAP, and it cannot be computed: there is no gold standard (method "
            "'retrain' with reweight 1) for "
            f"{_stated(lost[[*SETTING, 'seed', 'metric']])}. Keep the gold standard of every seed "
            "in the frame."
        )
    n_terms = terms.groupby([*SETTING, "seed", "model"], sort=False)["value"].size()
    incomplete = n_terms[n_terms < len(AVERAGE_GAP_METRICS)]
    if len(incomplete):
        raise ValueError(
            f"The average gap needs {', '.join(AVERAGE_GAP_METRICS)} of every run, and "
            f"{len(incomplete)} runs lack some, the first of {incomplete.index[0][-1]!r}."
        )
    return pd.concat([results, gaps], ignore_index=True)


def summarize(
    results: pd.DataFrame, keys: Iterable[str] = ("method", "reweight", "metric")
) -> pd.DataFrame:
    """Return mean, standard deviation and delta to the gold standard over seeds.

    Parameters
    ----------
    results : DataFrame
        As returned by :func:`grmu_sk.comparison.compare`, or checked.
    keys : iterable of str, default=("method", "reweight", "metric")
        Columns whose values tell apart what is averaged.

    Returns
    -------
    DataFrame
        Indexed by the keys, in order of appearance: mean, std (divided by the number of seeds, as
        in the paper), low and high over seeds, and delta: the mean over seeds of the absolute
        difference to the gold standard of the same seed. Runs that diverged (NaN) are left out.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        If it is no table of results.
    """
    results = results if "model" in results else check_results(results)
    rows = results.assign(delta=differences_to(results, GOLD).abs())
    return rows.groupby(list(keys), sort=False).agg(
        mean=("value", "mean"),
        std=("value", lambda values: values.std(ddof=0)),
        low=("value", "min"),
        high=("value", "max"),
        delta=("delta", "mean"),
    )


def format_table(
    results: pd.DataFrame, *, metrics: Sequence[str] = ("RA", "UA", "TA", "MIA", "EO", "GA")
) -> str:
    """Lay results out as in the paper's tables.

    Parameters
    ----------
    results : DataFrame
        As returned by :func:`grmu_sk.comparison.compare`.
    metrics : sequence of str, default=("RA", "UA", "TA", "MIA", "EO", "GA")
        The columns.

    Returns
    -------
    str
        One line a method: mean, standard deviation and, in brackets, delta to the gold standard;
        then the average gap, and what the run cost in training epochs.

    Raises
    ------
    TypeError
        If ``results`` is no DataFrame.
    ValueError
        If it is no table of results, or lacks a metric.
    """
    lines = []
    for (method, reweight), of_row in summarize(results).groupby(level=[0, 1], sort=False):
        cells = of_row.droplevel([0, 1])
        missing = [name for name in (*metrics, AVERAGE_GAP, "cost") if name not in cells.index]
        if missing:
            raise ValueError(f"results have no {missing} of {method}; metrics names the columns.")
        text = cells["mean"].map("{:.1f}".format) + cells["std"].map(" ±{:.1f}".format)
        is_reference = Row(method, reweight) in (PRETRAIN, GOLD)
        deltas = "" if is_reference else cells["delta"].map(" ({:.1f})".format)
        gap = "-" if is_reference else text[AVERAGE_GAP]
        cost = f"{cells.loc['cost', 'mean']:.1f}"
        lines.append(
            [method, "yes" if reweight else "no", *(text + deltas)[list(metrics)], gap, cost]
        )
    header = ["method", "reweight", *metrics, "avg gap", "epochs"]
    first, *rest = aligned([header, *lines], n_left=2)
    return "\n".join([first, "-" * len(first), *rest])


def aligned(lines: Sequence[Sequence[str]], n_left: int) -> list[str]:
    """Return lines of text in columns, the first few to the left and the others to the right."""
    sides = ["left"] * n_left + ["right"] * (len(lines[0]) - n_left)
    text = tabulate(
        lines, tablefmt="plain", colalign=sides, disable_numparse=True, preserve_whitespace=True
    )
    return [line.rstrip() for line in text.splitlines()]


# what figures ask of a table --------------------------------------------------------------------


def check_metrics(results: pd.DataFrame, metrics: Iterable[str]) -> None:
    """Refuse metrics that a checked table does not have."""
    there = results["metric"].unique().tolist()
    missing = [metric for metric in metrics if metric not in there]
    if missing:
        raise ValueError(f"results has no metric {missing}; there are {there}.")


def choose_methods(results: pd.DataFrame, methods: str | Sequence[str] | None) -> pd.DataFrame:
    """Return the lines of the gold standards, then of the methods or models asked for."""
    if methods is None:
        return results
    methods = [methods] if isinstance(methods, str) else list(methods)
    if not methods:
        raise ValueError("methods is empty: name at least one, such as methods=['miu'].")
    unknown = [name for name in methods if name not in {*results["method"], *results["model"]}]
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


def diverged_notes(results: pd.DataFrame) -> dict[str, str]:
    """Return what labels say about runs that gave no finite loss, for each model."""
    runs = results.groupby(["model", *SETTING, "seed"], sort=False)["value"]
    # a single metric may be undefined; of a run that diverged nothing is known
    diverged = runs.agg(lambda values: values.isna().all()).groupby("model", sort=False)
    return {
        str(model): f" ({n_diverged} of {n_runs} runs diverged)" if n_diverged else ""
        for model, n_diverged, n_runs in diverged.agg(["sum", "size"]).itertuples()
    }


def group_name(pair: Any) -> str:
    """Return what a group (y, a) is called in a figure, such as ``">50K, Female, Black"``."""
    y, a = pair
    return ", ".join(map(str, (y, *a))) if isinstance(a, tuple) else f"{y}, {a}"


def group_of_metric(metric: str) -> str:
    """Return the group of ``"group_accuracy[>50K, Female]"``, as :func:`group_name` names it.

    Several attributes may stand there as Python writes a tuple.
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
