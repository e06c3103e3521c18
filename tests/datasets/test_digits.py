import socket

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.groups import sample_forget_set

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def bunch():
    return load_digits_on_backgrounds()


def counts_of(bunch, split):
    rows = bunch[split]
    return np.bincount(2 * bunch.target[rows] + bunch.groups[rows], minlength=4).reshape(2, 2)


def test_rows_are_the_scans_and_splits_partition_them(bunch):
    n_rows = 1797 + 120 + 240  # validation and test scans appear twice
    assert bunch.images.shape == (n_rows, *bunch.frame_shape) == (n_rows, 3, 8, 8)
    assert bunch.data is bunch.images and bunch.images.dtype == np.float32
    assert 0 <= bunch.images.min() < bunch.images.max() <= 1
    for key in ("target", "groups", "digits", "scans"):
        assert (bunch[key].shape, bunch[key].dtype) == ((n_rows,), np.int64)
    assert (bunch.target_names, bunch.group_names) == (["even", "odd"], ["blue", "orange"])
    np.testing.assert_array_equal(bunch.digits, load_digits().target[bunch.scans])
    np.testing.assert_array_equal(bunch.target, bunch.digits % 2)
    rows = np.concatenate([bunch[split] for split in SPLITS])
    np.testing.assert_array_equal(rows, np.arange(n_rows))
    scans = [set(bunch.scans[bunch[split]].tolist()) for split in SPLITS]
    assert [len(s) for s in scans] == [1437, 120, 240] and len(set.union(*scans)) == 1797
    for split in SPLITS:
        counts = np.bincount(bunch.digits[bunch[split]], minlength=10)
        np.testing.assert_allclose(counts / counts.sum(), 0.1, atol=0.01)
    for split, n_scans in (("validation", 120), ("test", 240)):  # on both backgrounds
        rows = bunch[split]
        blue, orange = (np.sort(bunch.scans[rows[bunch.groups[rows] == a]]) for a in (0, 1))
        np.testing.assert_array_equal(blue, orange)
        np.testing.assert_allclose(counts_of(bunch, split), n_scans / 2, atol=1)


@pytest.mark.parametrize(("correlation", "seed"), [(0.5, 0), (0.93, 2)])
def test_training_rows_are_correlated(correlation, seed):
    bunch = load_digits_on_backgrounds(correlation=correlation, random_state=seed)
    counts = counts_of(bunch, "train")
    np.testing.assert_allclose(np.diag(counts) / counts.sum(axis=1), correlation, atol=0.001)
    assert counts[bunch.smallest_group] == counts.min()
    if correlation == 0.93:
        assert (*bunch.smallest_group, counts.min()) == (0, 1, 50)
        y, a = bunch.target[bunch.train], bunch.groups[bunch.train]
        assert len(sample_forget_set(y, a, forget_groups=bunch.smallest_group)) == 25


def test_colours_ink_and_noise(bunch):
    clean = load_digits_on_backgrounds(noise=0)
    blank = load_digits().images[clean.scans][:, 0, 0] == 0
    blue, orange = (
        np.unique(clean.images[blank & (clean.groups == a), :, 0, 0], axis=0) for a in (0, 1)
    )
    assert blue.shape == orange.shape == (1, 3)
    assert (blue[0].argmax(), orange[0].argmax()) == (2, 0)
    other = load_digits_on_backgrounds(noise=0.3, contrast=0.5)
    for key in ("scans", "groups", "target"):  # these do not depend on how it is painted
        np.testing.assert_array_equal(bunch[key], other[key])
    assert not np.array_equal(bunch.images, other.images)
    # the two rows of a test scan have their own noise
    one, two = np.flatnonzero(bunch.scans == bunch.scans[bunch.test[0]])
    inked = load_digits().images[bunch.scans[one]] == 16
    assert inked.any()
    assert not np.array_equal(bunch.images[one][:, inked], bunch.images[two][:, inked])


def test_the_seed_decides_all_and_the_callers_generators_are_left_alone(bunch, monkeypatch):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    monkeypatch.setattr(socket, "socket", None)  # nothing is downloaded
    one, same = (load_digits_on_backgrounds(random_state=s) for s in (3, np.random.RandomState(3)))
    for key, value in one.items():
        np.testing.assert_array_equal(value, same[key])
    assert not np.array_equal(bunch.images, one.images)
    assert set(bunch.scans[bunch.test]) != set(one.scans[one.test])
    assert not np.array_equal(bunch.groups[bunch.train], one.groups[one.train])
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())


def test_sizes_can_be_chosen_and_the_description_holds_the_facts():
    bunch = load_digits_on_backgrounds(n_validation=10, n_test=300, correlation=0.9, noise=0.25)
    assert [len(bunch[split]) for split in SPLITS] == [1487, 20, 600]
    facts = ("1487 train", "0.9 of the training rows", "0.25", "Real:", "Synthetic:", "odd")
    assert all(fact in bunch.DESCR for fact in facts)
    for correlation in (1.0, 0.9999):
        with pytest.raises(ValueError, match="correlation"):
            load_digits_on_backgrounds(correlation=correlation)
