"""How far the training of a request has come, stored as it goes on and taken up again.

What a method sets up follows from the model it starts from and the seed. A resumed request
therefore sets up everything anew, as if it began, goes to the place that was reached, and puts the
stored state on top: of the net, of the callbacks, of what phases learn beside the net, and of the
random generators.

:func:`grmu_sk.training.train` is told of it by :class:`RunProgress`, one for each net that is
trained; :class:`NoProgress` is the same for those who store nothing.
"""

from __future__ import annotations

import copy
import inspect
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from skorch import NeuralNet
from skorch.callbacks import (
    Callback,
    EpochTimer,
    MlflowLogger,
    NeptuneLogger,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    WandbLogger,
)
from skorch.history import History
from torch import nn

from .checkpoint import CheckpointError, UnlearningCheckpoint
from .utils._description import describe
from .utils._random import random_states, set_random_states
from .utils._state_tree import is_plain

if TYPE_CHECKING:
    from .training import Phase

__all__ = ["Attributes", "NoProgress", "Progress", "RunProgress", "Stateful", "request_progress"]

# These only tell others what happens; resumed, they go on telling.
REPORTERS = (
    EpochTimer,
    MlflowLogger,
    NeptuneLogger,
    PrintLog,
    ProgressBar,
    SacredLogger,
    TensorBoard,
    WandbLogger,
)


class Stateful(Protocol):
    """What has a state that can be taken and put back, as torch's modules and optimizers have."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Put a state back."""


