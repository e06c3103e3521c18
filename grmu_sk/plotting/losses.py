"""Losses of rows the model was trained on, has forgotten, or never saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics import MembershipAttack, fit_membership_attack, per_sample_cross_entropy
from ..pipelines import unlearner_of
from ..utils.arguments import to_numbers
from ._style import DARK, FORGOTTEN, GREY, Display, Style, clean, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALLEST_LOSS = 1e-8  # a logarithmic axis has no 0
N_BINS = 30
SHADING = "shading: losses that the attack takes for those of members"


@dataclass(eq=False, repr=False)
class LossDistributionDisplay(Display):
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
    member_losses : ndarray of shape (n_members,)
        Losses of the remaining training rows, in nats.
    forget_losses : ndarray of shape (n_forget,)
        Losses of the forgotten rows, in nats.
    nonmember_losses : ndarray of shape (n_nonmembers,)
        Losses of held-out rows, in nats.
    attack : MembershipAttack
        The attack, fitted on the losses of members and non-members.

    Attributes
    ----------
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
    >>> display = LossDistributionDisplay.from_losses(
    ...     member_losses=np.linspace(0.01, 0.2, 50),
    ...     forget_losses=[0.1, 0.4, 0.6, 0.9],
    ...     nonmember_losses=np.linspace(0.3, 2.0, 50),
    ... )
    >>> display.forgotten_as_nonmembers
    0.75
    >>> plt.close(display.figure_)
    """

    member_losses: NDArray[Any]
    forget_losses: NDArray[Any]
    nonmember_losses: NDArray[Any]
    attack: MembershipAttack

    @property
    def forgotten_as_nonmembers(self) -> float:
        """Share of the forgotten rows that the attack takes for non-members: MIA_balanced."""
        return self._share_of_nonmembers(self.forget_losses)

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
        if len(forgotten) == 0:
            raise ValueError(
                f"{type(unlearner).__name__} has forgotten no row, and this figure is about "
                "forgotten rows. Call fit(..., forget=mask) or unlearn(rows) first."
            )

        def losses(inputs: Any, targets: ArrayLike) -> NDArray[np.float64]:
            proba = estimator.predict_proba(inputs)
            return per_sample_cross_entropy(targets, proba, classes=unlearner.classes_)

        of_fit = losses(X, y)
        if len(of_fit) != len(forgotten) + len(remaining):
            raise ValueError(
                f"y has {len(of_fit)} rows but fit was given {len(forgotten) + len(remaining)}. "
                "Pass all rows of fit, the forgotten ones too: the unlearner picks them by their "
                "row numbers."
            )
        return cls.from_losses(
            of_fit[remaining],
            of_fit[forgotten],
            losses(X_nonmember, y_nonmember),
            random_state=random_state,
            ax=ax,
        )

    @classmethod
    def from_losses(
        cls,
        member_losses: ArrayLike,
        forget_losses: ArrayLike,
        nonmember_losses: ArrayLike,
        *,
        random_state: int | np.random.RandomState | None = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw losses, such as those of :func:`grmu_sk.metrics.per_sample_cross_entropy`.

        Parameters
        ----------
        member_losses : array-like of shape (n_members,)
            Losses of the remaining training rows, in nats.
        forget_losses : array-like of shape (n_forget,)
            Losses of the forgotten rows, in nats.
        nonmember_losses : array-like of shape (n_nonmembers,)
            Losses of held-out rows, in nats.
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
        ValueError
            If losses are empty, not one-dimensional, NaN, infinite or negative.
        """
        members, forgotten, nonmembers = (
            to_numbers(losses, "losses")
            for losses in (member_losses, forget_losses, nonmember_losses)
        )
        if any((losses < 0).any() for losses in (members, forgotten, nonmembers)):
            raise ValueError("A loss is negative: are these log-likelihoods, without their minus?")
        attack = fit_membership_attack(members, nonmembers, random_state=random_state)
        attack.is_member(forgotten)  # which refuses what the attack cannot read
        return cls(members, forgotten, nonmembers, attack).plot(ax=ax)

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
            ("members (remaining rows)", self.member_losses, DARK, "-"),
            ("forgotten rows", self.forget_losses, FORGOTTEN, "--"),
            ("non-members (held-out rows)", self.nonmember_losses, GREY, "-."),
        ]
        losses = np.concatenate([losses for _, losses, *_ in kinds])
        smallest = max(losses[losses > 0].min(initial=np.inf), SMALLEST_LOSS)
        low = SMALLEST_LOSS if np.isinf(smallest) else smallest
        # a tenth of a decade more, so that equal losses have a bin too
        edges = np.geomspace(low, max(losses.max(), low) * 10**0.1, N_BINS + 1)
        for name, losses_of, color, linestyle in kinds:
            # zeros, and what lies under the smallest loss drawn, count in the first bin
            counts, _ = np.histogram(np.clip(losses_of, edges[0], edges[-1]), bins=edges)
            percent = 100 * counts / len(losses_of)
            outside = f"{100 * self._share_of_nonmembers(losses_of):.0f}% outside the shading"
            label = f"{name}: {len(losses_of)}, {outside}"
            ax.stairs(percent, edges, fill=True, color=color, alpha=0.12)
            ax.stairs(percent, edges, color=color, linestyle=linestyle, linewidth=1.8, label=label)
        lower, upper = self.attack.member_intervals.clip(edges[0], edges[-1]).T
        spans = np.column_stack([lower, upper - lower])[upper > lower]
        shading: Style = {"facecolor": "0.93", "edgecolor": "0.8", "hatch": "////", "linewidth": 0}
        whole: Style = {"transform": ax.get_xaxis_transform(), "zorder": 0, "label": SHADING}
        ax.broken_barh(spans, (0, 1), **shading, **whole)
        n_below = int((losses < edges[0]).sum())
        note = f"; the first bin holds {n_below} rows below the axis" if n_below else ""
        ax.set_xlabel(f"cross-entropy of a row (nats{note})")
        ax.set_ylabel("share of rows (%)")
        ax.set(xscale="log", xlim=(edges[0], edges[-1]), ylim=(0, None))
        clean(ax, grid="y")
        legend_below(ax)
        return self

    def _share_of_nonmembers(self, losses: NDArray[Any]) -> float:
        return float(np.mean(~self.attack.is_member(losses)))
