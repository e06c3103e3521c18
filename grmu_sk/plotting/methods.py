"""How close each method comes to the gold standard, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..metrics import AVERAGE_GAP_METRICS
from ..results import (
    AVERAGE_GAP,
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
from ._style import (
    DARK,
    GOLD,
    GREY,
    OPEN,
    RESEEDED,
    Display,
    Style,
    clean,
    handles_of,
    legend_below,
    model_styles,
    write_beside,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

GOLDS = {GOLD_LABEL: GOLD | {"linestyle": ":"}, RESEEDED_LABEL: RESEEDED}
WIDTHS = {AVERAGE_GAP: 2.0, "cost": 1.7}  # inches
WIDTH = 1.25  # of any other panel
DELTA = "\N{GREEK CAPITAL LETTER DELTA}"
DOT = {"color": DARK, "marker": "o", "linestyle": "-"}
LEGEND = {"method alone": DOT | OPEN, "method + reweight": DOT}
DELTA_LABEL = f"{DELTA}: mean absolute difference to the gold standard (points)"


@dataclass(eq=False, repr=False)
class MethodComparisonDisplay(Display):
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

    scores: pd.DataFrame
    notes: Mapping[str, str] | None = None

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
        figure: FigureBase | None = None,
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
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a figure.

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
            method besides the gold standard, or lacks a metric, one of ``methods`` or ``AVG_GAP``.
        """
        checked = check_results(results, single=("dataset", "forget", "ratio", "selection"))
        checked = choose_methods(with_average_gap(checked), methods)
        there = set(checked["metric"])
        if metrics is None:
            metrics = [metric for metric in AVERAGE_GAP_METRICS if metric in there]
        chosen = [metrics] if isinstance(metrics, str) else list(metrics)
        panels_of = [AVERAGE_GAP, *(name for name in chosen if name not in WIDTHS)]
        check_metrics(checked, panels_of)
        panels_of += ["cost"] if "cost" in there else []
        if checked["model"].isin(GOLDS).all():
            raise ValueError("results holds the gold standard alone: there is nothing to compare.")
        scores = summarize(checked[checked["metric"].isin(panels_of)], ["metric", "model"])
        gap = scores.loc[AVERAGE_GAP, "mean"].sort_values(ascending=False, kind="stable")
        models = [name for name in GOLDS if name in set(checked["model"])]
        models += [name for name in gap.index if name not in GOLDS]
        order = pd.MultiIndex.from_product([panels_of, models], names=["metric", "model"])
        return cls(scores.reindex(order), diverged_notes(checked)).plot(figure=figure)

    def plot(self, *, figure: FigureBase | None = None) -> Self:
        """Draw one line a model, and one panel a metric.

        Parameters
        ----------
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        MethodComparisonDisplay
            The display itself.
        """
        names = [f"{name}{(self.notes or {}).get(name, '')}" for name in self.models]
        widths = [WIDTHS.get(metric, WIDTH) for metric in self.metrics]
        of_names = 0.075 * max(map(len, names)) + 0.3
        size = (max(of_names + sum(widths), 7.0), 1.9 + 0.23 * len(names))
        options: dict[str, Any] = {
            "sharey": True,
            "width_ratios": widths,
            "gridspec_kw": {"wspace": 0.1},
        }
        axes = self._start_panels(figure, (1, len(widths)), size, **options)
        styles = model_styles(self.models)
        for panel, metric in zip(axes, self.metrics, strict=True):
            self._draw(panel, metric, styles)
        self.ax_.set_yticks(np.arange(len(names)), names)
        self.ax_.set_ylim(len(names) - 0.4, -0.6)
        golds = {name: style for name, style in GOLDS.items() if name in styles}
        lines = LEGEND | golds | {DELTA_LABEL: {"linestyle": "none"}}
        legend_below(self.ax_.figure, handles_of(lines, None))
        return self

    def _draw(self, ax: Axes, metric: str, styles: dict[str, Style]) -> None:
        scores = self.scores.loc[metric]
        mean, std = scores["mean"], scores["std"]
        is_cost, is_gap = metric == "cost", metric == AVERAGE_GAP
        low, high = (scores["low"], scores["high"]) if is_cost else (mean - std, mean + std)
        for position, (model, style) in enumerate(styles.items()):
            ends = [[mean[model] - low[model]], [high[model] - mean[model]]]
            # 100 is a likely value, at the edge
            marker = style | {"linestyle": "none", "clip_on": False, "elinewidth": 1.2}
            ax.errorbar(mean[model], position, xerr=ends, zorder=3, **marker)
        if GOLD_LABEL in styles and not is_gap:  # where it is the end of the scale
            ax.axvline(mean[GOLD_LABEL], color="black", linestyle=":", zorder=1)
        if RESEEDED_LABEL in styles and not is_cost:
            left, right = low[RESEEDED_LABEL], high[RESEEDED_LABEL]
            ax.axvspan(left, right, color=GREY, alpha=0.25, linewidth=0, zorder=0)
            ax.axvline(mean[RESEEDED_LABEL], color="0.35", linestyle="--", linewidth=1, zorder=1)
        if is_cost:
            label, title = "training epochs,\nmean and range", metric
            _scale_costs(ax, low.min(), high.max())
        else:
            words, unit = METRICS.get(metric, (metric, "%"))
            label, title = fill(f"{words} ({unit})", 16), metric
            # deviations may reach beyond what a share can be
            left, right = ax.get_xlim()
            margin = 0.03 * (right - left)
            ax.set_xlim(max(left, -margin), min(right, 100 + margin))
            ax.locator_params(axis="x", nbins=4 if is_gap else 2, min_n_ticks=2)
        if is_gap:
            label, title = "%, 100 = gold standard", "average gap"
        elif not is_cost and GOLD_LABEL in styles:
            deltas = {n: delta for n, delta in enumerate(scores["delta"]) if n and delta == delta}
            texts = [DELTA, *(f"{delta:.1f}" for delta in deltas.values())]
            write_beside(ax, texts, [-0.9, *deltas], 24)
        ax.set_xlabel(label, fontsize="small")
        ax.set_title(title, fontsize="medium")
        clean(ax, grid="both")


def _scale_costs(ax: Axes, low: float, high: float) -> None:
    if 0 < 5 * low < high:
        ax.set_xscale("log")
        ax.set_xticks(np.geomspace(low, high, 3))
        ax.minorticks_off()
    else:
        ax.locator_params(axis="x", nbins=3)
    ax.xaxis.set_major_formatter("{x:.2g}")
