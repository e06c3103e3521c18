"""Results as the paper prints them, beside its own numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats
from tabulate import tabulate

from ..comparison import goes_on, unlearner_class
from ..metrics import AVERAGE_GAP_METRICS
from ..results import (
    AVERAGE_GAP,
    GOLD,
    MODEL,
    PRETRAIN,
    RESEEDED_GOLD,
    RETRAIN,
    Row,
    check_results,
    differences_to,
    gaps_of,
    rows_there,
)
from .paper import ABLATION, Layout, paper_values, table_layout

LEVEL = 0.95
MIN_SEEDS = 3
N_DRAWS, SEED = 10_000, 0  # of the bootstrap
COST = "cost"
VALUES = ["mean", "std", "delta"]
MISSING = "-"
FORMATS = {"text": "simple", "markdown": "pipe", "latex": "latex_booktabs"}


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, built from results.

    Parameters
    ----------
    title : str
        What it shows.
    cells : DataFrame
        One row a data set, model and metric: dataset, method, reweight, variant, metric; ``mean``
        and ``std`` over seeds (divided by their number); ``delta``, the mean over seeds of the
        absolute difference to the gold standard (Table 18: of the signed one to the pretrained
        model); ``ci_low`` and ``ci_high`` of the average gap, all in percent or percentage points
        (``cost`` in epochs of pretraining); ``n_seeds`` and ``n_lost``; ``best``; and the paper's
        ``paper_mean``, ``paper_std``, ``paper_delta`` and ``paper_best``. NaN where there is no
        value.
    lines : list of dict of str to str
        The texts of each line, by column.
    notes : tuple of str
        What has to be said below the table.
    """

    title: str
    cells: pd.DataFrame
    lines: list[dict[str, str]]
    notes: tuple[str, ...]

    def render(self, kind: str = "text") -> str:
        """Write the table.

        Parameters
        ----------
        kind : {"text", "markdown", "latex", "csv"}, default="text"
            How. ``"csv"`` is ``cells``, unrounded and without notes; in LaTeX, title and notes
            are comments.

        Returns
        -------
        str
            Without a line break at the end.
        """
        if kind == "csv":
            return self.cells.to_csv(index=False, lineterminator="\n").rstrip("\n")
        sides = {"stralign": "right", "colalign": ["left", "left"]}
        table = tabulate(self.lines, "keys", FORMATS[kind], disable_numparse=True, **sides)
        comment = "% " if kind == "latex" else ""
        title, *notes = (comment + text for text in (self.title, *self.notes))
        return "\n\n".join([title, table, *notes])


def make_table(
    number: int,
    results: pd.DataFrame | None = None,
    *,
    dataset: str | None = None,
    selection: str = "best",
) -> PaperTable:
    """Build one of the paper's tables from results, with the paper's numbers beside them.

    The rows are those of the paper, the gold standard trained once more from another seed (the
    ceiling: how far apart two retrainings are), and every other method among the results.

    Parameters
    ----------
    number : int
        Table, 1 to 18.
    results : DataFrame or None, default=None
        As :func:`grmu_sk.results.read_results` returns them. None gives the paper's own
        table.
    dataset : str or None, default=None
        Data set to show in the layout of this table; the paper's numbers stand beside it if it is
        among those of the paper's table. None takes the data sets of the paper's table.
    selection : {"best", "last"}, default="best"
        Gold standard of the best validation epoch, as the paper's, or of the last epoch.

    Returns
    -------
    PaperTable
        The table.

    Raises
    ------
    TypeError
        If ``results`` is no DataFrame.
    ValueError
        If there is no such table, or the results are malformed, lack the data set, its runs for
        this table, or a gold standard.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.benchmark import make_table
    >>> print(make_table(4).render().splitlines()[2])
    data set    method                 UA    GA    avg gap
    """
    layout = table_layout(number)
    datasets = layout.datasets if dataset is None else (dataset,)
    printed = paper_values(number)
    # the one table of fairness is about what unlearning changed
    delta = "delta_vs_pretrain" if layout.is_fairness else "delta_vs_gold"
    printed = printed.rename(columns={delta: "delta"})[["dataset", *MODEL, "metric", *VALUES]]
    if results is None:
        if unknown := set(datasets) - set(layout.datasets):
            raise ValueError(f"The paper's Table {number} has no {unknown}: give --results.")
        runs = printed.iloc[:0].rename(columns={"mean": "value"})
    else:
        there = runs_of(results, datasets, selection)
        is_cell = (there["forget"] == layout.forget) & np.isclose(there["ratio"], layout.ratio)
        require_gold(there[is_cell], there, f"Table {number}", layout.forget, layout.ratio)
        runs = _with_deltas(there[is_cell], layout)
    cells = pd.concat([_summary(runs[runs["dataset"] == d], layout, d) for d in datasets])
    printed = printed.rename(columns={name: f"paper_{name}" for name in VALUES})
    cells = cells.merge(printed, on=["dataset", *MODEL, "metric"], how="left")
    _mark_best(cells)
    notes = ["The paper's numbers: T. De Min et al., TMLR 2025."]
    if results is not None:
        notes = [*_explanations(layout, selection), *notes, *_gaps_in(runs, layout, datasets)]
    n_seeds = runs.groupby("dataset")["seed"].nunique().to_dict() if len(runs) else {}
    return PaperTable(layout.caption(datasets), cells, list(_lines(cells, n_seeds)), tuple(notes))


