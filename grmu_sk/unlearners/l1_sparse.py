"""L1-sparse unlearning: fine-tune while pulling weights towards zero."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..base import Request
from ..parameters import NOT_NEGATIVE, parameter
from ..training import Batch, Phase
from .approximate import RetainingUnlearner

__all__ = ["L1SparseUnlearner"]


class L1SparseUnlearner(RetainingUnlearner):
    r"""Fine-tune on the remaining rows with an L1 penalty that fades out.

    A sparse net forgets more easily. In epoch :math:`t = 0, 1, \dots, T - 1` of
    :math:`T` = ``max_epochs`` this minimises on the remaining rows :math:`D_r` [1]_

    .. math::

        L = \frac{1}{|D_r|} \sum_{i \in D_r} \ell(f_\theta(x_i), y_i)
            + \gamma_t \, \lVert \theta \rVert_1, \qquad
        \gamma_t = \gamma \left(1 - \frac{t}{T}\right)

    with the net's own criterion :math:`\ell` and all parameters of the module in
    :math:`\theta`: weights, biases and those of normalisation. Rows to forget are never read.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    l1_penalty : float, default=5e-4
        Weight :math:`\gamma` of the penalty in the first epoch. The norm is a sum over all
        parameters, so a net with more of them may need less.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs. ``train_loss``
        of ``"retain"`` includes the penalty.

    See Also
    --------
    FineTuneUnlearner : The same without the penalty.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows.

    The sum is formed in float32 (float64 for such a net) whatever the autocast; the reference
    code of [2]_ forms it in bfloat16. The penalty acts through its gradient, so weights come
    close to zero but are not set to it: nothing is pruned.

    References
    ----------
    .. [1] Jia et al., "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import L1SparseUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = L1SparseUnlearner(max_epochs=2, random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-3:, "phase"]
    ['fit', 'retain', 'retain']
    """

    method_name = "l1_sparse"
    search_grid = {"lr": [0.005, 0.01, 0.02, 0.05]}

    l1_penalty: float = parameter(5e-4, NOT_NEGATIVE)

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        return [
            Phase(
                "retain",
                request.retain,
                loss=_penalised(request.net.module_, self._gamma(epoch)),
                weights=weights,
                first_epoch=epoch,
                last_epoch=epoch,
            )
            for epoch in range(1, self.max_epochs + 1)
        ]

    def _gamma(self, epoch: int) -> float:
        return self.l1_penalty * (1 - (epoch - 1) / self.max_epochs)


def _penalised(module: nn.Module, gamma: float) -> Callable[[Batch], torch.Tensor]:
    return lambda batch: batch.criterion() + gamma * _l1_norm(module)


def _l1_norm(module: nn.Module) -> torch.Tensor:
    """Return the sum of absolute values over all parameters, in float32 or better."""
    norms = [
        parameter.abs().sum(dtype=torch.promote_types(parameter.dtype, torch.float32))
        for parameter in module.parameters()
    ]
    return torch.stack(norms).sum()
