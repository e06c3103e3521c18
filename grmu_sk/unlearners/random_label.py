"""Random labelling: train rows to forget with labels drawn at random."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from skorch import NeuralNet
from torch import nn

from ..base import Request
from ..outputs import log_probabilities
from ..parameters import parameter
from ..rows import TrainingRows
from ..training import Batch, Phase
from .approximate import RetainingUnlearner

__all__ = ["RandomLabelUnlearner"]


class RandomLabelUnlearner(RetainingUnlearner):
    r"""Teach the net random labels for the rows to forget, and true ones for the rest.

    Each epoch [1]_

    1. *forget*: one pass over the rows to forget :math:`D_f`, with labels that are drawn anew at
       every visit, uniformly over the C classes,

       .. math:: L_f = -\frac{1}{|D_f|} \sum_{i \in D_f} \log p(\tilde y_i \mid x_i), \qquad
                 \tilde y_i \sim U\{1, \dots, C\};

    2. *retain*: one pass over the remaining rows with the net's own criterion.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    exclude_true : bool, default=False
        Whether a row's true label is never drawn. By default it may come up, as in the protocol
        of [2]_, so that what is taught on average is a guess, :math:`p = 1/C`. Without it the net
        learns to avoid the true label, and with two classes to say the opposite: a forgotten row
        is then easier to recognise, not harder. [1]_ draw from the wrong labels.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"forget"``, ``"retain"``), over all runs.
        ``train_loss`` of ``"forget"`` is the cross-entropy with the labels drawn.

    See Also
    --------
    SalUnUnlearner : The same for the weights that matter most to the rows to forget.
    GradientAscentUnlearner : Raises the loss without a bound.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows.

    The forget phase minimises plain cross-entropy, in float32 or better whatever the autocast,
    even where the net's criterion weighs classes or smooths labels: such a weight belongs to the
    true label. Sample weights count in both phases.

    References
    ----------
    .. [1] Graves, Nagisetty and Ganesh, "Amnesiac Machine Learning", AAAI 2021.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import RandomLabelUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = RandomLabelUnlearner(max_epochs=2, random_state=0).fit(X, y, a)
    >>> unlearner.unlearn([3, 7]).history_[-4:, "phase"]
    ['forget', 'retain', 'forget', 'retain']
    """

    method_name = "random_label"
    search_grid = {"lr": [0.005, 0.01, 0.02, 0.05]}
    _phases_that_read_forgotten: ClassVar[tuple[str, ...]] = ("forget",)

    exclude_true: bool = parameter(False, "boolean")

    def _phases(self, request: Request) -> list[Phase]:
        def random_label_loss(batch: Batch) -> torch.Tensor:
            labels = draw_labels(batch.y, len(self.classes_), exclude_true=self.exclude_true)
            return cross_entropy(request.net, request.data, batch.output, labels, batch.positions)

        weights = request.retain_weights(self.reweight)
        return [
            Phase("forget", request.forget, loss=random_label_loss),
            Phase("retain", request.retain, weights=weights),
        ]


def draw_labels(y: torch.Tensor, n_classes: int, *, exclude_true: bool) -> torch.Tensor:
    """Return a class number for each row, uniform over all classes or all but the row's own.

    Parameters
    ----------
    y : tensor of shape (n,)
        True class numbers.
    n_classes : int
        Number of classes.
    exclude_true : bool
        Whether the true one is never drawn.

    Returns
    -------
    tensor of shape (n,)
        On the device of ``y``.
    """
    # drawn on the CPU, so that a seed means the same labels on every device
    if not exclude_true:
        return torch.randint(n_classes, (len(y),)).to(y.device)
    shift = torch.randint(1, n_classes, (len(y),)).to(y.device)
    return (y.long() + shift) % n_classes


def cross_entropy(
    net: NeuralNet,
    data: TrainingRows,
    output: Any,
    labels: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    """Return the mean cross-entropy of these labels, rows weighted by their sample weight.

    Parameters
    ----------
    net : NeuralNet
        Whose output it is.
    data : TrainingRows
        Holds the sample weights, if there are any.
    output : tensor or tuple
        What the module returned.
    labels : tensor of shape (n,)
        Class numbers, on the net's device.
    positions : tensor of shape (n,)
        Where the rows lie in ``data``.

    Returns
    -------
    tensor
        A scalar, in float32 or better.
    """
    losses = nn.functional.nll_loss(log_probabilities(net, output), labels, reduction="none")
    if data.sample_weight is None:
        return losses.mean()
    weight = data.sample_weight[positions].to(losses.device, losses.dtype)
    return (losses * weight).sum() / weight.sum().clamp_min(torch.finfo(losses.dtype).tiny)
