"""Reading a net's features: the input of its last linear layer, or a layer given by name."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from torch import nn

from .loading import run_of
from .outputs import first_output


class FeatureTap:
    """Keep what flows past one layer during the latest forward pass.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.
    layer : str
        Dotted name of a layer inside its module.
    side : {"input", "output"}
        Whether the features are what enters the layer or what leaves it.
    """

    def __init__(self, net: NeuralNet, layer: str, side: str) -> None:
        self._net = net
        self._features: torch.Tensor | None = None
        self._share: Any = None  # what of a batch they are of, if several processes have a part
        target = net.module_.get_submodule(layer)
        if side == "input":
            self._handle = target.register_forward_pre_hook(self._keep_input)
        else:
            self._handle = target.register_forward_hook(self._keep_output)

    def _keep_input(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        self._keep(args[0])

    def _keep_output(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._keep(first_output(output))

    def _keep(self, features: torch.Tensor) -> None:
        run = run_of(self._net)
        self._features, self._share = features, None if run is None else run.passing

    def read(self) -> torch.Tensor:
        """Return the features of the latest forward pass, shape (n, n_features), in float32."""
        if self._features is None:
            raise RuntimeError("No forward pass has gone through the feature layer yet.")
        features, self._features = self._features.flatten(1), None
        if self._share is not None:
            features = self._share.join(features)
        return features if features.dtype == torch.float64 else features.float()

    def __deepcopy__(self, memo: Any) -> FeatureTap:
        return self  # a copy of the network goes without it, see fresh_net

    def close(self) -> None:
        """Stop listening."""
        self._handle.remove()


def find_feature_layer(net: NeuralNet, X: Any, layer: str | None = None) -> tuple[str, str]:
    """Return the name of the feature layer and the side on which the features are.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.
    X : tensor or dict
        A small batch to run through it: the *last* linear layer is the last to run, not the last
        to be listed.
    layer : str or None, default=None
        A layer whose output is the features. None takes the input of the last linear layer.

    Returns
    -------
    name : str
        Dotted name.
    side : {"input", "output"}
        Where to read.

    Raises
    ------
    ValueError
        If there is no such layer, or no linear layer at all.
    """
    names = {sub: name for name, sub in net.module_.named_modules()}
    last = _last_linear_to_run(net, X) if layer is None else None
    found = names.get(last) if layer is None else layer
    if found is None or found not in names.values():
        missing = "no linear layer" if layer is None else f"no layer {layer!r}"
        others = ", ".join(filter(None, names.values()))
        raise ValueError(f"The net has {missing}: name one as feature_layer, of {others}.")
    return found, "input" if layer is None else "output"


def _last_linear_to_run(net: NeuralNet, X: Any) -> nn.Module | None:
    ran: list[nn.Module] = []
    hooks = [
        sub.register_forward_hook(lambda layer, args, output: ran.append(layer))
        for sub in net.module_.modules()
        if isinstance(sub, nn.Linear | nn.LazyLinear)
    ]
    try:
        net.evaluation_step((X, None))
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1] if ran else None
