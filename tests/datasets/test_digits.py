import numpy as np
import pytest
from sklearn.datasets import load_digits

from grmu_sk.datasets import load_digits_on_backgrounds

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def bunch():
    return load_digits_on_backgrounds()


def counts_of(bunch, split):
    rows = bunch[split]
    return np.bincount(2 * bunch.target[rows] + bunch.groups[rows], minlength=4).reshape(2, 2)


def test_rows_are_the_scans_and_splits_partition_them(bunch):
    n_rows = 1797 + 120 + 240  # validation and test scans appear twice
    assert bunch.images.shape == (n_rows, 3, 8, 8) and bunch.images.dtype == np.float32
    assert bunch.data is bunch.images and 0 <= bunch.images.min() < bunch.images.max() <= 1
    np.testing.assert_array_equal(bunch.digits, load_digits().target[bunch.scans])
    np.testing.assert_array_equal(bunch.target, bunch.digits % 2)
    rows = np.concatenate([bunch[split] for split in SPLITS])
    np.testing.assert_array_equal(rows, np.arange(n_rows))
    scans = [set(bunch.scans[bunch[split]].tolist()) for split in SPLITS]
    assert [len(s) for s in scans] == [1437, 120, 240] and len(set.union(*scans)) == 1797
    for split in ("validation", "test"):  # on both backgrounds
        rows = bunch[split]
        blue, orange = (np.sort(bunch.scans[rows[bunch.groups[rows] == a]]) for a in (0, 1))
        np.testing.assert_array_equal(blue, orange)
        counts = np.bincount(bunch.digits[rows], minlength=10)
        np.testing.assert_allclose(counts / counts.sum(), 0.1, atol=0.01)


@pytest.mark.parametrize(("correlation", "seed"), [(0.5, 0), (0.93, 2)])
def test_training_rows_are_correlated(correlation, seed):
    bunch = load_digits_on_backgrounds(correlation=correlation, random_state=seed)
    counts = counts_of(bunch, "train")
    np.testing.assert_allclose(np.diag(counts) / counts.sum(axis=1), correlation, atol=0.001)
    assert counts[bunch.smallest_group] == counts.min()
    if correlation == 0.93:
        assert (*bunch.smallest_group, counts.min()) == (0, 1, 50)


def test_colours_and_what_the_seed_decides(bunch):
    clean = load_digits_on_backgrounds(noise=0, contrast=0.5)
    blank = load_digits().images[clean.scans][:, 0, 0] == 0
    for a, channel in ((0, 2), (1, 0)):  # blue, orange
        (colour,) = np.unique(clean.images[blank & (clean.groups == a), :, 0, 0], axis=0)
        assert colour.argmax() == channel
    for key in ("scans", "groups"):  # these do not depend on how it is painted
        np.testing.assert_array_equal(bunch[key], clean[key])
    one, same = (load_digits_on_backgrounds(random_state=s) for s in (3, np.random.RandomState(3)))
    np.testing.assert_array_equal(one.images, same.images)
    assert set(bunch.scans[bunch.test]) != set(one.scans[one.test])
    assert not np.array_equal(bunch.groups[bunch.train], one.groups[one.train])
