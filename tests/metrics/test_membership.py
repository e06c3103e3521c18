import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from grmu_sk.metrics import (
    fit_membership_attack,
    membership_inference_efficacy,
    per_sample_cross_entropy,
)

pytestmark = pytest.mark.quick


class TestCrossEntropy:
    def test_hand_computed(self):
        proba = [[0.5, 0.25, 0.25], [0.1, 0.9, 0.0], [0.0, 1.0, 0.0]]
        losses = per_sample_cross_entropy(["a", "b", "a"], proba, classes=["a", "b", "c"])
        assert losses == pytest.approx([np.log(2), -np.log(0.9), 23 * np.log(2)])
        (certain,) = per_sample_cross_entropy([0], [[1.0, 0.0]], classes=[0, 1])
        assert certain == 0 and not np.signbit(certain)

    @pytest.mark.parametrize(
        "convert",
        [
            lambda p: p.astype(np.float16),
            pd.DataFrame,
            lambda p: torch.as_tensor(p).bfloat16().requires_grad_(),
        ],
    )
    def test_containers_and_precisions(self, convert):
        proba = np.array([[0.75, 0.25], [0.5, 0.5]])
        losses = per_sample_cross_entropy([1, 0], convert(proba), classes=[0, 1])
        assert losses == pytest.approx([np.log(4), np.log(2)])
        assert losses.dtype == np.float64

    @pytest.mark.parametrize(
        ("proba", "message"),
        [
            ([[0.5, 0.5]], r"proba must have shape \(2, 2\).* got \(1, 2\)"),
            ([[0.5, 0.5], [np.nan, 1.0]], "proba holds NaN, the first in row 1"),
            ([[2.5, -1.5], [0.5, 0.5]], "Are these logits"),
            ([[np.inf, 0.0], [0.5, 0.5]], "must be probabilities"),
        ],
    )
    def test_bad_probabilities(self, proba, message):
        with pytest.raises(ValueError, match=message):
            per_sample_cross_entropy([0, 1], proba, classes=[0, 1])

    def test_bad_labels(self):
        with pytest.raises(ValueError, match=r"y_true has the value 2 .*\[0, 1\]"):
            per_sample_cross_entropy([0, 2], [[0.5, 0.5]] * 2, classes=[0, 1])
        with pytest.raises(ValueError, match="y_true has the value '1'"):
            per_sample_cross_entropy(["1"], [[0.5, 0.5]], classes=[0, 1])
        with pytest.raises(ValueError, match=r"classes holds a label twice: \[0, 0\]"):
            per_sample_cross_entropy([0], [[0.5, 0.5]], classes=[0, 0])


def exponential_losses(seed=0, sizes=(600, 150, 80), scales=(1.0, 1.0, 1.0)):
    rng = np.random.default_rng(seed)
    return [rng.exponential(scale, size) for size, scale in zip(sizes, scales, strict=True)]


class TestEfficacy:
    # Losses of a real network repeat: many are zero, coarse in half precision, or so close that a
    # tree cannot cut between them.
    @pytest.mark.parametrize(
        "distort",
        [
            lambda losses: losses,
            lambda losses: np.maximum(losses - 0.5, 0.0),
            lambda losses: losses.astype(np.float16),
            lambda losses: losses * 1e-6,
        ],
        ids=["continuous", "many zeros", "float16", "tiny"],
    )
    def test_paper_is_the_largest_of_six_forests(self, distort):
        member, nonmember, forget = map(
            distort, exponential_losses(sizes=(300, 150, 150), scales=(0.7, 1.0, 0.8))
        )
        values = []
        for criterion in ["gini", "entropy"]:
            for trees in [100, 50, 20]:
                forest = RandomForestClassifier(trees, criterion=criterion, random_state=0)
                forest.fit(np.r_[member, nonmember].reshape(-1, 1), [1] * 300 + [0] * 150)
                values.append(1 - forest.predict(forget.reshape(-1, 1)).mean())
        score = membership_inference_efficacy(member, nonmember, forget, attack="paper")
        assert score == pytest.approx(max(values))

    @pytest.mark.parametrize("attack", ["paper", "balanced"])
    def test_separated_losses(self, attack):
        member, nonmember = np.linspace(0, 1, 200), np.linspace(5, 6, 60)
        like_nonmember = membership_inference_efficacy(
            member, nonmember, np.linspace(5.1, 5.9, 30), attack=attack
        )
        like_member = membership_inference_efficacy(
            member, nonmember, np.linspace(0.1, 0.9, 30), attack=attack
        )
        assert (like_nonmember, like_member) == (1.0, 0.0)

    def test_balanced_attack_is_near_chance_when_nothing_can_be_told(self):
        draws = [exponential_losses(seed, sizes=(4000, 500, 1000)) for seed in range(3)]
        balanced, paper = (
            np.mean([membership_inference_efficacy(*losses, attack=name) for losses in draws])
            for name in ("balanced", "paper")
        )
        assert balanced == pytest.approx(0.5, abs=0.1)
        assert paper < 0.25, "without balance and large leaves it is far from chance"

    @pytest.mark.parametrize("position", range(3))
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ([], "must be 1-D, one loss a row, not empty"),
            ([[0.1], [0.2]], r"must be 1-D, one loss a row, not empty; got \(2, 1\)"),
            ([0.1, np.nan], "holds NaN or infinite values in 1 rows, the first at row 1"),
        ],
    )
    def test_bad_losses(self, position, bad, message):
        losses = [[0.1, 0.2], [0.3, 0.4], [0.5]]
        losses[position] = bad
        name = ["member_losses", "nonmember_losses", "forget_losses"][position]
        with pytest.raises(ValueError, match=f"^{name} {message}"):
            membership_inference_efficacy(*losses)


