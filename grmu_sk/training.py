"""The one training loop: phases over an initialised skorch net.

Every way of training in this package, from the first fit to the most involved unlearning method,
is a list of :class:`Phase` objects handed to :func:`train`. A phase names the rows it sees, how
they are drawn and what is minimised; everything else (device, optimizer, gradient clipping,
learning-rate schedule, logging, progress bars) stays the net's own, because each batch goes
through the net's ``train_step``.

In each epoch the active phases run one after another. Each writes one row to the net's history,
with the columns ``epoch`` and ``phase``.

Several processes may train one net (:mod:`grmu_sk.distributed`). A batch then holds the targets of
all its rows, but of the inputs this process's share.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import pickle
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LoadInitState,
    LRScheduler,
    MlflowLogger,
    NeptuneLogger,
    ParamMapper,
    SacredLogger,
    TensorBoard,
    WandbLogger,
)
from skorch.dataset import unpack_data
from skorch.hf import AccelerateMixin
from skorch.history import History
from skorch.utils import to_device
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from .device_copies import is_far, kept_on_gpu
from .distributed import (
    ParallelRun,
    checksum,
    device_of,
    from_main_process,
    main_process_alone,
    parallel_class,
    run_of,
    share_of,
    started_together,
    take_over_buffers,
)
from .randomness import draw_by_weight, isolated_rng
from .rows import InputRows, Rows, TrainingRows
from .steps import evaluation_step, run_epoch, train_step

__all__ = [
    "Batch",
    "Phase",
    "Progress",
    "batch_norm_frozen",
    "check_fresh_weights",
    "copy_net",
    "forward",
    "fresh_net",
    "initialized",
    "inputs_near",
    "is_trained_in_place",
    "own_collate",
    "own_copy",
    "parts_of",
    "refuse_hidden_weights",
    "row_losses",
    "row_shares",
    "same_weights",
    "train",
    "weighted_loss",
]

# These count epochs, so they are told about an epoch once, at its last phase; all other callbacks
# see every phase, as they would see an epoch of their own. A callback of one's own joins them
# with a class attribute ``once_per_epoch = True``.
EPOCH_COUNTERS = (LRScheduler, EarlyStopping, Checkpoint, ParamMapper)
NET_FOLLOWERS = (EpochScoring, LRScheduler)
# These log every column of the history as a number, which the name of a phase is not.
NUMBER_LOGGERS = (MlflowLogger, NeptuneLogger, SacredLogger, TensorBoard)
# Options of a loader that say which rows come when.
ORDERING = ("sampler", "batch_sampler", "shuffle", "drop_last")
LOST = (
    "Weights as they were given are needed, and they are gone: the module, or a part of it, was "
    "passed to the net as an object, and training changed that object. Pass an untrained net, "
    "whose parts will be copied before they are trained; or a class or a function that builds the "
    "module."
)


@dataclass
class Batch:
    """What a phase's loss is computed from.

    Attributes
    ----------
    X : tensor, or dict or list of tensors
        The inputs, as the loader gave them; of several processes, this one's share of them.
    y : tensor of shape (n,)
        Class numbers, on the net's device.
    g : tensor of shape (n,)
        Group numbers, on the net's device.
    positions : tensor of shape (n,)
        Where the rows lie in the data of the request.
    output : tensor or tuple
        What the module returned.
    criterion : callable
        Returns the net's own loss of this batch.
    """

    X: Any
    y: torch.Tensor
    g: torch.Tensor
    positions: torch.Tensor
    output: Any
    criterion: Callable[[], torch.Tensor]

    def each_row(self, function: Callable[[Any, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return ``function(X, y)``, which looks at each row by itself, for the whole batch."""
        share = share_of(self.X)
        if share is None:
            return function(self.X, self.y)
        whole: torch.Tensor = share.join(function(self.X, share.take(self.y)))
        return whole


@dataclass
class Phase:
    """One pass over some rows.

    Attributes
    ----------
    name : str
        What the history calls it.
    rows : ndarray
        The row numbers of ``fit`` it may see.
    loss : callable or None
        ``loss(batch) -> scalar tensor`` to minimise; None means the net's own criterion.
    weights : ndarray or None
        Sampling weight of each row: as many rows as there are, with replacement. None means each
        row once, shuffled.
    batch_size : int or None
        Rows a batch; None means the net's.
    first_epoch, last_epoch : int or None
        When it is active; the first epoch is 1 and both ends count.
    work : callable or None
        ``work(epoch) -> iterable of losses`` replaces the pass altogether, for a phase that trains
        something other than the net.
    state : sequence of objects
        What ``loss`` or ``work`` change beside the net from one epoch to the next (a network of
        their own and its optimizer, weights of groups), each with ``state_dict`` and
        ``load_state_dict``. A killed request goes on with it.
    own_order : bool
        Whether the options of the net's own loader (``sampler``, ``shuffle``, ...) say which rows
        come when. They are made for the rows of ``fit``, all of them.
    """

    name: str
    rows: Rows
    loss: Callable[[Batch], torch.Tensor] | None = None
    weights: np.ndarray | None = None
    batch_size: int | None = None
    first_epoch: int = 1
    last_epoch: int | None = None
    work: Callable[[int], Iterable[float]] | None = None
    state: Sequence[Any] = ()
    own_order: bool = False

    def is_active(self, epoch: int) -> bool:
        """Tell whether the phase runs in this epoch."""
        return self.first_epoch <= epoch and (self.last_epoch is None or epoch <= self.last_epoch)


