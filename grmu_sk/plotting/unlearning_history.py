"""Losses and mutual information over the epochs of training and unlearning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from ._estimators import unlearner_of
from ._style import clean, fill_legend, marker_style, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("run", "epoch", "phase", "quantity", "value")
LOSSES = {"train_loss": "training", "valid_loss": "validation"}
#: Phases whose training loss is mutual information if there is a tune phase, and its sign.
INFORMATION_SIGNS = {"tune": -1.0, "forget": 1.0}
IN_NATS = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss)


class UnlearningHistoryDisplay:
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

    ax_: Axes
    axes_: NDArray[Any]
    figure_: Figure

    def __init__(self, history: pd.DataFrame, loss_unit: str = "nats") -> None:
        self.history = history
        self.loss_unit = loss_unit

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Draw the history of a fitted unlearner.

        Parameters
        ----------
        estimator : BaseUnlearner, Pipeline or search
            A fitted unlearner, or a pipeline or search that ends with one.
        ax : matplotlib Axes or None, default=None
            Whose place to draw in; None makes a figure.

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
        rows = unlearner.history_.to_list()
        has_information = any(row["phase"] == "tune" for row in rows)
        signs = INFORMATION_SIGNS if has_information else {}
        history = _tidy(rows, signs)
        if history.empty:
            raise ValueError(
                f"The history of {type(unlearner).__name__} is empty: no epoch was trained. After "
                "fit with a FrozenEstimator there is none before the first request."
            )
        criterion = unlearner.net_.criterion_
        unit = "nats" if isinstance(criterion, IN_NATS) else type(criterion).__name__
        return cls(history, unit).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw one line a phase, and one panel a unit.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Whose place to draw in; None makes a figure.

        Returns
        -------
        UnlearningHistoryDisplay
            The display itself.
        """
        history = self.history.assign(x=self._positions())
        is_information = history["quantity"] == "mutual information"
        parts = {
            f"loss\n({self.loss_unit})": history[~is_information],
            "mutual information\n(nats)": history[is_information],
        }
        parts = {label: part for label, part in parts.items() if len(part)}
        styles = self._styles()
        handles = [_handle(name, style) for name, style in styles.items()]
        grid, legend = panels(
            ax,
            (len(parts), 1),
            figsize=(8, 1.2 + 2.2 * len(parts)),
            labels=list(styles),
            share="x",
        )
        self.axes_ = grid[:, 0]
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.get_figure(root=True)  # type: ignore[assignment]
        for panel, (label, part) in zip(self.axes_, parts.items(), strict=True):
            for keys, line in part.groupby(["phase", "quantity", "run"], sort=False):
                panel.plot(line["x"], line["value"], **styles[_line_name(keys[0], keys[1])])
            panel.set_ylabel(label)
            clean(panel, grid="y")
        self._mark_runs(history)
        fill_legend(legend, handles, whole_figure=ax is None)
        return self

    def _run_starts(self) -> pd.Series:
        """Return how many epochs lie before each run."""
        lengths = self.history.groupby("run")["epoch"].max()
        return lengths.cumsum() - lengths

    def _positions(self) -> pd.Series:
        return self.history["epoch"] + self.history["run"].map(self._run_starts())

    def _styles(self) -> dict[str, dict[str, Any]]:
        phases = list(dict.fromkeys(self.history["phase"]))
        styles = {}
        lines = self.history[["phase", "quantity"]].drop_duplicates()
        for phase, quantity in lines.itertuples(index=False):
            is_validation = quantity == "validation loss"
            style = marker_style(phases.index(phase)) | {"markersize": 4, "linewidth": 1.4}
            style |= {"linestyle": "--" if is_validation else "-"}
            style |= {"markerfacecolor": "white"} if is_validation else {}
            styles[_line_name(phase, quantity)] = style
        return styles

    def _mark_runs(self, history: pd.DataFrame) -> None:
        from matplotlib.ticker import MaxNLocator

        starts, last = self._run_starts(), history["x"].max()
        ends = [*starts.iloc[1:], last]
        phases = history.groupby("run")["phase"].first()
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            for panel in self.axes_:
                if number:
                    panel.axvline(start + 0.5, color="0.6", linewidth=1, linestyle=":")
            name = _run_name(number, phases)
            # a short run among long ones has no room for its name; the line remains
            if (end - start) / last * 70 >= len(name):
                self.axes_[0].text(
                    (start + end + 1) / 2,
                    1.02,
                    name,
                    transform=self.axes_[0].get_xaxis_transform(),
                    ha="center",
                    va="bottom",
                    fontsize="small",
                )
        for panel in self.axes_[:-1]:
            panel.tick_params(axis="x", labelbottom=False)
        bottom = self.axes_[-1]
        bottom.set_xlim(0.5, last + 0.5)
        bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
        bottom.set_xlabel("epoch, counted over all runs")


def _handle(name: str, style: dict[str, Any]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=name, **style)


def _line_name(phase: str, quantity: str) -> str:
    return f"{phase}: {quantity}"


def _run_name(number: int, phases: pd.Series) -> str:
    n_training = int((phases == "fit").sum())
    if number < n_training:
        return "training" if n_training == 1 else f"training {number + 1}"
    return f"request {number - n_training + 1}"


def _tidy(rows: list[dict[str, Any]], signs: dict[str, float]) -> pd.DataFrame:
    """Return one row a value of a skorch history."""
    found = []
    for run, row in zip(_run_numbers(rows), rows, strict=True):
        for key, name in LOSSES.items():
            value = _epoch_value(row, key)
            if value is None:
                continue
            quantity, sign = f"{name} loss", 1.0
            if key == "train_loss" and row["phase"] in signs:
                quantity, sign = "mutual information", signs[row["phase"]]
            found.append((run, row["epoch"], row["phase"], quantity, sign * value))
    return pd.DataFrame(found, columns=list(COLUMNS))


def _run_numbers(rows: list[dict[str, Any]]) -> list[int]:
    """Number the runs: in one run epochs never fall, and an epoch has each phase once."""
    numbers: list[int] = []
    run, seen = -1, set[str]()
    before: dict[str, Any] = {"epoch": np.inf, "phase": None}
    for row in rows:
        if row["epoch"] != before["epoch"]:
            is_new, seen = row["epoch"] < before["epoch"], set()
        else:
            is_new = row["phase"] in seen or before["phase"] == "fit"
        run += is_new
        seen = {row["phase"]} if is_new else seen | {row["phase"]}
        numbers.append(run)
        before = row
    return numbers


def _epoch_value(row: dict[str, Any], key: str) -> float | None:
    """Return the value of an epoch, averaged over its batches if no callback did that."""
    if key in row:
        return float(row[key])
    batches = [batch for batch in row["batches"] if key in batch]
    if not batches:
        return None
    sizes = [batch[key.replace("loss", "batch_size")] for batch in batches]
    return float(np.average([batch[key] for batch in batches], weights=sizes))
