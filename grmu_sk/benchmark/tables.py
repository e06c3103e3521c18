"""Results as the paper prints them, beside its own numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from string import Template
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from tabulate import LATEX_ESCAPE_RULES, tabulate

from ..comparison import unlearner_class
from ..metrics import AVERAGE_GAP_METRICS
from ..results import (
    AVERAGE_GAP,
    GOLD,
    MODEL,
    PRETRAIN,
    RESEEDED_GOLD,
    RETRAIN,
    Row,
    aligned,
    check_results,
    differences_to,
    gaps_of,
    rows_there,
)
from .paper import ABLATION, DATA, WEIGHT, Layout, paper_values, table_layout

LEVEL = 0.95
MIN_SEEDS = 3
N_DRAWS, SEED = 10_000, 0  # of the bootstrap
COST, KEPT_EPOCH = "cost", "kept_epoch"
VALUES = ["mean", "std", "delta_vs_gold", "delta_vs_pretrain"]
MISSING = "-"
COMMAND = "grmu "  # a note that begins so is for the shell
_SWITCHES = [name.removeprefix("no_") for name in ABLATION["switched_off"]]
_LATEX = LATEX_ESCAPE_RULES | {"±": r"$\pm$", "\N{MINUS SIGN}": "$-$", "|": "$|$"}
_MARKDOWN = {character: f"\\{character}" for character in "\\|*_`<>[]#"}
#: For each format: what is escaped, and how the best and the quoted stand out.
_STYLES: dict[str, tuple[dict[str, str], str, str]] = {
    "text": ({}, "*{}", "{}"),
    "markdown": (_MARKDOWN, "**{}**", "*{}*"),
    "latex": (_LATEX, "\\textbf{{{}}}", "\\textit{{{}}}"),
}


class _Line(NamedTuple):
    """A line of a table as text; ``bold`` are the places of the best."""

    cells: Sequence[str]
    bold: frozenset[int] = frozenset()
    is_quoted: bool = False
    starts_block: bool = False


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, built from results.

    Parameters
    ----------
    layout : Layout
        What the paper's table shows.
    datasets : tuple of str
        Data sets shown, one below the other.
    cells : DataFrame
        One row a data set, model and metric: dataset, method, reweight, variant, metric; ``mean``
        and ``std`` over seeds (divided by their number), ``delta_vs_gold`` (mean over seeds of
        the absolute difference) and ``delta_vs_pretrain`` (signed), ``ci_low`` and ``ci_high`` of
        the average gap, all in percent or percentage points (``cost`` in epochs of pretraining);
        ``n_seeds`` and ``n_diverged``; ``best``; and the paper's ``paper_mean``, ``paper_std``,
        ``paper_delta_vs_gold``, ``paper_delta_vs_pretrain``, ``paper_best``. NaN where there is
        no value.
    notes : tuple of str
        What has to be said below the table.
    n_expected : dict of str to int
        Seeds of each data set; empty if the paper's numbers stand alone.
    """

    layout: Layout
    datasets: tuple[str, ...]
    cells: pd.DataFrame
    notes: tuple[str, ...]
    n_expected: dict[str, int]

    def render(self, kind: str = "text") -> str:
        """Write the table.

        Parameters
        ----------
        kind : {"text", "markdown", "latex", "csv"}, default="text"
            How. ``"csv"`` is ``cells``, unrounded and without notes.

        Returns
        -------
        str
            Without a line break at the end.
        """
        if kind == "csv":
            return self.cells.to_csv(index=False, lineterminator="\n").rstrip("\n")
        n_names = 2 + len(_SWITCHES) * self.layout.is_ablation
        header = ["method", "reweight", *_SWITCHES][:n_names] + list(self.layout.metrics)
        if self.n_expected:
            header += ["avg gap", f"{LEVEL:.0%} CI", "epochs", "seeds"]
        elif not self.layout.is_fairness:
            header += ["avg gap"]
        lines = [_Line(header), *self._lines(len(header))]
        page = Template((DATA / f"table.{kind}").read_text(encoding="utf-8"))
        return page.substitute(
            title=_styled(_Line([self.layout.caption(self.datasets)]), kind)[0],
            columns="l" * n_names + "r" * (len(header) - n_names),
            table="\n".join(_written(kind, lines, n_names)),
            notes="\n".join(_written_note(kind, note) for note in self.notes),
        ).rstrip("\n")

    def _lines(self, n_columns: int) -> list[_Line]:
        lines = []
        for dataset in self.datasets:
            of_dataset = self.cells[self.cells["dataset"] == dataset]
            has_title = len(self.datasets) > 1
            if has_title:
                blank = [""] * (n_columns - 1)
                lines.append(_Line([dataset, *blank], is_quoted=True, starts_block=True))
            for number, block in enumerate(_in_blocks(rows_there(of_dataset), self.layout)):
                made = []
                for row in block:
                    cells = of_dataset[row.of(of_dataset)].set_index("metric")
                    if self.n_expected:
                        made.append(self._own_line(cells, row, self.n_expected[dataset]))
                    if cells["paper_mean"].notna().any():
                        made.append(self._paper_line(cells, row))
                if number or not has_title:
                    made[0] = made[0]._replace(starts_block=True)
                lines += made
        return lines

    def _own_line(self, cells: pd.DataFrame, row: Row, n_expected: int) -> _Line:
        reference = PRETRAIN if self.layout.is_fairness else GOLD
        shown = cells.copy()
        shown.loc[shown["n_seeds"] < 2, "std"] = np.nan  # one seed has none
        gap = shown.loc[AVERAGE_GAP]
        has_delta = self.layout.has_delta and row != reference
        texts = self._texts(shown, "", self.layout.has_std, has_delta)
        texts += ["gold", ""] if row == GOLD else [_cell(gap["mean"], gap["std"]), _interval(gap)]
        n_seeds = int(gap["n_seeds"])
        seeds = str(n_seeds) if n_seeds == n_expected else f"{n_seeds}/{n_expected}"
        texts += [_cell(shown.loc[COST, "mean"]), seeds]
        name = "gold_reseeded (ceiling)" if row == RESEEDED_GOLD else row.method
        head = [name, *self._switches(row)]
        return _Line([*head, *texts], self._bold(cells["best"], len(head)))

    def _paper_line(self, cells: pd.DataFrame, row: Row) -> _Line:
        gap = cells.loc[AVERAGE_GAP]
        texts, head = self._texts(cells, "paper_", True, True), [row.method, *self._switches(row)]
        gap_text = "gold" if row == GOLD else _cell(gap["paper_mean"], gap["paper_std"])
        if self.n_expected:
            head = ["  paper", *[""] * (len(head) - 1)]
            texts += ["" if gap_text in (MISSING, "gold") else gap_text, "", "", ""]
        elif not self.layout.is_fairness:
            texts.append(gap_text)
        bold = self._bold(cells["paper_best"], len(head))
        return _Line([*head, *texts], bold, is_quoted=bool(self.n_expected))

    def _texts(self, cells: pd.DataFrame, of: str, has_std: bool, has_delta: bool) -> list[str]:
        delta = f"{of}{_delta_of(self.layout)}"
        return [
            _cell(
                cell[f"{of}mean"],
                cell[f"{of}std"] if has_std else np.nan,
                cell[delta] if has_delta else np.nan,
                is_signed=self.layout.is_fairness,
            )
            for _, cell in cells.loc[list(self.layout.metrics)].iterrows()
        ]

    def _switches(self, row: Row) -> list[str]:
        switches = ["yes" if row.reweight else "no"]
        if self.layout.is_ablation:
            off = row.variant.removeprefix("no_")
            is_other = row == RESEEDED_GOLD
            switches += ["" if is_other else "no" if name == off else "yes" for name in _SWITCHES]
        return switches

    def _bold(self, best: pd.Series, n_before: int) -> frozenset[int]:
        columns = [*self.layout.metrics, AVERAGE_GAP]
        return frozenset(n_before + n for n, name in enumerate(columns) if best[name])