#: Is called with the net, its phases and the best scores of each phase before the first epoch, with
#: a 0, and with the number of an epoch after it. Returns the number of the last finished epoch,
#: whose state it may have put back.
Progress = Callable[[NeuralNet, Sequence[Phase], dict[str, Any], int], int]


def fresh_net(
    net: NeuralNet, *, weights_from: Any = "itself", anew: Iterable[str] = (), **params: Any
) -> NeuralNet:
    """Return an initialised copy of a net with new optimizer, callbacks and empty history.

    A new optimizer is not a nicety: after cosine annealing the old one has learning rate 0, and
    its momentum still points where the forgotten rows pushed it. For the same reason the copy does
    without ``LoadInitState``: it would put the weights of an old checkpoint in place of the ones
    given here, and retraining would start from what was trained on forgotten rows.

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
    """Take off what training puts on a module: accelerate's wrapper, hooks of this package."""
    if vars(module).pop("_original_forward", None) is not None:
        vars(module).pop("forward", None)
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
                if isinstance(part, nn.Module):
                    is_lost = _is_lost(part)
                    if name in given and (is_lost or name not in anew):
                        part = given[name]
                    elif is_lost:
                        raise ValueError(LOST)
                    else:
                        part = own_copy(part, memo)
                    setattr(net, name + "_", part)
                    # a criterion may hold weights of the module, which are copies already
                    memo.update({id(own): own for own in _objects({name: part}).values()})
            return net

        return build_apart

    before = {name: value for name, value in vars(net).items() if _is_about_callbacks(name)}
    vars(net).update(own_copy(before, memo))
    net.initialize_module = apart(net.initialize_module, lambda: net._modules)
    net.initialize_criterion = apart(net.initialize_criterion, lambda: net._criteria)
    try:
        net.initialize()
        net.keeps_given_ = True
        return net
    finally:
        vars(net).update(before)
        for name in ("initialize_module", "initialize_criterion"):
            del net.__dict__[name]  # skorch's own __delattr__ would unregister a component


def _is_about_callbacks(parameter: str) -> bool:
    return parameter.partition("__")[0] == "callbacks"


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
    return {name: _unwrapped(part) for name, part in parts.items() if isinstance(part, nn.Module)}


