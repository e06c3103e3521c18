"""Influence and SSD, which change weights in one step, against logistic regression by hand."""

import numpy as np
import pytest
import torch
from conftest import fitted
from skorch import NeuralNetBinaryClassifier
from torch import nn

from grmu_sk import InfluenceUnlearner, SSDUnlearner

FORGET = [40, 41, 50, 60, 61]
REST = np.setdiff1d(np.arange(160), FORGET)


class OneLogit(nn.Module):
    """Five weights."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, X):
        return self.linear(X)


def logistic_net(**kwargs):
    defaults = {"optimizer": torch.optim.SGD, "train_split": None, "verbose": 0}
    return NeuralNetBinaryClassifier(OneLogit, **{**defaults, "lr": 0.5, **kwargs})


def in_float64(table):
    table.X = table.X.astype(float)
    return table


def flat(unlearner):
    return np.concatenate([p.detach().numpy().ravel() for p in unlearner.net_.module_.parameters()])


def gradients(w, table):
    """Of each row's loss."""
    design = np.c_[table.X, np.ones(table.n)]
    return (1 / (1 + np.exp(-design @ w)) - table.y)[:, None] * design


def weights_of_rows(table, *, weighted, reweight):
    """What fit is given, and each row's share in a mean over all rows and in one over the rest."""
    given = np.random.default_rng(0).uniform(0.5, 2, table.n).astype(np.float32)
    s = given.astype(float) if weighted else np.ones(table.n)
    of_rest, group = s[REST], 2 * table.y + table.a
    if reweight:
        of_rest = of_rest * (np.bincount(group) / np.bincount(group[REST]))[group[REST]]
    return given if weighted else None, s / s.sum(), of_rest / of_rest.sum()


@pytest.mark.parametrize(("reweight", "weighted"), [(False, False), (True, False), (True, True)])
def test_step_against_numpy(table, reweight, weighted):
    """The whole step, recomputed from formulas in float64 with the inverse of the matrix."""
    given, of_all, of_rest = weights_of_rows(table, weighted=weighted, reweight=reweight)
    params = {"alpha": 0.7, "damping": 0.05, "n_fisher": 1000, "reweight": reweight}
    params["sample_weight"] = given
    unlearner = fitted(InfluenceUnlearner, in_float64(table), logistic_net(), **params)
    before = flat(unlearner)
    step = flat(unlearner.unlearn(FORGET)) - before
    g = gradients(before, table)
    v = of_all @ g - of_rest @ g[REST]
    hessian = (g[REST].T * of_rest) @ g[REST] + 0.05 * np.eye(5)
    np.testing.assert_allclose(step, 0.7 * np.linalg.solve(hessian, v), rtol=1e-5)
    assert unlearner.history_[-1]["train_loss"] == pytest.approx(np.linalg.norm(step), rel=1e-5)


def test_n_fisher_caps_the_rows_read(table, row_spy):
    unlearner = fitted(InfluenceUnlearner, table, n_fisher=20)
    row_spy.clear()
    unlearner.unlearn(FORGET)
    assert len(row_spy.rows("step")) == 20 and not set(row_spy.rows("step")) & set(FORGET)
    np.testing.assert_array_equal(row_spy.rows("gradient"), np.arange(table.n))


def factors(of_forget, of_train, alpha, lam):
    return np.where(of_forget > alpha * of_train, np.minimum(1, lam * of_train / of_forget), 1)


@pytest.mark.parametrize(
    ("alpha", "lam", "reweight", "weighted"),
    [
        (0.5, 0.3, False, False),
        (0.1, 5.0, True, False),
        (1.0, 1.0, True, True),
        (1.0, 0.0, False, True),
        (0.1, 1e3, False, False),  # no weight grows
    ],
)
def test_factors_against_the_closed_form(table, reweight, weighted, alpha, lam):
    given, of_all, of_rest = weights_of_rows(table, weighted=weighted, reweight=reweight)
    params = {"selection_weighting": alpha, "dampening_constant": lam, "reweight": reweight}
    params["sample_weight"] = given
    unlearner = fitted(SSDUnlearner, in_float64(table), logistic_net(max_epochs=20), **params)
    before = flat(unlearner)
    unlearner.unlearn(FORGET)
    squares = gradients(before, table) ** 2
    of_forget = np.average(squares[FORGET], axis=0, weights=of_all[FORGET])
    of_train = of_rest @ squares[REST] if reweight else of_all @ squares
    expected = before * factors(of_forget, of_train, alpha, lam)
    np.testing.assert_allclose(flat(unlearner), expected, rtol=1e-6)
    selected = of_forget > alpha * of_train
    assert unlearner.history_[-1]["train_loss"] == pytest.approx(selected.mean())
