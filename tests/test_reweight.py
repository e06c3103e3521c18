import numpy as np
import pytest
import torch

from grmu_sk import ReweightSampler, randomness


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    y, a = rng.integers(3, size=400), np.array(["f", "m"])[rng.integers(2, size=400)]
    asked = (y == 1) & (a == "f") & (rng.random(400) < 0.8)
    return y, a, ~asked


def mix(y, a, weights):
    return {(p, q): weights[(y == p) & (a == q)].sum() for p in np.unique(y) for q in np.unique(a)}


def test_expected_mix_is_exactly_that_of_training(rows):
    y, a, rest = rows
    weights = ReweightSampler().fit(y, groups=a).transform(y[rest], groups=a[rest])
    expected = mix(y, a, np.full(len(y), 1 / len(y)))
    actual = mix(y[rest], a[rest], weights)
    assert actual == pytest.approx(expected, abs=1e-14)
    assert weights.sum() == pytest.approx(1)
    # and without it the mix is another: the test can fail
    plain = mix(y[rest], a[rest], np.full(rest.sum(), 1 / rest.sum()))
    assert plain[1, "f"] < 0.5 * expected[1, "f"]


def test_hand_computed_weights():
    y, a = [0, 0, 1, 1, 1, 1], ["x", "x", "x", "x", "y", "y"]
    weights = ReweightSampler().fit(y, groups=a).transform(y[:5], groups=a[:5])
    # count_train / count_rest = 1, 1, 1, 1, 2; their sum is 6
    np.testing.assert_allclose(weights, np.array([1, 1, 1, 1, 2]) / 6)
    alone = ReweightSampler().fit([7, 7, 7, 9, 9]).transform([7, 9, 9])
    np.testing.assert_allclose(alone, [3 / 5, 1 / 5, 1 / 5])


def test_torch_sampler_draws_the_training_mix(rows):
    y, a, rest = rows
    sampler = (
        ReweightSampler()
        .fit(y, groups=a)
        .to_torch(
            y[rest], groups=a[rest], num_samples=40_000, generator=torch.Generator().manual_seed(0)
        )
    )
    drawn = np.flatnonzero(rest)[list(sampler)]
    wanted, share = np.mean((y == 1) & (a == "f")), np.mean((y[drawn] == 1) & (a[drawn] == "f"))
    assert share == pytest.approx(wanted, abs=4 * np.sqrt(wanted / 40_000))


def test_more_rows_than_torch_can_draw_from():
    weights = torch.zeros(2**24 + 1, dtype=torch.double)
    weights[[3, 2**24]] = torch.tensor([1.0, 3.0], dtype=torch.double)
    with randomness.isolated_rng(0):
        drawn = randomness.draw_by_weight(weights, 4000)
    places, counts = drawn.unique(return_counts=True)
    assert places.tolist() == [3, 2**24]
    assert counts[1] == pytest.approx(3000, abs=100)
