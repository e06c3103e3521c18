import numpy as np
import pytest
import torch
from conftest import make_net, make_table
from skorch import NeuralNetBinaryClassifier
from softmax_regression import SoftmaxRegression, linear_net, losses_of
from torch import nn

from grmu_sk import NegGradPlusUnlearner

FORGET = [40, 41, 50, 60, 61]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 0.7, 0.0])
def test_each_epoch_is_a_joint_step(alpha, weighted):
    """With full batches all rows to forget are in every pair."""
    table = make_table(n_classes=3)
    weight = np.random.default_rng(0).random(table.n) + 0.1 if weighted else np.ones(table.n)
    unlearner = NegGradPlusUnlearner(
        linear_net(module__n_classes=3), max_epochs=4, alpha=alpha, random_state=0
    ).fit(table.X, table.y, table.a, sample_weight=weight if weighted else None)
    by_hand = SoftmaxRegression(unlearner)
    unlearner.unlearn(FORGET)
    rest = np.setdiff1d(np.arange(table.n), FORGET)
    kept = table.X[rest], table.y[rest], weight[rest]
    gone = table.X[FORGET], table.y[FORGET], weight[FORGET]
    losses = []
    for _ in range(4):
        losses.append(alpha * by_hand.loss(*kept) - (1 - alpha) * by_hand.loss(*gone))
        down, up = by_hand.gradient(*kept), by_hand.gradient(*gone)
        step = [alpha * d - (1 - alpha) * u for d, u in zip(down, up, strict=True)]
        by_hand.step(0.1, step)
    by_hand.assert_is(unlearner)
    np.testing.assert_allclose(losses_of(unlearner, "forget_retain"), losses, rtol=1e-4)


def pairs_read(row_spy, forget):
    """What is read in turn: a batch of remaining rows, and its partner."""
    batches = [rows for phase, rows in row_spy.seen if phase == "forget_retain"]
    kept = [rows for rows in batches if not set(rows) & set(forget)]
    gone = [rows for rows in batches if set(rows) <= set(forget)]
    assert len(kept) + len(gone) == len(batches), "no batch mixes the two"
    return kept, gone


def test_every_batch_has_a_partner(table, row_spy, monkeypatch):
    monkeypatch.setattr("grmu_sk.rows.BYTES_AT_ONCE", 0)  # one batch at a time
    forget = np.arange(40, 60)
    unlearner = NegGradPlusUnlearner(make_net(), max_epochs=40, batch_size=8, random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(forget)
    kept, gone = pairs_read(row_spy, forget)
    assert [len(rows) for rows in kept] == [len(rows) for rows in gone] == ([8] * 17 + [4]) * 40
    assert all(len(set(rows)) == len(rows) for rows in gone), "without replacement"
    assert not np.array_equal(np.sort(gone[0]), np.sort(gone[1])), "drawn anew"
    counts = np.bincount(np.concatenate(gone), minlength=60)[forget]
    expected = counts.sum() / len(forget)
    np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(expected))


def test_few_rows_to_forget_are_all_in_every_pair(table, row_spy):
    NegGradPlusUnlearner(make_net(), max_epochs=1, random_state=0).fit(
        table.X, table.y, table.a
    ).unlearn(FORGET)
    _, gone = pairs_read(row_spy, FORGET)
    assert [sorted(rows) for rows in gone] == [FORGET] * 5


def test_net_with_one_logit(table):
    """The criterion is the net's own in both halves: here the binary one."""
    net = NeuralNetBinaryClassifier(
        nn.Linear,
        module__in_features=4,
        module__out_features=1,
        lr=0.1,
        batch_size=-1,
        max_epochs=3,
        train_split=None,
        verbose=0,
    )
    unlearner = NegGradPlusUnlearner(net, max_epochs=1, alpha=0.5, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    module = nn.Linear(4, 1)
    module.load_state_dict(unlearner.net_.module_.state_dict())
    unlearner.unlearn(FORGET)

    def loss(rows):
        logits = module(torch.as_tensor(table.X[rows])).squeeze(1)
        return nn.functional.binary_cross_entropy_with_logits(
            logits, torch.as_tensor(table.y[rows]).float()
        )

    (0.5 * loss(np.setdiff1d(np.arange(table.n), FORGET)) - 0.5 * loss(FORGET)).backward()
    for ours, start in zip(unlearner.net_.module_.parameters(), module.parameters(), strict=True):
        expected = (start - 0.1 * start.grad).detach().numpy()
        np.testing.assert_allclose(ours.detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_one_row_to_forget_and_batch_norm(table):
    """One row has no variance: it is normalised with the running statistics, and leaves them."""

    def build():
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    unlearner = NegGradPlusUnlearner(make_net(build), max_epochs=1, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    norm = unlearner.net_.module_[1]
    before = norm.num_batches_tracked.item()
    unlearner.unlearn([40])
    assert unlearner.net_.module_[1].num_batches_tracked.item() == before + 5  # 159 rows
