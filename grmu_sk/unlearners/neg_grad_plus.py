"""NegGrad+: ascent on the rows to forget and descent on the rest, in the same step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from numbers import Real

import torch
from skorch.utils import to_device

from ..base import Request
from ..parameters import Interval, parameter
from ..training import Batch, Phase, batch_norm_frozen, weighted_loss
from .approximate import RetainingUnlearner

__all__ = ["NegGradPlusUnlearner"]


class NegGradPlusUnlearner(RetainingUnlearner):
    r"""Raise the loss on rows to forget while lowering it on the rest, in the same step.

    Each epoch is one pass over the remaining rows :math:`D_r`. Every batch
    :math:`B_r \subset D_r` is paired with a batch :math:`B_f \subset D_f` of rows to forget, and
    the step minimises [1]_

    .. math::

        L = \alpha \, \frac{1}{|B_r|} \sum_{i \in B_r} \ell(f(x_i), y_i)
            - (1 - \alpha) \, \frac{1}{|B_f|} \sum_{j \in B_f} \ell(f(x_j), y_j)

    with the net's own criterion :math:`\ell`.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    alpha : float, default=0.95
        Weight :math:`\alpha` of the remaining rows, in [0, 1]: 1 is fine-tuning, 0 is ascent
        alone.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"forget_retain"``), over all runs.
        ``train_loss`` of ``"forget_retain"`` is L, which may be negative.

    See Also
    --------
    GradientAscentUnlearner : Ascent alone.
    FineTuneUnlearner : Descent alone.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows.

    L has no lower bound: once the net fits the remaining rows their gradient vanishes, and the
    ascent goes on. With the learning rate of training it can ruin the net even at
    ``alpha=0.95``; lower ``lr``, or raise ``alpha`` (the authors' rate is 0.01, without momentum).

    A batch of rows to forget is drawn anew for each step, without replacement, and as large as its
    partner, or all of :math:`D_f` where that is smaller. The authors' code [1]_ cycles through
    :math:`D_f` in batches, which may be of another size; it runs the net in eval mode, and adds
    the squared distance from the original weights. Here the net is in train mode, as in all
    training: the batches go through it one after the other, and both update BatchNorm's
    statistics. The default of ``alpha`` is that of the authors' small-scale experiments.

    References
    ----------
    .. [1] Kurmanji et al., "Towards Unbounded Machine Unlearning", NeurIPS 2023.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import NegGradPlusUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = NegGradPlusUnlearner(max_epochs=2, random_state=0).fit(X, y, a)
    >>> unlearner.unlearn([3, 7]).history_[-3:, "phase"]
    ['fit', 'forget_retain', 'forget_retain']
    """

    method_name = "neg_grad_plus"
    search_grid = {"lr": [0.001, 0.003], "alpha": [0.95, 0.99]}
    _phases_that_read_forgotten = ("forget_retain",)

    alpha: float = parameter(0.95, Interval(Real, 0, 1, closed="both"))

    def _phases(self, request: Request) -> list[Phase]:
        forget_loss = _forget_loss(request)

        def joint_loss(batch: Batch) -> torch.Tensor:
            descent, ascent = batch.criterion(), forget_loss(len(batch.y))
            return self.alpha * descent - (1 - self.alpha) * ascent

        weights = request.retain_weights(self.reweight)
        return [Phase("forget_retain", request.retain, loss=joint_loss, weights=weights)]


def _forget_loss(request: Request) -> Callable[[int], torch.Tensor]:
    """Return a function: the criterion on so many rows to forget, drawn at random."""
    net, data = request.net, request.data
    forget = data.positions(request.forget)
    own_loss = net.get_loss  # as it is now: in training the loop puts the joint loss in its place

    def loss(n_rows: int) -> torch.Tensor:
        positions = forget[torch.randperm(len(forget))[:n_rows]]
        X, y, _ = data.__getitems__(positions.tolist())
        alone = batch_norm_frozen(net) if len(positions) == 1 else nullcontext()
        with alone:
            output, y = net.infer(X), to_device(y, net.device)
        own, weight = partial(own_loss, output, y, X=X, training=True), data.sample_weight
        return own() if weight is None else weighted_loss(net, own, y, weight[positions])

    return loss
