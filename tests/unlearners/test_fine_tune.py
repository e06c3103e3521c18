import numpy as np
import pytest
from conftest import make_net, make_table, same_weights
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


def test_forgotten_rows_have_no_influence(table):
    trained = FineTuneUnlearner(make_net(), random_state=0).fit(table.X, table.y, table.a)
    X = table.X.copy()
    poisoned = FineTuneUnlearner(make_net(), random_state=0).fit(X, table.y, table.a)
    X[FORGET] = 1e6  # the rows are stored by reference
    poisoned.unlearn(FORGET)
    assert same_weights(trained.unlearn(FORGET), poisoned)


def test_reweight_draws_with_the_training_mix(row_spy):
    """A control for REWEIGHT alone: nearly all of a group goes, its share in training stays."""
    table = make_table()
    in_group = (table.y == 1) & (table.a == 0)
    forget = np.flatnonzero(in_group)[:-2]
    shares = {}
    for reweight in (False, True):
        unlearner = FineTuneUnlearner(make_net(), max_epochs=40, random_state=0, reweight=reweight)
        unlearner.fit(table.X, table.y, table.a)
        row_spy.clear()
        unlearner.unlearn(forget)
        drawn = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retain"])
        assert len(drawn) == 40 * (table.n - len(forget))
        shares[reweight] = in_group[drawn].mean()
    share = in_group.mean()
    tolerance = 4 * np.sqrt(share * (1 - share) / len(drawn))
    assert shares[True] == pytest.approx(share, abs=tolerance)
    assert shares[False] == pytest.approx(2 / (table.n - len(forget)))
    assert shares[False] < share - tolerance


def test_reweight_needs_groups_and_fine_tuning_does_not(table):
    FineTuneUnlearner(make_net()).fit(table.X, table.y).unlearn(FORGET)
    with pytest.raises(ValueError, match="needs the protected attribute"):
        FineTuneUnlearner(make_net(), reweight=True).fit(table.X, table.y).unlearn(FORGET)


def test_learning_rate_epochs_and_batch_size_of_the_run(table):
    """Half the learning rate, half the way; the net's own parameters are left alone."""
    steps = {}
    for lr in (1e-4, 2e-4):
        unlearner = FineTuneUnlearner(linear_net(), max_epochs=1, lr=lr, random_state=0)
        unlearner.fit(table.X, table.y, table.a)
        before = SoftmaxRegression(unlearner).W
        steps[lr] = SoftmaxRegression(unlearner.unlearn(FORGET)).W - before
    np.testing.assert_allclose(steps[2e-4], 2 * steps[1e-4], rtol=1e-2)
    unlearner = FineTuneUnlearner(make_net(), max_epochs=2, batch_size=10, random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
    assert unlearner.history_[-2:, "train_batch_count"] == [16, 16]
    assert unlearner.net_.batch_size == 32
    assert len(losses_of(unlearner, "retain")) == 2
