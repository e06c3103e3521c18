"""Reading the results of a benchmark, and what follows from them seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..utils.arguments import check_types
from ..utils.validation import check_unique_columns
from .paper import AVERAGE_GAP, GAP_METRICS, GOLD, PRETRAIN, RESEEDED_GOLD, Model
from .schema import RESULT_COLUMNS, SELECTIONS

RESULTS_FILE = "results.csv"
RUN = ["dataset", "forget", "ratio", "seed", "selection"]  # what a gold standard belongs to
MODEL = ["method", "reweight", "variant"]
_NUMBERS = {"ratio": float, "seed": int, "reweight": int, "value": float}
_IN_MEMORY = "results"
_NO_NUMBER = ("", "nan", "NaN")


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
        If it is no CSV file, lacks a column or rows, or a column holds what it must not; the
        message names the file, the column and the line.
    """
    check_types(read_results, locals())
    file = Path(path)
    if file.is_dir():
        file = file / RESULTS_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"There are no results at {file}. Name a CSV file, or the folder that `grmu bench` "
            f"wrote {RESULTS_FILE} into."
        )
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as a CSV file: {str(error).strip()}") from error
    return _checked(table, str(file))


def check_results(results: Any) -> pd.DataFrame:
    """Check a table of results that is already in memory.

    Parameters
    ----------
    results : DataFrame
        With the columns of :func:`read_results`.

    Returns
    -------
    DataFrame
        A copy with these columns alone, each of its type.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        If it lacks a column or rows, or a column holds what it must not.
    """
    if not isinstance(results, pd.DataFrame):
        raise TypeError(f"results must be a DataFrame, got {type(results).__name__}.")
    return _checked(results, _IN_MEMORY)


def _checked(table: pd.DataFrame, source: str) -> pd.DataFrame:
    missing = [name for name in RESULT_COLUMNS if name not in table]
    if missing:
        raise ValueError(
            f"{source} lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(map(str, table))}. Results "
            f"need the columns {', '.join(RESULT_COLUMNS)}, as `grmu bench` writes them."
        )
    check_unique_columns(table, source)
    if table.empty:
        raise ValueError(f"{source} holds no rows: no job has finished yet.")
    table = table[RESULT_COLUMNS].reset_index(drop=True)
    for column in RESULT_COLUMNS:
        kind = _NUMBERS.get(column)
        if kind is None:
            table[column] = table[column].fillna("").astype(str).astype(object)
            if column != "variant":
                _refuse(table[column] == "", table, column, "text", source)
        else:
            table[column] = _numbers(table, column, kind, source)
    _refuse(~table["reweight"].isin([0, 1]), table, "reweight", "0 or 1", source)
    is_ratio = table["ratio"].between(0, 1, inclusive="right")
    _refuse(~is_ratio, table, "ratio", "a share above 0 and at most 1", source)
    known = table["selection"].isin(SELECTIONS)
    _refuse(~known, table, "selection", "'best' or 'last'", source)
    keys = [name for name in RESULT_COLUMNS if name != "value"]
    _refuse(table.duplicated(keys), table, "metric", "each metric of a run once, not twice", source)
    return table


def _numbers(table: pd.DataFrame, column: str, kind: type, source: str) -> pd.Series:
    given = table[column]
    numbers = pd.to_numeric(given, errors="coerce").astype(float)
    is_wrong = numbers.isna() | np.isinf(numbers)
    if column == "value":  # a value may be missing
        is_wrong &= ~(given.isna() | given.isin(_NO_NUMBER))
    if kind is int:
        is_wrong |= numbers.mod(1) != 0
    wanted = "a whole number" if kind is int else "a finite number"
    _refuse(is_wrong, table, column, wanted, source)
    return numbers.astype(kind)


def _refuse(
    is_wrong: pd.Series, table: pd.DataFrame, column: str, wanted: str, source: str
) -> None:
    if is_wrong.any():
        row = int(np.flatnonzero(is_wrong)[0])
        where = f"row {row}" if source == _IN_MEMORY else f"line {row + 2}"
        found = table[column].iloc[row]
        raise ValueError(
            f"{source}, {where}, column '{column}': expected {wanted}, got "
            f"{str(found)!r} (in {int(is_wrong.sum())} of {len(table)} rows)."
        )


