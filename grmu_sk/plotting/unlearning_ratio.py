"""Metrics against the share of the groups that is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from ._style import clean, fill_legend, model_styles, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COLUMNS = 3
SPREADS = ("auto", "band", "bars", "none")
MAX_BANDS, MAX_BARS = 4, 10  # models; more cover one another


class UnlearningRatioDisplay:
    """Metrics of each model against the unlearning ratio.

    One panel a metric and one line a model: the mean over seeds, with one standard deviation to
    each side as a shaded band or a vertical bar. The line of the gold standard is black with stars:
    a method should be near it, and neither above nor below.

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

    ax_: Axes
    axes_: NDArray[Any]
    figure_: Figure

    def __init__(self, curves: pd.DataFrame, notes: Mapping[str, str] | None = None) -> None:
        self.curves = curves
        self.notes = notes

    @classmethod
    def from_results(
        cls,
        results: pd.DataFrame,
        *,
        metrics: str | Sequence[str] = ("AVG_GAP", "GA", "UA"),
        methods: str | Sequence[str] | None = None,
        spread: str = "auto",
        ax: Axes | None = None,
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
        spread : {"auto", "band", "bars", "none"}, default="auto"
            How the standard deviation over seeds is drawn: as a shaded band, as bars, which shift
            the models a little to the side so that the bars do not cover one another, or not.
            "auto" takes bands for up to 4 models, bars for up to 10, and nothing for more.
        ax : matplotlib Axes or None, default=None
            Whose place to draw in; None makes a figure.

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
            metric or one of ``methods``, or holds a single ratio; or if no metric is asked for or
            ``spread`` is unknown.
        """
        if isinstance(metrics, str):
            metrics = [metrics]
        if not len(metrics):
            raise ValueError("metrics is empty: name at least one, such as metrics=['GA'].")
        _check_spread(spread)
        single = ("dataset", "forget", "selection")
        checked = with_average_gap(check_results(results, single=single))
        checked = choose_methods(checked, methods)
        check_metrics(checked, metrics)
        ratios = checked["ratio"].unique().tolist()
        if len(ratios) < 2:
            raise ValueError(
                f"results holds the unlearning ratio {ratios[0]} alone, and a curve needs several. "
                "Run the comparison for other ratios and join the tables with pandas.concat."
            )
        rows = checked[checked["metric"].isin(list(metrics))]
        rows = rows[~((rows["model"] == GOLD_LABEL) & (rows["metric"] == "AVG_GAP"))]
        curves = summarize(rows, ["metric", "model", "ratio"])[["mean", "std"]]
        order = pd.MultiIndex.from_product([metrics, rows["model"].unique(), sorted(ratios)])
        curves = curves.loc[order[order.isin(curves.index)]]
        return cls(curves, diverged_notes(checked)).plot(spread=spread, ax=ax)

    def plot(self, *, spread: str = "auto", ax: Axes | None = None) -> Self:
        """Draw one panel a metric.

        Parameters
        ----------
        spread : {"auto", "band", "bars", "none"}, default="auto"
            How the standard deviation over seeds is drawn, see :meth:`from_results`.
        ax : matplotlib Axes or None, default=None
            Whose place to draw in; None makes a figure.

        Returns
        -------
        UnlearningRatioDisplay
            The display itself.

        Raises
        ------
        ValueError
            If ``spread`` is unknown.
        """
        from matplotlib.lines import Line2D

        _check_spread(spread)
        metrics = list(dict.fromkeys(self.curves.index.get_level_values("metric")))
        models = list(dict.fromkeys(self.curves.index.get_level_values("model")))
        models.sort(key=lambda name: (name != GOLD_LABEL, name != RESEEDED_LABEL))
        if spread == "auto":
            few, some = len(models) <= MAX_BANDS, len(models) <= MAX_BARS
            spread = "band" if few else "bars" if some else "none"
        styles = model_styles(models)
        if spread == "none":
            styles = {
                name: style | ({} if name == GOLD_LABEL else {"linewidth": 1, "markersize": 5})
                for name, style in styles.items()
            }
        handles = [
            Line2D([], [], label=f"{name}{(self.notes or {}).get(name, '')}", **style)
            for name, style in styles.items()
        ]
        n_columns = min(len(metrics), MAX_COLUMNS)
        n_rows = -(-len(metrics) // n_columns)
        grid, legend = panels(
            ax,
            (n_rows, n_columns),
            figsize=(max(3.4 * n_columns, 6.5), 3.2 * n_rows),
            labels=[str(handle.get_label()) for handle in handles],
        )
        self.axes_ = grid.ravel()[: len(metrics)]
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.get_figure(root=True)  # type: ignore[assignment]
        for unused in grid.ravel()[len(metrics) :]:
            unused.set_axis_off()
        for panel, metric in zip(self.axes_, metrics, strict=True):
            self._draw(panel, metric, styles, spread)
        fill_legend(legend, handles, whole_figure=ax is None)
        return self

    def _draw(self, ax: Axes, metric: str, styles: dict[str, dict[str, Any]], spread: str) -> None:
        of_metric = self.curves.loc[metric]
        ratios = np.sort(of_metric.index.get_level_values("ratio").unique().to_numpy(dtype=float))
        step = 100 * np.diff(ratios).min() if len(ratios) > 1 else 10
        dodge = 0.12 * step if spread == "bars" and len(styles) > 1 else 0.0
        shifts = np.linspace(-dodge, dodge, len(styles))
        for shift, (model, style) in zip(shifts, styles.items(), strict=True):
            if model not in of_metric.index.get_level_values("model"):
                continue
            line = of_metric.loc[model]
            percent = 100 * line.index.to_numpy(dtype=float) + shift
            mean, std = (line[name].to_numpy(dtype=float) for name in ("mean", "std"))
            order = 3.0 if model == GOLD_LABEL else 2.0
            ax.plot(percent, mean, zorder=order, label=model, **style)
            if spread == "band":
                edges = {"facecolor": style["color"], "linewidth": 0, "alpha": 0.18}
                ax.fill_between(percent, mean - std, mean + std, zorder=1.5, **edges)
            elif spread == "bars":
                ax.vlines(percent, mean - std, mean + std, colors=style["color"], linewidth=1)
        ax.set_xticks(100 * ratios, [f"{100 * ratio:g}" for ratio in ratios])
        ax.set_xlabel("unlearning ratio (%)")
        words, unit = METRICS.get(metric, (metric, "%"))
        ax.set_title(metric, fontsize="medium")
        ax.set_ylabel(f"{words} ({unit})", fontsize="small")
        clean(ax, grid="y")


def _check_spread(spread: str) -> None:
    if spread not in SPREADS:
        raise ValueError(f"spread must be one of {SPREADS}, got {spread!r}.")
