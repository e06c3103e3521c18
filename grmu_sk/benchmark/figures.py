"""The paper's figures, built from results."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from ..utils.arguments import check_types
from .paper import (
    APPROXIMATE,
    AVERAGE_GAP,
    GOLD,
    PRETRAIN,
    RESEEDED_GOLD,
    Model,
    paper_values,
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_NUMBERS = range(2, 9)
FORMATS = ("png", "svg")
PAPER_RATIOS = (0.1, 0.5, 0.9)
PAPER_GROUP_COUNTS = (1, 9, 25)
PAIR_SETS = ("pairs-2", "pairs-4")
#: Average gap of MIU + REWEIGHT by the weight of its calibration, where the paper states it.
PAPER_LAMBDA = {"celeba": {1.0: 99.2, 10.0: 99.0}}
LAMBDA_RATIO = 0.5
_IMAGES = ("celeba", "waterbirds", "fairface")
#: Data sets of which the paper prints or states what a figure shows.
_PRINTED = {3: _IMAGES, 4: _IMAGES, 5: _IMAGES, 6: ("fairface",), 8: tuple(PAPER_LAMBDA)}
MAX_GROUPS = 12
_OURS = "Which quantities it shows is our choice, not the paper's."
_RETRAIN = Model("retrain", 0)
_NAMES = {
    AVERAGE_GAP: "average gap (100 = gold standard)",
    "UA": "accuracy on forgotten rows (%)",
    "TA": "test accuracy (%)",
    "MIA": "forgotten rows taken\nfor non-members (%)",
    "EO": "equalized odds gap (%)",
    "GA": "accuracy of the\nforgotten groups (%)",
}


class Setting(NamedTuple):
    """One place on the horizontal axis.

    Parameters
    ----------
    position : float
        Where.
    label : str
        What stands there.
    forget : str
        Name of the forget set.
    ratio : float
        Share that is forgotten.
    variant : str, default=""
        Variant of the method.
    """

    position: float
    label: str
    forget: str
    ratio: float
    variant: str = ""


@dataclass(frozen=True)
class PaperFigure:
    """A figure of the paper, drawn.

    Parameters
    ----------
    number : int
        Number of the figure in the paper.
    dataset : str
        Data set.
    figure : matplotlib Figure
        What was drawn.
    caption : str
        What it shows.
    notes : tuple of str
        What is missing, and the commands that make it.
    data : DataFrame
        What was drawn, one row a point: ``source`` (``"results"`` or ``"paper"``), panel, model,
        position, mean and standard deviation.
    """

    number: int
    dataset: str
    figure: Figure
    caption: str
    notes: tuple[str, ...] = ()
    data: pd.DataFrame = field(default_factory=pd.DataFrame)

    def save(self, folder: str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
        """Write the figure as ``figure_<number>_<dataset>``, the same bytes for the same figure.

        Parameters
        ----------
        folder : str or Path
            Where; made if need be.
        formats : sequence of str, default=("png", "svg")
            File formats.

        Returns
        -------
        list of Path
            The files.
        """
        import matplotlib

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        written = []
        with matplotlib.rc_context({"svg.hashsalt": "grmu_sk", "svg.fonttype": "none"}):
            for kind in formats:
                path = place / f"figure_{self.number}_{self.dataset}.{kind}"
                metadata = {"Date": None} if kind == "svg" else None
                self.figure.savefig(path, dpi=150, metadata=metadata)
                written.append(path)
        return written


def make_figure(
    number: int,
    results: pd.DataFrame | None = None,
    *,
    dataset: str,
    selection: str = "best",
    methods: Sequence[str] | None = None,
    forget: str | None = None,
    forget_groups: Iterable[tuple[Any, Any]] | None = None,
) -> PaperFigure:
    """Build one of the paper's figures from results, beside the paper's numbers.

    ====== ==========================================================================
    Figure What it shows
    ====== ==========================================================================
    2, 7   Accuracy of each group, exact pairs of (y, a) forgotten from: after
           retraining (2), after approximate unlearning (7). Which of the two figures
           has which models is our choice.
    3      Exact unlearning against the unlearning ratio (content: our choice)
    4      Average gap against the unlearning ratio (content: our choice)
    5      Single metrics against the unlearning ratio (content: our choice)
    6      Average gap and group accuracy against the number of forget groups
    8      Average gap of MIU + REWEIGHT against the weight of its calibration
    ====== ==========================================================================

    The paper's numbers stand in a panel of their own, as far as its tables or its text state
    them: Figures 3 to 6 from Tables 5 to 16, Figure 8 two values for CelebA.

    Parameters
    ----------
    number : int
        Figure, 2 to 8.
    results : DataFrame or None, default=None
        As :func:`grmu_sk.benchmark.read_results` returns them. None draws the paper's
        numbers alone.
    dataset : str
        Data set to show.
    selection : {"best", "last"}, default="best"
        Gold standard of the best validation epoch, as the paper's, or of the last epoch.
    methods : sequence of str or None, default=None
        Approximate methods to show; None for those of the paper.
    forget : str or None, default=None
        Forget set of Figures 2 and 7; None for the exact pairs (``"pairs-2"`` or ``"pairs-4"``).
    forget_groups : iterable of tuple or None, default=None
        Groups (y, a) to mark in Figures 2 and 7; None for those of the forget set, if the data set
        is one of :func:`grmu_sk.benchmark.problem_names`.

    Returns
    -------
    PaperFigure
        The figure. matplotlib keeps it until ``plt.close(result.figure)``.

    Raises
    ------
    TypeError
        If ``results`` is no DataFrame.
    ValueError
        If there is no such figure, or the results are malformed, lack the data set, runs for this
        figure, or a gold standard; or if there are neither results nor numbers of the paper.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from matplotlib import pyplot as plt
    >>> from grmu_sk.benchmark.figures import make_figure
    >>> drawn = make_figure(6, dataset="fairface")
    >>> drawn.caption.split(":")[0]
    'Figure 6, fairface'
    >>> plt.close(drawn.figure)
    """
    check_types(make_figure, locals())
    if number not in FIGURE_NUMBERS:
        raise ValueError(
            f"There is no Figure {number} to build: choose one from {FIGURE_NUMBERS[0]} to "
            f"{FIGURE_NUMBERS[-1]} (Figure 1 of the paper is a drawing)."
        )
    runs = None
    if results is not None:
        checked = check_results(results)
        runs = select_runs(checked, dataset=dataset, selection=selection)
        _check_dataset(runs, checked, dataset, selection)
    shown = tuple(APPROXIMATE if methods is None else methods)
    if number in (2, 7):
        marked = None if forget_groups is None else list(forget_groups)
        return _group_figure(number, runs, dataset, shown, forget, marked)
    return _CURVES[number](runs, dataset, shown)


def figure_datasets(
    number: int, results: pd.DataFrame | None = None, *, forget: str | None = None
) -> list[str]:
    """Return the data sets that a figure can be built for.

    Parameters
    ----------
    number : int
        Figure, 2 to 8.
    results : DataFrame or None, default=None
        Checked results; None for the paper's numbers.
    forget : str or None, default=None
        Forget set of Figures 2 and 7; None for the exact pairs.

    Returns
    -------
    list of str
        Those that have runs for this figure; all that there are if none has.
    """
    if results is None:
        return list(_PRINTED.get(number, ()))
    if number in (2, 7):
        serves = results["forget"].isin(PAIR_SETS if forget is None else [forget])
    elif number == 6:
        serves = results["forget"].str.startswith("groups-")
    elif number == 8:
        serves = results["variant"].str.startswith("lam=")
    else:
        serves = results["forget"] == "group"
    return sorted((results[serves] if serves.any() else results)["dataset"].unique())


# -- curves: figures 3, 4, 5, 6 and 8


def _exact_figure(runs: pd.DataFrame | None, dataset: str, methods: tuple[str, ...]) -> PaperFigure:
    del methods  # none is approximate here
    models = [PRETRAIN, _RETRAIN, GOLD, RESEEDED_GOLD]
    title = "retraining without and with reweight against the unlearning ratio"
    return _curve_figure(
        3, title, runs, dataset, ("GA", "EO", "TA"), models, _ratios(runs), own=True
    )


def _gap_figure(runs: pd.DataFrame | None, dataset: str, methods: tuple[str, ...]) -> PaperFigure:
    models = [*_with_and_without(methods), RESEEDED_GOLD]
    title = "average gap of approximate methods against the unlearning ratio"
    return _curve_figure(4, title, runs, dataset, (AVERAGE_GAP,), models, _ratios(runs), own=True)


def _metrics_figure(
    runs: pd.DataFrame | None, dataset: str, methods: tuple[str, ...]
) -> PaperFigure:
    models = [GOLD, *(Model(name, 1) for name in methods)]
    title = "metrics of approximate methods + reweight against the unlearning ratio"
    return _curve_figure(
        5, title, runs, dataset, ("GA", "UA", "MIA", "EO"), models, _ratios(runs), own=True
    )


def _groups_figure(
    runs: pd.DataFrame | None, dataset: str, methods: tuple[str, ...]
) -> PaperFigure:
    names = {_group_set(n) for n in PAPER_GROUP_COUNTS}
    if runs is not None:
        found = runs.loc[np.isclose(runs["ratio"], 0.5), "forget"].unique()
        names |= {name for name in found if name == "group" or name.startswith("groups-")}
    counts = sorted(1 if name == "group" else int(name.removeprefix("groups-")) for name in names)
    settings = [Setting(k, str(n), _group_set(n), 0.5) for k, n in enumerate(counts)]
    models = [*_with_and_without(methods), RESEEDED_GOLD]
    title = "approximate methods against the number of groups that 50% is forgotten from"
    xlabel = "number of forget groups"
    metrics = (AVERAGE_GAP, "GA")
    return _curve_figure(6, title, runs, dataset, metrics, models, settings, xlabel=xlabel)


def _lambda_figure(
    runs: pd.DataFrame | None, dataset: str, methods: tuple[str, ...]
) -> PaperFigure:
    del methods  # only MIU has this weight
    values = set(PAPER_LAMBDA.get(dataset, {}))
    if runs is not None:
        of_miu = runs[(runs["method"] == "miu") & (runs["reweight"] == 1)]
        found = {name for name in of_miu["variant"].unique() if name.startswith("lam=")}
        if not found:
            wanted = [Model("miu", 1, f"lam={value:g}") for value in (0.1, 1, 10)]
            command = bench_command(
                dataset, "group", LAMBDA_RATIO, wanted, [], runs["selection"].iloc[0]
            )
            raise ValueError(
                f"Figure 8 needs MIU + REWEIGHT with several weights of its calibration (variants "
                f"'lam=0.1', 'lam=1', ...), and the results hold none for '{dataset}'. Run: "
                f"{command}"
            )
        values |= {_lambda_of(name) for name in found}
    settings = [
        Setting(k, f"{value:g}", "group", LAMBDA_RATIO, f"lam={value:g}")
        for k, value in enumerate(sorted(values))
    ]
    models = [Model("miu", 1), RESEEDED_GOLD]
    title = "average gap of MIU + reweight against the weight lambda of its calibration"
    return _curve_figure(8, title, runs, dataset, (AVERAGE_GAP,), models, settings, xlabel="lambda")


_CURVES: dict[int, Callable[[pd.DataFrame | None, str, tuple[str, ...]], PaperFigure]] = {
    3: _exact_figure,
    4: _gap_figure,
    5: _metrics_figure,
    6: _groups_figure,
    8: _lambda_figure,
}


def _curve_figure(
    number: int,
    title: str,
    runs: pd.DataFrame | None,
    dataset: str,
    metrics: tuple[str, ...],
    models: list[Model],
    settings: list[Setting],
    *,
    xlabel: str = "unlearning ratio (%)",
    own: bool = False,
) -> PaperFigure:
    """Draw a row of panels for each source, one panel a metric."""
    sources = {}
    notes: list[str] = []
    if runs is not None:
        used = _runs_of(runs, settings, number, dataset)
        sources["results"] = _points(add_deltas(used), models, metrics, settings)
        notes = list(_missing(used, models, settings, dataset))
    printed = _printed_points(number, dataset, models, metrics, settings)
    if not printed.empty:
        sources["paper"] = printed
    if not sources:
        raise ValueError(
            f"The paper states no numbers of Figure {number} for '{dataset}': results are needed."
        )
    caption = f"Figure {number}, {dataset}: {title}."
    if runs is not None:
        caption += " Mean and standard deviation over seeds."
    if own:
        caption += f" {_OURS}"
    if "paper" in sources:
        caption += " The paper's numbers: T. De Min et al., TMLR 2025."
        if number == 8:
            caption += " It states the average gap of these weights alone."
    figure = _draw(sources, models, metrics, settings, xlabel, caption)
    data = pd.concat([points.assign(source=name) for name, points in sources.items()])
    return PaperFigure(number, dataset, figure, caption, tuple(notes), data.reset_index(drop=True))


def _points(
    runs: pd.DataFrame, models: list[Model], metrics: tuple[str, ...], settings: list[Setting]
) -> pd.DataFrame:
    rows = []
    for setting in settings:
        of_setting = runs[_is_setting(runs, setting)]
        for model in models:
            variant = setting.variant if model.method == "miu" else ""
            of_model = of_setting[rows_of(of_setting, model._replace(variant=variant))]
            for metric in metrics:
                values = of_model.loc[of_model["metric"] == metric, "value"].dropna()
                if len(values):
                    std = values.std(ddof=0)
                    rows.append((metric, model, setting.position, values.mean(), std))
    return pd.DataFrame(rows, columns=["metric", "model", "position", "mean", "std"])


def _printed_points(
    number: int,
    dataset: str,
    models: list[Model],
    metrics: tuple[str, ...],
    settings: list[Setting],
) -> pd.DataFrame:
    if number == 8:
        stated = PAPER_LAMBDA.get(dataset, {})
        rows = [
            (AVERAGE_GAP, Model("miu", 1), setting.position, stated[value], np.nan)
            for setting in settings
            if (value := _lambda_of(setting.variant)) in stated
        ]
        return pd.DataFrame(rows, columns=["metric", "model", "position", "mean", "std"])
    values = paper_values()
    # Tables 5 to 16 are all single comparisons, with deviations
    values = values[values["table"].between(5, 16) & (values["dataset"] == dataset)]
    values = values.rename(columns={"mean": "value"}).assign(seed=0)
    points = _points(values, models, metrics, settings).drop(columns="std")
    printed_std = _points(values.assign(value=values["std"]), models, metrics, settings)
    keys = ["metric", "model", "position"]
    return points.merge(
        printed_std.drop(columns="std").rename(columns={"mean": "std"}), on=keys, how="left"
    )


def _draw(
    sources: dict[str, pd.DataFrame],
    models: list[Model],
    metrics: tuple[str, ...],
    settings: list[Setting],
    xlabel: str,
    caption: str,
) -> Figure:
    from matplotlib.lines import Line2D

    from ..plotting._style import clean, fill_legend, model_styles, panels

    # of all models, drawn or not, so that a missing one leaves the colours of the others alone
    styles = model_styles([_label(model) for model in models])
    drawn = {_label(model) for points in sources.values() for model in points["model"]}
    handles = [Line2D([], [], label=n, **style) for n, style in styles.items() if n in drawn]
    size = (max(4.2 * len(sources), 6.4), 2.7 * len(metrics) + 0.7)
    labels = [str(handle.get_label()) for handle in handles]
    grid, legend = panels(None, (len(metrics), len(sources)), figsize=size, labels=labels)
    for row, metric in enumerate(metrics):
        for ax, (source, points) in zip(grid[row], sources.items(), strict=True):
            _draw_panel(ax, points[points["metric"] == metric], styles, settings)
            if row == 0:
                ax.set_title("these results" if source == "results" else "the paper")
            if row == len(metrics) - 1:
                ax.set_xlabel(xlabel)
            clean(ax, grid="y")
        grid[row, 0].set_ylabel(_NAMES.get(metric, metric), fontsize="small")
        limits = np.array([ax.get_ylim() for ax in grid[row]])
        for ax in grid[row]:
            ax.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    fill_legend(legend, handles, whole_figure=True)
    figure = legend.get_figure(root=True)
    assert figure is not None
    _put_caption(figure, caption)
    return figure


def _put_caption(figure: Figure, caption: str) -> None:
    """Write the caption above the panels, in room of its own."""
    lines = textwrap.wrap(caption, int(14.5 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), fontsize="small")
    figure.set_figheight(figure.get_figheight() + 0.16 * len(lines) + 0.15)


def _draw_panel(
    ax: Axes, points: pd.DataFrame, styles: dict[str, dict[str, Any]], settings: list[Setting]
) -> None:
    positions = np.array([setting.position for setting in settings], dtype=float)
    step = np.diff(positions).min() if len(positions) > 1 else 1.0
    shifts = np.linspace(-0.15, 0.15, len(styles)) * step if len(styles) > 1 else np.zeros(1)
    for shift, (name, style) in zip(shifts, styles.items(), strict=True):
        line = points[points["model"].map(_label) == name].sort_values("position")
        if line.empty:
            continue
        deviation = None if line["std"].isna().all() else line["std"]
        ax.errorbar(line["position"] + shift, line["mean"], yerr=deviation, elinewidth=1, **style)
    if points.empty:
        ax.text(0.5, 0.5, "no runs", ha="center", va="center", transform=ax.transAxes, color="0.4")
    ax.set_xticks(positions, [setting.label for setting in settings])
    ax.set_xlim(positions.min() - 0.4 * step, positions.max() + 0.4 * step)


def _label(model: Model) -> str:
    from ..plotting._results import model_name

    return model_name(model.method, model.reweight)


# -- accuracy of each group: figures 2 and 7


def _group_figure(
    number: int,
    runs: pd.DataFrame | None,
    dataset: str,
    methods: tuple[str, ...],
    forget: str | None,
    forget_groups: list[tuple[Any, Any]] | None,
) -> PaperFigure:
    from ..plotting import GroupAccuracyDisplay

    if runs is None:
        raise ValueError(
            f"Figure {number} needs results (--results): the paper's tables hold none of its "
            "numbers."
        )
    setting = _pair_setting(number, runs, dataset, forget)
    used = runs[_is_setting(runs, setting)]
    check_gold(used, dataset=dataset)
    models = [PRETRAIN, _RETRAIN, GOLD]
    if number == 7:
        models = [PRETRAIN, *(Model(name, 1) for name in methods), GOLD]
    cells = _group_cells(used, models)
    if cells.empty:
        raise ValueError(
            f"The results of '{dataset}' with forget set '{setting.forget}' hold no metric "
            "'group_accuracy[y, a]', which this figure draws. Run the benchmark with a version "
            "that records it."
        )
    by_model: dict[str, Any] = {"index": "group", "columns": "model", "sort": False}
    accuracy = cells.pivot_table(values="mean", **by_model)
    marked = _marked_groups(forget_groups, list(accuracy.index), dataset, setting.forget)
    shown = _notable_groups(accuracy, marked)
    labels = [_label(model) for model in models if _label(model) in accuracy]
    accuracy = accuracy.loc[shown, labels]
    spread = cells.pivot_table(values="std", **by_model).loc[shown, labels]
    gold = _label(GOLD)
    display = GroupAccuracyDisplay(accuracy, spread, marked, gold=gold).plot()
    when = "retraining" if number == 2 else "approximate unlearning"
    caption = (
        f"Figure {number}, {dataset}: accuracy of each group before and after {when}, "
        f"{setting.ratio:.0%} of '{setting.forget}' forgotten. The paper's tables hold no numbers "
        "of this figure; which models it shows is our choice."
    )
    n_groups = cells.index.get_level_values("group").nunique()
    if len(shown) < n_groups:
        caption += f" Of {n_groups} groups, the {len(shown)} that change most."
    _put_caption(display.figure_, caption)
    notes = tuple(_missing(used, models, [setting], dataset))
    data = cells.reset_index().rename(columns={"group": "position"}).assign(source="results")
    return PaperFigure(number, dataset, display.figure_, caption, notes, data)


def _marked_groups(
    forget_groups: list[tuple[Any, Any]] | None, there: list[str], dataset: str, forget: str
) -> list[str]:
    from ..plotting._results import group_name

    if forget_groups is not None:
        names = [group_name(pair) for pair in forget_groups]
        unknown = [name for name in names if name not in there]
        if unknown:
            raise ValueError(
                f"There is no group '{unknown[0]}' to mark; the results of '{dataset}' have the "
                f"groups: {'; '.join(there)}."
            )
        return names
    from .problem import DEFINITIONS

    known = DEFINITIONS[dataset].forget_sets if dataset in DEFINITIONS else {}
    return [name for name in map(group_name, known.get(forget, [])) if name in there]


def _pair_setting(number: int, runs: pd.DataFrame, dataset: str, forget: str | None) -> Setting:
    names = PAIR_SETS if forget is None else (forget,)
    there = runs[runs["forget"].isin(names)]
    if there.empty:
        wanted = [Model(name, 1) for name in APPROXIMATE]
        command = bench_command(dataset, names[0], 0.5, wanted, [], runs["selection"].iloc[0])
        held = ", ".join(sorted(runs["forget"].unique()))
        raise ValueError(
            f"Figure {number} needs the forget set {' or '.join(names)}, and the results of "
            f"'{dataset}' hold: {held}. Run: {command} - or choose one of those with --forget "
            "(forget=...)."
        )
    found = there["forget"].iloc[0]
    ratios = there.loc[there["forget"] == found, "ratio"]
    ratio = 0.5 if np.isclose(ratios, 0.5).any() else float(ratios.iloc[0])
    return Setting(0, found, found, ratio)


def _group_cells(runs: pd.DataFrame, models: list[Model]) -> pd.DataFrame:
    from ..plotting._results import group_of_metric

    rows = runs[runs["metric"].str.startswith("group_accuracy[")]
    rows = rows.assign(group=rows["metric"].map(group_of_metric))
    parts = [rows[rows_of(rows, model)].assign(model=_label(model)) for model in models]
    grouped = pd.concat(parts).groupby(["group", "model"], sort=False)["value"]
    return grouped.agg(mean="mean", std=lambda values: values.std(ddof=0))


def _notable_groups(accuracy: pd.DataFrame, marked: list[str]) -> list[str]:
    """Return the groups to draw, all of them unless they are too many to read."""
    if len(accuracy) <= MAX_GROUPS:
        return list(accuracy.index)
    change = accuracy.max(axis=1) - accuracy.min(axis=1)
    by_change = [name for name in change.sort_values(ascending=False).index if name not in marked]
    chosen = {*marked, *by_change[: max(MAX_GROUPS - len(marked), 0)]}
    return [name for name in accuracy.index if name in chosen]


# -- what all figures share


def _check_dataset(runs: pd.DataFrame, results: pd.DataFrame, dataset: str, selection: str) -> None:
    if not runs.empty:
        return
    there = sorted(results["dataset"].unique())
    if dataset in there:
        raise ValueError(f"The results of '{dataset}' hold no runs of the selection '{selection}'.")
    raise ValueError(
        f"The results hold no data set '{dataset}'; they hold {', '.join(there)}. Choose one with "
        "--dataset (dataset=...), or run the benchmark on it first."
    )


def _runs_of(
    runs: pd.DataFrame, settings: list[Setting], number: int, dataset: str
) -> pd.DataFrame:
    chosen = pd.Series(False, index=runs.index)
    for setting in settings:
        chosen |= _is_setting(runs, setting)
    used = runs[chosen]
    if used.empty:
        held = runs[["forget", "ratio"]].drop_duplicates().itertuples(index=False)
        listed = "; ".join(f"{forget}, {ratio:g}" for forget, ratio in held)
        first, selection = settings[0], runs["selection"].iloc[0]
        raise ValueError(
            f"Figure {number} needs the forget set '{first.forget}' and the like, and the results "
            f"of '{dataset}' hold (forget set, ratio): {listed}. Run: "
            f"{bench_command(dataset, first.forget, first.ratio, [], [], selection)}"
        )
    check_gold(used, dataset=dataset)
    return used


def _is_setting(runs: pd.DataFrame, setting: Setting) -> pd.Series:
    return (runs["forget"] == setting.forget) & np.isclose(runs["ratio"], setting.ratio)


def _missing(
    runs: pd.DataFrame, models: list[Model], settings: list[Setting], dataset: str
) -> Iterator[str]:
    """Yield which runs of the figure are not there, and the commands that make them."""
    seeds = sorted(runs["seed"].unique())
    for setting in settings:
        of_setting = runs[_is_setting(runs, setting)]
        there = {Model(*key) for key in of_setting[MODEL].drop_duplicates().itertuples(index=False)}
        needed = [
            model._replace(variant=setting.variant if model.method == "miu" else "")
            for model in dict.fromkeys([*models, GOLD])
        ]
        lacking = [model for model in needed if model not in there]
        if lacking:
            names = "; ".join(model.label for model in lacking)
            yield f"Missing: {setting.forget}, ratio {setting.ratio:g}: {names}. To get them:"
            selection = runs["selection"].iloc[0]
            yield bench_command(dataset, setting.forget, setting.ratio, lacking, seeds, selection)


def _ratios(runs: pd.DataFrame | None) -> list[Setting]:
    found = set() if runs is None else set(runs.loc[runs["forget"] == "group", "ratio"])
    ratios = sorted({round(ratio, 6) for ratio in (*PAPER_RATIOS, *found)})
    return [Setting(100 * ratio, f"{100 * ratio:g}", "group", ratio) for ratio in ratios]


def _group_set(n_groups: int) -> str:
    return "group" if n_groups == 1 else f"groups-{n_groups}"


def _lambda_of(variant: str) -> float:
    try:
        return float(variant.removeprefix("lam="))
    except ValueError:
        raise ValueError(
            f"The results' column 'variant' holds {variant!r}, where Figure 8 expects a number, as "
            "in 'lam=0.1'."
        ) from None


def _with_and_without(methods: tuple[str, ...]) -> list[Model]:
    return [Model(name, reweight) for reweight in (0, 1) for name in methods]
