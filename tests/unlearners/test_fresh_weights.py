"""A fresh net is what the user gave, for every way to give it; nothing given is trained."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from conftest import fitted, make_net
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from grmu_sk import (
    BadTeacherUnlearner,
    EUkUnlearner,
    FineTuneUnlearner,
    RetrainUnlearner,
    SISAUnlearner,
)
from grmu_sk.audit import AcceptanceGate
from grmu_sk.testing import holds

FORGET = [40, 41, 50]


class Headed(nn.Module):
    """A backbone that is passed in, in one way or another, and a head."""

    def __init__(self, backbone=None, parts=(), table=None):
        super().__init__()
        if table is not None:
            backbone = nn.Linear(4, 8)
            backbone.weight = nn.Parameter(table)
        self.backbone = parts[0] if parts else backbone
        self.head = nn.Linear(8, 2)

    def forward(self, X):
        return self.head(self.backbone(X).relu())


class Learned(nn.CrossEntropyLoss):
    """A criterion with weights of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, scores, y):
        return super().forward(scores * self.scale, y)


#: From a backbone to the parameters of a net, and where the backbone ends up.
WAYS = {
    "keyword": lambda b: {"module": Headed, "module__backbone": b},
    "list": lambda b: {"module": Headed, "module__parts": [b]},
    "tensor": lambda b: {"module": Headed, "module__table": b.weight.detach()},
    "partial": lambda b: {"module": partial(Headed, b)},
    "function": lambda b: {"module": lambda: Headed(b)},
    "instance": lambda b: {"module": Headed(b)},
}


class Start(Callback):
    """Notes the weights with which training starts."""

    seen = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        module = getattr(net.module_, "members", [net.module_])[0]
        self.seen.append(module.backbone.weight.detach().clone())


def given_net(way):
    torch.manual_seed(0)
    backbone = nn.Linear(4, 8)
    net = make_net(**WAYS[way](backbone), callbacks=[Start], max_epochs=2)
    return net, backbone, backbone.weight.detach().clone()


@pytest.mark.parametrize(
    ("method", "way"),
    [*((RetrainUnlearner, way) for way in WAYS), (SISAUnlearner, "list")],
)
def test_retraining_starts_from_what_was_given(table, method, way):
    net, backbone, given = given_net(way)
    unlearner = fitted(method, table, net)
    if method is SISAUnlearner:
        one, other, *_ = (member.backbone.weight for member in unlearner.net_.module_.members)
        assert not torch.equal(one, other), "each shard has a net of its own"
    for rows in (FORGET, [70]):
        Start.seen.clear()
        unlearner.unlearn(rows)
        assert Start.seen and all(torch.equal(start, given) for start in Start.seen)
    assert torch.equal(backbone.weight, given)


# nets that were trained before --------------------------------------------------------------------

GONE = "as they were given are needed, and they are gone"


@pytest.mark.parametrize(
    ("way", "wrap"),
    [
        ("list", lambda net: net),
        ("tensor", FrozenEstimator),
        ("instance", FrozenEstimator),
    ],
)
def test_trained_on_what_it_was_given(table, way, wrap):
    """What was given is gone: a method that goes on does so, and nothing original stays."""
    net = pickle.loads(pickle.dumps(given_net(way)[0].fit(table.X, table.y.astype(np.int64))))
    original = net.module_.backbone.weight.detach().numpy().copy()
    for method in (RetrainUnlearner, EUkUnlearner):
        with pytest.raises(ValueError, match=GONE):
            fitted(method, table, wrap(net))
    unlearner = fitted(FineTuneUnlearner, table, wrap(net))
    assert holds(unlearner, [original]) != [None]
    before = unlearner.net_.module_.backbone.weight.detach().numpy().copy()
    with pytest.raises(ValueError, match=GONE):
        AcceptanceGate().enforce(unlearner, FORGET, "retrain", X=table.X, y=table.y, groups=table.a)
    unlearner = pickle.loads(pickle.dumps(unlearner))
    for rows in (FORGET, [70]):
        assert holds(unlearner.unlearn(rows), [original, before]) == [None, None]
    assert np.array_equal(net.module_.backbone.weight.detach(), original)


# callbacks and criteria ---------------------------------------------------------------------------


class Collects(Callback):
    """Fills a list that is a parameter, as one that has a default of None does."""

    def __init__(self, seen=None):
        self.seen = seen or []

    def on_batch_end(self, net, batch=None, **kwargs):
        self.seen.append(batch[0].numpy().copy())


@pytest.mark.parametrize("method", [RetrainUnlearner, FineTuneUnlearner])
def test_callbacks_start_as_given_and_keep_nothing(table, method):
    kept = [("c", Collects), ("stop", EarlyStopping("train_loss", load_best=True))]
    unlearner = fitted(method, table, make_net(callbacks=kept))
    weights = unlearner.net_.module_.features[1].weight.detach().numpy().copy()
    unlearner.unlearn(FORGET)
    assert holds(unlearner, [*table.X[FORGET], weights]) == [None] * 4
    assert not dict(unlearner.net_.callbacks_)["c"].seen


@pytest.mark.parametrize(
    ("method", "criterion"), [(BadTeacherUnlearner, Learned), (FineTuneUnlearner, Learned())]
)
def test_criterion_that_learned_is_not_left_as_it_was(table, method, criterion):
    unlearner = fitted(method, table, make_net(criterion=criterion))
    learned = unlearner.net_.criterion_.scale.detach().clone()
    assert not torch.equal(learned, torch.ones(2))
    assert not torch.equal(unlearner.unlearn(FORGET).net_.criterion_.scale, learned)
