"""How close each method comes to the gold standard: at one unlearning ratio, and over several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from .. import results as tables
from ..metrics import AVERAGE_GAP_METRICS
from . import _style

GOLDS = {
    tables.GOLD_LABEL: _style.GOLD | {"linestyle": ":"},
    tables.RESEEDED_LABEL: _style.RESEEDED,
}
WIDTHS = {tables.AVERAGE_GAP: 2.0, "cost": 1.7}  # inches
WIDTH = 1.25  # of any other panel
DELTA = "\N{GREEK CAPITAL LETTER DELTA}"
DOT = {"color": _style.DARK, "marker": "o", "linestyle": "-"}
LEGEND = {"method alone": DOT | _style.OPEN, "method + reweight": DOT}
DELTA_LABEL = f"{DELTA}: mean absolute difference to the gold standard (points)"


@dataclass(eq=False, repr=False)
class MethodComparisonDisplay(_style.Display):
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

        Returns
        -------
        MethodComparisonDisplay
            The display, drawn. A model that diverged in some seeds is shown by its other seeds,
            and its name says so.

        Raises
        ------
        ValueError
            If it is empty or malformed, mixes data sets, forget sets, ratios or selections, or
            lacks a metric or ``AVG_GAP``.
        """
        checked = tables.check_results(results, single=("dataset", "forget", "ratio", "selection"))
        checked = tables.with_average_gap(checked)
        there = set(checked["metric"])
        if metrics is None:
            metrics = [metric for metric in AVERAGE_GAP_METRICS if metric in there]
        chosen = [metrics] if isinstance(metrics, str) else list(metrics)
        panels_of = [tables.AVERAGE_GAP, *(name for name in chosen if name not in WIDTHS)]
        tables.check_metrics(checked, panels_of)
        panels_of += ["cost"] if "cost" in there else []
        scores = tables.summarize(checked[checked["metric"].isin(panels_of)], ["metric", "model"])
        gap = scores.loc[tables.AVERAGE_GAP, "mean"].sort_values(ascending=False, kind="stable")
        models = [name for name in GOLDS if name in set(checked["model"])]
        models += [name for name in gap.index if name not in GOLDS]
        order = pd.MultiIndex.from_product([panels_of, models], names=["metric", "model"])
        return cls(scores.reindex(order), tables.diverged_notes(checked)).plot()

    def plot(self) -> Self:
        """Draw one line a model, and one panel a metric.

        Returns
        -------
        MethodComparisonDisplay
            The display itself.
        """
        names = [f"{name}{(self.notes or {}).get(name, '')}" for name in self.models]
        widths = [WIDTHS.get(metric, WIDTH) for metric in self.metrics]
        of_names = 0.075 * max(map(len, names)) + 0.3
        size = (max(of_names + sum(widths), 7.0), 1.9 + 0.23 * len(names))
        options = {"sharey": True, "width_ratios": widths, "gridspec_kw": {"wspace": 0.1}}
        axes = self._start_panels((1, len(widths)), size, **options)
        styles = _style.model_styles(self.models)
        for panel, metric in zip(axes, self.metrics, strict=True):
            self._draw(panel, metric, styles)
        self.ax_.set_yticks(np.arange(len(names)), names)
        self.ax_.set_ylim(len(names) - 0.4, -0.6)
        golds = {name: style for name, style in GOLDS.items() if name in styles}
        lines = LEGEND | golds | {DELTA_LABEL: {"linestyle": "none"}}
        _style.legend_below(self.ax_.figure, _style.handles_of(lines, None))
        return self

    def _draw(self, ax: Axes, metric: str, styles: dict[str, _style.Style]) -> None:
        scores = self.scores.loc[metric]
        mean, std = scores["mean"], scores["std"]
        is_cost, is_gap = metric == "cost", metric == tables.AVERAGE_GAP
        low, high = (scores["low"], scores["high"]) if is_cost else (mean - std, mean + std)
        for position, (model, style) in enumerate(styles.items()):
            ends = [[mean[model] - low[model]], [high[model] - mean[model]]]
            # 100 is a likely value, at the edge
            marker = style | {"linestyle": "none", "clip_on": False, "elinewidth": 1.2}
            ax.errorbar(mean[model], position, xerr=ends, zorder=3, **marker)
        if tables.GOLD_LABEL in styles and not is_gap:  # where it is the end of the scale
            ax.axvline(mean[tables.GOLD_LABEL], color="black", linestyle=":", zorder=1)
        if tables.RESEEDED_LABEL in styles and not is_cost:
            left, right = low[tables.RESEEDED_LABEL], high[tables.RESEEDED_LABEL]
            ax.axvspan(left, right, color=_style.GREY, alpha=0.25, linewidth=0, zorder=0)
            ax.axvline(
                mean[tables.RESEEDED_LABEL], color="0.35", linestyle="--", linewidth=1, zorder=1
            )
        if is_cost:
            label, title = "training epochs,\nmean and range", metric
            _scale_costs(ax, low.min(), high.max())
        else:
            words, unit = tables.METRICS.get(metric, (metric, "%"))
            label, title = fill(f"{words} ({unit})", 16), metric
            # deviations may reach beyond what a share can be
            left, right = ax.get_xlim()
            margin = 0.03 * (right - left)
            ax.set_xlim(max(left, -margin), min(right, 100 + margin))
            ax.locator_params(axis="x", nbins=4 if is_gap else 2, min_n_ticks=2)
        if is_gap:
            label, title = "%, 100 = gold standard", "average gap"
        elif not is_cost and tables.GOLD_LABEL in styles:
            deltas = {n: delta for n, delta in enumerate(scores["delta"]) if n and delta == delta}
            texts = [DELTA, *(f"{delta:.1f}" for delta in deltas.values())]
            _style.write_beside(ax, texts, [-0.9, *deltas], 24)
        ax.set_xlabel(label, fontsize="small")
        ax.set_title(title, fontsize="medium")
        _style.clean(ax, grid="both")


