"""What all figures share: colours, markers, panels and legends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..results import GOLD_LABEL, RESEEDED_LABEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

# Okabe-Ito: told apart by colour-blind readers; the markers differ too
BLACK, GREY, YELLOW = "#000000", "#999999", "#F0E442"  # yellow is too pale for lines and markers
ORANGE, BLUE, SKY, PURPLE, GREEN, RED = COLORS = (
    "#E69F00",
    "#0072B2",
    "#56B4E9",
    "#CC79A7",
    "#009E73",
    "#D55E00",
)
MARKERS = ("o", "s", "^", "v", "P", "X", "p")
#: Black, and the star, belong to the gold standard alone.
GOLD_STYLE = {"color": BLACK, "marker": "*", "markersize": 11, "linestyle": "-"}
FIXED_STYLES: dict[str, dict[str, Any]] = {
    GOLD_LABEL: GOLD_STYLE,
    RESEEDED_LABEL: {
        "color": BLACK,
        "marker": "D",
        "markersize": 5,
        "markerfacecolor": "white",
        "linestyle": "--",
    },
    "pretrain": {"color": "0.45", "marker": "X", "markersize": 6, "linestyle": ":"},
}
OPEN = {"markerfacecolor": "white", "linestyle": "--"}
WITH_REWEIGHT = " + reweight"


def marker_style(number: int) -> dict[str, Any]:
    """Return colour and marker of the line with this number; 42 lines all differ.

    Parameters
    ----------
    number : int
        Place of the line among all.

    Returns
    -------
    dict
        Keyword arguments of matplotlib's ``plot``.
    """
    cycle, place = divmod(number, len(COLORS))
    marker = MARKERS[(place + cycle) % len(MARKERS)]
    return {"color": COLORS[place], "marker": marker, "markersize": 6, "linestyle": "-"}


def model_styles(names: Iterable[str], *, gold: str | None = None) -> dict[str, dict[str, Any]]:
    """Return colour, marker and line of each model.

    A method without and with REWEIGHT has one colour and one marker, open and filled.

    Parameters
    ----------
    names : iterable of str
        Names of the models.
    gold : str or None, default=None
        The one that is the gold standard, if its name does not say so.

    Returns
    -------
    dict of str to dict
        Keyword arguments of matplotlib's ``plot``.
    """
    names = list(names)
    partners = {name.replace(WITH_REWEIGHT, "", 1) for name in names if WITH_REWEIGHT in name}
    styles, of_method = {}, dict[str, dict[str, Any]]()
    for name in names:
        if name == gold or name in FIXED_STYLES:
            styles[name] = GOLD_STYLE if name == gold else FIXED_STYLES[name]
            continue
        method = name.replace(WITH_REWEIGHT, "", 1)
        style = of_method.setdefault(method, marker_style(len(of_method)))
        is_open = name == method and name in partners
        styles[name] = style | OPEN if is_open else style
    return styles


def check_axes(ax: Any) -> None:
    """Refuse what is no place to draw.

    Parameters
    ----------
    ax : Axes or None
        The argument.

    Raises
    ------
    TypeError
        If it is something else.
    """
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes | None):
        raise TypeError(f"ax must be matplotlib Axes or None, got {ax!r}.")


def clean(ax: Axes, *, grid: str) -> None:
    """Draw grid lines behind the data, and no box around it.

    Parameters
    ----------
    ax : matplotlib Axes
        Where.
    grid : {"x", "y", "both"}
        Axis whose ticks have lines.
    """
    ax.grid(axis=grid, color="0.9")  # type: ignore[arg-type]
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def legend_columns(labels: list[str], width: float) -> int:
    """Return how many columns a legend of this width (in inches) has room for.

    Parameters
    ----------
    labels : list of str
        Its entries.
    width : float
        Inches.

    Returns
    -------
    int
        At least 1.
    """
    for n_columns in range(len(labels), 1, -1):
        # as matplotlib fills them: the first columns hold one more
        columns = np.array_split(labels, n_columns)
        # an average letter at 10 points; the line with its marker and the space after the column
        if sum(0.092 * max(map(len, column)) + 0.8 for column in columns) <= width:
            return n_columns
    return 1


def legend_below(ax: Axes, *, points: float, beside: float = 0.0) -> None:
    """Put the legend under the axis label, whatever the height of the axes.

    Parameters
    ----------
    ax : matplotlib Axes
        Whose legend.
    points : float
        Distance between the axis and the legend, in points.
    beside : float, default=0.0
        What stands to the right of the axes and will make them narrower, in inches.
    """
    from matplotlib.transforms import ScaledTranslation

    figure = ax.get_figure(root=True)
    assert figure is not None
    handles, labels = ax.get_legend_handles_labels()
    down = ScaledTranslation(0, -points / 72, figure.dpi_scale_trans)
    ax.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + down,
        borderaxespad=0,
        frameon=False,
        # more than the axes, since tick labels stand beside them
        ncols=legend_columns(labels, 1.15 * (_width(ax) - beside)),
    )


def _width(ax: Axes) -> float:
    """Return the width of the axes in inches."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return float(ax.get_window_extent().width / figure.dpi)


