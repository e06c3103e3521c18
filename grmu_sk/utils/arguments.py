"""Checks of arguments, in the terms of the function that was called.

A wrong kind of value is best refused where it comes in, under the name the caller knows it by:
deep inside it is an error about an array nobody has heard of.
"""

from __future__ import annotations

import os
import re
import sys
import types
import typing
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state

__all__ = [
    "LARGEST",
    "about",
    "as_random_state",
    "check_types",
    "is_iterable",
    "to_array",
    "to_numbers",
]

#: In single precision, with which optimizers compute.
LARGEST = float(np.finfo(np.float32).max)
PACKAGE = __name__.partition(".")[0]
Kind = tuple[str, Callable[[Any], bool]]


def check_types(
    function: Callable[..., Any], values: Mapping[str, Any], *, allow_nan: bool = False
) -> None:
    """Check arguments against the annotations of a function.

    Looked at are truth values, numbers, texts, options (``Literal``), sequences, mappings, paths,
    callables, hashables and objects of this package. Anything else (array-likes, nets) is left to
    those who read it.

    Parameters
    ----------
    function : callable
        Whose annotations to go by.
    values : mapping
        The arguments by name, as ``locals()`` has them in the function's first line; names that
        the function does not have are passed over.
    allow_nan : bool, default=False
        Whether NaN counts as a number.

    Raises
    ------
    TypeError
        If a value is of another kind; the message names the argument.
    ValueError
        If a number is NaN, or an option is none of those there are.

    Examples
    --------
    >>> from grmu_sk.utils.arguments import check_types
    >>> def train(epochs: int, lr: float | None = None):
    ...     check_types(train, locals())
    >>> train(3, lr="fast")
    Traceback (most recent call last):
        ...
    TypeError: lr must be a number or None, got 'fast'.
    """
    for name, hint in _hints(function).items():
        if name not in values:
            continue
        value = values[name]
        if not any(accepts(value) for _, accepts in hint):
            _refuse(name, value, hint)
        if not allow_nan and isinstance(value, float | np.floating) and value != value:
            raise ValueError(f"{name} must be a number, got NaN.")


def _refuse(name: str, value: Any, hint: tuple[Kind, ...]) -> None:
    expected = " or ".join(words for words, _ in hint)
    message = f"{name} must be {expected}, got {_shown(value)}."
    is_option = any(words.startswith("one of") for words, _ in hint)
    is_name = isinstance(value, str) and any(words == "a path" for words, _ in hint)
    raise ValueError(message) if is_option or is_name else TypeError(message)


def _shown(value: Any) -> str:
    """Return a value as an error message shows it."""
    try:
        text = repr(value)
    except Exception:  # somebody else's code
        text = f"a {type(value).__name__}"
    if len(text) <= 100 and "\n" not in text:
        return text
    is_plain = isinstance(value, str | bytes | int | list | tuple | dict)
    return (f"{text[:100]}... (" if is_plain else "") + f"a {type(value).__name__}" + ")" * is_plain


@cache
def _hints(function: Callable[..., Any]) -> dict[str, tuple[Kind, ...]]:
    """Return what to check of each argument; nothing where any value may do."""
    namespace = vars(sys.modules[function.__module__])
    found = {}
    for name, annotation in function.__annotations__.items():
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, namespace)
            except NameError:  # imported for the type checker alone
                continue
        kinds = _kinds(annotation)
        if name != "return" and kinds is not None:
            found[name] = kinds
    return found


def _kinds(annotation: Any) -> tuple[Kind, ...] | None:
    """Return what an annotation allows, or None if that is not for us to check."""
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        parts = [_kinds(part) for part in typing.get_args(annotation)]
        if any(part is None for part in parts):
            return None
        kinds = dict.fromkeys(kind for part in parts for kind in part or ())
        if _PLAIN[Path] in kinds:  # not any text can be a path
            kinds.pop(_PLAIN[str], None)
        return tuple(kinds)
    if origin is Literal:
        options = typing.get_args(annotation)
        words = f"one of {', '.join(map(repr, sorted(options)))}"
        return ((words, _is_in(options)),)
    if origin is Iterable:
        return (_iterable_of(typing.get_args(annotation)),)
    if origin in (tuple, list, Sequence):
        return (_sequence_of(origin, typing.get_args(annotation)),)
    kind = _PLAIN.get(annotation) or _PLAIN.get(origin)
    if kind is None and isinstance(annotation, type) and annotation.__module__.startswith(PACKAGE):
        kind = _instance_of(annotation)
    return None if kind is None else (kind,)


@cache
def _sequence_of(origin: Any, args: tuple[Any, ...]) -> Kind:
    """Return a check of a sequence and, where that is ours to check, of what is in it."""
    n_items = len(args) if origin is tuple and Ellipsis not in args else None
    # pairs in a list have checks of their own, which say more
    items = [arg for arg in args if arg is not Ellipsis]
    of_items = [None if typing.get_origin(item) is tuple else _kinds(item) for item in items]

    def accepts(values: Any) -> bool:
        if not _is_sequence(values) or n_items not in (None, len(values)):
            return False
        # pandas counts by labels, a mask or an array by positions
        kinds = of_items if n_items is not None else of_items * len(values)
        return all(
            kind is None or any(fits(value) for _, fits in kind)
            for kind, value in zip(kinds, values, strict=True)
        )

    words = "a sequence" if n_items is None else f"a sequence of {n_items}"
    named = {words for kind in of_items for words, _ in kind or ()}
    return words + (f" ({' or '.join(sorted(named))} each)" if named else ""), accepts


