"""L1-sparse unlearning: fine-tune while pulling weights towards zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..base import Request
from ..training import Batch, Phase
from ..utils._random import RandomState
from ._approximate import ApproximateUnlearner

__all__ = ["L1SparseUnlearner"]


class L1SparseUnlearner(ApproximateUnlearner):
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
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net.
    max_epochs : int, default=10
        Epochs of an unlearning run.
    l1_penalty : float, default=5e-4
        Weight :math:`\gamma` of the penalty in the first epoch. The norm is a sum over all
        parameters, so a net with more of them may need less.
    lr : float or None, default=None
        Learning rate of the unlearning run; None means the net's.
    batch_size : int or None, default=None
        Rows a batch of the unlearning run; None means the net's.
    reweight : bool or "uniform", default=False
        Whether the remaining rows are sampled by REWEIGHT [2]_, with replacement, so that groups
        keep the mix of the training data; needs ``groups``. Otherwise each remaining row is seen
        once an epoch.
        ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and draws. The caller's random state is never touched.
    store_data : bool, default=True
        Whether to keep a reference to the training rows, for ``unlearn``. With False they must be
        given to ``unlearn`` again. Forgotten rows are dropped in either case.
    keep_forgotten : bool, default=False
        Whether to keep forgotten rows in the object. For evaluation only: the object and its
        pickle then contain the data that was to be forgotten.

    Attributes
    ----------
    net_ : skorch net
        The net that predicts.
    classes_ : ndarray of shape (n_classes,)
        Target labels.
    forget_idx_, remaining_idx_ : ndarray
        Row numbers of ``fit`` that are forgotten, and that remain.
    forget_groups_ : list of tuple
        The pairs (y, attribute) of forgotten rows.
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs. ``train_loss``
        of ``"retain"`` includes the penalty.
    seed_ : int
        The seed used.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame.

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

    def __init__(
        self,
        estimator: Any = None,
        *,
        max_epochs: int = 10,
        l1_penalty: float = 5e-4,
        lr: float | None = None,
        batch_size: int | None = None,
        reweight: bool | str = False,
        random_state: RandomState = None,
        store_data: bool = True,
        keep_forgotten: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            reweight=reweight,
            random_state=random_state,
            store_data=store_data,
            keep_forgotten=keep_forgotten,
        )
        self.l1_penalty = l1_penalty

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if not self.l1_penalty >= 0:
            raise ValueError(f"l1_penalty must not be negative, got {self.l1_penalty!r}.")

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
