import numpy as np
import pytest
import torch
from conftest import make_net, make_table, same_weights, weights_of
from scipy.special import softmax
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import LRScheduler
from torch import nn
from torch.utils.data import Dataset

from grmu_sk import BoundaryExpandUnlearner, BoundaryShrinkUnlearner
from grmu_sk.nets import MLP
from grmu_sk.unlearners import boundary
from grmu_sk.unlearners.boundary import nearest_wrong_class

FORGET = [40, 41, 50, 60, 61]
SHORT = {"max_epochs": 3, "random_state": 0}
both = pytest.mark.parametrize("method", [BoundaryShrinkUnlearner, BoundaryExpandUnlearner])


def linear_net(n_classes, **kwargs):
    """Softmax regression and plain gradient descent: gradients are known in closed form."""
    sizes = {"module__n_features": 4, "module__hidden": (), "module__n_classes": n_classes}
    return make_net(MLP, **{**sizes, "optimizer__momentum": 0.0, "max_epochs": 10, **kwargs})


def binary_net(**kwargs):
    sizes = {"module__n_features": 4, "module__hidden": (), "module__n_classes": 1}
    defaults = {"lr": 0.5, "max_epochs": 10, "train_split": None, "verbose": 0}
    return NeuralNetBinaryClassifier(MLP, **{**sizes, **defaults, **kwargs})


def run(method, table, net=None, **kwargs):
    unlearner = method(make_net() if net is None else net, **{**SHORT, **kwargs})
    return unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)


def descend(W, b, X, labels, lr, steps):
    """Gradient descent on the cross-entropy of softmax regression."""
    for _ in range(steps):
        gradient = softmax(X @ W.T + b, axis=1) - np.eye(len(W))[labels]
        W, b = W - lr * gradient.T @ X / len(X), b - lr * gradient.mean(axis=0)
    return W, b


# --- both ---------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("switches", "phases"),
    [
        ({}, {"forget": 3}),
        ({"retaining": True}, {"forget": 3, "retain": 3}),
        ({"reweight": True}, {"forget": 3, "retain": 3}),
        ({"retaining": True, "reweight": True}, {"forget": 3, "retain": 3}),
    ],
)
def test_phases(method, table, row_spy, switches, phases):
    unlearner = run(method, table, **switches)
    names = [row["phase"] for row in unlearner.history_ if row["phase"] != "fit"]
    assert {name: names.count(name) for name in names} == phases
    assert unlearner._needs_groups == ("reweight" in switches)
    if "retain" in phases:
        rows = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retain"])
        assert len(rows) == 3 * (table.n - len(FORGET))
        everything = set(range(table.n)) - set(FORGET)
        assert (set(rows[: len(rows) // 3]) == everything) == ("reweight" not in switches)


class Tokens(nn.Module):
    """Embeds integers."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, X):
        return self.head(self.embedding(X.long()).mean(dim=1))


class Dicts(Dataset):
    """Inputs of several parts."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return {"X": torch.as_tensor(self.X[i])}


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("integers", "reads torch.int64 numbers"),
        ("rounded", "differentiable in; here it reads torch.float32"),
        ("dict", "reads a dict"),
    ],
)
def test_inputs_that_cannot_be_moved(table, kind, match):
    tokens = np.abs(table.X).astype(np.int64).clip(max=9)
    X = {"integers": tokens, "rounded": tokens.astype(np.float32), "dict": Dicts(tokens)}[kind]
    net = make_net(Tokens)
    with pytest.raises(ValueError, match=match):
        BoundaryShrinkUnlearner(net, **SHORT).fit(X, table.y, table.a)
    unlearner = BoundaryExpandUnlearner(net, **SHORT).fit(X, table.y, table.a)
    before = weights_of(unlearner)
    unlearner.unlearn(FORGET)
    assert not any(map(np.array_equal, before, weights_of(unlearner)))


# --- shrink -------------------------------------------------------------------------------------


def wrong_class_by_hand(W, b, X, y, epsilon, low=-np.inf, high=np.inf):
    truth = np.eye(len(W))[y]
    gradient = (softmax(X @ W.T + b, axis=1) - truth) @ W
    moved = (X + epsilon * np.sign(gradient)).clip(low, high)
    return np.where(truth, -np.inf, moved @ W.T + b).argmax(axis=1)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (-0.5, 0.5)])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 5.0])
