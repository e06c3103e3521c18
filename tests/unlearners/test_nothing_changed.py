import numpy as np
import pytest
import torch
from conftest import fitted, make_net, make_table
from skorch import NeuralNetClassifier

from grmu_sk import (
    FineTuneUnlearner,
    InfluenceUnlearner,
    MIUUnlearner,
    RandomLabelUnlearner,
)
from grmu_sk.rows import TrainingRows
from grmu_sk.training import Phase, train

SAID = "may have forgotten nothing"


@pytest.fixture(scope="module")
def coins():
    """Labels that can only be known by heart."""
    table = make_table(200)
    rng = np.random.default_rng(0)
    table.X, table.y = rng.normal(size=(200, 20)).astype(np.float32), rng.integers(2, size=200)
    return table


def unlearned(method, coins, n_rows=40, **params):
    net = make_net(module__n_features=20, module__hidden=(64,), max_epochs=60)
    unlearner = fitted(method, coins, net, **params)
    rows = np.flatnonzero((coins.y == 1) & (coins.a == 1))[:n_rows]
    assert (unlearner.predict(coins.X[rows]) == 1).all()
    unlearner.unlearn(rows)
    return (unlearner.predict(coins.X[rows]) == 1).mean()


def test_rows_known_by_heart_before_and_after(coins):
    with pytest.warns(UserWarning, match=f"{SAID}: the net is still right on each of the 40"):
        assert unlearned(MIUUnlearner, coins, lr=0.02, max_epochs=3) == 1


def test_few_rows_and_no_effect(coins):
    tiny = {"alpha": 1e-6, "n_fisher": 10}
    with pytest.warns(UserWarning, match=f"{SAID}: .*says of the forgotten rows what"):
        unlearned(InfluenceUnlearner, coins, 3, **tiny)
    with pytest.warns(UserWarning, match=f"{SAID}: all weights are what"):
        unlearned(FineTuneUnlearner, coins, 3, lr=0.0)


@pytest.mark.parametrize(("method", "n_rows"), [(RandomLabelUnlearner, 40), (FineTuneUnlearner, 3)])
def test_no_false_alarm(coins, method, n_rows):
    """A method that forgets, and too few rows to tell: a warning would be an error here."""
    assert (unlearned(method, coins, n_rows) < 1) == (method is RandomLabelUnlearner)


class EveryFourth(NeuralNetClassifier):
    """Collects gradients over four batches, as skorch's documentation shows it."""

    def train_step(self, batch, **fit_params):
        self._set_training(True)
        X, y = batch
        y_pred = self.infer(X, **fit_params)
        loss = self.get_loss(y_pred, y, X=X, training=True)
        loss.backward()
        if len(self.history[-1, "batches"]) % 4 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return {"loss": loss, "y_pred": y_pred}


@pytest.mark.parametrize("n_batches", [4, 6])
def test_a_phase_ends_with_a_step_and_without_gradients(table, n_batches):
    net = EveryFourth(**make_net(batch_size=10).get_params(deep=False)).initialize()
    n_steps = []
    net.optimizer_.register_step_post_hook(lambda *_: n_steps.append(1))
    g = torch.zeros(table.n, dtype=torch.long)
    data = TrainingRows(table.X, torch.as_tensor(table.y), g, np.arange(table.n))
    phases = [Phase("none", data.rows[:0]), Phase("some", data.rows[: 10 * n_batches])]
    train(net, data, phases, epochs=2)
    assert net.history[:, "phase"] == ["some"] * 2, "a phase without rows is left out"
    assert len(n_steps) == 2 * -(-n_batches // 4)
    assert all(weight.grad is None for weight in net.module_.parameters())
