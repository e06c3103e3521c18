"""Copies of nets: fresh ones, built as the user gave them, and trained ones, as they stand.

skorch trains a module, a backbone or a criterion that is passed as an object itself. Here nothing
that was given is ever trained: a net is built from copies. *Fresh* then always means *as given*.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LoadInitState, ParamMapper
from skorch.hf import AccelerateMixin
from torch import nn

from .randomness import isolated_rng

LOST = "Weights as they were given are needed, and they are gone: pass a net that is not trained."


# fresh nets --------------------------------------------------------------------------------------


def fresh_net(
    net: NeuralNet, *, weights_from: Any = "itself", anew: Iterable[str] = (), **params: Any
) -> NeuralNet:
    """Return an initialised copy of a net with new optimizer, callbacks and empty history.

    A new optimizer is needed: after cosine annealing the old one has learning rate 0, and its
    momentum still holds gradients of the forgotten rows. For the same reason the copy does without
    ``LoadInitState``: it would put the weights of an old checkpoint in place of the ones given
    here, and retraining would start from what was trained on forgotten rows.

    Modules are copied as they stand: with what was frozen, added or exchanged after the net was
    initialised, which class and weights alone do not tell.

    Parameters
    ----------
    net : NeuralNet
        What to copy.
    weights_from : "itself", NeuralNet or None, default="itself"
        Whose modules to copy; None builds them as they were given, see :func:`initialized`.
    anew : iterable of str, default=()
        Names of modules or criteria that are built in either case.
    **params : dict
        Parameters to set on the copy before it is initialised.

    Returns
    -------
    NeuralNet
        The copy.

    Raises
    ------
    ValueError
        If modules are to be built as they were given, and training changed what was given.
    """
    source = net if isinstance(weights_from, str) else weights_from
    parts = {} if source is None else own_copy(parts_of(source), {})
    for part in parts.values():
        _bare(part)
    copied = initialized(copy_net(net, **params), parts, anew)
    copied.callbacks_ = [
        (name, callback)
        for name, callback in copied.callbacks_
        if not isinstance(callback, LoadInitState)
    ]
    if hasattr(source, "classes_inferred_"):  # without it a net cannot be scored
        copied.classes_inferred_ = source.classes_inferred_
    return copied


def _bare(module: nn.Module) -> None:
    """Take off the hooks that training puts on a module."""
    ours = __name__.partition(".")[0]
    for layer in module.modules():
        for hooks in (layer._forward_hooks, layer._forward_pre_hooks):
            for key, hook in list(hooks.items()):
                if str(getattr(hook, "__module__", "")).partition(".")[0] == ours:
                    del hooks[key]


def initialized(
    net: NeuralNet, parts: dict[str, nn.Module] | None = None, anew: Iterable[str] = ()
) -> NeuralNet:
    """Initialise a net as skorch does, but let it train copies of what its parameters hold.

    A module, a backbone or a criterion that was passed as an object, one that a function remembers,
    and callbacks: all stay as they were given, so that the net can be built from them again.

    Parameters
    ----------
    net : NeuralNet
        Not initialised; changed in place.
    parts : dict or None, default=None
        What to put in place of modules and criteria of these names.
    anew : iterable of str, default=()
        Names of which not to, if the weights that were given are still there.

    Returns
    -------
    NeuralNet
        The same net.

    Raises
    ------
    ValueError
        If the weights that were given are gone, see :func:`copy_net`.
    """
    given: dict[str, nn.Module] = parts or {}
    memo: dict[int, Any] = {}

    def apart(build: Callable[[], Any], names: Callable[[], list[str]]) -> Callable[[], Any]:
        def build_apart() -> NeuralNet:
            build()
            for name in names():
                part = getattr(net, name + "_")
                if not isinstance(part, nn.Module):
                    continue
                is_lost = any(bool(weight.isnan().all()) for weight in _weights([part]))
                if name in given and (is_lost or name not in anew):
                    part = given[name]
                elif is_lost:
                    raise ValueError(LOST)
                else:
                    part = own_copy(part, memo)
                setattr(net, name + "_", part)
                # a criterion may hold weights of the module, which are copies already
                held = chain(part.modules(), part.parameters(), part.buffers())
                memo.update((id(own), own) for own in held)
            return net

        return build_apart

    callbacks = {
        name: value for name, value in vars(net).items() if name.partition("__")[0] == "callbacks"
    }
    vars(net).update(own_copy(callbacks, memo))
    net.initialize_module = apart(net.initialize_module, lambda: net._modules)
    net.initialize_criterion = apart(net.initialize_criterion, lambda: net._criteria)
    try:
        net.initialize()
        net.keeps_given_ = True
        return net
    finally:
        vars(net).update(callbacks)
        for name in ("initialize_module", "initialize_criterion"):
            del net.__dict__[name]  # skorch's own __delattr__ would unregister a component


# what nets are made of ---------------------------------------------------------------------------


def parts_of(net: NeuralNet) -> dict[str, nn.Module]:
    """Return modules and criteria of an initialised net, as they are without any wrapper.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.

    Returns
    -------
    dict
        From skorch's names of them to modules.
    """
    parts = {name: getattr(net, name + "_", None) for name in (*net._modules, *net._criteria)}
    # torch.compile prefixes the names of weights
    return {
        name: getattr(part, "_orig_mod", part)
        for name, part in parts.items()
        if isinstance(part, nn.Module)
    }


def _weights(parts: Iterable[nn.Module]) -> list[nn.Parameter]:
    weights = (weight for part in parts for weight in part.parameters())
    return [w for w in weights if not nn.parameter.is_lazy(w) and w.numel()]


def named_weights(net: NeuralNet) -> dict[str, nn.Parameter]:
    """Return the weights of all modules and criteria by name; those of lazy layers have no size."""
    return {
        f"{name}.{where}": weight
        for name, part in parts_of(net).items()
        for where, weight in part.named_parameters()
    }


def same_weights(net: NeuralNet, other: NeuralNet, names: Iterable[str] | None = None) -> bool:
    """Tell whether parts of two nets agree in every bit of weights and buffers.

    Parameters
    ----------
    net, other : NeuralNet
        Initialised nets of the same structure.
    names : iterable of str or None, default=None
        Skorch's names of the parts; None means the modules, and no criterion.

    Returns
    -------
    bool
        Whether they do.
    """
    names = net._modules if names is None else list(names)
    held = []
    for parts in (parts_of(net), parts_of(other)):
        found = [parts[name] for name in names if name in parts]
        held.append([x for part in found for x in (*part.parameters(), *part.buffers())])
    return len(held[0]) == len(held[1]) and all(map(torch.equal, *held))


def readable(net: NeuralNet) -> NeuralNet:
    """Return a net of which every layer can be watched: compiled code calls no hooks."""
    plain = object.__new__(type(net))
    vars(plain).update(vars(net))
    vars(plain).update({f"{name}_": part for name, part in parts_of(net).items()})
    return plain


def input_dtype(net: NeuralNet) -> tuple[torch.dtype, bool]:
    """Return the dtype of the net's inputs, and whether it takes integers as they are.

    Read before the module exists, it is torch's default.
    """
    module = getattr(net, "module_", None)
    if module is None:
        return torch.get_default_dtype(), False
    floating = (p.dtype for p in module.parameters() if p.is_floating_point())
    embeds = any(isinstance(sub, nn.Embedding | nn.EmbeddingBag) for sub in module.modules())
    return next(floating, torch.get_default_dtype()), embeds


# copies ------------------------------------------------------------------------------------------


def copy_net(net: NeuralNet, **changes: Any) -> NeuralNet:
    """Return a copy of a net that is not initialised.

    Two parameters that share something go on sharing it. What nothing can copy is shared with the
    original: a TensorBoard ``SummaryWriter``, for example, has a thread and an open file.

    What a net was given as an object and trained itself is gone, and what is there instead may know
    rows that are to be forgotten; the copy has NaN in its place, which :func:`initialized` refuses
    to start from.

    Parameters
    ----------
    net : NeuralNet
        What to copy.
    **changes : dict
        Parameters that are to be others.

    Returns
    -------
    NeuralNet
        The copy.

    Raises
    ------
    TypeError
        If the net has skorch's ``AccelerateMixin``.
    """
    if isinstance(net, AccelerateMixin):  # which wraps modules, and holds on to them
        raise TypeError("In place of AccelerateMixin use grmu_sk.distributed.ParallelMixin.")
    memo: dict[int, Any] = {}
    given = net.callbacks if isinstance(net.callbacks, list | tuple) else ()
    given = [item[1] if isinstance(item, list | tuple) else item for item in given]
    for _, callback in getattr(net, "callbacks_", ()):
        if any(callback is own for own in given):  # skorch trains with these
            memo[id(callback)] = type(callback)(**own_copy(_constructor_arguments(callback), memo))
    params = own_copy(net.get_params(deep=False), memo)
    for tensor in _trained_in_place(net, memo):
        blank = memo[id(tensor)]
        blank.data = torch.full((), torch.nan, dtype=blank.dtype).expand(blank.shape)
    return type(net)(**{**params, **changes})


def _constructor_arguments(callback: Callback) -> dict[str, Any]:
    """Return what a callback was made with, without what it has learned in training."""
    expected = inspect.signature(type(callback)).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in expected.values())
    held = callback.get_params(deep=False).items()
    return {name: value for name, value in held if takes_all or name in expected}


def is_trained_in_place(net: NeuralNet) -> bool:
    """Tell whether a net trained what it was given, so that this is gone.

    Parameters
    ----------
    net : NeuralNet
        Not changed.

    Returns
    -------
    bool
        False if the net is not initialised.
    """
    memo: dict[int, Any] = {}
    own_copy(net.get_params(deep=False), memo)
    return bool(_trained_in_place(net, memo))


def _trained_in_place(net: NeuralNet, memo: dict[int, Any]) -> list[torch.Tensor]:
    """Return those tensors among a net's copied parameters that are what the net trained."""
    weights = _weights(parts_of(net).values())
    places = set(map(_place, weights))
    # of a copy or a pickle, what was given and what was trained lie apart; they are equal
    learned = [] if getattr(net, "keeps_given_", False) else [w for w in weights if w.requires_grad]

    def is_trained(x: torch.Tensor) -> bool:
        if _place(x) in places:
            return True
        is_varied = bool(x.min() < x.max())
        return is_varied and any(x.shape == w.shape and x.equal(w) for w in learned)

    kept: list[Any] = memo.get(id(memo), [])  # what was copied, as copy.deepcopy notes it down
    given = [x for x in kept if isinstance(x, torch.Tensor) and x.is_floating_point()]
    given = [x for x in given if not nn.parameter.is_lazy(x) and x.numel()]
    found = [x for x in given if is_trained(x)]
    if found:  # running statistics were trained as well
        of_layers = {id(b) for x in kept if isinstance(x, nn.Module) for b in x.buffers()}
        found += [x for x in given if id(x) in of_layers]
    return found


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def own_copy(value: Any, memo: dict[int, Any]) -> Any:
    """Return a deep copy that shares with the original what nothing can copy.

    Parameters
    ----------
    value : object
        What to copy.
    memo : dict
        As in :func:`copy.deepcopy`: what is copied already. What is copied now is added.

    Returns
    -------
    object
        The copy.
    """
    trial = dict(memo)
    try:
        copied = copy.deepcopy(value, trial)
    except (TypeError, RuntimeError, NotImplementedError, pickle.PicklingError):
        return _copied_in_part(value, memo)
    kept_alive = trial.pop(id(trial), [])
    memo.update(trial)
    memo.setdefault(id(memo), []).extend(kept_alive)
    return copied


