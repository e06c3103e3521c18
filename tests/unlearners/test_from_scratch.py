"""What the methods that train a new net have in common."""

import numpy as np
import pytest
import torch
from conftest import make_net, weights_of
from sklearn.frozen import FrozenEstimator

from grmu_sk import (
    BudgetRetrainUnlearner,
    GroupDROUnlearner,
    SubsampleRetrainUnlearner,
)

FORGET = [40, 41, 50]

new_nets = pytest.mark.parametrize(
    "method", [BudgetRetrainUnlearner, GroupDROUnlearner, SubsampleRetrainUnlearner]
)


@new_nets
def test_rows_to_forget_and_trained_weights_have_no_influence(method, table):
    """Exact: the same as a net that was shown neither."""
    unlearner = method(make_net(), random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
    poisoned = table.X.copy()
    poisoned[FORGET] = 1e6
    mask = np.isin(np.arange(table.n), FORGET)
    other = method(make_net(), random_state=0)
    other.fit(poisoned, table.y, table.a, forget=mask)
    assert "fit" not in other.history_[:, "phase"]
    assert all(map(np.array_equal, weights_of(unlearner), weights_of(other)))


@new_nets
def test_weights_of_a_trained_net_are_not_the_start(method, table):
    def run(scale):
        trained = make_net().fit(table.X, table.y.astype(np.int64))
        with torch.no_grad():
            for parameter in trained.module_.parameters():
                parameter *= scale
        unlearner = method(FrozenEstimator(trained), random_state=0)
        before = weights_of(unlearner.fit(table.X, table.y, table.a))
        return before, weights_of(unlearner.unlearn(FORGET))

    (before, after), (scaled_before, scaled_after) = run(1), run(10)
    assert not np.array_equal(before[0], scaled_before[0])
    assert all(map(np.array_equal, after, scaled_after))
