"""Metrics against the share of the groups that is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

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
from ._style import Display, draw_curves, handles_of, legend_below, model_styles

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

MAX_COLUMNS = 3
MAX_BARS = 10  # models; the deviations of more cover one another


@dataclass(eq=False, repr=False)
class UnlearningRatioDisplay(Display):
    """Metrics of each model against the unlearning ratio.

    One panel a metric and one line a model: the mean over seeds, with one standard deviation to
    each side (for up to 10 models). The line of the gold standard is black with stars: a method
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
        methods: str | Sequence[str] | None = None,
        figure: FigureBase | None = None,
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
        methods : str, sequence of str or None, default=None
            Names of methods (``"miu"``) or of models (``"miu + reweight"``) to draw beside the gold
            standard, in this order; None draws all.
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        UnlearningRatioDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``results`` is no DataFrame.
        ValueError
            If it is empty or malformed, mixes data sets, forget sets or selections, lacks a
            metric or one of ``methods``, or holds a single ratio; or if no metric is asked for.
        """
        metrics = [metrics] if isinstance(metrics, str) else list(metrics)
        if not metrics:
            raise ValueError("metrics is empty: name at least one, such as metrics=['GA'].")
        checked = check_results(results, single=("dataset", "forget", "selection"))
        checked = choose_methods(with_average_gap(checked), methods)
        check_metrics(checked, metrics)
        ratios = checked["ratio"].unique().tolist()
        if len(ratios) < 2:
            raise ValueError(
                f"results holds the unlearning ratio {ratios[0]} alone, and a curve needs several. "
                "Run the comparison for other ratios and join the tables with pandas.concat."
            )
        rows = checked[checked["metric"].isin(metrics)]
        rows = rows[~((rows["model"] == GOLD_LABEL) & (rows["metric"] == "AVG_GAP"))]
        curves = summarize(rows, ["metric", "model", "ratio"])[["mean", "std"]]
        order = pd.MultiIndex.from_product([metrics, rows["model"].unique(), sorted(ratios)])
        curves = curves.loc[order[order.isin(curves.index)]]
        return cls(curves, diverged_notes(checked)).plot(figure=figure)

    def plot(self, *, figure: FigureBase | None = None) -> Self:
        """Draw one panel a metric.

        Parameters
        ----------
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        UnlearningRatioDisplay
            The display itself.
        """
        curves = self.curves.reset_index()
        curves["position"] = 100 * curves["ratio"].astype(float)
        metrics = list(curves["metric"].unique())
        models = list(curves["model"].unique())
        models.sort(key=lambda name: (name != GOLD_LABEL, name != RESEEDED_LABEL))
        styles = model_styles(models)
        if len(models) > MAX_BARS:
            curves["std"] = np.nan
        ticks = {position: f"{position:g}" for position in sorted(curves["position"].unique())}
        n_columns = min(len(metrics), MAX_COLUMNS)
        n_rows = -(-len(metrics) // n_columns)
        size = (max(3.4 * n_columns, 6.5), 3.2 * n_rows + 0.09 * len(models))
        axes = self._start_panels(figure, (n_rows, n_columns), size)
        for unused in axes[len(metrics) :]:
            unused.remove()
        self.axes_ = axes[: len(metrics)]
        for panel, metric in zip(self.axes_, metrics, strict=True):
            draw_curves(panel, curves[curves["metric"] == metric], styles, ticks)
            words, unit = METRICS.get(metric, (metric, "%"))
            panel.set_title(metric, fontsize="medium")
            panel.set_xlabel("unlearning ratio (%)")
            panel.set_ylabel(f"{words} ({unit})", fontsize="small")
        legend_below(self.ax_.figure, handles_of(styles, self.notes))
        return self