def balanced_forest(member, nonmember, random_state=0):
    """The forest that the documentation of the metric describes."""
    n = len(member) + len(nonmember)
    forest = RandomForestClassifier(
        n_estimators=100,
        class_weight="balanced",
        min_samples_leaf=math.ceil(n ** (2 / 3)),
        random_state=random_state,
    )
    return forest.fit(
        np.r_[member, nonmember].reshape(-1, 1), np.repeat([1, 0], [len(member), len(nonmember)])
    )


def dense_grid(forest, *losses):
    """Losses everywhere, at every cut of every tree, and at the numbers next to the cuts."""
    cuts = np.unique(np.concatenate([tree.tree_.threshold for tree in forest.estimators_]))
    near = [np.nextafter(cuts, side) for side in (-np.inf, np.inf)]
    single = cuts.astype(np.float32)
    near += [np.nextafter(single, np.float32(side)) for side in (-np.inf, np.inf)]
    top = 2 * max(column.max() for column in losses) + 1
    return np.concatenate([*losses, cuts, single, *near, np.linspace(-1, top, 20_001)])


class TestAttack:
    @pytest.mark.parametrize("random_state", [0, 7])
    @pytest.mark.parametrize(
        "distort",
        [
            lambda losses: losses.round(1),
            lambda losses: np.maximum(losses - 0.5, 0.0),
            lambda losses: losses * 1e-4,
            lambda losses: 10.0 + losses * 1e-5,
        ],
        ids=["rounded", "many zeros", "tiny", "neighbours in float32"],
    )
    def test_intervals_are_the_decisions_of_the_forest(self, distort, random_state):
        member, nonmember = map(
            distort, exponential_losses(random_state, sizes=(300, 150), scales=(0.7, 1.0))
        )
        forest = balanced_forest(member, nonmember, random_state)
        attack = fit_membership_attack(member, nonmember, random_state=random_state)
        grid = dense_grid(forest, member, nonmember)
        expected = forest.predict(grid.reshape(-1, 1)) == 1
        assert 0 < expected.mean() < 1, "one answer for every loss would be no test"
        np.testing.assert_array_equal(attack.is_member(grid), expected)

    def test_the_metric_is_the_share_outside_the_intervals(self, random_state=3):
        member, nonmember, forget = exponential_losses(sizes=(300, 150, 90), scales=(0.6, 1, 0.8))
        attack = fit_membership_attack(member, nonmember, random_state=random_state)
        score = membership_inference_efficacy(
            member, nonmember, forget, attack="balanced", random_state=random_state
        )
        forest = balanced_forest(member, nonmember, random_state)
        assert score == np.mean(~attack.is_member(forget))
        assert score == pytest.approx(1 - forest.predict(forget.reshape(-1, 1)).mean())
        assert 0 < score < 1

    def test_losses_that_tell_nothing_are_all_answered_alike(self):
        """How, is a tie that versions of scikit-learn break differently: as its forest does."""
        attack = fit_membership_attack([1.0] * 4, [1.0] * 4, random_state=0)
        answers = balanced_forest([1.0] * 4, [1.0] * 4).predict([[0.0], [1.0], [2.0]])
        assert len(set(answers)) == 1
        assert attack.member_intervals.shape == (int(answers[0]), 2)
        assert attack.is_member([0.0, 1.0, 2.0]).tolist() == (answers == 1).tolist()
