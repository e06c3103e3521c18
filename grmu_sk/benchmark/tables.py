"""Results as the paper prints them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..utils.arguments import check_types
from ..utils.validation import check_unique_columns
from .paper import (
    APPROXIMATE,
    AVERAGE_GAP,
    GOLD,
    PRETRAIN,
    RESEEDED_GOLD,
    Layout,
    Model,
    paper_values,
    table_layout,
)
from .results import (
    MODEL,
    add_deltas,
    bench_command,
    check_gold,
    check_results,
    rows_of,
    select_runs,
)
from .statistics import (
    LEVEL,
    MIN_SEEDS,
    N_DRAWS,
    SEED,
    bootstrap_interval,
    compare_paired,
)
from .table_formats import COMMAND, Row, TextTable

TABLE_METRICS = ("RA", "UA", "TA", "MIA", "EO", "GA")
COST, KEPT_EPOCH = "cost", "kept_epoch"
MISSING = "-"
_KEYS = ["dataset", *MODEL, "metric"]
_SWITCHES = ("retaining", "unlearning", "calibration")


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
    has_results : bool
        Whether there are results beside the paper's numbers.
    n_expected : mapping of str to int
        Seeds of each data set.
    """

    layout: Layout
    datasets: tuple[str, ...]
    cells: pd.DataFrame
    notes: tuple[str, ...]
    has_results: bool
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

        Raises
        ------
        ValueError
            If the format is unknown.
        """
        if kind == "csv":
            return self.cells.to_csv(index=False, lineterminator="\n").rstrip("\n")
        return self.as_text_table().render(kind)

    def as_text_table(self) -> TextTable:
        """Round and arrange the values.

        Returns
        -------
        TextTable
            Rows and columns of text.
        """
        names = ["method", "reweight", *(_SWITCHES if self.layout.is_ablation else ())]
        header = [*names, *self.layout.metrics]
        if self.has_results:
            header += ["avg gap", f"{LEVEL:.0%} CI", "epochs", "seeds"]
        elif not self.layout.is_fairness:
            header += ["avg gap"]
        return TextTable(
            caption=self.layout.caption(self.datasets),
            header=header,
            blocks=list(self._blocks()),
            notes=self.notes,
            n_left=len(names),
        )

    def _blocks(self) -> Iterator[tuple[str, list[Row]]]:
        for dataset in self.datasets:
            of_dataset = self.cells[self.cells["dataset"] == dataset]
            models = [Model(*key) for key in of_dataset[MODEL].drop_duplicates().to_numpy()]
            title = dataset if len(self.datasets) > 1 else ""
            for place, block in enumerate(_in_blocks(models, self.layout)):
                rows = [row for model in block for row in self._rows(of_dataset, dataset, model)]
                yield title if place == 0 else "", rows

    def _rows(self, of_dataset: pd.DataFrame, dataset: str, model: Model) -> Iterator[Row]:
        cells = of_dataset[rows_of(of_dataset, model)].set_index("metric")
        is_printed = bool(cells["paper_mean"].notna().any())
        if self.has_results:
            yield self._own_row(cells, model, self.n_expected[dataset])
        if is_printed:
            yield self._paper_row(cells, model)

    def _own_row(self, cells: pd.DataFrame, model: Model, n_expected: int) -> Row:
        layout = self.layout
        reference = PRETRAIN if layout.is_fairness else GOLD
        texts = [
            _cell(
                cell["mean"],
                _deviation(cell) if layout.has_std else np.nan,
                np.nan if model == reference or not layout.has_delta else cell[_delta_of(layout)],
                is_signed=layout.is_fairness,
            )
            for _, cell in cells.loc[list(layout.metrics)].iterrows()
        ]
        gap = cells.loc[AVERAGE_GAP]
        n_seeds = int(gap["n_seeds"])
        texts += ["gold", ""] if model == GOLD else [_gap_cell(gap), _interval_cell(gap)]
        texts += [
            _cell(cells.loc[COST, "mean"]),
            str(n_seeds) if n_seeds == n_expected else f"{n_seeds}/{n_expected}",
        ]
        name = "gold_reseeded (ceiling)" if model == RESEEDED_GOLD else model.method
        head = [name, *self._switches(model)]
        return Row([*head, *texts], self._bold(cells["best"], len(head)))

    def _paper_row(self, cells: pd.DataFrame, model: Model) -> Row:
        layout = self.layout
        texts = [
            _cell(
                cell["paper_mean"],
                cell["paper_std"],
                cell[f"paper_{_delta_of(layout)}"],
                is_signed=layout.is_fairness,
            )
            for _, cell in cells.loc[list(layout.metrics)].iterrows()
        ]
        gap = cells.loc[AVERAGE_GAP]
        gap_text = "gold" if model == GOLD else _cell(gap["paper_mean"], gap["paper_std"])
        head = [model.method, *self._switches(model)]
        if self.has_results:
            head = ["  paper", *[""] * (len(head) - 1)]
            gap_text = "" if gap_text in (MISSING, "gold") else gap_text
            texts += [gap_text, "", "", ""]
        elif not layout.is_fairness:
            texts.append(gap_text)
        bold = self._bold(cells["paper_best"], len(head))
        return Row([*head, *texts], bold, is_quoted=self.has_results)

    def _switches(self, model: Model) -> list[str]:
        switches = ["yes" if model.reweight else "no"]
        if self.layout.is_ablation and model != RESEEDED_GOLD:
            off = model.variant.removeprefix("no_")
            switches += ["no" if name == off else "yes" for name in _SWITCHES]
        elif self.layout.is_ablation:
            switches += [""] * len(_SWITCHES)
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
    n_draws: int = N_DRAWS,
    seed: int = SEED,
) -> PaperTable:
    """Build one of the paper's tables from results, with the paper's numbers beside them.

    The rows are those of the paper, the gold standard trained once more from another seed (the
    ceiling: how far apart two honest answers are), and every other method among the results.

    Parameters
    ----------
    number : int
        Table, 1 to 18.
    results : DataFrame or None, default=None
        As :func:`grmu_sk.benchmark.read_results` returns them. None gives the paper's own
        table.
    dataset : str or None, default=None
        Data set to show in the layout of this table; the paper's numbers stand beside it if it is
        among those of the paper's table. None takes the data sets of the paper's table.
    selection : {"best", "last"}, default="best"
        Gold standard of the best validation epoch, as the paper's, or of the last epoch.
    n_draws : int, default=10000
        Draws of the bootstrap.
    seed : int, default=0
        Seed of the bootstrap.

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
    >>> from grmu_sk.benchmark.tables import make_table
    >>> print(make_table(4).render().splitlines()[2])
    method  reweight  retaining  unlearning  calibration    UA    GA  avg gap
    """
    check_types(make_table, locals())
    layout = table_layout(number)
    datasets = (dataset,) if dataset is not None else layout.datasets
    if results is None:
        _check_is_printed(layout, datasets)
        values = pd.concat([_summary(None, layout, name, n_draws, seed) for name in datasets])
        values = _with_best(_beside_paper(values, layout), layout)
        notes = ("The paper's own numbers: T. De Min et al., TMLR 2025.", *_mark_notes(layout))
        return PaperTable(layout, datasets, values, notes, False, {})
    checked = check_results(results)
    runs = {
        name: select_runs(
            checked, dataset=name, selection=selection, forget=layout.forget, ratio=layout.ratio
        )
        for name in datasets
    }
    _check_runs(runs, checked, layout, selection)
    with_deltas = {name: add_deltas(of_name) for name, of_name in runs.items()}
    summaries = [
        _summary(of_name, layout, name, n_draws, seed) for name, of_name in with_deltas.items()
    ]
    values = _with_best(_beside_paper(pd.concat(summaries), layout), layout)
    notes = tuple(_notes(with_deltas, values, layout, selection, n_draws, seed))
    n_expected = {name: of_name["seed"].nunique() for name, of_name in runs.items()}
    return PaperTable(layout, datasets, values, notes, True, n_expected)


def is_approximate(method: str) -> bool:
    """Tell whether a method changes the trained model instead of training a new one.

    Parameters
    ----------
    method : str
        Name in the registry or outside of it.

    Returns
    -------
    bool
        True for methods that the registry does not know; False for ``no_op``, which changes
        nothing.
    """
    if method in APPROXIMATE:
        return True
    if method in (PRETRAIN.method, GOLD.method, RESEEDED_GOLD.method, "no_op", "group_dro"):
        return False
    from ..unlearners import all_unlearners

    unlearner = dict(all_unlearners()).get(method)
    if unlearner is None:
        return True
    return unlearner._needs_trained_net and unlearner._accepts_trained_net


def _check_is_printed(layout: Layout, datasets: tuple[str, ...]) -> None:
    unknown = [name for name in datasets if name not in layout.datasets]
    if unknown:
        raise ValueError(
            f"The paper's Table {layout.number} has no data set {unknown[0]!r}, only "
            f"{', '.join(layout.datasets)}: for another one, results are needed."
        )


def _check_runs(
    runs: dict[str, pd.DataFrame], results: pd.DataFrame, layout: Layout, selection: str
) -> None:
    there = sorted(results["dataset"].unique())
    found = [name for name, of_name in runs.items() if not of_name.empty]
    if not found:
        known = [name for name in runs if name in there]
        if not known:
            wanted = " or ".join(f"'{name}'" for name in runs)
            raise ValueError(
                f"The results hold no data set {wanted}; they hold {', '.join(there)}. Choose one "
                "with --dataset (dataset=...), or run the benchmark on it first."
            )
        columns = ["forget", "ratio", "selection"]
        others = results.loc[results["dataset"] == known[0], columns].drop_duplicates()
        listed = "; ".join(f"{f}, {r:g}, {s}" for f, r, s in others.itertuples(index=False))
        command = bench_command(known[0], layout.forget, layout.ratio, [], [], selection)
        raise ValueError(
            f"Table {layout.number} needs forget set '{layout.forget}', ratio {layout.ratio:g}, "
            f"selection '{selection}', and of '{known[0]}' the results hold (forget set, ratio, "
            f"selection): {listed}. Run: {command}"
        )
    for name in found:
        check_gold(runs[name], dataset=name)


def _models(runs: pd.DataFrame | None, layout: Layout) -> list[Model]:
    """Return the rows: the paper's, the ceiling, then whatever else there is."""
    models = list(layout.models)
    if runs is None:
        return models
    place = models.index(GOLD) + 1 if GOLD in models else len(models)
    models.insert(place, RESEEDED_GOLD)
    there = {Model(*key) for key in runs[MODEL].drop_duplicates().itertuples(index=False)}
    others = sorted(there - set(models), key=lambda m: (m.reweight, m.method, m.variant))
    if layout.is_ablation:
        names = {model.method for model in layout.models}
        is_shown = ("", *(f"no_{name}" for name in _SWITCHES))
        return models + [m for m in others if m.method in names and m.variant in is_shown]
    return models + [model for model in others if model.variant == ""]


