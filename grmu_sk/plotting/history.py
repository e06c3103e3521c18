"""Losses and mutual information over the epochs of training and unlearning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Self

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from ..pipelines import unlearner_of
from . import _style

INFORMATION = "mutual information"
LOSSES = {"train_loss": "training loss", "valid_loss": "validation loss"}
#: Phases whose training loss is mutual information if there is a tune phase, and its sign.
INFORMATION_SIGNS = {"tune": -1.0, "forget": 1.0}


@dataclass(eq=False, repr=False)
class UnlearningHistoryDisplay(_style.Display):
    r"""Loss of each phase, and mutual information, over all epochs.

    The epochs of all runs follow one another: first training, then every request, each after a
    dotted line. Each phase has
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
    loss_name : str, default="loss"
        What is called so on the axis: of a fitted unlearner, its criterion.

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
    ['CrossEntropyLoss', 'mutual information\n(nats)']
    >>> plt.close(display.figure_)
    """

    history: pd.DataFrame
    loss_name: str = "loss"

    @classmethod
    def from_estimator(cls, estimator: Any) -> Self:
        """Draw the history of a fitted unlearner.

        Parameters
        ----------
        estimator : BaseUnlearner, Pipeline or search
            A fitted unlearner, or a pipeline or search that ends with one.

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
            If its history holds no loss (a frozen net that has not been asked to forget anything).
        """
        unlearner = unlearner_of(estimator)
        history = _tidy(unlearner.history_.to_list())
        if history.empty:
            raise ValueError("The history holds no loss: was no epoch trained yet?")
        return cls(history, type(unlearner.net_.criterion_).__name__).plot()

    def plot(self) -> Self:
        """Draw one line a phase, and one panel a unit.

        Returns
        -------
        UnlearningHistoryDisplay
            The display itself.
        """
        lengths = self.history.groupby("run")["epoch"].max()
        starts = lengths.cumsum() - lengths
        history = self.history.assign(x=self.history["epoch"] + self.history["run"].map(starts))
        is_information = history["quantity"] == INFORMATION
        parts = {
            self.loss_name: history[~is_information],
            f"{INFORMATION}\n(nats)": history[is_information],
        }
        parts = {label: part for label, part in parts.items() if len(part)}
        styles = _styles(history)
        size = (8, 1.7 + 2.2 * len(parts))
        axes = self._start_panels((len(parts), 1), size, sharex=True)
        for panel, (label, part) in zip(axes, parts.items(), strict=True):
            for (phase, quantity, _), line in part.groupby(["phase", "quantity", "run"]):
                panel.plot(line["x"], line["value"], **styles[f"{phase}: {quantity}"])
            for start in starts.iloc[1:]:
                panel.axvline(start + 0.5, color="0.6", linewidth=1, linestyle=":")
            panel.set_ylabel(label)
            _style.clean(panel, grid="y")
        bottom = axes[-1]
        bottom.set(xlim=(0.5, lengths.sum() + 0.5), xlabel="epoch, counted over all runs")
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        _style.legend_below(self.ax_.figure, _style.handles_of(styles))
        return self


def _styles(history: pd.DataFrame) -> dict[str, _style.Style]:
    """Return a colour for what is forgotten, one for what is kept, and a marker for each phase."""
    phases = dict(zip(history["phase"].unique(), cycle(_style.MARKERS), strict=False))
    looks: dict[str, _style.Style] = {
        phase: {"color": _style.DARK, "marker": marker} for phase, marker in phases.items()
    }
    looks |= {"fit": _style.ORIGINAL, "forget": {"color": _style.FORGOTTEN, "marker": "D"}}
    styles = dict[str, _style.Style]()
    for phase, quantity in history[["phase", "quantity"]].drop_duplicates().to_numpy():
        shape = _style.OPEN if quantity == LOSSES["valid_loss"] else {"linestyle": "-"}
        styles[f"{phase}: {quantity}"] = looks[phase] | {"markersize": 4, "linewidth": 1.4} | shape
    return styles


def _tidy(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the values of a history, one a line."""
    signs = INFORMATION_SIGNS if any(row["phase"] == "tune" for row in rows) else {}
    table = pd.DataFrame(rows).reindex(columns=["epoch", "phase", *LOSSES])
    table = table.assign(run=list(_runs(rows))).rename(columns=LOSSES)
    long = table.melt(["run", "epoch", "phase"], var_name="quantity").dropna(subset="value")
    is_information = long["phase"].isin(signs) & (long["quantity"] == LOSSES["train_loss"])
    long.loc[is_information, "value"] *= long["phase"].map(signs)
    return long.assign(quantity=long["quantity"].mask(is_information, INFORMATION))


def _runs(rows: list[dict[str, Any]]) -> Iterator[int]:
    """Number the runs of a history; one ends where epochs fall or an epoch repeats a phase."""
    run, epoch, seen = -1, np.inf, set[str]()
    for row in rows:
        phase = row["phase"]
        # fit has one phase, so what follows in the same epoch is the next run
        repeats = row["epoch"] == epoch and not seen.isdisjoint({phase, "fit"})
        is_new = row["epoch"] < epoch or repeats
        seen = {phase} if is_new or row["epoch"] > epoch else seen | {phase}
        run, epoch = run + is_new, row["epoch"]
        yield run
