"""Small networks, and the net that is trained when the user names none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn
from torch.utils.data import Dataset

from .rows import split_item

__all__ = ["MLP", "SmallCNN", "default_net", "net_of_module"]


class SmallCNN(nn.Module):
    """A small convolutional network with a linear head.

    3x3 convolutions with ReLU, the first of ``width`` filters and each next one of twice as many;
    2x2 max pooling between them; the mean over all positions; a linear head. Any image of at least
    ``2 ** (depth - 1)`` pixels a side fits.

    Parameters
    ----------
    n_classes : int, default=2
        Number of target labels, hence of logits.
    n_channels : int, default=3
        Number of colour channels of the images.
    width : int, default=16
        Number of filters of the first layer.
    batch_norm : bool, default=True
        Whether to normalise each convolution over the batch before ReLU.
    depth : int, default=3
        Number of convolutions.

    Attributes
    ----------
    features : torch.nn.Sequential
        Everything before the head: images to vectors of length ``2 ** (depth - 1) * width``.
    head : torch.nn.Linear
        The last linear layer: feature vectors to logits.

    Examples
    --------
    >>> import torch
    >>> from grmu_sk.nets import SmallCNN
    >>> net = SmallCNN(n_classes=2)
    >>> images = torch.zeros(5, 3, 8, 8)
    >>> net(images).shape, net.features(images).shape
    (torch.Size([5, 2]), torch.Size([5, 64]))
    """

    def __init__(
        self,
        n_classes: int = 2,
        n_channels: int = 3,
        *,
        width: int = 16,
        batch_norm: bool = True,
        depth: int = 3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = n_channels
        for level in range(depth):
            n_out = 2**level * width
            if level > 0:
                layers.append(nn.MaxPool2d(2))
            layers.append(nn.Conv2d(n_in, n_out, kernel_size=3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(n_out))
            layers.append(nn.ReLU())
            n_in = n_out
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(n_in, n_classes)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of images.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, n_channels, height, width)
            Images, channels first.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_classes)
            Logits.
        """
        return self.head(self.features(X))


class MLP(nn.Module):
    """A fully connected network with ReLU layers and a linear head.

    Parameters
    ----------
    n_features : int
        Number of input columns. Inputs with more axes are flattened.
    n_classes : int, default=2
        Number of target labels, hence of logits.
    hidden : sequence of int, default=(64, 64)
        Sizes of the hidden layers. An empty one gives logistic regression.
    dtype : torch.dtype or None, default=None
        Precision of the weights; None means torch's default.

    Attributes
    ----------
    features : torch.nn.Sequential
        Everything before the head: rows to vectors of the last hidden size.
    head : torch.nn.Linear
        The last linear layer: feature vectors to logits.

    Examples
    --------
    >>> import torch
    >>> from grmu_sk.nets import MLP
    >>> net = MLP(n_features=20, n_classes=3, hidden=(16,))
    >>> net(torch.zeros(5, 20)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        n_features: int,
        n_classes: int = 2,
        *,
        hidden: Sequence[int] = (64, 64),
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Flatten()]
        n_in = n_features
        for n_out in hidden:
            layers += [nn.Linear(n_in, n_out, dtype=dtype), nn.ReLU()]
            n_in = n_out
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(n_in, n_classes, dtype=dtype)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of rows.

        Parameters
        ----------
        X : torch.Tensor of shape (n_samples, ...)
            Rows with ``n_features`` values each.

        Returns
        -------
        torch.Tensor of shape (n_samples, n_classes)
            Logits.
        """
        return self.head(self.features(X))


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
    row = split_item(X[0])[0] if isinstance(X, Dataset) else X[0]
    shape = tuple(row.shape)
    module: Any = MLP
    size: dict[str, Any] = {"module__n_features": int(torch.Size(shape).numel())}
    if len(shape) == 3:
        module, size = SmallCNN, {"module__n_channels": shape[0]}
    elif getattr(X, "dtype", None) in (np.float64, torch.float64):
        size["module__dtype"] = torch.float64
    return net_of_module(
        module,
        module__n_classes=n_classes,
        **size,
        optimizer__weight_decay=1e-3,
        callbacks=[("schedule", LRScheduler("CosineAnnealingLR", T_max=20))],
    )


def net_of_module(module: Any, **settings: Any) -> NeuralNetClassifier:
    """Return a skorch net that trains a torch module by stochastic gradient descent.

    Unlearners do so by themselves with a module that they are given; call it for other settings.

    Parameters
    ----------
    module : torch.nn.Module or its class
        Returns logits, one for each class. A module's weights are what training starts from.
    **settings : dict
        Of :class:`skorch.NeuralNetClassifier`: ``criterion`` (cross-entropy if not given),
        ``optimizer`` (SGD, momentum 0.9), ``lr`` (0.05), ``max_epochs`` (20), ``batch_size`` (64),
        ``train_split`` (None), ``device``, ...

    Returns
    -------
    NeuralNetClassifier
        Not initialised.

    Examples
    --------
    >>> from torch import nn
    >>> from grmu_sk.nets import net_of_module
    >>> net_of_module(nn.Linear(4, 2), lr=0.1).lr
    0.1
    """
    if "optimizer" not in settings:
        settings = {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, **settings}
    defaults: dict[str, Any] = {
        "criterion": nn.CrossEntropyLoss,
        "lr": 0.05,
        "max_epochs": 20,
        "batch_size": 64,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetClassifier(module, **{**defaults, **settings})