# what tables and figures ask of results -----------------------------------------------------------


def runs_of(results: pd.DataFrame, datasets: Sequence[str], selection: str) -> pd.DataFrame:
    """Return the lines of some data sets, of which at least one must be there, and a selection."""
    checked = check_results(results)
    found = checked[checked["dataset"].isin(datasets) & (checked["selection"] == selection)]
    if found.empty:
        held = checked[["dataset", "selection"]].drop_duplicates().to_numpy().tolist()
        raise ValueError(
            f"The results hold no data set {' or '.join(datasets)} with selection {selection!r}; "
            f"they hold {held}. Choose one with --dataset and --selection."
        )
    return found


def require_gold(
    used: pd.DataFrame, there: pd.DataFrame, what: str, forget: str, ratio: float
) -> None:
    """Refuse what something is made of if one of its data sets has no gold standard."""
    for name in (there if used.empty else used)["dataset"].unique():
        of_name = used[used["dataset"] == name]
        if not GOLD.of(of_name).any():
            raise ValueError(
                f"{what} needs the gold standard of {name!r} (retrain + reweight) for forget set "
                f"{forget!r}, ratio {ratio:g}: 'grmu bench' trains it."
            )


def with_gaps(results: pd.DataFrame) -> pd.DataFrame:
    r"""Add each run's average gap.

    It is computed seed by seed, against the gold standard (retraining with REWEIGHT) of the same
    data set, forget set, ratio, seed and selection:

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
        The results with rows of the metric ``AVG_GAP`` of each run, 100 for the gold standard
        itself, NaN where a run lacks one of the six. An average gap among the results is replaced.
    """
    table = results[results["metric"] != AVERAGE_GAP]
    return pd.concat([table, gaps_of(table)], ignore_index=True)


def is_approximate(method: str) -> bool:
    """Tell whether a method changes the trained model instead of training a new one.

    Parameters
    ----------
    method : str
        Name in the registry or outside of it.

    Returns
    -------
    bool
        True for methods that the registry does not know; False for what changes nothing.
    """
    if method in (PRETRAIN.method, RETRAIN.method, RESEEDED_GOLD.method):
        return False
    try:
        row = Row(method, False)
        return goes_on(row) and unlearner_class(row)._changes_net
    except ValueError:
        return True


def missing_notes(
    runs: pd.DataFrame, rows: Iterable[Row], cell: tuple[str, str, float], seeds: Sequence[int]
) -> list[str]:
    """Return a note if some rows have not run with all seeds, for 'grmu bench' to run them."""
    named = []
    for row in rows:
        absent = [seed for seed in seeds if seed not in set(runs.loc[row.of(runs), "seed"])]
        if absent:
            which = "" if absent == list(seeds) else f" (seed {', '.join(map(str, absent))})"
            named.append(f"{row.label}{which}")
    dataset, forget, ratio = cell
    return [f"Missing, {dataset}, {forget}, ratio {ratio:g}: {'; '.join(named)}."] * bool(named)


