"""Save a fitted unlearner in a file that cannot carry code, and load it again.

A pickle runs whatever its author put into it. A file written here is a `safetensors`_ file: raw
numbers, and a header of JSON with everything else. Reading one builds objects of this package's
own classes only, and the net whose weights are filled in is the one the reader brings. Any other
classifier is in the file as `skops`_ writes it, and of types only that skops knows to be harmless
or the reader trusts.

Of the other ways to keep an unlearner, none is safe for untrusted files: joblib and pickle run any
code in the file, and so does skops for a skorch net, because the net's own state is a pickle inside
the file, whatever types are listed as trusted.

.. _safetensors: https://huggingface.co/docs/safetensors
.. _skops: https://skops.readthedocs.io

Layout
------
The header's metadata has one entry, ``grmu_sk``: SHA-256 of all tensors. These are called
``weights/<component>/<name>`` (entries of the component's ``state_dict``), or ``classifier`` (what
skops writes of the unfitted and the fitted one), and ``content``: a JSON document with the format,
versions, method, labels, attributes, sample ids, history, and what else the object holds, such as
parameters, row numbers, counts and flags.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
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
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet
from skorch.history import History
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.nn.parameter import is_lazy

from .base import BaseUnlearner
from .files import write_atomically
from .fingerprints import digest, versions, weights
from .groups import GroupEncoder
from .net_copies import copy_net, parts_of
from .randomness import derive_seed, isolated_rng
from .sample_ids import SampleIds
from .unlearners import all_unlearners
from .unlearners.sisa import ShardedClassifier
from .validation import to_array

__all__ = ["PersistenceError", "load", "save"]

FORMAT = "grmu_sk"
FORMAT_VERSION = 3
#: Characters that an array of text may take, which may be far more than the text itself.
LARGEST_TEXT = 100_000_000

# saved in a form of their own, or not at all
_NOT_PLAIN_STATE = {
    *("estimator", "_data", "_encoder", "_metadata_request", "_given_ids"),
    *("classes_", "forget_groups_", "history_", "net_", "estimator_"),
}
# our own type in a file, of which nobody else knows that it is harmless
_SHARDED = f"{ShardedClassifier.__module__}.{ShardedClassifier.__qualname__}"
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
    and nothing of the net but its weights. A classifier that is no net is in the file as a whole,
    fitted and unfitted; one that keeps rows, as nearest neighbours do, keeps those that remain.

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
        that is an object, a module whose ``state_dict`` holds more than tensors, a net within a
        classifier.
    ImportError
        If there is a classifier to be written and skops is not installed.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : The reverse.

    Notes
    -----
    A ``random_state`` that is a RandomState instance is saved as the seed drawn from it in
    ``fit``. Requests for metadata (``set_fit_request``) are not in the file. Tensors in the history
    come back as arrays, NumPy's numbers there and among parameters as Python's. Tensors that share
    memory (tied weights) are written once for each name. Of the attributes, those that
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
    if not isinstance(unlearner, BaseUnlearner):
        raise TypeError(f"Only unlearners can be saved, got a {type(unlearner).__name__}.")
    check_is_fitted(unlearner)
    write_atomically(Path(os.path.realpath(path)), _to_bytes(unlearner))


def load(
    path: str | os.PathLike[str], estimator: Any = None, *, trusted: Iterable[str] = ()
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
        built anew from the sizes in the file. None, too, for a classifier that is no net: the file
        holds it.
    trusted : iterable of str, default=()
        Types of a classifier that skops does not know to be harmless, and that may be built all the
        same. The message that refuses them lists them.

    Returns
    -------
    BaseUnlearner
        A fitted unlearner of the saved class.

    Raises
    ------
    PersistenceError
        If the file is foreign, damaged or of a newer format; if the net has other weights than
        the file (the message names those that do not match); if it holds types that are neither
        known to be harmless nor trusted.
    ImportError
        If there is a classifier in the file and skops is not installed.
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
    nothing else of the file names code, so a hostile file can at worst hold a bad model. A
    classifier names its types: trust those only that are what you use, from libraries that you
    know. Some hold trees that compiled code reads, which a forged one may crash. The SHA-256 in the
    file detects damage; it does not say who wrote it, since whoever changes the file on purpose can
    write a new one. Against that, keep the file's own digest elsewhere, or a signature. The net and
    its callbacks are the caller's and run as usual.

    An unlearner that was given a trained net (:class:`~sklearn.frozen.FrozenEstimator`) is loaded
    with the bare, unfitted net as well. Its ``estimator`` is then a FrozenEstimator around the
    loaded net, which is what ``unlearn`` leaves behind too: the net that was brought in
    originally is not in the file.

    Examples
    --------
    See :func:`save`.
    """
    content, tensors = _read(path)
    with _malformed(path):
        unlearner = _without_net(content)
        unlearner.history_ = History(map(dict, _decode(content["history"])))
        is_frozen, row_shape = content["net"]
    classifier = tensors.pop("classifier", None)
    inside = "the default net" if row_shape else classifier is not None and "a classifier in it"
    if bool(inside) != (estimator is None):
        how = f"{inside}: give none" if inside else "a net of its own: give that, unfitted"
        raise PersistenceError(f"{path} was made with {how} (estimator, or --net).")
    if classifier is not None:
        return _with_classifier(unlearner, classifier.numpy().tobytes(), trusted, path)
    if isinstance(estimator, FrozenEstimator):
        raise TypeError("estimator must be the bare skorch net: the file holds its weights.")
    if getattr(estimator, "initialized_", False):  # it may know rows that were to be forgotten
        # a frozen one for its layers: the file has the weights
        estimator = FrozenEstimator(estimator) if is_frozen else copy_net(estimator)
    unlearner.estimator = estimator
    dtype = next(iter(tensors.values()), torch.empty(0)).dtype
    rows = torch.empty((unlearner._n_rows, *(row_shape or [1])), dtype=dtype, device="meta")
    net = unlearner._new_net(rows)
    n_saved = sum(tensor.numel() for tensor in tensors.values())
    seed = derive_seed(unlearner.seed_, 0)
    with _no_more_weights(8 * n_saved, path), isolated_rng(seed, net.device):
        net = unlearner._initialized(net)
    _fill_in_weights(net, tensors, path)
    net.classes_inferred_ = unlearner.classes_
    net.history, unlearner.net_ = unlearner.history_, net
    if is_frozen:
        unlearner.estimator = FrozenEstimator(net)
    return unlearner


