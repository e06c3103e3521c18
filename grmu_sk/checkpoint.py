"""The file by which an interrupted ``unlearn`` goes on where it was."""

from __future__ import annotations

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from .utils._files import flush_folder, sweep, write_atomically
from .utils._state_tree import NotPlainError, decode, encode
from .utils._whole_file import (
    NO_DIGEST,
    digest_is_right,
    end_of_header,
    with_digest,
    with_sorted_header,
)
from .utils.arguments import check_types

__all__ = ["CheckpointError", "UnlearningCheckpoint"]

FORMAT = "grmu_sk checkpoint"
FORMAT_VERSION = "1"
CONTENT = "content"
# what taking apart JSON of the wrong shape may raise
_MALFORMED = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, SafetensorError)


class CheckpointError(ValueError):
    """A checkpoint cannot be used, or a state cannot be kept in one."""


class UnlearningCheckpoint:
    """A file by which an ``unlearn`` that was killed goes on where it was, with the same result.

    Pass it to ``unlearn``. If the process dies, load the same model again and make the same call:
    training goes on after the last step that was stored, and the weights come out the same as if
    nothing had happened, bit for bit on the same machine. The file is deleted when ``unlearn``
    has succeeded.

    Parameters
    ----------
    path : str or path-like
        The file, in a folder that exists. While it is replaced the one before lies beside it as
        ``<path>.previous``, and stays there, in case the newer one is damaged.
    every_steps : int, default=None
        Store the state after so many training steps. None leaves it to ``every_seconds``.
    every_seconds : float, default=60.0
        Store the state when so many seconds have passed. None leaves it to ``every_steps``.
    keep : bool, default=False
        Whether to leave the file when ``unlearn`` has succeeded, for those who call
        :meth:`delete` once the model is saved: being killed in between then costs nothing.
    unusable : {"raise", "restart"}, default="raise"
        What to do with a file that is damaged, or of another request, model or version: raise, or
        warn, delete it and start from the beginning.

    Attributes
    ----------
    path : Path
        The file.

    Raises
    ------
    TypeError
        If a parameter is of another kind.
    ValueError
        If both intervals are None or one is not positive, or ``unusable`` is something else.

    See Also
    --------
    grmu_sk.MIUUnlearner : Its ``unlearn``, like that of every method, takes a checkpoint.
    grmu_sk.audit.DeletionLedger : Its ``run`` and ``run_file`` take one, too.

    Notes
    -----
    **What the file holds.** Weights and buffers of the net, the state of its optimizer, of
    learning-rate schedules and other callbacks, of what a method learns beside the net (MINE's
    network, the weights of groups), the history, the states of all random generators, and the place
    reached. Numbers and JSON only: reading a file runs no code. A SHA-256 tells whether it is
    whole.

    **What it must not become.** Its weights know the rows that are to be forgotten, as those of
    the model before do; it holds no row, no row number and no copy of the model before (except
    MIU's ``original_mode="train"``, in which that copy changes). It is readable for its owner only
    (on POSIX systems), and deleted on success together with everything that was written on the way.
    Deleting is not shredding: what a file system or a backup keeps is beyond it.

    **What it costs.** Nothing where none is asked for. With one, the training rows in memory are
    read once to recognise them (of others a sample of 256 rows), and each time the state is
    written it is copied twice in memory. The set-up of the method, and the fetching of batches of
    the pass that was cut short, are done again.

    **What is not resumed in the middle.** The first steps until something is stored, and passes
    that do work of their own (MIU's short tuning, the sums of ``SSDUnlearner`` and
    ``InfluenceUnlearner``): these begin again from an exact earlier point, with the same result.

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
    ...     checkpoint = UnlearningCheckpoint(Path(folder) / "request.checkpoint", every_steps=2)
    ...     _ = unlearner.unlearn([3, 7], checkpoint=checkpoint)
    ...     checkpoint.exists()
    False
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        every_steps: int | None = None,
        every_seconds: float | None = 60.0,
        keep: bool = False,
        unusable: str = "raise",
    ) -> None:
        check_types(UnlearningCheckpoint.__init__, locals())
        if every_steps is None and every_seconds is None:
            raise ValueError("Give every_steps or every_seconds, or nothing would be stored.")
        for name, value in (("every_steps", every_steps), ("every_seconds", every_seconds)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, or None, got {value!r}.")
        if unusable not in ("raise", "restart"):
            raise ValueError(f"unusable must be 'raise' or 'restart', got {unusable!r}.")
        self.path = Path(os.path.realpath(path))
        self.every_steps = every_steps
        self.every_seconds = every_seconds
        self.keep = keep
        self.unusable = unusable

    @property
    def _previous(self) -> Path:
        return self.path.with_name(self.path.name + ".previous")

    def exists(self) -> bool:
        """Tell whether there is a state to go on from.

        Returns
        -------
        bool
            Whether there is a file, whole or not.
        """
        return self.path.exists() or self._previous.exists()

    def delete(self) -> None:
        """Delete the file and all that was written beside it.

        Raises
        ------
        OSError
            If something cannot be deleted.
        """
        if not self.path.parent.is_dir():
            return
        sweep(self.path)
        for path in (self.path, self._previous):
            path.unlink(missing_ok=True)
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

    # what unlearn does with it -----------------------------------------------------------------

    def _open(self, identity: dict[str, Any]) -> dict[str, Any] | None:
        """Return what is stored of a run, None if nothing is."""
        if not self.path.parent.is_dir() or self.path.is_dir():
            raise CheckpointError(
                f"{self.path} cannot be a checkpoint: it must be a file in a folder that exists."
            )
        sweep(self.path)
        if not self.exists():
            return None
        try:
            stored = self._read_newest()
            _check_identity(self.path, stored["identity"], identity)
        except CheckpointError as error:
            if self.unusable == "raise":
                raise
            warnings.warn(f"{error} Starting from the beginning.", UserWarning, stacklevel=4)
            self._discard()
            return None
        return stored

    def _read_newest(self) -> dict[str, Any]:
        try:
            return _read(self.path)
        except (CheckpointError, FileNotFoundError) as error:
            if not self._previous.exists():
                raise
            stored = _read(self._previous)
            if isinstance(error, CheckpointError):  # no newer one is what a kill may leave
                warnings.warn(f"{error} The one before is used.", UserWarning, stacklevel=5)
            return stored

    @staticmethod
    def _check(state: dict[str, Any]) -> None:
        """Raise if a state cannot be stored."""
        _plain(state)

    def _store(self, state: dict[str, Any]) -> None:
        """Write a state; if the disk does not take it say so, and keep the one before."""
        raw = _to_bytes(state)
        try:
            if self.path.exists():
                # a second name for the old file, so that at no time there is none
                self._previous.unlink(missing_ok=True)
                with suppress(OSError):  # not every file system can
                    os.link(self.path, self._previous)
            write_atomically(self.path, raw, private=True)
        except OSError as error:
            warnings.warn(
                f"The checkpoint {self.path} could not be written ({error}). Training goes on; "
                "if it is killed, it resumes from the last state that could be written.",
                UserWarning,
                stacklevel=2,
            )


def _to_bytes(state: dict[str, Any]) -> bytes:
    content, tensors = _plain(state)
    # too long for the header, which is limited
    tensors[CONTENT] = torch.frombuffer(bytearray(content.encode()), dtype=torch.uint8)
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "sha256": NO_DIGEST}
    return with_digest(with_sorted_header(safetensors.torch.save(tensors, metadata)))


def _plain(state: dict[str, Any]) -> tuple[str, dict[str, torch.Tensor]]:
    tensors: dict[str, torch.Tensor] = {}
    try:
        return json.dumps(encode(state, tensors)), tensors
    except NotPlainError as error:
        raise CheckpointError(
            f"The state of the training holds {error}, which a checkpoint cannot keep. Let the "
            "module, the optimizer, callbacks and the history hold numbers, text and tensors, or "
            "call unlearn without a checkpoint."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    raw = path.read_bytes()
    advice = "Delete it to start from the beginning."
    if len(raw) < 8 or end_of_header(raw) > len(raw) or not digest_is_right(raw):
        raise CheckpointError(f"{path} is damaged, or is no checkpoint. {advice}")
    try:
        metadata = json.loads(raw[8 : end_of_header(raw)])["__metadata__"]
        found = metadata["format"], metadata["format_version"]
        if found != (FORMAT, FORMAT_VERSION):
            raise CheckpointError(f"{path} is of another format: {found}. {advice}")
        tensors = safetensors.torch.load(raw)
        return decode(json.loads(tensors.pop(CONTENT).numpy().tobytes()), tensors)
    except CheckpointError:
        raise
    except _MALFORMED as error:
        raise CheckpointError(f"{path} is no checkpoint ({error}). {advice}") from error


def _check_identity(path: Path, stored: dict[str, Any], now: dict[str, Any]) -> None:
    differences = list(_differences(stored, now))
    if differences:
        raise CheckpointError(
            f"{path} belongs to another run; it differs in {'; '.join(differences)}. Make the call "
            "that was interrupted, with the model of that time, or delete the file to start from "
            "the beginning."
        )


def _differences(stored: Any, now: Any, name: str = "") -> list[str]:
    if isinstance(stored, dict) and isinstance(now, dict):
        keys = [*stored, *(key for key in now if key not in stored)]
        parts = [_differences(stored.get(k), now.get(k), f"{name} {k}".strip()) for k in keys]
        return [found for part in parts for found in part]
    then_text, now_text = json.dumps(stored), json.dumps(now)
    if then_text == now_text:
        return []
    return [f"{name} ({_short(then_text)} then, {_short(now_text)} now)"]


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