class Attributes:
    """The state of an object that consists of some of its attributes.

    Parameters
    ----------
    owner : object
        Whose.
    *names : str
        Attributes that hold tensors, numbers, or lists of these.
    """

    def __init__(self, owner: Any, *names: str) -> None:
        self.owner = owner
        self.names = names

    def state_dict(self) -> dict[str, Any]:
        """Return the attributes by name; one that is not set yet is left out."""
        held = vars(self.owner)
        return {name: held[name] for name in self.names if name in held}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the attributes."""
        vars(self.owner).update(state_dict)


class NoProgress:
    """Stores nothing, and costs nothing."""

    def was_finished(self) -> bool:
        """Tell whether this run has ended in an earlier process."""
        return False

    def begin(self, best_scores: Any) -> None:
        """Take note that the callbacks have been told that training begins."""

    def has_begun(self, epoch: int) -> bool:
        """Tell whether an earlier process has begun this epoch."""
        return False

    def is_done(self, epoch: int, phase: Phase) -> bool:
        """Tell whether an earlier process has done this phase of this epoch."""
        return False

    def batches(self, draw: Callable[[], Iterable[Any]], n_batches: int) -> Iterable[Any]:
        """Return the batches of a pass."""
        return draw()

    def end_pass(self) -> None:
        """Take note that all batches of a pass are through."""

    def end_phase(self, epoch: int, phase: Phase) -> None:
        """Take note that a phase is through."""

    def finish(self) -> None:
        """Take note that the net is trained."""


class Progress:
    """What has been done of a request, in this process and in earlier ones.

    Parameters
    ----------
    checkpoint : UnlearningCheckpoint
        Where it is stored.
    identity : dict
        What the run depends on.
    stored : dict or None
        What an earlier process has stored.
    """

    def __init__(
        self,
        checkpoint: UnlearningCheckpoint,
        identity: dict[str, Any],
        stored: dict[str, Any] | None,
    ) -> None:
        self.checkpoint = checkpoint
        self.identity = identity
        self.finished: list[dict[str, Any]] = [] if stored is None else stored["finished"]
        self.current = None if stored is None else stored["current"]
        self.n_runs = 0
        self.n_steps = 0
        self._wrote_at = time.monotonic()

    def run(self, net: NeuralNet, phases: Sequence[Phase]) -> RunProgress:
        """Return the progress of the next net that is trained."""
        run = RunProgress(self, net, phases, number=self.n_runs)
        self.n_runs += 1
        return run

    def step(self) -> None:
        """Count a training step."""
        self.n_steps += 1

    def is_due(self) -> bool:
        """Tell whether it is time to store the state."""
        steps, seconds = self.checkpoint.every_steps, self.checkpoint.every_seconds
        return (steps is not None and self.n_steps >= steps) or (
            seconds is not None and time.monotonic() - self._wrote_at >= seconds
        )

    def store(self, current: dict[str, Any] | None) -> None:
        """Write down where we are."""
        self.checkpoint._store(
            {"identity": self.identity, "finished": self.finished, "current": current}
        )
        self.n_steps, self._wrote_at = 0, time.monotonic()


class RunProgress(NoProgress):
    """The progress of one net.

    Parameters
    ----------
    progress : Progress
        Of the request.
    net : NeuralNet
        The net that is trained.
    phases : list of Phase
        What it is trained in.
    number : int
        How many nets were trained before.
    """

    def __init__(
        self, progress: Progress, net: NeuralNet, phases: Sequence[Phase], number: int
    ) -> None:
        self.progress = progress
        self.net = net
        self.phases = list(phases)
        self.number = number
        self.best_scores: Any = None
        self.n_batches = 0
        self.given: dict[str, str] = {}
        self.resumed: dict[str, Any] | None = None
        if number == len(progress.finished):
            self.resumed, progress.current = progress.current, None
        self.epoch, self.phase = 1, 0  # where we are
        _check_can_be_kept(net)

    def was_finished(self) -> bool:
        """Put back what an earlier process made of this net, if it has finished it."""
        if self.number >= len(self.progress.finished):
            return False
        state = self.progress.finished[self.number]
        _load_modules(self.net, state["modules"])
        self.net.history = History(state["history"])
        set_random_states(state["random"])
        return True

    def begin(self, best_scores: Any) -> None:
        """Put back the state at the place that was reached, or see that a state can be kept."""
        self.best_scores = best_scores
        self.given = _given(self.net)
        if self.resumed is None:
            self.progress.checkpoint._check(self._state())
        else:  # callbacks are told that the pass begins before it is put back once more
            self._put_back(copy.deepcopy(self.resumed["state"]))

    def has_begun(self, epoch: int) -> bool:
        """Tell whether an earlier process has begun this epoch."""
        return self.resumed is not None and epoch <= self.resumed["epoch"]

    def is_done(self, epoch: int, phase: Phase) -> bool:
        """Tell whether an earlier process has done this phase of this epoch."""
        self.epoch, self.phase = epoch, self._number(phase)
        if self.resumed is None:
            return False
        return (self.epoch, self.phase) < (self.resumed["epoch"], self.resumed["phase"])

    def batches(self, draw: Callable[[], Iterable[Any]], n_batches: int) -> Iterator[Any]:
        """Yield the batches of a pass, without those that an earlier process has trained on."""
        self.n_batches = 0
        order = random_states(self.net.device), _loader_states(self.net)
        resumed, self.resumed = self.resumed, None
        if resumed is None or resumed["n_batches"] == 0:
            batches = iter(draw())
        else:
            order = resumed["order"]
            set_random_states(order[0])
            _set_loader_states(self.net, order[1])
            batches = iter(draw())
            for _ in range(resumed["n_batches"]):
                next(batches)
            self.n_batches = resumed["n_batches"]
            self._put_back(resumed["state"])
        while True:
            # after the last batch the end of the phase is waited for
            if 0 < self.n_batches < n_batches and self.progress.is_due():
                self._store(self.phase, order)
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch
            self.n_batches += 1
            self.progress.step()

    def end_pass(self) -> None:
        """Let the history count the batches of the earlier process too."""
        self.net.history.record("train_batch_count", self.n_batches)

    def end_phase(self, epoch: int, phase: Phase) -> None:
        """Store the state if it is time to."""
        self.resumed = None
        self.n_batches = 0
        if phase.work is not None:
            self.progress.step()  # of whatever kind
        if self.progress.is_due():
            self._store(self._number(phase) + 1)

    def finish(self) -> None:
        """Remember the trained net."""
        finished = {
            "modules": copy.deepcopy(_modules(self.net)),
            "history": self.net.history.to_list(),
            "random": random_states(self.net.device),
        }
        self.progress.finished.append(finished)
        if self.progress.is_due():
            self.progress.store(None)

    def _number(self, phase: Phase) -> int:
        return next(number for number, known in enumerate(self.phases) if known is phase)

    def _store(self, phase: int, order: Any = None) -> None:
        self.progress.store(
            {
                "epoch": self.epoch,
                "phase": phase,
                "n_batches": self.n_batches,
                "order": order,
                "state": self._state(),
            }
        )

    def _state(self) -> dict[str, Any]:
        for name, given in _given(self.net).items():
            if self.given[name] != given:
                raise CheckpointError(
                    f"The callback {name!r} changes what its constructor was given, which a "
                    "checkpoint does not keep. Let it change attributes of its own (name_), or "
                    "have the methods state_dict() and load_state_dict()."
                )
        return {
            "modules": _modules(self.net),
            "gradients": _gradients(self.net),
            "optimizers": {
                name: getattr(self.net, name + "_").state_dict() for name in self.net._optimizers
            },
            "callbacks": {
                name: _callback_state(name, callback) for name, callback in self.net.callbacks_
            },
            "history": self.net.history.to_list(),
            "best_scores": self.best_scores.by_phase,
            "phases": [part.state_dict() for part in self._learned()],
            "random": random_states(self.net.device),
            "loaders": _loader_states(self.net),
        }

    def _put_back(self, state: dict[str, Any]) -> None:
        _load_modules(self.net, state["modules"])
        _load_gradients(self.net, state["gradients"])
        for name, optimizer in state["optimizers"].items():
            getattr(self.net, name + "_").load_state_dict(optimizer)
        for name, callback in self.net.callbacks_:
            _load_callback(name, callback, state["callbacks"][name])
        self.net.history = History(state["history"])
        self.best_scores.by_phase = state["best_scores"]
        for part, learned in zip(self._learned(), state["phases"], strict=True):
            part.load_state_dict(learned)
        _set_loader_states(self.net, state["loaders"])
        set_random_states(state["random"])

    def _learned(self) -> list[Stateful]:
        """Return what the phases change beside the net, each thing once."""
        parts = {id(part): part for phase in self.phases for part in phase.state}
        return list(parts.values())


@contextmanager
def request_progress(
    checkpoint: UnlearningCheckpoint | None, identity: Callable[[], dict[str, Any]]
) -> Iterator[Progress | None]:
    """Yield the progress of a request, and delete the file when the block has ended well.

    Parameters
    ----------
    checkpoint : UnlearningCheckpoint or None
        Where it is stored; None if it is not.
    identity : callable
        Returns what the run depends on, as JSON.

    Yields
    ------
    Progress or None
        The progress.
    """
    if checkpoint is None:
        yield None
        return
    known = identity()
    progress = Progress(checkpoint, known, checkpoint._open(known))
    try:
        yield progress
    except FloatingPointError:
        checkpoint._discard()  # it would only lead there again
        raise
    if progress.n_runs == 0:
        warnings.warn(
            "Nothing was stored in the checkpoint: the method does not hand request.progress to "
            "grmu_sk.training.train. If it is killed it starts from the beginning.",
            UserWarning,
            stacklevel=5,
        )
    if not checkpoint.keep:
        checkpoint._discard()


# the net -----------------------------------------------------------------------------------------


def _check_can_be_kept(net: NeuralNet) -> None:
    accelerator = getattr(net, "accelerator", None)
    if accelerator is None:
        return
    if accelerator.num_processes > 1 or getattr(accelerator, "scaler", None) is not None:
        raise CheckpointError(
            "The net is trained in several processes, or in float16 with a gradient scaler, by an "
            "accelerator; that state cannot be kept. Call unlearn without a checkpoint."
        )


def _parts(net: NeuralNet) -> Iterator[tuple[str, nn.Module]]:
    for name in (*net._modules, *net._criteria):  # skorch's list of what has weights
        part = getattr(net, name + "_")
        if isinstance(part, nn.Module):
            yield name, part


def _modules(net: NeuralNet) -> dict[str, Any]:
    """Return all weights and buffers, and which weights are frozen."""
    return {
        name: {
            "state": dict(part.state_dict()),
            "other_buffers": _other_buffers(part),
            "trains": {name: weight.requires_grad for name, weight in part.named_parameters()},
        }
        for name, part in _parts(net)
    }


def _load_modules(net: NeuralNet, state: dict[str, Any]) -> None:
    for name, part in _parts(net):
        current = part.state_dict()  # which knows the versions of its layers
        current.update(state[name]["state"])
        part.load_state_dict(current)
        other = state[name]["other_buffers"]
        for buffer_name, buffer in _other_buffers(part).items():
            buffer.copy_(other[buffer_name])
        for weight_name, weight in part.named_parameters():
            weight.requires_grad_(state[name]["trains"][weight_name])


def _other_buffers(part: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers that are not in the state_dict (``persistent=False``)."""
    known = part.state_dict(keep_vars=True).keys()
    return {name: value for name, value in part.named_buffers() if name not in known}


