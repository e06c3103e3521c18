"""What all figures share: what colours and markers stand for, panels, curves and legends.

A colour with a marker is a method, the same one in every figure; filled with REWEIGHT, open
without. Vermilion is what is forgotten. The gold standard is black with a star, the original model
grey with a cross, and whatever else there is has shades of grey.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy
from numpy.typing import NDArray

from ..unlearners import all_unlearners

# of Okabe and Ito, which colour-blind readers can tell apart, and a dark one in place of their
# yellow, which is too pale for lines
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#882255")
MARKERS = ("o", "s", "^", "v", "P", "p", "<", ">")
#: Methods that are often drawn together, which get a colour each; the others follow.
FIRST = ("miu", "retrain", "scrub", "salun", "l1_sparse", "as_unseen")
FORGOTTEN, DARK, GREY = "#D55E00", "0.25", "0.55"
Style = dict[str, Any]  # keyword arguments of matplotlib's plot
ORIGINAL: Style = {"color": "0.45", "marker": "X", "markersize": 6, "linestyle": ":"}
GOLD: Style = {"color": "black", "marker": "*", "markersize": 11, "linestyle": "-"}
RESEEDED = GOLD | {"marker": "D", "markersize": 5, "linestyle": "--", "markerfacecolor": "white"}
#: What is no method, by the names it goes under.
FIXED = {
    **dict.fromkeys(("before", "original", "pretrain", "no_op", "doing_nothing"), ORIGINAL),
    **dict.fromkeys(("gold", "gold_standard", "retrain_+_reweight"), GOLD),
    **dict.fromkeys(("second_gold", "gold_reseeded", "gold_standard,_other_seed"), RESEEDED),
}
OPEN = {"markerfacecolor": "white", "linestyle": "--"}
WITH_REWEIGHT = "_+_reweight"


def model_styles(names: Iterable[str], *, gold: str | None = None) -> dict[str, Style]:
    """Return how each model is drawn: a method has one colour and marker in every figure.

    Parameters
    ----------
    names : iterable of str
        A method as the registry calls it, with ``" + reweight"`` if so. Models without a method
        are ``"before"`` (or ``"original"``, ``"pretrain"``, ``"no_op"``, ``"doing nothing"``),
        ``"gold"`` (``"gold standard"``, ``"retrain + reweight"``) and ``"second gold"``
        (``"gold_reseeded"``). Case does not matter, nor a space or hyphen in place of ``_``.
    gold : str or None, default=None
        The name of the gold standard, if it is another.

    Returns
    -------
    dict of str to dict
        For each name, keyword arguments of matplotlib's ``plot``. Methods without REWEIGHT have
        open markers and dashed lines.

    Examples
    --------
    >>> from grmu_sk.plotting import model_styles
    >>> styles = model_styles(["miu + reweight", "miu", "gold"])
    >>> [style["color"] for style in styles.values()]
    ['#0072B2', '#0072B2', 'black']
    """
    names = list(names)
    # without what a name says of runs that failed
    plain = {n: re.sub("[- ]", "_", str(n).lower().partition(" (")[0]) for n in names}
    fixed = {n: FIXED[text] for n, text in plain.items() if text in FIXED}
    fixed |= {gold: GOLD} if gold else {}
    methods = {n: plain[n].replace(WITH_REWEIGHT, "", 1) for n in names if n not in fixed}
    known = dict.fromkeys([*FIRST, *(name for name, _ in all_unlearners())])
    order = list(known | dict.fromkeys(methods.values()))
    styles = dict[str, Style]()
    for name, method in methods.items():
        row, place = divmod(order.index(method), len(COLORS))
        marker = MARKERS[(place + row) % len(MARKERS)]
        has_both = method in known or f"{method}{WITH_REWEIGHT}" in plain.values()
        is_open = plain[name] == method and has_both
        styles[name] = {"color": COLORS[place], "marker": marker, "markersize": 6}
        styles[name] |= OPEN if is_open else {"linestyle": "-"}
    return {name: fixed.get(name) or styles[name] for name in names}


def clean(ax: Axes, *, grid: str) -> None:
    """Draw the grid of an axis behind the data, and no box around it."""
    ax.grid(axis=grid, color="0.9")  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


class Display:
    """Where a display was drawn."""

    ax_: Axes
    axes_: NDArray[Any]
    figure_: Any  # a Figure

    def _start(self, ax: Axes | None, size: tuple[float, float]) -> Axes:
        """Return the Axes to draw in, of a new figure of this size in inches if there are none."""
        axes = self._start_panels((1, 1), size) if ax is None else [ax]
        self.ax_, self.figure_ = axes[0], axes[0].get_figure(root=True)
        return self.ax_

    def _start_panels(
        self, shape: tuple[int, int], size: tuple[float, float], **options: Any
    ) -> NDArray[Any]:
        """Return a grid of Axes in a new figure, row by row."""
        self.figure_ = plt.figure(figsize=size, layout="constrained")
        self.axes_ = self.figure_.subplots(*shape, squeeze=False, **options).ravel()
        self.ax_ = self.axes_[0]
        return self.axes_


def handles_of(styles: Mapping[str, Style]) -> list[Any]:
    """Return what a legend shows of models."""
    return [Line2D([], [], label=name, **style) for name, style in styles.items()]


def legend_below(place: Axes | FigureBase, handles: list[Any] | None = None) -> None:
    """Put a legend below a figure, or below the axis label, in as many columns as it has room."""
    options: dict[str, Any] = {"loc": "outside lower center"}
    if isinstance(place, Axes):
        root = place.get_figure(root=True)
        below = offset_copy(place.transAxes, root, y=-42, units="points")
        options = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": below}
    for n_columns in (5, 4, 3, 2, 1):
        legend = place.legend(
            handles=handles, ncols=n_columns, frameon=False, borderaxespad=0, **options
        )
        if legend.get_window_extent().width <= place.get_window_extent().width or n_columns == 1:
            return
        legend.remove()


def draw_curves(
    ax: Axes, curves: pd.DataFrame, styles: Mapping[str, Any], ticks: Mapping[float, str]
) -> None:
    """Draw a line a model: means and standard deviations at positions named below the axis.

    ``curves`` has the columns ``model``, ``position``, ``mean`` and ``std``. Positions 0, 1, 2, ...
    stand for names; there models stand a little beside one another, so that no deviation covers
    another. Other positions are numbers, where a point stands at its own.
    """
    positions = np.array(list(ticks))
    step = np.diff(positions).min() if len(positions) > 1 else 1.0
    width = 0.15 * step if len(styles) > 1 and list(ticks) == list(range(len(ticks))) else 0.0
    shifts = np.linspace(-width, width, len(styles))
    for shift, (name, style) in zip(shifts, styles.items(), strict=True):
        line = curves[curves["model"] == name].sort_values("position")
        if len(line):
            where = line["position"] + shift
            ax.errorbar(where, line["mean"], yerr=line["std"], elinewidth=1, label=name, **style)
    ax.set_xticks(positions, list(ticks.values()))
    ax.set_xlim(positions.min() - 0.4 * step, positions.max() + 0.4 * step)
    clean(ax, grid="y")
