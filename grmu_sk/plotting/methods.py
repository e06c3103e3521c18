"""How close each method comes to the gold standard: at one unlearning ratio, and over several."""

from __future__ import annotations

from collections.abc import Sequence
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
WIDTH = 1.4  # of a panel, in inches
DOT = {"color": _style.DARK, "marker": "o", "linestyle": "-"}
LEGEND = {"method alone": DOT | _style.OPEN, "method + reweight": DOT}


@dataclass(eq=False, repr=False)
class MethodComparisonDisplay(_style.Display):
    """Metrics of each method beside those of the gold standard, and cost; best method on top.

    One line a model. The first panel has the average gap; then each metric has a panel of its own,
    with a dotted line where the gold standard is. A method should be near it, and neither above
    nor below. Dots are means over seeds, with a line of one standard
    deviation to each side. Nothing can be expected to come closer to the gold standard than the
    gold standard trained once more from another seed, which has a dashed line and a grey band of
    one standard deviation. The last panel has the cost in training epochs.

    Parameters
    ----------
    scores : DataFrame
        Indexed by (``metric``, ``model``), models in the order of the lines, metrics in that of the
        panels. Columns ``mean``, ``std`` (over seeds) and ``delta``; in percent, ``cost`` in
        training epochs.

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
    >>> scores = {"AVG_GAP": (100, 88, 92), "GA": (80, 60, 76), "retrainings": (1, 0.33, 0.07)}
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
            The display, drawn. A model that failed with some seeds is shown by its other seeds,
            and its name says so.

        Raises
        ------
        ValueError
            If it is empty or malformed, mixes data sets, forget sets, ratios or selections, or
            lacks a metric or ``AVG_GAP``.
        """
        checked = tables.check_results(results, single=("dataset", "forget", "ratio", "selection"))
        checked = tables.with_average_gap(tables.name_failed(checked))
        there = set(checked["metric"])
        if metrics is None:
            metrics = [metric for metric in AVERAGE_GAP_METRICS if metric in there]
        chosen = [metrics] if isinstance(metrics, str) else list(metrics)
        ends = (tables.AVERAGE_GAP, "retrainings", "cost")
        panels_of = [tables.AVERAGE_GAP, *(name for name in chosen if name not in ends)]
        tables.check_metrics(checked, panels_of)
        panels_of += [name for name in ("retrainings", "cost") if name in there]
        scores = tables.summarize(checked[checked["metric"].isin(panels_of)], ["metric", "model"])
        gap = scores.loc[tables.AVERAGE_GAP, "mean"].sort_values(ascending=False, kind="stable")
        models = [name for name in GOLDS if name in set(checked["model"])]
        models += [name for name in gap.index if name not in GOLDS]
        order = pd.MultiIndex.from_product([panels_of, models], names=["metric", "model"])
        return cls(scores.reindex(order)).plot()

    def plot(self) -> Self:
        """Draw one line a model, and one panel a metric.

        Returns
        -------
        MethodComparisonDisplay
            The display itself.
        """
        names, metrics = self.models, self.metrics
        of_names = 0.075 * max(map(len, names)) + 0.3
        size = (max(of_names + WIDTH * len(metrics), 7.0), 1.9 + 0.23 * len(names))
        axes = self._start_panels((1, len(metrics)), size, sharey=True)
        styles = _style.model_styles(names)
        for panel, metric in zip(axes, metrics, strict=True):
            self._draw(panel, metric, styles)
        self.ax_.set_yticks(np.arange(len(names)), names)
        self.ax_.set_ylim(len(names) - 0.4, -0.6)
        golds = {name: style for name, style in GOLDS.items() if name in styles}
        _style.legend_below(self.ax_.figure, _style.handles_of(LEGEND | golds))
        return self

    def _draw(self, ax: Axes, metric: str, styles: dict[str, _style.Style]) -> None:
        scores = self.scores.loc[metric]
        mean, std = scores["mean"], scores["std"]
        for position, (model, style) in enumerate(styles.items()):
            # 100 is a likely value, at the edge
            marker = style | {"linestyle": "none", "clip_on": False, "elinewidth": 1.2}
            ax.errorbar(mean[model], position, xerr=std[model], zorder=3, **marker)
        if tables.GOLD_LABEL in styles:
            ax.axvline(mean[tables.GOLD_LABEL], color="black", linestyle=":", zorder=1)
        if tables.RESEEDED_LABEL in styles:
            middle, half = scores.loc[tables.RESEEDED_LABEL, ["mean", "std"]]
            band: _style.Style = {"color": _style.GREY, "alpha": 0.25, "linewidth": 0, "zorder": 0}
            ax.axvspan(middle - half, middle + half, **band)
            ax.axvline(middle, color="0.35", linestyle="--", linewidth=1, zorder=1)
        words, unit = tables.METRICS.get(metric, (metric, "%"))
        if unit == "%":  # deviations may reach beyond what a share can be
            left, right = ax.get_xlim()
            margin = 0.03 * (right - left)
            ax.set_xlim(max(left, -margin), min(right, 100 + margin))
        ax.locator_params(axis="x", nbins=3, min_n_ticks=2)
        ax.set_xlabel(fill(f"{words} ({unit})", 18), fontsize="small")
        ax.set_title(metric, fontsize="medium")
        _style.clean(ax, grid="both")


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
        checked = tables.with_average_gap(tables.name_failed(checked))
        tables.check_metrics(checked, metrics)
        ratios = checked["ratio"].unique().tolist()
        if len(ratios) < 2:
            raise ValueError(f"results holds the ratio {ratios[0]} alone; a curve needs several.")
        rows = checked[checked["metric"].isin(metrics)]
        rows = rows[~((rows["model"] == tables.GOLD_LABEL) & (rows["metric"] == "AVG_GAP"))]
        curves = tables.summarize(rows, ["metric", "model", "ratio"])[["mean", "std"]]
        in_order = curves.sort_index(level="ratio", sort_remaining=False, kind="stable")
        curves = in_order.reindex(metrics, level="metric")
        return cls(curves).plot()

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
        _style.legend_below(self.ax_.figure, _style.handles_of(styles))
        return self