def same_weights(net: NeuralNet, other: NeuralNet) -> bool:
    """Tell whether the modules of two nets agree in every bit of weights and buffers.

    Parameters
    ----------
    net, other : NeuralNet
        Initialised nets of the same structure.

    Returns
    -------
    bool
        Whether they do.
    """
    weights = (
        [
            *chain(
                *([*parts_of(of)[n].parameters(), *parts_of(of)[n].buffers()] for n in of._modules)
            )
        ]
        for of in (net, other)
    )
    return all(map(torch.equal, *weights))


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module itself; ``torch.compile`` and accelerate prefix the names of weights."""
    module = getattr(module, "_orig_mod", module)
    return module.module if isinstance(module, DistributedDataParallel) else module


def _objects(parts: dict[str, nn.Module]) -> dict[tuple[str, ...], Any]:
    """Return the layers, weights and buffers of some modules."""
    return {
        (name, kind, where): found
        for name, part in parts.items()
        for kind in ("modules", "parameters", "buffers")
        for where, found in getattr(part, f"named_{kind}")()
    }


def _is_lost(part: nn.Module) -> bool:
    weights = (weight for weight in part.parameters() if not nn.parameter.is_lazy(weight))
    return any(weight.numel() and bool(weight.isnan().all()) for weight in weights)


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
    with isolated_rng(0, device_of(net)):
        new = fresh_net(net, weights_from=None)
    is_mapped = any(isinstance(callback, ParamMapper) for _, callback in new.callbacks_)
    built, trained = (_description_of_weights(one, not is_mapped) for one in (new, net))
    differing = [name for name in {**built, **trained} if built.get(name) != trained.get(name)]
    if differing:
        raise ValueError(
            f"New weights are needed, and building the net again gives another one: "
            f"{differing[0]!r} is {built.get(differing[0], 'missing')}, and "
            f"{trained.get(differing[0], 'missing')} in the trained net, which was changed after "
            "it was initialised. Pass a class or a function as module that builds it as it is now."
        )


def _description_of_weights(net: NeuralNet, with_flags: bool) -> dict[str, str]:
    return {
        f"{name}.{where}": f"of shape {tuple(weight.shape)}"
        + (" and frozen" if with_flags and not weight.requires_grad else "")
        for name, part in parts_of(net).items()
        for where, weight in part.named_parameters()
        if not nn.parameter.is_lazy(weight)
    }


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
    with isolated_rng(0, device_of(net)):
        probe._initialize_virtual_params()
        probe._initialize_module()
        probe._initialize_criterion()
    trained, again = ({_place(p) for p in _weights(one)} for one in (net, probe))
    if trained & again:
        raise ValueError(
            "The net was trained on weights that a function remembers, and they would still be "
            "there after unlearning. Let the function make a copy, copy.deepcopy(backbone) for "
            "example, or pass what it remembers as a parameter, module__backbone=backbone."
        )


def _weights(net: NeuralNet) -> list[torch.Tensor]:
    weights = (weight for part in parts_of(net).values() for weight in part.parameters())
    return [w for w in weights if not nn.parameter.is_lazy(w) and w.numel()]


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def copy_net(net: NeuralNet, **changes: Any) -> NeuralNet:
    """Return a copy of a net that is not initialised.

    Two parameters that share something go on sharing it. What nothing can copy is shared with the
    original: a TensorBoard ``SummaryWriter``, for example, has a thread and an open file. So is an
    accelerator, with which the copy may take part in training on several processes.

    skorch trains a module, a backbone or a criterion that is passed as an object itself. What such
    a net was given is gone once it is trained, and what is there instead may know rows that are to
    be forgotten; the copy has NaN in its place, which :func:`initialized` refuses to start from.

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
    """
    memo: dict[int, Any] = {}
    for _, callback in getattr(net, "callbacks_", ()):
        if any(callback is own for own in _callbacks_given(net)):  # skorch trains with these
            memo[id(callback)] = _as_constructed(callback, memo)
    params = own_copy(net.get_params(deep=False), memo)
    for tensor in _trained_in_place(net, memo):
        blank = memo[id(tensor)]
        blank.data = torch.full((), torch.nan, dtype=blank.dtype).expand(blank.shape)
    if isinstance(net, AccelerateMixin) and net.accelerator.device_placement:
        params["device"] = None  # the accelerator says, when it is initialised
    return parallel_class(type(net))(**{**params, **changes})


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
    given = [tensor for tensor in memo.get(id(memo), ()) if isinstance(tensor, torch.Tensor)]
    given = [x for x in given if x.is_floating_point() and not nn.parameter.is_lazy(x)]
    places = {_place(weight) for weight in _weights(net)}
    found = [tensor for tensor in given if tensor.numel() and _place(tensor) in places]
    if not found and not getattr(net, "keeps_given_", False):
        # of a copy or a pickle, what was given and what was trained lie apart; they are equal
        trainable = [weight for weight in _weights(net) if weight.requires_grad]

        def is_one(x: torch.Tensor) -> bool:
            return any(x.shape == weight.shape and x.equal(weight) for weight in trainable)

        varied = [x for x in given if x.numel() and x.min() < x.max()]
        learned = [x for x in varied if isinstance(x, nn.Parameter) and x.requires_grad]
        found = [x for x in varied if not isinstance(x, nn.Parameter) and is_one(x)]
        if learned and all(map(is_one, learned)):
            found += [x for x in given if isinstance(x, nn.Parameter)]
    if found:
        layers = [x for x in memo[id(memo)] if isinstance(x, nn.Module)]
        buffers = [b for layer in layers for b in layer.buffers() if b.is_floating_point()]
        found += [b for b in buffers if id(b) in memo and b.numel()]
    return found


def _callbacks_given(net: NeuralNet) -> list[Any]:
    given = net.callbacks if isinstance(net.callbacks, list | tuple) else ()
    return [item[1] if isinstance(item, list | tuple) else item for item in given]


def _as_constructed(callback: Callback, memo: dict[int, Any]) -> Callback:
    """Return a callback without what it has learned in training."""
    expected = inspect.signature(type(callback)).parameters.values()
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in expected)
    names = {parameter.name for parameter in expected}
    params = callback.get_params(deep=False)
    kept = {name: value for name, value in params.items() if takes_all or name in names}
    return type(callback)(**own_copy(kept, memo))


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


def train(
    net: NeuralNet,
    data: TrainingRows,
    phases: list[Phase],
    *,
    epochs: int,
    validation: Any = None,
    progress: Progress | None = None,
) -> NeuralNet:
    """Run the phases over the net, ``epochs`` times.

    Parameters
    ----------
    net : NeuralNet
        An initialised net; trained in place.
    data : TrainingRows
        Where the phases' rows are read from.
    phases : list of Phase
        In the order in which they run.
    epochs : int
        How many times.
    validation : Dataset or None, default=None
        Rows the net's validation callbacks look at, after the last phase of each epoch.
    progress : callable or None, default=None
        What is called at the end of each epoch, see :data:`Progress`.

    Returns
    -------
    NeuralNet
        The same net.

    Raises
    ------
    FloatingPointError
        If a loss is NaN or infinite; the message names phase, epoch and batch.
    ValueError
        If a ``Checkpoint(load_best=True)`` saved nothing in this run.
    KeyboardInterrupt
        If the user interrupts. (skorch swallows it, and a half-trained model then looks finished.)
    """
    net.check_data(data, data.y)  # here a net learns which classes there are
    _warn_of_other_orders(net, phases)
    for _, callback in net.callbacks_:
        if isinstance(callback, NUMBER_LOGGERS):
            callback.keys_ignored_.add("phase")
    with started_together(net, data, phases), main_process_alone(net):
        net.notify("on_train_begin", X=None, y=None)
        _run_epochs(net, data, phases, epochs, validation, progress)
        _refuse_old_checkpoints(net)
        net.notify("on_train_end", X=None, y=None)
    return net


def _run_epochs(
    net: NeuralNet,
    data: TrainingRows,
    phases: list[Phase],
    epochs: int,
    validation: Any,
    progress: Progress | None,
) -> None:
    best_scores = _BestScores(net)
    by_phase = best_scores.by_phase
    done = 0 if progress is None else progress(net, phases, by_phase, 0)
    for epoch in range(1 + done, epochs + 1):
        is_over = _run_epoch(net, data, phases, epoch, validation, best_scores)
        if progress is not None:
            progress(net, phases, by_phase, epochs if is_over else epoch)
        if is_over:
            return


def _run_epoch(
    net: NeuralNet,
    data: TrainingRows,
    phases: list[Phase],
    epoch: int,
    validation: Any,
    best_scores: _BestScores,
) -> bool:
    """Run the phases of one epoch and return whether a callback asked to stop."""
    active = [phase for phase in phases if phase.is_active(epoch) and len(phase.rows)]
    if active:
        _map_parameters(net, active[0], epoch)
    for phase in active:
        is_last = phase is active[-1]
        with best_scores.of(phase):
            if _run_phase(net, data, phase, epoch, is_last, validation if is_last else None):
                return True
    return False


class _BestScores:
    """Lets "best so far" of what is measured on training batches mean: among its own phase.

    Losses of different phases are different quantities. Compared with each other the best one may
    belong to a phase in which nobody looks, and ``Checkpoint(monitor="train_loss_best")`` would
    never save.
    """

    def __init__(self, net: NeuralNet) -> None:
        self.scorings = [
            callback
            for _, callback in net.callbacks_
            if getattr(callback, "on_train", False) and hasattr(callback, "best_score_")
        ]
        self.start = [scoring.best_score_ for scoring in self.scorings]
        self.by_phase: dict[str, list[Any]] = {}

    @contextlib.contextmanager
    def of(self, phase: Phase) -> Iterator[None]:
        """Put the phase's best scores in place, and remember what becomes of them."""
        for scoring, best in zip(
            self.scorings, self.by_phase.get(phase.name, self.start), strict=True
        ):
            scoring.best_score_ = best
        yield
        self.by_phase[phase.name] = [scoring.best_score_ for scoring in self.scorings]


