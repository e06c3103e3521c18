"""The net that is trained when the user names none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn
from torch.utils.data import Dataset

from .nets import MLP, SmallCNN
from .rows import split_item

__all__ = ["default_net"]


def default_net(X: Any, n_classes: int) -> NeuralNetClassifier:
    """Return an untrained net for inputs like ``X``.

    Images, shape (n, channels, height, width), get a small convolutional network, everything else
    a small multilayer perceptron on the flattened row. Like scikit-learn's own, it works in double
    precision if ``X`` does.

    Parameters
    ----------
    X : array, tensor or Dataset
        Inputs.
    n_classes : int
        Number of classes.

    Returns
    -------
    NeuralNetClassifier
        Not initialised.
    """
    shape = _row_shape(X)
    module: type[nn.Module] = SmallCNN if len(shape) == 3 else MLP
    size = (
        {"module__n_channels": shape[0]}
        if module is SmallCNN
        else {
            "module__n_features": int(torch.Size(shape).numel()),
            "module__dtype": torch.float64 if _is_double(X) else None,
        }
    )
    return NeuralNetClassifier(
        module,
        module__n_classes=n_classes,
        **size,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=1e-3,
        lr=0.05,
        max_epochs=20,
        batch_size=64,
        train_split=None,
        callbacks=[("schedule", LRScheduler("CosineAnnealingLR", T_max=20))],
        verbose=0,
    )


def _is_double(X: Any) -> bool:
    return getattr(X, "dtype", None) in (np.float64, torch.float64)


def _row_shape(X: Any) -> tuple[int, ...]:
    if not isinstance(X, Dataset):
        return tuple(X.shape[1:])
    inputs, _ = split_item(X[0])
    if not hasattr(inputs, "shape"):
        raise TypeError(f"The default net reads tensors, no {type(inputs).__name__}: pass a net.")
    return tuple(inputs.shape)
