"""The methods that train a new net: on the rest, within a budget, or on equally many of a group."""

import numpy as np
import pytest
import torch
from conftest import make_net, same_weights
from skorch.callbacks import LRScheduler

from grmu_sk import (
    BudgetRetrainUnlearner,
    GroupDROUnlearner,
    RetrainUnlearner,
    SubsampleRetrainUnlearner,
)
from grmu_sk.rows import TrainingRows
from grmu_sk.training import Phase, train
from grmu_sk.unlearners.retrain import _equally_many

FORGET = [40, 41, 50]


def unlearned(table, method, net=None, forget=FORGET, **kwargs):
    unlearner = method(make_net() if net is None else net, random_state=0, **kwargs)
    return unlearner.fit(table.X, table.y, table.a).unlearn(forget)


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
    mask = np.isin(np.arange(table.n), FORGET)
    other.fit(poisoned, table.y, table.a, forget=mask)
    assert "fit" not in other.history_[:, "phase"]
    assert same_weights(unlearner, other)


def test_reweight_gives_back_the_training_mix(table, row_spy):
    """The rows the loop draws have the groups' shares of all training rows."""
    forget = np.flatnonzero((table.y == 1) & (table.a == 0))[:-2]
    net = make_net(max_epochs=40)
    mask = np.isin(np.arange(table.n), forget)
    RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a, forget=mask)
    drawn = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retrain"])
    in_group = (table.y == 1) & (table.a == 0)
    share = in_group.mean()
    tolerance = 4 * np.sqrt(share * (1 - share) / len(drawn))
    assert in_group[drawn].mean() == pytest.approx(share, abs=tolerance)
    row_spy.clear()
    RetrainUnlearner(net, reweight=False).fit(table.X, table.y, table.a, forget=mask)
    drawn = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retrain"])
    assert in_group[drawn].mean() < share / 2


def test_not_a_net(table):
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(TypeError, match="must be a skorch net"):
        RetrainUnlearner(LogisticRegression()).fit(table.X, table.y, table.a)


def test_phase_without_rows_is_left_out(table):
    zeros = torch.zeros(table.n, dtype=torch.int64)
    data = TrainingRows(table.X, torch.as_tensor(table.y), zeros, np.arange(table.n))
    net = make_net().initialize()
    train(net, data, [Phase("none", np.array([], dtype=int)), Phase("all", data.rows)], epochs=1)
    assert net.history[:, "phase"] == ["all"]


@pytest.mark.parametrize("reweight", [False, True])
def test_it_is_retraining_with_another_number_of_epochs(table, reweight):
    budget = unlearned(table, BudgetRetrainUnlearner, max_epochs=5, reweight=reweight)
    full = unlearned(table, RetrainUnlearner, make_net(max_epochs=5), reweight=reweight)
    assert same_weights(budget, full)
    other = unlearned(table, BudgetRetrainUnlearner, max_epochs=5, reweight=not reweight)
    assert not same_weights(budget, other)


def test_schedule_ends_with_the_budget(table):
    schedule = [("schedule", LRScheduler("CosineAnnealingLR", T_max=3))]  # the net's max_epochs
    unlearner = unlearned(
        table, BudgetRetrainUnlearner, net=make_net(callbacks=schedule), max_epochs=4
    )
    rates = [row["event_lr"] for row in unlearner.history_ if row["phase"] == "retrain"]
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def rows_by_epoch(row_spy, per_epoch):
    rows = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retrain"])
    return [set(part) for part in np.split(rows, range(per_epoch, len(rows), per_epoch))]


def test_every_group_has_as_many_rows_as_the_smallest(table, row_spy):
    unlearner = SubsampleRetrainUnlearner(make_net(), random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
    groups = 2 * table.y + table.a
    smallest = np.bincount(groups[unlearner.remaining_idx_]).min()
    epochs = rows_by_epoch(row_spy, 4 * smallest)
    assert len(epochs) == 3
    assert epochs[0] == epochs[1] == epochs[2], "drawn once, each row once an epoch"
    assert np.bincount(groups[list(epochs[0])]).tolist() == [smallest] * 4
    assert not epochs[0] & set(FORGET)
    assert len(unlearner.remaining_idx_) == table.n - len(FORGET), "rows not drawn remain"


def test_drawn_anew_for_each_request(table, row_spy):
    unlearner = SubsampleRetrainUnlearner(make_net(), random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
    first = set(row_spy.rows("retrain"))
    row_spy.clear()
    unlearner.unlearn([60])
    second = set(row_spy.rows("retrain"))
    assert len(second - first) > 10
    assert not second & {*FORGET, 60}


def test_smallest_group_shrinks_with_the_request(table, row_spy):
    minority = np.flatnonzero((table.y == 1) & (table.a == 0))
    unlearner = SubsampleRetrainUnlearner(make_net(), random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(minority[5:])
    seen = row_spy.rows("retrain")
    assert np.bincount(2 * table.y[seen] + table.a[seen]).tolist() == [5] * 4
    assert set(minority[:5]) <= set(seen)


def test_group_without_rows_takes_no_part(table, row_spy):
    minority = np.flatnonzero((table.y == 1) & (table.a == 0))
    unlearner = SubsampleRetrainUnlearner(make_net(), random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(minority)
    seen = row_spy.rows("retrain")
    counts = np.bincount(2 * table.y[seen] + table.a[seen], minlength=4)
    assert counts[2] == 0
    assert len(set(counts[[0, 1, 3]])) == 1


def test_rows_of_a_group_are_equally_probable():
    groups = torch.tensor([0] * 10 + [1] * 4 + [3] * 40)
    rows = np.arange(100, 154)
    times = np.zeros(54)
    torch.manual_seed(0)
    for _ in range(2000):
        drawn = _equally_many(rows, groups)
        assert np.array_equal(drawn, np.unique(drawn))
        times[drawn - 100] += 1
    expected = np.repeat([4 / 10, 1, 4 / 40], [10, 4, 40])
    tolerance = 4.5 * np.sqrt(0.25 / 2000)
    np.testing.assert_allclose(times / 2000, expected, atol=tolerance)
    assert (times[10:14] == 2000).all()
