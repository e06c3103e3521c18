"""SSD: dampen the weights that matter much more to the forget set than to the training data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from skorch import NeuralNet

from ..base import BaseUnlearner, Request
from ..parameters import COUNT, NOT_NEGATIVE, POSITIVE, parameter
from ..rows import Rows
from ..training import Phase
from ._one_step import gradient, row_losses, row_weights, trained_parameters

__all__ = ["SSDUnlearner"]


class SSDUnlearner(BaseUnlearner):
    r"""Selective synaptic dampening: one pass over the data, no training at all.

    The importance of a weight to some rows is its entry in the diagonal of their Fisher matrix,
    the mean square of the gradient of the net's criterion. A weight that is much more important
    to the rows to forget, :math:`F_f`, than to the training rows, :math:`F_{tr}`, is taken to
    hold what was learned from the former alone, and is dampened [1]_:

    .. math::

        w_j \leftarrow \beta_j w_j, \qquad
        \beta_j = \begin{cases}
            \min\left(1, \; \lambda F_{tr,j} / F_{f,j}\right)
                & \text{if } F_{f,j} > \alpha F_{tr,j} \\
            1 & \text{otherwise}
        \end{cases}

    with :math:`\alpha` the ``selection_weighting`` and :math:`\lambda` the
    ``dampening_constant``. Gradients are taken in eval mode: dropout is off, statistics of
    BatchNorm are used as they are and stay as they are.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. Its criterion must have a ``reduction``.
    selection_weighting : float, default=10.0
        :math:`\alpha`: how many times more important to the forget set a weight must be to be
        dampened. Lower values dampen more weights.
    dampening_constant : float, default=1.0
        :math:`\lambda`: dampened weights keep this multiple of the ratio of importances. Lower
        values dampen more; 0 sets the selected weights to zero.
    fisher_batch_size : int, default=1
        Rows over which a gradient is averaged before it is squared. 1 is the Fisher matrix as
        defined, at the price of one backward pass a row; the authors' code uses the training
        batch, which is as many times faster and measures something smaller and noisier.
    reweight : bool, default=False
        Whether :math:`F_{tr}` is the importance to the *remaining* rows with the probabilities
        of REWEIGHT, instead of to all training rows; needs ``groups``. See the notes.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"forget"``, ``"train"``, ``"dampen"``), over
        all runs. ``train_loss`` is the mean loss before dampening in ``"forget"`` and
        ``"train"``, and the share of dampened weights in ``"dampen"``.

    See Also
    --------
    InfluenceUnlearner : One step as well, with the whole Fisher matrix.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows. Weights
    that are not selected keep their value to the last bit.

    ``selection_weighting`` and ``dampening_constant`` are the original paper's 10 and 1; the
    code of the group-robust protocol sets both to 0.1, which selects nearly every weight and
    shrinks it at least tenfold.

    The original's were found on image classifiers with 50,000 rows. A small forget set on which a
    net that fits nearly every other row has large losses can select a large share of all weights
    and ruin the net: look at ``history_[-1]["train_loss"]``, and raise
    ``selection_weighting`` if it is not small.

    The training rows of :math:`F_{tr}` include those to forget, as in [1]_. They are then a reason
    to keep a weight: with a share s of rows to forget, :math:`F_{tr} \ge s F_f`, so that nothing
    can be selected once :math:`s \ge 1 / \alpha`.

    REWEIGHT in training means that remaining rows count :math:`n_{train}(g) / n_{rest}(g)` times
    each. Here nothing is trained, but :math:`F_{tr}` says which weights are needed, and by whom.
    With ``reweight=True`` it is the mean over the distribution that REWEIGHT trains on: rows that
    may stay, in the group mix of the data given to ``fit``. A weight needed by the few remaining
    members of a depleted group is protected as much as if the group were whole, the rows to
    forget no longer protect what is to be dampened, and earlier requests do not skew the mix.

    References
    ----------
    .. [1] Foster, Schoepf and Brintrup, "Fast Machine Unlearning without Retraining through
       Selective Synaptic Dampening", AAAI 2024.

    Examples
    --------
    >>> from grmu_sk import SSDUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = SSDUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-3:, "phase"]
    ['forget', 'train', 'dampen']
    """

    method_name = "ssd"
    search_grid = {"selection_weighting": [10, 30, 100, 300]}
    _keeps_weights = True
    _phases_that_read_forgotten = ("forget", "train")

    selection_weighting: float = parameter(10.0, POSITIVE)
    dampening_constant: float = parameter(1.0, NOT_NEGATIVE)
    fisher_batch_size: int = parameter(1, COUNT)
    reweight: bool = parameter(False, "boolean")

    def _unlearn(self, request: Request) -> NeuralNet:
        dampening = _Dampening(self, request)
        phases = [
            Phase("forget", request.forget, work=dampening.measure_forget),
            Phase("train", dampening.train_rows, work=dampening.measure_train),
            Phase("dampen", request.retain, work=dampening.apply),
        ]
        return request.trained(phases, 1)


class _Dampening:
    """Importances and dampening of one request."""

    def __init__(self, method: SSDUnlearner, request: Request) -> None:
        self.method, self.net, self.data = method, request.net, request.data
        self.parameters = trained_parameters(request.net)
        self.forget_importance = [torch.zeros_like(p) for p in self.parameters]
        self.train_importance = [torch.zeros_like(p) for p in self.parameters]
        self.forget_rows = request.forget
        self.forget_weights = row_weights(self.data, request.forget)
        self.train_rows: Rows
        if method.reweight:
            self.train_rows = request.retain
            self.train_weights = row_weights(
                self.data, request.retain, request.retain_weights(True)
            )
        else:
            self.train_rows = np.union1d(request.forget, request.retain)
            self.train_weights = row_weights(self.data, self.train_rows)

    def measure_forget(self, epoch: int) -> Iterator[float]:
        """Add up importances to the rows to forget and yield each batch's loss."""
        yield from self._measure(self.forget_rows, self.forget_weights, self.forget_importance)

    def measure_train(self, epoch: int) -> Iterator[float]:
        """Add up importances to the training rows and yield each batch's loss."""
        yield from self._measure(self.train_rows, self.train_weights, self.train_importance)

    def _measure(
        self, rows: Rows, weights: torch.Tensor, importance: list[torch.Tensor]
    ) -> Iterator[float]:
        where = self.data.positions(rows)
        for chosen in torch.randperm(len(where)).split(self.method.fisher_batch_size):
            share = weights[chosen].sum().clamp_min(torch.finfo(weights.dtype).tiny)
            losses = row_losses(self.net, self.data, where[chosen])
            loss = (losses * (weights[chosen] / share).to(losses.device, losses.dtype)).sum()
            for total, part in zip(importance, gradient(loss, self.parameters), strict=True):
                total += share.item() * part**2
            yield loss.item()

    @torch.no_grad()
    def apply(self, epoch: int) -> Iterator[float]:
        """Dampen the weights and yield the share of those that were dampened."""
        n_dampened, finite = 0, True
        for weight, of_forget, of_train in zip(
            self.parameters, self.forget_importance, self.train_importance, strict=True
        ):
            selected = of_forget > self.method.selection_weighting * of_train
            ratio = self.method.dampening_constant * of_train[selected] / of_forget[selected]
            weight[selected] *= ratio.clamp_max(1)
            n_dampened += int(selected.sum())
            finite = finite and bool(torch.isfinite(of_forget + of_train).all())
        n_weights = sum(weight.numel() for weight in self.parameters)
        yield n_dampened / n_weights if finite else float("nan")
