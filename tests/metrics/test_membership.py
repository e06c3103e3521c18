import math

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier

from grmu_sk.metrics import (
    fit_membership_attack,
    membership_inference_efficacy,
    per_sample_cross_entropy,
)

pytestmark = pytest.mark.quick


def test_losses_by_hand():
    proba = [[0.5, 0.25, 0.25], [0.1, 0.9, 0.0], [0.0, 1.0, 0.0]]
    losses = per_sample_cross_entropy(["a", "b", "a"], proba, classes=["a", "b", "c"])
    assert losses == pytest.approx([np.log(2), -np.log(0.9), 126 * np.log(2)])
    (certain,) = per_sample_cross_entropy([0], [[1.0, 0.0]], classes=[0, 1])
    assert certain == 0 and not np.signbit(certain)
    narrow = torch.tensor([[0.75, 0.25], [0.5, 0.5]]).bfloat16().requires_grad_()
    losses = per_sample_cross_entropy([1, 0], narrow, classes=[0, 1])
    assert losses == pytest.approx([np.log(4), np.log(2)])


def exponential_losses(seed=0, sizes=(600, 150, 80), scales=(1.0, 1.0, 1.0)):
    rng = np.random.default_rng(seed)
    return [rng.exponential(scale, size) for scale, size in zip(scales, sizes, strict=True)]


# Losses of a real network repeat: many are zero, or so close that a tree cannot cut between them.
@pytest.mark.parametrize(
    "distort",
    [lambda losses: np.maximum(losses - 0.5, 0.0), lambda losses: losses * 1e-6],
    ids=["many zeros", "tiny"],
)
def test_paper_is_the_largest_of_six_forests(distort):
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


def test_balanced_is_the_forest_that_its_documentation_describes():
    member, nonmember, forget = exponential_losses(sizes=(300, 150, 90), scales=(0.6, 1, 0.8))
    forest = RandomForestClassifier(
        n_estimators=100,
        class_weight="balanced",
        min_samples_leaf=math.ceil(450 ** (2 / 3)),
        random_state=3,
    ).fit(np.r_[member, nonmember].reshape(-1, 1), np.repeat([1, 0], [300, 150]))
    is_member = forest.predict(forget.reshape(-1, 1)) == 1
    attack = fit_membership_attack(member, nonmember, random_state=3)
    np.testing.assert_array_equal(attack(forget), is_member)
    given = (member, nonmember, forget)
    score = membership_inference_efficacy(*given, attack="balanced", random_state=3)
    assert score == np.mean(~is_member) and 0 < score < 1
