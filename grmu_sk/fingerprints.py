"""What a run of training depends on, in a form that two runs can be compared by."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from torch.utils.data import Dataset

from .rows import Rows, TrainingRows, map_tensors
from .utils._description import describe
from .utils._digest import add, add_weights, content

__all__ = ["columns_digest", "net_parameters", "rows_digest", "versions", "weights_digest"]

#: Rows of a Dataset that are read, evenly spaced, and rows of anything that are read at a time.
N_SAMPLED = 256
PACKAGES = ("grmu_sk", "torch", "skorch", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of all that decides about a bit of the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def weights_digest(net: NeuralNet) -> str:
    """Return the digest of an initialised net's weights."""
    digest = hashlib.sha256()
    add_weights(digest, net)
    return digest.hexdigest()


def net_parameters(net: NeuralNet) -> dict[str, Any]:
    """Return a net's parameters as JSON, without those that only print."""
    parameters = net.get_params(deep=False)
    parameters.pop("verbose", None)
    return {name: describe(value) for name, value in parameters.items()}


def columns_digest(y: torch.Tensor, attribute: torch.Tensor) -> dict[str, str]:
    """Return a digest of class numbers and one of the numbers of attribute values."""
    columns = {"y": y, "groups": attribute}
    return {name: _sha256(content(column.long())) for name, column in columns.items()}


def rows_digest(data: TrainingRows, rows: Rows, n_attributes: int) -> dict[str, str]:
    """Return a digest of each thing that ``fit`` was given, over these row numbers alone.

    They are taken over all rows together and not row by row, so that nothing in them tells whether
    a row that is left out later was there. Arrays are read as a whole, in portions. Of a Dataset,
    which may take long to read, a sample is; of one that may return the same row differently each
    time, nothing.

    Parameters
    ----------
    data : TrainingRows
        The rows.
    rows : ndarray
        Row numbers of ``fit``.
    n_attributes : int
        Number of attribute values.

    Returns
    -------
    dict of str to str
        By argument of ``fit``; inputs of which a sample was read have a name of their own.
    """
    where = data.positions(rows)
    g = data.g[where]
    found = columns_digest(g // n_attributes, g % n_attributes)
    if data.sample_weight is not None:
        found["sample_weight"] = _sha256(content(data.sample_weight[where]))
    if not data.is_augmented:
        digest, is_sample = hashlib.sha256(), isinstance(data.X, Dataset)
        if is_sample:
            spaced = np.linspace(0, len(rows) - 1, min(N_SAMPLED, len(rows)))
            rows = rows[np.unique(spaced.round().astype(np.int64))]
        for start in range(0, len(rows), N_SAMPLED):
            inputs = data.fetch_rows(rows[start : start + N_SAMPLED])
            # whole numbers are the same in 32 and in 64 bits
            map_tensors(
                lambda x: add(digest, "", content(x if x.is_floating_point() else x.long())), inputs
            )
        found["X (a sample)" if is_sample else "X"] = digest.hexdigest()
    return found


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
