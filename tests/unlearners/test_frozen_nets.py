"""A trained net is taken over as it stands, and what is frozen in it stays frozen."""

import numpy as np
import pytest
import torch
from conftest import make_net
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.nn.utils import prune

from grmu_sk import FineTuneUnlearner, MIUUnlearner, RetrainUnlearner

FORGET = [40, 41, 50]


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Linear(4, width)
        self.head = nn.Linear(width, 2)
        self.seen = None

    def forward(self, X):
        self.seen = X
        return self.head(self.body(X).relu())


class LowRank(nn.Module):
    """A frozen layer with a small one beside it, as LoRA adds it."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down, self.up = nn.Linear(4, 2), nn.Linear(2, 8)

    def forward(self, X):
        return self.layer(X) + self.up(self.down(X))


def later_buffer(net):
    net.module_.register_buffer("offset", torch.full((4,), 3.0), persistent=False)
    net.module_.register_forward_pre_hook(lambda module, args: (args[0] + module.offset,))


CHANGES = {
    "frozen body": lambda net: net.module_.body.requires_grad_(False),
    "later buffer": later_buffer,
    "replaced": lambda net: setattr(net, "module_", Net(5)),
    "pruned": lambda net: prune.l1_unstructured(net.module_.body, "weight", 0.5),
    "low rank": lambda net: setattr(net.module_, "body", LowRank(net.module_.body)),
}


def changed_net(table, change):
    torch.manual_seed(1)  # a replaced net must not be worse than guessing
    net = make_net(Net).fit(table.X, table.y.astype(np.int64))
    CHANGES[change](net)
    return net


@pytest.mark.parametrize(
    ("method", "change"),
    [*((FineTuneUnlearner, change) for change in CHANGES), (MIUUnlearner, "low rank")],
)
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


def test_net_that_cannot_be_built_is_refused(table):
    with pytest.raises(ValueError, match="which was changed after it was initialised"):
        RetrainUnlearner(FrozenEstimator(changed_net(table, "replaced"))).fit(table.X, table.y)