def _map_parameters(net: NeuralNet, first_phase: Phase, epoch: int) -> None:
    """Let callbacks freeze or change weights before an epoch's first phase.

    They count epochs by the length of the history, which has a row for each phase; so they are
    shown one with a row for each epoch.
    """
    mappers = [callback for _, callback in net.callbacks_ if isinstance(callback, ParamMapper)]
    if not mappers:
        return
    history = net.history
    by_epoch = groupby(history.to_list(), key=lambda row: row["epoch"])
    net.history = History([list(rows)[-1] for _, rows in by_epoch])
    net.history.new_epoch()
    net.history.record("epoch", epoch)
    net.history.record("phase", first_phase.name)
    try:
        for mapper in mappers:
            mapper.on_epoch_begin(net)
    finally:
        net.history = history


def _refuse_old_checkpoints(net: NeuralNet) -> None:
    """Raise if the best checkpoint is one of an earlier run: its weights know what is forgotten."""
    for name, callback in net.callbacks_:
        if not isinstance(callback, Checkpoint) or callback.monitor is None:
            continue
        saved = any(row.get(callback.event_name) for row in net.history.to_list())
        if callback.load_best and not saved:
            raise ValueError(
                f"The callback '{name}' is to load the best checkpoint, but saved none in this "
                "run, or does not say when it did; a checkpoint of an earlier run would bring back "
                f"the weights of that time. Its monitor is {callback.monitor!r}: use a column that "
                "the history has in every epoch's last phase, such as 'valid_loss_best' with a "
                "train_split, and give it an event_name; or set load_best=False."
            )


def _run_phase(
    net: NeuralNet,
    data: TrainingRows,
    phase: Phase,
    epoch: int,
    is_last: bool,
    validation: Any,
) -> bool:
    """Run one phase and return whether a callback asked to stop."""
    where = data.positions(phase.rows)
    datasets = {
        "dataset_train": Subset(data, where),  # type: ignore[arg-type]
        "dataset_valid": validation,
    }
    with _listeners(net, phase, is_last):
        with _without_parameter_mappers(net):  # they have heard of the epoch
            net.notify("on_epoch_begin", **datasets)
        net.history.record("epoch", epoch)
        net.history.record("phase", phase.name)
        if phase.work is None:
            _train_on(net, data, where, phase, epoch)
        else:
            _record_work(net, phase, epoch)
        take_over_buffers(net)
        if validation is not None:
            _validate(net, data, validation)
        return _epoch_end_asks_to_stop(net, datasets)


@contextlib.contextmanager
def _listeners(net: NeuralNet, phase: Phase, is_last_phase: bool) -> Iterator[None]:
    """Leave out the callbacks that a phase does not concern.

    Those that count epochs hear an epoch's last phase only; those that score the net's training
    predictions, or follow its optimizer, do not hear of a phase that does without.
    """
    everyone = net.callbacks_
    net.callbacks_ = [
        (name, callback)
        for name, callback in everyone
        if (is_last_phase or not _counts_epochs(callback))
        and not (phase.work is not None and isinstance(callback, NET_FOLLOWERS))
    ]
    try:
        yield
    finally:
        net.callbacks_ = everyone


