"""The loop: phases, what their losses are, who hears of them."""

import numpy as np
import pytest
import torch
from conftest import make_net, training_rows
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.net_copies import fresh_net
from grmu_sk.nets import MLP
from grmu_sk.training import Phase, train

SHORT = {"max_epochs": 3, "forget_epochs": 2, "tune_updates": (4, 2), "random_state": 0}
FORGET = [40, 41, 50]


def initialized(**kwargs):
    torch.manual_seed(0)
    return make_net(**kwargs).initialize()


def test_loop_equals_a_hand_written_one(table, batch_size=7):
    """To the last bit."""
    net, data = initialized(batch_size=batch_size), training_rows(table)
    torch.manual_seed(7)
    train(net, data, [Phase("fit", data.rows)], epochs=2)

    torch.manual_seed(0)
    module = MLP(4, hidden=(16,))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    X, y = torch.as_tensor(table.X), torch.as_tensor(table.y)
    torch.manual_seed(7)
    losses = []
    for _ in range(2):
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


def test_phases_have_own_rows_losses_draws_and_epochs(table, row_spy):
    net, data = initialized(), training_rows(table)
    weights = np.zeros(table.n)
    weights[[3, 5]] = 1, 3
    sizes = []

    def twice(batch):
        sizes.append(len(batch.y))
        return 2 * batch.criterion()

    phases = [
        Phase("a", np.arange(10), loss=twice, batch_size=4, last_epoch=2),
        Phase("b", np.arange(50, 90), first_epoch=2),
        Phase("w", data.rows, weights=weights, first_epoch=3),
    ]
    train(net, data, phases, epochs=6)
    rows = [(row["epoch"], row["phase"], row["train_batch_count"]) for row in net.history]
    assert rows[:5] == [(1, "a", 3), (2, "a", 3), (2, "b", 2), (3, "b", 2), (3, "w", 5)]
    assert set(row_spy.rows("a")) == set(range(10))
    assert set(row_spy.rows("b")) == set(range(50, 90))
    assert sizes == [4, 4, 2] * 2
    assert "get_loss" not in vars(net)
    drawn = row_spy.drawn("w")  # with replacement
    assert len(drawn) == 4 * table.n
    assert set(drawn) == {3, 5}
    assert np.mean(drawn == 5) == pytest.approx(0.75, abs=0.06)


class Listener(Callback):
    """Notes the phases that it hears of, in the class: callbacks are copied."""

    heard = []

    def on_train_begin(self, net, **kwargs):
        type(self).heard = []

    def on_epoch_end(self, net, **kwargs):
        self.heard.append(net.history[-1, "phase"])


class OncePerEpoch(Listener):
    once_per_epoch = True


def test_callbacks_hear_every_phase_and_counters_once_per_epoch(table):
    net = make_net(callbacks=[Listener(), OncePerEpoch()])
    MIUUnlearner(net, **SHORT).fit(table.X, table.y, table.a).unlearn(FORGET)
    assert Listener.heard == ["tune", "forget", "retain"] * 2 + ["tune", "retain"]
    assert OncePerEpoch.heard == ["retain"] * 3


class Probabilities(MLP):
    def __init__(self):
        super().__init__(4, hidden=(16,))

    def forward(self, X):
        return super().forward(X).softmax(1)


WEIGHTS = torch.tensor([1.0, 19.0])


@pytest.mark.parametrize(
    ("criterion", "params"),
    [
        (nn.CrossEntropyLoss, {}),
        (nn.CrossEntropyLoss, {"weight": WEIGHTS, "ignore_index": 1, "label_smoothing": 0.2}),
        (nn.CrossEntropyLoss, {"weight": WEIGHTS, "reduction": "sum"}),
        (nn.NLLLoss, {"weight": WEIGHTS}),
        (nn.BCEWithLogitsLoss, {"pos_weight": WEIGHTS[1]}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "-".join(value),
)
def test_a_weight_of_two_is_the_row_twice(table, criterion, params):
    binary = criterion is nn.BCEWithLogitsLoss
    kwargs = {f"criterion__{name}": value for name, value in params.items()}
    module = Probabilities if criterion is nn.NLLLoss else MLP
    if module is MLP:
        kwargs |= {"module__n_features": 4, "module__n_classes": 1 if binary else 2}
    kind = NeuralNetBinaryClassifier if binary else NeuralNetClassifier
    net = kind(module, criterion=criterion, train_split=None, verbose=0, lr=0.1, **kwargs)
    net.initialize()
    counts = np.resize([0, 2, 1, 3], table.n)
    losses = []
    for weight, rows in ((counts, np.arange(table.n)), (None, np.arange(table.n).repeat(counts))):
        data = training_rows(table, rows)
        data.y = data.y.float() if binary else data.y
        data.sample_weight = None if weight is None else torch.as_tensor(weight)
        trained = fresh_net(net)
        train(trained, data, [Phase("fit", data.rows, batch_size=len(rows))], epochs=1)
        losses.append(trained.history[0, "train_loss"])
        assert trained.criterion_.reduction == params.get("reduction", "mean")
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Reduced(nn.CrossEntropyLoss):
    def forward(self, scores, y):
        return super().forward(scores, y).mean()


def test_sample_weight_needs_a_loss_of_each_row(table):
    with pytest.raises(ValueError, match="loss of each row"):
        RetrainUnlearner(make_net(criterion=Reduced)).fit(
            table.X, table.y, table.a, sample_weight=np.ones(table.n)
        )


def test_a_nonlinearity_and_a_threshold_of_the_net(table):
    net, y = make_net(predict_nonlinearity=lambda scores: scores.softmax(1)), table.y
    one, other = (MIUUnlearner(n, **SHORT).fit(table.X, y, table.a) for n in (net, make_net()))
    proba = one.unlearn(FORGET).predict_proba(table.X)
    np.testing.assert_allclose(proba, other.unlearn(FORGET).predict_proba(table.X), rtol=1e-5)
    one.net_.threshold = 0.9
    assert np.array_equal(one.predict(table.X) == 1, proba[:, 1] > 0.9)
