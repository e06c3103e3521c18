"""Accuracy of each group, before and after unlearning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..groups import GroupEncoder, Pair, check_pairs
from ..metrics import group_accuracies
from ..results import (
    GOLD_LABEL,
    check_results,
    choose_methods,
    diverged_notes,
    group_name,
    group_of_metric,
    summarize,
)
from ._estimators import unlearner_of
from ._style import YELLOW, check_axes, clean, legend_below, model_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES = 60  # of one marker each; more would make a figure that nobody can scroll
MAX_GROUPS = 8  # that are drawn so in any case
MAX_SHARING = 16  # models on one line; more cannot be told apart
MAX_COLUMNS = 8  # of numbers beside groups whose models share a line
COLUMN_WIDTH = 32  # points
BESIDE: dict[str, Any] = {
    "textcoords": "offset points",
    "fontsize": 8,
    "ha": "right",
    "annotation_clip": False,
}


class GroupAccuracyDisplay:
    """Accuracy of each group under several models, and the difference to the gold standard.

    With few groups every model has a line of its own in each group. With many, the models of a
    group share a line, and the differences stand in columns under the models' markers.

    Parameters
    ----------
    accuracy : DataFrame of shape (n_groups, n_models)
        Mean accuracy in percent.
    spread : DataFrame of shape (n_groups, n_models) or None, default=None
        Standard deviation over seeds, drawn as a line through each marker.
    forget_groups : sequence of str, default=()
        Rows of ``accuracy`` to mark as those that were asked to be forgotten from.
    gold : str or None, default=None
        The column of ``accuracy`` that the others are compared with. Its accuracy is a dotted line
        in each group, and the differences to it stand to the right.
    notes : mapping of str to str or None, default=None
        What the legend adds to the name of a model.
    n_rows : Series of shape (n_groups,) or None, default=None
        Rows of each group; small groups have uncertain accuracies, so it stands by the name.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Its figure.

    See Also
    --------
    MethodComparisonDisplay : All metrics of many methods.

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib import pyplot as plt
    >>> from grmu_sk.plotting import GroupAccuracyDisplay
    >>> accuracy = pd.DataFrame(
    ...     {"original": [95.0, 80.0], "gold": [94.0, 78.0], "unlearned": [94.0, 61.0]},
    ...     index=["cat, day", "cat, night"],
    ... )
    >>> display = GroupAccuracyDisplay(accuracy, forget_groups=["cat, night"], gold="gold")
    >>> display.differences["unlearned"].tolist()
    [0.0, -17.0]
    >>> figure = display.plot().figure_
    >>> plt.close(figure)
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        accuracy: pd.DataFrame,
        spread: pd.DataFrame | None = None,
        forget_groups: Any = (),
        *,
        gold: str | None = None,
        notes: Mapping[str, str] | None = None,
        n_rows: pd.Series | None = None,
    ) -> None:
        self.accuracy = accuracy
        self.spread = spread
        self.forget_groups = tuple(forget_groups)
        self.gold = gold
        self.notes = notes
        self.n_rows = n_rows

    @classmethod
    def from_estimator(
        cls,
        unlearners: Any,
        X: Any,
        y: ArrayLike,
        groups: Any,
        *,
        gold: str | None = None,
        forget_groups: Any = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw fitted models on the same rows.

        Parameters
        ----------
        unlearners : BaseUnlearner or mapping of str to BaseUnlearner
            Fitted unlearners, or pipelines that end with one, by the name the legend gives them.
        X : array-like, tensor or Dataset of length n_samples
            Test inputs.
        y : array-like of shape (n_samples,)
            True labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
            Protected attribute.
        gold : str or None, default=None
            The name of the model that the others are compared with.
        forget_groups : sequence of tuple or None, default=None
            The groups (y, a) to mark; None takes those the models were asked to forget from.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        GroupAccuracyDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If one of ``unlearners`` is none.
        NotFittedError
            If an unlearner is not fitted.
        ValueError
            If there is no model, ``gold`` is not among them, or the data do not fit together.
        """
        models = unlearners if isinstance(unlearners, Mapping) else None
        if models is None:
            models = {type(unlearner_of(unlearners)).__name__: unlearners}
        if not models:
            raise ValueError("unlearners is empty: there is nothing to draw.")
        forgotten: list[Pair] = []
        columns = {}
        for name, model in models.items():
            forgotten += getattr(unlearner_of(model), "forget_groups_", [])
            columns[str(name)] = 100 * group_accuracies(y, model.predict(X), groups=groups)
        accuracy = pd.DataFrame(columns)
        names = [group_name(pair) for pair in accuracy.index]
        accuracy.index = pd.Index(names)
        if forget_groups is None:
            marked = [group_name(pair) for pair in dict.fromkeys(forgotten)]
            marked = [name for name in marked if name in names]  # test rows may lack a group
        else:
            marked = _names_of(forget_groups)
        sizes = _group_sizes(y, groups)
        return cls(accuracy, None, marked, gold=gold, n_rows=sizes).plot(ax=ax)

    @classmethod
    def from_results(
        cls,
        results: pd.DataFrame,
        *,
        forget_groups: Any = (),
        methods: str | Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the results of a comparison.

        Parameters
        ----------
        results : DataFrame
            As returned by :func:`grmu_sk.comparison.compare`, or results of a benchmark; of one
            data set, forget set and ratio.
        forget_groups : sequence of tuple, default=()
            The groups (y, a) the requests came from.
        methods : str, sequence of str or None, default=None
            Names of methods (``"miu"``) or of models (``"miu + reweight"``) to draw beside the gold
            standard, in this order; None draws all.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        GroupAccuracyDisplay
            The display, drawn. A model that diverged in some seeds is shown by its other seeds,
            and the legend says so.

        Raises
        ------
        TypeError
            If ``results`` is no DataFrame.
        ValueError
            If it is malformed, mixes data sets, forget sets, ratios or selections, lacks one of
            ``methods``, or holds no group accuracies; or if there are more models than can be told
            apart.
        """
        checked = check_results(results, single=("dataset", "forget", "ratio", "selection"))
        checked = choose_methods(checked, methods)
        rows = checked[checked["metric"].str.startswith("group_accuracy[")]
        if rows.empty:
            raise ValueError("The results hold no 'group_accuracy[...]' rows.")
        names = {metric: group_of_metric(metric) for metric in rows["metric"].unique()}
        cells = summarize(rows.assign(group=rows["metric"].map(names)), ["group", "model"])
        table = {"index": "group", "columns": "model", "sort": False, "dropna": False}
        accuracy = cells.reset_index().pivot_table(values="mean", **table)
        spread = cells.reset_index().pivot_table(values="std", **table)
        return cls(
            accuracy,
            spread,
            _names_of(forget_groups),
            gold=GOLD_LABEL if GOLD_LABEL in accuracy else None,
            notes=diverged_notes(checked),
        ).plot(ax=ax)

    @property
    def differences(self) -> pd.DataFrame:
        """Accuracy less that of the gold standard, in percentage points.

        Returns
        -------
        DataFrame of shape (n_groups, n_models)
            Negative where a group fares worse than under the gold standard.
        """
        if self.gold is None:
            raise ValueError("There is no gold standard: name a column of accuracy as gold.")
        return self.accuracy.sub(self.accuracy[self.gold], axis=0)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the accuracy of each group under each model.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        GroupAccuracyDisplay
            The display itself.

        Raises
        ------
        ValueError
            If there is nothing to draw, ``gold`` or a forgotten group is not in ``accuracy``, or
            there are more models than can be told apart.
        """
        self._check()
        import matplotlib.pyplot as plt

        n_groups, n_models = self.accuracy.shape
        check_axes(ax)
        if ax is None:
            height = 1.4 + n_groups * self._height_of_group() + 0.08 * n_models
            width = max(8, 6 + self._width_of_columns())
            _, ax = plt.subplots(figsize=(width, height), layout="constrained")
        room = 0.8 if self._shares_lines else 1.0
        offsets = np.linspace(room / 2, -room / 2, n_models + 2)[1:-1]
        styles = model_styles(self.accuracy, gold=self.gold)
        for name, offset in zip(self.accuracy, offsets, strict=True):
            ax.errorbar(
                self.accuracy[name],
                np.arange(n_groups)[::-1] + offset,
                xerr=None if self.spread is None else self.spread[name],
                elinewidth=1,
                label=f"{name}{(self.notes or {}).get(name, '')}",
                zorder=3 if name == self.gold else 2,
                **styles[name] | {"linestyle": "none"},
            )
        if self.gold is not None:
            self._mark_gold(ax)
            if not self._shares_lines:
                self._write_differences(ax, offsets)
            elif self._width_of_columns():
                self._write_columns(ax, styles)
        self._label(ax)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)  # type: ignore[assignment]
        return self

    @property
    def _shares_lines(self) -> bool:
        """Tell whether the models of a group share a line."""
        return self.accuracy.size > MAX_LINES and len(self.accuracy) > MAX_GROUPS

    def _width_of_columns(self) -> float:
        """Return inches."""
        n_others = self.accuracy.shape[1] - 1
        has_columns = self._shares_lines and self.gold is not None and n_others <= MAX_COLUMNS
        return COLUMN_WIDTH / 72 * n_others if has_columns else 0.0

    def _height_of_group(self) -> float:
        """Return inches."""
        n_models = self.accuracy.shape[1]
        if self._shares_lines:
            return max(0.3, 0.07 * n_models)
        return 0.2 + 0.17 * n_models

    def _check(self) -> None:
        if self.accuracy.empty:
            raise ValueError("accuracy is empty: there is nothing to draw.")
        if self.gold is not None and self.gold not in self.accuracy:
            raise ValueError(
                f"gold is {self.gold!r}, but the models are {list(self.accuracy)}: name one."
            )
        n_groups, n_models = self.accuracy.shape
        if self._shares_lines and n_models > MAX_SHARING:
            raise ValueError(
                f"{n_models} models in each of {n_groups} groups cannot be told apart in one "
                f"figure (at most {MAX_SHARING} can). Choose some: from_results(..., "
                "methods=['miu']), or columns of accuracy."
            )
        unknown = [name for name in self.forget_groups if name not in self.accuracy.index]
        if unknown:
            raise ValueError(
                f"forget_groups names {unknown}, but the groups are {list(self.accuracy.index)}."
            )

    def _positions(self) -> NDArray[np.int64]:
        return np.arange(len(self.accuracy))[::-1]

    def _mark_gold(self, ax: Axes) -> None:
        ax.vlines(
            self.accuracy[self.gold],
            self._positions() - 0.48,
            self._positions() + 0.48,
            colors="0.45",
            linestyles="dotted",
            zorder=1,
        )

    def _write_differences(self, ax: Axes, offsets: NDArray[np.float64]) -> None:
        """Write each difference to gold beside its marker's line."""
        for name, offset in zip(self.accuracy, offsets, strict=True):
            for position, value in zip(self._positions(), self.differences[name], strict=True):
                text = "gold" if name == self.gold else _signed(value)
                _beside(ax, text, position + offset, COLUMN_WIDTH + 8)
        _above(ax, "difference to\ngold (points)", COLUMN_WIDTH + 8, 6)

    def _write_columns(self, ax: Axes, styles: dict[str, dict[str, Any]]) -> None:
        """Write the differences to gold in one column a model, headed by its marker."""
        from matplotlib.lines import Line2D
        from matplotlib.transforms import ScaledTranslation

        figure = ax.get_figure(root=True)
        assert figure is not None
        others = [name for name in self.accuracy if name != self.gold]
        for number, name in enumerate(others, start=1):
            right = COLUMN_WIDTH * number
            for position, value in zip(self._positions(), self.differences[name], strict=True):
                _beside(ax, _signed(value), position, right)
            shift = ScaledTranslation((right - 10) / 72, 10 / 72, figure.dpi_scale_trans)
            head = Line2D([1], [1], transform=ax.transAxes + shift, clip_on=False, **styles[name])
            ax.add_artist(head)
        _above(ax, "difference to gold (points)", COLUMN_WIDTH * len(others), 20)

    def _label(self, ax: Axes) -> None:
        groups, positions = list(self.accuracy.index), self._positions()
        ax.set_yticks(positions, [self._tick(name) for name in groups])
        for position, name in zip(positions, groups, strict=True):
            if name in self.forget_groups:
                ax.axhspan(position - 0.5, position + 0.5, color=YELLOW, alpha=0.25, zorder=0)
        for boundary in positions[:-1]:
            ax.axhline(boundary - 0.5, color="0.85", linewidth=0.8, zorder=0)
        ax.set_ylim(-0.5, len(groups) - 0.5)
        label = "accuracy of the group (%)"
        if self.spread is not None:
            label = f"test {label}, mean and standard deviation over seeds"
        ax.set_xlabel(label)
        clean(ax, grid="x")
        legend_below(ax, points=42, beside=self._width_of_columns())

    def _tick(self, group: str) -> str:
        facts = []
        joint = " " if self._shares_lines else "\n"
        if self.n_rows is not None:
            facts.append(f"{self.n_rows[group]} rows")
        if group in self.forget_groups:
            facts.append("forgotten from")
        return f"{group}{joint}({', '.join(facts)})" if facts else group


def _names_of(forget_groups: Any) -> list[str]:
    try:
        given = list(forget_groups)
    except TypeError:  # which is refused for what it is
        given = forget_groups
    is_empty = isinstance(given, list) and not given
    return [] if is_empty else [group_name(pair) for pair in check_pairs(given)]


def _beside(ax: Axes, text: str, position: float, right: float) -> None:
    """Write to the right of the axes, up to so many points from them."""
    ax.annotate(
        text,
        (1, position),
        xycoords=ax.get_yaxis_transform(),
        xytext=(right, 0),
        va="center",
        **BESIDE,
    )


def _above(ax: Axes, text: str, right: float, up: float) -> None:
    """Write over the corner of the axes, up to so many points to the right of it."""
    ax.annotate(text, (1, 1), xycoords="axes fraction", xytext=(right, up), va="bottom", **BESIDE)


def _group_sizes(y: ArrayLike, groups: Any) -> pd.Series:
    """Return how many rows each group has, under the names that the figure uses."""
    encoder = GroupEncoder().fit(y, groups)
    counts = np.bincount(encoder.transform(y, groups), minlength=encoder.n_groups_)
    return pd.Series(counts, index=[group_name(pair) for pair in encoder.pairs_])


def _signed(difference: float) -> str:
    """Write a difference with its sign; a typographic minus is as wide as a plus."""
    if np.isnan(difference):
        return "n/a"
    text = f"{difference:+.1f}".replace("-", "\N{MINUS SIGN}")
    return "0.0" if text[1:] == "0.0" else text
