import numpy as np
import pytest
import torch

from grmu_sk.validation import about, as_random_state, to_array, to_numbers


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


def test_anything_that_is_an_array_becomes_one():
    expected = [[1.0, 2.0], [3.0, 4.0]]
    for given in (expected, np.array(expected), torch.tensor(expected).bfloat16()):
        assert to_array(given, "X").tolist() == expected
    assert to_array(torch.ones(2, requires_grad=True), "X").tolist() == [1.0, 1.0]
    assert to_numbers(["1", "2"], "X").tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (torch.ones(2).to_sparse(), TypeError),
        ([[1], [1, 2]], ValueError),
        (np.ma.masked_array([1, 2], mask=[True, False]), ValueError),
    ],
)
def test_what_is_no_array_is_refused_by_name(value, error):
    with pytest.raises(error, match=r"^X"):
        to_array(value, "X")


@pytest.mark.parametrize("value", [["x"], [1j], [object()], ["2020-01-01"], [10**400]])
def test_what_are_no_numbers_is_refused_by_name(value):
    with pytest.raises((ValueError, TypeError), match=r"^X"):
        to_numbers(value, "X")
