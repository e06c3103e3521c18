"""Resume a killed request at the last finished epoch.

What a method sets up follows from the model it starts from and the seed. A resumed request
therefore sets up everything anew, as if it began; then the stored state is put on top, and training
goes on with the next epoch. :func:`grmu_sk.training.train` knows nothing of this but a callable.
"""

from __future__ import annotations

import inspect
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.history import History
from torch.utils._pytree import tree_map_only

from .distributed import is_logger
from .files import flush_folder, sweep, write_atomically
from .fingerprints import digest
from .randomness import random_states, set_random_states
from .training import Phase, Progress

__all__ = ["CheckpointError", "UnlearningCheckpoint", "resumable"]

# The file: this line, the SHA-256 of what follows, and what torch.save makes of the state.
FORMAT = b"grmu_sk checkpoint 5\n"
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
    keep : bool, default=False
        Whether to leave the file when ``unlearn`` has succeeded, for those who call
        :meth:`delete` once the model is saved: being killed in between then costs little.
    restart : bool, default=False
        Whether a file that is damaged, or of another request, model or version, is deleted with a
        warning, and the request begun anew. It is an error otherwise.

    Attributes
    ----------
    path : Path
        The file.

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

    **Privacy.** Its weights depend on the rows that are to be forgotten, as those of the model
    before do; it holds no row, no row number and no copy of the model before (except MIU's
    ``original_mode="train"``, in which that copy changes). It is readable for its owner only (on
    POSIX systems), and deleted on success, or if a loss is not finite, with everything that was
    written on the way. Deleting does not overwrite: a file system or a backup may keep the content.

    **Cost.** Without a checkpoint none. With one, the training rows in memory are read once to
    recognise them (of others a sample of 256 rows), and the file is written at the end of each
    epoch. The set-up of the method, and the epoch that was cut short, are done again; methods of
    one pass (``SSDUnlearner``, ``InfluenceUnlearner``) begin anew.

    **What is not covered.** Random numbers that a Dataset or loader draws from a generator of its
    own; use those of torch, NumPy or Python. What a callback changes of what its constructor was
    given. Buffers that a module keeps out of its ``state_dict``. A disk that is full does not end
    the training: a warning is given, and the file before stays.

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
    ...     checkpoint.path.exists()
    False
    """

    def __init__(
        self, path: str | os.PathLike[str], *, keep: bool = False, restart: bool = False
    ) -> None:
        self.path = Path(os.path.realpath(path))
        self.keep = keep
        self.restart = restart

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
            what = f"The checkpoint {self.path} could not be deleted ({error}). Its weights know"
            warnings.warn(f"{what} the rows of the request: delete it.", stacklevel=3)

    def _read(self, identity: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what is stored of this run: for each net that is trained the last state."""
        if not self.path.parent.is_dir() or self.path.is_dir():
            raise CheckpointError(f"{self.path} must be a file in a folder that exists.")
        sweep(self.path)
        if not self.path.exists():
            return []
        raw = self.path.read_bytes()
        head, body = raw[: len(FORMAT) + 64], raw[len(FORMAT) + 64 :]
        if head != _head(body):
            why = "is damaged, or is no checkpoint of this version"
        else:
            content = _loaded(body)
            stored = content["identity"]
            differ = [name for name in identity if stored.get(name) != identity[name]]
            if not differ:
                return list(content["runs"])
            why = f"belongs to another run: {' and '.join(differ)} differ"
        if not self.restart:
            raise CheckpointError(f"{self.path} {why}. Delete it to start from the beginning.")
        warnings.warn(f"{self.path} {why}. Starting from the beginning.", stacklevel=4)
        self._discard()
        return []

    def _write(self, content: dict[str, Any]) -> None:
        """Write the file; if the disk does not take it say so, and keep the one before."""
        body = _stored(content)
        try:
            write_atomically(self.path, [_head(body), body], private=True)
        except OSError as error:
            what = f"The checkpoint {self.path} could not be written ({error})."
            warnings.warn(f"{what} Training goes on.", stacklevel=2)


def _head(body: bytes) -> bytes:
    return FORMAT + digest([("", body)]).encode()


