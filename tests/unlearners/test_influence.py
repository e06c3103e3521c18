from functools import partial

import numpy as np
import pytest
import torch
from conftest import fitted, make_net
from logistic import (
    FORGET,
    REST,
    flat,
    gradients,
    in_float64,
    logistic_net,
    reweight_probabilities,
)

from grmu_sk import InfluenceUnlearner
from grmu_sk.unlearners.influence import inverse_fisher_product

fitted = partial(fitted, InfluenceUnlearner)


@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_recursion_against_the_inverse(damping):
    generator = torch.Generator().manual_seed(0)
    G = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    v = torch.randn(5, generator=generator, dtype=torch.float64)
    weights = torch.rand(40, generator=generator, dtype=torch.float64)
    weights[3] = 0
    fisher = (G.T * weights) @ G + damping * torch.eye(5, dtype=torch.float64)
    product = inverse_fisher_product(v, iter(G), weights, damping)
    torch.testing.assert_close(product, torch.linalg.solve(fisher, v), rtol=1e-10, atol=0)


def test_recursion_in_float32_with_more_weights_than_rows():
    generator = torch.Generator().manual_seed(0)
    G, v = torch.randn(60, 200, generator=generator), torch.randn(200, generator=generator)
    product = inverse_fisher_product(v, iter(G), torch.full((60,), 1 / 60), 0.01)
    exact = (G.double().T @ G.double() / 60 + 0.01 * torch.eye(200).double()).inverse()
    torch.testing.assert_close(product.double(), exact @ v.double(), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("reweight", "weighted"), [(False, False), (True, False), (True, True)])
def test_step_against_numpy(table, reweight, weighted):
    """The whole step, recomputed from formulas in float64 with the inverse of the matrix."""
    s = np.random.default_rng(0).uniform(0.5, 2, table.n).astype(np.float32)
    params = {"alpha": 0.7, "damping": 0.05, "n_fisher": 1000, "reweight": reweight}
    given = s if weighted else None
    unlearner = fitted(in_float64(table), logistic_net(), sample_weight=given, **params)
    before = flat(unlearner)
    step = flat(unlearner.unlearn(FORGET)) - before

    s = s if weighted else np.ones(table.n)
    of_rest = s[REST] * (reweight_probabilities(table) if reweight else 1)
    of_rest = of_rest / of_rest.sum()
    g = gradients(before, table)
    v = s / s.sum() @ g - of_rest @ g[REST]
    hessian = (g[REST].T * of_rest) @ g[REST] + 0.05 * np.eye(5)
    np.testing.assert_allclose(step, 0.7 * np.linalg.solve(hessian, v), rtol=1e-5)
    assert unlearner.history_[-1]["train_loss"] == pytest.approx(np.linalg.norm(step), rel=1e-5)


def test_step_leads_towards_retraining(table):
    """v with the true Hessian finds the minimum on what remains; with Fisher's it comes closer."""
    net = logistic_net(lr=3.0, max_epochs=300, batch_size=-1)
    unlearner = fitted(in_float64(table), net, damping=1e-6, n_fisher=1000)
    before, X = flat(unlearner), table.X
    gold = flat(InfluenceUnlearner(net, random_state=0).fit(X[REST], table.y[REST]))
    step = flat(unlearner.unlearn(FORGET)) - before

    g = gradients(before, table)
    design = np.c_[X, np.ones(table.n)][REST]
    p = 1 / (1 + np.exp(-design @ before))
    hessian = (design.T * (p * (1 - p))) @ design / len(REST)
    newton = np.linalg.solve(hessian, g.mean(axis=0) - g[REST].mean(axis=0))
    distance = {
        name: np.linalg.norm(before + move - gold)
        for name, move in {"none": 0, "newton": newton, "step": step, "back": -step}.items()
    }
    assert distance["newton"] < 0.1 * distance["none"]
    assert distance["step"] < distance["none"] < distance["back"]


def test_n_fisher_caps_the_rows_read(table, row_spy):
    unlearner = fitted(table, n_fisher=20)
    row_spy.clear()
    unlearner.unlearn(FORGET)
    assert len(row_spy.rows("step")) == 20 and not set(row_spy.rows("step")) & set(FORGET)
    np.testing.assert_array_equal(row_spy.rows("gradient"), np.arange(table.n))


def test_batch_size_does_not_matter(table):
    first, *others = [
        flat(fitted(table, make_net(iterator_valid__batch_size=size), n_fisher=40).unlearn(FORGET))
        for size in (7, -1)
    ]
    np.testing.assert_allclose(first, others[0], rtol=1e-4, atol=1e-6)
