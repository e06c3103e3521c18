"""Influence unlearning: one Newton step that takes back what the forgotten rows did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from skorch import NeuralNet
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ..base import BaseUnlearner, Request
from ..loading import batch_size_of, cut_up
from ..parameters import COUNT, NOT_NEGATIVE, POSITIVE, parameter
from ..training import Phase
from ._one_step import (
    flat_gradient,
    row_losses,
    row_weights,
    trained_parameters,
)

__all__ = ["InfluenceUnlearner"]


class InfluenceUnlearner(BaseUnlearner):
    r"""One Newton step towards the weights that training without the rows would have found.

    Let w be the weights, :math:`\ell_i` the net's criterion on row i, D the n training rows and
    :math:`D_r` the :math:`n_r` remaining ones. Influence functions [1]_ [2]_ estimate how far the
    minimiser of the mean loss moves when the rows to forget leave:

    .. math::

        w \leftarrow w + \alpha \, H^{-1} v, \qquad
        v = \frac{1}{n} \sum_{i \in D} \nabla \ell_i - \frac{1}{n_r} \sum_{i \in D_r} \nabla \ell_i

    with H the Hessian of the mean loss over :math:`D_r`. It is replaced by the damped empirical
    Fisher matrix over m of its rows, whose inverse WoodFisher's recursion [3]_ gives by adding one
    row at a time (Sherman-Morrison), with no matrix of the size of H anywhere:

    .. math::

        F_0 = \delta I, \qquad
        F_t^{-1} = F_{t-1}^{-1} - \frac{o_t o_t^\top}{m + g_t^\top o_t}, \qquad
        g_t = \nabla \ell_t, \quad o_t = F_{t-1}^{-1} g_t

    *Why this v.* One Newton step on the loss of the remaining rows is
    :math:`-H^{-1} \nabla L_{D_r}(w)`. Trained to the minimum, :math:`\nabla L_D(w) = 0`, and
    it equals :math:`+H^{-1} \frac{1}{n_r} \sum_{i \in D_f} \nabla \ell_i`: uphill on the forgotten
    rows, divided by the number of rows that stay. For a quadratic loss that is exact. Training
    that stopped earlier has :math:`\nabla L_D(w) \ne 0`; this residue would be there after
    retraining too, so it is taken off, and v is the difference of two mean gradients, as in [4]_.
    A penalty on w (weight decay) is the same in both and drops out.

    *REWEIGHT.* Training with REWEIGHT minimises :math:`\sum_{i \in D_r} P_i \ell_i`, with P the
    sampling probabilities. The same derivation for this objective puts :math:`P_i` in place of
    :math:`1 / n_r`, both in the second sum of v and in the Fisher matrix. That is what
    ``reweight=True`` does; its target is a net retrained with REWEIGHT.

    Gradients are taken in eval mode: dropout is off, statistics of BatchNorm are used as they are
    and stay as they are.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. Its criterion must have a ``reduction``.
    alpha : float, default=1.0
        Length :math:`\alpha` of the step; 1 is the full Newton step.
    damping : float, default=1.0
        :math:`\delta`, added to every eigenvalue of the Fisher matrix; 1 starts the recursion
        from the identity. In directions that none of the ``n_fisher`` rows covers, the step is
        :math:`\alpha / \delta` times v. Smaller values forget more; see the notes.
    n_fisher : int, default=256
        How many remaining rows, drawn without replacement, the Fisher matrix is made of; all if
        there are fewer. Memory is ``n_fisher`` times the size of the weights (256 times 45 MB for
        a ResNet-18), time one backward pass a row.
    reweight : bool, default=False
        Whether the step leads towards the minimum of the loss weighted by REWEIGHT; needs
        ``groups``.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"gradient"``, ``"step"``), over all runs.
        ``train_loss`` is the mean loss over all rows before the step in ``"gradient"``, and the
        Euclidean length of the step in ``"step"``.

    See Also
    --------
    RetrainUnlearner : Exact; what the step estimates the result of.
    SSDUnlearner : One step as well, with the diagonal of the Fisher matrix.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows. The step
    is trustworthy where the loss is close to quadratic; neural nets are not, and ``damping`` keeps
    it short. That matters most for nets that fit every training row: as the losses go to zero the
    empirical Fisher matrix goes to zero faster than the Hessian it stands for, and an almost
    undamped step overshoots.

    Deviations from published code, which uses the same name "WoodFisher": there a single vector
    stands for all :math:`o_t`, so that it stays parallel to the first gradient for ever, and the
    result differs from the vector only along that one direction, whatever the other rows are.
    Here all :math:`o_t` are kept, and the result equals that of inverting the matrix. There, too,
    F starts from the identity; ``alpha`` is searched for in [4]_, and 5 in the code of the
    group-robust protocol.

    References
    ----------
    .. [1] Koh and Liang, "Understanding Black-box Predictions via Influence Functions", ICML 2017.
    .. [2] Izzo et al., "Approximate Data Deletion from Machine Learning Models", AISTATS 2021.
    .. [3] Singh and Alistarh, "WoodFisher: Efficient Second-Order Approximation for Neural Network
       Compression", NeurIPS 2020.
    .. [4] Jia et al., "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023.

    Examples
    --------
    >>> from grmu_sk import InfluenceUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = InfluenceUnlearner(n_fisher=50, random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-2:, "phase"]
    ['gradient', 'step']
    """

    method_name = "influence"
    search_grid = {"damping": [0.3, 1, 3, 10]}
    _phases_that_read_forgotten = ("gradient",)

    alpha: float = parameter(1.0, NOT_NEGATIVE)
    damping: float = parameter(1.0, POSITIVE)
    n_fisher: int = parameter(256, COUNT)
    reweight: bool = parameter(False, "boolean")

    def _unlearn(self, request: Request) -> NeuralNet:
        step = _InfluenceStep(self, request)
        phases = [
            Phase("gradient", step.rows, work=step.sum_gradients),
            Phase("step", request.retain, work=step.take),
        ]
        return request.trained(phases, 1)


class _InfluenceStep:
    """The step of one request: first v, then the product with the inverse."""

    def __init__(self, method: InfluenceUnlearner, request: Request) -> None:
        self.method, self.net, self.data = method, request.net, request.data
        self.retain = request.retain
        self.parameters = trained_parameters(request.net)
        probabilities = request.retain_weights(method.reweight)
        self.retain_weights = row_weights(self.data, request.retain, probabilities)
        self.rows = np.union1d(request.forget, request.retain)
        # v is the gradient of one weighted sum of losses, with these weights
        self.weights = row_weights(self.data, self.rows)
        self.weights[np.searchsorted(self.rows, request.retain)] -= self.retain_weights

    def sum_gradients(self, epoch: int) -> Iterator[float]:
        """Sum v up over batches and yield each batch's mean loss."""
        where = self.data.positions(self.rows)
        batches = cut_up(where, batch_size_of(self.net, "iterator_valid"))
        self.v = torch.zeros_like(parameters_to_vector(self.parameters).detach())
        of_batches = self.weights.split(list(map(len, batches)))
        for batch, weights in zip(batches, of_batches, strict=True):
            losses = row_losses(self.net, self.data, batch)
            loss = (losses * weights.to(losses.device, losses.dtype)).sum()
            self.v += flat_gradient(loss, self.parameters)
            yield losses.mean().item()

    def take(self, epoch: int) -> Iterator[float]:
        """Change the net and yield the length of the step."""
        chosen = torch.randperm(len(self.retain))[: self.method.n_fisher]
        weights = self.retain_weights[chosen]
        step = self.method.alpha * inverse_fisher_product(
            self.v,
            self._row_gradients(self.data.positions(self.retain)[chosen]),
            (weights / weights.sum()).to(self.v.device, self.v.dtype),
            self.method.damping,
        )
        new = parameters_to_vector(self.parameters).detach() + step
        vector_to_parameters(new, self.parameters)
        yield step.norm().item()

    def _row_gradients(self, where: torch.Tensor) -> Iterator[torch.Tensor]:
        for row in where.split(1):
            loss = row_losses(self.net, self.data, row).sum()
            yield flat_gradient(loss, self.parameters)


def inverse_fisher_product(
    vector: torch.Tensor,
    gradients: Iterable[torch.Tensor],
    weights: torch.Tensor,
    damping: float,
) -> torch.Tensor:
    r"""Return :math:`(\delta I + \sum_i w_i g_i g_i^\top)^{-1} v` by WoodFisher's recursion.

    Parameters
    ----------
    vector : tensor of shape (n_weights,)
        The vector v.
    gradients : iterable of tensors of shape (n_weights,)
        As many :math:`g_i` as there are weights.
    weights : tensor of shape (n_gradients,)
        The :math:`w_i`; not negative.
    damping : float
        The :math:`\delta`; positive.

    Returns
    -------
    tensor of shape (n_weights,)
        The product, exact up to rounding.
    """
    directions = vector.new_empty((len(weights), len(vector)))
    denominators = vector.new_empty(len(weights))
    product = vector / damping
    for i, g in enumerate(gradients):
        before = directions[:i]
        o = g / damping - before.T @ (before @ g / denominators[:i])
        directions[i], denominators[i] = o, 1 / weights[i] + g @ o
        product = product - o * (g @ product) / denominators[i]
    return product