def make_table(
    number: int,
    results: pd.DataFrame | None = None,
    *,
    dataset: str | None = None,
    selection: str = "best",
) -> PaperTable:
    """Build one of the paper's tables from results, with the paper's numbers beside them.

    The rows are those of the paper, the gold standard trained once more from another seed (the
    ceiling: how far apart two honest answers are), and every other method among the results.

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
    method      reweight  retaining  unlearning  calibration    UA    GA  avg gap
    """
    layout = table_layout(number)
    datasets = (dataset,) if dataset is not None else layout.datasets
    runs: dict[str, pd.DataFrame] = {}
    if results is not None:
        there = runs_of(results, datasets, selection)
        is_cell = (there["forget"] == layout.forget) & np.isclose(there["ratio"], layout.ratio)
        cell = require_gold(there[is_cell], there, f"Table {number}", layout.forget, layout.ratio)
        runs = {name: with_deltas(cell[cell["dataset"] == name]) for name in datasets}
    elif unknown := set(datasets) - set(layout.datasets):
        raise ValueError(f"The paper's Table {number} has no data set {unknown}: give results.")
    values = pd.concat([_summary(runs.get(name), layout, name) for name in datasets])
    printed = paper_values(number)[["dataset", *MODEL, "metric", *VALUES]]
    printed = printed.rename(columns={name: f"paper_{name}" for name in VALUES})
    values = values.merge(printed, on=["dataset", *MODEL, "metric"], how="left")
    values = _with_best(values, layout)
    notes = ["The paper's own numbers: T. De Min et al., TMLR 2025.", *_mark_notes(layout)]
    if runs:
        notes = list(_notes(runs, values, layout, selection))
    n_expected = {name: of_name["seed"].nunique() for name, of_name in runs.items()}
    return PaperTable(layout, datasets, values, tuple(notes), n_expected)


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
) -> pd.DataFrame:
    """Return the lines that something is made of, if each of their data sets has its gold."""
    for name in (there if used.empty else used)["dataset"].unique():
        of_name = used[used["dataset"] == name]
        if not GOLD.of(of_name).any():
            seeds, selection = list(of_name["seed"]), there["selection"].iloc[0]
            held = there.loc[there["dataset"] == name, ["forget", "ratio"]].drop_duplicates()
            raise ValueError(
                f"{what} needs the gold standard of {name!r} (retrain + reweight) for forget set "
                f"{forget!r}, ratio {ratio:g}; runs there are for {held.to_numpy().tolist()}. Run: "
                f"{bench_command(name, forget, ratio, [GOLD][: len(seeds)], seeds, selection)}"
            )
    return used


