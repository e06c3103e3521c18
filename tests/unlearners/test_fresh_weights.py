"""A fresh net is what the user gave, for every way to give it; nothing given is trained."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from conftest import make_net
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn

from grmu_sk import (
    BadTeacherUnlearner,
    BudgetRetrainUnlearner,
    EUkUnlearner,
    FineTuneUnlearner,
    GroupDROUnlearner,
    NoOpUnlearner,
    RetrainUnlearner,
    ShrinkPerturbUnlearner,
    SISAUnlearner,
    SubsampleRetrainUnlearner,
)
from grmu_sk.audit import AcceptanceGate
from grmu_sk.testing import holds
from grmu_sk.training import fresh_net

FORGET = [40, 41, 50]
FRESH = [
    RetrainUnlearner,
    BudgetRetrainUnlearner,
    GroupDROUnlearner,
    SubsampleRetrainUnlearner,
    SISAUnlearner,
    BadTeacherUnlearner,
    EUkUnlearner,
    ShrinkPerturbUnlearner,
]


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


def closure(backbone):
    return lambda: Headed(backbone)


#: From a backbone to the parameters of a net, and where the backbone ends up.
WAYS = {
    "keyword": lambda b: {"module": Headed, "module__backbone": b},
    "list": lambda b: {"module": Headed, "module__parts": [b]},
    "tensor": lambda b: {"module": Headed, "module__table": b.weight.detach()},
    "partial": lambda b: {"module": partial(Headed, b)},
    "function": lambda b: {"module": closure(b)},
    "instance": lambda b: {"module": Headed(b)},
}
ways = pytest.mark.parametrize("way", WAYS)


def every_way_and_method(methods):
    """Every way with retraining, and every method with one way."""
    pairs = [(methods[0], way) for way in WAYS] + [(method, "list") for method in methods[1:]]
    return pytest.mark.parametrize(("method", "way"), pairs)


class Start(Callback):
    """Notes the weights with which training starts."""

    seen = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        module = getattr(net.module_, "members", [net.module_])[0]
        self.seen.append(module.backbone.weight.detach().clone())


def given_net(way, **params):
    torch.manual_seed(0)
    backbone = nn.Linear(4, 8)
    net = make_net(**WAYS[way](backbone), callbacks=[Start], max_epochs=2, **params)
    return net, backbone, backbone.weight.detach().clone()


@every_way_and_method(FRESH[:5])
def test_retraining_starts_from_what_was_given(table, method, way):
    net, backbone, given = given_net(way)
    unlearner = method(net, random_state=0).fit(table.X, table.y, table.a)
    assert torch.equal(backbone.weight, given)
    for rows in (FORGET, [70]):
        Start.seen.clear()
        unlearner.unlearn(rows)
        assert Start.seen and all(torch.equal(start, given) for start in Start.seen)
    assert torch.equal(backbone.weight, given)


@every_way_and_method(FRESH)
def test_the_weights_that_come_out_do_not_depend_on_the_rows_to_forget(table, method, way):
    """With ``forget`` in ``fit`` a method that draws its start anew must not have seen the rows."""
    if not method._needs_trained_net or method is SISAUnlearner:
        unlearner = method(given_net(way)[0], random_state=0).fit(table.X, table.y, table.a)
        X = table.X.copy()
        X[FORGET] = 1e3
        other = method(given_net(way)[0], random_state=0).fit(X, table.y, table.a)
        nets = [u.unlearn(FORGET).net_.module_.state_dict() for u in (unlearner, other)]
        assert all(map(torch.equal, *(state.values() for state in nets)))
    new = fresh_net(
        method(given_net(way)[0]).fit(table.X, table.y, table.a).net_, weights_from=None
    )
    module = getattr(new.module_, "members", [new.module_])[0]
    assert torch.equal(module.backbone.weight, given_net(way)[2])


@ways
def test_each_shard_has_a_net_of_its_own(table, way):
    unlearner = SISAUnlearner(given_net(way)[0], n_shards=2, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    one, other = (member.backbone.weight for member in unlearner.net_.module_.members)
    assert not torch.equal(one, other)


def test_criterion_and_backbone_are_as_given_where_they_are_one(table):
    backbone, criterion = nn.Linear(4, 8), Learned()
    criterion.backbone = backbone
    net = make_net(Headed, module__backbone=backbone, criterion=criterion)
    unlearner = RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
    for trained in (unlearner.net_, unlearner.unlearn(FORGET).net_):
        assert trained.criterion_.backbone is trained.module_.backbone
        assert not torch.equal(trained.criterion_.scale, torch.ones(2))
    assert torch.equal(criterion.scale, torch.ones(2))
    new = fresh_net(unlearner.net_, weights_from=None)
    assert torch.equal(new.criterion_.scale, torch.ones(2))
    assert torch.equal(new.module_.backbone.weight, backbone.weight)


def test_no_more_is_known_of_forgotten_rows_than_of_others():
    """With coin-flip labels, what a net says of rows that it never saw is a coin flip."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 4)).astype("f4"), rng.integers(2, size=400)
    body = nn.Sequential(nn.Linear(4, 256), nn.ReLU(), nn.Linear(256, 8))
    net = make_net(
        Headed, module__backbone=body, max_epochs=60, optimizer=torch.optim.Adam, lr=0.01
    )
    unlearner = RetrainUnlearner(net, reweight=False, random_state=0).fit(X, y)
    known = unlearner.score(X[:100], y[:100])
    unlearner.net_.max_epochs = 3
    assert known > 0.65 and abs(unlearner.unlearn(range(100)).score(X[:100], y[:100]) - 0.5) < 0.12


