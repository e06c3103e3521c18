"""The paper's figures, built from results."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..metrics.evaluate import group_name
from ..plotting import GroupAccuracyDisplay
from ..plotting._style import Display, draw_curves, handles_of, legend_below, model_styles
from ..results import (
    AVERAGE_GAP,
    GOLD,
    METRICS,
    MODEL,
    PRETRAIN,
    RESEEDED_GOLD,
    RETRAIN,
    Row,
    group_of_metric,
    summarize,
)
from .paper import METHODS, WEIGHT, paper_values
from .problems import DEFINITIONS, Problem
from .tables import (
    is_approximate,
    missing_notes,
    require_gold,
    runs_of,
    with_gaps,
)

GROUP_FIGURES = (2, 7)
PAPER_RATIOS = (0.1, 0.5, 0.9)
GROUP_SETS = ["pairs-2", "pairs-4", "group"]  # of figures 2 and 7, the first that has run
RATIO = 0.5  # where a figure is not about it
MAX_GROUPS = 12
#: Average gap by weight, for data sets of which the paper states it.
_WEIGHTS = {name: dict(found) for name, found in WEIGHT["printed"].items()}
_MIU, _SWEEP = Row(WEIGHT["method"], True), f"{WEIGHT['parameter']}="
_WHO = f"{WEIGHT['method'].upper()} + reweight"
_OURS = "Which quantities it shows is our choice, not the paper's."
_SOURCE = "The paper's numbers: T. De Min et al., TMLR 2025."
#: Of each figure of curves: its title, its panels, and what stands below them.
_CURVES = {
    3: ("retraining without and with reweight against the unlearning ratio", ("GA", "EO", "TA")),
    4: ("average gap of approximate methods against the unlearning ratio", (AVERAGE_GAP,)),
    5: (
        "metrics of approximate methods + reweight against the unlearning ratio",
        ("GA", "UA", "MIA", "EO"),
    ),
    6: (
        "approximate methods against the number of groups that 50% is forgotten from",
        (AVERAGE_GAP, "GA"),
    ),
    8: (f"average gap of {_WHO} against {WEIGHT['words']}", (AVERAGE_GAP,)),
}
_XLABELS = {6: "number of forget groups", 8: "lambda"}


class _Place(NamedTuple):
    """One place on the horizontal axis: where, what stands there, and which runs belong there."""

    position: float
    label: str
    forget: str
    ratio: float
    variant: str = ""

    def of(self, runs: pd.DataFrame) -> pd.Series:
        return (runs["forget"] == self.forget) & np.isclose(runs["ratio"], self.ratio)


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
        What is missing.
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

    def save(self, folder: str | Path) -> list[Path]:
        """Write the figure as ``figure_<number>_<dataset>``, the same bytes for the same figure.

        Parameters
        ----------
        folder : str or Path
            Where; made if need be.

        Returns
        -------
        list of Path
            The files.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        paths = [place / f"figure_{self.number}_{self.dataset}.{kind}" for kind in ("png", "svg")]
        with matplotlib.rc_context({"svg.hashsalt": "grmu_sk", "svg.fonttype": "none"}):
            for path in paths:
                metadata = {"Date": None} if path.suffix == ".svg" else None
                self.figure.savefig(path, dpi=150, metadata=metadata)
        return paths


