import numpy as np
import pytest

from grmu_sk.metrics import klom_scores, log_odds_of_label, row_distance_score

RNG = np.random.default_rng(0)


def test_log_odds_are_those_of_probabilities_and_stay_finite_where_these_are_one():
    proba = RNG.dirichlet(np.ones(3), size=20)
    y = RNG.integers(3, size=20)
    own = proba[np.arange(20), y]
    odds = log_odds_of_label(y, np.log(proba), classes=[0, 1, 2])
    np.testing.assert_allclose(odds, np.log(own / (1 - own)))
    assert log_odds_of_label(["b"], [[-60.0, 0.0]], classes=["a", "b"]) == [60.0]


def test_row_distance_is_written_out():
    model, oracles = RNG.normal(size=7), RNG.normal(size=(4, 7))
    squares = [(model[i] - oracles[k, i]) ** 2 for i in range(7) for k in range(4)]
    assert row_distance_score(model, oracles) == pytest.approx(np.sqrt(sum(squares) / 28))


def test_klom_counts_bins_as_written_out():
    models, oracles = RNG.normal(size=(30, 5)), RNG.normal(1, 2, size=(20, 5))
    models[0, 0] = 1e6  # clipped
    expected = []
    for m, o in zip(np.clip(models, -100, 100).T, np.clip(oracles, -100, 100).T, strict=True):
        low, high = min(m.min(), o.min()), max(m.max(), o.max())
        bins = [np.minimum((part - low) / (high - low) * 20, 19).astype(int) for part in (m, o)]
        p, q = (np.bincount(numbers, minlength=20) / len(numbers) for numbers in bins)
        expected.append(sum(p[b] * np.log(p[b] / max(q[b], 1e-5)) for b in range(20) if p[b]))
    np.testing.assert_allclose(klom_scores(models, oracles), expected)
    assert klom_scores([[0.0]], [[50.0]]) == pytest.approx(np.log(1e5))


@pytest.mark.parametrize("score", [row_distance_score, klom_scores])
@pytest.mark.parametrize("oracles", [[[1.0, 2.0, 3.0]], [1.0, 2.0], [[np.nan, 1.0]]])
def test_what_does_not_fit_is_refused(score, oracles):
    with pytest.raises(ValueError, match="must"):
        score([1.0, 2.0] if score is row_distance_score else [[1.0, 2.0]], oracles)