# writing -----------------------------------------------------------------------------------------


def _to_bytes(unlearner: BaseUnlearner) -> bytes:
    method = str(getattr(type(unlearner), "method_name", None))
    if dict(all_unlearners()).get(method) is not type(unlearner):
        name = type(unlearner).__name__
        raise PersistenceError(f"{name} is not a registered method, which load needs.")
    plain = _plain_state(unlearner)
    plain["_digests"] = _encode(unlearner._known_digests(), "_digests")
    pairs, ids = unlearner._encoder.pairs_, unlearner._given_ids
    content = {
        "format": FORMAT_VERSION,
        "versions": versions(),
        "method": method,
        "classes": _encode(unlearner.classes_, "classes_"),
        "attributes": _encode(unlearner._encoder.attributes_, "the attribute values"),
        "forget_groups": [pairs.index(pair) for pair in unlearner.forget_groups_],
        "sample_ids": ids and ids.to_plain(),
        "state": plain,
        "history": _encode(list(unlearner.history_), "history_"),
        "net": _describe_net(unlearner),
    }
    takes_net = unlearner._takes_net
    tensors = _weights(unlearner.net_) if takes_net else {"classifier": _classifier(unlearner)}
    tensors["content"] = _as_tensor(json.dumps(content).encode())
    return safetensors.torch.save(tensors, {FORMAT: digest(sorted(tensors.items()))})


def _as_tensor(raw: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8)


def _plain_state(unlearner: BaseUnlearner) -> dict[str, Any]:
    """Return parameters and fitted attributes as JSON values."""
    held, params = dict(vars(unlearner)), unlearner._get_param_names()
    if isinstance(unlearner.random_state, np.random.RandomState):
        held["random_state"] = unlearner.seed_
    names = [name for name in held if name in params or "_" in (name[0], name[-1])]
    return {name: _encode(held[name], name) for name in names if name not in _NOT_PLAIN_STATE}


def _describe_net(unlearner: BaseUnlearner) -> list[Any]:
    """Return if the net is frozen and, of the default one, the shape of a row."""
    if unlearner.estimator is not None:
        return [unlearner._is_frozen, None]
    sizes = unlearner.net_.get_params_for("module")
    shape = [sizes["n_channels"], 1, 1] if "n_channels" in sizes else [sizes["n_features"]]
    return [False, shape]


