"""LiRA and RMIA against slow accounts of the same formulas, and against known distributions."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from grmu_sk.audit import lira_scores, rmia_scores
from grmu_sk.audit._signals import log_odds_of


def signals(n_models=8, n_rows=12, seed=0):
    rng = np.random.default_rng(seed)
    is_in = np.array([rng.permutation(n_models) < n_models // 2 for _ in range(n_rows)]).T
    references = rng.normal(2 * is_in - 0.5, 1.5)
    return rng.normal(size=n_rows), references, is_in


def slow_gaussian(values, residuals, freedom):
    return norm(np.mean(values), math.sqrt(np.sum(np.square(residuals)) / freedom))


def slow_lira(log_odds, references, is_in, variance, online):
    """Row by row, with lists and SciPy's densities."""
    n_rows = len(log_odds)
    answers = {
        side: [
            [r[i] for r, m in zip(references, is_in, strict=True) if m[i] == side]
            for i in range(n_rows)
        ]
        for side in (True, False)
    }
    residuals = {
        side: [[a - sum(row) / len(row) for a in row] for row in answers[side]] for side in answers
    }

    def gaussian(side, i):
        row = residuals[side][i]
        if variance == "per_row":
            return slow_gaussian(answers[side][i], row, len(row) - 1)
        everything = [part for some in residuals[side] for part in some]
        return slow_gaussian(answers[side][i], everything, len(everything) - n_rows)

    if not online:
        return [norm.ppf(gaussian(False, i).cdf(log_odds[i])) for i in range(n_rows)]
    return [
        gaussian(True, i).logpdf(log_odds[i]) - gaussian(False, i).logpdf(log_odds[i])
        for i in range(n_rows)
    ]


@pytest.mark.parametrize("variance", ["shared", "per_row"])
@pytest.mark.parametrize("online", [True, False])
def test_lira_equals_a_slow_account(variance, online):
    given = signals()
    expected = slow_lira(*given, variance, online)
    np.testing.assert_allclose(
        lira_scores(*given, variance=variance, online=online), expected, rtol=1e-6
    )


def slow_rmia(log_odds, references, is_in, population, gamma, online, a):
    """Pair by pair, with plain probabilities."""

    def p(odds):
        return 1 / (1 + math.exp(-odds))

    def ratio(i):
        seen = [p(r[i]) for r, m in zip(references, is_in, strict=True) if m[i]]
        unseen = [p(r[i]) for r, m in zip(references, is_in, strict=True) if not m[i]]
        of_unseen = sum(unseen) / len(unseen)
        of_seen = sum(seen) / len(seen) if online else a * of_unseen + 1 - a
        return p(log_odds[i]) / ((of_seen + of_unseen) / 2)

    return [
        np.mean([ratio(i) / ratio(z) >= gamma for z in population if z != i])
        for i in range(len(log_odds))
    ]


@pytest.mark.parametrize("gamma", [0.8, 1.0, 1.3])
@pytest.mark.parametrize("online", [True, False])
def test_rmia_equals_a_slow_account(gamma, online):
    given = signals(seed=1)
    population = [0, 3, 4, 7, 11]
    expected = slow_rmia(*given, population, gamma, online, 0.6)
    found = rmia_scores(*given, population, gamma=gamma, online=online, offline_scale=0.6)
    np.testing.assert_allclose(found, expected)
    assert 0 < found.mean() < 1


def known_distribution(hardness, distance=1.5, n_rows=2000, n_models=64, seed=2):
    """Log-odds that are normal around each row's own hardness, higher by a distance if trained on.

    Whoever knows the hardness has the AUC Phi(distance / sqrt(2)); who does not has less.
    """
    rng = np.random.default_rng(seed)
    middle = rng.normal(hardness, 3, size=n_rows)
    is_in = np.zeros((n_models, n_rows), dtype=bool)
    is_in[::2] = True
    references = rng.normal(middle + distance * is_in)
    is_member = np.arange(n_rows) % 2 == 0
    return rng.normal(middle + distance * is_member), references, is_in, is_member