def panels(
    ax: Axes | None,
    shape: tuple[int, int],
    *,
    figsize: tuple[float, float],
    labels: list[str],
    share: str = "none",
    width_ratios: list[float] | None = None,
) -> tuple[NDArray[Any], Axes]:
    """Make a grid of panels above one row for the legend.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Whose place the grid takes; None makes a figure.
    shape : tuple of int
        Rows and columns of panels.
    figsize : tuple of float
        Size in inches, legend excluded, of a figure that is made.
    labels : list of str
        The legend's entries.
    share : {"none", "x", "y"}, default="none"
        The axis that panels have in common.
    width_ratios : list of float or None, default=None
        Relative widths of the columns.

    Returns
    -------
    panels : ndarray of Axes, of the given shape
        Where to draw.
    legend : Axes
        An empty place for the legend.

    Raises
    ------
    ValueError
        If ``ax`` does not belong to a grid of subplots, and so cannot be divided.
    """
    import matplotlib.pyplot as plt
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    check_axes(ax)
    n_rows, n_columns = shape
    width, height = figsize
    if ax is not None:
        figure_of_ax = ax.get_figure(root=True)
        assert figure_of_ax is not None
        box = ax.get_window_extent()
        width, height = box.width / figure_of_ax.dpi, box.height / figure_of_ax.dpi
    lines = -(-len(labels) // legend_columns(labels, width))
    legend_height = 0.25 * lines + 0.1
    if ax is None:
        height += legend_height
    ratios: dict[str, Any] = {
        "height_ratios": [*[max(height - legend_height, 0.5) / n_rows] * n_rows, legend_height],
        "width_ratios": width_ratios,
    }
    grid: Any
    if ax is None:
        figure: Figure | SubFigure = plt.figure(figsize=(width, height), layout="constrained")
        grid = figure.add_gridspec(n_rows + 1, n_columns, **ratios)
    else:
        spec = ax.get_subplotspec()
        if spec is None:
            raise ValueError(
                "This figure has several panels, and the Axes given cannot be divided. Make it "
                "with plt.subplots() or figure.add_subplot(), or leave ax out."
            )
        figure = ax.figure
        ax.set_axis_off()
        root = ax.get_figure(root=True)
        if root is not None and root.get_layout_engine() is None:
            ratios |= {"hspace": 0.9, "wspace": 0.5}  # labels need room that nobody else makes
        grid = GridSpecFromSubplotSpec(n_rows + 1, n_columns, subplot_spec=spec, **ratios)
    axes = np.empty(shape, dtype=object)
    for row, column in np.ndindex(shape):
        first = axes[0, 0]
        shared = {} if share == "none" or first is None else {f"share{share}": first}
        axes[row, column] = figure.add_subplot(grid[row, column], **shared)
    legend = figure.add_subplot(grid[n_rows, :])
    legend.set_axis_off()
    return axes, legend


def fill_legend(place: Axes, handles: list[Any], *, whole_figure: bool) -> None:
    """Draw the legend in the place that :func:`panels` made for it.

    Parameters
    ----------
    place : matplotlib Axes
        An Axes without axis.
    handles : list of Artist
        What is explained; each has a label.
    whole_figure : bool
        Whether the legend may be as wide as the figure.
    """
    from matplotlib.transforms import blended_transform_factory

    labels = [str(handle.get_label()) for handle in handles]
    figure = place.get_figure(root=True)
    assert figure is not None
    across = figure.transFigure if whole_figure else place.transAxes
    width = figure.get_figwidth() if whole_figure else _width(place)
    legend = place.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 1),
        bbox_transform=blended_transform_factory(across, place.transAxes),
        frameon=False,
        borderaxespad=0,
        ncols=legend_columns(labels, width),
    )
    # its height is reserved; its width must not push the panels to the side
    legend.set_in_layout(not whole_figure)
