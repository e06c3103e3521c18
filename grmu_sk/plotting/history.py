"""Losses and mutual information over the epochs of training and unlearning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from torch import nn

from ..pipelines import unlearner_of
from . import _style

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

COLUMNS = ("run", "epoch", "phase", "quantity", "value")
INFORMATION = "mutual information"
LOSSES = {"train_loss": "training loss", "valid_loss": "validation loss"}
#: Phases whose training loss is mutual information if there is a tune phase, and its sign.
INFORMATION_SIGNS = {"tune": -1.0, "forget": 1.0}
IN_NATS = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss)


@dataclass(eq=False, repr=False)
class UnlearningHistoryDisplay(_style.Display):
    r"""Loss of each phase, and mutual information, over all epochs.

    The epochs of all runs follow one another: first training, then every request. Each phase has
    its own line, since each minimises something else on other rows. A history with a phase
    ``"tune"``, as that of :class:`~grmu_sk.MIUUnlearner`, has a second panel: the estimated mutual
    information M(z; g) of features and group, while MINE is tuned, on the training rows, and in
    the phase ``"forget"``, on the rows to forget. By convention, which methods of your own may
    follow, the training loss is -M in ``"tune"`` and then M in ``"forget"``.

    Parameters
    ----------
    history : DataFrame
        One row a value. Columns: ``run`` (0 is training, then the requests), ``epoch`` (from 1 in
        every run), ``phase``, ``quantity`` (``"training loss"``, ``"validation loss"`` or
        ``"mutual information"``, the latter in nats), and ``value``.
    loss_unit : str, default="nats"
        Unit of the losses.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The panel of losses (of mutual information, if there are no losses).
    axes_ : ndarray of Axes of shape (n_panels,)
        All panels.
    figure_ : matplotlib Figure
        Their figure.

    Notes
    -----
    The loss of MIU's retain phase includes the calibration term. A loss that several phases
    share says nothing about forgetting: look at :class:`LossDistributionDisplay` for that.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from grmu_sk import MIUUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> from grmu_sk.plotting import UnlearningHistoryDisplay
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = MIUUnlearner(max_epochs=2, random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> display = UnlearningHistoryDisplay.from_estimator(unlearner)
    >>> [ax.get_ylabel() for ax in display.axes_]
    ['loss\n(nats)', 'mutual information\n(nats)']
    >>> plt.close(display.figure_)
    """

    history: pd.DataFrame
    loss_unit: str = "nats"

    @classmethod
    def from_estimator(cls, estimator: Any, *, figure: FigureBase | None = None) -> Self:
        """Draw the history of a fitted unlearner.

        Parameters
        ----------
        estimator : BaseUnlearner, Pipeline or search
            A fitted unlearner, or a pipeline or search that ends with one.
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        UnlearningHistoryDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If there is no unlearner in ``estimator``.
        NotFittedError
            If it is not fitted.
        ValueError
            If its history is empty (a frozen net that has not been asked to forget anything).
        """
        unlearner = unlearner_of(estimator)
        history = pd.DataFrame(_values(unlearner.history_.to_list()), columns=list(COLUMNS))
        if history.empty:
            raise ValueError(
                f"The history of {type(unlearner).__name__} is empty: no epoch was trained. After "
                "fit with a FrozenEstimator there is none before the first request."
            )
        criterion = unlearner.net_.criterion_
        unit = "nats" if isinstance(criterion, IN_NATS) else type(criterion).__name__
        return cls(history, unit).plot(figure=figure)

    def plot(self, *, figure: FigureBase | None = None) -> Self:
        """Draw one line a phase, and one panel a unit.

        Parameters
        ----------
        figure : matplotlib Figure, SubFigure or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        UnlearningHistoryDisplay
            The display itself.
        """
        from matplotlib.ticker import MaxNLocator

        lengths = self.history.groupby("run")["epoch"].max()
        starts = lengths.cumsum() - lengths
        history = self.history.assign(x=self.history["epoch"] + self.history["run"].map(starts))
        is_information = history["quantity"] == INFORMATION
        parts = {
            f"loss\n({self.loss_unit})": history[~is_information],
            f"{INFORMATION}\n(nats)": history[is_information],
        }
        parts = {label: part for label, part in parts.items() if len(part)}
        styles = _styles(history)
        size = (8, 1.7 + 2.2 * len(parts))
        axes = self._start_panels(figure, (len(parts), 1), size, sharex=True)
        for panel, (label, part) in zip(axes, parts.items(), strict=True):
            for (phase, quantity, _), line in part.groupby(["phase", "quantity", "run"]):
                panel.plot(line["x"], line["value"], **styles[f"{phase}: {quantity}"])
            for start in starts.iloc[1:]:
                panel.axvline(start + 0.5, color="0.6", linewidth=1, linestyle=":")
            panel.set_ylabel(label)
            _style.clean(panel, grid="y")
        n_epochs, n_requests = lengths.sum(), 0
        for run, phase in history.groupby("run")["phase"].first().items():
            n_requests += phase != "fit"
            name = "training" if phase == "fit" else f"request {n_requests}"
            # a short run among long ones has no room for its name; the line remains
            if lengths[run] / n_epochs * 70 >= len(name):
                place = (starts[run] + 0.5 + lengths[run] / 2, 1.02)
                across = self.ax_.get_xaxis_transform()
                self.ax_.text(*place, name, transform=across, ha="center", fontsize="small")
        bottom = axes[-1]
        bottom.set(xlim=(0.5, n_epochs + 0.5), xlabel="epoch, counted over all runs")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        _style.legend_below(self.ax_.figure, _style.handles_of(styles, None))
        return self


def _styles(history: pd.DataFrame) -> dict[str, _style.Style]:
    """Return a colour for what is forgotten, one for what is kept, and a marker for each phase."""
    others = [phase for phase in history["phase"].unique() if phase not in ("fit", "forget")]
    phases: dict[str, _style.Style] = {
        phase: {"color": _style.DARK, "marker": marker}
        for phase, marker in zip(others, cycle(_style.MARKERS), strict=False)
    }
    phases |= {"fit": _style.ORIGINAL, "forget": {"color": _style.FORGOTTEN, "marker": "D"}}
    styles = dict[str, _style.Style]()
    for phase, quantity in history[["phase", "quantity"]].drop_duplicates().to_numpy():
        is_validation = quantity == LOSSES["valid_loss"]
        shape: _style.Style = (
            {"markerfacecolor": "white", "linestyle": "--"} if is_validation else {}
        )
        style = phases[phase] | {"markersize": 4, "linewidth": 1.4, "linestyle": "-"} | shape
        styles[f"{phase}: {quantity}"] = style
    return styles


def _values(rows: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of a history; a run ends where epochs fall or an epoch repeats a phase."""
    signs = INFORMATION_SIGNS if any(row["phase"] == "tune" for row in rows) else {}
    run, epoch, seen = -1, np.inf, set[str]()
    for row in rows:
        phase = row["phase"]
        # fit has one phase, so what follows in the same epoch is the next run
        is_new = row["epoch"] < epoch or (
            row["epoch"] == epoch and not seen.isdisjoint({phase, "fit"})
        )
        seen = {phase} if is_new or row["epoch"] > epoch else seen | {phase}
        run, epoch = run + is_new, row["epoch"]
        for key, quantity in LOSSES.items():
            value = _mean(row, key)
            if value is not None:
                is_information = key == "train_loss" and phase in signs
                sign = signs[phase] if is_information else 1.0
                name = INFORMATION if is_information else quantity
                yield run, epoch, phase, name, sign * value


def _mean(row: dict[str, Any], key: str) -> float | None:
    """Return the value of an epoch, averaged over its batches if no callback did that."""
    if key in row:
        return float(row[key])
    batches = [batch for batch in row["batches"] if key in batch]
    sizes = [batch[key.replace("loss", "batch_size")] for batch in batches]
    return float(np.average([batch[key] for batch in batches], weights=sizes)) if sizes else None
