"""LiRA, RMIA and AUC against slow accounts of their formulas, and known distributions."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from grmu_sk.audit import Interval, lira_scores, rmia_scores
from grmu_sk.audit.attacks import Comparison, weighted_auc
from grmu_sk.audit.leakage import judge


def signals(n_models=8, n_rows=12, seed=0):
    rng = np.random.default_rng(seed)
    is_in = np.array([rng.permutation(n_models) < n_models // 2 for _ in range(n_rows)]).T
    references = rng.normal(2 * is_in - 0.5, 1.5)
    return rng.normal(size=n_rows), references, is_in


def slow_lira(log_odds, references, is_in):
    """Row by row, with NumPy's own moments and SciPy's densities."""
    rows = range(len(log_odds))
    answers = {side: [references[is_in[:, i] == side, i] for i in rows] for side in (True, False)}

    def gaussian(side, i):
        residuals = np.concatenate([row - row.mean() for row in answers[side]])
        deviation = math.sqrt(np.sum(residuals**2) / (len(residuals) - len(answers[side])))
        return norm(answers[side][i].mean(), deviation)

    return [
        gaussian(True, i).logpdf(log_odds[i]) - gaussian(False, i).logpdf(log_odds[i]) for i in rows
    ]


def test_lira_equals_a_slow_account():
    np.testing.assert_allclose(lira_scores(*signals()), slow_lira(*signals()), rtol=1e-6)


def slow_rmia(log_odds, references, is_in, population):
    """Pair by pair, with plain probabilities."""

    def ratio(i):
        p = 1 / (1 + np.exp(-references[:, i]))
        general = (p[~is_in[:, i]].mean() + p[is_in[:, i]].mean()) / 2
        return 1 / (1 + math.exp(-log_odds[i])) / general

    rows = range(len(log_odds))
    return [np.mean([ratio(i) / ratio(z) >= 1 for z in population if z != i]) for i in rows]


def test_rmia_equals_a_slow_account():
    given = signals(seed=1)
    population = [0, 3, 4, 7, 11]
    expected = slow_rmia(*given, population)
    found = rmia_scores(*given, population)
    np.testing.assert_allclose(found, expected)
    assert 0 < found.mean() < 1


def test_bad_signals():
    log_odds, references, is_in = signals(n_models=4)
    for changed, message in (
        ({"is_in": np.ones_like(is_in)}, "no reference models with the row out"),
        ({"log_odds": np.full(12, np.nan)}, "log_odds holds NaN"),
        ({"population": [2]}, "at least two of 12 rows"),
    ):
        given = {"log_odds": log_odds, "is_in": is_in, "population": [0, 1], **changed}
        with pytest.raises(ValueError, match=message):
            rmia_scores(reference_log_odds=references, **given)
    with pytest.raises(ValueError, match="two reference models"):
        lira_scores(log_odds, references[:2], [is_in[0], ~is_in[0]])


# how well scores tell rows apart -----------------------------------------------------------------


def compared(n_members=30, n_nonmembers=50, n_bootstrap=400, seed=0):
    rng = np.random.default_rng(seed)
    n_rows = n_members + n_nonmembers
    group = rng.integers(2, size=n_rows)
    group[:2] = group[n_members : n_members + 2] = [0, 1]
    rows = np.arange(n_rows)
    return Comparison(rows[:n_members], rows[n_members:], group, n_bootstrap, seed), rng


def sklearn_auc(comparison, scores, **kwargs):
    chosen = np.concatenate([comparison.members, comparison.nonmembers])
    is_member = np.repeat([1, 0], [len(comparison.members), len(comparison.nonmembers)])
    return roc_auc_score(is_member, scores[chosen], **kwargs)


@pytest.mark.parametrize("decimals", [8, 0])  # 0: many ties
def test_auc_equals_sklearns(decimals):
    comparison, rng = compared()
    scores = rng.normal(size=80).round(decimals)
    weight = np.concatenate([np.ones(30), comparison.weights])
    expected = sklearn_auc(comparison, scores, sample_weight=weight)
    assert comparison.auc(scores) == pytest.approx(expected, abs=1e-12)
    drawn = rng.integers(0, 3, size=30), rng.integers(0, 3, size=50)
    again = sklearn_auc(comparison, scores, sample_weight=np.concatenate(drawn))
    found = weighted_auc(scores[:30], scores[30:], drawn[0][None], drawn[1][None])
    assert found[0] == pytest.approx(again, abs=1e-12)


def test_nonmembers_have_the_mix_of_the_attacked_rows():
    group = np.repeat([0, 1, 2, 0, 1, 2], [6, 2, 0, 10, 40, 30])
    comparison = Comparison(np.arange(8), np.arange(8, 88), group, 10, 0)
    of_group = [comparison.weights[comparison.nonmember_group == g].sum() for g in (0, 1)]
    assert of_group == pytest.approx([6, 2])
    assert len(comparison.nonmembers) == 50, "no row of a group that nobody was attacked of"
    assert comparison.effective_nonmembers == pytest.approx(8**2 / (36 / 10 + 4 / 40))


# verdicts -----------------------------------------------------------------------------------------

STRONG, WEAK = Interval(0.85, 0.78, 0.9), Interval(0.6, 0.52, 0.68)


@pytest.mark.parametrize(
    ("rows", "auc", "power", "verdict", "reason"),
    [
        ("forgotten", Interval(0.8, 0.7, 0.9), STRONG, "leak", "still look trained on"),
        ("forgotten", Interval(0.2, 0.1, 0.3), STRONG, "leak", "forgotten too much"),
        ("forgotten", Interval(0.5, 0.42, 0.58), STRONG, "no leak found", "like rows never seen"),
        ("forgotten", Interval(0.5, 0.42, 0.58), WEAK, "inconclusive", "no power"),
        ("forgotten", Interval(0.5, 0.3, 0.7), STRONG, "inconclusive", "too wide"),
        ("forgotten", Interval(0.65, 0.61, 0.69), Interval(0.65, 0.61, 0.69), "leak", "still"),
        ("forgotten", Interval(0.9), Interval(0.9), "inconclusive", "fewer than 10 rows"),
        # of those that remain it is what changed
        ("remaining", Interval(0.2, 0.15, 0.25), WEAK, "leak", ""),
        ("remaining", Interval(0.05, 0.0, 0.09), WEAK, "no leak found", ""),
        ("remaining", Interval(0.05, 0.0, 0.2), WEAK, "inconclusive", ""),
        ("remaining", Interval(0.0, 0.0, 0.0), Interval(0.5, 0.45, 0.55), "inconclusive", ""),
    ],
)
def test_verdicts(rows, auc, power, verdict, reason):
    found = judge(auc, power, 0.1, is_forgotten=rows == "forgotten")
    assert found[0] == verdict and reason in found[1]


def test_false_alarms_are_as_rare_as_stated(n_members=12, n_nonmembers=24):
    """Rows that are forgotten exactly are exchangeable with rows never seen."""
    verdicts = {0.0: [], 0.1: []}
    for seed in range(300):
        comparison, rng = compared(n_members, n_nonmembers, 300, seed)
        scores = rng.normal(size=n_members + n_nonmembers)
        interval = Interval(
            0.5, *np.quantile(comparison.bootstrap_auc(scores[None]), [0.025, 0.975])
        )
        for tolerance, found in verdicts.items():
            found.append(judge(interval, STRONG, tolerance, is_forgotten=True)[0] == "leak")
    # In 1000 worlds it was 5.5 to 6.6%; two standard errors in 300 worlds are 2.5 points.
    assert 0.01 < np.mean(verdicts[0.0]) <= 0.09
    assert np.mean(verdicts[0.1]) <= 0.02
