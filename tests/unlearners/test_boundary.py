"""The steps themselves, and the search for the nearest class, are in test_closed_forms."""

import numpy as np
import pytest
from conftest import fitted, make_net, make_table

from grmu_sk import BoundaryExpandUnlearner, BoundaryShrinkUnlearner
from grmu_sk.nets import MLP
from grmu_sk.unlearners import boundary

FORGET = [40, 41, 50, 60, 61]


def run(method, table, net=None, **kwargs):
    return fitted(method, table, net, **{"max_epochs": 3, **kwargs}).unlearn(FORGET)


def test_range_of_moved_inputs(spy, monkeypatch):
    """That of the rows that are there, or the one that is given."""
    seen = spy(boundary, "nearest_wrong_class", lambda result, *args, input_range, **_: input_range)
    table = make_table()
    table.X[70], table.X[71], table.X[72] = 50, -60, 20
    unlearner = fitted(BoundaryShrinkUnlearner, table, max_epochs=1, keep_forgotten=True)
    unlearner.unlearn([71]).unlearn([70]).unlearn([40])
    low = np.delete(table.X, [70, 71], axis=0).min()
    assert seen == [(-60, 50), (low, 50), (low, 20)]
    monkeypatch.setattr(boundary, "_range_of_inputs", None)  # no pass over all rows is needed
    unlearner.set_params(input_range=(-1, 1.5)).unlearn([41])
    assert seen[3:] == [(-1, 1.5)]


class Scaled(MLP):
    """Divides its logits, so that its probabilities are not the softmax of the last layer."""

    def forward(self, X):
        return super().forward(X) / 3


def test_net_without_a_layer_to_extend(table):
    net = make_net(Scaled, module__n_features=4)
    with pytest.raises(ValueError, match=r"softmax of what that layer returns .* are not"):
        fitted(BoundaryExpandUnlearner, table, net)
    run(BoundaryShrinkUnlearner, table, net)
