"""Values that people hand over by mistake, made out of valid ones.

``broken(value)`` is a strategy: it draws a corruption that fits the type of a valid value (a
column of labels loses a row, gets NaN, becomes a generator, a sparse matrix, a tensor with a
gradient, ...), or a value of another kind altogether.
"""

import decimal
import fractions
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

#: What JSON, YAML or a notebook cell may leave in a variable.
ODDITIES = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**70),
    10**400,
    0.5,
    -0.0,
    1e300,
    math.nan,
    math.inf,
    -math.inf,
    1j,
    "",
    "a",
    "0",
    "nan",
    "\x00",
    "\ud800",
    "ü\u202e\U0001f600",
    "a" * 5000,
    b"",
    b"\xff\x00",
    (),
    [],
    {},
    set(),
    [[]],
    [None],
    [[1, 2], [3]],
    [1, "a", None],
    ["a", "b"],
    ("a", 1),
    {"a": 1},
    {1, 2},
    range(3),
    object,
    len,
    Ellipsis,
    NotImplemented,
    decimal.Decimal("NaN"),
    fractions.Fraction(1, 3),
    np.float32(0.5),
    np.int64(2),
    np.array(3),
    np.array([]),
    np.array(["x"]),
    np.array([None, math.nan], dtype=object),
    np.datetime64("NaT", "s"),
    pd.NA,
    pd.NaT,
    pd.Timestamp(0),
    Path("nowhere/at/all"),
]


def _fresh(value):
    """Return a value that nobody else holds; iterators are used up by one call."""
    return value() if callable(value) and getattr(value, "is_maker", False) else value


def maker(function):
    function.is_maker = True
    return function


@maker
def a_generator():
    return (number for number in range(5))


@maker
def an_iterator():
    return iter([0, 1])


@maker
def a_sparse_matrix():
    return scipy.sparse.csr_matrix(np.eye(3))


@maker
def a_loop():
    loop = ()
    for _ in range(70):  # deeper than NumPy counts
        loop = [loop]
    return loop


@maker
def a_tensor_on_meta():
    return torch.empty(3, device="meta")


MADE = [a_generator, an_iterator, a_sparse_matrix, a_loop, a_tensor_on_meta]


