"""What methods that change the weights in one step share.

Mostly gradients of the net's own loss, in eval mode and row by row where that is needed.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from skorch.utils import to_device

from .. import training
from ..rows import Rows, TrainingRows


def trained_parameters(net: NeuralNet) -> list[torch.Tensor]:
    """Return the weights that training changes, each once."""
    found = (parameter for _, parameter in net.get_all_learnable_params())
    return list(dict.fromkeys(parameter for parameter in found if parameter.requires_grad))


def row_weights(
    data: TrainingRows, rows: Rows, probabilities: NDArray[np.float64] | None = None
) -> torch.Tensor:
    """Return each row's weight in the mean loss over these rows; they sum to 1.

    Parameters
    ----------
    data : TrainingRows
        Holds the sample weights, if there are any.
    rows : ndarray
        Row numbers of ``fit``.
    probabilities : ndarray or None, default=None
        How often each row is drawn; None means equally often.

    Returns
    -------
    tensor of shape (len(rows),)
        In float64, on the CPU.
    """
    weights = torch.ones(len(rows), dtype=torch.float64)
    if probabilities is not None:
        weights = weights * torch.as_tensor(probabilities)
    if data.sample_weight is not None:
        weights = weights * data.sample_weight[data.positions(rows)].cpu()
    return weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


def row_losses(net: NeuralNet, data: TrainingRows, where: torch.Tensor) -> torch.Tensor:
    """Return the net's loss of each row, with the graph to differentiate it.

    The net is in eval mode: dropout is off, BatchNorm uses its running statistics and leaves
    them alone, so that one row's loss does not depend on the rows beside it.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.
    data : TrainingRows
        What is read.
    where : tensor
        Positions in ``data``.

    Returns
    -------
    tensor of shape (len(where),)
        On the net's device.
    """
    for name in (*net._modules, *net._criteria):
        getattr(net, name + "_").eval()
    X, y, _ = data.__getitems__(where.tolist())
    output, y = net.infer(X), to_device(y, net.device)
    return training.row_losses(net, partial(net.get_loss, output, y, X=X, training=False), y)


def gradient(loss: torch.Tensor, parameters: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the gradient, zero for weights that the loss does not depend on."""
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


def flat_gradient(loss: torch.Tensor, parameters: list[torch.Tensor]) -> torch.Tensor:
    """Return the gradient as one vector."""
    return torch.cat([part.reshape(-1) for part in gradient(loss, parameters)])
