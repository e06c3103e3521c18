"""What membership attacks tell before and after unlearning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import pandas as pd

from ._style import GREY, check_axes, clean, legend_below, marker_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ["attack", "rows", "group", "n_rows", "verdict"] + [
    name for value in ("auc", "power") for name in (value, f"{value}_low", f"{value}_high")
]


class LeakageDisplay:
    """AUC of membership attacks on the original and on the unlearned model, with intervals.

    One line for each attack and group. The open marker is the original model, which was trained on
    the rows: the attack's power. The filled one is the unlearned model. Forgotten rows should lie
    in the shaded band around chance; to the left of it they are told apart as well.

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

    ax_: Axes
    figure_: Figure

    def __init__(self, findings: pd.DataFrame, tolerance: float, n_models: int) -> None:
        self.findings = findings
        self.tolerance = tolerance
        self.n_models = n_models

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
            The result.
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
        TypeError
            If it is no such result.
        ValueError
            If the audit holds nothing about such rows.
        """
        if not hasattr(audit, "findings"):
            raise TypeError(
                "audit must be a LeakageAudit, as audit_unlearning returns, got a "
                f"{type(audit).__name__}."
            )
        frame = audit.to_frame()
        found = frame[frame["rows"] == rows] if len(frame) else frame
        if not len(found):
            raise ValueError(f"The audit holds nothing about {rows} rows: choose other rows.")
        return cls(found[COLUMNS].reset_index(drop=True), audit.tolerance, audit.n_models).plot(
            ax=ax
        )

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

        Raises
        ------
        TypeError
            If ``ax`` is no place to draw.
        """
        import matplotlib.pyplot as plt

        check_axes(ax)
        if ax is None:
            height = 1.6 + 0.34 * len(self.findings)
            _, ax = plt.subplots(figsize=(7, height), layout="constrained")
        self.ax_ = ax
        self.figure_ = ax.get_figure(root=True)  # type: ignore[assignment]
        is_forgotten = self.findings["rows"].iloc[0] == "forgotten"
        ax.axvline(0.5, color=GREY, linewidth=1, zorder=1)
        if is_forgotten:
            band = (0.5 - self.tolerance, 0.5 + self.tolerance)
            ax.axvspan(*band, color="0.92", zorder=0, label=f"chance ± {self.tolerance:g}")
        attacks = list(dict.fromkeys(self.findings["attack"]))
        for place, finding in enumerate(self.findings.to_dict("records")):
            style = marker_style(attacks.index(finding["attack"])) | {"linestyle": "none"}
            first = place == list(self.findings["attack"]).index(finding["attack"])
            _mark(
                ax,
                finding,
                "power",
                place - 0.15,
                style | {"markerfacecolor": "white"},
                f"{finding['attack']}, original" if first else None,
            )
            _mark(
                ax,
                finding,
                "auc",
                place + 0.15,
                style,
                f"{finding['attack']}, unlearned" if first else None,
            )
        names = [
            f"{row.attack}: {row.group} (n = {row.n_rows})" for row in self.findings.itertuples()
        ]
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.set_xlim(-0.02, 1.02)
        kind = "forgotten" if is_forgotten else "remaining"
        ax.set_xlabel(f"AUC on {kind} rows, {self.n_models} reference models")
        clean(ax, grid="x")
        verdicts = ax.secondary_yaxis("right")
        verdicts.set_yticks(range(len(names)), list(self.findings["verdict"]))
        verdicts.tick_params(length=0)
        verdicts.spines["right"].set_visible(False)
        legend_below(ax, points=40, beside=1.2)
        return self


def _mark(
    ax: Axes,
    finding: dict[str, Any],
    which: str,
    y: float,
    style: dict[str, Any],
    label: str | None,
) -> None:
    ax.plot([finding[which]], [y], zorder=3, label=label, **style)
    low, high = finding[f"{which}_low"], finding[f"{which}_high"]
    if pd.notna(low):
        ax.hlines(y, low, high, color=style["color"], linewidth=1.2, zorder=2)
