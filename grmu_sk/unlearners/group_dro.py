"""Retraining from scratch with group distributionally robust optimisation."""

from __future__ import annotations

from functools import partial

import torch
from skorch import NeuralNet

from ..base import Request
from ..parameters import NOT_NEGATIVE, parameter
from ..rows import TrainingRows
from ..training import Batch, Phase, row_losses, row_shares
from .retrain import FromScratchUnlearner

__all__ = ["GroupDROUnlearner"]


class GroupDROUnlearner(FromScratchUnlearner):
    r"""Retrain from scratch on what remains, for the worst group rather than for the average.

    Forgetting is exact: a net with new random weights is trained on the remaining rows alone.
    Training is group distributionally robust optimisation [1]_, as it is run in [2]_. Remaining
    rows are drawn with replacement so that every group :math:`g = (y, a)` comes equally often,

    .. math:: P(x_i) \propto \frac{1}{|\{j \in D_r : g_j = g_i\}|},

    as many draws an epoch as there are remaining rows. In each batch, with :math:`L_g` the mean
    of the net's criterion over the batch's rows of group g (0 for a group that is not in the
    batch), first the weights of the groups move and then the net is trained with them:

    .. math::

        q_g \leftarrow \frac{q_g \exp(\eta L_g)}{\sum_{g'} q_{g'} \exp(\eta L_{g'})}, \qquad
        L = \sum_g q_g L_g.

    The weights start equal, with each request anew. ``fit`` itself trains as usual.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. New weights are those that its
        parameters give: see :doc:`/guide/faq`. Its ``criterion`` must
        have a ``reduction``, as torch's losses do.
    eta : float, default=0.01
        Step size :math:`\eta` of the groups' weights. 0 leaves them equal. The default is the one
        of [1]_; the experiments of [2]_ use 0.001 and 0.1.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retrain"``), over all runs. ``train_loss``
        is the mean of L in ``"retrain"``.

    See Also
    --------
    RetrainUnlearner : Retrain so that groups keep the shares they had.
    SubsampleRetrainUnlearner : Retrain on equally many rows of every group.

    Notes
    -----
    Groups without any remaining row take no part. In the authors' code they would keep their
    share of the weights, and the loss of all others would be that much smaller.

    The robust loss is known to overfit without strong regularisation: [1]_ uses a weight decay of
    up to 1 and early stopping. Both are set on ``estimator``.

    With ``sample_weight`` in ``fit``, :math:`L_g` is a weighted mean.

    References
    ----------
    .. [1] Sagawa, Koh, Hashimoto and Liang, "Distributionally Robust Neural Networks for Group
       Shifts: On the Importance of Regularization for Worst-Case Generalization", ICLR 2020.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import GroupDROUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> robust = GroupDROUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> robust.history_[-1, "phase"], len(robust.remaining_idx_)
    ('retrain', 198)
    """

    method_name = "group_dro"
    search_grid = {"eta": [0.001, 0.01, 0.1, 1]}
    _needs_groups = True

    eta: float = parameter(0.01, NOT_NEGATIVE)

    def _phase(self, net: NeuralNet, request: Request) -> Phase:
        groups = request.data.g[request.data.positions(request.retain)]
        counts = torch.bincount(groups, minlength=request.n_groups)
        robust = _RobustLoss(net, request.data, counts > 0, self.eta)
        weights = (1 / counts[groups]).numpy()
        return Phase("retrain", request.retain, loss=robust.loss, weights=weights, state=[robust])


class _RobustLoss:
    """The loss of one run, and the weights of the groups."""

    def __init__(
        self, net: NeuralNet, data: TrainingRows, is_present: torch.Tensor, eta: float
    ) -> None:
        self.net = net
        self.data = data
        self.eta = eta
        # logarithms, since exp(eta L) overflows with a large eta or loss
        self.log_q = torch.where(is_present, 0.0, -torch.inf).to(net.device).log_softmax(0)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"log_q": self.log_q}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        self.log_q = state["log_q"]

    def loss(self, batch: Batch) -> torch.Tensor:
        losses = self._group_means(batch)
        self.log_q = (self.log_q + self.eta * losses.detach()).log_softmax(0)
        return self.log_q.exp() @ losses

    def _group_means(self, batch: Batch) -> torch.Tensor:
        # while a phase runs, net.get_loss is that phase's loss: we need the net's own
        own_loss = partial(type(self.net).get_loss, self.net, batch.output, batch.y, batch.X)
        losses = row_losses(self.net, partial(own_loss, training=True), batch.y)
        losses = losses if losses.dtype == torch.float64 else losses.float()
        # a matrix product instead of scattered sums, whose order of addition varies on a GPU
        present, places = batch.g.unique(return_inverse=True)
        weight = torch.nn.functional.one_hot(places, len(present)).T.to(losses.dtype)
        if self.data.sample_weight is not None:
            weight = weight * self.data.sample_weight[batch.positions].to(losses)
        divisors = weight @ row_shares(self.net, batch.y).to(losses)
        means = (weight @ losses) / divisors.clamp_min(torch.finfo(losses.dtype).tiny)
        return means.new_zeros(len(self.log_q)).index_copy(0, present, means)
