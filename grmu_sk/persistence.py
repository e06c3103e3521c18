"""Save a fitted unlearner in a file that cannot carry code, and load it again.

A pickle runs whatever its author put into it. A file written here is a `safetensors`_ file: raw
numbers, and a header of JSON with everything else. Reading one builds objects of this package's
own classes only, and the net whose weights are filled in is the one the reader brings.

Of the other ways to keep an unlearner, none is for files from strangers: joblib and pickle run
any code in the file, and so does skops for a skorch net, because the net's own state is a pickle
inside the file, whatever types are listed as trusted.

.. _safetensors: https://huggingface.co/docs/safetensors

Layout
------
The header's metadata has four entries, all strings:

``format``, ``format_version``
    ``"grmu_sk"`` and a whole number.
``content``
    One JSON document: versions, method, parameters, labels, attributes, history, flags.
``sha256``
    Of the whole file, with these 64 digits themselves read as zeros.

The tensors are called ``state/<attribute>`` (row numbers, counts),
``weights/<component>/<name>`` (entries of the component's ``state_dict``) and, if ``fit`` was given
ids, ``sample_ids`` (bytes of one JSON document).
"""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from skorch.history import History

from .base import BaseUnlearner
from .groups import GroupEncoder
from .sample_ids import SampleIds
from .training import copy_net, parts_of
from .unlearners import all_unlearners
from .utils._files import write_atomically
from .utils._random import derive_seed, isolated_rng
from .utils._whole_file import (
    NO_DIGEST,
    digest_is_right,
    end_of_header,
    with_digest,
    with_sorted_header,
)
from .utils.arguments import check_types

__all__ = ["PersistenceError", "load", "save"]

FORMAT = "grmu_sk"
FORMAT_VERSION = 1
PACKAGES = {
    "grmu_sk": "grmu_sk",
    "torch": "torch",
    "skorch": "skorch",
    "sklearn": "scikit-learn",
    "numpy": "numpy",
}
#: What safetensors accepts at most, in bytes.
LARGEST_HEADER = 100_000_000

# arrays of these, in the machine's byte order, are saved as tensors
_TENSOR_DTYPES = [np.dtype(name) for name in ("bool", "int32", "int64", "float32", "float64")]
# saved in a form of their own, or not at all
_NOT_PLAIN_STATE = {
    "_data",
    "_encoder",
    "_metadata_request",
    "_sample_ids",
    "classes_",
    "forget_groups_",
    "history_",
    "net_",
}
_REQUIRED_STATE: dict[str, Any] = {
    "seed_": int,
    "forget_idx_": np.ndarray,
    "remaining_idx_": np.ndarray,
    "_group_counts": np.ndarray,
    "_n_requests": int,
    "_has_groups": bool,
    "_has_weights": bool,
}
_ROUTED_METHODS = ("fit", "score")
# what unpacking JSON of the wrong shape may raise
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class PersistenceError(ValueError):
    """A file cannot be loaded, or an unlearner cannot be saved.

    Examples
    --------
    >>> import tempfile
    >>> from grmu_sk.persistence import PersistenceError, load
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     try:
    ...         load(file.name)
    ...     except PersistenceError as error:
    ...         print("ends too early" in str(error))
    True
    """


