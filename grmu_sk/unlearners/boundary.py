"""Boundary shrink and expand: push rows to forget over the boundary to another class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from skorch import NeuralNet
from torch import nn

from ..base import Request
from ..loading import cut_up
from ..net_copies import fresh_net
from ..outputs import FeatureTap, find_feature_layer, is_single_logit, log_probabilities
from ..parameters import NOT_NEGATIVE, parameter
from ..rows import TrainingRows
from ..training import Batch, Phase
from .approximate import RetainingUnlearner

__all__ = ["BoundaryExpandUnlearner", "BoundaryShrinkUnlearner"]


class BoundaryShrinkUnlearner(RetainingUnlearner):
    r"""Boundary shrink: train rows to forget towards the nearest class that is not theirs.

    The net as it was before the request, :math:`f_o`, says for each row to forget which wrong
    class lies nearest [1]_: the row is moved one step in the direction in which the loss of its
    true label y grows fastest, and the most probable other class there is its new label,

    .. math::

        x' = \operatorname{clip}\bigl(x + \epsilon \, \operatorname{sign}
             \nabla_x [-\log p_o(y \mid x)]\bigr), \qquad
        y' = \arg\max_{k \neq y} p_o(k \mid x').

    Each epoch

    1. *forget*: minimises the cross-entropy of the unmoved rows to forget with their new labels,

       .. math:: L_f = -\log p(y' \mid x)

    2. *retain* (only with ``retaining`` or ``reweight``): minimises the net's criterion on the
       remaining rows.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. It must be differentiable in its input,
        which is a single array of real numbers: nets that embed integers are refused.
    epsilon : float, default=0.1
        Size :math:`\epsilon` of the step, in units of the inputs as the net reads them.
    input_range : tuple of float or None, default=None
        Smallest and largest value that a moved input may have. None means those found in the
        training rows that are there at the time of the request, which takes a pass over them; give
        the range where rows are slow to read. ``(-inf, inf)`` does not clip.
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
    BoundaryExpandUnlearner : Trains rows to forget towards a class that does not exist.
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

    New labels are found once, in eval mode, before training; where a Dataset may return a row
    differently each time, they are found anew for each batch. The code of the group-robust
    unlearning paper [2]_ clips moved inputs to [0, 1] where they lie in [-1, 1], and may give a
    row its own class as new label; neither is done here. Weights of rows (``sample_weight``) act
    on the retain phase only.

    References
    ----------
    .. [1] Chen, Gao, Liu, Peng, Wang, "Boundary Unlearning: Rapid Forgetting of Deep Networks via
       Shifting the Decision Boundary", CVPR 2023.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import BoundaryShrinkUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = BoundaryShrinkUnlearner(random_state=0, lr=1e-4, max_epochs=3)
    >>> unlearner.fit(X, y, a).unlearn([3, 7]).history_[-3:, "phase"]
    ['forget', 'forget', 'forget']
    """

    method_name = "boundary_shrink"
    search_grid = {"lr": [0.001, 0.01], "retaining": [False, True]}
    _phases_that_read_forgotten = ("setup", "forget")

    epsilon: float = parameter(0.1, NOT_NEGATIVE)
    input_range: tuple[float, float] | None = parameter(None, tuple, list, None)
    retaining: bool = parameter(False, "boolean")

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.input_range is not None and (
            len(self.input_range) != 2 or not self.input_range[0] < self.input_range[1]
        ):
            raise ValueError(
                "input_range must be two numbers, the smaller one first, or None, got "
                f"{self.input_range!r}."
            )

    def _check_net(self, net: NeuralNet, data: TrainingRows) -> None:
        super()._check_net(net, data)
        X, y, _ = data.__getitems__(range(min(2, len(data))))
        reads = f"{X.dtype} numbers" if isinstance(X, torch.Tensor) else f"a {type(X).__name__}"
        is_real = isinstance(X, torch.Tensor) and X.is_floating_point()
        if not is_real or _input_gradient(net, X, y) is None:
            raise ValueError(
                f"{type(self).__name__} moves inputs along the gradient of the loss, so they must "
                f"be one array of real numbers that the net is differentiable in; here it reads "
                f"{reads}. For nets that embed integers use another method, such as "
                "BoundaryExpandUnlearner."
            )

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        new_labels = self._new_labels(request)

        def loss(batch: Batch) -> torch.Tensor:
            log_proba = log_probabilities(request.net, batch.output)
            return torch.nn.functional.nll_loss(log_proba, new_labels(batch))

        phases = [Phase("forget", request.forget, loss=loss)]
        if self.retaining or self.reweight:
            phases.append(Phase("retain", request.retain, weights=weights))
        return phases

    def _new_labels(self, request: Request) -> Callable[[Batch], torch.Tensor]:
        data = request.data
        search = partial(
            nearest_wrong_class,
            fresh_net(request.net),
            epsilon=self.epsilon,
            input_range=self.input_range or _range_of_inputs(request),
        )
        if data.is_augmented:
            return lambda batch: batch.each_row(search)
        known = data.y.new_full((len(data),), -1, dtype=torch.int64)
        for where in cut_up(data.positions(request.forget), request.net.batch_size):
            X, y, _ = data.__getitems__(where)  # type: ignore[arg-type]
            known[where] = search(X, y).cpu()
        return lambda batch: known[batch.positions].to(batch.y.device)


def nearest_wrong_class(
    net: NeuralNet,
    X: torch.Tensor,
    y: torch.Tensor,
    epsilon: float,
    input_range: tuple[float, float],
) -> torch.Tensor:
    """Return the most probable class but the true one, one sign-gradient step away.

    Parameters
    ----------
    net : NeuralNet
        An initialised net; it is used in eval mode.
    X : tensor of shape (n, ...)
        Real inputs.
    y : tensor of shape (n,)
        Class numbers.
    epsilon : float
        Size of the step.
    input_range : tuple of float
        Smallest and largest value of a moved input.

    Returns
    -------
    tensor of shape (n,)
        Class numbers, on the net's device.
    """
    gradient = _input_gradient(net, X, y)
    assert gradient is not None
    moved = (X + epsilon * gradient.sign()).clamp(*input_range)
    log_proba = log_probabilities(net, net.evaluation_step((moved, None)))
    return log_proba.scatter(1, _column(y, log_proba), -torch.inf).argmax(dim=1)


def _input_gradient(net: NeuralNet, X: torch.Tensor, y: torch.Tensor) -> torch.Tensor | None:
    """Return the gradient of -log p(y | x), or None if the net is not differentiable in x."""
    X = X.detach().clone().requires_grad_()
    net.module_.eval()
    with torch.enable_grad():
        log_proba = log_probabilities(net, net.infer(X))
        loss = -log_proba.gather(1, _column(y, log_proba)).sum()
    return torch.autograd.grad(loss, X, allow_unused=True)[0]


def _column(y: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return y.to(like.device, torch.int64)[:, None]


def _range_of_inputs(request: Request) -> tuple[float, float]:
    data, where = request.data, request.data.positions(request.train)
    ranges = [data.fetch(part).aminmax() for part in cut_up(where, request.net.batch_size)]
    return min(low.item() for low, _ in ranges), max(high.item() for _, high in ranges)


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
        self.features = FeatureTap(net, name, "input")
        self.outputs = FeatureTap(net, name, "output")
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
    tap = FeatureTap(net, name, "output")
    try:
        predicted = log_probabilities(net, net.evaluation_step((X, None))).exp()
        expected = torch.softmax(_class_logits(tap.read()), dim=1)
    finally:
        tap.close()
    return predicted.shape == expected.shape and torch.allclose(predicted, expected, atol=1e-3)