def with_deltas(results: pd.DataFrame) -> pd.DataFrame:
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
    """
    table = results[results["metric"] != AVERAGE_GAP]
    to_gold, to_pretrain = differences_to(table, GOLD).abs(), differences_to(table, PRETRAIN)
    table = table.assign(delta_vs_gold=to_gold, delta_vs_pretrain=to_pretrain)
    return pd.concat([table, gaps_of(table)], ignore_index=True)


def bench_command(
    dataset: str,
    forget: str,
    ratio: float,
    rows: Sequence[Row],
    seeds: Iterable[int] = (),
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
    rows : sequence of Row
        What is wanted, none for the methods of the paper; a method is run without and with
        REWEIGHT.
    seeds : iterable of int, default=()
        Seeds that must be among those run; none for three.
    selection : {"best", "last"}, default="best"
        Which epoch of the gold standard is kept.

    Returns
    -------
    str
        For the shell.
    """
    always = (PRETRAIN.method, GOLD.method, RESEEDED_GOLD.method)  # run, whatever is asked for
    methods = dict.fromkeys(row.method for row in rows if row.method not in always)
    start = f"{WEIGHT['parameter']}="
    variants = dict.fromkeys(row.variant for row in rows)
    weights = [name.removeprefix(start) for name in variants if name.startswith(start)]
    data = "" if dataset == "digits" else "--data-root DATA "
    command = f"grmu bench --dataset {dataset} {data}--forget {forget} --ratios {ratio:g} "
    command += f"--methods {','.join(methods or ([GOLD.method] if rows else ['paper']))} "
    command += f"--seeds {max(seeds, default=2) + 1} "
    command += f"--selection {selection} " if selection != "best" else ""
    command += "--ablations " if any(name in ABLATION["switched_off"] for name in variants) else ""
    command += f"--lambdas {','.join(weights)} " if weights else ""
    return f"{command}--out RESULTS"


# the values -------------------------------------------------------------------------------------


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
        kind = unlearner_class(Row(method, False))
    except ValueError:
        return True
    return kind._needs_trained_net and kind._accepts_trained_net and kind._changes_net