def _scale_costs(ax: Axes, low: float, high: float) -> None:
    if 0 < 5 * low < high:
        ax.set_xscale("log")
        ax.set_xticks(np.geomspace(low, high, 3))
        ax.minorticks_off()
    else:
        ax.locator_params(axis="x", nbins=3)
    ax.xaxis.set_major_formatter("{x:.2g}")


# over the unlearning ratio ---


@dataclass(eq=False, repr=False)
class UnlearningRatioDisplay(_style.Display):
    """Metrics of each model against the unlearning ratio.

    One panel a metric and one line a model: the mean over seeds, with one standard deviation to
    each side. The line of the gold standard is black with stars: a method
    should be near it, and neither above nor below.

    Parameters
    ----------
    curves : DataFrame
        Indexed by (``metric``, ``model``, ``ratio``), with columns ``mean`` and ``std``: metrics
        in percent, ``cost`` in training epochs, ``seconds`` in seconds; ratios in (0, 1].
    notes : mapping of str to str or None, default=None
        What the legend adds to the name of a model.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel of the first metric.
    axes_ : ndarray of Axes of shape (n_metrics,)
        All panels, in the order of the metrics.
    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    MethodComparisonDisplay : All methods at one ratio.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import pandas as pd
    >>> from grmu_sk.plotting import UnlearningRatioDisplay
    >>> columns = ["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]
    >>> results = pd.DataFrame(
    ...     [("digits", r, 0, "miu", 1, "GA", 70 - 20 * r) for r in (0.1, 0.5, 0.9)],
    ...     columns=columns,
    ... )
    >>> display = UnlearningRatioDisplay.from_results(results, metrics=["GA"])
    >>> display.curves.loc[("GA", "miu + reweight", 0.5), "mean"].item()
    60.0
    >>> plt.close(display.figure_)
    """

    curves: pd.DataFrame
    notes: Mapping[str, str] | None = None

    @classmethod
    def from_results(
        cls,
        results: pd.DataFrame,
        *,
        metrics: str | Sequence[str] = ("AVG_GAP", "GA", "UA"),
    ) -> Self:
        """Draw the results of comparisons at several ratios.

        Parameters
        ----------
        results : DataFrame
            Tables of :func:`grmu_sk.comparison.compare` for several ratios, one below the other
            (:func:`pandas.concat`), or results of a benchmark; of one data set and forget set.
        metrics : str or sequence of str, default=("AVG_GAP", "GA", "UA")
            What to draw, one panel each. The gold standard has no line in ``AVG_GAP``, where it
            is 100 by definition.

        Returns
        -------
        UnlearningRatioDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If it is empty or malformed, mixes data sets, forget sets or selections, lacks a
            metric, or holds a single ratio.
        """
        metrics = [metrics] if isinstance(metrics, str) else list(metrics)
        checked = tables.check_results(results, single=("dataset", "forget", "selection"))
        checked = tables.with_average_gap(checked)
        tables.check_metrics(checked, metrics)
        ratios = checked["ratio"].unique().tolist()
        if len(ratios) < 2:
            raise ValueError(f"results holds the ratio {ratios[0]} alone; a curve needs several.")
        rows = checked[checked["metric"].isin(metrics)]
        rows = rows[~((rows["model"] == tables.GOLD_LABEL) & (rows["metric"] == "AVG_GAP"))]
        curves = tables.summarize(rows, ["metric", "model", "ratio"])[["mean", "std"]]
        in_order = curves.sort_index(level="ratio", sort_remaining=False, kind="stable")
        curves = in_order.reindex(metrics, level="metric")
        return cls(curves, tables.diverged_notes(checked)).plot()

    def plot(self) -> Self:
        """Draw one panel a metric.

        Returns
        -------
        UnlearningRatioDisplay
            The display itself.
        """
        curves = self.curves.reset_index()
        curves["position"] = 100 * curves["ratio"].astype(float)
        metrics = list(curves["metric"].unique())
        models = list(curves["model"].unique())
        models.sort(key=lambda name: (name != tables.GOLD_LABEL, name != tables.RESEEDED_LABEL))
        styles = _style.model_styles(models)
        ticks = {position: f"{position:g}" for position in sorted(curves["position"].unique())}
        size = (max(3.4 * len(metrics), 6.5), 3.2 + 0.09 * len(models))
        axes = self._start_panels((1, len(metrics)), size)
        for panel, metric in zip(axes, metrics, strict=True):
            _style.draw_curves(panel, curves[curves["metric"] == metric], styles, ticks)
            words, unit = tables.METRICS.get(metric, (metric, "%"))
            panel.set_title(metric, fontsize="medium")
            panel.set_xlabel("unlearning ratio (%)")
            panel.set_ylabel(f"{words} ({unit})", fontsize="small")
        _style.legend_below(self.ax_.figure, _style.handles_of(styles, self.notes))
        return self