def test_nearest_wrong_class_against_numpy(epsilon, bounds):
    table = make_table(300, n_classes=7)
    unlearner = BoundaryShrinkUnlearner(linear_net(7), **SHORT).fit(table.X, table.y, table.a)
    W, b = weights_of(unlearner)
    found = nearest_wrong_class(
        unlearner.net_, torch.from_numpy(table.X), torch.from_numpy(table.y), epsilon, bounds
    ).numpy()
    np.testing.assert_array_equal(
        found, wrong_class_by_hand(W, b, table.X, table.y, epsilon, *bounds)
    )
    assert not (found == table.y).any()
    elsewhere = wrong_class_by_hand(W, b, table.X, table.y, 0.0 if epsilon else 5.0)
    assert (found != elsewhere).any() or epsilon == 0.1, "the size of the step must matter"


def test_shrink_weights_against_numpy():
    table = make_table(300, n_classes=7)
    unlearner = BoundaryShrinkUnlearner(linear_net(7), **SHORT, lr=0.1, batch_size=1000, epsilon=1)
    unlearner.fit(table.X, table.y, table.a)
    start = weights_of(unlearner)
    X, y = table.X[FORGET], table.y[FORGET]
    labels = wrong_class_by_hand(*start, X, y, 1.0, table.X.min(), table.X.max())
    expected = descend(*start, X, labels, lr=0.1, steps=3)
    unlearner.unlearn(FORGET)
    for actual, by_hand, before in zip(weights_of(unlearner), expected, start, strict=True):
        assert not np.allclose(by_hand, before, atol=1e-4), "the run must have moved"
        np.testing.assert_allclose(actual, by_hand, rtol=1e-4, atol=1e-6)


@pytest.fixture
def searches(monkeypatch):
    """Arguments of every search for the nearest wrong class."""
    seen = []

    def spy(net, X, y, epsilon, input_range):
        seen.append((epsilon, input_range))
        return nearest_wrong_class(net, X, y, epsilon, input_range)

    monkeypatch.setattr(boundary, "nearest_wrong_class", spy)
    return seen


def test_range_is_that_of_the_rows_that_are_there(searches):
    table = make_table()
    table.X[70], table.X[71], table.X[72] = 50, -60, 20
    unlearner = BoundaryShrinkUnlearner(linear_net(2), **SHORT, epsilon=0.3, keep_forgotten=True)
    unlearner.fit(table.X, table.y, table.a).unlearn([71]).unlearn([70]).unlearn([40])
    rest = np.delete(table.X, [70, 71], axis=0)
    assert searches == [(0.3, (-60, 50)), (0.3, (rest.min(), 50)), (0.3, (rest.min(), 20))]


def test_range_that_is_given(table, searches, monkeypatch):
    monkeypatch.setattr(boundary, "_range_of_inputs", None)  # no pass over all rows is needed
    run(BoundaryShrinkUnlearner, table, input_range=(-1, 1.5))
    assert searches == [(0.1, (-1, 1.5))]


def test_labels_are_found_once_or_for_each_batch(table, searches, monkeypatch):
    once = run(BoundaryShrinkUnlearner, table)
    assert len(searches) == 1
    monkeypatch.setattr("grmu_sk.rows.TrainingRows.is_augmented", True)
    again = run(BoundaryShrinkUnlearner, table)
    assert len(searches) == 1 + 3
    assert same_weights(once, again)


def test_search_leaves_no_trace_in_the_original(image_net):
    table = make_table(n_rows=96, images=True)
    unlearner = BoundaryShrinkUnlearner(image_net, **SHORT).fit(table.X, table.y, table.a)
    before = weights_of(unlearner)
    X, y = torch.from_numpy(table.X), torch.from_numpy(table.y)
    nearest_wrong_class(unlearner.net_, X, y, 0.1, (-9, 9))
    assert all(map(np.array_equal, before, weights_of(unlearner)))
    assert all(p.grad is None for p in unlearner.net_.module_.parameters())
    assert not X.requires_grad


# --- expand -------------------------------------------------------------------------------------


@pytest.fixture
def units(monkeypatch):
    """The extra units with their first weights, and the net each belongs to."""
    made = []
    original = boundary._ExtraClass.__init__

    def spy(self, request):
        original(self, request)
        first = [p.detach().numpy().copy() for p in self.unit.parameters()]
        made.append((self.unit, first, request.net))

    monkeypatch.setattr(boundary._ExtraClass, "__init__", spy)
    return made


