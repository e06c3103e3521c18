"""Bad teacher: imitate an untrained net on rows to forget, the original net on the rest."""

from __future__ import annotations

import numpy as np
import torch

from ..base import Request
from ..net_copies import fresh_net
from ..outputs import log_probabilities
from ..parameters import POSITIVE, SHARE, parameter
from ..randomness import draw_by_weight
from ..rows import Rows
from ..training import Batch, Phase
from ._distillation import frozen_teacher, softened_divergence
from .approximate import RetainingUnlearner

__all__ = ["BadTeacherUnlearner"]


class BadTeacherUnlearner(RetainingUnlearner):
    r"""Bad teacher: learn from an untrained net on rows to forget, from the original on others.

    The net being changed, the student s, has two teachers [1]_, both frozen and in eval mode: the
    competent one c is the net as it was before the request, the incompetent one b has the same
    architecture and random weights. With :math:`u = 1` for a row to forget and :math:`u = 0` for a
    remaining row, the phase *teach* minimises over mixed batches of both the mean of

    .. math::

        L = u \, KL\bigl(p_T^{b}(x) \,\|\, p_T^{s}(x)\bigr)
            + (1 - u) \, KL\bigl(p_T^{c}(x) \,\|\, p_T^{s}(x)\bigr)

    where :math:`p_T` are the probabilities after division of the logits by the temperature T. In
    each epoch every row to forget is seen once, among a share of the remaining rows drawn anew.
    True labels are not used.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. The incompetent teacher is what
        building its ``module`` again gives (with pretrained weights, if it loads some or was
        passed as an object that has some).
    retain_share : float, default=0.3
        Remaining rows drawn in each epoch, as a share of all remaining rows, in (0, 1].
    temperature : float, default=1.0
        Temperature T that logits are divided by.
    reweight : bool or "uniform", default=False
        Whether the remaining rows are drawn by REWEIGHT, with replacement; needs ``groups``. With
        False they are drawn uniformly and without replacement. Rows to forget are seen once an
        epoch in either case.
        ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"teach"``), over all runs. ``train_loss`` is
        the mean of L in ``"teach"``, in nats.

    See Also
    --------
    SCRUBUnlearner : Moves away from the original net, without a second teacher.
    RetrainUnlearner : Exact, by training again without the rows.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows.

    The authors draw their 30% of the remaining rows once and train on them for one epoch or a
    few; here each epoch draws its own, so that more epochs also see more rows. Their code averages
    the divergence over rows and classes; here it is the sum over classes, as in the formula, and
    the mean over rows. As in [1]_ it is not multiplied by :math:`T^2`. The authors use Adam with
    learning rate 0.0001; set ``lr`` with the net's optimizer in mind. In the code of the
    group-robust unlearning paper [2]_ this method cannot run. Weights of rows (``sample_weight``)
    are not used, as there is no criterion.

    References
    ----------
    .. [1] Chundawat, Tarun, Mandal, Kankanhalli, "Can Bad Teaching Induce Forgetting? Unlearning
       in Deep Networks Using an Incompetent Teacher", AAAI 2023.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import BadTeacherUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = BadTeacherUnlearner(random_state=0, max_epochs=2).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-3:, "phase"]
    ['fit', 'teach', 'teach']
    """

    method_name = "bad_teacher"
    _needs_fresh_weights = True
    search_grid = {"lr": [0.0025, 0.005, 0.01, 0.02]}
    _phases_that_read_forgotten = ("setup", "teach")

    retain_share: float = parameter(0.3, SHARE)
    temperature: float = parameter(1.0, POSITIVE)

    def _phases(self, request: Request) -> list[Phase]:
        net, data, forget = request.net, request.data, request.forget
        drawn = self._drawn_remaining_rows(request)
        competent = frozen_teacher(fresh_net(net), data, np.unique(np.concatenate(drawn)))
        incompetent = frozen_teacher(fresh_net(net, weights_from=None), data, forget)
        is_forgotten = torch.zeros(len(data), dtype=torch.bool)
        is_forgotten[data.positions(forget)] = True

        def loss(batch: Batch) -> torch.Tensor:
            student = log_probabilities(net, batch.output)
            badly = is_forgotten[batch.positions].to(student.device)[:, None]
            teacher = torch.where(badly, incompetent(batch), competent(batch))
            return softened_divergence(teacher, student, self.temperature)

        return [
            Phase(
                "teach",
                np.concatenate([forget, remaining]),
                loss=loss,
                first_epoch=epoch,
                last_epoch=epoch,
            )
            for epoch, remaining in enumerate(drawn, start=1)
        ]

    def _drawn_remaining_rows(self, request: Request) -> list[Rows]:
        """Return the remaining rows of each epoch.

        Drawn here and not by weights of the phase, since those would draw rows to forget with
        replacement too, and leave some of them out.
        """
        retain = request.retain
        n_draws = max(1, round(self.retain_share * len(retain)))
        weights = request.retain_weights(self.reweight)
        if weights is not None:
            draws = [
                draw_by_weight(torch.from_numpy(weights), n_draws) for _ in range(self.max_epochs)
            ]
        else:
            draws = [torch.randperm(len(retain))[:n_draws] for _ in range(self.max_epochs)]
        return [retain[draw.numpy()] for draw in draws]
