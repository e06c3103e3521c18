"""Weights as they were before training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from skorch import NeuralNet
from torch.nn.parameter import is_lazy

from ..net_copies import fresh_net


def draw_initial_weights(net: NeuralNet, layers: Iterable[str], X: Any) -> dict[str, torch.Tensor]:
    """Return new initial values of everything that these layers themselves hold.

    The module is built again, so that its own initialisation (which may load pretrained weights)
    decides; one that was passed as an object has the weights it was given with.

    Parameters
    ----------
    net : NeuralNet
        An initialised net; not changed.
    layers : iterable of str
        Dotted names of layers. Those below a layer are not part of it.
    X : tensor or dict
        A small batch, from which lazy layers learn their sizes.

    Returns
    -------
    dict
        From names, as in ``state_dict``, to tensors: weights and buffers.
    """
    new = fresh_net(net, weights_from=None)
    module = new.module_
    if any(is_lazy(weight) for weight in module.parameters()):
        new.evaluation_step((X, None))
    drawn = {}
    for layer in layers:
        held = module.get_submodule(layer)
        for own in (held.named_parameters(recurse=False), held.named_buffers(recurse=False)):
            for name, value in own:
                drawn[f"{layer}.{name}" if layer else name] = value.detach()
    return drawn
