"""What the approximate methods share: they go on training the net they are given."""

from __future__ import annotations

from abc import abstractmethod
from numbers import Integral
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import LRScheduler

from ..base import BaseUnlearner, Request
from ..parameters import COUNT, LEARNING_RATE, Options, one_of, parameter
from ..training import Phase


class ApproximateUnlearner(BaseUnlearner):
    """Base class of methods that change the trained net in a few epochs.

    Parameters
    ----------
    max_epochs : int, default=10
        Epochs of an unlearning run.
    lr : float or None, default=None
        Learning rate of an unlearning run; None means the net's.
    batch_size : int or None, default=None
        Rows a batch of an unlearning run; None means the net's, -1 all rows.
    """

    max_epochs: int = parameter(10, COUNT)
    lr: float | None = parameter(None, LEARNING_RATE, None)
    batch_size: int | None = parameter(None, COUNT, Options(Integral, {-1}), None)

    @abstractmethod
    def _phases(self, request: Request) -> list[Phase]:
        """Return the phases of one epoch, in order."""

    def _net_parameters(self) -> dict[str, Any]:
        given = {"lr": self.lr, "batch_size": self.batch_size}
        return {name: value for name, value in given.items() if value is not None}

    def _unlearn(self, request: Request) -> NeuralNet:
        _fit_schedule(request.net, self.max_epochs)
        return request.trained(self._phases(request), self.max_epochs)


class RetainingUnlearner(ApproximateUnlearner):
    """Base class of those that also train on the remaining rows.

    Parameters
    ----------
    reweight : bool or "uniform", default=False
        Whether the remaining rows are sampled by REWEIGHT, with replacement, so that groups
        keep the mix of the training data; needs ``groups``. Otherwise each remaining row is seen
        once an epoch. ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.
    """

    reweight: bool | str = parameter(False, "boolean", one_of("uniform"))

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        return [Phase("retain", request.retain, weights=weights)]


def _fit_schedule(net: NeuralNet, epochs: int) -> None:
    """Let a schedule that was made to end with training end with unlearning instead."""
    for _, callback in net.callbacks_:
        if isinstance(callback, LRScheduler) and callback.kwargs.get("T_max") == net.max_epochs:
            callback.T_max = epochs
