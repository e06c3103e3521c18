"""Losses of rows the model was trained on, has forgotten, or never saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..metrics import MembershipAttack, fit_membership_attack, per_sample_cross_entropy
from ..utils.arguments import to_array, to_numbers
from ._estimators import forgetful_unlearner_of
from ._style import BLUE, GREEN, RED, check_axes, clean, legend_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALLEST_LOSS = 1e-8  # a logarithmic axis has no 0
N_BINS = 30


class LossDistributionDisplay:
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

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        member_losses: NDArray[Any],
        forget_losses: NDArray[Any],
        nonmember_losses: NDArray[Any],
        attack: MembershipAttack,
    ) -> None:
        self.member_losses = member_losses
        self.forget_losses = forget_losses
        self.nonmember_losses = nonmember_losses
        self.attack = attack

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
        unlearner = forgetful_unlearner_of(estimator)
        n_fit = len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)
        labels = to_array(y, "y")
        if labels.ndim != 1:
            raise ValueError(f"y must be 1-D, one label a row; got shape {labels.shape}.")
        if len(labels) != n_fit:
            raise ValueError(
                f"y has {len(labels)} rows but fit was given {n_fit}. Pass all rows of fit, the "
                "forgotten ones too: the unlearner picks them by their row numbers."
            )

        def losses(inputs: Any, targets: ArrayLike) -> NDArray[np.float64]:
            proba = estimator.predict_proba(inputs)
            return per_sample_cross_entropy(targets, proba, classes=unlearner.classes_)

        of_fit = losses(X, labels)
        return cls.from_losses(
            of_fit[unlearner.remaining_idx_],
            of_fit[unlearner.forget_idx_],
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
        members = _loss_column(member_losses, "member_losses")
        forgotten = _loss_column(forget_losses, "forget_losses")
        nonmembers = _loss_column(nonmember_losses, "nonmember_losses")
        attack = fit_membership_attack(members, nonmembers, random_state=random_state)
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
        import matplotlib.pyplot as plt

        check_axes(ax)
        if ax is None:
            _, ax = plt.subplots(figsize=(7.5, 5), layout="constrained")
        edges = self._bin_edges()
        styles = [
            ("members (remaining rows)", self.member_losses, BLUE, "-"),
            ("forgotten rows", self.forget_losses, RED, "--"),
            ("non-members (held-out rows)", self.nonmember_losses, GREEN, "-."),
        ]
        for name, losses, color, linestyle in styles:
            # zeros, and what lies under the smallest loss drawn, count in the first bin
            counts, _ = np.histogram(np.clip(losses, edges[0], edges[-1]), bins=edges)
            percent = 100 * counts / len(losses)
            outside = f"{100 * self._share_of_nonmembers(losses):.0f}% outside the shading"
            label = f"{name}: {len(losses)}, {outside}"
            ax.stairs(percent, edges, fill=True, color=color, alpha=0.12)
            ax.stairs(percent, edges, color=color, linestyle=linestyle, linewidth=1.8, label=label)
        self._shade_members(ax, edges)
        self._label(ax, edges)
        self.ax_, self.figure_ = ax, ax.get_figure(root=True)  # type: ignore[assignment]
        return self

    def _share_of_nonmembers(self, losses: NDArray[Any]) -> float:
        return float(np.mean(~self.attack.is_member(losses)))

    def _shade_members(self, ax: Axes, edges: NDArray[np.float64]) -> None:
        """Shade the losses of members; what lies under the axis is not drawn."""
        lower, upper = self.attack.member_intervals.clip(edges[0], edges[-1]).T
        is_seen = upper > lower
        ax.broken_barh(
            list(zip(lower[is_seen], (upper - lower)[is_seen], strict=True)),
            (0, 1),
            transform=ax.get_xaxis_transform(),
            facecolor="0.9",
            edgecolor="0.75",
            hatch="////",
            linewidth=0,
            zorder=0,
            label="shading: losses that the attack takes for those of members",
        )

    def _losses(self) -> NDArray[Any]:
        return np.concatenate([self.member_losses, self.forget_losses, self.nonmember_losses])

    def _bin_edges(self) -> NDArray[np.float64]:
        losses = self._losses()
        low = max(losses[losses > 0].min(initial=np.inf), SMALLEST_LOSS)
        low = SMALLEST_LOSS if np.isinf(low) else low
        # a tenth of a decade more, so that equal losses have a bin too
        return np.geomspace(low, max(losses.max(), low) * 10**0.1, N_BINS + 1)

    def _label(self, ax: Axes, edges: NDArray[np.float64]) -> None:
        ax.set_xscale("log")
        n_below = int((self._losses() < edges[0]).sum())
        note = f"; the first bin holds {n_below} rows below the axis" if n_below else ""
        ax.set_xlabel(f"cross-entropy of a row (nats{note})")
        ax.set_ylabel("share of rows (%)")
        ax.set_xlim(edges[0], edges[-1])
        ax.set_ylim(bottom=0)
        clean(ax, grid="y")
        legend_below(ax, points=44)


def _loss_column(losses: ArrayLike, name: str) -> NDArray[np.float64]:
    column = to_numbers(losses, name)
    if column.ndim != 1:
        raise ValueError(f"{name} must be 1-D, one loss a row; got shape {column.shape}.")
    if len(column) == 0:
        raise ValueError(f"{name} is empty: there is no distribution to draw.")
    bad = np.flatnonzero(~np.isfinite(column) | (column < 0))
    if len(bad):
        raise ValueError(
            f"{name} must be finite and not negative; row {bad[0]} is {column[bad[0]]}. Did "
            "training diverge, or are these log-likelihoods (the negative of losses)?"
        )
    return column
