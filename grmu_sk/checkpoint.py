"""Resume a killed request at the last finished epoch.

What a method sets up follows from the model it starts from and the seed. A resumed request
therefore sets up everything anew, as if it began; then the stored state is put on top, and training
goes on with the next epoch. :func:`grmu_sk.training.train` knows nothing of this but a callable.
"""

from __future__ import annotations

import inspect
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.history import History
from torch.utils._pytree import tree_map_only

from .distributed import is_logger
from .files import flush_folder, sweep, write_atomically
from .fingerprints import digest
from .net_copies import parts_of
from .randomness import random_states, set_random_states
from .training import Phase, Progress

__all__ = ["CheckpointError", "UnlearningCheckpoint", "resumable"]

# The file: this line, the SHA-256 of what follows, and what torch.save makes of the state.
FORMAT = b"grmu_sk checkpoint 4\n"
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
    those of torch, NumPy or Python. What a callback changes of what its constructor was given. A
    disk that is full does not end the training: a warning is given, and the file before stays.

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
                f"The checkpoint {self.path} could not be deleted ({error}). Its weights know the "
                "rows of the request: delete it.",
                UserWarning,
                stacklevel=3,
            )

    def _read(self, identity: dict[str, Any]) -> list[torch.Tensor]:
        """Return what is stored of this run: for each net that is trained the last state."""
        if not self.path.parent.is_dir() or self.path.is_dir():
            raise CheckpointError(f"{self.path} must be a file in a folder that exists.")
        sweep(self.path)
        if not self.exists():
            return []
        raw = self.path.read_bytes()
        head, body = raw[: len(FORMAT) + 64], raw[len(FORMAT) + 64 :]
        if head != _head(body):
            why = "is damaged, or is no checkpoint of this version"
        else:
            content = _loaded(body)
            stored = dict(content["identity"])
            known = {**stored, **identity}
            differ = [name for name in known if stored.get(name) != identity.get(name)]
            if not differ:
                return list(content["runs"])
            why = f"belongs to another run: {' and '.join(differ)} differ"
        if self.unusable == "raise":
            raise CheckpointError(f"{self.path} {why}. Delete it to start from the beginning.")
        warnings.warn(f"{self.path} {why}. Starting from the beginning.", UserWarning, stacklevel=4)
        self._discard()
        return []

    def _write(self, content: dict[str, Any]) -> None:
        """Write the file; if the disk does not take it say so, and keep the one before."""
        body = _stored(content)
        try:
            write_atomically(self.path, [_head(body), body], private=True)
        except OSError as error:
            warnings.warn(
                f"The checkpoint {self.path} could not be written ({error}). Training goes on.",
                UserWarning,
                stacklevel=2,
            )


def _head(body: bytes) -> bytes:
    return FORMAT + digest([("", body)]).encode()


def _stored(content: Any) -> bytes:
    """Return what ``torch.save`` makes of it, which of a view would store the whole."""
    buffer = io.BytesIO()
    torch.save(tree_map_only(torch.Tensor, lambda tensor: tensor.detach().clone(), content), buffer)
    return buffer.getvalue()


def _loaded(raw: bytes) -> Any:
    """Return what was stored; nothing but numbers, text, tensors, arrays and their collections."""
    with torch.serialization.safe_globals(OF_NUMPY):
        return torch.load(io.BytesIO(raw), weights_only=True)


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
    if not checkpoint.keep:
        checkpoint._discard()


class _Request:
    """What has been done of a request, in this process and in earlier ones."""

    def __init__(
        self, checkpoint: UnlearningCheckpoint, identity: dict[str, Any], runs: list[torch.Tensor]
    ) -> None:
        self.checkpoint = checkpoint
        self.identity = identity
        self.runs = runs
        self.number = -1  # of the net that is being trained
        self._written_at = time.monotonic()

    def __call__(self, net: NeuralNet, phases: Sequence[Phase], epoch: int) -> int:
        """Put back what is stored before the first epoch (0), and store the state after others."""
        state = _state(net, phases, epoch)
        if epoch == 0:
            self.number += 1
            _check_can_be_kept(state)
            if self.number == len(self.runs):
                return 0
            stored = _loaded(self.runs[self.number].numpy().tobytes())
            return _put_back(stored, net, phases)
        raw = bytearray(_stored(state))
        self.runs[self.number :] = [torch.frombuffer(raw, dtype=torch.uint8)]
        if time.monotonic() - self._written_at >= self.checkpoint.every_seconds:
            self.checkpoint._write({"identity": self.identity, "runs": self.runs})
            self._written_at = time.monotonic()
        return epoch


