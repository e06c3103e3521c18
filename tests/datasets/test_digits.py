import socket

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.groups import GroupEncoder, sample_forget_set

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def bunch():
    return load_digits_on_backgrounds()


def _counts(bunch, split):
    rows = bunch[split]
    return np.bincount(2 * bunch.target[rows] + bunch.groups[rows], minlength=4)


def test_shapes_and_types(bunch):
    assert isinstance(bunch, Bunch)
    n_rows = 1797 + 120 + 240  # validation and test scans appear twice
    assert bunch.images.shape == (n_rows, *bunch.frame_shape) == (n_rows, 3, 8, 8)
    assert bunch.images.dtype == np.float32
    assert bunch.data is bunch.images
    assert len(bunch.channel_names) == 3
    for key in ("target", "groups", "digits", "scans"):
        assert bunch[key].shape == (n_rows,)
        assert bunch[key].dtype == np.int64
    assert bunch.target_names == ["even", "odd"]
    assert bunch.group_names == ["blue", "orange"]


def test_pixels_lie_in_the_unit_interval(bunch):
    assert bunch.images.min() >= 0
    assert bunch.images.max() <= 1
    assert load_digits_on_backgrounds(noise=5).images.max() == 1


def test_labels_are_those_of_the_scans(bunch):
    np.testing.assert_array_equal(bunch.digits, load_digits().target[bunch.scans])
    np.testing.assert_array_equal(bunch.target, bunch.digits % 2)


def test_splits_partition_the_rows_and_the_scans(bunch):
    rows = np.concatenate([bunch[split] for split in SPLITS])
    np.testing.assert_array_equal(rows, np.arange(len(bunch.images)))
    scans = [set(bunch.scans[bunch[split]].tolist()) for split in SPLITS]
    assert [len(s) for s in scans] == [1437, 120, 240]
    assert len(set.union(*scans)) == 1797
    assert len(bunch.train) == 1437  # each training scan once


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_all_digits_in_equal_shares(bunch, split):
    counts = np.bincount(bunch.digits[bunch[split]], minlength=10)
    share = counts / counts.sum()
    np.testing.assert_allclose(share, 0.1, atol=0.01)


@pytest.mark.parametrize("correlation", [0.5, 0.8, 0.93, 0.95])
@pytest.mark.parametrize("seed", [0, 1])
def test_training_rows_are_correlated(correlation, seed):
    bunch = load_digits_on_backgrounds(correlation=correlation, random_state=seed)
    counts = _counts(bunch, "train").reshape(2, 2)
    np.testing.assert_allclose(np.diag(counts) / counts.sum(axis=1), correlation, atol=0.001)


@pytest.mark.parametrize(("split", "n_scans"), [("validation", 120), ("test", 240)])
def test_held_out_rows_show_each_scan_on_both_backgrounds(bunch, split, n_scans):
    rows = bunch[split]
    blue, orange = (np.sort(bunch.scans[rows[bunch.groups[rows] == a]]) for a in (0, 1))
    np.testing.assert_array_equal(blue, orange)
    counts = _counts(bunch, split).reshape(2, 2)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 1])
    np.testing.assert_allclose(counts, n_scans / 2, atol=1)


@pytest.mark.parametrize("seed", range(5))
def test_smallest_group_is_even_on_orange(seed):
    bunch = load_digits_on_backgrounds(random_state=seed)
    assert bunch.smallest_group == (0, 1)
    assert _counts(bunch, "train").min() == _counts(bunch, "train")[1] == 50


def test_a_forget_set_can_be_drawn(bunch):
    y, a = bunch.target[bunch.train], bunch.groups[bunch.train]
    assert GroupEncoder().fit(y, a).pairs_[1] == bunch.smallest_group
    forget = sample_forget_set(y, a, forget_groups=bunch.smallest_group, random_state=0)
    assert len(forget) == 25


def test_without_noise_a_corner_shows_the_background():
    bunch = load_digits_on_backgrounds(noise=0)
    blank = load_digits().images[bunch.scans][:, 0, 0] == 0
    blue, orange = (
        np.unique(bunch.images[blank & (bunch.groups == a), :, 0, 0], axis=0) for a in (0, 1)
    )
    assert blue.shape == orange.shape == (1, 3)
    assert blue[0].argmax() == 2
    assert orange[0].argmax() == 0