# nets that were trained before --------------------------------------------------------------------


def trained_net(way, table):
    return given_net(way)[0].fit(table.X, table.y.astype(np.int64))


@pytest.mark.parametrize("way", ["keyword", "list", "tensor", "partial", "instance"])
@pytest.mark.parametrize("wrap", [FrozenEstimator, lambda net: net])
def test_trained_on_what_it_was_given(table, way, wrap):
    """What was given is gone: a method that goes on does so, and nothing original stays."""
    net = pickle.loads(pickle.dumps(trained_net(way, table)))
    original = net.module_.backbone.weight.detach().numpy().copy()
    for method in FRESH:
        if method is SISAUnlearner and wrap is FrozenEstimator:
            continue
        with pytest.raises(ValueError, match="as they were given are needed, and they are gone"):
            method(wrap(net)).fit(table.X, table.y, table.a)
    unlearner = FineTuneUnlearner(wrap(net), random_state=0).fit(table.X, table.y, table.a)
    assert holds(unlearner, [original]) != [None]
    before = unlearner.net_.module_.backbone.weight.detach().numpy().copy()
    with pytest.raises(ValueError, match="as they were given are needed, and they are gone"):
        AcceptanceGate().enforce(unlearner, FORGET, "retrain", X=table.X, y=table.y, groups=table.a)
    unlearner = pickle.loads(pickle.dumps(unlearner))
    assert holds(unlearner.unlearn(FORGET), [original, before]) == [None, None]
    assert holds(unlearner.unlearn([70]), [original, before]) == [None, None]
    assert np.array_equal(net.module_.backbone.weight.detach(), original)


def test_trained_on_what_a_function_remembers(table):
    net = trained_net("function", table)
    with pytest.raises(ValueError, match=r"copy\.deepcopy\(backbone\)"):
        NoOpUnlearner(FrozenEstimator(net)).fit(table.X, table.y, table.a)


def test_function_that_copies_is_built_anew(table):
    backbone = nn.Linear(4, 8)
    given = backbone.weight.detach().clone()
    net = make_net(lambda: Headed(copy.deepcopy(backbone)), callbacks=[Start])
    net.fit(table.X, table.y.astype(np.int64))
    unlearner = RetrainUnlearner(FrozenEstimator(net)).fit(table.X, table.y, table.a)
    Start.seen.clear()
    unlearner.unlearn(FORGET)
    assert torch.equal(Start.seen[0], given)


@pytest.mark.parametrize("way", ["list", "function", "instance"])
def test_gate_retrains_from_what_was_given(table, way):
    net, _, given = given_net(way)
    unlearner = FineTuneUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
    Start.seen.clear()
    gate = AcceptanceGate()
    test = {"X": table.X, "y": table.y, "groups": table.a, "n_bootstrap": 2}
    result = gate.enforce(unlearner, FORGET, "retrain", **test)
    assert result.action == "retrained" and torch.equal(Start.seen[-1], given)


# callbacks and criteria ---------------------------------------------------------------------------


class Collects(Callback):
    """Fills a list that is a parameter, as one that has a default of None does."""

    def __init__(self, seen=None):
        self.seen = seen or []

    def on_batch_end(self, net, batch=None, **kwargs):
        self.seen.append(batch[0].numpy().copy())


class Counts(Callback):
    """Has an attribute that is no parameter."""

    def initialize(self):
        self.n = 0
        return self

    def on_train_begin(self, net, **kwargs):
        self.net = net


@pytest.mark.parametrize("method", [RetrainUnlearner, FineTuneUnlearner])
@pytest.mark.parametrize("callback", [Collects(), Collects, Counts(), Counts, ("c", Counts())])
def test_callbacks_start_as_given_and_keep_nothing(table, method, callback):
    net = make_net(callbacks=[callback])
    unlearner = method(net, random_state=0).fit(table.X, table.y, table.a)
    weights = unlearner.net_.module_.features[1].weight.detach().numpy().copy()
    unlearner.unlearn(FORGET)
    assert holds(unlearner, [*table.X[FORGET], weights]) == [None] * 4
    held = dict(unlearner.net_.callbacks_).get("c")
    assert not getattr(held, "seen", None)


def test_callbacks_of_a_net_that_was_trained(table):
    net = make_net(callbacks=[Counts(), Counts]).fit(table.X, table.y.astype(np.int64))
    for wrap in (FrozenEstimator, lambda net: net):
        unlearner = FineTuneUnlearner(wrap(net)).fit(table.X, table.y, table.a).unlearn(FORGET)
        pickle.dumps(unlearner)


@pytest.mark.parametrize("criterion", [Learned, Learned()])
@pytest.mark.parametrize("method", [BadTeacherUnlearner, EUkUnlearner, FineTuneUnlearner])
def test_criterion_that_learned_is_not_left_as_it_was(table, method, criterion):
    net = make_net(criterion=criterion, max_epochs=3)
    unlearner = method(net, random_state=0).fit(table.X, table.y, table.a)
    learned = unlearner.net_.criterion_.scale.detach().clone()
    assert not torch.equal(learned, torch.ones(2))
    assert not torch.equal(unlearner.unlearn(FORGET).net_.criterion_.scale, learned)