def _rows(runs: pd.DataFrame | None, layout: Layout) -> list[Row]:
    """Return the rows: the paper's, the ceiling, then whatever else there is."""
    rows = list(layout.rows)
    if runs is None:
        return rows
    rows.insert(rows.index(GOLD) + 1 if GOLD in rows else len(rows), RESEEDED_GOLD)
    others = set(rows_there(runs)) - set(rows)
    if layout.is_ablation:
        variants = {"", *ABLATION["switched_off"]}
        others = {r for r in others if r.method == ABLATION["method"] and r.variant in variants}
    else:
        others = {row for row in others if not row.variant}
    return rows + sorted(others, key=lambda row: (row.reweight, row.method, row.variant))


def _in_blocks(rows: list[Row], layout: Layout) -> list[list[Row]]:
    """Separate models to compare with, methods without and with REWEIGHT, and other rows."""

    def block(row: Row) -> int:
        if layout.is_ablation:
            return 0
        if row not in layout.rows and row != RESEEDED_GOLD:
            return 3
        return 1 + row.reweight if is_approximate(row.method) and not layout.is_fairness else 0

    return [list(found) for _, found in groupby(sorted(rows, key=block), key=block)]


def _summary(runs: pd.DataFrame | None, layout: Layout, dataset: str) -> pd.DataFrame:
    lines = []
    for row in _rows(runs, layout):
        of_row = None if runs is None else runs[row.of(runs)]
        for metric in (*layout.metrics, AVERAGE_GAP, COST, KEPT_EPOCH):
            line: dict[str, Any] = {"dataset": dataset, "method": row.method}
            line |= {"reweight": int(row.reweight), "variant": row.variant, "metric": metric}
            line |= dict.fromkeys([*VALUES, "ci_low", "ci_high"], np.nan)
            line |= {"n_seeds": 0, "n_diverged": 0}
            if of_row is not None and (of_row["metric"] == metric).any():
                cell = of_row[of_row["metric"] == metric]
                values = cell["value"]
                line |= {"mean": values.mean(), "std": values.std(ddof=0)}
                line |= {name: cell[name].mean() for name in VALUES[2:]}
                line |= {"n_seeds": values.count(), "n_diverged": values.isna().sum()}
                if metric == AVERAGE_GAP:
                    line["ci_low"], line["ci_high"] = bootstrap_interval(values)
            lines.append(line)
    return pd.DataFrame(lines)


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


