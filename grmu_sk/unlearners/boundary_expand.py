"""Boundary expand: train rows to forget towards an extra class, then drop that class."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from torch import nn

from ..base import Request
from ..features import FeatureTap, find_feature_layer
from ..outputs import is_single_logit, log_probabilities
from ..parameters import parameter
from ..rows import TrainingRows
from ..training import Batch, Phase
from .approximate import RetainingUnlearner

__all__ = ["BoundaryExpandUnlearner"]


class BoundaryExpandUnlearner(RetainingUnlearner):
    r"""Boundary expand: train rows to forget towards an extra class that is dropped afterwards.

    For the time of an unlearning run the net's last linear layer, with K outputs
    :math:`h_1, \ldots, h_K` from features z, gets one more unit with random weights,
    :math:`h_{K+1} = w^\top z + b`, for a shadow class that no row belongs to [1]_. Each epoch

    1. *forget*: minimises the cross-entropy of the rows to forget with that class as their label,

       .. math:: L_f = -\log \frac{e^{h_{K+1}(x)}}{\sum_{k=1}^{K+1} e^{h_k(x)}}

    2. *retain* (only with ``retaining`` or ``reweight``): minimises the net's criterion on the
       remaining rows, with the K classes alone.

    At the end the extra unit is dropped: the net has its K outputs as before.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead. The extra unit is trained like the layer it extends.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. The probabilities it predicts must be the
        softmax of what its last linear layer returns, or the sigmoid of a single logit; nets of
        another kind are refused by ``fit``.
    retaining : bool, default=False
        Whether to train on the remaining rows as well, after those to forget.
    reweight : bool or "uniform", default=False
        Whether to train on the remaining rows, whatever ``retaining`` says, and to sample them by
        REWEIGHT; needs ``groups``.
        ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"forget"``, ``"retain"``), over all runs.

    See Also
    --------
    BoundaryShrinkUnlearner : Trains rows to forget towards the nearest real class.
    RetrainUnlearner : Exact, by training again without the rows.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows. Without
    the retain phase, as in [1]_, nothing holds the net on the remaining rows but a small learning
    rate: the authors use SGD with 0.00001. They forget whole classes; a retain phase is an
    addition here, for requests that leave rows of the same class behind.

    With BatchNorm the batches of the forget phase, in train mode as in [1]_, are normalised by
    rows to forget alone, and each batch moves the running statistics a little towards theirs. In a
    run of few batches the net may thus have learned its new labels in train mode and still predict
    the old ones: a smaller ``batch_size`` or more ``max_epochs`` let the statistics follow.

    A net with a single logit h is taken as one with the two outputs 0 and h. The code of the
    group-robust unlearning paper [2]_ keeps the extra unit, which can then be predicted; here, as
    in [1]_, it is dropped. Weights of rows (``sample_weight``) act on the retain phase only.

    References
    ----------
    .. [1] Chen, Gao, Liu, Peng, Wang, "Boundary Unlearning: Rapid Forgetting of Deep Networks via
       Shifting the Decision Boundary", CVPR 2023.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import BoundaryExpandUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = BoundaryExpandUnlearner(random_state=0, lr=1e-4, max_epochs=3)
    >>> unlearner.fit(X, y, a).unlearn([3, 7]).predict_proba(X).shape
    (200, 2)
    """

    method_name = "boundary_expand"
    search_grid = {"lr": [0.001, 0.01], "retaining": [False, True]}
    _phases_that_read_forgotten = ("forget",)

    retaining: bool = parameter(False, "boolean")

    def _check_net(self, net: NeuralNet, data: TrainingRows) -> None:
        super()._check_net(net, data)
        if not _predicts_softmax_of_last_linear(net, data.fetch(torch.arange(min(2, len(data))))):
            raise ValueError(
                f"{type(self).__name__} extends the net's last linear layer by a class, so the "
                "probabilities the net predicts must be the softmax of what that layer returns "
                f"(or the sigmoid of its single logit); those of {type(net.module_).__name__} "
                "are not. End the module with a linear layer, or use another method, such as "
                "BoundaryShrinkUnlearner."
            )

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        extra = _ExtraClass(request)
        phases = [Phase("forget", request.forget, loss=extra.loss, state=[extra.unit])]
        if self.retaining or self.reweight:
            phases.append(Phase("retain", request.retain, weights=weights))
        return phases


class _ExtraClass:
    """One more output of the net's last linear layer, beside the layer and not in it.

    The net itself thus never has more outputs than classes, and nothing needs to be cut off.
    """

    def __init__(self, request: Request) -> None:
        net = request.net
        sample = request.data.fetch_rows(request.retain[:2])
        name, _ = find_feature_layer(net, sample)
        self.features = FeatureTap(net.module_, name, "input")
        self.outputs = FeatureTap(net.module_, name, "output")
        net.evaluation_step((sample, None))
        z = self.features.read()
        self.unit = nn.Linear(z.shape[1], 1).to(z.device, z.dtype)
        _train_with_same_options(net.optimizer_, self.unit, net.module_.get_submodule(name))

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy with the extra class as the label of every row."""
        logits = _class_logits(self.outputs.read())
        extended = torch.cat([logits, self.unit(self.features.read())], dim=1)
        return -torch.log_softmax(extended, dim=1)[:, -1].mean()


def _train_with_same_options(
    optimizer: torch.optim.Optimizer, unit: nn.Module, layer: nn.Module
) -> None:
    """Put the unit's parameters where the optimizer has the layer's.

    A group of their own would be refused by a schedule that has a value for each group.
    """
    parameters = set(layer.parameters())
    groups = optimizer.param_groups
    group = next((g for g in groups if parameters & set(g["params"])), groups[-1])
    group["params"].extend(unit.parameters())


def _class_logits(scores: torch.Tensor) -> torch.Tensor:
    """Return one logit for each class."""
    if is_single_logit(scores):
        return torch.cat([torch.zeros_like(scores), scores], dim=1)
    return scores


def _predicts_softmax_of_last_linear(net: NeuralNet, X: Any) -> bool:
    try:
        name, _ = find_feature_layer(net, X)
    except ValueError:  # there is no linear layer
        return False
    tap = FeatureTap(net.module_, name, "output")
    try:
        predicted = log_probabilities(net, net.evaluation_step((X, None))).exp()
        expected = torch.softmax(_class_logits(tap.read()), dim=1)
    finally:
        tap.close()
    return predicted.shape == expected.shape and torch.allclose(predicted, expected, atol=1e-3)