# the state of a net in training ------------------------------------------------------------------


def _state(net: NeuralNet, phases: Sequence[Phase], epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "parts": {name: part.state_dict() for name, part in _trained(net, phases).items()},
        "modules": {
            name: {
                "buffers": dict(part.named_buffers()),  # also those not in the state_dict
                "trains": {name: w.requires_grad for name, w in part.named_parameters()},
            }
            for name, part in parts_of(net).items()
        },
        "history": net.history.to_list(),
        "random": random_states(net.device),
        "loaders": [generator.get_state() for generator in _loader_generators(net)],
        "callbacks": {name: _state_of(callback) for name, callback in net.callbacks_},
    }


def _put_back(state: dict[str, Any], net: NeuralNet, phases: Sequence[Phase]) -> int:
    for name, trained in _trained(net, phases).items():
        trained.load_state_dict(state["parts"][name])
    for name, part in parts_of(net).items():
        stored = state["modules"][name]
        with torch.no_grad():
            for where, buffer in part.named_buffers():
                buffer.copy_(stored["buffers"][where])
        for where, weight in part.named_parameters():
            weight.requires_grad_(stored["trains"][where])
    for name, callback in net.callbacks_:
        _set_state(callback, state["callbacks"][name])
    net.history = History(state["history"])
    for generator, drawn in zip(_loader_generators(net), state["loaders"], strict=True):
        generator.set_state(drawn)
    set_random_states(state["random"])
    return int(state["epoch"])


def _trained(net: NeuralNet, phases: Sequence[Phase]) -> dict[str, Any]:
    """Return what training changes and has a ``state_dict``: of the net, and of the phases."""
    held = {name: getattr(net, name + "_") for name in net._optimizers}
    scalers = {k: v for k, v in vars(net).items() if isinstance(v, torch.amp.GradScaler)}
    learned = {id(part): part for phase in phases for part in phase.state}.values()
    beside = {f"of phase {number}": part for number, part in enumerate(learned)}
    return {**parts_of(net), **held, **scalers, **beside}


def _loader_generators(net: NeuralNet) -> list[torch.Generator]:
    given = (net.get_params_for(name) for name in ("iterator_train", "iterator_valid"))
    return [options["generator"] for options in given if options.get("generator") is not None]


def _check_can_be_kept(state: dict[str, Any]) -> None:
    """Raise CheckpointError, before anything is trained, if there is a state that is not plain."""
    callbacks = {f"callback {name!r}": held for name, held in state["callbacks"].items()}
    for what, part in {**callbacks, **state}.items():
        try:
            _loaded(_stored(part))
        except Exception as error:  # what cannot be pickled raises anything
            raise CheckpointError(
                f"The state of the {what} cannot be kept in a checkpoint: {error}. A callback may "
                "have the methods state_dict() and load_state_dict()."
            ) from error


def _has_state(value: Any) -> bool:
    if isinstance(value, type):
        return False
    return isinstance(value, Callback) or hasattr(value, "load_state_dict")


def _state_of(value: Any) -> dict[str, Any]:
    """Return the state of a callback or of a part of it: its ``state_dict``, or its attributes.

    Functions are there again in the next process, and so is what the constructor was given: a file
    must not say where, for example, a callback writes. Who only tells others what happens goes on
    telling.
    """
    if hasattr(value, "load_state_dict"):
        return {name: held for name, held in value.state_dict().items() if not callable(held)}
    if is_logger(value):
        return {}
    return {
        name: _state_of(held) if _has_state(held) else held
        for name, held in vars(value).items()
        if _has_state(held) or not (name in _arguments(value) or callable(held))
        if name not in FORGOTTEN_WITH_THE_EPOCH
    }


def _set_state(value: Any, state: dict[str, Any]) -> None:
    if hasattr(value, "load_state_dict"):
        value.load_state_dict(state)
        return
    for name, stored in state.items():
        held = vars(value).get(name)
        if _has_state(held):
            _set_state(held, stored)
        elif name not in _arguments(value):
            vars(value)[name] = stored


def _arguments(value: Any) -> Sequence[str]:
    return list(inspect.signature(type(value)).parameters)
