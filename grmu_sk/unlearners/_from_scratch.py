"""What the methods share that train a new net on the remaining rows."""

from __future__ import annotations

from abc import abstractmethod

from skorch import NeuralNet

from ..base import BaseUnlearner, Request
from ..training import Phase, fresh_net, train


class FromScratchUnlearner(BaseUnlearner):
    """Base class of methods that train a net with new weights, with the recipe of ``fit``."""

    _needs_trained_net = False
    _needs_fresh_weights = True

    @abstractmethod
    def _phase(self, net: NeuralNet, request: Request) -> Phase:
        """Return the one phase that trains the new net."""

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