@contextlib.contextmanager
def _without_parameter_mappers(net: NeuralNet) -> Iterator[None]:
    everyone = net.callbacks_
    net.callbacks_ = [pair for pair in everyone if not isinstance(pair[1], ParamMapper)]
    try:
        yield
    finally:
        net.callbacks_ = everyone


def _counts_epochs(callback: Callback) -> bool:
    # a schedule that steps with every batch has to hear of every batch
    if isinstance(callback, LRScheduler) and callback.step_every == "batch":
        return False
    # it asks for the validation loss, which only an epoch's last phase has
    if isinstance(callback, WandbLogger) and callback.save_model:
        return True
    return isinstance(callback, EPOCH_COUNTERS) or getattr(callback, "once_per_epoch", False)


def _train_on(
    net: NeuralNet,
    data: TrainingRows,
    where: torch.Tensor,
    phase: Phase,
    epoch: int,
) -> None:
    own_step = train_step(net)
    has_own_loss = phase.loss is None and data.sample_weight is None
    positions = where[:0]

    def batches() -> Iterator[tuple[Any, torch.Tensor]]:
        nonlocal positions
        order = _training_order(net, where, phase)
        for X, y, fetched in _batches(net, "iterator_train", data, order):
            positions = fetched
            yield X, y

    def checked_step(batch: Any, **_: Any) -> dict[str, Any]:
        if has_own_loss and len(positions) > 1:
            result = own_step(batch)
        else:
            with _changes_of_step(net, data, phase, positions):
                result = own_step(batch)
        if not math.isfinite(result["loss"].item()):
            _raise_not_finite(net, phase.name, epoch)
        return result

    with _rest_step(net) if own_step == net.train_step else contextlib.nullcontext():
        run_epoch(net, batches(), checked_step)


@contextlib.contextmanager
def _rest_step(net: NeuralNet) -> Iterator[None]:
    """Let a net that collects gradients over several batches take a step with the last ones, too.

    The next phase would begin with the gradient of this one's loss; and in one of few rows no step
    would be taken at all.
    """
    optimizers = [getattr(net, name + "_") for name in net._optimizers]
    steps: deque[int] = deque([0], maxlen=1)
    hooks = [  # accelerate wraps optimizers
        getattr(optimizer, "optimizer", optimizer).register_step_post_hook(
            lambda *_: steps.append(len(net.history[-1, "batches"]))
        )
        for optimizer in optimizers
    ]
    yield
    for hook in hooks:
        hook.remove()
    # a scaler's gradients are not to be used as they are
    is_scaled = any(isinstance(value, torch.amp.GradScaler) for value in vars(net).values())
    if steps[0] < len(net.history[-1, "batches"]) and not is_scaled:
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


@contextlib.contextmanager
def _changes_of_step(
    net: NeuralNet, data: TrainingRows, phase: Phase, positions: torch.Tensor
) -> Iterator[None]:
    """Let the net's step be one of the phase."""
    with contextlib.ExitStack() as changes:
        if phase.loss is not None or data.sample_weight is not None:
            changes.enter_context(_replaced_loss(net, data, phase, positions))
        if len(positions) == 1:
            changes.enter_context(batch_norm_frozen(net))
        yield


@contextlib.contextmanager
def batch_norm_frozen(net: NeuralNet) -> Iterator[None]:
    """Let normalisation layers use their running statistics: one row alone has no variance.

    Requests of a single row are common, and torch refuses to normalise them. The hook undoes the
    train mode that each step puts the net in.
    """

    def to_eval(layer: nn.Module, args: Any) -> None:
        layer.training = False

    layers = [layer for layer in net.module_.modules() if isinstance(layer, _BatchNorm)]
    hooks = [layer.register_forward_pre_hook(to_eval) for layer in layers]
    is_compiled = _unwrapped(net.module_) is not net.module_
    try:
        # compiled code does not call hooks
        with torch.compiler.set_stance("force_eager") if is_compiled else contextlib.nullcontext():
            yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _replaced_loss(
    net: NeuralNet, data: TrainingRows, phase: Phase, positions: torch.Tensor
) -> Iterator[None]:
    """Let the net minimise the phase's loss.

    ``get_loss`` is the one place in skorch where a loss can be exchanged while callbacks, history,
    gradient accumulation and mixed precision go on working.
    """
    own_loss = net.get_loss

    def criterion(y_pred: Any, y: torch.Tensor, X: Any) -> torch.Tensor:
        if data.sample_weight is None:
            return own_loss(y_pred, y, X=X, training=True)
        return weighted_loss(net, own_loss, y_pred, y, X, data.sample_weight[positions])

    def get_loss(y_pred: Any, y_true: Any, X: Any = None, **_: Any) -> torch.Tensor:
        y = to_device(y_true, net.device)
        own = partial(criterion, y_pred, y, X)
        if phase.loss is None:
            return own()
        g = to_device(data.g[positions], net.device)
        return phase.loss(Batch(X, y, g, positions, y_pred, own))

    net.get_loss = get_loss
    try:
        yield
    finally:
        del net.__dict__["get_loss"]  # skorch's own __delattr__ would unregister a component


