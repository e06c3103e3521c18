import numpy as np
import pytest
import torch
from conftest import make_net, make_table
from skorch.callbacks import Callback
from torch import nn

from grmu_sk import ShrinkPerturbUnlearner
from grmu_sk.nets import MLP

FORGET = [40, 41, 50, 60, 61]


class Ones(MLP):
    """A net whose new weights are known: all ones."""

    def __init__(self):
        super().__init__(4, hidden=(16,))
        for parameter in self.parameters():
            nn.init.ones_(parameter)


class Start(Callback):
    """Remembers the weights with which the latest training began."""

    seen = None

    def on_train_begin(self, net, **kwargs):
        Start.seen = {k: v.clone() for k, v in net.module_.state_dict().items()}


def start_of(table, module=MLP, **kwargs):
    net = make_net(module, callbacks=[Start])
    unlearner = ShrinkPerturbUnlearner(net, max_epochs=1, random_state=0, **kwargs)
    unlearner.fit(table.X, table.y, table.a)
    before = {k: v.clone() for k, v in unlearner.net_.module_.state_dict().items()}
    unlearner.unlearn(FORGET)
    return before, Start.seen


@pytest.mark.parametrize(("shrink", "noise"), [(0.4, 0.1), (1.0, 0.0), (0.0, 1.0), (0.8, 0.5)])
def test_start_against_the_formula(table, shrink, noise):
    before, start = start_of(table, Ones, shrink=shrink, noise=noise)
    for name, weight in before.items():
        torch.testing.assert_close(start[name], shrink * weight + noise)
    assert not all((weight == 1).all() for weight in before.values()), "training changed nothing"


def test_noise_is_a_new_net_each_time(table):
    """Uniform between the bounds of torch's own initialisation, and drawn by the seed."""
    _, start = start_of(table, shrink=0.0, noise=2.0)
    first = start["features.1.weight"]
    assert 0.5 < first.abs().max() <= 2 / np.sqrt(4)
    net = make_net(callbacks=[Start])
    unlearner = ShrinkPerturbUnlearner(net, shrink=0.0, noise=2.0, random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
    assert torch.equal(Start.seen["features.1.weight"], first)
    unlearner.unlearn([70])
    assert not torch.equal(Start.seen["features.1.weight"], first)


def test_noise_of_a_module_instance_is_what_was_given(table):
    module = MLP(4, hidden=(16,))
    _, start = start_of(table, module, shrink=0.0, noise=1.0)
    assert all(map(torch.equal, start.values(), module.state_dict().values()))


def test_frozen_weights_and_statistics_are_left_alone():
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(4, 8).requires_grad_(False)
            self.norm = nn.BatchNorm1d(8)
            self.head = nn.Linear(8, 2)

        def forward(self, X):
            return self.head(self.norm(self.body(X)))

    before, start = start_of(make_table(), Frozen)
    for name in before:
        expected = name.startswith("body") or "running" in name or "tracked" in name
        assert torch.equal(before[name], start[name]) == expected, name
