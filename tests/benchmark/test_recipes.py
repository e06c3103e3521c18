import pickle

import numpy as np
import pytest
from conftest import make_net, make_table, same_weights, weights_of

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.benchmark.recipes import BestEpoch, WarmUpSchedule


@pytest.fixture
def rates(spy):
    """The learning rates that each training step is made with."""

    def note(_, schedule, net, **kwargs):
        return [group["lr"] for group in net.optimizer_.param_groups]

    return spy(WarmUpSchedule, "on_batch_begin", note)


def scheduled_net(schedule, **kwargs):
    return make_net(lr=0.2, callbacks=[("schedule", schedule)], **kwargs)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_rate_of_every_step_is_the_papers(schedule, rates):
    options = {
        "max_epochs": 30,
        "batch_size": 32,
        "optimizer__param_groups": [("head*", {"lr": 0.02})],
    }
    net, table = scheduled_net(WarmUpSchedule(2, schedule), **options), make_table(100)
    RetrainUnlearner(net, reweight=False, random_state=0).fit(table.X, table.y)
    expected = np.full((30, 4), 0.2)  # four batches, the last one short
    expected[:2] = (0.2 * np.arange(8) / 8).reshape(2, 4)
    if schedule == "cosine":
        expected[2:] = (0.1 * (1 + np.cos(np.pi * np.arange(28) / 28)))[:, None]
    head, others = np.array(rates).T
    np.testing.assert_allclose(others, expected.ravel(), rtol=1e-12)
    np.testing.assert_allclose(head, 0.1 * expected.ravel(), rtol=1e-12)


def test_a_second_run_starts_from_the_base_rate_and_phases_of_an_epoch_count_once(table, rates):
    net = scheduled_net(WarmUpSchedule(1), max_epochs=4)
    unlearner = RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
    first = rates[:]
    rates.clear()
    unlearner.unlearn([0])
    assert rates == first
    net = scheduled_net(WarmUpSchedule(0, epochs=3), max_epochs=2, batch_size=80)
    unlearner = MIUUnlearner(net, max_epochs=3, random_state=0).fit(table.X, table.y, table.a)
    rates.clear()
    unlearner.unlearn(np.arange(10))
    np.testing.assert_allclose(np.array(rates)[-2:, 0], 0.1 * (1 + np.cos(2 * np.pi / 3)))


def run(table, validation, *, epochs=6, with_best=True, lr=0.05):
    best = BestEpoch(validation.X, validation.y, np.unique(table.y))
    callbacks = [("best", best.callback)] if with_best else []
    net = make_net(max_epochs=epochs, lr=lr, callbacks=callbacks)
    unlearner = RetrainUnlearner(net, reweight=False, random_state=0)
    return best, unlearner.fit(table.X, table.y, table.a)


@pytest.fixture
def validation():
    return make_table(60, seed=1)


def test_the_best_epoch_is_kept_and_training_does_not_notice(table, validation):
    best, last = run(table, validation, epochs=8, lr=0.3)
    # the same training, stopped earlier each time
    stopped = [run(table, validation, epochs=n, with_best=False, lr=0.3)[1] for n in range(1, 9)]
    assert best.curve == pytest.approx([m.score(validation.X, validation.y) for m in stopped])
    assert best.kept_epoch == 1 + int(np.argmax(best.curve)) < 8, "otherwise it shows nothing"
    model = best.best_of(last)
    assert same_weights(model, stopped[best.kept_epoch - 1])
    assert same_weights(last, stopped[-1]) and not same_weights(model, last)
    assert model.score(validation.X, validation.y) == pytest.approx(max(best.curve))
    assert model.history_[:, "validation_accuracy"] == best.curve
    validation.X, validation.y = validation.X[:5], validation.y[:5]
    best, _ = run(table, validation)
    assert best.curve.count(max(best.curve)) > 1, "otherwise it shows nothing"
    assert best.kept_epoch == 1 + int(np.argmax(best.curve)), "of equal ones the first"


def test_nothing_of_the_record_leaves_with_the_model(table, validation):
    validation.X[0, 0] = mark = np.float32(8.7654)
    best, last = run(table, validation, epochs=8, lr=0.3)
    early = weights_of(best.best_of(last))[0].tobytes()
    assert early in pickle.dumps(best.best_of(last)), "the search must be able to find weights"
    stored = pickle.dumps(last)
    assert early not in stored and mark.tobytes() not in stored
    again = pickle.loads(stored).set_params(reweight=True).unlearn([0])
    assert "validation_accuracy" not in again.history_[-1]