def weighted_loss(
    net: NeuralNet,
    own_loss: Callable[..., torch.Tensor],
    y_pred: Any,
    y: torch.Tensor,
    X: Any,
    weight: torch.Tensor,
) -> torch.Tensor:
    """Return the net's loss with a weight for each row, as if a row of weight 2 were there twice.

    Parameters
    ----------
    net : NeuralNet
        Whose criterion it is.
    own_loss : callable
        The net's ``get_loss``.
    y_pred : tensor or tuple
        What the module returned.
    y : tensor of shape (n,)
        Class numbers.
    X : tensor or dict
        The inputs.
    weight : tensor of shape (n,)
        The weights.

    Returns
    -------
    tensor of shape ()
        The loss; a sum if the criterion is one, and otherwise a mean.
    """
    losses = row_losses(net, partial(own_loss, y_pred, y, X=X, training=True), y)
    weight = weight.to(losses.device, losses.dtype)
    total = (losses * weight).sum()
    if net.criterion_.reduction == "sum":
        return total
    divisor = (weight * row_shares(net, y)).sum()
    return total / divisor.clamp_min(torch.finfo(losses.dtype).tiny)


def row_losses(
    net: NeuralNet, own_loss: Callable[[], torch.Tensor], y: torch.Tensor
) -> torch.Tensor:
    """Return the net's loss of each row, before the criterion reduces it.

    Parameters
    ----------
    net : NeuralNet
        Whose criterion it is.
    own_loss : callable
        Returns the net's loss.
    y : tensor of shape (n,)
        Class numbers.

    Returns
    -------
    tensor of shape (n,)
        A mean over what a row has of its own, or a sum if the criterion is one.

    Raises
    ------
    TypeError
        If the criterion has no ``reduction``.
    ValueError
        If the net's loss is already reduced, by a ``get_loss`` of its own.
    """
    criterion = net.criterion_
    if not hasattr(criterion, "reduction"):
        raise TypeError(
            "The loss of each single row is needed, by the method or for sample_weight, and "
            f"{type(criterion).__name__} has no 'reduction' that could be 'none'. Use a torch loss "
            "such as CrossEntropyLoss."
        )
    reduction, criterion.reduction = criterion.reduction, "none"
    try:
        losses = own_loss()
    finally:
        criterion.reduction = reduction
    if losses.shape[:1] != y.shape[:1]:
        raise ValueError(
            "The loss of each single row is needed, by the method or for sample_weight, and the "
            f"net's get_loss returns the shape {tuple(losses.shape)} for {len(y)} rows with "
            "reduction='none'. Leave it to the criterion to take the mean."
        )
    losses = losses.reshape(len(y), -1)
    return losses.sum(1) if reduction == "sum" else losses.mean(1)


def row_shares(net: NeuralNet, y: torch.Tensor) -> torch.Tensor:
    """Return what each row adds to the number by which the criterion's mean divides.

    Parameters
    ----------
    net : NeuralNet
        Whose criterion it is.
    y : tensor of shape (n,)
        Class numbers.

    Returns
    -------
    tensor of shape (n,)
        The weight of the row's class, 0 if the class is ignored; 1 for other criteria.
    """
    criterion = net.criterion_
    if not isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss):
        return torch.ones_like(y)
    counted = y != criterion.ignore_index
    return counted if criterion.weight is None else counted * criterion.weight[y]


def _record_work(net: NeuralNet, phase: Phase, epoch: int) -> None:
    assert phase.work is not None
    for loss in phase.work(epoch):
        net.history.new_batch()
        net.history.record_batch("train_loss", loss)
        net.history.record_batch("train_batch_size", 1)
        if not np.isfinite(loss):
            _raise_not_finite(net, phase.name, epoch)


def _raise_not_finite(net: NeuralNet, phase: str, epoch: int) -> None:
    batch = len(net.history[-1, "batches"])
    raise FloatingPointError(
        f"The loss is NaN or infinite in phase '{phase}', epoch {epoch}, batch {batch}. "
        "Lower the learning rate, or look for extreme values in X; nothing was changed."
    )


def _validate(net: NeuralNet, data: TrainingRows, validation: Any) -> None:
    if isinstance(getattr(validation, "dataset", validation), InputRows):
        rows = _batches_in_order(net, validation.dataset, torch.as_tensor(validation.indices))
        batches: Iterable[Any] = ((X, y) for X, y, _ in rows)
        if run_of(net) is not None:  # skorch would count the inputs, of which this is a share
            run_epoch(net, batches, net.validation_step, training=False)
            return
    else:  # the user's own validation set, through skorch's own loader
        loader = net.get_iterator(validation, training=False)
        batches = ((data.cast(X), y) for X, y in map(unpack_data, loader))
    net.run_single_epoch(batches, training=False, prefix="valid", step_fn=net.validation_step)


def _epoch_end_asks_to_stop(net: NeuralNet, datasets: dict[str, Any]) -> bool:
    """Notify the callbacks; skorch's way to ask for a stop is to raise KeyboardInterrupt."""
    asks = False
    try:
        net.notify("on_epoch_end", **datasets)
    except KeyboardInterrupt as interrupt:
        if not _was_raised_by_callback(interrupt, net):
            raise
        asks = True
    return asks if run_of(net) is None else bool(from_main_process(asks))


