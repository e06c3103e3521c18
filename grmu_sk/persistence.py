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
The header's metadata has one entry, ``grmu_sk``: 64 digits of SHA-256, of all that follows and of
every tensor, and one JSON document with the format, versions, method, labels, attributes,
history, and what else the object holds that is not an array of numbers: parameters and flags.

The tensors are called ``state/<attribute>`` (row numbers, counts),
``weights/<component>/<name>`` (entries of the component's ``state_dict``) and, if ``fit`` was given
ids, ``sample_ids`` (bytes of one JSON document).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from sklearn import config_context
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from skorch.history import History
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from .base import BaseUnlearner
from .files import write_atomically
from .fingerprints import digest, versions
from .groups import GroupEncoder
from .net_copies import copy_net, parts_of
from .randomness import derive_seed, isolated_rng
from .sample_ids import SampleIds
from .unlearners import all_unlearners
from .validation import to_array

__all__ = ["PersistenceError", "load", "save"]

FORMAT = "grmu_sk"
FORMAT_VERSION = 2
#: What safetensors accepts at most, in bytes.
LARGEST_HEADER = 100_000_000

# arrays of these, in the machine's byte order, are saved as tensors
_TENSOR_DTYPES = [np.dtype(name) for name in ("bool", "int32", "int64", "float32", "float64")]
# saved in a form of their own, or not at all
_NOT_PLAIN_STATE = {
    *("estimator", "_data", "_encoder", "_metadata_request", "_sample_ids"),
    *("classes_", "forget_groups_", "history_", "net_"),
}
_ROUTED_METHODS = ("fit", "score")
# NumPy's codes of what JSON can hold: truth values, whole numbers, doubles and text
_SIMPLE = "?bBhHiIlLqQefdU"


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
    ...         print("was not written by" in str(error))
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
    ``fit``. Tensors in the history come back as arrays, NumPy's numbers there and among parameters
    as Python's. Tensors that share memory (tied weights) are written once for each name. Of the
    attributes, those that scikit-learn's convention marks as fitted or private are saved
    (``name_``, ``_name``).

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
    if not isinstance(unlearner, BaseUnlearner):
        raise TypeError(f"Only unlearners can be saved, got a {type(unlearner).__name__}.")
    check_is_fitted(unlearner)
    write_atomically(Path(os.path.realpath(path)), _to_bytes(unlearner))


def load(path: str | os.PathLike[str], estimator: Any = None) -> BaseUnlearner:
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

    Returns
    -------
    BaseUnlearner
        A fitted unlearner of the saved class.

    Raises
    ------
    PersistenceError
        If the file is foreign, damaged or of a newer format; if the net has other weights than
        the file (the message names those that do not match).
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
    content, tensors = _read(path)
    n_saved = sum(tensor.numel() for tensor in tensors.values())
    with _malformed(path):
        unlearner = _without_net(content, tensors)
        unlearner.history_ = History(map(dict, _decode(content["history"])))
        described, inferred = content["net"], _decode(content["net"]["classes_inferred"])
    net = _net_for(unlearner, described, n_saved, estimator, path)
    _fill_in_weights(net, tensors, path)
    if inferred is not None:
        net.classes_inferred_ = inferred
    net.history, unlearner.net_ = unlearner.history_, net
    if described["is_frozen"]:
        unlearner.estimator = FrozenEstimator(net)
    return unlearner


# writing -----------------------------------------------------------------------------------------


def _to_bytes(unlearner: BaseUnlearner) -> bytes:
    plain, arrays = _plain_state(unlearner)
    plain["_digests"] = _encode(unlearner._known_digests(), "_digests")
    pairs = unlearner._encoder.pairs_
    content = {
        "format": FORMAT_VERSION,
        "versions": versions(),
        "method": _registered_name(type(unlearner)),
        "routing": _routing(unlearner),
        "classes": _encode(unlearner.classes_, "classes_"),
        "attributes": _encode(unlearner._encoder.attributes_, "the attribute values"),
        "forget_groups": [pairs.index(pair) for pair in unlearner.forget_groups_],
        "state": plain,
        "history": _encode(list(unlearner.history_), "history_"),
        "net": _describe_net(unlearner),
    }
    tensors = {f"state/{name}": torch.from_numpy(array) for name, array in arrays.items()}
    tensors |= _weights(unlearner.net_)
    ids = unlearner._sample_ids.to_json()
    if ids is not None:  # too long for the header
        tensors["sample_ids"] = torch.frombuffer(bytearray(ids.encode()), dtype=torch.uint8)
    text = json.dumps(content)
    metadata = {FORMAT: _digest_of(text, tensors) + text}
    if len(json.dumps(metadata)) > LARGEST_HEADER:
        raise PersistenceError(
            "The history is too long. Drop the batches from it: for row in unlearner.history_: "
            "row['batches'].clear()."
        )
    return safetensors.torch.save(tensors, metadata)


def _digest_of(text: str, tensors: dict[str, torch.Tensor]) -> str:
    return digest([("content", text.encode()), *sorted(tensors.items())])


def _registered_name(cls: type[BaseUnlearner]) -> str:
    name = getattr(cls, "method_name", None)
    if dict(all_unlearners()).get(str(name)) is not cls:
        raise PersistenceError(f"{cls.__name__} is not a registered method, which load needs.")
    return str(name)


def _routing(unlearner: BaseUnlearner) -> dict[str, Any]:
    """Return what ``set_fit_request`` and its like have set."""
    if "_metadata_request" not in vars(unlearner):
        return {}
    routing = unlearner.get_metadata_routing()
    return {method: dict(getattr(routing, method).requests) for method in _ROUTED_METHODS}


def _plain_state(unlearner: BaseUnlearner) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return parameters and fitted attributes as JSON values and as numeric arrays."""
    plain, arrays = {}, {}
    for name, value in vars(unlearner).items():
        is_state = name.startswith("_") or name.endswith("_")
        if name in _NOT_PLAIN_STATE or not (is_state or name in unlearner._get_param_names()):
            continue
        if isinstance(value, np.random.RandomState):
            value = unlearner.seed_
        if isinstance(value, np.ndarray) and value.dtype in _TENSOR_DTYPES:
            arrays[name] = np.array(value, order="C")
        else:
            plain[name] = _encode(value, name)
    return plain, arrays


def _describe_net(unlearner: BaseUnlearner) -> dict[str, Any]:
    """Return what there is to know of the net before it is built."""
    estimator, net = unlearner.estimator, unlearner.net_
    sizes = net.get_params_for("module") if estimator is None else {"n_features": None}
    return {
        "is_frozen": isinstance(estimator, FrozenEstimator),
        # of a row, for the default net; a net of the caller's needs none
        "row_shape": [sizes[name] for name in ("n_channels", "n_features") if name in sizes]
        + [1, 1] * ("n_channels" in sizes),
        "is_double": estimator is None and sizes.get("dtype") is not None,
        "classes_inferred": _encode(getattr(net, "classes_inferred_", None), "classes_inferred_"),
    }


def _weights(net: NeuralNet) -> dict[str, torch.Tensor]:
    weights = {}
    for component, module in parts_of(net).items():
        for name, value in module.state_dict().items():
            if not isinstance(value, torch.Tensor):
                raise PersistenceError(
                    f"The {component}'s {name!r} is no tensor, and pickle is not used."
                )
            # a copy of its own, since safetensors takes neither views nor shared memory
            copied = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            weights[f"weights/{component}/{name}"] = copied
    return weights


# values as JSON ----------------------------------------------------------------------------------


def _encode(value: Any, what: str) -> Any:
    """Return JSON that tells tuples and NumPy's arrays apart, see :func:`_decode`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [_encode(item, f"{what}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, tuple):
        return {"tuple": _encode(list(value), what)}
    if isinstance(value, dict):
        items = [[_encode(k, what), _encode(v, f"{what}[{k!r}]")] for k, v in value.items()]
        return {"dict": items}
    if isinstance(value, torch.Tensor):
        value = to_array(value, what)
    if isinstance(value, np.generic) and value.dtype.char in _SIMPLE:
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.char in _SIMPLE + "O":
        return {"array": [value.dtype.str, value.shape, _encode(value.ravel().tolist(), what)]}
    if isinstance(value, pd.Interval):
        return {"interval": _encode([value.left, value.right, value.closed], what)}
    raise PersistenceError(
        f"{what} cannot be saved without pickle: it is of type {type(value).__name__}."
    )


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    return _DECODERS[kind](*_decode(inner))


def _array(name: str, shape: list[int], items: list[Any]) -> NDArray[Any]:
    if name == "|O":
        array = np.empty(len(items), dtype=object)
        array[:] = items
        return array.reshape(shape)
    kind = np.dtype(name)
    if kind.char not in _SIMPLE:
        raise ValueError(f"values of type {name!r} are not expected here")
    if kind.kind == "U":  # as wide as the longest text, whatever it says of itself
        longest = max(map(len, items), default=1)
        if longest * len(items) > LARGEST_HEADER:
            raise ValueError("the array takes far more memory than its text")
        kind = np.dtype(f"<U{longest}")
    return np.array(items, dtype=kind).reshape(shape)


_DECODERS: dict[str, Callable[..., Any]] = {
    "tuple": lambda *items: items,
    "dict": lambda *items: dict(items),
    "array": _array,
    "interval": pd.Interval,
}


# reading -----------------------------------------------------------------------------------------


def _read(path: str | os.PathLike[str]) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return content and tensors of a file of ours that is whole and not too new."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            text = (file.metadata() or {})[FORMAT]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, LookupError, RuntimeError) as error:
        raise PersistenceError(
            f"{path} was not written by grmu_sk.persistence.save, or is damaged ({error})."
        ) from error
    stored, text = text[:64], text[64:]
    if stored != _digest_of(text, tensors):
        raise PersistenceError(f"{path} is damaged: its content does not match its SHA-256.")
    with _malformed(path):
        content = json.loads(text)
        if int(content["format"]) > FORMAT_VERSION:
            raise PersistenceError(f"format {content['format']} is newer than this grmu_sk.")
    return content, tensors


@contextmanager
def _malformed(path: Any) -> Iterator[None]:
    """Say of anything unexpected in the content that the file is to blame."""
    try:
        yield
    except Exception as error:  # whatever unpacking JSON of the wrong shape may raise
        raise PersistenceError(f"{path} does not hold what is expected: {error!r}") from error


def _without_net(content: Any, tensors: dict[str, torch.Tensor]) -> BaseUnlearner:
    """Return the unlearner with all of its state but the net."""
    unlearner: BaseUnlearner = dict(all_unlearners())[content["method"]]()
    with config_context(enable_metadata_routing=True):
        for method in set(_ROUTED_METHODS) & set(content["routing"]):
            getattr(unlearner, f"set_{method}_request")(**content["routing"][method])
    encoder = unlearner._encoder = GroupEncoder()
    encoder.classes_ = unlearner.classes_ = _decode(content["classes"])
    encoder.attributes_ = _decode(content["attributes"])
    state = {name: _decode(value) for name, value in content["state"].items()}
    for key, tensor in tensors.items():
        if key.startswith("state/"):
            state[key.removeprefix("state/")] = tensor.clone().numpy()
    unlearner.__dict__.update(state)
    unlearner._check_parameters()
    ids = tensors.get("sample_ids")
    document = None if ids is None else ids.numpy().tobytes()
    unlearner._sample_ids = SampleIds.from_json(document, _n_rows(unlearner))
    pairs = dict(enumerate(encoder.pairs_))
    unlearner.forget_groups_ = [pairs[number] for number in content["forget_groups"]]
    unlearner._data = None
    return unlearner


def _n_rows(unlearner: BaseUnlearner) -> int:
    return len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)


