"""A trained net is taken over as it stands, and what is frozen in it stays frozen."""

import copy

import numpy as np
import pytest
import torch
from conftest import make_net
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.nn.utils import parametrizations, prune

from grmu_sk import FineTuneUnlearner, MIUUnlearner, RetrainUnlearner
from grmu_sk.persistence import load, save

FORGET = [40, 41, 50]


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Linear(4, width)
        self.head = nn.Linear(width, 2)
        self.scale = 1.0
        self.seen = None

    def forward(self, X):
        self.seen = X
        return self.scale * self.head(self.body(X).relu())


class LowRank(nn.Module):
    """A frozen layer with a small one beside it, as LoRA adds it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down, self.up = nn.Linear(4, 2), nn.Linear(2, 8)

    def forward(self, X):
        return self.layer(X) + self.up(self.down(X))


def frozen_body(net):
    net.module_.body.requires_grad_(False)


def later_buffer(net):
    net.module_.register_buffer("offset", torch.full((4,), 3.0), persistent=False)
    net.module_.register_forward_pre_hook(lambda module, args: (args[0] + module.offset,))


def attribute(net):
    net.module_.scale = 0.2


def replaced(net):
    net.module_ = Net(5)


def pruned(net):
    prune.l1_unstructured(net.module_.body, "weight", 0.5)


def parametrized(net):
    parametrizations.weight_norm(net.module_.body)


def weight_norm(net):
    net.module_.body = torch.nn.utils.weight_norm(net.module_.body)


def low_rank(net):
    net.module_.body = LowRank(net.module_.body)


def new_head(net):
    net.module_.head = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))


CHANGES = [
    frozen_body,
    later_buffer,
    attribute,
    replaced,
    pruned,
    parametrized,
    pytest.param(weight_norm, marks=pytest.mark.filterwarnings("ignore:.*weight_norm")),
    low_rank,
    new_head,
]


def changed_net(table, change):
    net = make_net(Net).fit(table.X, table.y.astype(np.int64))
    change(net)
    return net


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("method", [MIUUnlearner, FineTuneUnlearner])
def test_net_is_taken_as_it_stands(table, method, change):
    net = changed_net(table, change)
    unlearner = method(FrozenEstimator(net), max_epochs=2, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    expected = net.predict_proba(table.X)
    assert np.allclose(unlearner.predict_proba(table.X), expected)
    unlearner.unlearn(FORGET).unlearn([70])
    assert net.module_.state_dict().keys() == unlearner.net_.module_.state_dict().keys()
    assert not np.allclose(unlearner.predict_proba(table.X), expected)
    assert np.array_equal(net.predict_proba(table.X), expected)
    parts = [dict(one.module_.named_parameters()) for one in (net, unlearner.net_)]
    for name, weight in parts[0].items():
        assert weight.requires_grad == parts[1][name].requires_grad
        assert weight.requires_grad or torch.equal(weight, parts[1][name])
    assert not np.isin(table.X[FORGET], unlearner.net_.module_.seen.numpy()).all(axis=1).any()


@pytest.mark.parametrize("change", [frozen_body, replaced, low_rank, new_head])
def test_retraining_builds_the_net_that_was_trained_or_refuses(table, change):
    net = changed_net(table, change)
    with pytest.raises(ValueError, match="which was changed after it was initialised"):
        RetrainUnlearner(FrozenEstimator(net)).fit(table.X, table.y, table.a)


def test_copy_that_predicts_otherwise_is_refused(table):
    net = make_net(Net).fit(table.X, table.y.astype(np.int64))
    net.module_.forward = lambda X: Net.forward(net.module_, X) + table.X.mean() * next(draws)
    draws = iter(range(10**6))
    with pytest.raises(ValueError, match="A copy of the trained net does not predict"):
        FineTuneUnlearner(FrozenEstimator(net)).fit(table.X, table.y, table.a)


def test_file_of_a_net_that_was_changed(table, tmp_path):
    net = changed_net(table, new_head)
    unlearner = FineTuneUnlearner(FrozenEstimator(net), random_state=0)
    save(unlearner.fit(table.X, table.y, table.a).unlearn(FORGET), tmp_path / "model")
    same = changed_net(table, new_head)
    again = load(tmp_path / "model", same)
    assert np.array_equal(again.predict_proba(table.X), unlearner.predict_proba(table.X))
    data = {"X": table.X, "y": table.y, "groups": table.a}
    for one in (again, unlearner):
        one.unlearn([70], **data)
    assert np.array_equal(again.predict_proba(table.X), unlearner.predict_proba(table.X))
    assert copy.deepcopy(again).forget_idx_.tolist() == [40, 41, 50, 70]
