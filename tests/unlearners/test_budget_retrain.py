import numpy as np
import pytest
from conftest import make_net, same_weights
from skorch.callbacks import LRScheduler

from grmu_sk import BudgetRetrainUnlearner, RetrainUnlearner

FORGET = [40, 41, 50]


def unlearned(table, method=BudgetRetrainUnlearner, net=None, **kwargs):
    unlearner = method(make_net() if net is None else net, random_state=0, **kwargs)
    return unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)


@pytest.mark.parametrize("reweight", [False, True])
def test_it_is_retraining_with_another_number_of_epochs(table, reweight):
    budget = unlearned(table, max_epochs=5, reweight=reweight)
    full = unlearned(table, RetrainUnlearner, make_net(max_epochs=5), reweight=reweight)
    assert same_weights(budget, full)
    other = unlearned(table, max_epochs=5, reweight=not reweight)
    assert not same_weights(budget, other)


def test_number_of_epochs(table):
    phases = unlearned(table).history_[:, "phase"]
    assert phases == ["fit"] * 3 + ["retrain"] * 10
    assert unlearned(table, max_epochs=1).history_[-1, "epoch"] == 1


def test_schedule_ends_with_the_budget(table):
    schedule = [("schedule", LRScheduler("CosineAnnealingLR", T_max=3))]  # the net's max_epochs
    unlearner = unlearned(table, net=make_net(callbacks=schedule), max_epochs=4)
    rates = [row["event_lr"] for row in unlearner.history_ if row["phase"] == "retrain"]
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_learning_rate_and_batch_size_of_the_run_only(table):
    unlearner = unlearned(table, max_epochs=3, lr=0.2, batch_size=10)
    assert unlearner.history_[-1, "train_batch_count"] == 16
    assert (unlearner.net_.lr, unlearner.net_.batch_size) == (0.05, 32)
    full = unlearned(table, RetrainUnlearner, make_net(lr=0.2, batch_size=10), reweight=False)
    assert same_weights(unlearner, full)


def test_reweight_draws_with_replacement(table, row_spy):
    for reweight in (False, True):
        row_spy.clear()
        unlearned(table, max_epochs=1, reweight=reweight)
        drawn = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retrain"])
        assert len(drawn) == table.n - len(FORGET)
        assert (len(set(drawn)) < len(drawn)) == reweight
