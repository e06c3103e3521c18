"""Whole runs on softmax regression against gradient descent by hand, one function a method.

Batches are full and SGD is plain, so that every pass of a method is one step that is known.
"""

import copy

import numpy as np
import pytest
from conftest import fitted, make_table
from softmax_regression import Part, SoftmaxRegression, linear_net, losses_of

from grmu_sk.unlearners import all_unlearners, bad_teacher, boundary, random_label

FORGET = [40, 41, 50, 60, 61]
METHODS = dict(all_unlearners())
EPOCHS = 4


class ByHand(SoftmaxRegression):
    """One run: the model that moves, the original, and the rows."""

    def __init__(self, unlearner, table, weight, params):
        super().__init__(unlearner.net_)
        self.original = copy.copy(self)
        self.table, self.params = table, params
        self.rest = Part.of(table, np.delete(np.arange(table.n), FORGET), weight)
        self.gone = Part.of(table, FORGET, weight)
        self.all = Part.of(table, np.arange(table.n))

    def gradient_of_distance(self, part):
        """Of KL(original || this) at a temperature, times its square; not weighted."""
        T, plain = self.params["temperature"], Part(part.X, part.y, np.ones(len(part.y)))
        targets = np.exp(self.original.log_probabilities(part.X, T))
        return T**2 * self.gradient(plain, targets, T)


def fine_tune(run, epoch):
    loss = run.loss(run.rest)
    run.descend(run.gradient(run.rest))
    return "retain", loss


def gradient_ascent(run, epoch):
    loss, bound = run.loss(run.gone), run.params.get("max_loss", np.inf)
    if loss <= bound:  # without momentum a bound ends the climb
        run.descend(-run.gradient(run.gone))
    return "forget", -min(loss, bound)


def neg_grad_plus(run, epoch):
    alpha = run.params["alpha"]
    loss = alpha * run.loss(run.rest) - (1 - alpha) * run.loss(run.gone)
    run.descend(alpha * run.gradient(run.rest) - (1 - alpha) * run.gradient(run.gone))
    return "forget_retain", loss


def l1_sparse(run, epoch):
    gamma = run.params["l1_penalty"] * (1 - (epoch - 1) / EPOCHS)
    loss = run.loss(run.rest) + gamma * np.abs(run.theta).sum()
    run.descend(run.gradient(run.rest) + gamma * np.sign(run.theta))
    return "retain", loss


def random_labels(run, epoch):
    rows, labels = run.drawn[epoch - 1]
    visited = Part.of(run.table, rows, run.weight)
    loss = run.loss(visited, np.eye(3)[labels])
    run.descend(run.gradient(visited, np.eye(3)[labels]))
    run.descend(run.gradient(run.rest))
    return "forget", loss


def scrub(run, epoch):
    if epoch <= run.params["forget_epochs"]:
        run.descend(-run.gradient_of_distance(run.gone))
    alpha, gamma = run.params["alpha"], run.params["gamma"]
    run.descend(alpha * run.gradient_of_distance(run.rest) + gamma * run.gradient(run.rest))


def bad_teaching(run, epoch):
    T, bad = run.params["temperature"], SoftmaxRegression(run.untrained)
    is_gone = np.isin(np.arange(run.table.n), FORGET)[:, None]
    teachers = (model.log_probabilities(run.all.X, T) for model in (bad, run.original))
    run.descend(run.gradient(run.all, np.exp(np.where(is_gone, *teachers)), T))


def wrong_class(model, part, epsilon, low, high):
    """The most probable class but the true one, after a step against the true one."""
    truth = model.targets(part)
    gradient = (np.exp(model.log_probabilities(part.X)) - truth) @ model.theta
    moved = (part.X + epsilon * np.sign(gradient)).clip(low, high)
    moved[:, -1] = 1  # of the bias
    return np.where(truth, -np.inf, moved @ model.theta.T).argmax(axis=1)


def boundary_shrink(run, epoch):
    X = run.table.X
    labels = wrong_class(run.original, run.gone, run.params["epsilon"], X.min(), X.max())
    plain = Part(run.gone.X, labels, np.ones(len(labels)))
    loss = run.loss(plain)
    run.descend(run.gradient(plain))
    return "forget", loss


def boundary_expand(run, epoch):
    if epoch == 1:
        run.theta = np.r_[run.theta, run.unit]
    shadow = Part(run.gone.X, np.full(len(FORGET), len(run.theta) - 1), np.ones(len(FORGET)))
    loss = run.loss(shadow)
    run.descend(run.gradient(shadow))
    if epoch == EPOCHS:
        run.theta = run.theta[:-1]
    return "forget", loss


@pytest.fixture
def drawn(spy, row_spy):
    """What methods draw: labels of rows, the untrained net, the extra unit."""
    found = {"drawn": [], "untrained": None, "unit": None}

    def note_labels(labels, *args, **kwargs):
        found["drawn"].append((row_spy.seen[-1][1], labels.numpy().copy()))

    def note_net(new, net, **kwargs):
        found["untrained"] = new if kwargs else found["untrained"]

    def note_unit(_, optimizer, unit, layer):
        found["unit"] = np.c_[unit.weight.detach().numpy(), unit.bias.detach().numpy()]

    spy(random_label, "draw_labels", note_labels)
    spy(bad_teacher, "fresh_net", note_net)
    spy(boundary, "_train_with_same_options", note_unit)
    return found


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("epoch_by_hand", "name", "params"),
    [
        (fine_tune, "fine_tune", {}),
        (gradient_ascent, "gradient_ascent", {}),
        (gradient_ascent, "gradient_ascent", {"max_loss": 1.0}),
        (neg_grad_plus, "neg_grad_plus", {"alpha": 0.7}),
        (neg_grad_plus, "neg_grad_plus", {"alpha": 0.0}),
        (l1_sparse, "l1_sparse", {"l1_penalty": 0.2}),
        (random_labels, "random_label", {}),
        (
            scrub,
            "scrub",
            {"forget_epochs": 2, "alpha": 0.5, "gamma": 0.2, "temperature": 1.0},
        ),
        (
            scrub,
            "scrub",
            {"forget_epochs": 3, "alpha": 0.1, "gamma": 0.9, "temperature": 4.0},
        ),
        (bad_teaching, "bad_teacher", {"retain_share": 1.0, "temperature": 1.0}),
        (bad_teaching, "bad_teacher", {"retain_share": 1.0, "temperature": 3.0}),
        (boundary_shrink, "boundary_shrink", {"epsilon": 1.0}),
        (boundary_expand, "boundary_expand", {}),
    ],
)
def test_run_against_steps_by_hand(epoch_by_hand, name, params, weighted, drawn):
    table = make_table(n_classes=3)
    weight = np.random.default_rng(0).random(table.n) + 0.1 if weighted else None
    net = linear_net(module__n_classes=3, max_epochs=30)
    full = {"retain_batch_size": None} if name == "scrub" else {}
    unlearner = fitted(
        METHODS[name], table, net, sample_weight=weight, max_epochs=EPOCHS, **full, **params
    )
    run = ByHand(unlearner, table, weight, params)
    unlearner.unlearn(FORGET)
    vars(run).update(drawn, weight=weight)
    told = [epoch_by_hand(run, epoch) for epoch in range(1, EPOCHS + 1)]
    run.assert_is(unlearner.net_)
    assert not np.allclose(run.theta, run.original.theta, atol=1e-4), "the run must have moved"
    if told[0] is not None:
        phase, losses = told[0][0], [loss for _, loss in told]
        np.testing.assert_allclose(losses_of(unlearner, phase), losses, rtol=1e-4)