def _net_for(
    unlearner: BaseUnlearner, described: dict[str, Any], n_saved: int, estimator: Any, path: Any
) -> NeuralNet:
    """Return an initialised net, ready to take the weights."""
    row_shape, is_default = described["row_shape"], described["row_shape"] != [None]
    if is_default != (estimator is None):
        how = "leave estimator out" if is_default else "pass the unfitted net it was made with"
        raise PersistenceError(f"{path} needs another estimator: {how}.")
    if isinstance(estimator, FrozenEstimator):
        raise TypeError("estimator must be the bare skorch net: the file holds its weights.")
    if getattr(estimator, "initialized_", False):  # it may know rows that were to be forgotten
        # a frozen one for its layers: the file has the weights
        estimator = FrozenEstimator(estimator) if described["is_frozen"] else copy_net(estimator)
    unlearner.estimator = estimator
    shape = (_n_rows(unlearner), *(row_shape if is_default else [1]))
    dtype = torch.float64 if described["is_double"] else torch.float32
    net = unlearner._new_net(torch.empty(shape, dtype=dtype, device="meta"))
    seed = derive_seed(unlearner.seed_, 0)
    with _no_more_weights(8 * n_saved, path), isolated_rng(seed, net.device):
        return unlearner._initialized(net)


@contextmanager
def _no_more_weights(limit: int, path: Any) -> Iterator[None]:
    """Stop as soon as a net gets more weights: a forged size would fill the memory."""
    thread, n_weights = get_ident(), 0

    def count(module: Any, name: str, weight: Any) -> None:
        nonlocal n_weights
        if get_ident() == thread and weight is not None and not is_lazy(weight):
            n_weights += weight.numel()
            if n_weights > limit:
                raise PersistenceError(f"{path} asks for a net with more weights than the file.")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def _fill_in_weights(net: NeuralNet, tensors: dict[str, torch.Tensor], path: Any) -> None:
    parts = parts_of(net)
    saved: dict[str, dict[str, torch.Tensor]] = {component: {} for component in parts}
    for place, value in tensors.items():
        if place.startswith("weights/"):
            _, component, name = place.split("/", 2)
            saved.setdefault(component, {})[name] = value
    try:
        for component, weights in saved.items():
            parts[component].load_state_dict(weights)
            for name, ours in parts[component].state_dict().items():
                if ours.dtype != weights[name].dtype:  # which torch would convert
                    raise TypeError(f"{name} is {weights[name].dtype}, and {ours.dtype} in the net")
    except (LookupError, RuntimeError, TypeError) as error:
        raise PersistenceError(
            f"{path} holds other weights than the net. Pass the one it was made with. {error}"
        ) from error