def _in_blocks(models: list[Model], layout: Layout) -> list[list[Model]]:
    if layout.is_ablation:
        return [models]
    if layout.is_fairness:
        rows = [model for model in models if model in (*layout.models, RESEEDED_GOLD)]
        others = [model for model in models if model not in rows]
        return [rows, others] if others else [rows]
    blocks: list[list[Model]] = [[], [], [], []]
    for model in models:
        if model not in layout.models and model != RESEEDED_GOLD:
            blocks[3].append(model)
        elif is_approximate(model.method):
            blocks[1 + model.reweight].append(model)
        else:
            blocks[0].append(model)
    return [block for block in blocks if block]


def _summary(
    runs: pd.DataFrame | None, layout: Layout, dataset: str, n_draws: int, seed: int
) -> pd.DataFrame:
    rows = []
    for model in _models(runs, layout):
        of_model = None if runs is None else runs[rows_of(runs, model)]
        for metric in (*layout.metrics, AVERAGE_GAP, COST, KEPT_EPOCH):
            cell = pd.DataFrame() if of_model is None else of_model[of_model["metric"] == metric]
            row = {"dataset": dataset, **model._asdict(), "metric": metric}
            rows.append(row | _statistics(cell, metric, n_draws, seed))
    return pd.DataFrame(rows)


