import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import scipy.sparse
import torch

from grmu_sk.audit import ResidueScan
from grmu_sk.utils.arguments import about, as_random_state, check_types, to_array, to_numbers


def function(
    whole: int = 1,
    real: float | None = None,
    flag: bool = True,
    text: str = "",
    option: Literal["a", "b"] = "a",
    flag_or_option: bool | str = True,
    names: Sequence[str] | None = None,
    several: Iterable[str] | None = None,
    pair: tuple[float, float] = (0.0, 1.0),
    table: Mapping[str, Any] | None = None,
    path: str | os.PathLike[str] | None = None,
    own: ResidueScan | None = None,
    anything: Any = None,
    either: Any | None = None,
):
    check_types(function, locals())


RIGHT = {
    "whole": [0, -3, np.int8(2), 10**30],
    "real": [None, 1, 1.5, np.float16(2), np.int64(3), float("inf")],
    "flag": [True, np.bool_(False)],
    "text": ["", "x", np.str_("x")],
    "option": ["a", "b"],
    "flag_or_option": [False, "x"],
    "names": [None, [], ["x"], ("x", "y"), np.array(["x"])],
    "several": [iter(["x"]), {"x"}, ["x"], (name for name in "ab")],
    "pair": [(0, 1), [0.5, 0.7], np.array([0.0, 1.0])],
    "table": [{}, {"a": object()}],
    "path": ["x", Path("x"), "ü"],
    "own": [None, ResidueScan()],
    "anything": [object(), None, float],
    "either": [object()],
}
WRONG = {
    "whole": [1.0, True, "1", None, [1], np.float64(1), np.array(1), torch.tensor(1)],
    "real": ["x", True, [1.0], 1j, 10**400, np.array([1.0]), b"1"],
    "flag": [1, 0, None, "True", np.array([True])],
    "text": [b"x", None, 1, ["x"], Path("x")],
    "names": ["x", [1], {"x": 1}, 3, np.array("x"), scipy.sparse.eye(2).tocsr()],
    "several": [3, ["x", 1], np.array("x")],
    "pair": [(1,), (1, 2, 3), "ab", (0, "x"), 1.0, None],
    "table": [[], "x", 3],
    "path": [3, b"x", ["x"]],
    "own": [[], 3, ResidueScan],
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_kinds_pass(name):
    for value in RIGHT[name]:
        function(**{name: value})


@pytest.mark.parametrize("name", WRONG)
def test_wrong_kinds_are_refused_by_name(name):
    for value in WRONG[name]:
        with pytest.raises(TypeError, match=f"^{name} must be "):
            function(**{name: value})


@pytest.mark.parametrize(
    "arguments", [{"option": "c"}, {"option": 3}, {"path": "a\0b"}, {"path": "\ud800"}]
)
def test_wrong_values_are_refused_by_name(arguments):
    with pytest.raises(ValueError, match=f"^{next(iter(arguments))} must be "):
        function(**arguments)


def test_nan_is_no_number_unless_allowed():
    with pytest.raises(ValueError, match="real must be a number, got NaN"):
        function(real=float("nan"))
    check_types(function, {"real": float("nan")}, allow_nan=True)


def test_long_values_and_those_that_cannot_be_shown():
    class Shy:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(TypeError, match="got a Shy"):
        function(whole=Shy())
    with pytest.raises(TypeError) as caught:
        function(whole="x" * 10_000)
    assert len(str(caught.value)) < 300


def test_errors_inside_name_the_argument_once():
    with pytest.raises(ValueError, match=r"^lam: invalid literal"), about("lam"):
        int("x")
    with pytest.raises(TypeError, match=r"^the lam is bad$"), about("lam"):
        raise TypeError("the lam is bad")
    with pytest.raises(KeyError), about("lam"):  # other errors are not about the value
        raise KeyError("x")


def test_seeds():
    assert as_random_state(3).randint(100) == np.random.RandomState(3).randint(100)
    for bad in (-1, 2**32, "x", [None], object(), 1.5):
        with pytest.raises(ValueError, match="seed must be"):
            as_random_state(bad, "seed")


class Hostile:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no array here")


def test_anything_that_is_an_array_becomes_one():
    expected = [[1.0, 2.0], [3.0, 4.0]]
    for given in (expected, np.array(expected), torch.tensor(expected).bfloat16()):
        assert to_array(given, "X").tolist() == expected
    assert to_array(torch.ones(2, requires_grad=True), "X").tolist() == [1.0, 1.0]
    assert to_numbers(["1", "2"], "X").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (scipy.sparse.eye(2).tocsr(), TypeError),
        (torch.ones(2).to_sparse(), TypeError),
        (torch.empty(2, device="meta"), TypeError),
        ([[1], [1, 2]], ValueError),
        (Hostile(), ValueError),
        (np.ma.masked_array([1, 2], mask=[True, False]), ValueError),
    ],
)
def test_what_is_no_array_is_refused_by_name(value, error):
    with pytest.raises(error, match=r"^X "):
        to_array(value, "X")


@pytest.mark.parametrize("value", [["x"], [1j], [object()], ["2020-01-01"], [10**400]])
def test_what_are_no_numbers_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^X must hold real numbers"):
        to_numbers(value, "X")