def _gradients(net: NeuralNet) -> list[torch.Tensor | None] | None:
    """Return the gradients of a net that may collect them over several steps."""
    if type(net).train_step is NeuralNet.train_step and (
        type(net).train_step_single is NeuralNet.train_step_single
    ):
        return None  # each step begins by deleting them
    return [weight.grad for weight in _trained(net)]


def _load_gradients(net: NeuralNet, gradients: list[torch.Tensor | None] | None) -> None:
    if gradients is not None:
        for weight, gradient in zip(_trained(net), gradients, strict=True):
            weight.grad = gradient


def _trained(net: NeuralNet) -> Iterator[torch.Tensor]:
    for name in net._optimizers:
        for group in getattr(net, name + "_").param_groups:
            yield from group["params"]


def _loader_states(net: NeuralNet) -> list[torch.Tensor]:
    """Return the states of the generators that the net's loaders were given."""
    return [generator.get_state() for generator in _loader_generators(net)]


def _set_loader_states(net: NeuralNet, states: list[torch.Tensor]) -> None:
    for generator, state in zip(_loader_generators(net), states, strict=True):
        generator.set_state(state)


def _loader_generators(net: NeuralNet) -> list[torch.Generator]:
    given = [net.get_params_for(name).get("generator") for name in LOADERS]
    return [generator for generator in given if generator is not None]


