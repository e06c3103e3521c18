"""Tables of results: what stands in a row; how a table is checked, summarised and put in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from .groups import Pair
from .metrics.gap import AVERAGE_GAP, AVERAGE_GAP_METRICS, average_gaps, difference_to_reference
from .validation import about

__all__ = [
    "Row",
    "check_results",
    "describe_results",
    "format_table",
    "read_results",
    "summarize",
]

COLUMNS = ("dataset", "ratio", "seed", "method", "reweight", "metric", "value")
#: Columns of a benchmark's results that a single comparison has no need of.
OPTIONAL_COLUMNS = ("forget", "selection", "variant")
#: What runs of one setting share, apart from the seed.
SETTING = ["dataset", "forget", "ratio", "selection"]
#: What tells models apart.
MODEL = ["method", "reweight", "variant"]
#: What tells runs apart in a checked table.
RUN = [*SETTING, "seed", "model"]
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
    "row_distance": ("distance to gold of forgotten rows", "nats"),
    "damage": ("largest loss of accuracy of another group", "%"),
    "cost": ("cost of unlearning", "training epochs"),
    "retrainings": ("cost of unlearning", "retrainings"),
    "seconds": ("time of unlearning", "s"),
}

#: What is measured against the gold standard of the run, beside the average gap, as tables call it.
AGAINST_GOLD = {"row_distance": "row dist", "damage": "damage"}
#: Within how many points of the ceiling, and how many times the distance of single rows that a
#: second gold standard has, a method is as good as retraining.
POINTS, TIMES = 1.0, 1.2
TOO_NOISY = "so two retrainings differ as much as doing nothing does"


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
    def key(self) -> tuple[str, int, str]:
        """What stands in the columns that tell models apart."""
        return self.method, int(self.reweight), self.variant

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
        return (results[MODEL] == list(self.key)).all(axis=1)


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
    with about(str(path)):
        table = pd.read_csv(file / "results.csv" if file.is_dir() else file, low_memory=False)
        return check_results(table).drop(columns="model")


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
    ValueError
        If it is empty, lacks a column, holds a line twice, a text where a number belongs, or
        several values in a column of ``single``.
    """
    missing = [column for column in COLUMNS if column not in results]
    if missing or results.empty:
        raise ValueError(f"results is empty or lacks columns: {missing or 'it has no rows'}.")
    for column in OPTIONAL_COLUMNS:
        given = results.get(column, pd.Series("", results.index)).astype(object)
        results = results.assign(**{column: given.where(given.notna(), "")})  # NaN in a CSV file
    with about("results"):
        numbers = results[["seed", "ratio", "value", "reweight"]].apply(pd.to_numeric)
        results = results.assign(**numbers.astype({"reweight": int}))
    lines = results[[*SETTING, "seed", *MODEL, "metric"]]
    if (again := lines.duplicated()).any():
        raise ValueError(f"results holds rows twice, the first: {lines[again].iloc[0].to_dict()}.")
    for column in single:
        if len(there := results[column].unique().tolist()) > 1:
            raise ValueError(f"results holds several values of {column!r}: choose one of {there}.")
    titles = {row.key: row.title for row in rows_there(results)}
    models = results[MODEL].itertuples(index=False, name=None)
    return results.assign(model=[titles[model] for model in models])


def differences_to(results: pd.DataFrame, row: Row) -> pd.Series:
    """Return how far each line is from a row of the same setting, seed and metric, with sign."""
    return difference_to_reference(results, row.of(results), [*SETTING, "seed", "metric"])


