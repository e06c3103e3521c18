"""Weights as they were before training, drawn anew."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from skorch import NeuralNet
from torch import nn
from torch.nn.parameter import is_lazy

from ..training import fresh_net


def untrained_net(net: NeuralNet) -> NeuralNet:
    """Return a copy of a net with new initial weights.

    A module given as a class or a function is built again, so that its own initialisation (which
    may load pretrained weights) decides. A module given as an *instance* cannot be built again;
    its layers are told to ``reset_parameters``, and what cannot be told so stays as it is: see
    :func:`parameters_without_reset`.

    Parameters
    ----------
    net : NeuralNet
        An initialised net; not changed.

    Returns
    -------
    NeuralNet
        An initialised net.
    """
    copy = fresh_net(net, weights_from=None)
    if isinstance(net.module, nn.Module):
        _reset(copy.module_, [name for name, _ in copy.module_.named_modules()])
    return copy


def draw_initial_weights(net: NeuralNet, layers: Iterable[str], X: Any) -> dict[str, torch.Tensor]:
    """Draw new initial values of everything that these layers themselves hold.

    They are drawn as in :func:`untrained_net`, but of an instance these layers only are reset.

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

    Raises
    ------
    ValueError
        If the module is an instance and one of the layers cannot be reset.
    """
    layers = list(layers)
    new = fresh_net(net, weights_from=None)
    module = new.module_
    if any(is_lazy(weight) for weight in module.parameters()):
        new.evaluation_step((X, None))
    if isinstance(net.module, nn.Module):
        for layer in layers:
            _check_can_be_reset(module, layer)
        _reset(module, layers)
    drawn = {}
    for layer in layers:
        held = module.get_submodule(layer)
        for own in (held.named_parameters(recurse=False), held.named_buffers(recurse=False)):
            for name, value in own:
                drawn[_dotted(layer, name)] = value.detach()
    return drawn


def parameters_without_reset(module: nn.Module) -> list[str]:
    """Return the names of the parameters that no layer's ``reset_parameters`` draws anew."""
    return [
        _dotted(layer, name)
        for layer, held in module.named_modules()
        if _reset_method(held) is None
        for name, _ in held.named_parameters(recurse=False)
    ]


def _reset(module: nn.Module, layers: list[str]) -> None:
    # a layer's own layers come after it in the list and are reset before it, since what a module
    # decides about them has the last word
    for layer in reversed(layers):
        reset = _reset_method(module.get_submodule(layer))
        if reset is not None:
            reset()


def _reset_method(layer: nn.Module) -> Any:
    """Return the method that draws a layer's parameters anew, if it has one."""
    # torch's attention and transformer layers call theirs private
    return getattr(layer, "reset_parameters", None) or getattr(layer, "_reset_parameters", None)


def _check_can_be_reset(module: nn.Module, layer: str) -> None:
    held = module.get_submodule(layer)
    if _reset_method(held) is None and any(True for _ in held.parameters(recurse=False)):
        raise ValueError(
            f"The net's module is an instance of {type(module).__name__}, and its layer "
            f"'{layer}' ({type(held).__name__}) holds weights but has no reset_parameters() "
            "to draw them anew. Give it one, or pass the class, "
            f"module={type(module).__name__} with module__... arguments."
        )


def _dotted(layer: str, name: str) -> str:
    return f"{layer}.{name}" if layer else name