def _copied_in_part(value: Any, memo: dict[int, Any]) -> Any:
    if isinstance(value, dict):
        return {key: own_copy(part, memo) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([own_copy(part, memo) for part in value])
    if isinstance(value, torch.Tensor):  # computed from others: torch copies no such tensor
        return value.detach().clone()
    if not isinstance(value, nn.Module | Callback):
        return value
    for layer in value.modules() if isinstance(value, nn.Module) else [value]:
        for part in (*vars(layer).values(), *getattr(layer, "_buffers", {}).values()):
            if not isinstance(part, dict):
                memo[id(part)] = own_copy(part, memo)
    return copy.deepcopy(value, memo)


# refusals ----------------------------------------------------------------------------------------


def check_fresh_weights(net: NeuralNet) -> None:
    """Raise ValueError if building a trained net again does not give the net it was made as.

    Parameters
    ----------
    net : NeuralNet
        An initialised net; not changed.

    Raises
    ------
    ValueError
        If the weights it was given are gone, or other layers, or other frozen weights, come out.
    """
    with isolated_rng(0, net.device):
        new = fresh_net(net, weights_from=None)
    is_mapped = any(isinstance(callback, ParamMapper) for _, callback in new.callbacks_)

    def described(net: NeuralNet) -> set[tuple[Any, ...]]:
        weights = named_weights(net).items()
        known = [(name, w) for name, w in weights if not nn.parameter.is_lazy(w)]
        return {(name, *w.shape, is_mapped or w.requires_grad) for name, w in known}

    if changed := described(new) ^ described(net):
        differ = {name for name, *_ in changed}
        raise ValueError(
            "New weights are needed, and building the net again gives other shapes of, or other "
            f"frozen, {sorted(differ)} than it has, which was changed after it was initialised."
        )


def refuse_hidden_weights(net: NeuralNet) -> None:
    """Raise ValueError if a net trained weights that its parameters do not show.

    Parameters
    ----------
    net : NeuralNet
        An initialised net; not changed.

    Raises
    ------
    ValueError
        If a function remembers what was trained: original weights would outlive unlearning.
    """
    probe = copy_net(net, compile=False)
    with isolated_rng(0, probe.device):
        probe._initialize_virtual_params()
        probe._initialize_module()
        probe._initialize_criterion()
    trained, again = (set(map(_place, _weights(parts_of(one).values()))) for one in (net, probe))
    if trained & again:
        raise ValueError("A function remembers trained weights: let it copy.deepcopy(backbone).")