class ClaimsAnArray:
    """Says that it is an array, and is none."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array here")

    def __len__(self):
        return 3


anything = st.one_of(
    st.sampled_from([*ODDITIES, *MADE]).map(_fresh),
    st.text(max_size=8),
    st.integers(),
    st.floats(),
    st.binary(max_size=8),
    st.lists(st.one_of(st.integers(-3, 9), st.text(max_size=2), st.none()), max_size=6),
    st_numpy.arrays(
        dtype=st.one_of(
            st_numpy.scalar_dtypes(),
            st_numpy.unicode_string_dtypes(max_len=3),
        ),
        shape=st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    ),
)


# columns and matrices ----------------------------------------------------------------------------


def _with(array, position, value):
    changed = array.astype(object)
    changed[position] = value
    return changed


def _real(array):
    return array if array.dtype.kind in "iufb" else np.arange(array.size).reshape(array.shape)


def _memmap(array):
    array = _real(array)
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype=array.dtype, mode="w+", shape=array.shape)
    mapped[...] = array
    return mapped


def _read_only(array):
    copy = array.copy()
    copy.setflags(write=False)
    return copy


def _frame(array):
    return pd.DataFrame(array) if array.ndim == 2 else pd.Series(list(array))


def _odd_index(array):
    frame = _frame(array)
    frame.index = [0] * len(frame)
    return frame


def _multi_index(array):
    frame = _frame(array)
    frame.index = pd.MultiIndex.from_arrays([["x"] * len(frame), range(len(frame))])
    return frame


def _nullable(array):
    series = pd.Series(_real(array).reshape(-1)).convert_dtypes()
    if len(series):
        series.iloc[0] = pd.NA
    return series


def _tensor(array, **kwargs):
    return torch.tensor(np.ascontiguousarray(_real(array)).astype(np.float64), **kwargs)


def _ragged(array):
    return [[0] * (1 + row % 2) for row in range(max(len(array), 2))]


#: name: function of a valid array that returns a spoiled, or merely unusual, one
ARRAY_CHANGES = {
    "one short": lambda a: a[:-1],
    "one long": lambda a: np.concatenate([a, a[:1]]),
    "empty": lambda a: a[:0],
    "one row": lambda a: a[:1],
    "0-d": lambda a: np.array(a.flat[0]) if a.size else np.array(0),
    "one more axis": lambda a: a[..., None],
    "two more axes": lambda a: a[None, ..., None],
    "transposed": lambda a: a.T,
    "flat": lambda a: a.reshape(-1),
    "reversed view": lambda a: a[::-1],
    "list": lambda a: a.tolist(),
    "tuple": lambda a: tuple(a.tolist()),
    "generator": lambda a: (value for value in a.tolist()),
    "set": lambda a: set(map(str, a.reshape(-1).tolist())),
    "dict": lambda a: dict(enumerate(a.tolist())),
    "strings": lambda a: a.astype(str),
    "bytes": lambda a: a.astype(str).astype("S"),
    "objects": lambda a: a.astype(object),
    "an object of its own": lambda a: _with(a, 0, object()),
    "a list inside": lambda a: _with(a.reshape(-1), 0, [1]),
    "None inside": lambda a: _with(a, 0, None),
    "NaN": lambda a: _with(a, -1, math.nan),
    "NaN floats": lambda a: np.full(a.shape, math.nan),
    "infinite": lambda a: np.full(a.shape, math.inf),
    "minus infinite": lambda a: -np.full(a.shape, math.inf),
    "huge": lambda a: np.full(a.shape, 1e300),
    "huge whole": lambda a: np.full(a.shape, 2**63, dtype=np.uint64),
    "over 64 bits": lambda a: np.full(a.shape, 2**70, dtype=object),
    "negative": lambda a: -1 - np.abs(_real(a).astype(np.int64)),
    "fractions": lambda a: np.linspace(0, 1, a.size).reshape(a.shape),
    "zeros": lambda a: np.zeros(a.shape),
    "all equal": lambda a: np.repeat(a[:1], len(a), axis=0),
    "mask": lambda a: np.ones(a.shape, dtype=bool),
    "no mask": lambda a: np.zeros(a.shape, dtype=bool),
    "short mask": lambda a: np.ones(max(len(a) - 2, 0), dtype=bool),
    "duplicates": lambda a: np.repeat(a, 2, axis=0),
    "complex": lambda a: _real(a).astype(complex) + 1j,
    "half": lambda a: _real(a).astype(np.float16),
    "unsigned": lambda a: np.abs(_real(a)).astype(np.uint8),
    "big-endian": lambda a: _real(a).astype(">f8"),
    "dates": lambda a: _real(a).astype("int64").astype("datetime64[s]"),
    "records": lambda a: np.zeros(a.shape, dtype=[("x", int), ("y", float)]),
    "masked": lambda a: np.ma.masked_array(_real(a), mask=np.arange(a.size).reshape(a.shape) % 2),
    "sparse": lambda a: scipy.sparse.csr_matrix(np.atleast_2d(_real(a).reshape(len(a), -1))),
    "coo": lambda a: scipy.sparse.coo_array(np.atleast_2d(_real(a).reshape(len(a), -1))),
    "read-only": _read_only,
    "memory map": _memmap,
    "matrix": lambda a: np.asmatrix(_real(a).reshape(len(a), -1)),
    "tensor": _tensor,
    "tensor with gradient": lambda a: _tensor(a, requires_grad=True),
    "whole tensor": lambda a: _tensor(a).long(),
    "bfloat16": lambda a: _tensor(a).bfloat16(),
    "sparse tensor": lambda a: _tensor(a).to_sparse(),
    "meta tensor": lambda a: _tensor(a).to("meta"),
    "pandas": _frame,
    "repeated index": _odd_index,
    "multi-index": _multi_index,
    "nullable": _nullable,
    "categories": lambda a: pd.Categorical(list(map(str, a.reshape(-1).tolist()))),
    "ragged": _ragged,
    "no array": lambda a: ClaimsAnArray(),
}


def _changed(array):
    def change(name):
        try:
            return ARRAY_CHANGES[name](array)
        except (TypeError, ValueError, IndexError, OverflowError):
            return None  # not every change can be made to every array

    return change


def broken_array(array):
    return st.sampled_from(sorted(ARRAY_CHANGES)).map(_changed(array))


#: name: function of a valid tensor that returns a spoiled, or merely unusual, one
TENSOR_CHANGES = {
    "one short": lambda t: t[:-1],
    "empty": lambda t: t[:0],
    "0-d": lambda t: t.reshape(-1)[0],
    "one more axis": lambda t: t[..., None],
    "turned around": lambda t: t.transpose(0, -1),
    "not contiguous": lambda t: t[::2],
    "expanded": lambda t: t[:1].expand(5, *t.shape[1:]),
    "whole": lambda t: t.long(),
    "floats": lambda t: t.double(),
    "NaN": lambda t: torch.full(t.shape, math.nan),
    "bfloat16": lambda t: t.bfloat16(),
    "mask": lambda t: t.bool(),
    "complex": lambda t: t.to(torch.complex64),
    "with gradient": lambda t: t.float().requires_grad_(),
    "sparse": lambda t: t.to_sparse(),
    "meta": lambda t: t.to("meta"),
    "parameter": lambda t: torch.nn.Parameter(t.float()),
    "quantized": lambda t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.quint8),
    "array": lambda t: t.numpy(),
    "list": lambda t: t.tolist(),
}


def broken_tensor(tensor):
    return st.sampled_from(sorted(TENSOR_CHANGES)).map(lambda name: TENSOR_CHANGES[name](tensor))


# files and commands ------------------------------------------------------------------------------


class Content(bytes):
    """What a file holds."""


class Arguments(list):
    """What a command is called with."""


def damaged(content):
    """Return a strategy for a file that was cut short, altered, put together wrongly or swapped."""
    position = st.integers(0, max(len(content) - 1, 0))

    def flip(parts):
        at, bit = parts
        changed = bytearray(content or b"\0")
        changed[at] ^= 1 << bit
        return bytes(changed)

    def put_in(parts):
        at, more = parts
        return content[:at] + more + content[at + len(more) // 2 :]

    return st.one_of(
        position.map(lambda at: content[:at]),
        st.tuples(position, st.integers(0, 7)).map(flip),
        st.tuples(position, st.binary(min_size=1, max_size=40)).map(put_in),
        st.tuples(position, position).map(lambda ends: content[min(ends) : max(ends)]),
        st.binary(max_size=300),
        st.sampled_from([b"", b"\0" * 64, content * 2, content[::-1], b"\xff" * 100, b"{}", b"[]"]),
    )


WORDS = ["", "-", "--", "-1", "0", "1e999", "nan", "inf", "9" * 30, "x", "a,b", "none", "all"]
WORDS += ["--help", "--out", "--nothing", "é", "\U0001f600", "a:b", ".", "..", "nowhere/x", "[1]"]
WORDS += ["1 2", "=", "--seeds=0", "--json", "miu,miu", "<b>", "'; DROP TABLE", "%s", "{}"]


def broken_arguments(arguments):
    """Return a strategy for a command line with a word changed, left out, repeated or put in."""
    position = st.integers(0, len(arguments) - 1)
    # "/" would be written to, perhaps by root; a zero byte cannot be on a command line
    word = st.one_of(
        st.sampled_from(WORDS),
        st.text(st.characters(exclude_characters="/\0\\", exclude_categories=("Cs",)), max_size=8),
        st.integers(-9, 9).map(str),  # large ones ask for a lot of work, rightly
        st.sampled_from(list(arguments)),
    )
    changes = {
        "change": lambda at, new: [*arguments[:at], new, *arguments[at + 1 :]],
        "leave out": lambda at, new: [*arguments[:at], *arguments[at + 1 :]],
        "put in": lambda at, new: [*arguments[:at], new, *arguments[at:]],
        "cut": lambda at, new: arguments[:at],
    }
    parts = st.tuples(st.sampled_from(sorted(changes)), position, word)
    return parts.map(lambda drawn: changes[drawn[0]](*drawn[1:]))


# other kinds -------------------------------------------------------------------------------------

NUMBERS = [
    0,
    -1,
    1,
    2,
    7,
    0.5,
    -0.5,
    1.5,
    1e-30,
    1e9,
    2**63,
    10**400,
    math.nan,
    math.inf,
    -math.inf,
]
NUMBERS += [True, "1", "x", None, 1j, [1], (1, 2), np.array([1.0, 2.0]), np.array(1), np.float16(1)]
NUMBERS += [
    np.int8(1),
    decimal.Decimal(1),
    fractions.Fraction(1, 2),
    torch.tensor(1.0),
    pd.NA,
    b"1",
]
COSTLY = 8


def is_large(value):
    """Tell whether a number is one that asks for a lot of work, rightly."""
    if isinstance(value, int | float | np.number):
        return not isinstance(value, complex | np.complexfloating) and bool(abs(value) > COSTLY)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        return bool((np.abs(value.astype(float)) > COSTLY).any())
    return isinstance(value, list | tuple | set) and any(map(is_large, value))


def broken_text(text):
    near = ["", text.upper(), text + " ", text[:-1], text + "\x00", text.encode(), [text], (text,)]
    near += [Path(text), {text}, {text: text}, 0, None, np.str_(text), "\n", "é" * 3, "<b>" + text]
    return st.one_of(st.sampled_from(near), st.text(max_size=10), anything)


def broken_path(path):
    near = [str(path), os.fsencode(path), path.parent, path / "below", path.with_suffix(".other")]
    # none outside of the scratch folder: what is tried here is written to, perhaps by root
    near += ["", ".", "\x00", "a\x00b", "x" * 5000, "\ud800", 0.5, None, [path], object()]
    return st.sampled_from(near)


def broken_mapping(mapping):
    def spoil(parts):
        key, value = parts
        return {**mapping, key: value}

    keys = [*mapping, "unknown", 1, None, ("a", "b")]
    less = [{k: v for k, v in mapping.items() if k != key} for key in mapping]
    return st.one_of(
        st.tuples(st.sampled_from(keys), anything).map(spoil),
        st.sampled_from([{}, list(mapping), list(mapping.items()), *less]),
        anything,
    )


def broken_sequence(values):
    kind = type(values)
    changes = [values[:-1], values[1:], values + values, values[::-1], kind(), *values[:2]]
    changes += [set(map(repr, values)), dict.fromkeys(map(repr, values))]
    inner = st.integers(0, max(len(values) - 1, 0))

    def spoil(parts):
        position, value = parts
        return kind([*values[:position], value, *values[position + 1 :]])

    return st.one_of(
        st.sampled_from(changes),
        st.tuples(inner, anything).map(spoil),
        st.just(values).map(iter),
        anything,
    )


def broken_frame(frame):
    changes = [
        lambda: frame.iloc[:0],
        lambda: frame.iloc[:, :-1],
        lambda: frame.iloc[:, :0],
        lambda: frame.T,
        lambda: frame.rename(columns=str.upper),
        lambda: frame.rename(columns={column: number for number, column in enumerate(frame)}),
        lambda: pd.concat([frame, frame]),
        lambda: pd.concat([frame, frame], axis=1),
        lambda: frame.iloc[::-1],
        lambda: frame.set_axis([0] * len(frame)),
        lambda: frame.astype(object),
        lambda: frame.astype(str),
        lambda: frame.where(frame == frame.shift(1)),
        lambda: frame.assign(**{str(frame.columns[-1]): np.nan}),
        lambda: frame.assign(**{str(frame.columns[-1]): "x"}),
        lambda: frame.assign(**{str(frame.columns[-1]): np.inf}),
        lambda: frame.assign(**{str(frame.columns[0]): None}),
        lambda: frame.to_dict("list"),
        lambda: frame.to_numpy(),
        lambda: frame.iloc[:, 0],
    ]

    def change(number):
        try:
            return changes[number]()
        except (TypeError, ValueError, KeyError):
            return None

    return st.one_of(st.integers(0, len(changes) - 1).map(change), anything)


def broken(value, costly=False):
    """Return a strategy for what may stand in the place of a valid value.

    With ``costly`` no large number is drawn: what it asks for is right, and takes long.
    """
    if isinstance(value, Content):
        return damaged(bytes(value))
    if isinstance(value, Arguments):
        return broken_arguments(value)
    if isinstance(value, np.ndarray):
        strategy = st.one_of(broken_array(value), broken_array(value), anything)
    elif isinstance(value, torch.Tensor):
        strategy = st.one_of(broken_tensor(value), broken_tensor(value), anything)
    elif isinstance(value, pd.DataFrame):
        strategy = broken_frame(value)
    elif isinstance(value, bool) or value is None:
        strategy = anything
    elif isinstance(value, int | float):
        strategy = st.one_of(st.sampled_from(NUMBERS), st.integers(), st.floats(), anything)
    elif isinstance(value, str):
        strategy = broken_text(value)
    elif isinstance(value, Path):
        strategy = broken_path(value)
    elif isinstance(value, dict):
        strategy = broken_mapping(value)
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):
        strategy = broken_sequence(value)
    elif isinstance(value, bytes):
        strategy = st.one_of(st.binary(max_size=200), anything)
    else:
        strategy = st.one_of(anything, st.sampled_from([type(value), "not one", [value]]))
    return strategy.filter(lambda drawn: not is_large(drawn)) if costly else strategy
