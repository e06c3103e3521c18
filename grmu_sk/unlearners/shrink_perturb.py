"""Shrink and perturb: shrink all weights, add noise, train on the remaining rows."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from skorch import NeuralNet

from ..base import Request
from ..parameters import NOT_NEGATIVE, Interval, parameter
from ._initial_weights import draw_initial_weights
from .approximate import RetainingUnlearner

__all__ = ["ShrinkPerturbUnlearner"]


class ShrinkPerturbUnlearner(RetainingUnlearner):
    r"""A start between the trained net and a new one, then training on the remaining rows.

    Every weight is shrunk towards zero and perturbed by noise [1]_,

    .. math:: w \leftarrow \lambda \, w + \gamma \, p,

    where p are the weights of a newly initialised net of the same kind, so that each layer gets
    noise on the scale of its own initialisation. Then the net is trained on the remaining rows
    with its own criterion, sampled by REWEIGHT if ``reweight=True``. :math:`\lambda = 1,
    \gamma = 0` is fine-tuning, :math:`\lambda = 0, \gamma = 1` is retraining.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net.
        Its ``module`` is built again, and what comes out (pretrained weights, if it loads some or
        was passed as an object that has some) is the noise.
    shrink : float, default=0.4
        What is left of the trained weights, :math:`\lambda`, from 0 to 1. The less, the more is
        forgotten at once and the more must be learned again.
    noise : float, default=0.1
        Scale :math:`\gamma` of the noise; not negative.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs.

    See Also
    --------
    RetrainUnlearner : Exact: starts from new weights alone.

    Notes
    -----
    Approximate: what was learned from the forgotten rows fades, and nothing guarantees that it is
    gone.

    The method was made for warm starts when data is added, not for unlearning. The defaults 0.4
    and 0.1, and the noise from a new net, are those of the authors' code; its training goes on
    until 99% training accuracy, here it is ``max_epochs``.

    Weights that the module itself has frozen are left alone, since no training would restore them.
    Running statistics of BatchNorm are no weights; they are kept and follow in training.

    References
    ----------
    .. [1] Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.

    Examples
    --------
    >>> from grmu_sk import ShrinkPerturbUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = ShrinkPerturbUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-2:, ("epoch", "phase")]
    [(9, 'retain'), (10, 'retain')]
    """

    method_name = "shrink_perturb"
    _needs_fresh_weights = True
    search_grid = {"shrink": [0.4, 0.6, 0.8, 0.9]}

    shrink: float = parameter(0.4, Interval(Real, 0, 1, closed="both"))
    noise: float = parameter(0.1, NOT_NEGATIVE)

    def _unlearn(self, request: Request) -> NeuralNet:
        sample = request.data.fetch_rows(request.retain[:2])
        _shrink_and_perturb(request.net, sample, self.shrink, self.noise)
        return super()._unlearn(request)


@torch.no_grad()
def _shrink_and_perturb(net: NeuralNet, X: Any, shrink: float, noise: float) -> None:
    names = [name for name, _ in net.module_.named_modules()]
    initial = draw_initial_weights(net, names, X)
    for name, weight in net.module_.named_parameters():
        if weight.requires_grad:
            weight.mul_(shrink).add_(initial[name], alpha=noise)
