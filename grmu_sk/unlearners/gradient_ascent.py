"""Gradient ascent: raise the loss on the rows to forget."""

from __future__ import annotations

import torch

from ..base import Request
from ..parameters import POSITIVE, parameter
from ..training import Batch, Phase
from .approximate import ApproximateUnlearner

__all__ = ["GradientAscentUnlearner"]


class GradientAscentUnlearner(ApproximateUnlearner):
    r"""Gradient ascent on the loss of the rows to forget.

    Each epoch is one pass over the rows to forget :math:`D_f` that minimises

    .. math:: L = -\frac{1}{|D_f|} \sum_{i \in D_f} \ell(f(x_i), y_i)

    with the net's own criterion :math:`\ell` [1]_ [2]_. The remaining rows are never read, which
    makes it the cheapest baseline, and nothing protects what the net knows about them.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    max_loss : float or None, default=None
        Upper bound: a batch whose loss is above this adds no gradient. The logarithm of the number
        of classes, the cross-entropy of a guess, is a sensible bound: 0.69 for two classes. None is
        pure ascent, as in the papers.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"forget"``), over all runs. ``train_loss`` of
        ``"forget"`` is minus the criterion, at least ``-max_loss``.

    See Also
    --------
    NegGradPlusUnlearner : Ascent together with descent on the remaining rows.
    RandomLabelUnlearner : Bounded: rows to forget get random labels.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows.

    Cross-entropy has no upper bound. With the learning rate of training, or a few epochs too many,
    pure ascent ruins the net for all rows, and in the end the loss is infinite and
    ``FloatingPointError`` is raised. Lower ``lr``, or set ``max_loss``. The bound is on the mean
    loss of a batch and switches the criterion's gradient off; the optimizer's weight decay and
    momentum go on.

    References
    ----------
    .. [1] Graves, Nagisetty and Ganesh, "Amnesiac Machine Learning", AAAI 2021.
    .. [2] Thudi et al., "Unrolling SGD: Understanding Factors Influencing Machine Unlearning",
       IEEE EuroS&P 2022.

    Examples
    --------
    >>> from grmu_sk import GradientAscentUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = GradientAscentUnlearner(max_epochs=2, lr=0.001, random_state=0)
    >>> unlearner.fit(X, y, a).unlearn([3, 7]).history_[-3:, "phase"]
    ['fit', 'forget', 'forget']
    """

    method_name = "gradient_ascent"
    search_grid = {"lr": [0.0002, 0.0005, 0.001, 0.002]}
    _phases_that_read_forgotten = ("forget",)

    max_loss: float | None = parameter(None, POSITIVE, None)

    def _phases(self, request: Request) -> list[Phase]:
        return [Phase("forget", request.forget, loss=self._ascent)]

    def _ascent(self, batch: Batch) -> torch.Tensor:
        loss = batch.criterion()
        return -loss if self.max_loss is None else -loss.clamp(max=self.max_loss)
