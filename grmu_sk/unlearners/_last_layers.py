"""What CF-k and EU-k share: all but the last k layers are frozen."""

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
from ..training import Phase
from .approximate import RetainingUnlearner

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

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        return [Phase("retain", request.retain, weights=weights)]

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