def make_figure(
    number: int,
    results: pd.DataFrame | None = None,
    *,
    dataset: str,
    selection: str = "best",
    methods: Sequence[str] | None = None,
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
        As :func:`grmu_sk.results.read_results` returns them. None draws the paper's
        numbers alone.
    dataset : str
        Data set to show.
    selection : {"best", "last"}, default="best"
        Gold standard of the best validation epoch, as the paper's, or of the last epoch.
    methods : sequence of str or None, default=None
        Approximate methods to show; None for those of the paper.

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
    >>> from grmu_sk.benchmark import make_figure
    >>> drawn = make_figure(6, dataset="fairface")
    >>> drawn.caption.split(":")[0]
    'Figure 6, fairface'
    >>> plt.close(drawn.figure)
    """
    if number not in range(2, 9):
        raise ValueError(f"There is no Figure {number} to build: choose one from 2 to 8.")
    runs = None if results is None else runs_of(results, [dataset], selection)
    if methods is None:
        methods = [name for name in METHODS if is_approximate(name)]
    if number in GROUP_FIGURES:
        return _group_figure(number, runs, dataset, methods)
    return _curve_figure(number, runs, dataset, methods)


# curves: figures 3, 4, 5, 6 and 8 ----------------------------------------------------------------


def _curve_figure(
    number: int, runs: pd.DataFrame | None, dataset: str, methods: Sequence[str]
) -> PaperFigure:
    """Draw a column of panels for each source, one panel a metric."""
    title, metrics = _CURVES[number]
    rows, places = _rows(number, methods), _places(number, runs, dataset)
    caption, notes, sources = f"Figure {number}, {dataset}: {title}.", [], {}
    if runs is not None:
        used = runs[np.any([place.of(runs) for place in places], axis=0)]
        require_gold(used, runs, f"Figure {number}", places[0].forget, places[0].ratio)
        means = summarize(with_gaps(used), ["forget", "ratio", *MODEL, "metric"])
        sources["results"] = _points(means.reset_index(), rows, metrics, places)
        notes = _missing(used, rows, places, dataset)
        caption += " Mean and standard deviation over seeds."
    caption += f" {_OURS}" if number in (3, 4, 5) else ""
    printed = _points(_printed(number, dataset), rows, metrics, places)
    if not printed.empty:
        sources["paper"] = printed
        caption += f" {_SOURCE}"
        caption += " It states the average gap of these weights alone." if number == 8 else ""
    if not sources:
        raise ValueError(f"The paper has no numbers of Figure {number} for '{dataset}'.")
    xlabel = _XLABELS.get(number, "unlearning ratio (%)")
    figure = _draw(sources, rows, metrics, places, xlabel, caption)
    data = pd.concat([points.assign(source=name) for name, points in sources.items()])
    return PaperFigure(number, dataset, figure, caption, tuple(notes), data.reset_index(drop=True))


def _rows(number: int, methods: Sequence[str]) -> list[Row]:
    if number == 3:
        return [PRETRAIN, RETRAIN, GOLD, RESEEDED_GOLD]
    if number == 8:
        return [_MIU, RESEEDED_GOLD]
    with_reweight = [Row(name, True) for name in methods]
    if number == 5:
        return [GOLD, *with_reweight]
    return [*(Row(name, False) for name in methods), *with_reweight, RESEEDED_GOLD]


def _places(number: int, runs: pd.DataFrame | None, dataset: str) -> list[_Place]:
    if number == 6:
        sets = {"1": "group", "9": "groups-9", "25": "groups-25"}
        return [_Place(k, n, name, RATIO) for k, (n, name) in enumerate(sets.items())]
    if number == 8:
        values = {*_WEIGHTS.get(dataset, {}), *([] if runs is None else _weights_there(runs))}
        return [
            _Place(k, f"{value:g}", "group", RATIO, f"{_SWEEP}{value:g}")
            for k, value in enumerate(sorted(values))
        ]
    found = [] if runs is None else runs.loc[runs["forget"] == "group", "ratio"]
    ratios = sorted({round(ratio, 6) for ratio in (*PAPER_RATIOS, *found)})
    return [_Place(100 * ratio, f"{100 * ratio:g}", "group", ratio) for ratio in ratios]


def _weights_there(runs: pd.DataFrame) -> set[float]:
    variants = runs.loc[(runs["method"] == _MIU.method) & (runs["reweight"] == 1), "variant"]
    found = {float(name.removeprefix(_SWEEP)) for name in variants if name.startswith(_SWEEP)}
    if not found:
        weights = ",".join(map(str, WEIGHT["suggested"]))
        raise ValueError(f"Figure 8 needs {_WHO} with several weights: --lambdas {weights}.")
    return found


def _points(
    values: pd.DataFrame, rows: list[Row], metrics: tuple[str, ...], places: list[_Place]
) -> pd.DataFrame:
    """Return what is drawn of a table with one line a forget set, ratio, model and metric."""
    lines = []
    for place in places:
        of_place = values[place.of(values)]
        for row in rows:
            wanted = _at(row, place)
            cells = of_place[wanted.of(of_place)].dropna(subset="mean").set_index("metric")
            lines += [
                (metric, row, place.position, *cells.loc[metric, ["mean", "std"]])
                for metric in metrics
                if metric in cells.index
            ]
    return pd.DataFrame(lines, columns=["metric", "model", "position", "mean", "std"])


def _at(row: Row, place: _Place) -> Row:
    return replace(row, variant=place.variant) if row.method == _MIU.method else row


def _printed(number: int, dataset: str) -> pd.DataFrame:
    if number == 8:
        of_miu = {"forget": "group", "ratio": RATIO, "method": _MIU.method, "reweight": 1}
        of_miu |= {"metric": AVERAGE_GAP, "std": np.nan}
        weights = _WEIGHTS.get(dataset, {})
        variants = [f"{_SWEEP}{weight:g}" for weight in weights]
        return pd.DataFrame({"variant": variants, "mean": list(weights.values())}).assign(**of_miu)
    values = paper_values()
    # Tables 5 to 16 are all single comparisons, with deviations
    return values[values["table"].between(5, 16) & (values["dataset"] == dataset)]


def _draw(
    sources: dict[str, pd.DataFrame],
    rows: list[Row],
    metrics: tuple[str, ...],
    places: list[_Place],
    xlabel: str,
    caption: str,
) -> Figure:
    # of all models, drawn or not, so that a missing one leaves the places of the others alone
    styles = model_styles([row.title for row in rows])
    drawn = {row.title for points in sources.values() for row in points["model"]}
    size = (max(4.2 * len(sources), 6.4), 2.7 * len(metrics) + 0.7 + 0.09 * len(drawn))
    shape, shown = (len(metrics), len(sources)), Display()
    grid = shown._start_panels(shape, size, sharey="row").reshape(shape)
    ticks = {place.position: place.label for place in places}
    for row, metric in enumerate(metrics):
        for ax, (source, points) in zip(grid[row], sources.items(), strict=True):
            of_metric = points[points["metric"] == metric]
            titles = of_metric["model"].map(lambda model: model.title)
            draw_curves(ax, of_metric.assign(model=titles), styles, ticks)
            if of_metric.empty:
                where = {"ha": "center", "va": "center", "transform": ax.transAxes}
                ax.text(0.5, 0.5, "no runs", color="0.4", **where)
            if row == 0:
                ax.set_title("these results" if source == "results" else "the paper")
            if row == len(metrics) - 1:
                ax.set_xlabel(xlabel)
            ax.tick_params(labelleft=True)
        words, unit = METRICS[metric]
        label = words if metric == AVERAGE_GAP else f"{words} ({unit})"
        grid[row, 0].set_ylabel(textwrap.fill(label, 30, break_on_hyphens=False), fontsize="small")
    figure = shown.figure_
    legend_below(figure, handles_of({n: s for n, s in styles.items() if n in drawn}))
    _put_caption(figure, caption)
    return figure


def _put_caption(figure: Figure, caption: str) -> None:
    """Write the caption above the panels, in room of its own."""
    lines = textwrap.wrap(caption, int(14.5 * figure.get_figwidth()))
    figure.suptitle("\n".join(lines), fontsize="small")
    figure.set_figheight(figure.get_figheight() + 0.16 * len(lines) + 0.15)


# accuracy of each group: figures 2 and 7 ----------------------------------------------------------


def _group_figure(
    number: int,
    runs: pd.DataFrame | None,
    dataset: str,
    methods: Sequence[str],
) -> PaperFigure:
    if runs is None:
        raise ValueError(f"Figure {number} needs results: the paper states none of its numbers.")
    forget = next((name for name in GROUP_SETS if name in set(runs["forget"])), GROUP_SETS[0])
    place = _Place(0, forget, forget, RATIO)
    used = runs[place.of(runs)]
    require_gold(used, runs, f"Figure {number}", place.forget, place.ratio)
    rows = [PRETRAIN, RETRAIN, GOLD]
    if number == 7:
        rows = [PRETRAIN, *(Row(name, True) for name in methods), GOLD]
    cells = _group_cells(used, rows)
    if cells.empty:
        raise ValueError("The results hold no metric 'group_accuracy[y, a]'.")
    accuracy, spread = (
        cells.pivot_table(name, "group", "model", sort=False) for name in ("mean", "std")
    )
    known = Problem(dataset, None, "").forget_sets if dataset in DEFINITIONS else {}
    marked = [n for n in map(group_name, known.get(place.forget, [])) if n in accuracy.index]
    shown = _notable_groups(accuracy, marked)
    titles = [row.title for row in rows if row.title in accuracy]
    display = GroupAccuracyDisplay(
        accuracy.loc[shown, titles], spread.loc[shown, titles], marked, gold=GOLD.title
    ).plot()
    when = "retraining" if number == 2 else "approximate unlearning"
    caption = (
        f"Figure {number}, {dataset}: accuracy of each group before and after {when}, "
        f"{place.ratio:.0%} of '{place.forget}' forgotten. The paper's tables hold no numbers "
        "of this figure; which models it shows is our choice."
    )
    if len(shown) < len(accuracy):
        caption += f" Of {len(accuracy)} groups, the {len(shown)} that change most."
    _put_caption(display.figure_, caption)
    notes = tuple(_missing(used, rows, [place], dataset))
    data = cells.rename(columns={"group": "position"}).assign(source="results")
    return PaperFigure(number, dataset, display.figure_, caption, notes, data)


def _group_cells(runs: pd.DataFrame, rows: list[Row]) -> pd.DataFrame:
    lines = runs[runs["metric"].str.startswith("group_accuracy[")]
    lines = lines.assign(group=lines["metric"].map(group_of_metric))
    cells = summarize(lines, ["group", "model"]).reset_index()
    titles = [row.title for row in rows]
    return cells[cells["model"].isin(titles)][["group", "model", "mean", "std"]]


def _notable_groups(accuracy: pd.DataFrame, marked: list[str]) -> list[str]:
    """Return the groups to draw, all of them unless they are too many to read."""
    if len(accuracy) <= MAX_GROUPS:
        return list(accuracy.index)
    change = (accuracy.max(axis=1) - accuracy.min(axis=1)).drop(marked)
    n_others = max(MAX_GROUPS - len(marked), 0)
    chosen = {*marked, *change.sort_values(ascending=False).index[:n_others]}
    return [name for name in accuracy.index if name in chosen]


# what all figures share -------------------------------------------------------------------------


def _missing(runs: pd.DataFrame, rows: list[Row], places: list[_Place], dataset: str) -> list[str]:
    """Return which runs of the figure are not there, and the commands that make them."""
    notes, seeds = [], sorted(runs["seed"].unique())
    for place in places:
        of_place = runs[place.of(runs)]
        needed = [
            row for row in (_at(row, place) for row in (*rows, GOLD)) if not row.of(of_place).any()
        ]
        notes += missing_notes(of_place, needed, (dataset, place.forget, place.ratio), seeds)
    return notes