def _stored(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _loaded(raw: bytes) -> Any:
    """Return what was stored; nothing but numbers, text, tensors, arrays and their collections."""
    with torch.serialization.safe_globals(OF_NUMPY):
        return torch.load(io.BytesIO(raw), weights_only=True)


@contextmanager
def resumable(checkpoint: UnlearningCheckpoint, known: dict[str, Any]) -> Iterator[Progress]:
    """Yield what ``train`` is to call, and delete the file when the block has ended well.

    Parameters
    ----------
    checkpoint : UnlearningCheckpoint
        Where the state is stored.
    known : dict
        What the run depends on, as JSON.

    Yields
    ------
    callable
        The ``progress`` of :func:`grmu_sk.training.train`.
    """
    number = -1
    runs = checkpoint._read(known)

    def progress(net: NeuralNet, phases: Sequence[Phase], epoch: int) -> int:
        """Put back what is stored before the first epoch (0), and store the state after others."""
        nonlocal number  # of the net that is being trained
        state = _state(net, phases, epoch)
        if epoch == 0:
            number += 1
            _check_can_be_kept(state)
            return _put_back(runs[number], net, phases) if runs[number:] else 0
        runs[number:] = [state]
        checkpoint._write({"identity": known, "runs": runs})
        return epoch

    try:
        yield progress
    except FloatingPointError:  # going on would end in the same way
        checkpoint._discard()
        raise
    if not checkpoint.keep:
        checkpoint._discard()


# the state of a net in training ------------------------------------------------------------------


def _state(net: NeuralNet, phases: Sequence[Phase], epoch: int) -> dict[str, Any]:
    state = {
        "epoch": epoch,
        "learnable": [weight.requires_grad for _, weight in net.get_all_learnable_params()],
        "parts": {name: part.state_dict() for name, part in _parts(net, phases).items()},
        "history": net.history.to_list(),
        "random": random_states(net.device),
        **{f"callback {name!r}": _state_of(callback) for name, callback in net.callbacks_},
    }
    # copies, since training goes on; of a view the file would hold the whole
    return dict(tree_map_only(torch.Tensor, lambda tensor: tensor.detach().clone(), state))


def _put_back(state: dict[str, Any], net: NeuralNet, phases: Sequence[Phase]) -> int:
    for (_, weight), learns in zip(net.get_all_learnable_params(), state["learnable"], strict=True):
        weight.requires_grad_(learns)
    for name, part in _parts(net, phases).items():
        part.load_state_dict(state["parts"][name])
    for name, callback in net.callbacks_:
        _set_state(callback, state[f"callback {name!r}"])
    net.history = History(state["history"])
    set_random_states(state["random"])
    return int(state["epoch"])


def _parts(net: NeuralNet, phases: Sequence[Phase]) -> dict[str, Any]:
    """Return what training changes and has a ``state_dict``: of the net, and of phases."""
    held = {name: value for name, value in vars(net).items() if _has_state(value)}
    learned = {id(part): part for phase in phases for part in phase.state}.values()
    return held | {f"of phase {number}": part for number, part in enumerate(learned)}


def _check_can_be_kept(state: dict[str, Any]) -> None:
    """Raise CheckpointError, before anything is trained, if there is a state that is not plain."""
    for what, part in state.items():
        try:
            _loaded(_stored(part))
        except Exception as error:  # what cannot be pickled raises anything
            raise CheckpointError(
                f"The state of the {what} cannot be kept in a checkpoint: {error}. A callback may "
                "have the methods state_dict() and load_state_dict()."
            ) from error


def _has_state(value: Any) -> bool:
    return hasattr(value, "load_state_dict") and not isinstance(value, type)


def _state_of(callback: Any) -> dict[str, Any]:
    """Return the state of a callback: its ``state_dict``, or its attributes.

    Functions are there again in the next process, and so is what the constructor was given: a file
    must not say where, for example, a callback writes. Who only tells others what happens goes on
    telling.
    """
    if _has_state(callback):
        return dict(callback.state_dict())
    if is_logger(callback):
        return {}
    return {
        name: held.state_dict() if _has_state(held) else held
        for name, held in vars(callback).items()
        if _has_state(held) or not (name in _arguments(callback) or callable(held))
        if name not in FORGOTTEN_WITH_THE_EPOCH
    }


def _set_state(callback: Any, state: dict[str, Any]) -> None:
    if _has_state(callback):
        callback.load_state_dict(state)
        return
    for name, stored in state.items():
        held = vars(callback).get(name)
        if _has_state(held):
            held.load_state_dict(stored)
        elif name not in _arguments(callback):
            vars(callback)[name] = stored


def _arguments(callback: Any) -> Sequence[str]:
    return list(inspect.signature(type(callback)).parameters)
