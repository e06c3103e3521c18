"""Reading a net: its probabilities whatever its criterion, the labels they mean, its features.

Features are the input of the last linear layer, or the output of a layer given by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import nn


def first_output(output: Any) -> torch.Tensor:
    """Return the prediction of a module that may return several things."""
    return output[0] if isinstance(output, tuple | list) else output


def log_probabilities(net: NeuralNet, output: Any) -> torch.Tensor:
    """Return log-probabilities of shape (n, n_classes), in float32 or better.

    Modules trained with cross-entropy or an unknown criterion are taken to return logits, with
    ``NLLLoss`` probabilities (skorch's convention), with ``BCEWithLogitsLoss`` one logit a row.
    A callable ``predict_nonlinearity`` of the net takes precedence.
    """
    scores = first_output(output)
    if scores.dtype in (torch.float16, torch.bfloat16):
        scores = scores.float()
    if callable(net.predict_nonlinearity):
        return _log(net.predict_nonlinearity(scores))
    if isinstance(net.criterion_, nn.NLLLoss):
        return _log(scores)
    if is_single_logit(scores):
        logit = scores.reshape(-1, 1)
        return torch.cat([nn.functional.logsigmoid(-logit), nn.functional.logsigmoid(logit)], 1)
    return nn.functional.log_softmax(scores, dim=1)


def is_single_logit(scores: torch.Tensor) -> bool:
    """Tell whether a net returns one logit for two classes."""
    return scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1)


def _log(probabilities: torch.Tensor) -> torch.Tensor:
    return torch.log(probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny))


def predicted_columns(
    proba: NDArray[np.floating], threshold: float | None = None
) -> NDArray[np.intp]:
    """Return the column of the class that each row of probabilities stands for.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities.
    threshold : float or None, default=None
        Answer with the second of two classes where its probability is above this. None means the
        most probable class, the first of several that are equal.

    Returns
    -------
    ndarray of shape (n_samples,)
        Column numbers.

    Raises
    ------
    ValueError
        If a threshold comes with other than two classes.
    """
    if threshold is None:
        return proba.argmax(axis=1)
    if proba.shape[1] != 2:
        raise ValueError(f"A threshold decides between two classes, not {proba.shape[1]}.")
    return (proba[:, 1] > threshold).astype(np.intp)


def run_of(net: Any) -> Any:
    """Return the run of several processes a net takes part in, as ``grmu_sk.distributed`` says."""
    return getattr(net, "run_of_processes", None)


class FeatureTap:
    """Record the input or output of one layer in the latest forward pass.

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
        # a function, of which a copied module holds no copy with the net in it
        self._handle = net.module_.get_submodule(layer).register_forward_hook(
            lambda layer, args, output: self._keep(
                args[0] if side == "input" else first_output(output)
            )
        )

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

    def close(self) -> None:
        """Remove the hook."""
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
