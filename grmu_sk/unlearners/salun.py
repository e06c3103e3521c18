"""SalUn: random labelling of the weights that matter most to the rows to forget."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from skorch.utils import to_device

from ..base import Request
from ..loading import batch_size_of, cut_up
from ..parameters import SHARE, parameter
from ..training import Phase
from ._one_step import gradient, trained_parameters
from .random_label import RandomLabelUnlearner, cross_entropy

__all__ = ["SalUnUnlearner"]


class SalUnUnlearner(RandomLabelUnlearner):
    r"""Random labelling that changes only the weights that matter to the rows to forget.

    Before the first epoch the saliency of each weight :math:`\theta_k` of the original net (eval
    mode) is the size of the gradient of cross-entropy on the rows to forget, summed over batches
    [1]_,

    .. math::

        s_k = \Bigl| \sum_{B \subset D_f} \frac{\partial}{\partial \theta_k} \frac{1}{|B|}
              \sum_{i \in B} -\log p(y_i \mid x_i) \Bigr|.

    All weights are ranked together; the share ``threshold`` with the largest :math:`s_k` stays
    trainable and the rest is frozen. Then each epoch is one of :class:`RandomLabelUnlearner`: a
    pass over the rows to forget with labels drawn at random, and a pass over the remaining rows
    with the net's own criterion.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    threshold : float, default=0.5
        Share of the weights that stays trainable, in (0, 1]; 1 is random labelling.
    exclude_true : bool, default=False
        Whether a row's true label is never drawn. By default it may come up, as in the protocol
        of [2]_ and its code; the formula of [1]_ excludes it.
    reference : bool, default=False
        Do as the authors' code of [2]_ does. It masks gradients only, so that weight decay and
        momentum move the weights that ought to be frozen; and in the saliency its last batch,
        which may be short, counts as much as a full one.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"forget"``, ``"retain"``), over all runs.
        ``train_loss`` of ``"forget"`` is the cross-entropy with the labels drawn.

    See Also
    --------
    RandomLabelUnlearner : The same for all weights.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows.

    Frozen weights keep their value to the last bit, whatever the optimizer: their gradients are
    zero, and after each of the optimizer's steps their values are put back, since weight decay
    and momentum move a weight without a gradient. ``reference=True`` leaves that out.

    Only weights are frozen. BatchNorm's running statistics are buffers, not weights: as in all
    training they follow the batches of both passes, those of rows to forget included, even where
    the layer's own weights are frozen.

    Saliency is computed in float32 (float64 for such a net), in batches of nearly equal size, so
    that a short last batch does not outweigh the others; weights that tie keep the module's
    order. Weights with ``requires_grad=False`` are neither ranked nor trained.

    References
    ----------
    .. [1] Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in
       Both Image Classification and Generation", ICLR 2024.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import SalUnUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = SalUnUnlearner(max_epochs=2, random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-4:, "phase"]
    ['forget', 'retain', 'forget', 'retain']
    """

    method_name = "salun"
    search_grid = {"lr": [0.01, 0.02], "threshold": [0.3, 0.5]}
    _phases_that_read_forgotten = ("setup", "forget")

    threshold: float = parameter(0.5, SHARE)
    exclude_true: bool = parameter(False, "boolean")
    reference: bool = parameter(False, "boolean")

    def _phases(self, request: Request) -> list[Phase]:
        weights = trained_parameters(request.net)
        saliency = _saliency(request, weights, even_batches=not self.reference)
        masks = _largest(saliency, self.threshold)
        # as numbers: a product takes a twentieth of the time of a choice
        kept = [mask.to(weight.dtype) for weight, mask in zip(weights, masks, strict=True)]
        _mask_gradients(weights, kept)
        if not self.reference:
            _put_back_after_steps(request.net, weights, kept)
        return super()._phases(request)


def _saliency(
    request: Request, weights: list[torch.Tensor], *, even_batches: bool
) -> list[torch.Tensor]:
    """Return the size of the gradient of cross-entropy on the rows to forget."""
    net, data = request.net, request.data
    for name in net._modules:
        getattr(net, name + "_").eval()
    total = [
        torch.zeros_like(w, dtype=torch.promote_types(w.dtype, torch.float32)) for w in weights
    ]
    forget = data.positions(request.forget)
    batches = cut_up(forget, batch_size_of(net, "iterator_valid"))
    if even_batches:
        batches = forget.tensor_split(len(batches))
    for positions in batches:
        X, y, _ = data.__getitems__(positions.tolist())
        labels = to_device(y, net.device).long()
        loss = cross_entropy(net, data, net.infer(X), labels, positions)
        for so_far, part in zip(total, gradient(loss, weights), strict=True):
            so_far += part
    return [summed.abs() for summed in total]


def _largest(saliency: list[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Return masks that are True at the share of entries that is largest over all tensors."""
    ranked = torch.cat([part.flatten() for part in saliency])
    n_kept = max(1, int(share * len(ranked)))
    kept = torch.zeros_like(ranked, dtype=torch.bool)
    kept[ranked.argsort(descending=True, stable=True)[:n_kept]] = True
    sizes = [part.numel() for part in saliency]
    return [mask.view_as(part) for mask, part in zip(kept.split(sizes), saliency, strict=True)]


def _mask_gradients(weights: list[torch.Tensor], kept: list[torch.Tensor]) -> None:
    """Let no gradient reach frozen weights, so that clipping by norm does not see it either."""
    for weight, mask in zip(weights, kept, strict=True):
        weight.register_hook(lambda grad, mask=mask: grad * mask)


def _put_back_after_steps(
    net: NeuralNet, weights: list[torch.Tensor], kept: list[torch.Tensor]
) -> None:
    """Undo what each optimizer step does to frozen weights: weight decay and momentum."""
    frozen = [weight.detach() * (1 - mask) for weight, mask in zip(weights, kept, strict=True)]

    def put_back(*_: Any) -> None:
        with torch.no_grad():
            for weight, mask, value in zip(weights, kept, frozen, strict=True):
                weight.mul_(mask).add_(value)

    for name in net._optimizers:
        getattr(net, name + "_").register_step_post_hook(put_back)