def gaps_of(results: pd.DataFrame) -> pd.DataFrame:
    """Return the average gap of every run, NaN where a run or its gold standard lacks a metric."""
    model = [*MODEL, "model"] if "model" in results else MODEL
    return average_gaps(results, GOLD.of(results), [*SETTING, "seed"], model, whole=100)


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
    gaps = gaps_of(results)
    # as all of a run that failed
    undefined = pd.MultiIndex.from_frame(results.loc[results["value"].isna(), RUN])
    lost = gaps[gaps["value"].isna() & ~pd.MultiIndex.from_frame(gaps[RUN]).isin(undefined)]
    if len(lost):
        run = lost[RUN].iloc[0].to_dict()
        told = "it, or the run of the gold standard with the same seed, lacks metrics"
        raise ValueError(f"AVG_GAP cannot be computed for {run}: {told}.")
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
        in the paper), and delta: the mean over seeds of the absolute difference to the gold
        standard of the same seed. Runs that failed (NaN) are left out.

    Raises
    ------
    ValueError
        If it is no table of results.
    """
    results = results if "model" in results else check_results(results)
    rows = results.assign(delta=differences_to(results, GOLD).abs())
    return rows.groupby(list(keys), sort=False).agg(
        mean=("value", "mean"),
        std=("value", lambda values: values.std(ddof=0)),
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
        then the average gap, the distance of forgotten rows' log-odds, the largest loss of another
        group, and what the run cost, in retrainings. "-" stands for what is undefined, for want of
        test rows or because a method failed.

    Raises
    ------
    ValueError
        If it is no table of results, or a metric is unknown.
    """
    results = results if "model" in results else check_results(results)
    there = set(results["metric"])
    check_metrics(results, set(metrics) - METRICS.keys())
    more = {name: title for name, title in AGAINST_GOLD.items() if name in there}
    lines = []
    for (method, reweight), of_row in summarize(results).groupby(level=[0, 1], sort=False):
        cells = of_row.droplevel([0, 1]).reindex([*metrics, AVERAGE_GAP, *more, "retrainings"])
        text = cells["mean"].map("{:.1f}".format) + cells["std"].map(" ±{:.1f}".format)
        if (row := Row(method, reweight)) not in (PRETRAIN, GOLD):
            text[list(metrics)] += cells["delta"].map(" ({:.1f})".format)
        if row == GOLD:  # as it has no distance to itself
            text[AVERAGE_GAP] = "-"
        text["retrainings"] = f"{cells.loc['retrainings', 'mean']:.2f}"
        text[cells["mean"].isna()] = "-"
        lines.append([method, "yes" if reweight else "no", *text])
    header = ["method", "reweight", *metrics, "avg gap", *(more.values()), "retrains"]
    sides = ["left"] * 2 + ["right"] * (len(header) - 2)
    how: dict[str, Any] = {"tablefmt": "plain", "disable_numparse": True}
    text = tabulate([header, *lines], colalign=sides, preserve_whitespace=True, **how)
    first, *rest = (line.rstrip() for line in text.splitlines())
    return "\n".join([first, "-" * len(first), *rest])


def describe_results(results: pd.DataFrame, forget_groups: Sequence[Pair]) -> str:
    """Say in plain words what a comparison shows.

    Parameters
    ----------
    results : DataFrame
        As returned by :func:`grmu_sk.comparison.compare`.
    forget_groups : sequence of tuple
        The groups (y, a) that rows were forgotten from.

    Returns
    -------
    str
        Whether groups are at risk, whether the average gap can rank methods, and what is
        recommended.
    """
    results = check_results(results)
    table = summarize(results)
    n_seeds = results["seed"].nunique()
    error = (table["std"] / np.sqrt(max(n_seeds - 1, 1))).fillna(0)

    def value(row: Any, metric: str, of: pd.Series = table["mean"]) -> float:
        return float(of.get((row.method, int(row.reweight), metric), np.nan))

    names = " and ".join(f"({y}, {a})" for y, a in forget_groups)
    before, plain, gold = (value(row, "GA") for row in (PRETRAIN, RETRAIN, GOLD))
    noise = 2 * max(value(row, "GA", error) for row in (PRETRAIN, RETRAIN, GOLD))
    words = [
        f"Accuracy on test rows of the group {names}: {before:.1f} % before; {plain:.1f} % if the "
        f"model is retrained without the rows to forget, {gold:.1f} % with REWEIGHT."
    ]
    if n_seeds == 1:
        words.append("One seed cannot tell a loss from chance.")
    elif before - plain > max(noise, 1):
        words.append("So forgetting puts this group at risk.")
    else:
        words.append(
            f"That is no loss that {n_seeds} seeds could tell from chance (2 standard errors: "
            f"{noise:.1f} points)."
        )
    ceiling, nothing = (value(row, AVERAGE_GAP) for row in (RESEEDED_GOLD, PRETRAIN))
    stds = [value(row, AVERAGE_GAP, table["std"]) for row in (RESEEDED_GOLD, PRETRAIN)]
    spread = 2 * max(stds)
    words.append(
        "There is no average gap: one of its metrics is undefined on these test rows."
        if np.isnan(ceiling)
        else f"Average gap: {nothing:.1f} for doing nothing, {ceiling:.1f} for a second gold "
        f"standard, {'which is the most that can be expected' if ceiling > nothing else TOO_NOISY}."
        + (" The model comes out the same each time." if ceiling == 100 else "")
    )
    can_rank = n_seeds > 1 and ceiling - nothing > max(spread, 2)
    if not can_rank and not np.isnan(ceiling):
        words.append(
            ("One seed is too few" if n_seeds == 1 else "These are too close")
            + " for the average gap to rank methods: look at UA, MIA and the distance of single "
            "rows, and at an audit."
        )
    failed = failures(results)
    if failed:
        words.append(f"Failed, and not judged here: {', '.join(failed.values())}.")
    judged = [row for row in rows_there(results) if row.title not in failed]
    words.append(_recommendation(judged, value, ceiling, can_rank))
    return " ".join(words)


