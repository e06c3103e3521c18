import numpy as np
import pytest
import torch
from conftest import make_net
from skorch import NeuralNetBinaryClassifier
from torch import nn

from grmu_sk import SSDUnlearner

FORGET = [40, 41, 50, 60, 61]
REST = np.setdiff1d(np.arange(160), FORGET)


class OneLogit(nn.Module):
    """Logistic regression in float64: five weights."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, X):
        return self.linear(X)


def logistic():
    return NeuralNetBinaryClassifier(
        OneLogit, optimizer=torch.optim.SGD, lr=0.5, train_split=None, verbose=0, max_epochs=20
    )


def flat(unlearner):
    return np.concatenate([p.detach().numpy().ravel() for p in unlearner.net_.module_.parameters()])


def squares(w, X, y):
    """Squared gradient of each row's logistic loss, by hand."""
    design = np.c_[X, np.ones(len(X))]
    return ((1 / (1 + np.exp(-design @ w)) - y)[:, None] * design) ** 2


def reweight_probabilities(table):
    group = 2 * table.y + table.a
    weight = np.bincount(group)[group[REST]] / np.bincount(group[REST])[group[REST]]
    return weight / weight.sum()


@pytest.mark.parametrize("reweight", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("alpha", "lam"), [(0.5, 0.3), (1.0, 1.0), (0.1, 5.0), (1.0, 0.0)])
def test_factors_against_the_closed_form(table, reweight, weighted, alpha, lam):
    s = np.random.default_rng(0).uniform(0.5, 2, table.n).astype(np.float32)
    unlearner = SSDUnlearner(
        logistic(), selection_weighting=alpha, dampening_constant=lam, reweight=reweight,
        random_state=0,
    )  # fmt: skip
    unlearner.fit(
        table.X.astype(np.float64), table.y, table.a, sample_weight=s if weighted else None
    )
    before = flat(unlearner)
    unlearner.unlearn(FORGET)

    s = s if weighted else np.ones(table.n)
    sq = squares(before, table.X, table.y)
    of_forget = np.average(sq[FORGET], axis=0, weights=s[FORGET])
    if reweight:
        of_train = np.average(sq[REST], axis=0, weights=s[REST] * reweight_probabilities(table))
    else:
        of_train = np.average(sq, axis=0, weights=s)
    selected = of_forget > alpha * of_train
    factor = np.where(selected, np.minimum(1, lam * of_train / of_forget), 1)
    np.testing.assert_allclose(flat(unlearner), before * factor, rtol=1e-6)
    assert unlearner.history_[-1]["train_loss"] == pytest.approx(selected.mean())


def test_weights_never_grow(table):
    unlearner = SSDUnlearner(make_net(), selection_weighting=0.1, dampening_constant=1e3)
    before = flat(unlearner.fit(table.X, table.y, table.a))
    np.testing.assert_array_equal(flat(unlearner.unlearn(FORGET)), before)


def test_whole_forget_set_as_one_batch(table):
    """The gradient is then averaged before it is squared."""
    unlearner = SSDUnlearner(
        logistic(), selection_weighting=0.01, dampening_constant=0.1, fisher_batch_size=1000
    )
    before = flat(unlearner.fit(table.X.astype(np.float64), table.y, table.a))
    unlearner.unlearn(FORGET)
    design = np.c_[table.X, np.ones(table.n)]
    g = (1 / (1 + np.exp(-design @ before)) - table.y)[:, None] * design
    of_forget, of_train = g[FORGET].mean(axis=0) ** 2, g.mean(axis=0) ** 2
    factor = np.where(of_forget > 0.01 * of_train, np.minimum(1, 0.1 * of_train / of_forget), 1)
    np.testing.assert_allclose(flat(unlearner), before * factor, rtol=1e-6)


def test_rows_read(table, row_spy):
    for reweight, expected in [(False, np.arange(table.n)), (True, REST)]:
        unlearner = SSDUnlearner(make_net(), reweight=reweight).fit(table.X, table.y, table.a)
        row_spy.clear()
        unlearner.unlearn(FORGET)
        np.testing.assert_array_equal(row_spy.rows("forget"), FORGET)
        np.testing.assert_array_equal(row_spy.rows("train"), expected)