def save(unlearner: BaseUnlearner, path: str | os.PathLike[str]) -> None:
    """Write a fitted unlearner to one file, without pickle.

    The file holds what :func:`load` needs to predict and to unlearn again: the method's name, its
    parameters, labels, attributes and group counts, row numbers forgotten and remaining, history,
    seed, weights, the versions of the packages involved and, if ``fit`` was given any, the sample
    ids (those of forgotten rows not, if a ledger with a key has seen to it). It holds no row
    of the training data (whatever ``store_data`` and ``keep_forgotten`` say), no optimizer state,
    and nothing of the net but its weights.

    The file is written beside its final place and moved there when it is complete, so a failure
    or a crash leaves a file that was there before as it was.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Fitted; one of the package's own methods.
    path : str or path-like
        Where to; an existing file is replaced. Any suffix will do, ``.safetensors`` is usual.

    Raises
    ------
    NotFittedError
        If the unlearner is not fitted.
    TypeError
        If it is not an unlearner.
    PersistenceError
        If something cannot be written without pickle: a class from outside the package, a
        parameter, label or attribute value that is not made of numbers and text, a history entry
        that is an object, a module whose ``state_dict`` holds more than tensors.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : The reverse.

    Notes
    -----
    A ``random_state`` that is a RandomState instance is saved as the seed drawn from it in
    ``fit``. Numbers in the history come back as Python's, its tuples and arrays as lists. Tensors
    that share memory (tied weights) are written once for each name. Of the attributes, those that
    scikit-learn's convention marks as fitted or private are saved (``name_``, ``_name``).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> from grmu_sk.persistence import load, save
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:100]] for name in ("images", "target", "groups"))
    >>> unlearner = FineTuneUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(unlearner, Path(folder) / "model.safetensors")
    ...     again = load(Path(folder) / "model.safetensors")
    >>> again.forget_idx_.tolist(), bool((again.predict(X) == unlearner.predict(X)).all())
    ([3, 7], True)
    """
    check_types(save, locals())
    if not isinstance(unlearner, BaseUnlearner):
        raise TypeError(f"Only unlearners can be saved, got a {type(unlearner).__name__}.")
    check_is_fitted(unlearner)
    write_atomically(Path(os.path.realpath(path)), _to_bytes(unlearner))


def load(
    path: str | os.PathLike[str],
    estimator: Any = None,
    *,
    expected: type[BaseUnlearner] = BaseUnlearner,
) -> BaseUnlearner:
    """Read an unlearner that :func:`save` wrote. No code from the file is run.

    It predicts what the saved one predicted, bit for bit on the same machine and versions. The
    training data was not saved, so it is handed in for the next request,
    ``unlearn(rows, X=X, y=y, groups=groups)``; the result is then the same as without saving.

    Parameters
    ----------
    path : str or path-like
        The file.
    estimator : skorch net or None, default=None
        The unfitted net that the unlearner was made with; its weights are replaced by those of
        the file. None if the unlearner was made with ``estimator=None``: the default net is then
        built anew from the sizes in the file.
    expected : type, default=BaseUnlearner
        Class of unlearner that the file has to hold.

    Returns
    -------
    BaseUnlearner
        A fitted unlearner of the saved class.

    Raises
    ------
    PersistenceError
        If the file is foreign, damaged or of a newer format; if it does not hold what
        ``expected`` says; if the net has other weights than the file (the message names the first
        that does not match).
    TypeError
        If ``estimator`` is something other than a skorch net.
    OSError
        If the file cannot be read.

    See Also
    --------
    save : The reverse.

    Notes
    -----
    What can be trusted. The classes are looked up by name in the package's own registry, and
    nothing else of the file names code, so a hostile file can at worst hold a bad model. The
    SHA-256 in the file detects damage; it does not say who wrote it, since whoever changes the
    file on purpose can write a new one. Against that, keep the file's own digest elsewhere, or a
    signature. The net and its callbacks are the caller's and run as usual.

    An unlearner that was given a trained net (:class:`~sklearn.frozen.FrozenEstimator`) is loaded
    with the bare, unfitted net as well. Its ``estimator`` is then a FrozenEstimator around the
    loaded net, which is what ``unlearn`` leaves behind too: the net that was brought in
    originally is not in the file.

    Examples
    --------
    See :func:`save`.
    """
    check_types(load, locals())
    raw = Path(path).read_bytes()
    metadata = _read_metadata(raw, path)
    tensors = _read_tensors(raw, path)
    with _malformed(path):
        content = json.loads(metadata["content"])
        unlearner = _without_net(content, tensors, expected)
        history = _history(content["history"])
        inferred = _decode(content["net"]["classes_inferred"])
    net = _matching_net(unlearner, content["net"], tensors, estimator, path)
    _fill_in_weights(net, tensors, path)
    if inferred is not None:
        net.classes_inferred_ = inferred
    net.history = unlearner.history_ = history
    unlearner.net_ = net
    if content["net"]["kind"] == "frozen":
        unlearner.estimator = FrozenEstimator(net)
    return unlearner


