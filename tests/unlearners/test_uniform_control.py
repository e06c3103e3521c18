"""reweight="uniform": with replacement, as REWEIGHT draws, and without its weights."""

import numpy as np
import pytest
from conftest import make_net, make_table
from test_common import make

from grmu_sk.base import Request
from grmu_sk.unlearners import all_unlearners
from grmu_sk.unlearners.approximate import ApproximateUnlearner

METHODS = [
    pytest.param(cls, id=name)
    for name, cls in all_unlearners()
    if "reweight" in cls._get_param_names()
    and (issubclass(cls, ApproximateUnlearner) or name == "retrain")
]
every_method = pytest.mark.parametrize("method", METHODS)


@every_method
def test_every_method_draws_by_these_weights(method, monkeypatch):
    """The same groups, much reduced by the request, keep their reduced share."""
    table = make_table(n_rows=300)
    forget = np.flatnonzero((table.y == 1) & (table.a == 1))[10:]
    drawn = {}
    original = Request.retain_weights

    def spy(request, reweight):
        weights = original(request, reweight)
        drawn[reweight] = request.retain, weights
        return weights

    monkeypatch.setattr(Request, "retain_weights", spy)
    for reweight in (True, False, "uniform"):
        unlearner = make(method, make_net(max_epochs=1), reweight=reweight)
        unlearner.fit(table.X, table.y, table.a).unlearn(forget)
    retain, weights = drawn["uniform"]
    assert len(weights) == len(retain) == table.n - len(forget)
    np.testing.assert_allclose(weights, 1 / len(retain))
    assert drawn[False][1] is None
    assert np.ptp(drawn[True][1]) > 2 / len(retain)


def test_rows_are_drawn_with_replacement_and_equally_often(table, row_spy):
    method = dict(all_unlearners())["retrain"]
    forget = np.flatnonzero((table.y == 1) & (table.a == 1))[5:]
    unlearner = method(make_net(max_epochs=40), reweight="uniform", random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    row_spy.clear()
    unlearner.unlearn(forget)
    rows = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retrain"])
    n_rows = table.n - len(forget)
    assert len(rows) == 40 * n_rows
    assert len(np.unique(rows[:n_rows])) / n_rows == pytest.approx(1 - np.exp(-1), abs=0.1)
    share = np.isin(rows, np.flatnonzero((table.y == 1) & (table.a == 1))).mean()
    assert share == pytest.approx(5 / n_rows, abs=4 * np.sqrt(5 / n_rows / len(rows)))


@pytest.mark.parametrize("method", [m for m in METHODS if m.id != "miu"])  # its losses need them
def test_groups_are_not_needed(method, table):
    make(method, reweight="uniform").fit(table.X, table.y).unlearn([40, 41])
