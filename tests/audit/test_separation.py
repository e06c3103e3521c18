"""AUC, its bootstrap, and the verdicts that rest on them."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from grmu_sk.audit import Interval
from grmu_sk.audit._separation import Comparison, weighted_auc
from grmu_sk.audit.leakage_finding import judge_forgotten, judge_remaining


def compared(n_members=30, n_nonmembers=50, n_bootstrap=400, seed=0, groups=2):
    rng = np.random.default_rng(seed)
    n_rows = n_members + n_nonmembers
    group = rng.integers(groups, size=n_rows)
    group[:groups] = group[n_members : n_members + groups] = np.arange(groups)
    rows = np.arange(n_rows)
    return Comparison(rows[:n_members], rows[n_members:], group, n_bootstrap, seed), group, rng


def sklearn_auc(comparison, scores, **kwargs):
    chosen = np.concatenate([comparison.members, comparison.nonmembers])
    is_member = np.repeat([1, 0], [len(comparison.members), len(comparison.nonmembers)])
    return roc_auc_score(is_member, scores[chosen], **kwargs)


@pytest.mark.parametrize("decimals", [8, 0])  # 0: many ties
def test_auc_equals_sklearns(decimals):
    comparison, _, rng = compared()
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
    # a group whose rows all score high must not pass for membership
    scores = np.where(group == 0, 5.0, 0.0)
    assert comparison.auc(scores) == pytest.approx(0.5)
    assert sklearn_auc(comparison, scores) > 0.7, "without weights it would"
    assert comparison.effective_nonmembers == pytest.approx(8**2 / (36 / 10 + 4 / 40))


def test_bootstrap_has_the_spread_of_repeated_draws():
    """The standard error of a bootstrap is that of drawing new rows, over many worlds."""
    estimates, errors = [], []
    for seed in range(150):
        comparison, _, rng = compared(40, 60, 200, seed, groups=1)
        scores = rng.normal(size=100) + (np.arange(100) < 40)
        estimates.append(comparison.auc(scores))
        errors.append(comparison.bootstrap_auc(scores[None]).std())
    assert np.mean(errors) == pytest.approx(np.std(estimates), rel=0.15)
    # the AUC of two unit normals one apart
    assert np.mean(estimates) == pytest.approx(0.7602, abs=0.015)


def test_bootstrap_is_paired_and_within_groups():
    comparison, group, rng = compared()
    scores = rng.normal(size=80)
    one, same, shifted = comparison.bootstrap_auc(np.array([scores, scores, scores + 10 * group]))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, shifted)
    for member_counts, weights in comparison._samples():
        for number in (0, 1):
            drawn = member_counts[:, comparison.member_group == number].sum(axis=1)
            assert drawn == pytest.approx((comparison.member_group == number).sum())
            share = weights[:, comparison.nonmember_group == number].sum(axis=1)
            assert share == pytest.approx((comparison.member_group == number).sum())


def test_samples_do_not_depend_on_how_many_are_in_memory(monkeypatch):
    comparison, _, rng = compared(n_bootstrap=50)
    scores = rng.normal(size=(1, 80))
    assert len(list(comparison._samples())) == 1
    at_once = comparison.bootstrap_auc(scores)
    monkeypatch.setattr("grmu_sk.audit._separation._NUMBERS_AT_ONCE", 80 * 7)
    assert len(list(comparison._samples())) == 8
    in_parts = comparison.bootstrap_auc(scores)
    assert in_parts.shape == at_once.shape == (1, 50)
    assert abs(in_parts.mean() - at_once.mean()) < 0.03


def test_true_positive_rate_equals_sklearns_curve():
    comparison, _, rng = compared(200, 300, groups=1)
    scores = (rng.normal(size=500) + (np.arange(500) < 200)).round(2)
    false, true, _ = roc_curve(np.arange(500) < 200, scores, drop_intermediate=False)
    for rate in (0.01, 0.05, 0.1, 0.5):
        expected = true[false <= rate + 1e-12].max()
        assert comparison.true_positive_rate(scores, rate) == pytest.approx(expected)


# verdicts ----------------------------------------------------------------------------------------

STRONG, WEAK = Interval(0.85, 0.78, 0.9), Interval(0.6, 0.52, 0.68)


@pytest.mark.parametrize(
    ("auc", "power", "verdict", "reason"),
    [
        (Interval(0.8, 0.7, 0.9), STRONG, "leak", "still look trained on"),
        (Interval(0.2, 0.1, 0.3), STRONG, "leak", "forgotten too much"),
        (Interval(0.2, 0.1, 0.3), WEAK, "leak", "forgotten too much"),
        (Interval(0.5, 0.42, 0.58), STRONG, "no leak found", "like rows never seen"),
        (Interval(0.5, 0.42, 0.58), WEAK, "inconclusive", "no power"),
        (Interval(0.5, 0.3, 0.7), STRONG, "inconclusive", "too wide"),
        (Interval(0.65, 0.55, 0.75), STRONG, "inconclusive", "too wide"),
        (Interval(0.9), Interval(0.9), "inconclusive", "fewer than 10 rows"),
    ],
)
def test_verdict_on_forgotten_rows(auc, power, verdict, reason):
    found = judge_forgotten(auc, power, 0.1)
    assert found[0] == verdict and reason in found[1]


def test_doing_nothing_never_passes():
    ends = np.linspace(0.01, 0.99, 29)
    for low in ends:
        for high in ends[ends >= low]:
            same = Interval((low + high) / 2, low, high)
            for tolerance in (0.0, 0.05, 0.1, 0.3):
                assert judge_forgotten(same, same, tolerance)[0] != "no leak found"


@pytest.mark.parametrize(
    ("change", "power", "verdict"),
    [
        (Interval(0.2, 0.15, 0.25), WEAK, "leak"),
        (Interval(0.05, 0.0, 0.09), WEAK, "no leak found"),
        (Interval(-0.3, -0.4, -0.2), WEAK, "no leak found"),
        (Interval(0.05, 0.0, 0.2), WEAK, "inconclusive"),
        (Interval(0.0, 0.0, 0.0), Interval(0.5, 0.45, 0.55), "inconclusive"),
        (Interval(0.2), WEAK, "inconclusive"),
    ],
)
def test_verdict_on_remaining_rows(change, power, verdict):
    assert judge_remaining(change, power, 0.1)[0] == verdict


@pytest.mark.parametrize(("n_members", "n_nonmembers"), [(12, 24), (60, 60)])
def test_false_alarms_are_as_rare_as_stated(n_members, n_nonmembers):
    """Rows that are forgotten exactly are exchangeable with rows never seen."""
    verdicts = {0.0: [], 0.1: []}
    for seed in range(300):
        comparison, _, rng = compared(n_members, n_nonmembers, 300, seed)
        scores = rng.normal(size=n_members + n_nonmembers)
        interval = Interval(
            0.5, *np.quantile(comparison.bootstrap_auc(scores[None]), [0.025, 0.975])
        )
        for tolerance, found in verdicts.items():
            found.append(judge_forgotten(interval, STRONG, tolerance)[0] == "leak")
    # In 1000 worlds it was 5.5 to 6.6%; two standard errors in 300 worlds are 2.5 points.
    assert 0.01 < np.mean(verdicts[0.0]) <= 0.09
    assert np.mean(verdicts[0.1]) <= 0.02


def test_interval_says_when_it_is_not_known():
    assert not Interval(0.5).is_known and str(Interval(0.5)) == "0.500 [-, -]"
    assert (
        Interval(0.5, 0.4, 0.6).is_known and str(Interval(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"
    )
    assert math.isnan(Interval(0.5).low)