def _was_raised_by_callback(interrupt: KeyboardInterrupt, net: NeuralNet) -> bool:
    trace = interrupt.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_in = None if trace is None else trace.tb_frame.f_locals.get("self")
    return any(raised_in is callback for _, callback in net.callbacks_)


def _ordering(net: NeuralNet, name: str) -> dict[str, Any]:
    """Return the options of a net's loader that ask for another order than ours."""
    ours = {"shuffle": name == "iterator_train"}
    return {
        option: value
        for option, value in net.get_params_for(name).items()
        if option in ORDERING and value is not None and value is not ours.get(option, False)
    }


def _warn_of_other_orders(net: NeuralNet, phases: list[Phase]) -> None:
    is_ours = any(phase.work is None and not phase.own_order for phase in phases)
    unused = [
        f"{name}__{option}"
        for name in (("iterator_train",) if is_ours else ()) + ("iterator_valid",)
        for option in _ordering(net, name)
    ]
    if unused:
        warnings.warn(
            f"{' and '.join(unused)} cannot be kept here: predictions need each row in its place, "
            "and unlearning draws its rows itself; a training loader's order counts in fit alone.",
            stacklevel=2,
        )


def _training_order(net: NeuralNet, where: torch.Tensor, phase: Phase) -> _Order:
    batch_size = phase.batch_size or net.get_params_for("iterator_train").get(
        "batch_size", net.batch_size
    )
    order = _Order(where, phase.weights, batch_size)
    asked = _ordering(net, "iterator_train") if phase.own_order else {}
    if asked:
        asked.setdefault("shuffle", not {"sampler", "batch_sampler"} & asked.keys())
        size = 1 if "batch_sampler" in asked else order.batch_size
        order.sampler = DataLoader(where, size, **asked).batch_sampler  # type: ignore[arg-type]
    return order


def _batches_in_order(net: NeuralNet, data: InputRows, where: torch.Tensor) -> Iterable[Any]:
    batch_size = net.get_params_for("iterator_valid").get("batch_size", net.batch_size)
    order = _Order(where, None, batch_size, shuffle=False)
    # a loader draws a seed for its workers; its own generator keeps that off the global one
    return _batches(net, "iterator_valid", data, order, torch.Generator())


def _batches(
    net: NeuralNet,
    name: str,
    data: InputRows,
    order: _Order,
    generator: torch.Generator | None = None,
) -> Iterable[Any]:
    """Return whole batches, through the net's own kind of loader if it has any work to do."""
    options = _loader_options(net, name)
    generator = options.get("generator", generator)
    batches, seed = order.draw(), _draw_seed(generator)
    is_fetched_here = _does_nothing(getattr(net, name), options)
    if is_fetched_here and data.collate is not None:  # it is of the net's other loader
        data = copy.copy(data)
        data.collate = None
    if (run := run_of(net)) is not None:
        return _shared_batches(run, net, data, batches, None if is_fetched_here else name)
    if is_far(data, net.device) or not is_fetched_here:
        return _loaded(net, name, data, batches, seed)
    if order.sampler is not None:
        return map(data.__getitems__, batches)  # type: ignore[arg-type]
    return data.batches(torch.cat([order.where[:0], *batches]), order.batch_size)


def _loader_options(net: NeuralNet, name: str) -> dict[str, Any]:
    options = net.get_params_for(name)
    return {key: options[key] for key in options if key not in ("batch_size", *ORDERING)}


def _does_nothing(iterator: Any, options: dict[str, Any]) -> bool:
    """Tell whether a net's loader would only fetch what lies in this process's memory."""
    is_plain = all(not value for option, value in options.items() if option != "generator")
    return iterator is DataLoader and is_plain


@contextlib.contextmanager
def inputs_near(net: NeuralNet, data: InputRows) -> Iterator[None]:
    """Read inputs from the net's GPU, if they fit there, or keep the net's own loaders.

    A loader with processes of its own goes without the copy, since they cannot share a GPU's
    memory; kept from one epoch to the next, it need not start them anew (``persistent_workers``).
    """
    if all(
        _does_nothing(getattr(net, name), _loader_options(net, name))
        for name in ("iterator_train", "iterator_valid")
    ):
        with kept_on_gpu(data, net.device):
            yield
        return
    data.loaders = {}
    try:
        yield
    finally:
        data.loaders = None


def own_collate(net: NeuralNet, data: InputRows) -> Callable[[list[Any]], Any] | None:
    """Return how the net's loader for predictions makes a batch of rows; None if as torch does."""
    return _collate_of(net.get_iterator(data, training=False))


def _collate_of(loader: Any) -> Callable[[list[Any]], Any] | None:
    collate = getattr(loader, "collate_fn", default_collate)
    return None if collate is default_collate else collate