@cache
def _iterable_of(args: tuple[Any, ...]) -> Kind:
    """Return a check of an iterable; what is in it only if it can be looked at twice."""
    words, accepts = _sequence_of(Sequence, args)
    return (
        words,
        lambda value: is_iterable(value) and (accepts(value) if _is_sequence(value) else True),
    )


@cache
def _instance_of(cls: type) -> Kind:
    article = "an" if cls.__name__[0] in "AEIO" else "a"
    return f"{article} {cls.__name__}", lambda value: isinstance(value, cls)


@cache
def _is_in(options: tuple[str, ...]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in options


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 1023  # more is no float
    return isinstance(value, float | np.floating | np.integer)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_path(value: Any) -> bool:
    """Tell whether a file can be called that: without a zero byte or half a character."""
    if not isinstance(value, str | os.PathLike):
        return False
    name = os.fspath(value)
    try:
        return isinstance(name, str) and "\0" not in name and bool(os.fsencode(name) or True)
    except UnicodeEncodeError:
        return False


def _is_sequence(value: Any) -> bool:
    if isinstance(value, str | bytes | Mapping) or scipy.sparse.issparse(value):
        return False
    is_several = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return is_several and getattr(value, "shape", None) != ()


def _is_hashable(value: Any) -> bool:
    if isinstance(value, torch.Tensor):  # by its identity, which is not meant
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True


def is_iterable(value: Any) -> bool:
    """Tell whether one can go through a value; an array of no dimension only looks as if."""
    return isinstance(value, Iterable) and getattr(value, "shape", None) != ()


_PLAIN: dict[Any, Kind] = {
    bool: ("True or False", _is_bool),
    int: ("a whole number", _is_whole),
    float: ("a number", _is_real),
    str: ("a text", _is_text),
    bytes: ("bytes", lambda value: isinstance(value, bytes)),
    dict: ("a dict", lambda value: isinstance(value, dict)),
    type(None): ("None", lambda value: value is None),
    Path: ("a path", _is_path),
    os.PathLike: ("a path", _is_path),
    np.random.RandomState: (
        "a RandomState",
        lambda value: isinstance(value, np.random.RandomState),
    ),
    Sequence: ("a sequence", _is_sequence),
    list: ("a sequence", _is_sequence),
    tuple: ("a sequence", _is_sequence),
    Mapping: ("a mapping", lambda value: isinstance(value, Mapping)),
    Callable: ("a function", callable),
    Hashable: ("hashable", _is_hashable),
}


@contextmanager
def about(name: str) -> Iterator[None]:
    """Let errors about a value name the argument that it came in by.

    Parameters
    ----------
    name : str
        The argument.

    Raises
    ------
    TypeError, ValueError
        What is raised inside, with the name in front if its message does not have it.

    Examples
    --------
    >>> from grmu_sk.utils.arguments import about
    >>> with about("lam"):
    ...     float("x")
    Traceback (most recent call last):
        ...
    ValueError: lam: could not convert string to float: 'x'
    """
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from error


def as_random_state(value: Any, name: str = "random_state") -> np.random.RandomState:
    """Return a random number generator, as :func:`sklearn.utils.check_random_state` does.

    Parameters
    ----------
    value : int, RandomState instance or None
        Seed or generator; None means NumPy's global one.
    name : str, default="random_state"
        What to call the argument in error messages.

    Returns
    -------
    RandomState
        The generator.

    Raises
    ------
    ValueError
        If it is none of these, or a seed out of range.
    """
    try:
        return check_random_state(None if value is None else value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must be a whole number from 0 to 2**32 - 1, a RandomState or None, got "
            f"{_shown(value)}."
        ) from error


def to_array(values: Any, name: str) -> NDArray[Any]:
    """Return an array; tensors come off their device, and bfloat16 (unknown to NumPy) is widened.

    Parameters
    ----------
    values : array-like or tensor
        Values of any type.
    name : str
        What to call the argument in error messages.

    Returns
    -------
    ndarray
        The same values.

    Raises
    ------
    TypeError
        If it is a sparse matrix, or a tensor without values.
    ValueError
        If no array can be made of it, since rows differ in length for instance.
    """
    if scipy.sparse.issparse(values):
        raise TypeError(f"{name} is a sparse matrix: pass {name}.toarray().")
    if isinstance(values, torch.Tensor):
        return _from_tensor(values, name)
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(f"{name} has masked values: fill them in, or leave those rows out.")
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever __array__ and __len__ of somebody else's class raise
        raise ValueError(f"{name} cannot be read as an array: {error}") from error
    if array.dtype.kind == "V":
        raise ValueError(f"{name} must hold single values, got records ({array.dtype}).")
    # pandas reads no other byte order
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _from_tensor(tensor: torch.Tensor, name: str) -> NDArray[Any]:
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized:
        raise TypeError(
            f"{name} is a tensor of layout {tensor.layout} on {tensor.device}: a dense one with "
            "values is needed."
        )
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    is_unknown = tensor.dtype is torch.bfloat16 or tensor.element_size() < 2
    return np.asarray(tensor.double() if is_unknown and tensor.is_floating_point() else tensor)


def to_numbers(values: Any, name: str) -> NDArray[np.float64]:
    """Return an array of real numbers.

    Parameters
    ----------
    values : array-like or tensor
        Numbers.
    name : str
        What to call the argument in error messages.

    Returns
    -------
    ndarray, float64
        The same numbers.

    Raises
    ------
    TypeError
        If it is a sparse matrix, or a tensor without values.
    ValueError
        If they are not real numbers.
    """
    array = to_array(values, name)
    if array.dtype.kind in "cmMV":
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}.")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must hold real numbers: {error}") from error