LOADERS = ("iterator_train", "iterator_valid")


# callbacks ---------------------------------------------------------------------------------------


def _callback_state(name: str, callback: Callback) -> dict[str, Any]:
    """Return the state of a callback: its own ``state_dict``, or its attributes.

    Functions and what the constructor was given are there again in the next process.
    """
    if isinstance(callback, REPORTERS):
        return {}
    if _is_stateful(callback):
        return {"own": callback.state_dict()}
    state: dict[str, Any] = {"states": {}, "callbacks": {}, "values": {}}
    for attribute, value in vars(callback).items():
        if _is_stateful(value):
            entries = value.state_dict().items()
            # a schedule's own functions are there again as well
            state["states"][attribute] = {k: v for k, v in entries if not callable(v)}
        elif isinstance(value, Callback):
            state["callbacks"][attribute] = _callback_state(f"{name}.{attribute}", value)
        elif attribute in _arguments(callback):
            continue  # a file must not say where, for example, a callback writes
        elif is_plain(value):
            state["values"][attribute] = value
        elif not callable(value):
            raise CheckpointError(
                f"The callback '{name}' ({type(callback).__name__}) holds {attribute!r}, a "
                f"{type(value).__name__}, which a checkpoint cannot keep. Give the callback the "
                "methods state_dict() and load_state_dict(), or call unlearn without a checkpoint."
            )
    return state


def _load_callback(name: str, callback: Callback, state: dict[str, Any]) -> None:
    if "own" in state:
        callback.load_state_dict(state["own"])
        return
    for attribute, inner in state.get("states", {}).items():
        getattr(callback, attribute).load_state_dict(inner)
    for attribute, inner in state.get("callbacks", {}).items():
        _load_callback(f"{name}.{attribute}", getattr(callback, attribute), inner)
    given = _arguments(callback)
    values = state.get("values", {}).items()
    vars(callback).update({name: value for name, value in values if name not in given})


def _is_stateful(value: Any) -> bool:
    if isinstance(value, type):
        return False
    return all(hasattr(value, method) for method in ("state_dict", "load_state_dict"))


def _arguments(callback: Callback) -> Iterable[str]:
    return inspect.signature(type(callback)).parameters


def _given(net: NeuralNet) -> dict[str, str]:
    """Describe what the constructors of callbacks were given."""
    return {name: repr(describe(one)) for name, one in net.callbacks_ if not _is_stateful(one)}