def test_noise_and_contrast_do_not_move_the_rows(bunch):
    other = load_digits_on_backgrounds(noise=0.3, contrast=0.5)
    for key in ("scans", "groups", "target"):
        np.testing.assert_array_equal(bunch[key], other[key])
    assert not np.array_equal(bunch.images, other.images)


def test_the_two_rows_of_a_test_scan_have_their_own_noise():
    bunch = load_digits_on_backgrounds(contrast=1, noise=0.1)
    scan = bunch.scans[bunch.test[0]]
    one, two = np.flatnonzero(bunch.scans == scan)
    inked = load_digits().images[scan] == 16
    assert inked.any()
    assert not np.array_equal(bunch.images[one][:, inked], bunch.images[two][:, inked])


@pytest.mark.parametrize("make", [lambda: 3, lambda: np.random.RandomState(3)])
def test_same_seed_same_data(make):
    first, second = (load_digits_on_backgrounds(random_state=make()) for _ in range(2))
    assert set(first) == set(second)
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])


def test_another_seed_changes_images_splits_and_backgrounds(bunch):
    other = load_digits_on_backgrounds(random_state=1)
    assert not np.array_equal(bunch.images, other.images)
    assert set(bunch.scans[bunch.test]) != set(other.scans[other.test])
    assert not np.array_equal(bunch.groups[bunch.train], other.groups[other.train])


def test_callers_generators_are_left_alone():
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state()
    load_digits_on_backgrounds(random_state=5)
    after = np.random.get_state()
    assert numpy_state[0] == after[0]
    np.testing.assert_array_equal(numpy_state[1], after[1])
    assert numpy_state[2:] == after[2:]
    assert torch.equal(torch_state, torch.get_rng_state())


def test_nothing_is_downloaded(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the loader opened a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    load_digits_on_backgrounds()


def test_split_sizes_can_be_chosen():
    bunch = load_digits_on_backgrounds(n_validation=10, n_test=np.int64(300))
    assert [len(bunch[split]) for split in SPLITS] == [1487, 20, 600]


def test_description_holds_the_facts():
    text = load_digits_on_backgrounds(correlation=0.9, noise=0.25).DESCR
    for fact in (
        "1437 train",
        "0.9 of the training rows",
        "0.25",
        "Real:",
        "Synthetic:",
        "odd",
    ):
        assert fact in text
    assert "{" not in text


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"correlation": 1.0}, r"correlation must lie in \[0.5, 1\), got 1.0"),
        ({"correlation": 0.4}, r"correlation must lie in \[0.5, 1\), got 0.4"),
        ({"correlation": float("nan")}, "correlation must be a number, got NaN"),
        ({"correlation": 0.9999}, "leaves no even digit on the other background"),
        ({"noise": -0.1}, r"noise must lie in \[0, inf\), got -0.1"),
        ({"noise": float("inf")}, r"noise must lie in \[0, inf\), got inf"),
        ({"contrast": 0}, r"contrast must lie in \(0, 1\], got 0"),
        ({"contrast": 1.5}, r"contrast must lie in \(0, 1\], got 1.5"),
        ({"n_validation": 9}, "n_validation must be at least 10, one scan of each digit; got 9"),
        ({"n_test": 0}, "n_test must be at least 10, one scan of each digit; got 0"),
        ({"n_test": 1700}, "n_validation=120 and n_test=1700 leave -23 of the 1797 scans"),
        ({"random_state": -1}, r"random_state must be a whole number from 0 to .* got -1"),
    ],
)
def test_values_out_of_range_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        load_digits_on_backgrounds(**parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"correlation": "0.9"}, "correlation must be a number, got '0.9'"),
        ({"noise": None}, "noise must be a number, got None"),
        ({"contrast": True}, "contrast must be a number, got True"),
        ({"n_validation": 0.2}, "n_validation must be a whole number, got 0.2"),
        ({"n_test": True}, "n_test must be a whole number, got True"),
    ],
)
def test_wrong_types_are_refused(parameters, message):
    with pytest.raises(TypeError, match=message):
        load_digits_on_backgrounds(**parameters)


def test_positional_arguments_are_refused():
    with pytest.raises(TypeError, match="positional"):
        load_digits_on_backgrounds(0.9)
