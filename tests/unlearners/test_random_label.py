"""The steps themselves are in test_closed_forms."""

import numpy as np
import pytest
import torch
from conftest import fitted, make_net
from skorch import NeuralNetBinaryClassifier
from softmax_regression import losses_of
from torch import nn

from grmu_sk import RandomLabelUnlearner
from grmu_sk.rows import TrainingRows
from grmu_sk.unlearners import random_label
from grmu_sk.unlearners.random_label import cross_entropy, draw_labels

FORGET = list(range(30, 60))


@pytest.mark.parametrize("exclude_true", [False, True])
def test_labels_are_drawn_anew_at_every_visit(exclude_true, table, row_spy, spy):
    def note(labels, y, *args, **kwargs):
        order = np.argsort(row_spy.seen[-1][1])
        return y.numpy()[order], labels.numpy()[order]

    visits = spy(random_label, "draw_labels", note)
    fitted(RandomLabelUnlearner, table, exclude_true=exclude_true).unlearn(FORGET)
    true, labels = map(np.array, zip(*visits, strict=True))
    assert (true == table.y[FORGET]).all() and labels.shape == (10, len(FORGET))
    if exclude_true:  # with two classes only the opposite is left
        np.testing.assert_array_equal(labels, 1 - true)
    else:
        assert 0.35 < (labels == true).mean() < 0.65
        assert len({tuple(row) for row in labels}) == 10


@pytest.mark.parametrize(("n_classes", "exclude_true"), [(2, False), (7, False), (7, True)])
def test_draws_are_uniform(n_classes, exclude_true):
    torch.manual_seed(0)
    n = 20_000
    labels = draw_labels(torch.full((n,), 1), n_classes, exclude_true=exclude_true)
    assert labels.dtype == torch.int64
    share = np.bincount(labels.numpy(), minlength=n_classes) / n
    allowed = np.arange(n_classes) != 1 if exclude_true else np.ones(n_classes, dtype=bool)
    np.testing.assert_allclose(share, allowed / allowed.sum(), atol=4 * np.sqrt(0.25 / n))
    assert (share[1] == 0) == exclude_true


def binary_net():
    sizes = {"module__in_features": 4, "module__out_features": 1}
    return NeuralNetBinaryClassifier(nn.Linear, **sizes, max_epochs=2, train_split=None, verbose=0)


def probability_net():
    return make_net(lambda: nn.Sequential(nn.Linear(4, 2), nn.Softmax(dim=1)), criterion=nn.NLLLoss)


@pytest.mark.parametrize("build", [make_net, binary_net, probability_net])
def test_cross_entropy_whatever_the_net_returns(build, table):
    """Against the probabilities the unlearner itself reports; in float32 at least."""
    unlearner = fitted(RandomLabelUnlearner, table, build())
    net = unlearner.net_
    labels = np.random.default_rng(0).integers(2, size=table.n)
    weight = np.random.default_rng(1).random(table.n).astype(np.float32)
    losses = -np.log(unlearner.predict_proba(table.X)[np.arange(table.n), labels])
    g, everything = torch.zeros(table.n, dtype=torch.int64), torch.arange(table.n)
    output = net.evaluation_step((torch.as_tensor(table.X), None))
    for weights in (None, weight):
        given = None if weights is None else torch.as_tensor(weights)
        data = TrainingRows(table.X, g, g, np.arange(table.n), given)
        value = cross_entropy(net, data, output, torch.as_tensor(labels), everything)
        assert value.item() == pytest.approx(np.average(losses, weights=weights), rel=1e-4)
    half = cross_entropy(net, data, output.bfloat16(), torch.as_tensor(labels), everything)
    assert half.dtype == torch.float32


def test_class_weights_of_the_criterion_are_for_true_labels(table):
    """They weigh the retain phase only; a random label has no class to make up for."""
    nets = make_net(criterion__weight=torch.tensor([1.0, 9.0]), lr=1e-9), make_net(lr=1e-9)
    params = {"max_epochs": 1, "batch_size": -1}
    runs = [fitted(RandomLabelUnlearner, table, net, **params).unlearn(FORGET) for net in nets]
    for phase, same in (("forget", True), ("retain", False)):
        one, other = (losses_of(unlearner, phase) for unlearner in runs)
        assert np.allclose(one, other, rtol=1e-6) == same
