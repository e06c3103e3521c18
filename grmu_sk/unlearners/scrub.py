"""SCRUB: a student that moves away from its teacher on forgotten rows and stays close elsewhere."""

from __future__ import annotations

from numbers import Integral

import torch

from ..base import Request
from ..net_copies import fresh_net
from ..outputs import log_probabilities
from ..parameters import COUNT, NOT_NEGATIVE, POSITIVE, Interval, parameter
from ..training import Batch, Phase
from ._distillation import frozen_teacher, softened_divergence
from .approximate import RetainingUnlearner

__all__ = ["SCRUBUnlearner"]


class SCRUBUnlearner(RetainingUnlearner):
    r"""SCRUB: move away from the original net on rows to forget, stay with it on the rest.

    The net as it was before the request, frozen and in eval mode, is the teacher; the net being
    changed is the student [1]_. With :math:`p_T(x)` the probabilities of a net whose logits are
    divided by the temperature T, their distance on a row x is

    .. math:: d(x) = T^2 \, KL\bigl(p_T^{teacher}(x) \,\|\, p_T^{student}(x)\bigr).

    Each epoch, with one optimizer for both,

    1. *forget* (first ``forget_epochs`` epochs): maximises the mean of d over the rows to forget;
    2. *retain*: minimises on the remaining rows the mean of

       .. math:: L_r = \alpha \, d(x) + \gamma \, \ell(f(x), y)

       with :math:`\ell` the net's criterion.

    The epochs after ``forget_epochs`` repair what moving away has broken on the remaining rows.
    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    forget_epochs : int, default=5
        The forget phase runs in the first so many of them.
    alpha : float, default=0.001
        Weight :math:`\alpha` of the distance on remaining rows.
    gamma : float, default=0.99
        Weight :math:`\gamma` of the net's criterion on remaining rows.
    temperature : float, default=4.0
        Temperature T that logits are divided by in the distance.
    batch_size : int or None, default=None
        Rows a batch of the forget phase; None means the net's.
    retain_batch_size : int or None, default=128
        Rows a batch of the retain phase; None means ``batch_size``.
    reweight : bool or "uniform", default=False
        Whether the retain phase samples by REWEIGHT; needs ``groups``.
        ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"forget"``, ``"retain"``), over all runs.
        ``train_loss`` is minus the mean of d in ``"forget"``, in nats.

    See Also
    --------
    BadTeacherUnlearner : Imitates an untrained net on rows to forget.
    RetrainUnlearner : Exact, by training again without the rows.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows. The
    distance to maximise has no upper bound: too large a learning rate or too many forget steps
    ruin the net.

    Before the first step student and teacher are the same net. Where nothing random separates
    them (no dropout, BatchNorm or augmentation), d is at its minimum there and has no gradient:
    the first forget step changes nothing, and forgetting begins after the first retain pass.

    The distance is computed in single precision (double for a double net) whatever the autocast;
    the code of the group-robust unlearning paper [2]_ forms it in bfloat16. Its values of
    :math:`\alpha`, :math:`\gamma`, T, of the epochs and of the retain batch are the defaults here,
    the first three being those of [1]_'s own code. Of [1]_, the variant that rewinds to the epoch
    with a given forget error (SCRUB+R) is not included. Weights of rows (``sample_weight``) act on
    the criterion and not on the distance.

    References
    ----------
    .. [1] Kurmanji, Triantafillou, Hayes, Triantafillou, "Towards Unbounded Machine Unlearning",
       NeurIPS 2023.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import SCRUBUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = SCRUBUnlearner(random_state=0, max_epochs=3, forget_epochs=1)
    >>> unlearner.fit(X, y, a).unlearn([3, 7]).history_[-4:, "phase"]
    ['forget', 'retain', 'retain', 'retain']
    """

    method_name = "scrub"
    search_grid = {"lr": [0.0025, 0.005, 0.01, 0.02]}
    _phases_that_read_forgotten = ("setup", "forget")

    forget_epochs: int = parameter(5, Interval(Integral, 0, None, closed="left"))
    alpha: float = parameter(0.001, NOT_NEGATIVE)
    gamma: float = parameter(0.99, NOT_NEGATIVE)
    temperature: float = parameter(4.0, POSITIVE)
    retain_batch_size: int | None = parameter(128, COUNT, None)

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        teacher = frozen_teacher(fresh_net(request.net), request.data, request.train)

        def distance(batch: Batch) -> torch.Tensor:
            student = log_probabilities(request.net, batch.output)
            divergence = softened_divergence(teacher(batch), student, self.temperature)
            return self.temperature**2 * divergence

        def forget_loss(batch: Batch) -> torch.Tensor:
            return -distance(batch)

        def retain_loss(batch: Batch) -> torch.Tensor:
            return self.alpha * distance(batch) + self.gamma * batch.criterion()

        return [
            Phase("forget", request.forget, loss=forget_loss, last_epoch=self.forget_epochs),
            Phase(
                "retain",
                request.retain,
                loss=retain_loss,
                weights=weights,
                batch_size=self.retain_batch_size,
            ),
        ]
