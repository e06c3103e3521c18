import numpy as np
import pytest
import torch
from conftest import make_net, make_table, same_weights
from softmax_regression import SoftmaxRegression, linear_net, losses_of
from torch import nn

from grmu_sk import FineTuneUnlearner, L1SparseUnlearner
from grmu_sk.nets import MLP
from grmu_sk.unlearners.l1_sparse import _l1_norm

FORGET = [40, 41, 50, 60, 61]


def test_steps_and_fading_penalty_by_hand():
    """gamma_t = gamma (1 - t / T) for t = 0, ..., T - 1; its gradient is gamma_t sign(theta)."""
    table = make_table(n_classes=3)
    unlearner = L1SparseUnlearner(
        linear_net(module__n_classes=3), max_epochs=4, l1_penalty=0.2, random_state=0
    ).fit(table.X, table.y, table.a)
    by_hand = SoftmaxRegression(unlearner)
    unlearner.unlearn(FORGET)
    rest = np.setdiff1d(np.arange(table.n), FORGET)
    losses = []
    for gamma in (0.2, 0.15, 0.1, 0.05):
        norm = np.abs(by_hand.W).sum() + np.abs(by_hand.b).sum()
        losses.append(by_hand.loss(table.X[rest], table.y[rest]) + gamma * norm)
        g_W, g_b = by_hand.gradient(table.X[rest], table.y[rest])
        by_hand.step(0.1, (g_W + gamma * np.sign(by_hand.W), g_b + gamma * np.sign(by_hand.b)))
    by_hand.assert_is(unlearner)
    np.testing.assert_allclose(losses_of(unlearner, "retain"), losses, rtol=1e-4)


def test_without_penalty_it_is_fine_tuning(table):
    def run(cls, **kwargs):
        unlearner = cls(make_net(), max_epochs=2, random_state=0, **kwargs)
        return unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)

    tuned = run(FineTuneUnlearner)
    assert same_weights(run(L1SparseUnlearner, l1_penalty=0), tuned)
    assert not same_weights(run(L1SparseUnlearner), tuned)


def test_default_penalty_is_that_of_the_protocol():
    unlearner = L1SparseUnlearner()
    gammas = [unlearner._gamma(epoch) for epoch in range(1, 11)]
    np.testing.assert_allclose(gammas, 5e-4 * (1 - np.arange(10) / 10))


def test_weights_get_smaller(table):
    def norm(penalty):
        unlearner = L1SparseUnlearner(make_net(), l1_penalty=penalty, random_state=0)
        unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
        return _l1_norm(unlearner.net_.module_).item()

    assert norm(0.1) < 0.5 * norm(0.01) < 0.5 * norm(0)


def test_norm_counts_all_parameters_and_no_buffer():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)).double()
    expected = sum(np.abs(value.detach().numpy()).sum() for value in module.parameters())
    assert _l1_norm(module).item() == pytest.approx(expected)
    before = _l1_norm(module).item()
    module[1].running_mean.fill_(100.0)
    assert _l1_norm(module).item() == before
    module[1].bias.data.fill_(100.0)
    assert _l1_norm(module).item() > before


def test_norm_is_formed_in_float32():
    """In bfloat16 a sum of many small numbers stops growing."""
    module = MLP(100, hidden=(100,)).bfloat16()
    expected = sum(value.detach().double().abs().sum().item() for value in module.parameters())
    assert _l1_norm(module).dtype == torch.float32
    assert _l1_norm(module).item() == pytest.approx(expected, rel=1e-5)
    assert _l1_norm(module.double()).dtype == torch.float64
