"""What membership attacks see: losses of rows, and how well attacks tell members apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from ..metrics import fit_membership_attack, per_sample_cross_entropy
from ..pipelines import unlearner_of
from ..validation import to_numbers
from . import _style

SMALLEST_LOSS = 1e-8  # on the axis
N_BINS = 30
N_SHADED = 1001  # losses that the attack is asked about
SHADING = "shading: losses that the attack takes for those of members"


@dataclass(eq=False, repr=False)
class LossDistributionDisplay(_style.Display):
    r"""Loss distributions of members, forgotten rows and non-members.

    If forgetting worked, the losses of forgotten rows lie where those of the gold standard would
    put them, as a rule near the non-members.

    Shaded are the losses that a membership attack takes for those of members. It is the attack of
    the metric MIA_balanced, a random forest that learned from the losses of members and
    non-members; the shares of rows outside the shading stand in the legend. That of the forgotten
    rows is the metric. If it says the same of members and of non-members, losses tell nothing
    about membership, and the metric proves nothing.

    Parameters
    ----------
    member_losses : array-like of shape (n_members,)
        Losses of the remaining training rows in nats, such as those of
        :func:`grmu_sk.metrics.per_sample_cross_entropy`.
    forget_losses : array-like of shape (n_forget,)
        Losses of the forgotten rows.
    nonmember_losses : array-like of shape (n_nonmembers,)
        Losses of held-out rows.
    random_state : int, RandomState instance or None, default=0
        Seed of the attack's forest.

    Attributes
    ----------
    forgotten_as_nonmembers : float
        Share of the forgotten rows that the attack takes for non-members: MIA_balanced.
    is_member : callable
        The attack, fitted on the losses of members and non-members.
    ax_ : matplotlib Axes
        Where it was drawn.
    figure_ : matplotlib Figure
        Its figure.

    See Also
    --------
    grmu_sk.metrics.membership_inference_efficacy : The metric.
    grmu_sk.metrics.fit_membership_attack : The attack by itself.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import numpy as np
    >>> from grmu_sk.plotting import LossDistributionDisplay
    >>> display = LossDistributionDisplay(
    ...     member_losses=np.linspace(0.01, 0.2, 50),
    ...     forget_losses=[0.1, 0.4, 0.6, 0.9],
    ...     nonmember_losses=np.linspace(0.3, 2.0, 50),
    ... )
    >>> display.forgotten_as_nonmembers
    0.75
    >>> plt.close(display.plot().figure_)
    """

    member_losses: Any
    forget_losses: Any
    nonmember_losses: Any
    random_state: int | np.random.RandomState | None = 0

    def __post_init__(self) -> None:
        for name in ("member_losses", "forget_losses", "nonmember_losses"):
            losses = to_numbers(getattr(self, name), name)
            if (losses < 0).any():
                raise ValueError(f"{name} has a loss below 0: a log-likelihood without its minus?")
            setattr(self, name, losses)
        self.is_member = fit_membership_attack(
            self.member_losses, self.nonmember_losses, random_state=self.random_state
        )
        self.forgotten_as_nonmembers = self._share_of_nonmembers(self.forget_losses)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        X_nonmember: Any,
        y_nonmember: ArrayLike,
        *,
        random_state: int | np.random.RandomState | None = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the losses of an unlearner that has forgotten something.

        Parameters
        ----------
        estimator : BaseUnlearner, Pipeline or search
            A fitted unlearner, or a pipeline or search that ends with one. It knows which of its
            training rows were forgotten.
        X : array-like, tensor or Dataset of length n_samples
            The inputs given to ``fit``: all rows, in the same order.
        y : array-like of shape (n_samples,)
            The labels given to ``fit``.
        X_nonmember : array-like, tensor or Dataset of length n_nonmembers
            Inputs the model was never trained on: validation rows, not test rows, if the figure
            is to guide a choice.
        y_nonmember : array-like of shape (n_nonmembers,)
            Their labels.
        random_state : int, RandomState instance or None, default=0
            Seed of the attack's forest.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LossDistributionDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If there is no unlearner in ``estimator``.
        NotFittedError
            If it is not fitted.
        ValueError
            If it has forgotten no row, or X and y are not the rows given to ``fit``.
        """
        unlearner = unlearner_of(estimator)
        forgotten, remaining = unlearner.forget_idx_, unlearner.remaining_idx_

        def losses(inputs: Any, targets: ArrayLike) -> NDArray[np.float64]:
            proba = estimator.predict_proba(inputs)
            return per_sample_cross_entropy(targets, proba, classes=unlearner.classes_)

        of_fit = losses(X, y)
        if len(of_fit) != len(forgotten) + len(remaining):
            raise ValueError(
                f"y has {len(of_fit)} rows but fit was given {len(forgotten) + len(remaining)}: "
                "pass all rows of fit, the forgotten ones too."
            )
        unseen = losses(X_nonmember, y_nonmember)
        return cls(of_fit[remaining], of_fit[forgotten], unseen, random_state).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw three histograms and the losses that the attack takes for those of members.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        LossDistributionDisplay
            The display itself.
        """
        ax = self._start(ax, (7.5, 5))
        kinds = [
            ("members (remaining rows)", self.member_losses, _style.DARK, "-"),
            ("forgotten rows", self.forget_losses, _style.FORGOTTEN, "--"),
            ("non-members (held-out rows)", self.nonmember_losses, _style.GREY, "-."),
        ]
        losses = np.concatenate([losses for _, losses, *_ in kinds])
        low = max(losses[losses > 0].min(initial=1.0), SMALLEST_LOSS)
        # a tenth of a decade more, so that equal losses have a bin too
        edges = np.geomspace(low, max(losses.max(), low) * 10**0.1, N_BINS + 1)
        for name, losses_of, color, linestyle in kinds:
            # zeros, which a logarithmic axis does not have, count in the first bin
            counts, _ = np.histogram(np.clip(losses_of, edges[0], edges[-1]), bins=edges)
            percent = 100 * counts / len(losses_of)
            outside = f"{100 * self._share_of_nonmembers(losses_of):.0f}% outside the shading"
            label = f"{name}: {len(losses_of)}, {outside}"
            ax.stairs(percent, edges, fill=True, color=color, alpha=0.12)
            ax.stairs(percent, edges, color=color, linestyle=linestyle, linewidth=1.8, label=label)
        grid = np.geomspace(edges[0], edges[-1], N_SHADED)
        shading: _style.Style = {"facecolor": "0.93", "edgecolor": "0.8", "hatch": "////"}
        shading |= {"transform": ax.get_xaxis_transform(), "zorder": 0, "linewidth": 0}
        ax.fill_between(grid, 0, 1, where=self.is_member(grid), label=SHADING, **shading)
        ax.set_xlabel("cross-entropy of a row (nats)")
        ax.set_ylabel("share of rows (%)")
        ax.set(xscale="log", xlim=(edges[0], edges[-1]), ylim=(0, None))
        _style.clean(ax, grid="y")
        _style.legend_below(ax)
        return self

    def _share_of_nonmembers(self, losses: NDArray[Any]) -> float:
        return float(np.mean(~self.is_member(losses)))


UNLEARNED: _style.Style = {"color": _style.DARK, "marker": "o", "markersize": 6}


@dataclass(eq=False, repr=False)
class LeakageDisplay(_style.Display):
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
        ax.axvline(0.5, color=_style.GREY, linewidth=1, zorder=1)
        if kind == "forgotten":
            band = (0.5 - self.tolerance, 0.5 + self.tolerance)
            ax.axvspan(*band, color="0.92", zorder=0, label=f"chance ± {self.tolerance:g}")
        models = [
            ("power", "original", -0.15, _style.ORIGINAL),
            ("auc", "unlearned", 0.15, UNLEARNED),
        ]
        for column, label, shift, style in models:
            value, low, high = found[[column, f"{column}_low", f"{column}_high"]].to_numpy(float).T
            ends = [value - low, high - value]
            style = style | {"linestyle": "none", "label": f"{label} model", "elinewidth": 1.2}
            ax.errorbar(value, lines + shift, xerr=ends, **style)
        names = [f"{row.attack}: {row.group} (n = {row.n_rows})" for row in found.itertuples()]
        ax.set(yticks=lines, yticklabels=names, ylim=(len(lines) - 0.5, -0.5), xlim=(-0.02, 1.02))
        ax.set_xlabel(f"AUC on {kind} rows, {self.n_models} reference models")
        _style.clean(ax, grid="x")
        verdicts = ax.secondary_yaxis("right")
        verdicts.set_yticks(lines, list(found["verdict"]))
        verdicts.tick_params(length=0)
        verdicts.spines["right"].set_visible(False)
        _style.legend_below(ax)
        return self
