"""What the methods share that train a new net on the remaining rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from skorch import NeuralNet
from torch import nn

from ..base import BaseUnlearner, Request
from ..training import Phase, fresh_net, train


class FromScratchUnlearner(BaseUnlearner):
    """Base class of methods that train a net with new weights, with the recipe of ``fit``."""

    _needs_trained_net = False

    @abstractmethod
    def _phase(self, net: NeuralNet, request: Request) -> Phase:
        """Return the one phase that trains the new net."""

    def _new_net(self, X: Any) -> NeuralNet:
        return check_draws_weights(super()._new_net(X))

    def _unlearn(self, request: Request) -> NeuralNet:
        net = fresh_net(request.net, weights_from=None)
        return train(
            net,
            request.data,
            [self._phase(net, request)],
            epochs=net.max_epochs,
            validation=request.validation,
            progress=request.progress,
        )


def check_draws_weights(net: NeuralNet) -> NeuralNet:
    """Return the net if new weights can be drawn for it, and raise ValueError if not."""
    if isinstance(net.module, nn.Module):
        raise ValueError(
            f"The net's module is an instance of {type(net.module).__name__}. Retraining "
            "needs new random weights, and an instance would keep its trained ones. Pass the "
            f"class, module={type(net.module).__name__} with module__... arguments, or a "
            "function that builds it (which may load pretrained weights)."
        )
    return net
