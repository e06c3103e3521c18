import numpy as np
import pytest
import torch
from conftest import make_net
from torch import nn

from grmu_sk import GroupDROUnlearner
from grmu_sk.unlearners import group_dro

FORGET = [40, 41, 50]


@pytest.fixture
def steps(monkeypatch):
    """(run, batch, loss, weights of the groups) of every step."""
    taken = []
    original = group_dro._RobustLoss.loss

    def loss(self, batch):
        value = original(self, batch)
        taken.append((self, batch, value, self.log_q.exp().numpy()))
        return value

    monkeypatch.setattr(group_dro._RobustLoss, "loss", loss)
    return taken


def unlearned(table, net=None, forget=FORGET, sample_weight=None, **kwargs):
    unlearner = GroupDROUnlearner(make_net() if net is None else net, random_state=0, **kwargs)
    unlearner.fit(table.X, table.y, table.a, sample_weight=sample_weight)
    return unlearner.unlearn(forget)


def numpy_group_means(batch, weight=None):
    logits, y, g = batch.output.detach().numpy().astype(float), batch.y.numpy(), batch.g.numpy()
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    weight = np.ones(len(y)) if weight is None else weight
    return np.array(
        [
            np.average(losses[g == group], weights=weight[g == group]) if (g == group).any() else 0
            for group in range(4)
        ]
    )


@pytest.mark.parametrize("eta", [0.01, 2.0])
def test_weights_and_loss_follow_the_rule(table, steps, eta):
    unlearned(table, make_net(batch_size=8), eta=eta)
    q = np.full(4, 0.25)
    some_group_was_absent = False
    for _, batch, loss, weights in steps:
        means = numpy_group_means(batch)
        q = q * np.exp(eta * means)
        q /= q.sum()
        np.testing.assert_allclose(weights, q, rtol=1e-3)
        assert loss.item() == pytest.approx(q @ means, rel=1e-3)
        some_group_was_absent |= (means == 0).any()
    assert len(steps) == 3 * 20
    assert some_group_was_absent
    assert q.max() / q.min() > 1 + 0.1 * eta


def test_gradient_does_not_flow_through_the_weights(table, steps):
    unlearned(table, make_net(max_epochs=1), eta=5.0)
    _, batch, loss, weights = steps[0]
    assert loss.requires_grad
    by_row = nn.functional.cross_entropy(batch.output.detach(), batch.y, reduction="none")
    assert by_row.shape == batch.g.shape
    logits = batch.output.detach().clone().requires_grad_()
    losses = nn.functional.cross_entropy(logits, batch.y, reduction="none")
    share = torch.as_tensor(weights)[batch.g] / torch.bincount(batch.g, minlength=4)[batch.g]
    (share * losses).sum().backward()
    expected = (share[:, None] * (batch.output.detach().softmax(1))).numpy()
    expected[np.arange(len(share)), batch.y] -= share.numpy()
    np.testing.assert_allclose(logits.grad, expected, atol=1e-6)


def test_huge_step_takes_the_worst_group_and_stays_finite(table, steps):
    unlearned(table, eta=1e6)
    _, batch, loss, weights = steps[0]
    means = numpy_group_means(batch)
    assert weights[means.argmax()] == pytest.approx(1)
    assert loss.item() == pytest.approx(means.max(), rel=1e-5)


def test_each_request_starts_from_equal_weights(table, steps):
    unlearner = unlearned(table, eta=1.0)
    n_first = len(steps)
    unlearner.unlearn([60])
    run, batch, _, weights = steps[n_first]
    assert run is not steps[0][0]
    q = np.exp(numpy_group_means(batch))
    np.testing.assert_allclose(weights, q / q.sum(), rtol=1e-4)


def test_groups_are_drawn_equally_often(table, row_spy):
    unlearned(table, make_net(max_epochs=60))
    drawn = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retrain"])
    assert len(drawn) == 60 * (table.n - len(FORGET))
    groups = 2 * table.y + table.a
    tolerance = 4 * np.sqrt(0.25 * 0.75 / len(drawn))
    np.testing.assert_allclose(np.bincount(groups[drawn]) / len(drawn), 0.25, atol=tolerance)
    assert np.ptp(np.bincount(groups)) > 0.25 * table.n, "the control: they are not equally large"
    within = np.bincount(drawn, minlength=table.n)[groups == 0]
    assert within[within > 0].min() > 0.5 * within.mean(), "rows of a group are equally probable"


def test_group_without_rows_takes_no_part(table, steps, row_spy):
    group = np.flatnonzero((table.y == 1) & (table.a == 0))
    unlearned(table, forget=group, eta=0)
    for *_, weights in steps:
        np.testing.assert_allclose(weights, [1 / 3, 1 / 3, 0, 1 / 3], rtol=1e-5)
    seen = row_spy.rows("retrain")
    assert set(2 * table.y[seen] + table.a[seen]) == {0, 1, 3}


def test_sample_weight_makes_weighted_means(table, steps):
    sample_weight = np.random.default_rng(0).random(table.n).astype(np.float32)
    unlearned(table, sample_weight=sample_weight, eta=1.0)
    run, batch, loss, weights = steps[0]
    rows = run.data.rows[batch.positions]
    means = numpy_group_means(batch, sample_weight[rows])
    q = np.exp(means) / np.exp(means).sum()
    np.testing.assert_allclose(weights, q, rtol=1e-4)
    assert loss.item() == pytest.approx(q @ means, rel=1e-4)
    assert not np.allclose(means, numpy_group_means(batch))


def test_criterion_is_left_as_it_was(table):
    unlearner = unlearned(table)
    assert unlearner.net_.criterion_.reduction == "mean"
    other = unlearned(table, make_net(criterion__reduction="sum"))
    assert other.net_.criterion_.reduction == "sum"


def test_class_weights_divide_a_groups_mean_as_torch_does(table, steps):
    weight = torch.tensor([1.0, 19.0])
    unlearned(table, make_net(criterion__weight=weight, batch_size=64), eta=0.0)
    _, batch, loss, _ = steps[0]
    means = [
        nn.functional.cross_entropy(batch.output[batch.g == g], batch.y[batch.g == g], weight)
        for g in range(4)
    ]
    assert loss.item() == pytest.approx(sum(means).item() / 4, rel=1e-5)


def test_cost_of_a_step_does_not_grow_with_groups(table, monkeypatch):
    sizes = []
    one_hot = nn.functional.one_hot

    def watched(numbers, n_numbers):
        sizes.append(n_numbers)
        return one_hot(numbers, n_numbers)

    monkeypatch.setattr(nn.functional, "one_hot", watched)
    table.a = np.arange(table.n) // 4
    unlearned(table, make_net(batch_size=8, max_epochs=1), forget=[40])
    assert len(sizes) == 20
    assert max(sizes) <= 8