def _statistics(cell: pd.DataFrame, metric: str, n_draws: int, seed: int) -> dict[str, Any]:
    names = ("mean", "std", "delta_vs_gold", "delta_vs_pretrain", "ci_low", "ci_high")
    empty = dict.fromkeys(names, np.nan) | {"n_seeds": 0, "n_diverged": 0}
    if cell.empty:
        return empty
    low, high = np.nan, np.nan
    if metric == AVERAGE_GAP:
        low, high = bootstrap_interval(cell["value"], n_draws=n_draws, seed=seed)
    return {
        "mean": cell["value"].mean(),
        "std": cell["value"].std(ddof=0),
        "delta_vs_gold": cell["delta_vs_gold"].mean(),
        "delta_vs_pretrain": cell["delta_vs_pretrain"].mean(),
        "ci_low": low,
        "ci_high": high,
        "n_seeds": int(cell["value"].notna().sum()),
        "n_diverged": int(cell["value"].isna().sum()),
    }


def _beside_paper(values: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    columns = ["mean", "std", "delta_vs_gold", "delta_vs_pretrain"]
    printed = paper_values(layout.number)[[*_KEYS, *columns]]
    printed = printed.rename(columns={name: f"paper_{name}" for name in columns})
    return values.merge(printed, on=_KEYS, how="left", validate="one_to_one")


def _with_best(values: pd.DataFrame, layout: Layout) -> pd.DataFrame:
    values = values.assign(best=False, paper_best=False)
    competes = values["method"].map({name: is_approximate(name) for name in set(values["method"])})
    # models that could not finish every run are not compared on the runs they finished
    failed = values[values["n_diverged"] > 0][["dataset", *MODEL]].drop_duplicates()
    diverged = values[["dataset", *MODEL]].apply(tuple, axis=1).isin(failed.apply(tuple, axis=1))
    rivals = ["dataset", "metric", *([] if layout.is_ablation else ["reweight"])]
    for prefix, eligible in (("", competes & ~diverged), ("paper_", competes)):
        for (_, metric, *_), group in values[eligible].groupby(rivals):
            if metric == AVERAGE_GAP:
                score = _as_printed(group[f"{prefix}mean"])
            elif metric in layout.metrics and not layout.is_fairness:
                score = -_as_printed(group[f"{prefix}delta_vs_gold"])
            else:
                continue
            values.loc[group.index[score == score.max()], f"{prefix}best"] = True
    return values


def _as_printed(values: pd.Series) -> pd.Series:
    """Round as a cell does, so that what looks equal is equal."""
    return values.map(lambda value: float(f"{value:.1f}"))


def _delta_of(layout: Layout) -> str:
    return "delta_vs_pretrain" if layout.is_fairness else "delta_vs_gold"


def _cell(
    mean: float, std: float = np.nan, delta: float = np.nan, *, is_signed: bool = False
) -> str:
    if np.isnan(mean):
        return MISSING
    text = f"{mean:.1f}"
    if not np.isnan(std):
        text += f" ±{std:.1f}"
    if not np.isnan(delta):
        text += f" ({_signed(delta) if is_signed else f'{delta:.1f}'})"
    return text


def _signed(delta: float) -> str:
    text = f"{delta:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _interval(low: float, high: float) -> str:
    ends = [_signed(end).removeprefix("+") for end in (low, high)]
    return f"[{', '.join(ends)}]"


def _deviation(cell: pd.Series) -> float:
    """Return the standard deviation over seeds; one seed has none."""
    return cell["std"] if cell["n_seeds"] > 1 else np.nan


def _gap_cell(gap: pd.Series) -> str:
    return _cell(gap["mean"], _deviation(gap))


def _interval_cell(gap: pd.Series) -> str:
    if gap["n_seeds"] == 0:
        return MISSING
    if np.isnan(gap["ci_low"]):
        return f"< {MIN_SEEDS} seeds"
    return _interval(gap["ci_low"], gap["ci_high"])


def _notes(
    runs: dict[str, pd.DataFrame],
    values: pd.DataFrame,
    layout: Layout,
    selection: str,
    n_draws: int,
    seed: int,
) -> Iterator[str]:
    kept = "its best validation epoch" if selection == "best" else "its last epoch"
    yield (
        f"Gold standard: retrain with reweight, {kept}. avg gap: 100 less the mean over "
        f"{', '.join(TABLE_METRICS)} of the delta to it, seed by seed (100: equal). ±: standard "
        "deviation over seeds, divided by their number. epochs: cost of the run in epochs of "
        "pretraining. The row gold_reseeded is the gold standard with another seed: nothing can be "
        "expected above it."
    )
    yield _interval_note(values, n_draws, seed)
    yield from _mark_notes(layout)
    if layout.is_fairness:
        yield "Bold, or *: highest average gap of the approximate methods, by reweight."
    if values["paper_mean"].notna().any():
        yield f"paper: as printed in Table {layout.number} of T. De Min et al., TMLR 2025."
    for dataset, of_dataset in runs.items():
        prefix = f"{dataset}: " if len(runs) > 1 else ""
        for note in _notes_on(of_dataset, values, layout, dataset, selection, n_draws, seed):
            yield note if note.startswith(COMMAND) else prefix + note


def _interval_note(values: pd.DataFrame, n_draws: int, seed: int) -> str:
    text = (
        f"{LEVEL:.0%} CI: percentile bootstrap of the average gap over seeds, {n_draws} draws, "
        f"seed {seed}"
    )
    gaps = values[(values["metric"] == AVERAGE_GAP) & (values["n_seeds"] > 0)]
    if (gaps["n_seeds"] < MIN_SEEDS).any():
        text += f"; with fewer than {MIN_SEEDS} seeds it cannot be resolved"
    elif len(gaps) and (gaps["n_seeds"] < 5).any():
        text += "; with so few seeds it spans about the worst to the best of them"
    return text + "."


def _mark_notes(layout: Layout) -> Iterator[str]:
    if layout.is_fairness:
        yield "In brackets: change from pretrain, in points."
        return
    if layout.has_delta:
        yield "In brackets: delta to the gold standard, in points."
    who = "all rows of MIU" if layout.is_ablation else "approximate methods, by reweight"
    yield f"Bold, or *: closest to the gold standard among {who}; equal as printed is equal."


def _notes_on(
    runs: pd.DataFrame,
    values: pd.DataFrame,
    layout: Layout,
    dataset: str,
    selection: str,
    n_draws: int,
    seed: int,
) -> Iterator[str]:
    """Yield what is special about the runs of one data set."""
    if runs.empty:
        models = list(layout.models)
        command = bench_command(dataset, layout.forget, layout.ratio, models, [], selection)
        yield "Missing: all runs. To get them:"
        yield command
        return
    seeds = sorted(runs["seed"].unique())
    yield _kept_epochs(runs, seeds)
    yield from _without_value(runs, layout)
    yield from _ties(runs, values[values["dataset"] == dataset], layout, n_draws, seed)
    yield from _missing(runs, layout, dataset, seeds)


def _kept_epochs(runs: pd.DataFrame, seeds: list[int]) -> str:
    rows = runs[rows_of(runs, GOLD) & (runs["metric"] == KEPT_EPOCH)]
    epochs = rows.set_index("seed")["value"]
    listed = [
        f"{f'{epochs[seed]:g}' if seed in epochs.index else MISSING} (seed {seed})"
        for seed in seeds
    ]
    return f"Epoch kept by the gold standard: {', '.join(listed)}."


def _without_value(runs: pd.DataFrame, layout: Layout) -> Iterator[str]:
    """Yield which runs diverged, and which metrics of a run are undefined."""
    needed = dict.fromkeys((*layout.metrics, *TABLE_METRICS))
    for key, of_model in runs[runs["metric"] != AVERAGE_GAP].groupby(MODEL, sort=False):
        there = of_model.pivot_table(
            values="value", index="seed", columns="metric", aggfunc="first", dropna=False
        ).reindex(columns=list(needed))
        name = Model(*key).label
        # a single metric may be undefined; of a run that diverged nothing is known
        diverged = there.index[there.isna().all(axis=1)]
        if len(diverged):
            yield (
                f"{name} gave no finite loss with seed {', '.join(map(str, diverged))}: its means "
                "are over the other seeds, and it is not marked."
            )
        for metric, values in there.drop(index=diverged).items():
            if values.isna().any():
                seeds = ", ".join(map(str, values.index[values.isna()]))
                yield f"{metric} of {name} is undefined with seed {seeds}."


def _ties(
    runs: pd.DataFrame, values: pd.DataFrame, layout: Layout, n_draws: int, seed: int
) -> Iterator[str]:
    """Yield which models the seeds cannot tell from the best average gap."""
    gaps = values[(values["metric"] == AVERAGE_GAP) & values["best"]]
    if gaps.empty:
        return
    best = Model(*gaps.loc[gaps["mean"].idxmax(), MODEL])
    by_seed = {
        Model(*key): group.set_index("seed")["value"]
        for key, group in runs[runs["metric"] == AVERAGE_GAP].groupby(MODEL, sort=False)
    }
    found, n_pairs = [], 0
    for model in _models(runs, layout):
        if model == best or model not in by_seed or not is_approximate(model.method):
            continue
        first, second = by_seed[best].align(by_seed[model], join="inner")
        difference = compare_paired(first, second, n_draws=n_draws, seed=seed)
        n_pairs = max(n_pairs, difference.n_pairs)
        if difference.n_pairs >= MIN_SEEDS and not difference.told_apart:
            interval = _interval(difference.low, difference.high)
            found.append(f"{model.label} ({difference.difference:.1f} points {interval})")
    intro = f"Highest average gap among approximate methods: {best.label}"
    if n_pairs < MIN_SEEDS:
        yield f"{intro}; too few common seeds ({n_pairs}) to tell it from the others."
    elif found:
        yield f"{intro}; not told apart from it by the same bootstrap, paired: {', '.join(found)}."
    else:
        yield f"{intro}, told apart from all others by the same bootstrap, paired."


def _missing(runs: pd.DataFrame, layout: Layout, dataset: str, seeds: list[int]) -> Iterator[str]:
    """Yield which jobs of the table have not run, and the command for them."""
    lacking: dict[Model, list[int]] = {}
    for model in dict.fromkeys([*_models(runs, layout), GOLD]):
        there = set(runs.loc[rows_of(runs, model), "seed"])
        absent = [s for s in seeds if s not in there]
        if absent:
            lacking[model] = absent
    if not lacking:
        return
    jobs = [
        model.label
        if absent == seeds
        else f"{model.label} (seed {', '.join(str(s) for s in absent)})"
        for model, absent in lacking.items()
    ]
    models, selection = list(lacking), runs["selection"].iloc[0]
    command = bench_command(dataset, layout.forget, layout.ratio, models, seeds, selection)
    yield f"Missing: {'; '.join(jobs)}. To get them:"
    yield command


def summarize(results: pd.DataFrame) -> pd.DataFrame:
    """Return mean, standard deviation and delta to the gold standard over seeds.

    Parameters
    ----------
    results : DataFrame
        As returned by :func:`compare`.

    Returns
    -------
    DataFrame
        One row a method, metric and REWEIGHT setting, in the order of ``results``, with the
        columns method, reweight, metric, mean, std (over seeds, dividing by their number, as the
        paper does) and delta (mean over seeds of the absolute difference to the gold standard of
        the same seed).
    """
    if not isinstance(results, pd.DataFrame):
        raise TypeError(f"results must be a DataFrame, got a {type(results).__name__}.")
    keys = ["seed", "metric"]
    missing = {*keys, "method", "reweight", "value"} - set(map(str, results.columns))
    if missing:
        raise ValueError(f"results lack the columns {sorted(missing)}; compare makes such tables.")
    check_unique_columns(results, "results")
    if results[["method", "reweight", *keys]].duplicated().any():
        raise ValueError("results have a metric of a method and seed more than once.")
    is_gold = (results["method"] == "retrain") & (results["reweight"] == 1)
    gold = results[is_gold].set_index(keys)["value"]
    index = pd.MultiIndex.from_frame(results[keys])
    delta = (results["value"] - gold.reindex(index).to_numpy()).abs()
    return (
        results.assign(delta=delta)
        .groupby(["method", "reweight", "metric"], sort=False)
        .agg(
            mean=("value", "mean"),
            std=("value", lambda values: values.std(ddof=0)),
            delta=("delta", "mean"),
        )
        .reset_index()
    )


def format_table(results: pd.DataFrame, *, metrics: tuple[str, ...] = TABLE_METRICS) -> str:
    """Lay results out as in the paper's tables.

    Parameters
    ----------
    results : DataFrame
        As returned by :func:`compare`.
    metrics : tuple of str
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
        If ``results`` lack a column or a metric, or have one more than once.
    """
    check_types(format_table, locals())
    lines = []
    for (method, reweight), rows in summarize(results).groupby(["method", "reweight"], sort=False):
        of_method = rows.set_index("metric")[["mean", "std", "delta"]]
        cells = [method, "yes" if reweight else "no"]
        is_reference = method == "pretrain" or (method == "retrain" and reweight)
        missing = [name for name in (*metrics, "AVG_GAP", "cost") if name not in of_method.index]
        if missing:
            raise ValueError(f"results have no {missing} of {method}; metrics names the columns.")
        for metric in metrics:
            mean, std, delta = of_method.loc[metric]
            cells.append(f"{mean:.1f} ±{std:.1f}" + ("" if is_reference else f" ({delta:.1f})"))
        gap = of_method.loc["AVG_GAP"]
        cells.append("-" if is_reference else f"{gap['mean']:.1f} ±{gap['std']:.1f}")
        cells.append(f"{of_method.loc['cost', 'mean']:.1f}")
        lines.append(cells)
    header = ["method", "reweight", *metrics, "avg gap", "epochs"]
    return _aligned([header, *lines])


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for number, cells in enumerate(lines):
        padded = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        text.append("  ".join(padded).rstrip())
        if number == 0:
            text.append("-" * len(text[0]))
    return "\n".join(text)
