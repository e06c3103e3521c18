from inspect import signature
from itertools import product

import numpy as np
import pytest
from scipy import stats

from grmu_sk.benchmark.statistics import bootstrap_interval, compare_paired

pytestmark = pytest.mark.quick

SEVEN = [98.1, 97.4, 97.9, 98.3, 97.6, 95.2, 99.0]


@pytest.mark.parametrize("level", [0.95, 0.8])
def test_interval_agrees_with_scipy(level):
    # newer versions of SciPy call it rng
    seed = "rng" if "rng" in signature(stats.bootstrap).parameters else "random_state"
    expected = stats.bootstrap(
        (SEVEN,),
        np.mean,
        confidence_level=level,
        n_resamples=100_000,
        method="percentile",
        **{seed: np.random.default_rng(1)},
    ).confidence_interval
    found = bootstrap_interval(SEVEN, level=level, n_draws=100_000)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_interval_agrees_with_all_possible_draws():
    values = [3.0, 4.0, 8.0]
    means = [np.mean(draw) for draw in product(values, repeat=3)]
    expected = np.quantile(np.repeat(means, 1000), [0.1, 0.9])
    np.testing.assert_allclose(
        bootstrap_interval(values, level=0.8, n_draws=200_000), expected, atol=1e-9
    )


def test_level_and_seed_matter():
    wide, narrow = bootstrap_interval(SEVEN, level=0.99), bootstrap_interval(SEVEN, level=0.5)
    assert wide[0] < narrow[0] < np.mean(SEVEN) < narrow[1] < wide[1]
    assert bootstrap_interval(SEVEN, n_draws=50) == bootstrap_interval(SEVEN, n_draws=50)
    assert bootstrap_interval(SEVEN, n_draws=50, seed=1) != bootstrap_interval(SEVEN, n_draws=50)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 2.0, np.nan]])
def test_fewer_than_three_seeds_have_no_interval(values):
    assert np.isnan(bootstrap_interval(values)).all()
    assert not np.isnan(bootstrap_interval([1.0, 2.0, 3.0])).any()


def test_nan_is_left_out():
    assert bootstrap_interval([*SEVEN, np.nan]) == bootstrap_interval(SEVEN)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[1.0, 2.0]], {}, "one number a seed"),
        ([1.0, np.inf, 2.0], {}, "infinity"),
        (SEVEN, {"level": 95}, "between 0 and 1, got 95"),
        (SEVEN, {"n_draws": 0}, "must be positive"),
    ],
)
def test_bad_arguments(values, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **options)


def test_exact_test_agrees_with_scipy():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=8), rng.normal(size=8)
    expected = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    found = compare_paired(first, second)
    assert found.p_value == pytest.approx(expected)
    assert found.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert found.n_pairs == 8


def test_drawn_test_agrees_with_scipy():
    rng = np.random.default_rng(2)
    first, second = rng.normal(0.5, size=15), rng.normal(size=15)
    expected = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    assert 0.01 < expected < 0.99
    assert compare_paired(first, second, n_draws=100_000).p_value == pytest.approx(
        expected, abs=0.01
    )


def test_interval_is_that_of_the_differences():
    first, second = np.array(SEVEN), np.arange(7.0)
    found = compare_paired(first, second)
    assert (found.low, found.high) == bootstrap_interval(first - second)
    assert found.told_apart
    assert not compare_paired(first, first).told_apart


def test_two_seeds_tell_nothing_apart():
    found = compare_paired([90.0, 91.0], [10.0, 11.0])
    assert np.isnan([found.low, found.high]).all()
    assert not found.told_apart
    assert found.p_value == 0.5, "the least that two pairs allow"


def test_unpaired_seeds_are_left_out():
    found = compare_paired([1.0, np.nan, 3.0], [0.0, 0.0, np.nan])
    assert (found.n_pairs, found.difference) == (1, 1.0)
    assert compare_paired([], []).n_pairs == 0
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        compare_paired([1.0, 2.0], [1.0, 2.0, 3.0])