def _weights(net: NeuralNet) -> dict[str, torch.Tensor]:
    copies = {}
    for name, value in weights(net):
        if not isinstance(value, torch.Tensor):
            raise PersistenceError(f"{name!r} of the net is no tensor, and pickle is not used.")
        # a copy of its own, since safetensors takes neither views nor shared memory
        copied = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        copies[f"weights/{name}"] = copied
    return copies


# classifiers -------------------------------------------------------------------------------------


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise ImportError(
            "Files with classifiers of scikit-learn need skops: pip install 'grmu_sk[skops]'."
        ) from error
    return skops.io


def _unknown_types(raw: bytes) -> set[str]:
    """Return types in a classifier that skops does not know to be harmless."""
    found = set(_skops().get_untrusted_types(data=raw)) - {_SHARDED}
    if any(name.startswith(("skorch.", "torch.")) for name in found):
        raise ValueError("a net within it is a pickle; a Pipeline can be put around the unlearner")
    return found


def _classifier(unlearner: BaseUnlearner) -> torch.Tensor:
    both = [None if unlearner._is_frozen else clone(unlearner._source()), unlearner._model]
    io, kind = _skops(), type(both[1]).__name__
    try:
        raw = io.dumps(both)
        io.loads(raw, trusted=[*_unknown_types(raw), _SHARDED])
    except Exception as error:  # functions that have no name to find them by, for example
        raise PersistenceError(f"{kind} cannot be saved without pickle: {error}.") from error
    return _as_tensor(raw)


def _with_classifier(unlearner: Any, raw: bytes, trusted: Iterable[str], path: Any) -> Any:
    io, trusted = _skops(), [*trusted, _SHARDED]
    with _malformed(path):
        unknown = sorted(_unknown_types(raw).difference(trusted))
    if unknown:
        raise PersistenceError(
            f"{path} holds types that are not known to be harmless. If you know where it comes "
            f"from, and what they are, pass trusted={unknown!r} (--trust TYPE for each)."
        )
    with _malformed(path):
        given, fitted = io.loads(raw, trusted=trusted)
        unlearner.estimator = FrozenEstimator(fitted) if given is None else given
        if unlearner._takes_net or not hasattr(fitted, "predict_proba"):
            raise TypeError("there is no classifier")
        unlearner.estimator_ = fitted
    return unlearner


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
        items = value.ravel().tolist()
        items = _encode(items, what) if value.dtype == object else items
        return {"array": [value.dtype.str, value.shape, items]}
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
    if kind.kind == "U" and max(map(len, items), default=0) * len(items) > LARGEST_TEXT:
        raise ValueError("the array takes far more memory than its text")
    # text is as wide as the longest, whatever the file says
    return np.array(items, dtype=str if kind.kind == "U" else kind).reshape(shape)


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
            stored = (file.metadata() or {})[FORMAT]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, LookupError, RuntimeError) as error:
        raise PersistenceError(
            f"{path} was not written by grmu_sk.persistence.save, or is damaged ({error})."
        ) from error
    if stored != digest(sorted(tensors.items())):
        raise PersistenceError(f"{path} is damaged: its content does not match its SHA-256.")
    with _malformed(path):
        content = json.loads(tensors.pop("content").numpy().tobytes())
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


def _without_net(content: Any) -> BaseUnlearner:
    """Return the unlearner with all of its state but the net."""
    unlearner: BaseUnlearner = dict(all_unlearners())[content["method"]]()
    encoder = unlearner._encoder = GroupEncoder()
    encoder.classes_ = unlearner.classes_ = _decode(content["classes"])
    encoder.attributes_ = _decode(content["attributes"])
    unlearner.__dict__.update({name: _decode(value) for name, value in content["state"].items()})
    unlearner._check_parameters()
    ids = content["sample_ids"]
    unlearner._given_ids = ids and SampleIds.from_plain(ids, unlearner._n_rows)
    pairs = dict(enumerate(encoder.pairs_))
    unlearner.forget_groups_ = [pairs[number] for number in content["forget_groups"]]
    unlearner._data = None
    return unlearner


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
    try:
        for place, value in tensors.items():
            _, component, name = place.split("/", 2)
            saved.setdefault(component, {})[name] = value
        for component, weights in saved.items():
            parts[component].load_state_dict(weights)
            for name, ours in parts[component].state_dict().items():
                if ours.dtype != weights[name].dtype:  # which torch would convert
                    raise TypeError(f"{name} is {weights[name].dtype}, and {ours.dtype} in the net")
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise PersistenceError(
            f"{path} holds other weights than the net. Pass the one it was made with. {error}"
        ) from error
