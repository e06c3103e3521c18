import numpy as np
import pytest
import torch
from conftest import make_net, make_table
from skorch import NeuralNetBinaryClassifier
from softmax_regression import SoftmaxRegression, linear_net, losses_of
from torch import nn

from grmu_sk import RandomLabelUnlearner
from grmu_sk.rows import TrainingRows
from grmu_sk.unlearners import random_label
from grmu_sk.unlearners.random_label import cross_entropy, draw_labels

FORGET = list(range(30, 60))


@pytest.fixture
def drawn(monkeypatch):
    """The labels drawn, visit by visit."""
    visits = []
    original = random_label.draw_labels

    def draw(y, n_classes, **kwargs):
        labels = original(y, n_classes, **kwargs)
        visits.append((y.numpy().copy(), labels.numpy().copy()))
        return labels

    monkeypatch.setattr(random_label, "draw_labels", draw)
    return visits


@pytest.mark.parametrize("weighted", [False, True])
def test_two_steps_an_epoch_by_hand(drawn, row_spy, weighted):
    table = make_table(n_classes=3)
    weight = np.random.default_rng(0).random(table.n) + 0.1 if weighted else np.ones(table.n)
    unlearner = RandomLabelUnlearner(
        linear_net(module__n_classes=3), max_epochs=3, random_state=0
    ).fit(table.X, table.y, table.a, sample_weight=weight if weighted else None)
    by_hand = SoftmaxRegression(unlearner)
    row_spy.clear()
    unlearner.unlearn(FORGET)
    rest = np.setdiff1d(np.arange(table.n), FORGET)
    visited = [rows for phase, rows in row_spy.seen if phase == "forget"]
    losses = []
    for (y, labels), rows in zip(drawn, visited, strict=True):
        np.testing.assert_array_equal(y, table.y[rows])
        losses.append(by_hand.loss(table.X[rows], labels, weight[rows]))
        by_hand.step(0.1, by_hand.gradient(table.X[rows], labels, weight[rows]))
        by_hand.step(0.1, by_hand.gradient(table.X[rest], table.y[rest], weight[rest]))
    by_hand.assert_is(unlearner)
    assert len(losses) == 3
    np.testing.assert_allclose(losses_of(unlearner, "forget"), losses, rtol=1e-4)


def test_labels_are_drawn_anew_at_every_visit(drawn, row_spy, table):
    unlearner = RandomLabelUnlearner(make_net(), max_epochs=3, batch_size=-1, random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
    visited = [rows for phase, rows in row_spy.seen if phase == "forget"]
    by_row = [labels[np.argsort(rows)] for (_, labels), rows in zip(drawn, visited, strict=True)]
    assert len(by_row) == 3
    assert not np.array_equal(by_row[0], by_row[1])
    assert not np.array_equal(by_row[1], by_row[2])


@pytest.mark.parametrize("n_classes", [2, 7])
@pytest.mark.parametrize("exclude_true", [False, True])
def test_draws_are_uniform(n_classes, exclude_true):
    torch.manual_seed(0)
    n = 20_000
    labels = draw_labels(torch.full((n,), 1), n_classes, exclude_true=exclude_true)
    assert labels.dtype == torch.int64
    share = np.bincount(labels.numpy(), minlength=n_classes) / n
    allowed = np.arange(n_classes) != 1 if exclude_true else np.ones(n_classes, dtype=bool)
    np.testing.assert_allclose(share, allowed / allowed.sum(), atol=4 * np.sqrt(0.25 / n))
    assert (share[1] == 0) == exclude_true


def test_excluding_the_true_label_of_each_row(drawn, table):
    """With two classes only the opposite is left."""
    for exclude_true in (True, False):
        drawn.clear()
        unlearner = RandomLabelUnlearner(make_net(), exclude_true=exclude_true, random_state=0)
        unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
        true, labels = (np.concatenate(part) for part in zip(*drawn, strict=True))
        assert len(labels) == 10 * len(FORGET)
        if exclude_true:
            np.testing.assert_array_equal(labels, 1 - true)
        else:
            assert 0.35 < (labels == true).mean() < 0.65


def binary_net():
    return NeuralNetBinaryClassifier(
        nn.Linear,
        module__in_features=4,
        module__out_features=1,
        max_epochs=2,
        train_split=None,
        verbose=0,
    )


def probability_net():
    return make_net(lambda: nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=1)), criterion=nn.NLLLoss)


@pytest.mark.parametrize("build", [make_net, binary_net, probability_net])
def test_cross_entropy_whatever_the_net_returns(build, table):
    """Against the probabilities the unlearner itself reports."""
    unlearner = RandomLabelUnlearner(build(), max_epochs=2, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    net = unlearner.net_
    labels = np.random.default_rng(0).integers(2, size=table.n)
    weight = np.random.default_rng(1).random(table.n).astype(np.float32)
    expected = -np.log(unlearner.predict_proba(table.X)[np.arange(table.n), labels])
    g = torch.zeros(table.n, dtype=torch.int64)
    for sample_weight, mean in (
        (None, expected.mean()),
        (torch.as_tensor(weight), np.average(expected, weights=weight)),
    ):
        data = TrainingRows(table.X, g, g, np.arange(table.n), sample_weight)
        output = net.evaluation_step((torch.as_tensor(table.X), None))
        value = cross_entropy(net, data, output, torch.as_tensor(labels), torch.arange(table.n))
        assert value.item() == pytest.approx(mean, rel=1e-4)
    unlearner.unlearn(FORGET)
    assert np.isfinite(losses_of(unlearner, "forget")).all()


def test_cross_entropy_of_bfloat16_is_float32(table):
    net = make_net().initialize()
    g = torch.zeros(3, dtype=torch.int64)
    data = TrainingRows(table.X[:3], g, g, np.arange(3))
    output = torch.randn(3, 2, dtype=torch.bfloat16)
    assert cross_entropy(net, data, output, g, torch.arange(3)).dtype == torch.float32


def test_class_weights_of_the_criterion_are_for_true_labels(table):
    """They weigh the retain phase only; a random label has no class to make up for."""
    net = make_net(criterion__weight=torch.tensor([1.0, 9.0]), lr=1e-9)
    unlearner = RandomLabelUnlearner(net, max_epochs=1, batch_size=-1, random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
    plain = RandomLabelUnlearner(make_net(lr=1e-9), max_epochs=1, batch_size=-1, random_state=0)
    plain.fit(table.X, table.y, table.a).unlearn(FORGET)
    for phase, same in (("forget", True), ("retain", False)):
        one, other = losses_of(unlearner, phase), losses_of(plain, phase)
        assert np.allclose(one, other, rtol=1e-6) == same