def _with_best(values: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    values = values.assign(best=False, paper_best=False)
    competes = values["method"].map({name: is_approximate(name) for name in set(values["method"])})
    # models that could not finish every run are not compared on the runs they finished
    diverged = values.groupby(["dataset", *MODEL])["n_diverged"].transform("max") > 0
    rivals = ["dataset", "metric", *([] if layout.is_ablation else ["reweight"])]
    for prefix, eligible in (("", competes & ~diverged), ("paper_", competes)):
        for (_, metric, *_), group in values[eligible].groupby(rivals):
            if metric == AVERAGE_GAP:
                score = group[f"{prefix}mean"]
            elif metric in layout.metrics and not layout.is_fairness:
                score = -group[f"{prefix}delta_vs_gold"]
            else:
                continue
            score = score.map(lambda value: float(f"{value:.1f}"))  # what looks equal is equal
            values.loc[group.index[score == score.max()], f"{prefix}best"] = True
    return values


def _delta_of(layout: Layout) -> str:
    return "delta_vs_pretrain" if layout.is_fairness else "delta_vs_gold"


# the text of a cell -----------------------------------------------------------------------------


def _cell(
    mean: float, std: float = np.nan, delta: float = np.nan, *, is_signed: bool = False
) -> str:
    if np.isnan(mean):
        return MISSING
    text = f"{mean:.1f}" + ("" if np.isnan(std) else f" ±{std:.1f}")
    if np.isnan(delta):
        return text
    return f"{text} ({_signed(delta) if is_signed else f'{delta:.1f}'})"


def _signed(delta: float) -> str:
    text = f"{delta:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _range(low: float, high: float) -> str:
    return f"[{_signed(low).removeprefix('+')}, {_signed(high).removeprefix('+')}]"


def _interval(gap: pd.Series) -> str:
    if gap["n_seeds"] < MIN_SEEDS:
        return f"< {MIN_SEEDS} seeds" if gap["n_seeds"] else MISSING
    return _range(gap["ci_low"], gap["ci_high"])


# what has to be said ----------------------------------------------------------------------------


def _notes(
    runs: dict[str, pd.DataFrame], values: pd.DataFrame, layout: Layout, selection: str
) -> Iterator[str]:
    kept = "its best validation epoch" if selection == "best" else "its last epoch"
    yield (
        f"Gold standard: retrain with reweight, {kept}. avg gap: 100 less the mean over "
        f"{', '.join(AVERAGE_GAP_METRICS)} of the delta to it, seed by seed (100: equal). ±: "
        "standard deviation over seeds, divided by their number. epochs: cost of the run in epochs "
        "of pretraining. The row gold_reseeded is the gold standard with another seed: nothing can "
        "be expected above it."
    )
    n_seeds = values.loc[(values["metric"] == AVERAGE_GAP) & (values["n_seeds"] > 0), "n_seeds"]
    few = f"; with fewer than {MIN_SEEDS} seeds it cannot be resolved"
    some = "; with so few seeds it spans about the worst to the best of them"
    yield (
        f"{LEVEL:.0%} CI: percentile bootstrap of the average gap over seeds, {N_DRAWS} draws, "
        f"seed {SEED}{few if n_seeds.min() < MIN_SEEDS else some if n_seeds.min() < 5 else ''}."
    )
    yield from _mark_notes(layout)
    if layout.is_fairness:
        yield "Bold, or *: highest average gap of the approximate methods, by reweight."
    if values["paper_mean"].notna().any():
        yield f"paper: as printed in Table {layout.number} of T. De Min et al., TMLR 2025."
    for dataset, of_dataset in runs.items():
        prefix = f"{dataset}: " if len(runs) > 1 else ""
        own = values[values["dataset"] == dataset]
        for note in _notes_on(of_dataset, own, layout, dataset, selection):
            yield note if note.startswith(COMMAND) else prefix + note


def _mark_notes(layout: Layout) -> Iterator[str]:
    if layout.is_fairness:
        yield "In brackets: change from pretrain, in points."
        return
    if layout.has_delta:
        yield "In brackets: delta to the gold standard, in points."
    who = f"all rows of {ABLATION['method'].upper()}"
    who = who if layout.is_ablation else "approximate methods, by reweight"
    yield f"Bold, or *: closest to the gold standard among {who}; equal as printed is equal."


def _notes_on(
    runs: pd.DataFrame, values: pd.DataFrame, layout: Layout, dataset: str, selection: str
) -> Iterator[str]:
    """Yield what is special about the runs of one data set."""
    cell = (dataset, layout.forget, layout.ratio)
    if runs.empty:
        yield "Missing: all runs. To get them:"
        yield bench_command(*cell, layout.rows, [], selection)
        return
    seeds = sorted(runs["seed"].unique())
    kept = runs[GOLD.of(runs) & (runs["metric"] == KEPT_EPOCH)].set_index("seed")["value"]
    epochs = [f"{f'{kept[s]:g}' if s in kept.index else MISSING} (seed {s})" for s in seeds]
    yield f"Epoch kept by the gold standard: {', '.join(epochs)}."
    yield from _without_value(runs, layout)
    yield from _ties(runs, values, layout)
    yield from missing_notes(runs, [*_rows(runs, layout), GOLD], cell, seeds, selection)


def _without_value(runs: pd.DataFrame, layout: Layout) -> Iterator[str]:
    """Yield which runs diverged, and which metrics of a run are undefined."""
    needed = list(dict.fromkeys((*layout.metrics, *AVERAGE_GAP_METRICS)))
    for row in rows_there(runs):
        of_row = runs[row.of(runs)].pivot_table(
            values="value", index="seed", columns="metric", dropna=False
        )
        there = of_row.reindex(columns=needed)
        # a single metric may be undefined; of a run that diverged nothing is known
        diverged = there.index[there.isna().all(axis=1)]
        if len(diverged):
            yield (
                f"{row.label} gave no finite loss with seed {', '.join(map(str, diverged))}: its "
                "means are over the other seeds, and it is not marked."
            )
        for metric, values in there.drop(index=diverged).items():
            if values.isna().any():
                seeds = ", ".join(map(str, values.index[values.isna()]))
                yield f"{metric} of {row.label} is undefined with seed {seeds}."


def _ties(runs: pd.DataFrame, values: pd.DataFrame, layout: Layout) -> Iterator[str]:
    """Yield which models the seeds cannot tell from the best average gap."""
    gaps = values[(values["metric"] == AVERAGE_GAP) & values["best"]]
    if gaps.empty:
        return
    best = rows_there(gaps.loc[[gaps["mean"].idxmax()]])[0]
    of_gap = runs[runs["metric"] == AVERAGE_GAP]
    by_seed = {row: of_gap[row.of(of_gap)].set_index("seed")["value"] for row in rows_there(of_gap)}
    found, n_pairs = [], 0
    for row in _rows(runs, layout):
        if row == best or row not in by_seed or not is_approximate(row.method):
            continue
        difference = (by_seed[best] - by_seed[row]).dropna()
        n_pairs = max(n_pairs, len(difference))
        low, high = bootstrap_interval(difference)
        if low <= 0 <= high:
            found.append(f"{row.label} ({difference.mean():.1f} points {_range(low, high)})")
    intro = f"Highest average gap among approximate methods: {best.label}"
    if n_pairs < MIN_SEEDS:
        yield f"{intro}; too few common seeds ({n_pairs}) to tell it from the others."
    elif found:
        yield f"{intro}; not told apart from it by the same bootstrap, paired: {', '.join(found)}."
    else:
        yield f"{intro}, told apart from all others by the same bootstrap, paired."


def missing_notes(
    runs: pd.DataFrame,
    rows: Sequence[Row],
    cell: tuple[str, str, float],
    seeds: list[int],
    selection: str,
) -> Iterator[str]:
    """Yield which of some rows have not run with all seeds, and the command for them."""
    lacking: dict[Row, list[int]] = {}
    for row in dict.fromkeys(rows):
        there = set(runs.loc[row.of(runs), "seed"])
        if absent := [seed for seed in seeds if seed not in there]:
            lacking[row] = absent
    if lacking:
        named = [
            row.label + ("" if absent == seeds else f" (seed {', '.join(map(str, absent))})")
            for row, absent in lacking.items()
        ]
        yield f"Missing: {'; '.join(named)}. To get them:"
        yield bench_command(*cell, list(lacking), seeds, selection)


# formats ----------------------------------------------------------------------------------------


def _styled(line: _Line, kind: str) -> list[str]:
    escapes, best, quoted = _STYLES[kind]
    cells = ["".join(escapes.get(letter, letter) for letter in text) for text in line.cells]
    for place, text in enumerate(cells):
        if place in line.bold:
            cells[place] = best.format(text)
        elif line.is_quoted and text:
            cells[place] = quoted.format(text if kind == "text" else text.strip())
    return cells


def _written(kind: str, lines: list[_Line], n_left: int) -> list[str]:
    """Return the lines of a table as text, with a rule before each block."""
    grid = [_styled(line, kind) for line in lines]
    if kind == "markdown":
        sides = ["left"] * n_left + ["right"] * (len(grid[0]) - n_left)
        options: dict[str, Any] = {"tablefmt": "pipe", "disable_numparse": True}
        return tabulate(grid[1:], grid[0], colalign=sides, **options).splitlines()
    if kind == "text":
        rows = aligned(grid, n_left)
        rule = "-" * max(map(len, rows))
    else:
        rows, rule = [f"{' & '.join(cells)} \\\\" for cells in grid], "\\midrule"
    written = []
    for line, row in zip(lines, rows, strict=True):
        written += [rule, row] if line.starts_block else [row]
    return [*written, rule] if kind == "text" else written


def _written_note(kind: str, note: str) -> str:
    (text,), is_command = _styled(_Line([note]), kind), note.startswith(COMMAND)
    if kind == "latex":
        dashed = text.replace("--", "-{}-")  # two hyphens would become a dash
        shown = f"\\texttt{{{dashed}}}" if is_command else text
        return f"\\par\\smallskip\\footnotesize {shown}"
    if kind == "markdown":
        return f"- `{note}`" if is_command else f"- {text}"
    wrapped = textwrap.fill(note, 100, break_long_words=False, break_on_hyphens=False)
    return f"  {note}" if is_command else wrapped