@pytest.mark.parametrize("n_classes", [2, 7])
def test_expand_weights_against_numpy(units, n_classes):
    table = make_table(300, n_classes)
    net = linear_net(n_classes)
    unlearner = BoundaryExpandUnlearner(net, **SHORT, lr=0.1, batch_size=1000)
    unlearner.fit(table.X, table.y, table.a)
    W, b = start = weights_of(unlearner)
    unlearner.unlearn(FORGET)
    unit, (w_extra, b_extra), _ = units[0]
    shadow = np.full(len(FORGET), n_classes)
    W, b = descend(np.r_[W, w_extra], np.r_[b, b_extra], table.X[FORGET], shadow, 0.1, 3)
    extra = [p.detach().numpy() for p in unit.parameters()]
    actual = [np.r_[w, v] for w, v in zip(weights_of(unlearner), extra, strict=True)]
    assert not np.allclose(W[:-1], start[0], atol=1e-4), "the run must have moved"
    np.testing.assert_allclose(actual[0], W, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual[1], b, rtol=1e-4, atol=1e-6)


def test_single_logit_is_two_outputs_of_which_one_is_zero(table, units):
    unlearner = BoundaryExpandUnlearner(binary_net(), **SHORT, lr=0.1, batch_size=1000)
    unlearner.fit(table.X, table.y, table.a)
    W, b = weights_of(unlearner)
    unlearner.unlearn(FORGET)
    _, (w_extra, b_extra), _ = units[0]
    X, shadow = table.X[FORGET], np.full(len(FORGET), 2)
    W, b = np.r_[0 * W, W, w_extra], np.r_[0, b, b_extra]
    for _ in range(3):
        W, b = descend(W, b, X, shadow, 0.1, 1)
        W[0], b[0] = 0, 0
    actual = weights_of(unlearner)
    np.testing.assert_allclose(actual[0], W[1:2], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(actual[1], b[1:2], rtol=1e-4, atol=1e-6)


def test_extra_unit_is_dropped(table):
    unlearner = run(BoundaryExpandUnlearner, table, lr=1.0)
    assert unlearner.net_.module_.head.weight.shape == (2, 16)
    assert unlearner.predict_proba(table.X).shape == (table.n, 2)
    assert set(unlearner.predict(table.X)) <= {0, 1}
    assert sum(len(group["params"]) for group in unlearner.net_.optimizer_.param_groups) == 4
    head = unlearner.net_.module_.head
    assert not head._forward_pre_hooks
    assert not head._forward_hooks


def test_unit_is_trained_like_the_layer_it_extends(table, units):
    net = make_net(optimizer__param_groups=[("head*", {"lr": 0.0})])
    unlearner = run(BoundaryExpandUnlearner, table, net)
    unit, first, trained = units[0]
    assert all(
        np.array_equal(p.detach().numpy(), w) for p, w in zip(unit.parameters(), first, strict=True)
    )
    assert len(trained.optimizer_.param_groups) == 2
    run(BoundaryExpandUnlearner, table)
    unit, first, _ = units[1]
    assert not np.array_equal(unit.weight.detach().numpy(), first[0])
    assert unlearner.history_[-1, "phase"] == "forget"


def test_schedule_with_a_value_for_each_group(table):
    schedule = LRScheduler("LambdaLR", lr_lambda=[lambda epoch: 0.9**epoch])
    run(BoundaryExpandUnlearner, table, make_net(callbacks=[("schedule", schedule)]))


class Scaled(MLP):
    """Divides its logits, so that its probabilities are not the softmax of the last layer."""

    def forward(self, X):
        return super().forward(X) / 3


class NoLinear(nn.Module):
    """Ends with a convolution."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv1d(4, 2, 1)

    def forward(self, X):
        return self.head(X[:, :, None])[:, :, 0]


@pytest.mark.parametrize(
    "net",
    [make_net(Scaled, module__n_features=4), make_net(NoLinear)],
    ids=["scaled", "no linear layer"],
)
def test_net_without_a_layer_to_extend(table, net):
    with pytest.raises(ValueError, match=r"softmax of what that layer returns .* are not"):
        BoundaryExpandUnlearner(net, **SHORT).fit(table.X, table.y, table.a)
    run(BoundaryShrinkUnlearner, table, net)
