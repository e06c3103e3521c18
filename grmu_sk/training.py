"""The one training loop: phases over an initialised skorch net.

Every way of training in this package, from the first fit to the most involved unlearning method,
is a list of :class:`Phase` objects handed to :func:`train`. A phase names the rows it sees, how
they are drawn and what is minimised; everything else (device, optimizer, gradient clipping,
learning-rate schedule, logging, progress bars) stays the net's own, because each batch goes
through the net's ``train_step``.

In each epoch the active phases run one after another. Each writes one row to the net's history,
with the columns ``epoch`` and ``phase``.

The loop knows no file and no other process. Where several processes train one net
(:mod:`grmu_sk.distributed`), the net brings a run that is asked for batches and for what must be
decided together. A batch then holds the targets of all its rows, but of the inputs a share.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from traceback import walk_tb
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
    ParamMapper,
    PrintLog,
    WandbLogger,
)
from skorch.dataset import unpack_data
from skorch.history import History
from skorch.utils import TeeGenerator, to_device
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Subset

from .loading import batch_size_of, batches_in_order, cut_up, fetched, orders_of
from .net_copies import parts_of
from .outputs import run_of
from .randomness import draw_by_weight
from .rows import InputRows, Rows, TrainingRows

# These count epochs, so they are told about an epoch once, at its last phase; all other callbacks
# see every phase, as they would see an epoch of their own. A callback of one's own joins them
# with a class attribute ``once_per_epoch = True``.
EPOCH_COUNTERS = (LRScheduler, EarlyStopping, Checkpoint, WandbLogger)
NET_FOLLOWERS = (EpochScoring, LRScheduler)
SCORING_OF_BATCHES = (EpochScoring.on_batch_end, BatchScoring.on_batch_end)

Step = Callable[[Any], Any]


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
    share : object or None
        Of several processes, what ``X`` is of the batch.
    """

    X: Any
    y: torch.Tensor
    g: torch.Tensor
    positions: torch.Tensor
    output: Any
    criterion: Callable[[], torch.Tensor]
    share: Any = None

    def each_row(self, function: Callable[[Any, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Return ``function(X, y)``, which looks at each row by itself, for the whole batch."""
        if self.share is None:
            return function(self.X, self.y)
        whole: torch.Tensor = self.share.join(function(self.X, self.share.take(self.y)))
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
        is_over = self.last_epoch is not None and epoch > self.last_epoch
        return len(self.rows) > 0 and self.first_epoch <= epoch and not is_over


#: Is called with the net and its phases before the first epoch, with a 0, and with the number of an
#: epoch after it. Returns the number of the last finished epoch, whose state it may have put back.
Progress = Callable[[NeuralNet, Sequence[Phase], int], int]


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
        if hasattr(callback, "keys_ignored_") and not isinstance(callback, PrintLog):
            callback.keys_ignored_.add("phase")  # the others log every column as a number
    run = run_of(net)
    with contextlib.nullcontext() if run is None else run.training(net, data, phases):
        net.notify("on_train_begin", X=None, y=None)
        done = 0 if progress is None else progress(net, phases, 0)
        for epoch in range(1 + done, epochs + 1):
            active = [phase for phase in phases if phase.is_active(epoch)]
            if active:
                _map_parameters(net, active[0], epoch)
            is_over = False
            for phase in active:
                last = (True, validation) if phase is active[-1] else (False, None)
                is_over = is_over or _run_phase(net, data, phase, epoch, *last)
            if progress is not None:
                progress(net, phases, epochs if is_over else epoch)
            if is_over:
                break
        _refuse_old_checkpoints(net)
        net.notify("on_train_end", X=None, y=None)
    return net


def _warn_of_other_orders(net: NeuralNet, phases: list[Phase]) -> None:
    is_ours = any(phase.work is None and not phase.own_order for phase in phases)
    names = ["iterator_train"] * is_ours + ["iterator_valid"]
    if unused := [f"{name}__{option}" for name in names for option in orders_of(net, name)]:
        warnings.warn(
            f"{' and '.join(unused)} cannot be kept here: a loader's order counts in fit alone.",
            stacklevel=2,
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
        net.notify("on_epoch_begin", **datasets)
        net.history.record("epoch", epoch)
        net.history.record("phase", phase.name)
        if phase.work is None:
            _train_on(net, data, where, phase, epoch)
        else:
            _record_work(net, phase, epoch)
        run = run_of(net)
        if run is not None:
            run.take_over(net)
        if validation is not None:
            run_epoch(net, validation_batches(net, data, validation), net.validation_step, False)
        asks = _epoch_end_asks_to_stop(net, datasets)
    return asks if run is None else bool(run.from_main(asks))


def validation_batches(net: NeuralNet, data: TrainingRows, validation: Any) -> Iterator[Any]:
    """Return inputs and labels of validation rows, in batches as the net's predictions have them.

    Parameters
    ----------
    net : NeuralNet
        The net.
    data : TrainingRows
        What says how inputs are cast.
    validation : Dataset
        A Subset of such rows, or a set of the user's own.

    Returns
    -------
    iterator of tuple
        The batches.
    """
    if isinstance(getattr(validation, "dataset", validation), InputRows):
        where = torch.as_tensor(validation.indices)
        return ((X, y) for X, y, _ in batches_in_order(net, validation.dataset, where))
    # the user's own validation set, through skorch's own loader
    loader = net.get_iterator(validation, training=False)
    return ((data.cast(X), y) for X, y in map(unpack_data, loader))


# callbacks ---------------------------------------------------------------------------------------


def _map_parameters(net: NeuralNet, first_phase: Phase, epoch: int) -> None:
    """Let callbacks freeze or change weights before an epoch's first phase.

    They count epochs by the length of the history, which has a row for each phase; so they are
    shown one with a row for each epoch.
    """
    mappers = [callback for _, callback in net.callbacks_ if isinstance(callback, ParamMapper)]
    if not mappers:
        return
    history, begun = net.history, {"epoch": epoch, "phase": first_phase.name, "batches": []}
    by_epoch = {row["epoch"]: row for row in [*history.to_list(), begun]}
    net.history = History(by_epoch.values())
    for mapper in mappers:
        mapper.on_epoch_begin(net)
    net.history = history


@contextlib.contextmanager
def _listeners(net: NeuralNet, phase: Phase, is_last_phase: bool) -> Iterator[None]:
    """Leave out the callbacks that a phase does not concern.

    Those that count epochs hear an epoch's last phase only; those that map parameters have heard of
    the epoch; those that score the net's training predictions, or follow its optimizer, do not
    hear of a phase that does without. Losses of different phases are different quantities: the
    best one so far is looked for among last phases alone.
    """
    everyone = net.callbacks_
    scorings = [callback for _, callback in everyone if getattr(callback, "on_train", False)]
    best = [None if is_last_phase else getattr(one, "best_score_", None) for one in scorings]
    for scoring, score in zip(scorings, best, strict=True):
        if score is not None:
            scoring.best_score_ = -np.inf if scoring.lower_is_better else np.inf
    net.callbacks_ = [
        (name, callback)
        for name, callback in everyone
        if (is_last_phase or not _counts_epochs(callback))
        and not (phase.work is not None and isinstance(callback, NET_FOLLOWERS))
        and not isinstance(callback, ParamMapper)
    ]
    try:
        yield
    finally:
        net.callbacks_ = everyone
        for scoring, score in zip(scorings, best, strict=True):
            if score is not None:
                scoring.best_score_ = score


def _counts_epochs(callback: Callback) -> bool:
    # a schedule that steps with every batch has to hear of every batch
    if isinstance(callback, LRScheduler) and callback.step_every == "batch":
        return False
    return isinstance(callback, EPOCH_COUNTERS) or getattr(callback, "once_per_epoch", False)


def _epoch_end_asks_to_stop(net: NeuralNet, datasets: dict[str, Any]) -> bool:
    """Notify the callbacks; skorch's way to ask for a stop is to raise KeyboardInterrupt."""
    try:
        net.notify("on_epoch_end", **datasets)
    except KeyboardInterrupt as interrupt:
        *_, (frame, _) = walk_tb(interrupt.__traceback__)
        if not any(frame.f_locals.get("self") is callback for _, callback in net.callbacks_):
            raise  # it was the user
        return True
    return False


def _refuse_old_checkpoints(net: NeuralNet) -> None:
    """Raise if the best checkpoint is one of an earlier run: its weights know what is forgotten."""
    for name, callback in net.callbacks_:
        if not (isinstance(callback, Checkpoint) and callback.monitor and callback.load_best):
            continue
        if not any(row.get(callback.event_name) for row in net.history.to_list()):
            raise ValueError(
                f"The callback '{name}' is to load the best checkpoint, noted none in this run: "
                "give it an event_name, and a monitor that the last phase has."
            )


# one phase ---------------------------------------------------------------------------------------


def _train_on(
    net: NeuralNet, data: TrainingRows, where: torch.Tensor, phase: Phase, epoch: int
) -> None:
    own_step = train_step(net)
    positions = where[:0]

    def batches() -> Iterator[tuple[Any, torch.Tensor]]:
        nonlocal positions
        for X, y, visited in fetched(net, "iterator_train", data, _drawn(net, where, phase)):
            positions = visited
            yield X, y

    def checked_step(batch: Any, **_: Any) -> dict[str, Any]:
        with batch_norm_frozen(net) if len(positions) == 1 else contextlib.nullcontext():
            result: dict[str, Any] = own_step(batch)
        if not math.isfinite(result["loss"].item()):
            _raise_not_finite(net, phase.name, epoch)
        return result

    with contextlib.ExitStack() as changes:
        if phase.loss is not None or data.sample_weight is not None:
            changes.enter_context(_replaced_loss(net, data, phase, lambda: positions))
        if own_step == net.train_step:
            changes.enter_context(_rest_step(net))
        run_epoch(net, batches(), checked_step)


def _drawn(net: NeuralNet, where: torch.Tensor, phase: Phase) -> Sequence[torch.Tensor]:
    """Draw positions of one epoch in the order of visit, batch by batch."""
    size = phase.batch_size or batch_size_of(net, "iterator_train")
    asked = orders_of(net, "iterator_train") if phase.own_order else {}
    if asked:
        asked.setdefault("shuffle", not {"sampler", "batch_sampler"} & asked.keys())
        size = 1 if "batch_sampler" in asked else len(where) if size in (-1, None) else size
        order: Any = DataLoader(where, size, **asked).batch_sampler  # type: ignore[arg-type]
        batches = [where[list(batch)] for batch in order]
        if not batches:
            raise ValueError("The options of the net's training loader leave no batch of rows.")
        return batches
    if phase.weights is None:
        return cut_up(where[torch.randperm(len(where))], size)
    weights = torch.as_tensor(phase.weights, dtype=torch.float64)
    return cut_up(where[draw_by_weight(weights, len(where))], size)


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
        "Lower the learning rate, or look for extreme values in X."
    )


@contextlib.contextmanager
def _rest_step(net: NeuralNet) -> Iterator[None]:
    """Let a net that collects gradients over several batches take a step with the last ones, too.

    The next phase would begin with the gradient of this one's loss; and in one of few rows no step
    would be taken at all.
    """
    optimizers = [getattr(net, name + "_") for name in net._optimizers]
    steps: deque[int] = deque([0], maxlen=1)
    hooks = [
        optimizer.register_step_post_hook(lambda *_: steps.append(len(net.history[-1, "batches"])))
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
def batch_norm_frozen(net: NeuralNet) -> Iterator[None]:
    """Let normalisation layers use their running statistics: one row alone has no variance.

    Requests of a single row are common, and torch refuses to normalise them. The hook undoes the
    train mode that each step puts the net in.
    """

    def to_eval(layer: nn.Module, args: Any) -> None:
        layer.training = False

    layers = [layer for layer in net.module_.modules() if isinstance(layer, _BatchNorm)]
    hooks = [layer.register_forward_pre_hook(to_eval) for layer in layers]
    is_compiled = hasattr(net.module_, "_orig_mod")
    try:
        # compiled code does not call hooks
        with torch.compiler.set_stance("force_eager") if is_compiled else contextlib.nullcontext():
            yield
    finally:
        for hook in hooks:
            hook.remove()


# losses ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _replaced_loss(
    net: NeuralNet, data: TrainingRows, phase: Phase, current: Callable[[], torch.Tensor]
) -> Iterator[None]:
    """Let the net minimise the phase's loss.

    ``get_loss`` is the one place in skorch where a loss can be exchanged while callbacks, history,
    gradient accumulation and mixed precision go on working.
    """
    own_loss, run = net.get_loss, run_of(net)

    def get_loss(y_pred: Any, y_true: Any, X: Any = None, **_: Any) -> torch.Tensor:
        positions = current()
        y = to_device(y_true, net.device)
        own = partial(own_loss, y_pred, y, X=X, training=True)
        if data.sample_weight is not None:
            own = partial(weighted_loss, net, own, y, data.sample_weight[positions])
        if phase.loss is None:
            return own()
        g = to_device(data.g[positions], net.device)
        share = None if run is None else run.share_of(X)
        return phase.loss(Batch(X, y, g, positions, y_pred, own, share))

    net.get_loss = get_loss
    try:
        yield
    finally:
        del net.__dict__["get_loss"]  # skorch's own __delattr__ would unregister a component


def weighted_loss(
    net: NeuralNet, own_loss: Callable[[], torch.Tensor], y: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Return the net's loss with a weight for each row, as if a row of weight 2 were there twice.

    Parameters
    ----------
    net : NeuralNet
        Whose criterion it is.
    own_loss : callable
        Returns the net's loss.
    y : tensor of shape (n,)
        Class numbers.
    weight : tensor of shape (n,)
        The weights.

    Returns
    -------
    tensor of shape ()
        The loss; a sum if the criterion is one, and otherwise a mean.
    """
    losses = row_losses(net, own_loss, y)
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
    AttributeError
        If the criterion has no ``reduction``.
    ValueError
        If the net's loss is already reduced, by a ``get_loss`` of its own.
    """
    criterion = net.criterion_
    reduction, criterion.reduction = criterion.reduction, "none"
    try:
        losses = own_loss()
    finally:
        criterion.reduction = reduction
    if losses.shape[:1] != y.shape[:1]:
        raise ValueError("The loss of each row is needed: leave the mean to the net's criterion.")
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


def forward(
    net: NeuralNet,
    data: InputRows,
    function: Callable[[Any], torch.Tensor],
    rows: Rows | None = None,
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

    Returns
    -------
    tensor
        On the net's device.
    """
    where = torch.arange(len(data)) if rows is None else data.positions(rows)
    collected, done = torch.empty(0), 0
    for X, _, _ in batches_in_order(net, data, where):
        part = function(net.evaluation_step((X, None))).detach()
        if not done:  # room for all of them at once: joined at the end they would take it twice
            collected = part.new_empty((len(where), *part.shape[1:]))
        collected[done : done + len(part)] = part
        done += len(part)
    return collected


# steps at the cost of a loop written by hand -----------------------------------------------------

# A step of a small net takes 0.2 ms, and skorch's own bookkeeping half as long again. Most of it
# has no effect: callbacks are told what they do not listen to, and before each step every layer is
# put into the mode it is in. The functions here do what skorch's methods of the same names do, in
# the same order and through the same hooks, and leave that out. A net whose class overrides one of
# those methods is left to it.


def run_epoch(net: NeuralNet, batches: Iterable[Any], step: Step, training: bool = True) -> None:
    """Take a step with each batch, as ``NeuralNet.run_single_epoch`` does.

    The size of a batch is the number of its targets.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.
    batches : iterable of (X, y)
        ``y`` is a tensor with an entry for each row.
    step : callable
        From a batch to a dictionary with the loss of the batch and what the module predicts.
    training : bool, default=True
        Whether the steps train.
    """
    prefix = "train" if training else "valid"
    if not _is_skorchs_own(net, "run_single_epoch"):
        net.run_single_epoch(batches, training=training, prefix=prefix, step_fn=step)
        return
    begin_is_heard, end_is_heard = (
        not training or _is_heard(net, f"on_batch_{when}") for when in ("begin", "end")
    )
    n_batches = 0
    for batch in batches:
        if begin_is_heard:
            net.notify("on_batch_begin", batch=batch, training=training)
        else:
            net.history.new_batch()
        result = step(batch)
        net.history.record_batch(f"{prefix}_loss", result["loss"].item())
        net.history.record_batch(f"{prefix}_batch_size", len(batch[1]))
        if end_is_heard:
            net.notify("on_batch_end", batch=batch, training=training, **result)
        n_batches += 1
    net.history.record(f"{prefix}_batch_count", n_batches)


def train_step(net: NeuralNet) -> Step:
    """Return what is the same as ``net.train_step`` until the next change of net or callbacks.

    Parameters
    ----------
    net : NeuralNet
        An initialised net.

    Returns
    -------
    callable
        From a batch (X, y) to a dictionary with ``loss`` and ``y_pred``.
    """
    if not _is_skorchs_own(net, "train_step", "train_step_single", "_set_training"):
        return net.train_step
    set_training, infer = _set_training(net), _inference(net)
    gradients_are_heard = _is_heard(net, "on_grad_computed")

    def step(batch: Any) -> Any:
        steps = net.get_train_step_accumulator()

        def loss_with_gradients() -> torch.Tensor:  # some optimizers ask for it several times
            net._zero_grad_optimizer()
            set_training()
            X, y = batch
            y_pred = infer(X)
            loss = net.get_loss(y_pred, y, X=X, training=True)
            loss.backward()
            steps.store_step({"loss": loss, "y_pred": y_pred})
            if gradients_are_heard:
                parameters = TeeGenerator(net.get_all_learnable_params())
                net.notify(
                    "on_grad_computed", named_parameters=parameters, batch=batch, training=True
                )
            return loss

        net._step_optimizer(loss_with_gradients)
        return steps.get_step()

    return step


def _inference(net: NeuralNet) -> Step:
    """Return what is the same as ``net.infer`` until the next change of the net."""
    module, device = net.module_, net.device
    if device is None or not _is_skorchs_own(net, "infer"):
        return net.infer
    return lambda X: module(X.to(device)) if type(X) is torch.Tensor else net.infer(X)


def _set_training(net: NeuralNet) -> Callable[[], None]:
    """Put all layers of a net into training mode; return what does so if one has left it."""
    modules = [getattr(net, f"{name}_") for name in parts_of(net)]
    layers = [layer for module in modules for layer in module.modules()]

    def set_training(always: bool = False) -> None:
        # a layer with a say in its mode, which stays frozen for example, is asked every time
        if always or not all(layer.training for layer in layers):
            for module in modules:
                module.train()

    set_training(always=True)
    return set_training


def _is_heard(net: NeuralNet, event: str) -> bool:
    """Tell whether anything happens when the net's callbacks are told of this event in training."""
    return not _is_skorchs_own(net, "notify", event) or any(
        _listens(callback, event) for _, callback in net.callbacks_
    )


def _listens(callback: Any, event: str) -> bool:
    if event in getattr(callback, "__dict__", {}):
        return True
    method = getattr(type(callback), event, None)
    if method in SCORING_OF_BATCHES and callback.on_train is False:
        return False
    return method is not getattr(Callback, event)


def _is_skorchs_own(net: NeuralNet, *methods: str) -> bool:
    """Tell whether neither the net nor its class has its own version of these methods."""
    return all(
        getattr(type(net), method) is getattr(NeuralNet, method) and method not in vars(net)
        for method in methods
    )
