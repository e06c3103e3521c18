"""The answers of reference models in files, so that no model is trained twice."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from ..utils._digest import add
from ..utils._files import write_atomically

__all__ = ["ReferenceCache"]


class ReferenceCache:
    """A folder with one safetensors file a model: its log-odds and whom it was trained on.

    Neither rows nor weights are in it. A file counts only if its digest shows that it was written
    for this very key and model and is undamaged.

    Parameters
    ----------
    folder : str or path-like
        Where; made if it is not there. Different keys have folders of their own in it.
    key : str
        Digest of everything the answers depend on.
    """

    def __init__(self, folder: str | os.PathLike[str], key: str) -> None:
        self.folder = Path(folder) / key[:16]
        self.key = key
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, number: int) -> Path:
        """Return the file of a model."""
        return self.folder / f"{number:04}.safetensors"

    def read(self, number: int, is_in: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """Return a model's log-odds, or None if there are none that can be trusted.

        Parameters
        ----------
        number : int
            Which model.
        is_in : ndarray of bool of shape (n_candidates,)
            Whom it has to be trained on.

        Returns
        -------
        ndarray of shape (n_candidates,) or None
            Log-odds.

        Warns
        -----
        UserWarning
            If there is a file which is damaged, or was written for something else.
        """
        path = self.path(number)
        if not path.exists():
            return None
        try:
            content = safetensors.numpy.load(path.read_bytes())
        except (OSError, SafetensorError, ValueError):
            content = {}
        log_odds = content.get("log_odds")
        if (
            log_odds is not None
            and log_odds.dtype == np.float64
            and log_odds.shape == is_in.shape
            and np.array_equal(content.get("sha256", ()), self._digest(number, is_in, log_odds))
        ):
            return np.array(log_odds)
        warnings.warn(
            f"{path} is damaged, or belongs to other data or another net; the reference model is "
            "trained anew and the file replaced.",
            UserWarning,
            stacklevel=3,
        )
        return None

    def write(self, number: int, is_in: NDArray[np.bool_], log_odds: NDArray[np.float64]) -> None:
        """Keep a model's log-odds, in one step.

        Parameters
        ----------
        number : int
            Which model.
        is_in : ndarray of bool of shape (n_candidates,)
            Whom it was trained on.
        log_odds : ndarray of shape (n_candidates,)
            What it answers.
        """
        raw = safetensors.numpy.save(
            {"log_odds": log_odds, "sha256": self._digest(number, is_in, log_odds)}
        )
        write_atomically(self.path(number), raw)

    def _digest(
        self, number: int, is_in: NDArray[np.bool_], log_odds: NDArray[np.float64]
    ) -> NDArray[np.uint8]:
        digest = hashlib.sha256()
        add(digest, "key", self.key.encode())
        add(digest, "number", str(number).encode())
        add(digest, "is_in", np.packbits(is_in).tobytes())
        add(digest, "log_odds", log_odds.astype("<f8").tobytes())
        return np.frombuffer(digest.digest(), dtype=np.uint8).copy()