def _loaded(
    net: NeuralNet, name: str, data: InputRows, batches: Sequence[torch.Tensor], seed: int
) -> Iterator[Any]:
    """Yield batches as the net's own loader hands them out, with the positions of their rows."""
    loader = _own_loader(net, name, data, batches)
    loader.generator = torch.Generator().manual_seed(seed)
    for (X, y), where in zip(loader, batches, strict=True):
        if type(loader) is not DataLoader and not torch.equal(y.cpu(), data.labels(where)):
            raise ValueError(
                f"{name} ({type(loader).__name__}) does not yield the rows that its batch_sampler "
                "names, in that order, as torch's DataLoader does."
            )
        yield X, y, where


def _own_loader(
    net: NeuralNet, name: str, data: InputRows, batches: Sequence[torch.Tensor]
) -> DataLoader[Any]:
    iterator = getattr(net, name)
    options = {"pin_memory": is_far(data, net.device), **_loader_options(net, name)}
    options.pop("generator", None)
    kept = {} if data.loaders is None else data.loaders
    if name in kept and kept[name][:2] == (iterator, options):
        *_, order, loader = kept[name]
        order[:] = batches
        return loader
    rows, order = copy.copy(data), list(batches)
    rows.loaders = None
    try:
        loader = iterator(rows, batch_sampler=order, **options)
        collate, loader.collate_fn = _collate_of(loader), _inputs_and_labels
    except (TypeError, ValueError, AttributeError) as error:
        raise TypeError(
            f"{name} cannot be told which rows come when ({error}). It must be torch's DataLoader, "
            "or a subclass that takes a batch_sampler."
        ) from error
    # whole batches are fetched, and made the loader's way, by the rows themselves
    rows.collate = collate
    kept[name] = iterator, options, order, loader
    return loader


def _inputs_and_labels(batch: tuple[Any, ...]) -> tuple[Any, ...]:
    return batch[:2]


def _draw_seed(generator: torch.Generator | None) -> int:
    """Draw what a loader draws for its workers."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def _shared_batches(
    run: ParallelRun,
    net: NeuralNet,
    data: InputRows,
    batches: Sequence[torch.Tensor],
    name: str | None,
) -> Iterator[Any]:
    """Yield this process's share of the inputs of each batch, with all its targets.

    What is drawn in common is what one process alone would draw, in the same order.
    """
    where = torch.cat([torch.empty(0, dtype=torch.int64), *batches])
    run.processes.meet(f"visit {len(where)} rows in the order with the checksum {checksum(where)}")
    shares = [run.share_of_batch(len(batch)) for batch in batches]
    own = [share.take(batch) for share, batch in zip(shares, batches, strict=True)]
    draws = isinstance(data.X, Dataset)  # its transforms may
    with run.own_randomness():
        fetched = (
            map(data.__getitems__, own)  # type: ignore[arg-type]
            if name is None
            else _loaded(net, name, data, own, _draw_seed(None))
        )
    for share, batch in zip(shares, batches, strict=True):
        with run.own_randomness() if draws else contextlib.nullcontext():
            X, _, _ = next(fetched)
        X = to_device(X, net.device)
        with run.handing_out(X, share):
            yield X, data.labels(batch), batch


class _Order:
    """The order in which a phase visits its rows.

    Whole index tensors instead of one Python integer a row: that, and fetching whole batches, is
    what keeps the loop as fast as one written by hand.
    """

    def __init__(
        self,
        where: torch.Tensor,
        weights: np.ndarray | None,
        batch_size: int,
        shuffle: bool = True,
    ) -> None:
        self.where = where
        self.weights = None if weights is None else torch.as_tensor(weights, dtype=torch.float64)
        self.batch_size = len(where) if batch_size in (-1, None) else batch_size
        self.shuffle = shuffle
        # the user's own order, by place among ``where``
        self.sampler: Iterable[Iterable[int]] | None = None

    def draw(self) -> Sequence[torch.Tensor]:
        """Return the positions of one epoch in the order of visit, batch by batch."""
        where, n_rows = self.where, len(self.where)
        if self.sampler is not None:
            batches = [where[list(batch)] for batch in self.sampler]
            if not batches:
                raise ValueError("The options of the net's training loader leave no batch of rows.")
            return batches
        if self.weights is not None:
            where = where[draw_by_weight(self.weights, n_rows)]
        elif self.shuffle:
            where = where[torch.randperm(n_rows)]
        return where.split(self.batch_size) if n_rows else ()


def forward(
    net: NeuralNet,
    data: InputRows,
    function: Callable[[Any], torch.Tensor],
    rows: Rows | None = None,
    training: bool = False,
) -> torch.Tensor:
    """Run the net over the rows without gradient and collect ``function(output)``.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.
    data : InputRows
        What is read.
    function : callable
        From the module's output to a tensor with one entry a row.
    rows : ndarray or None, default=None
        Row numbers of ``fit``; None means all rows, in order.
    training : bool, default=False
        Mode of the net.

    Returns
    -------
    tensor
        On the net's device.
    """
    where = torch.arange(len(data)) if rows is None else data.positions(rows)
    step = evaluation_step(net, training)
    collected, done = torch.empty(0), 0
    for X, _, _ in _batches_in_order(net, data, where):
        part = function(step(X)).detach()
        if not done:  # room for all of them at once: joined at the end they would take it twice
            collected = part.new_empty((len(where), *part.shape[1:]))
        collected[done : done + len(part)] = part
        done += len(part)
    return collected