# writing -----------------------------------------------------------------------------------------


def _to_bytes(unlearner: BaseUnlearner) -> bytes:
    method = _registered_name(type(unlearner))
    plain, arrays = _plain_state(unlearner)
    content = {
        "versions": {name: version(package) for name, package in PACKAGES.items()},
        "method": method,
        "parameters": _parameters(unlearner),
        "routing": _routing(unlearner),
        "classes": _encode(unlearner.classes_, "classes_"),
        "attributes": _encode(unlearner._encoder.attributes_, "the attribute values"),
        "forget_groups": _group_numbers(unlearner),
        "state": plain,
        "history": _plain(list(unlearner.history_), "history_"),
        "net": _describe_net(unlearner),
    }
    tensors = {f"state/{name}": torch.from_numpy(array) for name, array in arrays.items()}
    tensors |= _weights(unlearner.net_)
    ids = unlearner._sample_ids.to_json()
    if ids is not None:  # too long for the header
        tensors["sample_ids"] = torch.frombuffer(bytearray(ids.encode()), dtype=torch.uint8)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "content": json.dumps(content),
        "sha256": NO_DIGEST,
    }
    _check_header_size(metadata)
    try:
        raw = safetensors.torch.save(tensors, metadata)
    except (SafetensorError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise PersistenceError(f"The weights cannot be written: {error}") from error
    return with_digest(with_sorted_header(raw))


def _check_header_size(metadata: dict[str, str]) -> None:
    n_bytes = len(json.dumps(metadata))
    if n_bytes > LARGEST_HEADER:
        raise PersistenceError(
            f"The history is too long to be saved: with it the header has {n_bytes} bytes, and "
            f"{LARGEST_HEADER} are possible. Drop the batches from it: for row in "
            "unlearner.history_: row['batches'].clear()."
        )


def _registered_name(cls: type[BaseUnlearner]) -> str:
    name = getattr(cls, "method_name", None)
    if name is None or dict(all_unlearners()).get(name) is not cls:
        raise PersistenceError(
            f"{cls.__name__} is not a method of this package, so that load could not find it. Use "
            "joblib.dump for classes of your own, and load such files only if you trust them."
        )
    return str(name)


def _parameters(unlearner: BaseUnlearner) -> dict[str, Any]:
    parameters = unlearner.get_params(deep=False)
    del parameters["estimator"]
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = unlearner.seed_
    return {name: _encode(value, f"parameter {name}") for name, value in parameters.items()}


def _routing(unlearner: BaseUnlearner) -> dict[str, Any]:
    """Return what ``set_fit_request`` and its like have set."""
    if "_metadata_request" not in vars(unlearner):
        return {}
    routing = unlearner.get_metadata_routing()
    return {method: dict(getattr(routing, method).requests) for method in _ROUTED_METHODS}


def _plain_state(unlearner: BaseUnlearner) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the fitted attributes as JSON values and as numeric arrays."""
    plain, arrays = {}, {}
    parameters = unlearner.get_params(deep=False)
    for name, value in vars(unlearner).items():
        if name in parameters or name in _NOT_PLAIN_STATE or not _is_state(name):
            continue
        if isinstance(value, np.ndarray) and value.dtype in _TENSOR_DTYPES:
            arrays[name] = np.array(value, order="C")
        else:
            plain[name] = _encode(value, f"attribute {name}")
    return plain, arrays


def _is_state(name: str) -> bool:
    is_marked = name.startswith("_") or name.endswith("_")
    return name.isidentifier() and is_marked and not name.startswith("__")


def _group_numbers(unlearner: BaseUnlearner) -> list[int]:
    pairs = unlearner._encoder.pairs_
    return [pairs.index(pair) for pair in unlearner.forget_groups_]


def _describe_net(unlearner: BaseUnlearner) -> dict[str, Any]:
    net = unlearner.net_
    description: dict[str, Any] = {
        "classes_inferred": _encode(getattr(net, "classes_inferred_", None), "classes_inferred_")
    }
    if unlearner.estimator is not None:
        kind = "frozen" if isinstance(unlearner.estimator, FrozenEstimator) else "own"
        return {"kind": kind, **description}
    parameters = net.get_params_for("module")
    if "n_channels" in parameters:
        row_shape, is_double = [parameters["n_channels"], 1, 1], False
    else:
        row_shape, is_double = [parameters["n_features"]], parameters["dtype"] is not None
    return {"kind": "default", "row_shape": row_shape, "is_double": is_double, **description}


def _weights(net: NeuralNet) -> dict[str, torch.Tensor]:
    weights = {}
    for component, module in parts_of(net).items():
        for name, value in module.state_dict().items():
            if not isinstance(value, torch.Tensor):
                raise PersistenceError(
                    f"The {component}'s state_dict holds a {type(value).__name__} as {name!r}; "
                    "only tensors can be saved without pickle."
                )
            # a copy of its own, since safetensors takes neither views nor shared memory
            copied = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            weights[f"weights/{component}/{name}"] = copied
    return weights


# values as JSON ----------------------------------------------------------------------------------


def _encode(value: Any, what: str) -> Any:
    """Return JSON that tells tuples, NumPy's scalars and arrays apart, see :func:`_decode`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [_encode(item, what) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, what) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, what), _encode(v, what)] for k, v in value.items()]}
    if isinstance(value, np.generic) and _is_simple(value.dtype):
        return {"scalar": [value.dtype.str, value.item()]}
    if isinstance(value, np.ndarray) and value.ndim == 1 and _is_simple(value.dtype, "O"):
        items = [_encode(item, what) for item in value.tolist()]
        return {"array": [value.dtype.str, items]}
    if isinstance(value, pd.Interval):
        ends = [_encode(value.left, what), _encode(value.right, what)]
        return {"interval": [*ends, value.closed]}
    raise PersistenceError(
        f"{what} cannot be saved without pickle: {value!r} is of type {type(value).__name__}. Use "
        "numbers, text, and lists or tuples of these."
    )


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    return _DECODERS[kind](inner)


def _decode_scalar(inner: Any) -> Any:
    dtype, item = inner
    return _simple_dtype(dtype).type(item)


def _decode_array(inner: Any) -> NDArray[Any]:
    dtype, items = inner[0], [_decode(item) for item in inner[1]]
    if dtype != "|O":
        kind = _simple_dtype(dtype)
        if kind.kind == "U":  # as wide as the longest text, whatever it says of itself
            lengths = [len(item) for item in items]
            kind = np.dtype(f"<U{max(lengths, default=1)}")
            if kind.itemsize * len(items) > 1000 * (1000 + sum(lengths)):
                raise ValueError("the array takes far more memory than its text")
        return np.array(items, dtype=kind)
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _decode_interval(inner: Any) -> pd.Interval:
    left, right, closed = inner
    return pd.Interval(_decode(left), _decode(right), closed=closed)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda inner: tuple(_decode(item) for item in inner),
    "dict": lambda inner: {_decode(key): _decode(item) for key, item in inner},
    "scalar": _decode_scalar,
    "array": _decode_array,
    "interval": _decode_interval,
}