# the values -------------------------------------------------------------------------------------


def _with_deltas(runs: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    """Add average gaps, and how far each line is from what the table compares it with."""
    reference = PRETRAIN if layout.is_fairness else GOLD
    delta = differences_to(runs, reference).mask(reference.of(runs))
    return with_gaps(runs.assign(delta=delta if layout.is_fairness else delta.abs()))


def _rows(runs: pd.DataFrame, layout: Layout) -> list[Row]:
    """Return the rows: the paper's, the ceiling, and whatever else there is; exact models first."""
    rows, there = list(layout.rows), rows_there(runs)
    if there:
        rows.append(RESEEDED_GOLD)
    others = {row for row in there if not row.variant and not layout.is_ablation}
    if layout.is_ablation:
        variants = {"", *ABLATION["switched_off"]}
        others = {r for r in there if r.method == ABLATION["method"] and r.variant in variants}
    rows += sorted(others - set(rows), key=lambda row: (row.reweight, row.method, row.variant))
    return sorted(rows, key=lambda row: is_approximate(row.method))


def _summary(runs: pd.DataFrame, layout: Layout, dataset: str) -> pd.DataFrame:
    """Return a line for each row and metric of a data set, run or not."""
    keys = [*MODEL, "metric"]
    values = runs.groupby(keys)["value"]
    cells = pd.DataFrame(
        {
            "mean": values.mean(),
            "std": values.std(ddof=0).where(values.count() > 1),  # one seed has none
            "delta": runs.groupby(keys)["delta"].mean(),
            "n_seeds": values.count(),
            "n_lost": values.size() - values.count(),
        }
    ).assign(ci_low=np.nan, ci_high=np.nan)
    for key, of_model in runs[runs["metric"] == AVERAGE_GAP].groupby(keys)["value"]:
        cells.loc[key, ["ci_low", "ci_high"]] = bootstrap_interval(of_model)
    metrics = [*layout.metrics, AVERAGE_GAP, COST]
    wanted = [(*row.key, metric) for row in _rows(runs, layout) for metric in metrics]
    cells = cells.reindex(pd.MultiIndex.from_tuples(wanted, names=keys)).reset_index()
    cells.insert(0, "dataset", dataset)
    return cells.fillna({"n_seeds": 0, "n_lost": 0}).astype({"n_seeds": int, "n_lost": int})


def bootstrap_interval(values: pd.Series) -> tuple[float, float]:
    """Return the percentile bootstrap interval [1]_ of a mean over seeds.

    Parameters
    ----------
    values : Series
        One number a seed. NaN stands for a run that gave none, and is left out.

    Returns
    -------
    low, high : float
        Both NaN with fewer than three values, of which no interval can be resolved. With three
        there are ten different draws only: the interval then says little more than the smallest
        and the largest of them.

    References
    ----------
    .. [1] B. Efron and R. J. Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993.
    """
    sample = values.dropna().to_numpy()
    if len(sample) < MIN_SEEDS:
        return float("nan"), float("nan")
    found = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=N_DRAWS,
        confidence_level=LEVEL,
        method="percentile",
        random_state=np.random.default_rng(SEED),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _mark_best(cells: pd.DataFrame) -> None:
    """Mark the highest average gaps of approximate methods, without and with REWEIGHT each."""
    competes = (cells["metric"] == AVERAGE_GAP) & cells["method"].map(is_approximate)
    # a model that could not finish every run is not compared on the runs it finished
    for prefix, rivals in (("", competes & (cells["n_lost"] == 0)), ("paper_", competes)):
        gaps = cells[rivals & cells[f"{prefix}mean"].notna()]
        shown = gaps[f"{prefix}mean"].map("{:.1f}".format).astype(float)  # equal as printed
        highest = shown.groupby([gaps["dataset"], gaps["reweight"]]).transform("max")
        cells[f"{prefix}best"] = cells.index.isin(gaps.index[shown == highest])


# the text ---------------------------------------------------------------------------------------


def _lines(cells: pd.DataFrame, n_seeds: dict[str, int]) -> Iterator[dict[str, str]]:
    for dataset, of_dataset in cells.groupby("dataset", sort=False):
        for row in rows_there(of_dataset):
            of_row = of_dataset[row.of(of_dataset)].set_index("metric")
            head = {"data set": str(dataset), "method": row.title}
            if n_seeds:
                yield head | _texts(of_row, "") | _about_runs(of_row, n_seeds.get(str(dataset), 0))
                head = {"data set": "", "method": "(paper)"}
            if of_row["paper_mean"].notna().any():
                yield head | _texts(of_row, "paper_")


def _texts(cells: pd.DataFrame, prefix: str) -> dict[str, str]:
    """Return the text of each metric: mean, deviation, and delta in brackets."""
    texts = {}
    for metric, cell in cells.drop(COST).iterrows():
        mean, std, delta = (cell[f"{prefix}{name}"] for name in VALUES)
        text = MISSING if np.isnan(mean) else f"{'*' * cell[f'{prefix}best']}{mean:.1f}"
        text += "" if np.isnan(std) else f" ±{std:.1f}"
        text += "" if np.isnan(delta) else f" ({delta:.1f})"
        texts["avg gap" if metric == AVERAGE_GAP else str(metric)] = text
    return texts


def _about_runs(cells: pd.DataFrame, n_expected: int) -> dict[str, str]:
    gap, cost = cells.loc[AVERAGE_GAP], cells.loc[COST, "mean"]
    interval = f"[{gap['ci_low']:.1f}, {gap['ci_high']:.1f}]"
    if gap["n_seeds"] < MIN_SEEDS:
        interval = f"< {MIN_SEEDS} seeds" if gap["n_seeds"] else MISSING
    return {
        f"{LEVEL:.0%} CI": interval,
        "epochs": MISSING if np.isnan(cost) else f"{cost:.1f}",
        "seeds": f"{gap['n_seeds']}/{n_expected}",
    }


def _explanations(layout: Layout, selection: str) -> list[str]:
    brackets = "change from pretrain" if layout.is_fairness else "distance to the gold standard"
    return [
        f"Gold standard: retrain + reweight, its {selection} epoch"
        f"{' on validation rows' if selection == 'best' else ''}. In brackets: {brackets}, in "
        "points, mean over seeds. ±: standard deviation over seeds, divided by their number.",
        f"avg gap: 100 less the mean distance to the gold standard over "
        f"{', '.join(AVERAGE_GAP_METRICS)}, seed by seed; nothing can be expected above the gold "
        "standard of another seed. *: the highest of the approximate methods, with and without "
        f"reweight. {LEVEL:.0%} CI: percentile bootstrap of it over seeds, {N_DRAWS} draws; of a "
        "few seeds it spans about the worst to the best. epochs: cost in epochs of pretraining.",
    ]


def _gaps_in(runs: pd.DataFrame, layout: Layout, datasets: Sequence[str]) -> Iterator[str]:
    """Yield which runs gave no value, and which are missing."""
    shown = runs["metric"].isin([*layout.metrics, *AVERAGE_GAP_METRICS, AVERAGE_GAP])
    lost = runs[shown & runs["value"].isna()]
    for (dataset, model, seed), metrics in lost.groupby(["dataset", "model", "seed"])["metric"]:
        names = ", ".join(metrics)
        yield f"Left out of means: {model} on {dataset}, seed {seed}, gave no {names}."
    for dataset in datasets:
        of_dataset = runs[runs["dataset"] == dataset]
        seeds = sorted(of_dataset["seed"].unique().tolist()) or [0, 1, 2]
        rows = dict.fromkeys([*_rows(of_dataset, layout), GOLD])
        cell = (dataset, layout.forget, layout.ratio)
        yield from missing_notes(of_dataset, rows, cell, seeds)
