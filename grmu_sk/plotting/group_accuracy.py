"""Accuracy of each group, before and after unlearning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from .. import results as tables
from ..groups import attribute_column
from ..metrics import group_accuracies
from ..metrics.evaluate import group_name
from ..pipelines import unlearner_of
from ..validation import label_column
from . import _style


@dataclass(eq=False, repr=False)
class GroupAccuracyDisplay(_style.Display):
    """Accuracy of each group under several models, and that of the gold standard.

    The models of a group share a line.

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
        in each group.
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

    accuracy: pd.DataFrame
    spread: pd.DataFrame | None = None
    forget_groups: Sequence[str] = ()
    gold: str | None = None
    n_rows: pd.Series | None = None

    @classmethod
    def from_estimator(
        cls,
        models: Mapping[str, Any],
        X: Any,
        y: ArrayLike,
        groups: Any,
        *,
        gold: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw fitted models on the same rows.

        Parameters
        ----------
        models : mapping of str to BaseUnlearner
            Fitted unlearners, or pipelines that end with one, by the name the legend gives them.
        X : array-like, tensor or Dataset of length n_samples
            Test inputs.
        y : array-like of shape (n_samples,)
            True labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
            Protected attribute.
        gold : str or None, default=None
            The name of the model that the others are compared with.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        GroupAccuracyDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If one of ``models`` is no unlearner.
        NotFittedError
            If an unlearner is not fitted.
        ValueError
            If there is no model, ``gold`` is not among them, or the data do not fit together.
        """
        accuracy = pd.DataFrame(
            {
                name: 100 * group_accuracies(y, model.predict(X), groups=groups)
                for name, model in models.items()
            }
        )
        accuracy.index = pd.Index([group_name(pair) for pair in accuracy.index])
        pairs = zip(label_column(y, name="y"), attribute_column(groups), strict=True)
        sizes = pd.Series(map(group_name, pairs)).value_counts()
        asked = [pair for model in models.values() for pair in unlearner_of(model).forget_groups_]
        # test rows may lack a group
        marked = [name for name in dict.fromkeys(map(group_name, asked)) if name in sizes]
        return cls(accuracy, None, marked, gold=gold, n_rows=sizes).plot(ax=ax)

    @classmethod
    def from_results(
        cls,
        results: pd.DataFrame,
        *,
        forget_groups: Any = (),
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
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        GroupAccuracyDisplay
            The display, drawn. A model that failed with some seeds is shown by its other seeds,
            and its name says so.

        Raises
        ------
        ValueError
            If it is malformed, mixes data sets, forget sets, ratios or selections; or if it
            holds no group accuracies.
        """
        checked = tables.check_results(results, single=("dataset", "forget", "ratio", "selection"))
        checked = tables.name_failed(checked)
        rows = checked[checked["metric"].str.startswith("group_accuracy[")]
        rows = rows.assign(group=rows["metric"].map(tables.group_of_metric))
        cells = tables.summarize(rows, ["group", "model"]).reset_index()
        accuracy, spread = (
            cells.pivot_table(value, "group", "model", sort=False, dropna=False)
            for value in ("mean", "std")
        )
        return cls(
            accuracy,
            spread,
            [group_name(pair) for pair in forget_groups],
            gold=tables.GOLD_LABEL if tables.GOLD_LABEL in accuracy else None,
        ).plot(ax=ax)

    @property
    def differences(self) -> pd.DataFrame:
        """Accuracy less that of the gold standard, in percentage points.

        Returns
        -------
        DataFrame of shape (n_groups, n_models)
            Negative where a group fares worse than under the gold standard.
        """
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
            If there is nothing to draw, or a forgotten group is not in ``accuracy``.
        KeyError
            If ``gold`` is not in ``accuracy``.
        """
        groups, models = list(self.accuracy.index), list(self.accuracy)
        unknown = [name for name in self.forget_groups if name not in groups]
        if not models or unknown:
            raise ValueError(f"There is no model to draw, or no group {unknown} among {groups}.")
        styles = _style.model_styles(models, gold=self.gold)
        height = 1.4 + len(groups) * max(0.3, 0.07 * len(models)) + 0.08 * len(models)
        ax = self._start(ax, (8, height))
        places = np.arange(len(groups))[::-1]
        shifts = np.linspace(0.4, -0.4, len(models) + 2)[1:-1]
        for name, shift in zip(models, shifts, strict=True):
            spread = None if self.spread is None else self.spread[name]
            style = styles[name] | {"linestyle": "none", "elinewidth": 1, "label": name}
            ax.errorbar(self.accuracy[name], places + shift, xerr=spread, **style)
        if self.gold is not None:
            lines: _style.Style = {"colors": "0.45", "linestyles": "dotted", "zorder": 1}
            ax.vlines(self.accuracy[self.gold], places - 0.48, places + 0.48, **lines)
        names = []
        for place, group in zip(places, groups, strict=True):
            facts = [] if self.n_rows is None else [f"{self.n_rows[group]} rows"]
            if group in self.forget_groups:
                facts.append("forgotten from")
                ax.axhspan(place - 0.5, place + 0.5, color=_style.FORGOTTEN, alpha=0.1, zorder=0)
            if place:
                ax.axhline(place - 0.5, color="0.85", linewidth=0.8, zorder=0)
            names.append(f"{group} ({', '.join(facts)})" if facts else group)
        ax.set_yticks(places, names)
        ax.set_ylim(-0.5, len(groups) - 0.5)
        of_seeds = "" if self.spread is None else ", mean and standard deviation over seeds"
        ax.set_xlabel(f"accuracy of the group (%){of_seeds}")
        _style.clean(ax, grid="x")
        _style.legend_below(ax)
        return self