def select_runs(
    results: pd.DataFrame,
    *,
    dataset: str,
    selection: str = "best",
    forget: str | Sequence[str] | None = None,
    ratio: float | None = None,
) -> pd.DataFrame:
    """Return the rows of some runs; none if there are none.

    Parameters
    ----------
    results : DataFrame
        Checked results.
    dataset : str
        Name of the data set.
    selection : {"best", "last"}, default="best"
        Which epoch of the gold standard is kept.
    forget : str, sequence of str or None, default=None
        Names of forget sets; None for any.
    ratio : float or None, default=None
        Share that is forgotten; None for any.

    Returns
    -------
    DataFrame
        The rows, in the same order.

    Raises
    ------
    ValueError
        If ``selection`` is unknown.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"selection must be 'best' or 'last', got {selection!r}.")
    chosen = (results["dataset"] == dataset) & (results["selection"] == selection)
    if forget is not None:
        chosen &= results["forget"].isin([forget] if isinstance(forget, str) else list(forget))
    if ratio is not None:
        chosen &= np.isclose(results["ratio"], ratio)
    return results[chosen]


def rows_of(results: pd.DataFrame, model: Model) -> pd.Series:
    """Mark the rows of a model.

    Parameters
    ----------
    results : DataFrame
        Checked results.
    model : Model
        The model.

    Returns
    -------
    Series of bool
        One entry a row.
    """
    return (
        (results["method"] == model.method)
        & (results["reweight"] == model.reweight)
        & (results["variant"] == model.variant)
    )


def add_deltas(results: pd.DataFrame) -> pd.DataFrame:
    r"""Add each run's average gap, and its deltas to the gold standard and to the original model.

    Everything is computed seed by seed, against the gold standard (retraining with REWEIGHT) of
    the same data set, forget set, ratio, seed and selection:

    .. math::

        \text{Avg. gap}_s = 100 - \frac{1}{|M|} \sum_{m \in M} |v_{m,s} - v^\star_{m,s}|,
        \quad M = \{\text{RA, UA, TA, MIA, EO, GA}\}.

    Parameters
    ----------
    results : DataFrame
        Checked results, in percent.

    Returns
    -------
    DataFrame
        The results with the columns ``delta_vs_gold`` (absolute) and ``delta_vs_pretrain``
        (signed), in percentage points, NaN where there is nothing to compare with; and with rows
        of the metric ``AVG_GAP``, 100 for the gold standard itself, of each run that has all six
        metrics. An average gap among the results is replaced.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.
    """
    table = results[results["metric"] != AVERAGE_GAP]
    to_gold = table["value"] - _value_of(table, GOLD)
    table = table.assign(
        delta_vs_gold=to_gold.abs(), delta_vs_pretrain=table["value"] - _value_of(table, PRETRAIN)
    )
    in_gap = table[table["metric"].isin(GAP_METRICS)]
    runs = in_gap.groupby([*RUN, *MODEL], sort=False, dropna=False)["delta_vs_gold"]
    gaps = runs.agg(["mean", "count"]).reset_index()
    is_whole = gaps["count"] == len(GAP_METRICS)
    gaps = gaps.assign(
        metric=AVERAGE_GAP,
        value=(100 - gaps["mean"]).where(is_whole),
        delta_vs_gold=np.nan,
        delta_vs_pretrain=np.nan,
    )
    return pd.concat([table, gaps[table.columns]], ignore_index=True)


def _value_of(table: pd.DataFrame, model: Model) -> pd.Series:
    """Return, for each row, the value that a model of the same run has in the same metric."""
    keys = [*RUN, "metric"]
    values = table[rows_of(table, model)].set_index(keys)["value"]
    index = pd.MultiIndex.from_frame(table[keys])
    return pd.Series(values.reindex(index).to_numpy(), index=table.index)


def check_gold(runs: pd.DataFrame, *, dataset: str) -> None:
    """Refuse runs without a gold standard.

    Parameters
    ----------
    runs : DataFrame
        Rows of one data set, not empty.
    dataset : str
        Its name, for the message.

    Raises
    ------
    ValueError
        If there is no row of it.
    """
    if not rows_of(runs, GOLD).any():
        forget, ratio, selection = runs[["forget", "ratio", "selection"]].iloc[0]
        command = bench_command(dataset, forget, ratio, [GOLD], list(runs["seed"]), selection)
        raise ValueError(
            f"The results hold no gold standard for '{dataset}', forget set '{forget}', ratio "
            f"{ratio:g}: no rows of the method retrain with reweight 1, selection "
            f"'{selection}'. All deltas are taken against it. Run: {command}"
        )


def bench_command(
    dataset: str,
    forget: str,
    ratio: float,
    models: Sequence[Model],
    seeds: Sequence[int],
    selection: str = "best",
) -> str:
    """Return the command that makes results; where data and results lie is left to the reader.

    Parameters
    ----------
    dataset : str
        Name of the data set.
    forget : str
        Name of the forget set.
    ratio : float
        Share that is forgotten.
    models : sequence of Model
        What is wanted, none for the methods of the paper; a method is run without and with
        REWEIGHT.
    seeds : sequence of int
        Seeds that must be among those run; none for three.
    selection : {"best", "last"}, default="best"
        Which epoch of the gold standard is kept.

    Returns
    -------
    str
        For the shell.
    """
    always = (PRETRAIN.method, GOLD.method, RESEEDED_GOLD.method)  # run, whatever is asked for
    methods = dict.fromkeys(model.method for model in models if model.method not in always)
    variants = dict.fromkeys(model.variant for model in models)
    lambdas = [name.removeprefix("lam=") for name in variants if name.startswith("lam=")]
    data = "" if dataset == "digits" else "--data-root DATA "
    command = f"grmu bench --dataset {dataset} {data}--forget {forget} --ratios {ratio:g} "
    command += f"--methods {' '.join(methods or ([GOLD.method] if models else ['paper']))} "
    command += f"--seeds {max(seeds, default=2) + 1} "
    if selection != "best":
        command += f"--selection {selection} "
    if any(name.startswith("no_") for name in variants):
        command += "--ablations "
    if lambdas:
        command += f"--lambdas {' '.join(lambdas)} "
    return f"{command}--out RESULTS"
