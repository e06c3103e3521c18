import numpy as np
import pytest
import torch
from conftest import make_net
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import (
    Callback,
)
from skorch.dataset import ValidSplit
from torch import nn

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.nets import MLP
from grmu_sk.rows import InputRows, TrainingRows
from grmu_sk.training import Phase, forward, fresh_net, train

SHORT = {"max_epochs": 3, "forget_epochs": 2, "tune_updates": (4, 2), "random_state": 0}
FORGET = [40, 41, 50]


def training_rows(table):
    g = torch.as_tensor(table.a + 2 * table.y)
    return TrainingRows(table.X, torch.as_tensor(table.y), g, np.arange(table.n))


def initialized(**kwargs):
    torch.manual_seed(0)
    return make_net(**kwargs).initialize()


@pytest.mark.parametrize("batch_size", [7, 32, 160])
def test_loop_equals_a_hand_written_one(table, batch_size):
    """To the last bit, whether batches are fetched one at a time or many at once."""
    net, data = initialized(batch_size=batch_size), training_rows(table)
    torch.manual_seed(7)
    train(net, data, [Phase("fit", data.rows)], epochs=3)

    torch.manual_seed(0)
    module = MLP(4, hidden=(16,))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    X, y = torch.as_tensor(table.X), torch.as_tensor(table.y)
    torch.manual_seed(7)
    losses = []
    for _ in range(3):
        order = torch.randperm(table.n)
        torch.empty((), dtype=torch.int64).random_()  # the loader draws a seed for its workers
        for rows in order.split(batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(X[rows]), y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    for ours, theirs in zip(net.module_.parameters(), module.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    batches = [batch for row in net.history for batch in row["batches"]]
    assert [batch["train_loss"] for batch in batches] == losses


def test_batches_are_fetched_whole(table, monkeypatch):
    def one_by_one(self, i):
        raise AssertionError("a row was fetched by itself")

    monkeypatch.setattr(TrainingRows, "__getitem__", one_by_one)
    monkeypatch.setattr(InputRows, "__getitem__", one_by_one)
    unlearner = MIUUnlearner(make_net(), **SHORT).fit(table.X, table.y, table.a)
    unlearner.unlearn(FORGET).predict(table.X)


def test_phases_have_own_rows_losses_and_epochs(table, row_spy):
    net, data = initialized(), training_rows(table)
    losses = []

    def twice(batch):
        losses.append(batch.y.shape)
        return 2 * batch.criterion()

    phases = [
        Phase("a", np.arange(10), loss=twice, batch_size=4, last_epoch=2),
        Phase("b", np.arange(50, 90), first_epoch=2),
    ]
    train(net, data, phases, epochs=3)
    rows = [(row["epoch"], row["phase"], row["train_batch_count"]) for row in net.history]
    assert rows == [(1, "a", 3), (2, "a", 3), (2, "b", 2), (3, "b", 2)]
    assert set(row_spy.rows("a")) == set(range(10))
    assert set(row_spy.rows("b")) == set(range(50, 90))
    assert len(losses) == 6
    assert "get_loss" not in vars(net)


def test_weighted_phase_draws_with_replacement(table, row_spy):
    net, data = initialized(), training_rows(table)
    weights = np.zeros(table.n)
    weights[[3, 5]] = 1, 3
    train(net, data, [Phase("w", data.rows, weights=weights)], epochs=5)
    drawn = np.concatenate([rows for _, rows in row_spy.seen])
    assert len(drawn) == 5 * table.n
    assert set(drawn) == {3, 5}
    assert np.mean(drawn == 5) == pytest.approx(0.75, abs=0.06)


class Listener(Callback):
    """Counts what it is told."""

    def on_train_begin(self, net, **kwargs):
        self.heard_ = []

    def on_epoch_end(self, net, **kwargs):
        self.heard_.append(net.history[-1, "phase"])

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self.heard_.append("grad")


class OncePerEpoch(Listener):
    once_per_epoch = True


def unlearn_with(callbacks, table, **kwargs):
    """Fit, then unlearn with the callbacks, and return the unlearner and those that ran."""
    ran = {}

    class Spy(Callback):
        def on_train_end(self, net, **kwargs):
            ran.update(dict(net.callbacks_))
            ran["net"] = net

    net = make_net(callbacks=[*callbacks, ("spy", Spy)], **kwargs)
    unlearner = MIUUnlearner(net, **SHORT).fit(table.X, table.y, table.a)
    return unlearner.unlearn(FORGET), ran


def test_callbacks_hear_every_phase_and_counters_once_per_epoch(table):
    _, ran = unlearn_with([("all", Listener()), ("once", OncePerEpoch())], table)
    phases = [event for event in ran["all"].heard_ if event != "grad"]
    assert phases == ["tune", "forget", "retain"] * 2 + ["tune", "retain"]
    assert ran["all"].heard_.count("grad") == 2 * 1 + 3 * 5  # forget batches, retain batches
    counted = [event for event in ran["once"].heard_ if event != "grad"]
    assert counted == ["retain"] * 3


def test_validation_rows_are_not_trained_on(table, row_spy):
    net = make_net(train_split=ValidSplit(5, stratified=True))
    unlearner = RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
    sizes = [
        row["train_batch_size"] for row in unlearner.history_[0]["batches"] if "train_loss" in row
    ]
    assert sum(sizes) == 128
    unlearner.unlearn(FORGET)
    assert not set(row_spy.rows("retrain")) & set(FORGET)


def test_table_of_losses_is_printed(table, capsys):
    MIUUnlearner(make_net(verbose=1), **SHORT).fit(table.X, table.y, table.a).unlearn(FORGET)
    printed = capsys.readouterr().out
    assert "phase" in printed
    assert "forget" in printed


WEIGHTS = torch.tensor([1.0, 19.0])


@pytest.mark.parametrize("copies", [[1], [0, 2, 1, 3]], ids=["ones", "several"])
@pytest.mark.parametrize(
    ("criterion", "params"),
    [
        (nn.CrossEntropyLoss, {}),
        (nn.CrossEntropyLoss, {"weight": WEIGHTS}),
        (nn.CrossEntropyLoss, {"weight": WEIGHTS, "label_smoothing": 0.2}),
        (nn.CrossEntropyLoss, {"ignore_index": 1}),
        (nn.CrossEntropyLoss, {"weight": WEIGHTS, "ignore_index": 1, "label_smoothing": 0.2}),
        (nn.CrossEntropyLoss, {"weight": WEIGHTS, "reduction": "sum"}),
        (nn.NLLLoss, {"weight": WEIGHTS}),
        (nn.MultiMarginLoss, {"weight": WEIGHTS}),
        (nn.BCEWithLogitsLoss, {"pos_weight": WEIGHTS[1]}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
def test_a_weight_of_two_is_the_row_twice(table, criterion, params, copies):
    binary = criterion is nn.BCEWithLogitsLoss
    module = Probabilities if criterion is nn.NLLLoss else MLP
    kwargs = {f"criterion__{name}": value for name, value in params.items()}
    if module is MLP:
        kwargs |= {"module__n_features": 4, "module__n_classes": 1 if binary else 2}
    kind = NeuralNetBinaryClassifier if binary else NeuralNetClassifier
    net = kind(
        module, criterion=criterion, train_split=None, verbose=0, lr=0.1, **kwargs
    ).initialize()
    counts = np.resize(copies, table.n)
    losses = []
    for weight, rows in ((counts, np.arange(table.n)), (None, np.arange(table.n).repeat(counts))):
        y = torch.as_tensor(table.y[rows])
        data = TrainingRows(
            table.X[rows], y.float() if binary else y, torch.zeros(len(y)), np.arange(len(rows))
        )
        data.sample_weight = None if weight is None else torch.as_tensor(weight)
        trained = fresh_net(net)
        train(trained, data, [Phase("fit", data.rows, batch_size=len(rows))], epochs=1)
        losses.append(trained.history[0, "train_loss"])
        assert trained.criterion_.reduction == params.get("reduction", "mean")
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Reduced(nn.CrossEntropyLoss):
    def forward(self, scores, y):
        return super().forward(scores, y).mean()


class WithoutReduction(nn.Module):
    def forward(self, scores, y):
        return scores.sum() * 0


@pytest.mark.parametrize(
    ("criterion", "error", "message"),
    [
        (WithoutReduction, TypeError, "WithoutReduction has no 'reduction'"),
        (Reduced, ValueError, r"returns the shape \(\) for 32 rows"),
    ],
)
def test_sample_weight_needs_a_loss_of_each_row(table, criterion, error, message):
    net = make_net(criterion=criterion)
    with pytest.raises(error, match=message):
        RetrainUnlearner(net).fit(table.X, table.y, table.a, sample_weight=np.ones(table.n))


class Probabilities(MLP):
    def __init__(self):
        super().__init__(4, hidden=(16,))

    def forward(self, X):
        return super().forward(X).softmax(1)


class OneLogit(MLP):
    def __init__(self):
        super().__init__(4, 1, hidden=(16,))


@pytest.mark.parametrize("kind", ["nll", "binary", "callable"])
def test_nets_with_other_outputs(table, kind):
    net = {
        "nll": make_net(Probabilities, criterion=nn.NLLLoss),
        "binary": NeuralNetBinaryClassifier(
            OneLogit, lr=0.1, max_epochs=3, train_split=None, verbose=0, threshold=0.9
        ),
        "callable": make_net(predict_nonlinearity=lambda scores: scores.softmax(1)),
    }[kind]
    y = np.array(["a", "b"])[table.y]
    unlearner = MIUUnlearner(net, **SHORT).fit(table.X, y, table.a).unlearn(FORGET)
    proba = unlearner.predict_proba(table.X)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(proba, _reference_proba(unlearner, table.X, kind), rtol=1e-4)
    if kind == "binary":
        assert (unlearner.predict(table.X) == "b").sum() == (proba[:, 1] > 0.9).sum()
    else:
        assert unlearner.score(table.X, y) > 0.6


def _reference_proba(unlearner, X, kind):
    with torch.no_grad():
        scores = unlearner.net_.module_.eval()(torch.as_tensor(X))
    if kind == "binary":
        p = scores.sigmoid().reshape(-1, 1)
        return torch.cat([1 - p, p], 1).numpy()
    return (scores if kind == "nll" else scores.softmax(1)).numpy()


def test_token_ids_stay_integers():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(10, 8), nn.Linear(8, 2)

        def forward(self, X):
            return self.head(self.embed(X).mean(1))

    rng = np.random.default_rng(0)
    y, a = rng.integers(2, size=(2, 100))
    X = rng.integers(5, size=(100, 6)) + 5 * y[:, None]
    net = make_net(Bag)
    unlearner = MIUUnlearner(net, **SHORT).fit(X, y, a).unlearn(FORGET)
    assert unlearner.score(X, y) > 0.9


def test_forward_draws_no_random_number(table):
    net, data = initialized(), training_rows(table)
    state = torch.get_rng_state()
    scores = forward(net, data, lambda output: output, np.array([5, 3]))
    assert scores.shape == (2, 2)
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        np.testing.assert_allclose(scores, net.module_(torch.as_tensor(table.X[[5, 3]])))


def test_fresh_net_has_weights_and_no_state(table):
    net, data = initialized(), training_rows(table)
    train(net, data, [Phase("fit", data.rows)], epochs=1)
    copy = fresh_net(net, lr=0.5)
    assert all(map(torch.equal, copy.module_.parameters(), net.module_.parameters()))
    assert not copy.optimizer_.state
    assert copy.optimizer_.param_groups[0]["lr"] == 0.5
    assert len(copy.history) == 0
    other = fresh_net(net, weights_from=None)
    assert not torch.equal(other.module_.head.weight, net.module_.head.weight)
