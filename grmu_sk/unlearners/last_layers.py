"""CF-k and EU-k: train the last k layers, as they are or drawn anew; all others are frozen."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ..base import Request
from ..parameters import COUNT, parameter
from ..rows import TrainingRows
from ._initial_weights import draw_initial_weights
from .approximate import RetainingUnlearner

__all__ = ["CFkUnlearner", "EUkUnlearner"]


# Like scales and shifts, these do not count as layers of their own: each belongs to the part,
# frozen or trained, in which it runs.
NORMALISATION = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


class LastLayersUnlearner(RetainingUnlearner):
    """Base class of methods that train the last k layers on the remaining rows.

    Parameters
    ----------
    k : int, default=1
        How many of the last layers with weights to train, counted in the order in which they run.
        Normalisation layers, scales and shifts are not counted; each is trained or frozen with the
        part of the net in which it runs. The larger k, the more can be forgotten and the longer it
        takes.
    """

    k: int = parameter(1, COUNT)

    def _check_net(self, net: NeuralNet, data: TrainingRows) -> None:
        super()._check_net(net, data)
        last_layers(net, data.fetch_rows(data.rows[:2]), self.k)

    def _unlearn(self, request: Request) -> NeuralNet:
        sample = request.data.fetch_rows(request.retain[:2])
        layers = last_layers(request.net, sample, self.k)
        self._prepare(request.net, layers, sample)
        _freeze_others(request.net, layers)
        return super()._unlearn(request)

    def _prepare(self, net: NeuralNet, layers: list[str], X: Any) -> None:
        """Change the layers to train before training starts."""


def last_layers(net: NeuralNet, X: Any, k: int) -> list[str]:
    """Return the names of everything that runs from the k-th last layer with weights on.

    Layers are counted in the order in which they run; one that runs several times counts where it
    runs last, and one around others, with weights of its own, where it last uses those. What never
    runs by itself (such as the output projection inside ``MultiheadAttention``) belongs to the
    layer it is part of.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.
    X : tensor or dict
        A small batch to run through it.
    k : int
        How many layers with weights of two axes or more (of any, if none has such), normalisation
        layers not counted.

    Returns
    -------
    list of str
        Dotted names of modules, those without weights included.

    Raises
    ------
    ValueError
        If there are fewer than k such layers.
    """
    order = _running_order(net, X)
    owners = _owners(net.module_, set(order))
    weights: dict[nn.Module, list[nn.Parameter]] = {sub: [] for sub in order}
    for name, sub in net.module_.named_modules():
        weights[owners[name]].extend(sub.parameters(recurse=False))
    layers = [sub for sub in order if weights[sub] and not isinstance(sub, NORMALISATION)]
    matrices = [sub for sub in layers if any(weight.dim() > 1 for weight in weights[sub])]
    counted = matrices or layers
    if k > len(counted):
        names = {sub: name for name, sub in net.module_.named_modules()}
        raise ValueError(
            f"k must lie between 1 and {len(counted)}, the number of layers with weights in "
            f"{type(net.module_).__name__} ({', '.join(names[sub] for sub in counted)}), got {k!r}."
        )
    trained = set(order[order.index(counted[-k]) :])
    return [name for name, owner in owners.items() if owner in trained]


def _running_order(net: NeuralNet, X: Any) -> list[nn.Module]:
    """Return all layers that run, in the order in which each last started or used its weights.

    A module around others may hold weights of its own, and use them before or after those run.
    What computes a weight of a layer (its parametrisation) is a part of that layer.
    """
    own = {
        sub: {id(weight) for weight in sub.parameters(recurse=False)}
        for name, sub in net.module_.named_modules()
        if "parametrizations" not in name.split(".")
    }
    events: list[nn.Module] = []
    running: list[nn.Module] = []

    class NotedUses(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            used = {id(value) for value in tree_leaves((args, kwargs))}
            events.extend(layer for layer in running if own[layer] & used)
            return func(*args, **(kwargs or {}))

    def begin(layer: nn.Module, args: Any) -> None:
        events.append(layer)
        running.append(layer)

    hooks = [layer.register_forward_pre_hook(begin) for layer in own]
    hooks += [layer.register_forward_hook(lambda *_: running.pop() and None) for layer in own]
    try:
        with NotedUses():
            net.evaluation_step((X, None))
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(reversed(events)))[::-1]


def _owners(module: nn.Module, running: set[nn.Module]) -> dict[str, nn.Module]:
    """Return, for each name, the module itself or the closest one around it that runs."""
    owners = {"": module}
    for name, sub in module.named_modules():
        around = owners[name.rpartition(".")[0]]
        owners[name] = sub if sub in running else around
    return owners


def _freeze_others(net: NeuralNet, layers: list[str]) -> None:
    """Freeze everything outside these layers, to the last bit.

    Without a gradient the optimizer passes a weight by, weight decay and momentum included.
    Running statistics are no weights: what holds some goes back to eval mode before it runs,
    since each training step puts the whole net into training mode.
    """
    kept = {
        weight
        for layer in layers
        for weight in net.module_.get_submodule(layer).parameters(recurse=False)
    }
    for _, weight in net.get_all_learnable_params():
        if weight not in kept:
            weight.requires_grad_(False)
    for name, sub in net.module_.named_modules():
        if name not in layers and any(True for _ in sub.buffers(recurse=False)):
            sub.register_forward_pre_hook(_go_to_eval_mode)


def _go_to_eval_mode(layer: nn.Module, args: tuple[Any, ...]) -> None:
    layer.training = False  # its own layers are asked by themselves


class CFkUnlearner(LastLayersUnlearner):
    r"""Catastrophic forgetting in the last k layers.

    A net that goes on training without some rows slowly forgets them. CF-k [1]_ does that to the
    last k layers and freezes all others,

    .. math:: \min_{\theta_{last}} \; E_{i \in D_r}\,[\ell(f_\theta(x_i), y_i)],

    starting from the trained weights, with :math:`\ell` the net's criterion and :math:`D_r` the
    remaining rows, drawn by REWEIGHT if ``reweight=True``. With k as large as the number of layers
    it is plain fine-tuning.

    Frozen means to the last bit: neither weight decay nor momentum moves a frozen weight, and
    frozen BatchNorm layers use their running statistics and leave them alone. Dropout in frozen
    layers stays on while training. The result is the last epoch's.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs.

    See Also
    --------
    EUkUnlearner : Draws these layers anew first.
    RetrainUnlearner : Exact: trains all layers from new weights.

    Notes
    -----
    Approximate: what the frozen layers learned from the forgotten rows stays in them, unchanged.

    The paper presents k as a trade-off and the authors' code makes every user choose it; the
    default is the cheapest choice.

    References
    ----------
    .. [1] Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning",
       arXiv:2201.06640, 2022.

    Examples
    --------
    >>> from grmu_sk import CFkUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = CFkUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-2:, ("epoch", "phase")]
    [(9, 'retain'), (10, 'retain')]
    """

    method_name = "cf_k"
    search_grid = {"k": [1, 2, 3, 4]}
    _keeps_weights = True


class EUkUnlearner(LastLayersUnlearner):
    r"""Exact unlearning of the last k layers.

    EU-k [1]_ freezes all but the last k layers, draws those anew and trains them on the remaining
    rows :math:`D_r`,

    .. math:: \min_{\theta_{last}} \; E_{i \in D_r}\,[\ell(f_\theta(x_i), y_i)],

    with :math:`\ell` the net's criterion and rows drawn by REWEIGHT if ``reweight=True``. The last
    k layers never saw the forgotten rows; the others keep what they learned from them. With k as
    large as the number of layers it is retraining.

    Frozen means to the last bit: neither weight decay nor momentum moves a frozen weight, and
    frozen BatchNorm layers use their running statistics and leave them alone. Dropout in frozen
    layers stays on while training. The result is the last epoch's.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net.
        Its ``module`` is built again, and what comes out (pretrained weights, if it loads some or
        was passed as an object that has some) is where the last layers start.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs.

    See Also
    --------
    CFkUnlearner : Starts from the trained weights of these layers.
    RetrainUnlearner : Exact: trains all layers from new weights.

    Notes
    -----
    Approximate: exact for the last k layers only, given the others.

    The paper presents k as a trade-off and the authors' code makes every user choose it; the
    default is the cheapest choice.

    References
    ----------
    .. [1] Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning",
       arXiv:2201.06640, 2022.

    Examples
    --------
    >>> from grmu_sk import EUkUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = EUkUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-2:, ("epoch", "phase")]
    [(9, 'retain'), (10, 'retain')]
    """

    method_name = "eu_k"
    search_grid = {"k": [1, 2, 3, 4]}
    _keeps_weights = True
    _needs_fresh_weights = True

    def _prepare(self, net: NeuralNet, layers: list[str], X: Any) -> None:
        for path, value in draw_initial_weights(net, layers, X).items():
            layer, _, name = path.rpartition(".")
            # in place, since the optimizer knows these parameters
            getattr(net.module_.get_submodule(layer), name).data = value
