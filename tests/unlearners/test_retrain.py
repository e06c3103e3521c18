"""The methods that train a new net: on the rest, within a budget, or on equally many of a group."""

import numpy as np
import pytest
from conftest import fitted, make_net, same_weights
from skorch.callbacks import LRScheduler

from grmu_sk import (
    BudgetRetrainUnlearner,
    GroupDROUnlearner,
    RetrainUnlearner,
    SubsampleRetrainUnlearner,
)

FORGET = [40, 41, 50]


def unlearned(table, method, net=None, **kwargs):
    return fitted(method, table, net, **kwargs).unlearn(FORGET)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        (RetrainUnlearner, {"reweight": False}),
        (RetrainUnlearner, {"reweight": True}),
        (BudgetRetrainUnlearner, {}),
        (GroupDROUnlearner, {}),
        (SubsampleRetrainUnlearner, {}),
    ],
)
def test_rows_to_forget_and_trained_weights_have_no_influence(method, params, table):
    """Exact: the same as a net that was shown neither."""
    unlearner = unlearned(table, method, **params)
    poisoned = table.X.copy()
    poisoned[FORGET] = 1e6
    other = method(make_net(), random_state=0, **params)
    other.fit(poisoned, table.y, table.a, forget=np.isin(np.arange(table.n), FORGET))
    assert "fit" not in other.history_[:, "phase"]
    assert same_weights(unlearner, other)


def test_budget_is_retraining_with_another_number_of_epochs(table):
    """Which a schedule of the net's number is told, too."""
    budget = unlearned(table, BudgetRetrainUnlearner, max_epochs=5, reweight=True)
    full = unlearned(table, RetrainUnlearner, make_net(max_epochs=5), reweight=True)
    assert same_weights(budget, full)
    schedule = [("schedule", LRScheduler("CosineAnnealingLR", T_max=3))]  # the net's max_epochs
    net = make_net(callbacks=schedule)
    unlearner = unlearned(table, BudgetRetrainUnlearner, net, max_epochs=4)
    rates = [row["event_lr"] for row in unlearner.history_ if row["phase"] == "retrain"]
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize("n_left", [5, 0])
def test_every_group_has_as_many_rows_as_the_smallest(table, row_spy, n_left):
    """Which shrinks with the request; one that is gone takes no part."""
    groups = 2 * table.y + table.a
    smallest = np.argmin(np.bincount(groups))
    forget = np.flatnonzero(groups == smallest)[n_left:]
    unlearner = fitted(SubsampleRetrainUnlearner, table)
    row_spy.clear()
    unlearner.unlearn(forget)
    left = np.bincount(np.delete(groups, forget), minlength=4)
    n_each = left[left > 0].min()
    drawn = row_spy.drawn("retrain")
    epochs = [set(part) for part in np.split(drawn, 3)]
    assert epochs[0] == epochs[1] == epochs[2], "drawn once, each row once an epoch"
    found = np.bincount(groups[list(epochs[0])], minlength=4)
    assert found.tolist() == np.where(left > 0, n_each, 0).tolist()
    assert not epochs[0] & set(forget)
    assert len(unlearner.remaining_idx_) == table.n - len(forget), "rows not drawn remain"
    row_spy.clear()
    unlearner.unlearn(unlearner.remaining_idx_[50:51])
    assert len(set(row_spy.rows("retrain")) - epochs[0]) > 5, "drawn anew for each request"