def _is_simple(dtype: np.dtype[Any], also: str = "") -> bool:
    """Tell whether JSON can hold such values: truth values, whole numbers, doubles and text."""
    is_too_precise = dtype.kind == "f" and dtype.itemsize > 8
    return dtype.kind in "biufU" + also and not is_too_precise


def _simple_dtype(name: Any) -> np.dtype[Any]:
    dtype = np.dtype(str(name))
    if not _is_simple(dtype):
        raise ValueError(f"values of type {name!r} are not expected here")
    return dtype


def _plain(value: Any, what: str) -> Any:
    """Return JSON as anyone would write it, which keeps values and not their types."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    elif isinstance(value, torch.Tensor):
        value = value.detach().cpu().tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, f"{what}[{position}]") for position, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{what}[{key!r}]") for key, item in value.items()}
    raise PersistenceError(
        f"{what} cannot be saved without pickle: it is a {type(value).__name__}. Let callbacks "
        "record numbers and text, or delete the entry."
    )


# reading -----------------------------------------------------------------------------------------


def _read_metadata(raw: bytes, path: Any) -> dict[str, str]:
    """Return the metadata of a file of ours that is whole and not too new."""
    end = end_of_header(raw)
    if len(raw) < 8 or (raw[8:9] == b"{" and end > len(raw)):
        raise PersistenceError(f"{path} ends too early: it is damaged, or was never complete.")
    header: Any = None
    if end <= len(raw):
        with suppress(ValueError, RecursionError):
            header = json.loads(raw[8:end])
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise PersistenceError(
            f"{path} was not written by grmu_sk.persistence.save, or is damaged. (A pickle is "
            "opened with joblib.load or pickle.load, and only if you trust its author.)"
        )
    _check_format_version(metadata, path)
    _check_digest(raw, path)
    return metadata


def _check_format_version(metadata: dict[str, Any], path: Any) -> None:
    found = str(metadata.get("format_version"))
    if not (found.isascii() and found.isdigit() and len(found) < 10 and int(found) > 0):
        raise PersistenceError(f"{path} is damaged: its format version reads {found!r}.")
    if int(found) > FORMAT_VERSION:
        raise PersistenceError(
            f"{path} has format {found}, but grmu_sk {version('grmu_sk')} reads formats up to "
            f"{FORMAT_VERSION}. Update grmu_sk, or save the model again with this version."
        )


def _check_digest(raw: bytes, path: Any) -> None:
    if not digest_is_right(raw):
        raise PersistenceError(
            f"{path} is damaged: its content does not match its SHA-256. Fetch or save it again."
        )


def _read_tensors(raw: bytes, path: Any) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(raw)
    except (SafetensorError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise PersistenceError(f"{path} is damaged: {error}") from error


@contextmanager
def _malformed(path: Any) -> Iterator[None]:
    """Say of anything unexpected in the content that the file is to blame."""
    try:
        yield
    except PersistenceError as error:
        raise PersistenceError(f"{path}: {error}") from error
    except _MALFORMED as error:
        raise PersistenceError(
            f"{path} does not hold what grmu_sk {version('grmu_sk')} expects "
            f"({type(error).__name__}: {error})."
        ) from error


def _without_net(
    content: Any, tensors: dict[str, torch.Tensor], expected: type[BaseUnlearner]
) -> BaseUnlearner:
    """Return the unlearner with all of its state but the net."""
    cls = _registered_class(content)
    if not issubclass(cls, expected):
        raise PersistenceError(f"it holds a {cls.__name__}, not a {expected.__name__}.")
    parameters = {name: _decode(value) for name, value in content["parameters"].items()}
    unknown = sorted(set(parameters) - (set(cls._get_param_names()) - {"estimator"}))
    if unknown:
        raise PersistenceError(
            f"{cls.__name__} has no parameter {unknown[0]!r}. {_written_by(content)}"
        )
    unlearner = cls(**parameters)
    unlearner._check_parameters()
    _restore_routing(unlearner, content["routing"])
    encoder = GroupEncoder()
    encoder.classes_ = _labels(content, "classes")
    encoder.attributes_ = _labels(content, "attributes")
    unlearner.classes_, unlearner._encoder = encoder.classes_, encoder
    state = {name: _decode(value) for name, value in content["state"].items()}
    for key, tensor in tensors.items():
        if key.startswith("state/"):
            state[key.removeprefix("state/")] = tensor.clone().numpy()
    _check_state(cls, parameters, state, encoder.n_groups_)
    unlearner.__dict__.update(state)
    ids = tensors.get("sample_ids")
    n_rows = len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)
    unlearner._sample_ids = SampleIds.from_json(
        None if ids is None else ids.numpy().tobytes(), n_rows
    )
    pairs = dict(enumerate(encoder.pairs_))
    unlearner.forget_groups_ = [pairs[number] for number in content["forget_groups"]]
    unlearner._data = None
    if content["net"]["kind"] not in ("default", "own", "frozen"):
        raise PersistenceError("the kind of net is unknown.")
    return unlearner


def _registered_class(content: Any) -> type[BaseUnlearner]:
    name = content["method"]
    classes = dict(all_unlearners())
    if not isinstance(name, str) or name not in classes:
        raise PersistenceError(
            f"the method {name!r} is none of this package's ({', '.join(classes)}). "
            f"{_written_by(content)}"
        )
    return classes[name]


def _written_by(content: Any) -> str:
    return (
        f"The file says it was written by grmu_sk {content['versions']['grmu_sk']}; this is "
        f"{version('grmu_sk')}."
    )


def _restore_routing(unlearner: BaseUnlearner, routing: dict[str, Any]) -> None:
    with config_context(enable_metadata_routing=True):
        for method in _ROUTED_METHODS:
            if method in routing:
                getattr(unlearner, f"set_{method}_request")(**routing[method])


def _labels(content: Any, name: str) -> NDArray[Any]:
    labels = _decode(content[name])
    if not isinstance(labels, np.ndarray) or len(set(labels.tolist())) != len(labels):
        raise PersistenceError(f"the {name} are not an array of distinct values.")
    return labels


def _check_state(
    cls: type[BaseUnlearner], parameters: Any, state: dict[str, Any], n_groups: int
) -> None:
    for name in state:
        is_known = hasattr(cls, name) or name in parameters or name in _NOT_PLAIN_STATE
        if is_known or not _is_state(name):
            raise PersistenceError(f"{name!r} is not the name of a saved attribute.")
    for name, kind in _REQUIRED_STATE.items():
        if type(state.get(name)) is not kind:
            raise PersistenceError(f"{name} is missing or is not of type {kind.__name__}.")
    if state["seed_"] < 0 or state["_n_requests"] < 0:
        raise PersistenceError("the seed or the number of requests is negative.")
    rows = np.concatenate([state["forget_idx_"], state["remaining_idx_"]])
    is_split = rows.ndim == 1 and np.array_equal(np.sort(rows), np.arange(len(rows)))
    if rows.dtype != np.int64 or not is_split:
        raise PersistenceError("forget_idx_ and remaining_idx_ are not row numbers of one data set")
    if not isinstance(state.get("_digests", {}), dict):
        raise PersistenceError("_digests is not a mapping.")
    if state["_group_counts"].shape != (n_groups,):
        raise PersistenceError(f"there are not {n_groups} group counts.")


def _history(rows: Any) -> History:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PersistenceError("the history is not a list of rows.")
    return History(rows)


def _matching_net(
    unlearner: BaseUnlearner,
    description: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    estimator: Any,
    path: Any,
) -> NeuralNet:
    """Return an initialised net, ready to take the weights."""
    n_saved = sum(tensor.numel() for tensor in tensors.values())
    if description["kind"] == "default":
        if estimator is not None:
            raise PersistenceError(
                f"{path} was saved with estimator=None and brings its net along: leave estimator "
                "out."
            )
        with _malformed(path):
            X = _inputs_like(unlearner, description, n_saved)
            _check_parts(unlearner, X, n_saved)
            return _initialized(unlearner, X)
    if estimator is None:
        raise PersistenceError(
            f"{path} holds the weights of a net but not the net itself, which is code. Pass the "
            "unfitted net the unlearner was made with: load(path, estimator=net)."
        )
    if isinstance(estimator, FrozenEstimator):
        raise TypeError(
            "estimator must be the bare skorch net, not a FrozenEstimator: its weights are taken "
            "from the file."
        )
    unlearner.estimator = estimator
    if getattr(estimator, "initialized_", False):  # it may know rows that were to be forgotten
        if description["kind"] == "frozen":
            unlearner.estimator = FrozenEstimator(estimator)  # for its layers; the file has weights
        else:
            unlearner.estimator = copy_net(estimator)
    X = _no_inputs(unlearner, 1)
    _check_parts(unlearner, X, n_saved)
    return _initialized(unlearner, X)


def _check_parts(unlearner: BaseUnlearner, X: torch.Tensor, n_saved: int) -> None:
    """See, by one of them, that a forged number of nets in one would not fill the memory."""
    if (n_parts := getattr(unlearner, "n_shards", 1)) > 1:
        one = copy.copy(unlearner)
        one.n_shards = 1
        weights = [
            w for _, part in parts_of(_initialized(one, X)).items() for w in part.parameters()
        ]
        n_weights = sum(w.numel() for w in weights if not torch.nn.parameter.is_lazy(w))
        if n_parts * n_weights > n_saved:
            raise PersistenceError(f"{n_parts} nets have more weights than the file that was read.")


def _inputs_like(
    unlearner: BaseUnlearner, description: dict[str, Any], n_saved: int
) -> torch.Tensor:
    shape = description["row_shape"]
    if len(shape) not in (1, 3) or not all(type(size) is int and size > 0 for size in shape):
        raise PersistenceError(f"{shape!r} is not the shape of a row.")
    if math.prod(shape) > n_saved:  # a forged size could fill the memory
        raise PersistenceError(f"a net for rows of shape {shape!r} has more weights than the file.")
    dtype = torch.float64 if description["is_double"] else torch.float32
    return _no_inputs(unlearner, *shape).to(dtype)


def _no_inputs(unlearner: BaseUnlearner, *row_shape: int) -> torch.Tensor:
    """Return inputs that have a shape and no values."""
    n_rows = len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)
    return torch.empty((n_rows, *row_shape), device="meta")


def _initialized(unlearner: BaseUnlearner, X: torch.Tensor) -> NeuralNet:
    net = unlearner._new_net(X)
    with isolated_rng(derive_seed(unlearner.seed_, 0), net.device):
        return unlearner._initialized(net)


def _fill_in_weights(net: NeuralNet, tensors: dict[str, torch.Tensor], path: Any) -> None:
    components = parts_of(net)
    expected = {
        f"weights/{component}/{name}": value
        for component, module in components.items()
        for name, value in module.state_dict().items()
    }
    saved = {name: value for name, value in tensors.items() if name.startswith("weights/")}
    _check_same_weights(expected, saved, path)
    for component, module in components.items():
        prefix = f"weights/{component}/"
        module.load_state_dict(
            {
                name.removeprefix(prefix): value
                for name, value in saved.items()
                if name.startswith(prefix)
            }
        )


def _check_same_weights(expected: dict[str, Any], saved: dict[str, Any], path: Any) -> None:
    advice = "Pass the net that the unlearner was made with, with the same sizes."
    for name, value in expected.items():
        _, component, weight = name.split("/", 2)
        if name not in saved:
            raise PersistenceError(
                f"{path} has no weight {weight!r}, which the net's {component} has. {advice}"
            )
        if torch.nn.parameter.is_lazy(value):
            continue  # it takes its shape from the file
        if _kind(value) != _kind(saved[name]):
            raise PersistenceError(
                f"{path}: the weight {weight!r} is {_kind(saved[name])} in the file but "
                f"{_kind(value)} in the net's {component}. {advice}"
            )
    for name in saved:
        if name in expected:
            continue
        component, _, weight = name.removeprefix("weights/").partition("/")
        raise PersistenceError(
            f"{path} has a weight {weight!r} that the net's {component} does not have. {advice}"
        )


def _kind(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
