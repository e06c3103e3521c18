import numpy as np
import pytest
from conftest import fitted
from logistic import (
    FORGET,
    REST,
    flat,
    gradients,
    in_float64,
    logistic_net,
    reweight_probabilities,
)

from grmu_sk import SSDUnlearner


def factors(of_forget, of_train, alpha, lam):
    return np.where(of_forget > alpha * of_train, np.minimum(1, lam * of_train / of_forget), 1)


@pytest.mark.parametrize(
    ("alpha", "lam", "reweight", "weighted"),
    [
        (0.5, 0.3, False, False),
        (0.1, 5.0, True, False),
        (1.0, 1.0, True, True),
        (1.0, 0.0, False, True),
    ],
)
def test_factors_against_the_closed_form(table, reweight, weighted, alpha, lam):
    s = np.random.default_rng(0).uniform(0.5, 2, table.n).astype(np.float32)
    params = {"selection_weighting": alpha, "dampening_constant": lam, "reweight": reweight}
    net, given = logistic_net(max_epochs=20), s if weighted else None
    unlearner = fitted(SSDUnlearner, in_float64(table), net, sample_weight=given, **params)
    before = flat(unlearner)
    unlearner.unlearn(FORGET)

    s = s if weighted else np.ones(table.n)
    squares = gradients(before, table) ** 2
    of_forget = np.average(squares[FORGET], axis=0, weights=s[FORGET])
    of_train = np.average(squares, axis=0, weights=s)
    if reweight:
        drawn = s[REST] * reweight_probabilities(table)
        of_train = np.average(squares[REST], axis=0, weights=drawn)
    expected = before * factors(of_forget, of_train, alpha, lam)
    np.testing.assert_allclose(flat(unlearner), expected, rtol=1e-6)
    selected = of_forget > alpha * of_train
    assert unlearner.history_[-1]["train_loss"] == pytest.approx(selected.mean())


def test_weights_never_grow(table):
    params = {"selection_weighting": 0.1, "dampening_constant": 1e3}
    unlearner = fitted(SSDUnlearner, table, **params)
    before = flat(unlearner)
    np.testing.assert_array_equal(flat(unlearner.unlearn(FORGET)), before)


def test_whole_forget_set_as_one_batch(table):
    """The gradient is then averaged before it is squared."""
    params = {"selection_weighting": 0.01, "dampening_constant": 0.1, "fisher_batch_size": 1000}
    unlearner = fitted(SSDUnlearner, in_float64(table), logistic_net(max_epochs=20), **params)
    before = flat(unlearner)
    unlearner.unlearn(FORGET)
    g = gradients(before, table)
    of_forget, of_train = g[FORGET].mean(axis=0) ** 2, g.mean(axis=0) ** 2
    expected = before * factors(of_forget, of_train, 0.01, 0.1)
    np.testing.assert_allclose(flat(unlearner), expected, rtol=1e-6)


@pytest.mark.parametrize(("reweight", "expected"), [(False, np.arange(160)), (True, REST)])
def test_rows_read(table, row_spy, reweight, expected):
    unlearner = fitted(SSDUnlearner, table, reweight=reweight, fisher_batch_size=20)
    row_spy.clear()
    unlearner.unlearn(FORGET)
    np.testing.assert_array_equal(row_spy.rows("forget"), FORGET)
    np.testing.assert_array_equal(row_spy.rows("train"), expected)
