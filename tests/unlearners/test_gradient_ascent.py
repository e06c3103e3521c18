import numpy as np
import pytest
from conftest import make_net, make_table
from softmax_regression import SoftmaxRegression, linear_net, losses_of

from grmu_sk import GradientAscentUnlearner

FORGET = [40, 41, 50, 60, 61]


def climb_by_hand(model, X, y, epochs, lr, max_loss=np.inf):
    losses = []
    for _ in range(epochs):
        losses.append(model.loss(X, y))
        if losses[-1] <= max_loss:
            g_W, g_b = model.gradient(X, y)
            model.step(lr, (-g_W, -g_b))
    return losses


@pytest.mark.parametrize("max_loss", [None, 1.0])
def test_each_epoch_is_a_step_up(max_loss):
    """Without momentum and decay a bound ends the climb: the weights stand still after it."""
    table = make_table(n_classes=3)
    net = linear_net(module__n_classes=3, max_epochs=30)
    unlearner = GradientAscentUnlearner(net, max_epochs=12, max_loss=max_loss, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    by_hand = SoftmaxRegression(unlearner)
    unlearner.unlearn(FORGET)
    bound = np.inf if max_loss is None else max_loss
    losses = climb_by_hand(by_hand, table.X[FORGET], table.y[FORGET], 12, 0.1, bound)
    by_hand.assert_is(unlearner)
    recorded = -np.array(losses_of(unlearner, "forget"))
    np.testing.assert_allclose(recorded, np.minimum(losses, bound), rtol=1e-4)
    assert losses[0] < 1.0 < losses[-1], "the bound must be met on the way"
    assert (losses[-1] == losses[-2]) == (max_loss is not None)


def test_bound_keeps_pure_ascent_from_ruining_the_net(table):
    scores = {}
    for max_loss in (None, np.log(2)):
        unlearner = GradientAscentUnlearner(
            make_net(lr=0.2), max_epochs=30, max_loss=max_loss, random_state=0
        ).fit(table.X, table.y, table.a)
        before = unlearner.score(table.X, table.y)
        scores[max_loss] = unlearner.unlearn(FORGET).score(table.X, table.y)
    assert scores[None] < before - 0.1
    assert scores[np.log(2)] > scores[None]


def test_remaining_rows_are_not_read(table, row_spy):
    unlearner = GradientAscentUnlearner(make_net(), max_epochs=2, batch_size=2, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    row_spy.clear()
    unlearner.unlearn(FORGET)
    assert row_spy.rows("forget").tolist() == FORGET
    assert [len(rows) for phase, rows in row_spy.seen if phase == "forget"] == [2, 2, 1] * 2
    assert unlearner.net_.batch_size == 32
