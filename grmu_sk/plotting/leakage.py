"""What membership attacks tell before and after unlearning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd

from ._style import DARK, GREY, ORIGINAL, Display, Style, clean, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNLEARNED: Style = {"color": DARK, "marker": "o", "markersize": 6}


@dataclass(eq=False, repr=False)
class LeakageDisplay(Display):
    """AUC of membership attacks on the original and on the unlearned model, with intervals.

    One line for each attack and group. The cross is the original model, which was trained on the
    rows: the attack's power. The dot is the unlearned model. Forgotten rows should lie in the
    shaded band around chance; to the left of it they are told apart as well.

    Parameters
    ----------
    findings : DataFrame
        As :meth:`grmu_sk.audit.LeakageAudit.to_frame` returns them, of one kind of rows.
    tolerance : float
        Half the width of the band.
    n_models : int
        How many reference models the attacks had.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Its figure.

    See Also
    --------
    grmu_sk.audit.audit_unlearning : Runs the attacks.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from grmu_sk.audit import Interval, LeakageAudit, LeakageFinding
    >>> from grmu_sk.plotting import LeakageDisplay
    >>> finding = LeakageFinding(
    ...     "RMIA", "forgotten", "all", 80, 80, Interval(0.52, 0.44, 0.6),
    ...     Interval(0.8, 0.73, 0.86), Interval(-0.28, -0.36, -0.2), 0.95, "no leak found", "",
    ... )
    >>> display = LeakageDisplay.from_audit(LeakageAudit([finding], n_models=16))
    >>> display.ax_.get_xlabel()
    'AUC on forgotten rows, 16 reference models'
    >>> plt.close(display.figure_)
    """

    findings: pd.DataFrame
    tolerance: float
    n_models: int

    @classmethod
    def from_audit(
        cls,
        audit: Any,
        *,
        rows: Literal["forgotten", "remaining"] = "forgotten",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the result of an audit.

        Parameters
        ----------
        audit : LeakageAudit
            The result: anything with ``to_frame()``, ``tolerance`` and ``n_models``.
        rows : {"forgotten", "remaining"}, default="forgotten"
            Which rows.
        ax : matplotlib Axes or None, default=None
            Where to; None makes a figure.

        Returns
        -------
        LeakageDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the audit holds nothing about such rows.
        """
        frame = audit.to_frame()
        found = frame[frame["rows"] == rows] if len(frame) else frame
        if not len(found):
            raise ValueError(f"The audit holds nothing about {rows} rows: choose other rows.")
        found = found.reset_index(drop=True)
        return cls(found, audit.tolerance, audit.n_models).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw one line an attack and group.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to; None makes a figure.

        Returns
        -------
        LeakageDisplay
            The display itself.
        """
        found, lines = self.findings, np.arange(len(self.findings))
        ax = self._start(ax, (7, 1.8 + 0.34 * len(found)))
        kind = found["rows"].iloc[0]
        ax.axvline(0.5, color=GREY, linewidth=1, zorder=1)
        if kind == "forgotten":
            band = (0.5 - self.tolerance, 0.5 + self.tolerance)
            ax.axvspan(*band, color="0.92", zorder=0, label=f"chance ± {self.tolerance:g}")
        models = [("power", "original", -0.15, ORIGINAL), ("auc", "unlearned", 0.15, UNLEARNED)]
        for column, label, shift, style in models:
            value, low, high = found[[column, f"{column}_low", f"{column}_high"]].to_numpy(float).T
            ends = [value - low, high - value]
            style = style | {"linestyle": "none", "label": f"{label} model", "elinewidth": 1.2}
            ax.errorbar(value, lines + shift, xerr=ends, **style)
        names = [f"{row.attack}: {row.group} (n = {row.n_rows})" for row in found.itertuples()]
        ax.set(yticks=lines, yticklabels=names, ylim=(len(lines) - 0.5, -0.5), xlim=(-0.02, 1.02))
        ax.set_xlabel(f"AUC on {kind} rows, {self.n_models} reference models")
        clean(ax, grid="x")
        verdicts = ax.secondary_yaxis("right")
        verdicts.set_yticks(lines, list(found["verdict"]))
        verdicts.tick_params(length=0)
        verdicts.spines["right"].set_visible(False)
        legend_below(ax)
        return self
