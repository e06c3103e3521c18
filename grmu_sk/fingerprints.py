"""Digests: by what two models, files, runs or sets of rows are told apart, in any process."""

from __future__ import annotations

import hashlib
import inspect
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import BallTree, KDTree
from skorch import NeuralNet
from torch.utils.data import Dataset

from .net_copies import parts_of
from .rows import Rows, TrainingRows, evenly_spaced, map_tensors, take_rows

__all__ = ["describe", "digest", "rows_digests", "tensor_bytes", "versions", "weights"]

#: Rows of a Dataset that are read, evenly spaced, and rows of anything that are read at a time.
N_SAMPLED = 256
#: What is described by what it prints; the last two have no counterpart in Python.
PLAIN = (complex, bytes, Path, torch.device, torch.dtype, np.dtype, np.longdouble, np.clongdouble)
PACKAGES = ("grmu_sk", "torch", "skorch", "scikit-learn", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of all that decides about a bit of the result."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def digest(parts: Iterable[tuple[str, Any]]) -> str:
    """Return SHA-256 of bytes, tensors and what else there is, each with its name.

    Parameters
    ----------
    parts : iterable of (str, object)
        Names and contents. Of what is neither bytes nor a tensor, what it prints counts.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    found = hashlib.sha256()
    for name, content in parts:
        raw = content if isinstance(content, bytes) else tensor_bytes(content)
        for part in (name.encode(), raw):  # lengths, so that no two lists read the same
            found.update(len(part).to_bytes(8, "little"))
            found.update(part)
    return found.hexdigest()


def tensor_bytes(value: Any) -> bytes:
    """Return type, shape and values of a tensor as bytes, and of anything else what it prints."""
    if not isinstance(value, torch.Tensor):
        return repr(value).encode()
    plain = value.detach().cpu().contiguous()
    kind = f"{plain.dtype} {tuple(plain.shape)}".encode()
    if plain.numel() == 0:  # of which torch gives no view
        return kind
    return kind + plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def weights(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield all that a model has learned: the state of a net's parts by name, or all it holds."""
    if not isinstance(model, NeuralNet):
        yield "", describe(model, learned=True)
        return
    for component, part in parts_of(model).items():
        for name, value in part.state_dict().items():
            yield f"{component}/{name}", value


def rows_digests(
    data: TrainingRows, rows: Rows, n_attributes: int, for_net: bool = True
) -> dict[str, str]:
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
    for_net : bool, default=True
        Whether inputs count as a net reads them, or by what they hold.

    Returns
    -------
    dict of str to str
        By argument of ``fit``; inputs of which a sample was read have a name of their own.
    """
    where = data.positions(rows)
    found = columns_digests(data.g[where], n_attributes)
    if data.sample_weight is not None:
        found["sample_weight"] = digest([("", data.sample_weight[where])])
    if not for_net:
        found["X"] = digest([("", describe(take_rows(data.X, where.numpy())))])
    elif not data.is_augmented:
        is_sample = isinstance(data.X, Dataset)
        if is_sample:
            rows = evenly_spaced(rows, N_SAMPLED)
        found["X (a sample)" if is_sample else "X"] = digest(_inputs(data, rows))
    return found


def columns_digests(g: torch.Tensor, n_attributes: int) -> dict[str, str]:
    """Return a digest of class numbers and one of the numbers of attribute values."""
    columns = {"y": g // n_attributes, "groups": g % n_attributes}
    return {name: digest([("", column.long())]) for name, column in columns.items()}


def _inputs(data: TrainingRows, rows: Rows) -> Iterator[tuple[str, torch.Tensor]]:
    for start in range(0, len(rows), N_SAMPLED):
        parts: list[torch.Tensor] = []
        map_tensors(parts.append, data.fetch_rows(rows[start : start + N_SAMPLED]))
        for part in parts:  # whole numbers are the same in 32 and in 64 bits
            yield "", part if part.is_floating_point() else part.long()


# parameters as JSON that is the same in every process ----------------------------------------


def describe(
    value: Any,
    of_object: Callable[[Any], Mapping[str, Any]] = lambda value: {},
    *,
    learned: bool = False,
    within: tuple[int, ...] = (),
) -> Any:
    """Describe a parameter by what it does, never by where in memory it lies.

    Parameters
    ----------
    value : object
        Numbers, text, collections, tables, classes, functions, arrays, estimators, or other
        objects. What is in classes and functions counts, as far as their source is to be had.
    of_object : callable, optional
        What to say of an object without ``get_params``, beside its class: names and values, which
        are described in turn. Nothing by default.
    learned : bool, default=False
        Whether to say all that objects hold, such as what an estimator has learned, and leave out
        the source of classes and functions.
    within : tuple of int, default=()
        What is being described already: an object may hold a method of its own.

    Returns
    -------
    object
        What JSON can hold.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in within:
        return "itself"
    again = partial(describe, of_object=of_object, learned=learned, within=(*within, id(value)))
    if isinstance(value, PLAIN):
        return {type(value).__name__: str(value)}
    if isinstance(value, np.generic):
        return again(value.item())
    if isinstance(value, pd.DataFrame):  # whatever its index says
        rows = pd.util.hash_pandas_object(value, index=False).to_numpy()
        return {"table": again([value.columns.tolist(), rows])}
    if isinstance(value, np.ndarray) and value.dtype.names:  # what lies between fields is noise
        return {"array": again({field: value[field] for field in value.dtype.names})}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return again(value.tolist())
    if isinstance(value, np.ndarray | torch.Tensor):
        kind = f"{value.dtype} {tuple(value.shape)}"
        raw = value.tobytes() if isinstance(value, np.ndarray) else value
        return {kind: digest([("", raw)])}
    if isinstance(value, Mapping):
        names = {k: k if isinstance(k, str) else f"({again(k)!r})" for k in value}
        return {names[name]: again(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | range | set | frozenset):
        entries = [again(entry) for entry in value]
        if isinstance(value, set | frozenset):  # whose order differs from process to process
            entries.sort(key=repr)
        return entries if isinstance(value, list) else {type(value).__name__: entries}
    if isinstance(value, partial):
        return {"partial": again([value.func, value.args, value.keywords])}
    if hasattr(value, "__qualname__"):
        # what a method does depends on whose it is
        owner = [again(value.__self__)] if isinstance(value, MethodType) else []
        source = "" if learned else _source(value)
        return [{f"{value.__module__}.{value.__qualname__}": source}, *owner]
    if learned:
        own: Mapping[str, Any] = {"holds": _held_by(value)}
    else:
        has_parameters = hasattr(value, "get_params")
        own = value.get_params(deep=False) if has_parameters else of_object(value)
    return {"class": again(type(value)), **{name: again(entry) for name, entry in own.items()}}


def _source(value: Any) -> str:
    try:
        source = inspect.getsource(value)
    except (OSError, TypeError):  # built in, or typed at a prompt
        return ""
    return hashlib.sha256(source.encode()).hexdigest()


def _held_by(value: Any) -> Any:
    """Return all that counts of an object: what pickle would write down, or less of some."""
    if isinstance(value, KDTree | BallTree):  # they count what they are asked
        return [part for part in value.__getstate__() if not isinstance(part, int)]
    if hasattr(value, "model_to_string"):  # LightGBM's has other parameters once it was copied
        return value.model_to_string()
    if hasattr(value, "_serialize_model") and value.is_fitted():  # CatBoost's says when it was made
        bare = value.copy()
        for key in list(notes := bare.get_metadata()):
            del notes[key]
        return bare._serialize_model()
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return reduced
    return [*reduced[:3], *(list(items or []) for items in reduced[3:5])]