@pytest.mark.parametrize("attack", ["LiRA", "RMIA"])
def test_power_on_a_known_distribution(attack):
    # so improbable that a probability is the exponential of the log-odds
    target, references, is_in, is_member = known_distribution(hardness=-30)
    scores = (
        lira_scores(target, references, is_in)
        if attack == "LiRA"
        else rmia_scores(target, references, is_in, np.flatnonzero(~is_member))
    )
    standard_error = 0.011  # Hanley and McNeil, for 1000 rows of each kind
    best = norm.cdf(1.5 / math.sqrt(2))
    assert roc_auc_score(is_member, scores) == pytest.approx(best, abs=3 * standard_error)
    without_hardness = norm.cdf(1.5 / math.sqrt(2 * (1 + 3**2)))
    assert roc_auc_score(is_member, target) == pytest.approx(without_hardness, abs=0.04)
    assert best - without_hardness > 0.2, "else the case could not tell the attacks apart"


def test_log_odds_do_not_round_a_certain_answer():
    class Certain:
        classes_ = np.array(["a", "b", "c"])

        def predict_log_proba(self, X):
            return np.array([[-1e-30, -70.0, -71.0], [-np.inf, 0.0, -np.inf]])

    found = log_odds_of(Certain(), np.zeros((2, 1)), ["a", "b"])
    assert found[0] == pytest.approx(70 - math.log(1 + math.exp(-1)))
    assert np.isfinite(found).all() and found[1] > 80
    assert (log_odds_of(Certain(), np.zeros((2, 1)), ["b", "a"]) < -69).all()


def test_log_odds_refuse_what_is_no_answer():
    class Diverged:
        classes_ = np.array([0, 1])

        def predict_proba(self, X):
            return np.full((len(X), 2), np.nan)

    with pytest.raises(ValueError, match="NaN, the first time for row 0: did training diverge"):
        log_odds_of(Diverged(), np.zeros((3, 1)), [0, 1, 0])
    with pytest.raises(ValueError, match="y"):
        log_odds_of(Diverged(), np.zeros((3, 1)), [0, 1, 7])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"log_odds": []}, "not empty"),
        ({"reference_log_odds": np.zeros((4, 2))}, "a column for every row"),
        ({"is_in": np.zeros((4, 3), dtype=int)}, "must be boolean"),
        ({"is_in": np.ones((4, 3), dtype=bool)}, "0 reference models with the row out"),
        ({"log_odds": [0.0, np.nan, 1.0]}, "log_odds holds NaN"),
    ],
)
def test_bad_signals(changed, message):
    is_in = np.tile([[True], [False]], (2, 3))
    given = {
        "log_odds": [0.0, 1.0, 2.0],
        "reference_log_odds": np.arange(12.0).reshape(4, 3) ** 1.5,
        "is_in": is_in,
    }
    assert np.isfinite(lira_scores(**given)).all()
    with pytest.raises(ValueError, match=message):
        lira_scores(**given | changed)
    with pytest.raises(ValueError, match=message):
        rmia_scores(**given | changed, population=[0, 1])


def test_bad_options():
    given = signals()
    with pytest.raises(ValueError, match="variance must be"):
        lira_scores(*given, variance="global")
    with pytest.raises(ValueError, match="gamma must be a positive number"):
        rmia_scores(*given, [0, 1], gamma=0)
    with pytest.raises(ValueError, match=r"offline_scale must lie in \[0, 1\]"):
        rmia_scores(*given, [0, 1], offline_scale=2)
    with pytest.raises(ValueError, match="at least two of the 12 rows"):
        rmia_scores(*given, [3])
    two_models = [row[:2] for row in (given[1], given[2])]
    two_models[1] = np.tile([[True], [False]], (1, 12))
    with pytest.raises(ValueError, match="spread is unknown"):
        lira_scores(given[0], *two_models)
