import numpy as np
import pytest
import torch
from conftest import fitted, make_net

from grmu_sk import GroupDROUnlearner
from grmu_sk.unlearners import group_dro

FORGET = [40, 41, 50]


@pytest.fixture
def steps(spy):
    """(run, batch, loss, its gradient by the net's output, weights of the groups) of each step."""

    def note(value, run, batch):
        (gradient,) = torch.autograd.grad(value, batch.output, retain_graph=True)
        return run, batch, value.item(), gradient.numpy(), run.log_q.exp().numpy()

    return spy(group_dro._RobustLoss, "loss", note)


def unlearned(table, net=None, forget=FORGET, **kwargs):
    return fitted(GroupDROUnlearner, table, net, **kwargs).unlearn(forget)


def shares_of_rows(batch, weight):
    """Of each row in its group's mean, by group and row."""
    own = (batch.g.numpy() == np.arange(4)[:, None]) * weight
    return own / np.maximum(own.sum(axis=1, keepdims=True), 1e-30)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("eta", [0.01, 2.0])
def test_steps_follow_the_rule(table, steps, eta, weighted):
    """Two requests: weights of the groups, the loss, and its gradient, not through the weights."""
    weight = np.random.default_rng(0).random(table.n).astype(np.float32) if weighted else None
    unlearned(table, make_net(batch_size=8), eta=eta, sample_weight=weight).unlearn([60])
    weights_of_runs, some_group_was_absent = {}, False
    for run, batch, loss, gradient, weights in steps:
        of_rows = weight[run.data.rows[batch.positions]] if weighted else 1.0
        p, truth = batch.output.detach().double().softmax(1).numpy(), np.eye(2)[batch.y]
        shares = shares_of_rows(batch, of_rows)
        means = shares @ -np.log((p * truth).sum(axis=1))
        q = weights_of_runs.get(run, 0.25) * np.exp(eta * means)
        q = weights_of_runs[run] = q / q.sum()
        np.testing.assert_allclose(weights, q, rtol=1e-3)
        assert loss == pytest.approx(q @ means, rel=1e-3, abs=1e-6)
        np.testing.assert_allclose(gradient, (q @ shares)[:, None] * (p - truth), atol=1e-5)
        some_group_was_absent |= (means == 0).any()
    assert len(steps) == 2 * 3 * 20 and some_group_was_absent
    assert q.max() / q.min() > 1 + 0.1 * eta


def test_groups_are_drawn_equally_often(table, row_spy):
    unlearned(table, make_net(max_epochs=60))
    drawn, groups = row_spy.drawn("retrain"), 2 * table.y + table.a
    assert len(drawn) == 60 * (table.n - len(FORGET))
    tolerance = 4 * np.sqrt(0.25 * 0.75 / len(drawn))
    np.testing.assert_allclose(np.bincount(groups[drawn]) / len(drawn), 0.25, atol=tolerance)
    assert np.ptp(np.bincount(groups)) > 0.25 * table.n, "the control: they are not equally large"
    within = np.bincount(drawn, minlength=table.n)[groups == 0]
    assert within[within > 0].min() > 0.5 * within.mean(), "rows of a group are equally probable"


def test_group_without_rows_takes_no_part(table, steps, row_spy):
    unlearned(table, forget=np.flatnonzero((table.y == 1) & (table.a == 0)), eta=0)
    for *_, weights in steps:
        np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 0, 1 / 3], rtol=1e-5)
    seen = row_spy.rows("retrain")
    assert set(2 * table.y[seen] + table.a[seen]) == {0, 1, 3}
