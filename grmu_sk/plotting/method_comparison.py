"""How close each method comes to the gold standard, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..metrics import AVERAGE_GAP_METRICS
from ..results import (
    GOLD_LABEL,
    METRICS,
    RESEEDED_LABEL,
    check_metrics,
    check_results,
    choose_methods,
    diverged_notes,
    summarize,
    with_average_gap,
)
from ._style import BLUE, FIXED_STYLES, GREY, RED, WITH_REWEIGHT, clean, fill_legend, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES: dict[bool, dict[str, Any]] = {
    False: {"color": RED, "marker": "o", "markerfacecolor": "white", "markersize": 5.5},
    True: {"color": BLUE, "marker": "s", "markerfacecolor": BLUE, "markersize": 5.5},
}
STYLE_LABELS = {False: "method alone", True: "method + reweight"}
GOLDS = (GOLD_LABEL, RESEEDED_LABEL)
WIDTHS = {"AVG_GAP": 2.0, "cost": 1.7}  # inches
WIDTH = 1.25  # of any other panel
WIDTH_OF_LETTER = 0.075  # of a model's name
GAP = 0.1  # between panels, so that a delta stands nearer to its own
DELTA = "\N{GREEK CAPITAL LETTER DELTA}"


class MethodComparisonDisplay:
    """Metrics of each method beside those of the gold standard, and cost; best method on top.

    One line a model. The first panel has the average gap; then each metric has a panel of its own,
    with a dotted line where the gold standard is. A method should be near it, and neither above
    nor below; the number beside it is the delta, the mean over seeds of the absolute difference to
    the gold standard of the same seed. Dots are means over seeds, with a line of one standard
    deviation to each side. Nothing can be expected to come closer to the gold standard than the
    gold standard trained once more from another seed, which has a dashed line and a grey band of
    one standard deviation. The last panel has the cost in training epochs, with a line from the
    cheapest to the dearest seed.

    Parameters
    ----------
    scores : DataFrame
        Indexed by (``metric``, ``model``), models in the order of the lines. Columns ``mean``,
        ``std``, ``low``, ``high`` (over seeds) and ``delta``; in percent, ``cost`` in training
        epochs. ``"AVG_GAP"`` has the first panel, and ``"cost"``, if there, the last.
    notes : mapping of str to str or None, default=None
        What is added to the name of a model.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel of the average gap.
    axes_ : ndarray of Axes of shape (n_panels,)
        All panels, in the order of the metrics.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    grmu_sk.metrics.average_gap_score : The average gap.
    UnlearningRatioDisplay : The same methods for several unlearning ratios.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import pandas as pd
    >>> from grmu_sk.plotting import MethodComparisonDisplay
    >>> scores = {"AVG_GAP": (100, 88, 92), "GA": (80, 60, 76), "cost": (30, 9.9, 2.2)}
    >>> results = pd.DataFrame(
    ...     [
    ...         ("digits", 0.5, 0, method, reweight, metric, values[number])
    ...         for metric, values in scores.items()
    ...         for number, (method, reweight) in enumerate(
    ...             [("retrain", 1), ("fine_tune", 0), ("miu", 1)]
    ...         )
    ...     ],
    ...     columns=["dataset", "ratio", "seed", "method", "reweight", "metric", "value"],
    ... )
    >>> display = MethodComparisonDisplay.from_results(results)
    >>> display.models
    ['retrain + reweight (gold standard)', 'miu + reweight', 'fine_tune']
    >>> display.scores.loc[("GA", "miu + reweight"), "delta"].item()
    4.0
    >>> plt.close(display.figure_)
    """

    ax_: Axes
    axes_: NDArray[Any]
    figure_: Figure

    def __init__(self, scores: pd.DataFrame, notes: Mapping[str, str] | None = None) -> None:
        self.scores = scores
        self.notes = notes

    @property
    def models(self) -> list[str]:
        """Names of the models, from the top line to the bottom one."""
        return list(dict.fromkeys(self.scores.index.get_level_values("model")))

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, one panel each."""
        return list(dict.fromkeys(self.scores.index.get_level_values("metric")))

    @classmethod
    def from_results(
        cls,
        results: pd.DataFrame,
        *,
        metrics: str | Sequence[str] | None = None,
        methods: str | Sequence[str] | None = None,
        show_cost: bool = True,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the results of a comparison.

        Parameters
        ----------
        results : DataFrame
            As returned by :func:`grmu_sk.comparison.compare`, or results of a benchmark; of one
            data set, forget set and ratio.
        metrics : str, sequence of str or None, default=None
            Metrics that have a panel of their own, beside the average gap. None takes those of the
            six that the average gap is made of which ``results`` holds; ``()`` takes none.
        methods : str, sequence of str or None, default=None
            Names of methods (``"miu"``) or of models (``"miu + reweight"``) to draw beside the gold
            standard; None draws all.
        show_cost : bool, default=True
            Whether to draw the panel of costs.
        ax : matplotlib Axes or None, default=None
            Whose place to draw in; None makes a figure.

        Returns
        -------
        MethodComparisonDisplay
            The display, drawn. A model that diverged in some seeds is shown by its other seeds,
            and its name says so.

        Raises
        ------
        TypeError
            If ``results`` is no DataFrame.
        ValueError
            If it is empty or malformed, mixes data sets, forget sets, ratios or selections, has no
            method besides the gold standard, lacks a metric, one of ``methods``, ``AVG_GAP`` or
            (with ``show_cost``) ``cost``, or a cost is not positive.
        """
        checked = with_average_gap(
            check_results(results, single=("dataset", "forget", "ratio", "selection"))
        )
        checked = choose_methods(checked, methods)
        chosen = _metric_names(checked, metrics)
        panels_of = ["AVG_GAP", *chosen, *(["cost"] if show_cost else [])]
        check_metrics(checked, panels_of)
        if checked["model"].isin(GOLDS).all():
            raise ValueError("results holds the gold standard alone: there is nothing to compare.")
        if show_cost:
            _check_costs(checked[checked["metric"] == "cost"])
        scores = summarize(checked[checked["metric"].isin(panels_of)], ["metric", "model"])
        gap = scores.loc["AVG_GAP", "mean"].sort_values(ascending=False, kind="stable")
        models = [name for name in GOLDS if name in set(checked["model"])]
        models += [name for name in gap.index if name not in GOLDS]
        order = pd.MultiIndex.from_product([panels_of, models], names=["metric", "model"])
        return cls(scores.reindex(order), diverged_notes(checked)).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw one line a model, and one panel a metric.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Whose place to draw in; None makes a figure.

        Returns
        -------
        MethodComparisonDisplay
            The display itself.
        """
        handles = self._handles()
        names = [f"{name}{(self.notes or {}).get(name, '')}" for name in self.models]
        of_names = WIDTH_OF_LETTER * max(map(len, names)) + 0.3
        widths = [WIDTHS.get(metric, WIDTH) for metric in self.metrics]
        grid, legend = panels(
            ax,
            (1, len(widths)),
            figsize=(max(of_names + sum(widths), 7.0), 1.3 + 0.23 * len(self.models)),
            labels=[str(handle.get_label()) for handle in handles],
            share="y",
            width_ratios=widths,
        )
        self.axes_ = grid[0]
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.get_figure(root=True)  # type: ignore[assignment]
        if ax is None:
            layout: Any = self.figure_.get_layout_engine()
            layout.set(w_pad=GAP)
        for panel, metric in zip(self.axes_, self.metrics, strict=True):
            scores = self.scores.loc[metric]
            self._draw_dots(panel, scores, is_range=metric == "cost")
            _mark_golds(panel, scores, metric)
            if metric == "cost":
                _label_costs(panel, scores)
            else:
                _label_percent(panel, metric)
            if metric not in WIDTHS and GOLD_LABEL in scores.index:
                _write_deltas(panel, scores)
            panel.tick_params(axis="y", labelleft=panel is self.ax_)
            clean(panel, grid="both")
        self.ax_.set_yticks(np.arange(len(names)), names)
        self.ax_.set_ylim(len(names) - 0.4, -0.6)
        fill_legend(legend, handles, whole_figure=ax is None)
        return self

    def _draw_dots(self, ax: Axes, scores: pd.DataFrame, *, is_range: bool) -> None:
        mean = scores["mean"]
        low, high = (mean - scores["std"], mean + scores["std"])
        if is_range:
            low, high = scores["low"], scores["high"]
        for position, (model, value) in enumerate(mean.items()):
            style = _style(str(model))
            if np.isfinite(value):
                ax.hlines(position, low[model], high[model], colors=style["color"], linewidth=1.2)
                marker = style | {"linestyle": "none", "clip_on": False}  # 100 is a likely value
                ax.plot(value, position, zorder=3, **marker)

    def _handles(self) -> list[Any]:
        from matplotlib.lines import Line2D

        there = set(self.models)
        handles = []
        for with_reweight, label in STYLE_LABELS.items():
            if any(_style(name) is STYLES[with_reweight] for name in there):
                handles.append(Line2D([], [], linestyle="-", label=label, **STYLES[with_reweight]))
        lines = {GOLD_LABEL: ("gold standard", ":"), RESEEDED_LABEL: (RESEEDED_LABEL, "--")}
        for name, (label, line) in lines.items():
            if name in there:
                style = _style(name) | {"linestyle": line}
                handles.append(Line2D([], [], label=label, **style))
        if GOLD_LABEL in there and any(metric not in WIDTHS for metric in self.metrics):
            label = f"{DELTA}: mean absolute difference to the gold standard (points)"
            handles.append(Line2D([], [], linestyle="none", label=label))
        return handles


def _style(model: str) -> dict[str, Any]:
    return FIXED_STYLES.get(model, STYLES[WITH_REWEIGHT in model])


def _mark_golds(ax: Axes, scores: pd.DataFrame, metric: str) -> None:
    if GOLD_LABEL in scores.index and metric != "AVG_GAP":  # where it is the end of the scale
        ax.axvline(scores.loc[GOLD_LABEL, "mean"], color="black", linestyle=":", zorder=1)
    if RESEEDED_LABEL in scores.index and metric != "cost":
        mean, std = scores.loc[RESEEDED_LABEL, ["mean", "std"]]
        ax.axvspan(mean - std, mean + std, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        ax.axvline(mean, color="0.35", linestyle="--", linewidth=1, zorder=1)


def _label_percent(ax: Axes, metric: str) -> None:
    from matplotlib.ticker import MaxNLocator

    is_gap = metric == "AVG_GAP"
    low, high = ax.get_xlim()
    margin = 0.03 * (high - low)
    # deviations may reach beyond what a share can be
    ax.set_xlim(max(low, -margin), min(high, 100 + margin))
    ax.xaxis.set_major_locator(MaxNLocator(4 if is_gap else 2, min_n_ticks=2))
    ax.xaxis.set_major_formatter("{x:g}")
    words, unit = METRICS.get(metric, (metric, "%"))
    label = "%, 100 = gold standard" if is_gap else fill(f"{words} ({unit})", 16)
    ax.set_xlabel(label, fontsize="small")
    ax.set_title("average gap" if is_gap else metric, fontsize="medium")


def _label_costs(ax: Axes, scores: pd.DataFrame) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    low, high = scores["low"].min(), scores["high"].max()
    if high > 5 * low:
        ax.set_xscale("log")
        decades = LogLocator(subs=(1.0,) if high > 30 * low else (1.0, 3.0), numticks=4)
        ax.xaxis.set_major_locator(decades)
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("training epochs,\nmean and range", fontsize="small")
    ax.set_title("cost", fontsize="medium")


def _write_deltas(ax: Axes, scores: pd.DataFrame) -> None:
    """Write a column of deltas to the right of the panel."""
    beside: dict[str, Any] = {
        "xytext": (21, 0),
        "textcoords": "offset points",
        "fontsize": 7.5,
        "ha": "right",
        "annotation_clip": False,
    }
    for position, (model, delta) in enumerate(scores["delta"].items()):
        if model != GOLD_LABEL and np.isfinite(delta):
            across = ax.get_yaxis_transform()
            ax.annotate(f"{delta:.1f}", (1, position), xycoords=across, va="center", **beside)
    ax.annotate(DELTA, (1, 1), xycoords="axes fraction", va="bottom", **beside)


def _metric_names(results: pd.DataFrame, metrics: str | Sequence[str] | None) -> list[str]:
    if metrics is None:
        there = set(results["metric"])
        return [metric for metric in AVERAGE_GAP_METRICS if metric in there]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    return [name for name in names if name not in WIDTHS]


def _check_costs(costs: pd.DataFrame) -> None:
    bad = costs[costs["value"] <= 0]
    if len(bad):
        raise ValueError(
            f"The cost of {sorted(set(bad['model']))} is not positive, and the axis of costs is "
            "logarithmic. Were the values rounded? Pass show_cost=False to leave the costs out."
        )
