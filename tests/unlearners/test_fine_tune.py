import numpy as np
import pytest
from conftest import make_net, make_table
from softmax_regression import SoftmaxRegression, linear_net, losses_of

from grmu_sk import FineTuneUnlearner

FORGET = [40, 41, 50, 60, 61]


@pytest.mark.parametrize("weighted", [False, True])
def test_each_epoch_is_a_step_on_the_rest(weighted):
    table = make_table(n_classes=3)
    weight = np.random.default_rng(0).random(table.n) + 0.1 if weighted else None
    unlearner = FineTuneUnlearner(linear_net(module__n_classes=3), max_epochs=4, random_state=0)
    unlearner.fit(table.X, table.y, table.a, sample_weight=weight)
    by_hand = SoftmaxRegression(unlearner)
    unlearner.unlearn(FORGET)
    rest = np.setdiff1d(np.arange(table.n), FORGET)
    part = table.X[rest], table.y[rest], None if weight is None else weight[rest]
    losses = []
    for _ in range(4):
        losses.append(by_hand.loss(*part))
        by_hand.step(0.1, by_hand.gradient(*part))
    by_hand.assert_is(unlearner)
    np.testing.assert_allclose(losses_of(unlearner, "retain"), losses, rtol=1e-4)


def test_reweight_needs_groups_and_fine_tuning_does_not(table):
    FineTuneUnlearner(make_net()).fit(table.X, table.y).unlearn(FORGET)
    with pytest.raises(ValueError, match="needs the protected attribute"):
        FineTuneUnlearner(make_net(), reweight=True).fit(table.X, table.y).unlearn(FORGET)
