"""Resume a killed request at the last finished epoch.

What a method sets up follows from the model it starts from and the seed. A resumed request
therefore sets up everything anew, as if it began; then the stored state is put on top, and training
goes on with the next epoch. :func:`grmu_sk.training.train` knows nothing of this but a callable.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import io
import json
import os
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History

from .files import flush_folder, sweep, write_atomically
from .fingerprints import describe
from .randomness import random_states, set_random_states
from .training import Phase, Progress, parts_of

__all__ = ["CheckpointError", "UnlearningCheckpoint", "resumable"]

# The file: this line, the SHA-256 of what follows, and what torch.save makes of the state.
FORMAT = b"grmu_sk checkpoint 2\n"
# What unpickles arrays and numbers of NumPy, with all types that have no Python objects in them.
OF_NUMPY: list[Any] = [
    np.ndarray,
    np.dtype,
    np.zeros(1).__reduce__()[0],
    np.float64(0).__reduce__()[0],
    *(type(np.dtype(kind)) for kind in "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]),
]
# What a scoring callback remembers of the batches of an epoch; the next one begins without.
FORGOTTEN_WITH_THE_EPOCH = ("y_trues_", "y_preds_")


class CheckpointError(ValueError):
    """A checkpoint cannot be used, or a state cannot be kept in one."""


class UnlearningCheckpoint:
    """A file by which an ``unlearn`` that was killed goes on where it was, with the same result.

    Pass it to ``unlearn``. If the process dies, load the same model again and make the same call:
    training goes on after the last epoch that was stored, and the weights come out the same as if
    nothing had happened, bit for bit on the same machine. The file is deleted when ``unlearn``
    has succeeded.

    Parameters
    ----------
    path : str or path-like
        The file, in a folder that exists. It is replaced in one step.
    every_seconds : float, default=60.0
        Store the state at the end of an epoch if so many seconds have passed; 0 stores it at the
        end of each.
    keep : bool, default=False
        Whether to leave the file when ``unlearn`` has succeeded, for those who call
        :meth:`delete` once the model is saved: being killed in between then costs little.
    unusable : {"raise", "restart"}, default="raise"
        What to do with a file that is damaged, or of another request, model or version: raise, or
        warn, delete it and start from the beginning.

    Attributes
    ----------
    path : Path
        The file.

    Raises
    ------
    ValueError
        If ``every_seconds`` is negative, or ``unusable`` is something else.

    See Also
    --------
    grmu_sk.MIUUnlearner : Its ``unlearn``, like that of every method, takes a checkpoint.
    grmu_sk.audit.DeletionLedger : Its ``run`` and ``run_file`` take one, too.

    Notes
    -----
    **What the file holds.** Weights and buffers of the net, the state of its optimizer, of
    learning-rate schedules and other callbacks, of what a method learns beside the net (MINE's
    network, the weights of groups), the history, the states of all random generators, and the
    epoch reached. It is read by ``torch.load`` with ``weights_only=True``, which runs no code. A
    SHA-256 tells whether it is whole.

    **What it must not become.** Its weights know the rows that are to be forgotten, as those of
    the model before do; it holds no row, no row number and no copy of the model before (except
    MIU's ``original_mode="train"``, in which that copy changes). It is readable for its owner only
    (on POSIX systems), and deleted on success together with everything that was written on the way.
    Deleting is not shredding: what a file system or a backup keeps is beyond it.

    **What it costs.** Nothing where none is asked for. With one, the training rows in memory are
    read once to recognise them (of others a sample of 256 rows), and the state is copied in memory
    at the end of each epoch. The set-up of the method, and the epoch that was cut short, are done
    again; methods of one pass (``SSDUnlearner``, ``InfluenceUnlearner``) begin anew.

    **What cannot be seen.** Random numbers that a Dataset draws from a generator of its own; use
    those of torch, NumPy or Python. A disk that is full does not end the training: a warning
    is given, and the file before stays.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from grmu_sk import FineTuneUnlearner, UnlearningCheckpoint
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:100]] for name in ("images", "target", "groups"))
    >>> unlearner = FineTuneUnlearner(random_state=0).fit(X, y, a)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = UnlearningCheckpoint(Path(folder) / "request.checkpoint")
    ...     _ = unlearner.unlearn([3, 7], checkpoint=checkpoint)
    ...     checkpoint.exists()
    False
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_seconds: float = 60.0,
        keep: bool = False,
        unusable: str = "raise",
    ) -> None:
        if not every_seconds >= 0:
            raise ValueError(f"every_seconds must not be negative, got {every_seconds!r}.")
        if unusable not in ("raise", "restart"):
            raise ValueError(f"unusable must be 'raise' or 'restart', got {unusable!r}.")
        self.path = Path(os.path.realpath(path))
        self.every_seconds = every_seconds
        self.keep = keep
        self.unusable = unusable

    def exists(self) -> bool:
        """Tell whether there is a state to go on from.

        Returns
        -------
        bool
            Whether there is a file, whole or not.
        """
        return self.path.exists()

    def delete(self) -> None:
        """Delete the file and all that was written beside it.

        Raises
        ------
        OSError
            If something cannot be deleted.
        """
        if self.path.parent.is_dir():
            sweep(self.path)
            self.path.unlink(missing_ok=True)
            flush_folder(self.path.parent)

    def _discard(self) -> None:
        """Delete what is no longer needed; what has been done stays done if that cannot be."""
        try:
            self.delete()
        except OSError as error:
            warnings.warn(
                f"The checkpoint {self.path} could not be deleted ({error}). It is not needed any "
                "more, and its weights know the rows of the request: delete it.",
                UserWarning,
                stacklevel=3,
            )

    def _read(self, identity: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what is stored of this run: for each net that is trained the last state."""
        if not self.path.parent.is_dir() or self.path.is_dir():
            raise CheckpointError(
                f"{self.path} cannot be a checkpoint: it must be a file in a folder that exists."
            )
        sweep(self.path)
        if not self.exists():
            return []
        try:
            stored = _content(self.path)
            if found := _differences(stored["identity"], identity):
                raise CheckpointError(
                    f"{self.path} belongs to another run; it differs in {'; '.join(found)}. Make "
                    "the call that was interrupted, with the model of that time, or delete the "
                    "file to start from the beginning."
                )
        except CheckpointError as error:
            if self.unusable == "raise":
                raise
            warnings.warn(f"{error} Starting from the beginning.", UserWarning, stacklevel=4)
            self._discard()
            return []
        runs: list[dict[str, Any]] = stored["runs"]
        return runs

    def _write(self, content: dict[str, Any]) -> None:
        """Write the file; if the disk does not take it say so, and keep the one before."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        raw = buffer.getvalue()
        try:
            write_atomically(self.path, [FORMAT, hashlib.sha256(raw).digest(), raw], private=True)
        except OSError as error:
            warnings.warn(
                f"The checkpoint {self.path} could not be written ({error}). Training goes on; "
                "if it is killed, it resumes from the last state that could be written.",
                UserWarning,
                stacklevel=2,
            )


def _content(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    start = len(FORMAT) + hashlib.sha256().digest_size
    digest = hashlib.sha256(raw[start:]).digest()
    if raw[:start] != FORMAT + digest:
        raise CheckpointError(
            f"{path} is damaged, or is no checkpoint of this version. Delete it to start from the "
            "beginning."
        )
    try:
        with torch.serialization.safe_globals(OF_NUMPY):
            content = torch.load(io.BytesIO(raw[start:]), weights_only=True)
        return {"identity": dict(content["identity"]), "runs": list(content["runs"])}
    except Exception as error:  # whatever a forged file makes of torch's reader
        raise CheckpointError(f"{path} is no checkpoint. Delete it to start anew.") from error


def _differences(stored: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*stored, *now])
        parts = [_differences(stored.get(k), now.get(k), f"{name} {k}".strip()) for k in keys]
        return [found for part in parts for found in part]
    texts = [json.dumps(value) for value in (stored, now)]
    if texts[0] == texts[1]:
        return []
    then, today = (text if len(text) <= 60 else text[:57] + "..." for text in texts)
    return [f"{name} ({then} then, {today} now)"]


@contextmanager
def resumable(
    checkpoint: UnlearningCheckpoint | None, identity: Callable[[], dict[str, Any]]
) -> Iterator[Progress | None]:
    """Yield what ``train`` is to call, and delete the file when the block has ended well.

    Parameters
    ----------
    checkpoint : UnlearningCheckpoint or None
        Where the state is stored; None if it is not.
    identity : callable
        Returns what the run depends on, as JSON.

    Yields
    ------
    callable or None
        The ``progress`` of :func:`grmu_sk.training.train`.
    """
    if checkpoint is None:
        yield None
        return
    known = identity()
    request = _Request(checkpoint, known, checkpoint._read(known))
    try:
        yield request
    except FloatingPointError:
        checkpoint._discard()  # it would only lead there again
        raise
    if request.number < 0:
        warnings.warn(
            "Nothing was stored in the checkpoint: the method does not hand request.progress to "
            "grmu_sk.training.train. If it is killed it starts from the beginning.",
            UserWarning,
            stacklevel=5,
        )
    if not checkpoint.keep:
        checkpoint._discard()


class _Request:
    """What has been done of a request, in this process and in earlier ones."""

    def __init__(
        self, checkpoint: UnlearningCheckpoint, identity: dict[str, Any], runs: list[dict[str, Any]]
    ) -> None:
        self.checkpoint = checkpoint
        self.identity = identity
        self.runs = runs
        self.number = -1  # of the net that is being trained
        self.given: dict[str, str] = {}
        self._written_at = time.monotonic()

    def __call__(
        self, net: NeuralNet, phases: Sequence[Phase], best_scores: dict[str, Any], epoch: int
    ) -> int:
        """Put back what is stored before the first epoch (0), and store the state after others."""
        if epoch == 0:
            self.number += 1
            self.given = _given(net)
            _check_can_be_kept(net, phases)
            if self.number == len(self.runs):
                return 0
            try:
                return _put_back(copy.deepcopy(self.runs[self.number]), net, phases, best_scores)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
                raise CheckpointError(f"{self.checkpoint.path} does not fit: {error}") from error
        now = _given(net)
        if changed := [name for name, given in self.given.items() if now[name] != given]:
            raise CheckpointError(
                f"The callback {changed[0]!r} changes what its constructor was given, which a "
                "checkpoint does not keep. Let it change attributes of its own (name_), or have "
                "the methods state_dict() and load_state_dict()."
            )
        self.runs[self.number :] = [_state(net, phases, best_scores, epoch)]
        if time.monotonic() - self._written_at >= self.checkpoint.every_seconds:
            self.checkpoint._write({"identity": self.identity, "runs": self.runs})
            self._written_at = time.monotonic()
        return epoch


# the state of a net in training ------------------------------------------------------------------


def _state(
    net: NeuralNet, phases: Sequence[Phase], best_scores: dict[str, Any], epoch: int
) -> dict[str, Any]:
    state: dict[str, Any] = _plain(
        {
            "epoch": epoch,
            "modules": {
                name: {
                    "state": part.state_dict(),
                    "buffers": dict(part.named_buffers()),  # also those not in the state_dict
                    "trains": {name: w.requires_grad for name, w in part.named_parameters()},
                }
                for name, part in parts_of(net).items()
            },
            "optimizers": {name: getattr(net, name + "_").state_dict() for name in net._optimizers},
            "history": net.history.to_list(),
            "best_scores": best_scores,
            "random": random_states(net.device),
            "loaders": [generator.get_state() for generator in _loader_generators(net)],
            **_beside(net, phases),
        }
    )
    return state


def _put_back(
    state: dict[str, Any], net: NeuralNet, phases: Sequence[Phase], best_scores: dict[str, Any]
) -> int:
    for name, part in parts_of(net).items():
        stored = state["modules"][name]
        # the module's own dictionary knows the versions of its layers
        part.load_state_dict({**part.state_dict(), **stored["state"]})
        with torch.no_grad():
            for where, buffer in part.named_buffers():
                buffer.copy_(stored["buffers"][where])
        for where, weight in part.named_parameters():
            weight.requires_grad_(stored["trains"][where])
    for name, optimizer in state["optimizers"].items():
        getattr(net, name + "_").load_state_dict(optimizer)
    for name, callback in net.callbacks_:
        _load_callback(callback, state["callbacks"][name])
    net.history = History(state["history"])
    best_scores.update(state["best_scores"])
    for part, learned in zip(_learned(phases), state["phases"], strict=True):
        part.load_state_dict(learned)
    for generator, stored in zip(_loader_generators(net), state["loaders"], strict=True):
        generator.set_state(stored)
    set_random_states(state["random"])
    return int(state["epoch"])


def _beside(net: NeuralNet, phases: Sequence[Phase]) -> dict[str, Any]:
    """Return the states of callbacks, and of what phases learn beside the net."""
    return {
        "callbacks": {name: _callback_state(callback) for name, callback in net.callbacks_},
        "phases": [part.state_dict() for part in _learned(phases)],
    }


def _learned(phases: Sequence[Phase]) -> list[Any]:
    """Return what the phases change beside the net, each thing once."""
    return list({id(part): part for phase in phases for part in phase.state}.values())


def _loader_generators(net: NeuralNet) -> list[torch.Generator]:
    given = (net.get_params_for(name) for name in ("iterator_train", "iterator_valid"))
    return [options["generator"] for options in given if options.get("generator") is not None]


def _check_can_be_kept(net: NeuralNet, phases: Sequence[Phase]) -> None:
    """Raise CheckpointError, before anything is trained, if there is a state that is not plain."""
    scalers = (*vars(net).values(), getattr(getattr(net, "accelerator", None), "scaler", None))
    if any(isinstance(scaler, torch.amp.GradScaler) for scaler in scalers):
        raise CheckpointError(
            "The net is trained in float16 with a gradient scaler, whose state cannot be kept. "
            "Call unlearn without a checkpoint."
        )
    _plain(_beside(net, phases))


def _plain(value: Any, where: str = "The state of the training") -> Any:
    """Return a copy of a state, in which there are numbers, text, tensors and arrays alone."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic) and type(value.dtype) in OF_NUMPY:
        return value.copy()
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        return value.detach().clone()  # torch.save writes all that a view is a part of
    if type(value) in (dict, OrderedDict, Counter):
        kind = type(value)
        return kind({key: _plain(held, f"{where} {key!r}") for key, held in value.items()})
    if type(value) in (list, tuple, set, torch.Size):
        kind = tuple if isinstance(value, torch.Size) else type(value)
        return kind(_plain(held, where) for held in value)
    raise CheckpointError(
        f"{where} holds a {type(value).__name__}, which a checkpoint cannot keep. Let the module, "
        "the optimizer, callbacks and the history hold numbers, text and tensors, give a callback "
        "the methods state_dict() and load_state_dict(), or call unlearn without a checkpoint."
    )


def _is_reporter(callback: Callback) -> bool:
    """Tell whether it only tells others what happens; resumed, it goes on telling."""
    return any(base.__module__ == "skorch.callbacks.logging" for base in type(callback).__mro__)


def _is_stateful(value: Any) -> bool:
    return hasattr(value, "load_state_dict") and not isinstance(value, type)


def _callback_state(callback: Callback) -> dict[str, Any]:
    """Return the state of a callback: its own ``state_dict``, or its attributes.

    Functions are there again in the next process, and so is what the constructor was given: a file
    must not say where, for example, a callback writes.
    """
    if _is_reporter(callback):
        return {}
    if _is_stateful(callback):
        return {"own": callback.state_dict()}
    state: dict[str, Any] = {}
    for name, value in vars(callback).items():
        if _is_stateful(value):  # a schedule, whose own functions are there again as well
            held = value.state_dict().items()
            state[name] = {key: part for key, part in held if not callable(part)}
        elif isinstance(value, Callback):
            state[name] = _callback_state(value)
        elif not (name in _arguments(callback) or callable(value)):
            state[name] = None if name in FORGOTTEN_WITH_THE_EPOCH else value
    return state


def _load_callback(callback: Callback, state: dict[str, Any]) -> None:
    if _is_stateful(callback) and state:
        callback.load_state_dict(state["own"])
        return
    for name, stored in state.items():
        now = vars(callback).get(name)
        if _is_stateful(now):
            now.load_state_dict(stored)
        elif isinstance(now, Callback):
            _load_callback(now, stored)
        elif name not in _arguments(callback):
            vars(callback)[name] = stored


def _arguments(callback: Callback) -> Sequence[str]:
    return list(inspect.signature(type(callback)).parameters)


def _given(net: NeuralNet) -> dict[str, str]:
    """Describe what the constructors of callbacks were given."""
    return {name: repr(describe(one)) for name, one in net.callbacks_ if not _is_stateful(one)}