def _recommendation(rows: Sequence[Any], value: Any, ceiling: float, can_rank: bool) -> str:
    exact = "Recommended: retrain with REWEIGHT (RetrainUnlearner), which is exact."
    others = [row for row in rows if row not in (PRETRAIN, RETRAIN, GOLD, RESEEDED_GOLD)]
    distance = TIMES * value(RESEEDED_GOLD, "row_distance")
    good = [
        row
        for row in others
        if value(row, AVERAGE_GAP) >= ceiling - POINTS
        and value(row, "row_distance") <= distance
        and value(row, "retrainings") < 1
    ]
    if not good or not can_rank:
        why = "" if can_rank else "Nothing here shows that another method would do. "
        if can_rank and others:
            why = (
                f"No cheaper method comes within {POINTS:g} point of the second gold standard and "
                f"within {TIMES:g} times its distance on single rows. "
            )
        return why + exact
    # costs are measured: of methods about as cheap the one that comes closest
    best = min(good, key=lambda r: (round(value(r, "retrainings"), 1), -value(r, AVERAGE_GAP)))
    return (
        f"Recommended: {best.label}. It is within {POINTS:g} point of the second gold standard and "
        f"within {TIMES:g} times its distance on single rows, at "
        f"{value(best, 'retrainings'):.2f} retrainings. It is approximate: audit it."
    )


# what figures ask of a table --------------------------------------------------------------------


def check_metrics(results: pd.DataFrame, metrics: Iterable[str]) -> None:
    """Refuse metrics that a checked table does not have."""
    there = results["metric"].unique().tolist()
    missing = [metric for metric in metrics if metric not in there]
    if missing:
        raise ValueError(f"results has no metric {missing}; there are {there}.")


def failures(results: pd.DataFrame) -> dict[str, str]:
    """Return, by model, its name with how many of its runs failed, if some have."""
    # a single metric may be undefined; of a run that failed nothing is known
    is_lost = results.groupby(RUN, sort=False)["value"].count() == 0
    found = is_lost.groupby("model", sort=False).agg(["sum", "size"])
    found = found[found["sum"] > 0].drop([GOLD_LABEL, RESEEDED_LABEL], errors="ignore")
    return {name: f"{name} ({n} of {n_runs} runs failed)" for name, n, n_runs in found.itertuples()}


def name_failed(results: pd.DataFrame) -> pd.DataFrame:
    """Say in the name of each model how many of its runs failed."""
    return results.replace({"model": failures(results)})


def group_of_metric(metric: str) -> str:
    """Return the group of ``"group_accuracy[>50K, Female]"``."""
    return metric.removeprefix("group_accuracy[").removesuffix("]")
