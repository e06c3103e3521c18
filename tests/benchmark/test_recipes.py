import gc
import math
import pickle
import weakref

import numpy as np
import pytest
import torch
from conftest import make_net, make_table, same_weights, weights_of
from skorch.callbacks import Callback
from torch.utils.data import Dataset

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.benchmark.recipes import BestEpoch, KeepBestEpoch, WarmUpSchedule


class RateSpy(Callback):
    """Records the learning rate that each training step is made with."""

    def __init__(self, rates):
        self.rates = rates

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.rates.append([group["lr"] for group in net.optimizer_.param_groups])


class Rates(list):
    """A list that survives cloning as itself."""

    def __deepcopy__(self, memo):
        return self


def rates_of_training(table, *, epochs=30, batch_size=32, schedule="cosine", warmup=2, **kwargs):
    rates = Rates()
    net = make_net(
        max_epochs=epochs,
        batch_size=batch_size,
        lr=0.2,
        callbacks=[("schedule", WarmUpSchedule(warmup, schedule)), ("spy", RateSpy(rates))],
        **kwargs,
    )
    RetrainUnlearner(net, reweight=False, random_state=0).fit(table.X, table.y)
    n_batches = math.ceil(table.n / batch_size)
    return np.array(rates).reshape(epochs, n_batches, -1), net


def test_the_rate_of_every_step_is_the_papers():
    table = make_table(100)  # four batches, the last one short
    rates = rates_of_training(table)[0][:, :, 0]
    expected = np.empty((30, 4))
    expected[:2] = (0.2 * np.arange(8) / 8).reshape(2, 4)
    expected[2:] = (0.1 * (1 + np.cos(np.pi * np.arange(28) / 28)))[:, None]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert rates[0, 0] == 0
    np.testing.assert_allclose(rates[2], 0.2)
    np.testing.assert_allclose(rates[-1] / 0.2, 0.0031, atol=5e-5)


def test_the_cosine_is_torchs():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.2)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=28)
    rates = rates_of_training(make_table(64))[0][2:, 0, 0]
    for rate in rates:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        reference.step()


def test_constant_after_warm_up():
    rates = rates_of_training(make_table(64), epochs=5, schedule="constant")[0][:, :, 0]
    np.testing.assert_allclose(rates[:2].ravel(), 0.2 * np.arange(4) / 4)
    np.testing.assert_allclose(rates[2:], 0.2)


def test_without_warm_up_the_first_step_has_the_base_rate():
    rates = rates_of_training(make_table(64), epochs=4, warmup=0)[0][:, 0, 0]
    np.testing.assert_allclose(rates, 0.1 * (1 + np.cos(np.pi * np.arange(4) / 4)))


def test_every_parameter_group_keeps_its_own_base_rate():
    rates, _ = rates_of_training(
        make_table(64), epochs=3, optimizer__param_groups=[("head*", {"lr": 0.02})]
    )
    np.testing.assert_allclose(rates[:, :, 0], 0.1 * rates[:, :, 1], rtol=1e-12)
    assert rates.max() == pytest.approx(0.2)


def test_a_second_run_starts_from_the_base_rate_again(table):
    rates = Rates()
    callbacks = [("schedule", WarmUpSchedule(1)), ("spy", RateSpy(rates))]
    net = make_net(max_epochs=4, callbacks=callbacks)
    unlearner = RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
    first = rates[: len(rates)]
    rates.clear()
    unlearner.unlearn([0])
    assert rates == first


def test_the_schedule_works_in_a_plain_skorch_net(table):
    rates = Rates()
    callbacks = [("schedule", WarmUpSchedule(1)), ("spy", RateSpy(rates))]
    net = make_net(max_epochs=3, batch_size=80, lr=0.2, callbacks=callbacks)
    net.fit(table.X, table.y.astype(np.int64))
    np.testing.assert_allclose(np.array(rates)[:, 0], [0, 0.1, 0.2, 0.2, 0.1, 0.1])


def test_epochs_of_several_phases_count_once(table):
    rates = Rates()
    callbacks = [("schedule", WarmUpSchedule(0, epochs=3)), ("spy", RateSpy(rates))]
    net = make_net(max_epochs=2, batch_size=80, lr=0.2, callbacks=callbacks)
    unlearner = MIUUnlearner(net, max_epochs=3, random_state=0).fit(table.X, table.y, table.a)
    rates.clear()
    unlearner.unlearn(np.arange(10))
    last = np.array(rates)[-2:, 0]
    np.testing.assert_allclose(last, 0.1 * (1 + np.cos(2 * np.pi / 3)))


@pytest.mark.parametrize(
    ("params", "message"),
    [({"schedule": "linear"}, "schedule must be one of"), ({"warmup_epochs": -1}, "negative")],
)
def test_bad_schedules_are_refused(table, params, message):
    net = make_net(callbacks=[("schedule", WarmUpSchedule(**params))])
    with pytest.raises(ValueError, match=message):
        RetrainUnlearner(net).fit(table.X, table.y, table.a)


# the best epoch ------------------------------------------------------------------------------


def run(table, validation, *, epochs=6, with_best=True, module_lr=0.05, X=None, **kwargs):
    best = BestEpoch(validation.X, validation.y, np.unique(table.y))
    callbacks = [("best", best.callback)] if with_best else []
    net = make_net(max_epochs=epochs, lr=module_lr, callbacks=callbacks, **kwargs)
    unlearner = RetrainUnlearner(net, reweight=False, random_state=0)
    return best, unlearner.fit(table.X if X is None else X, table.y, table.a)


@pytest.fixture
def validation():
    return make_table(60, seed=1)


def test_the_curve_is_the_accuracy_of_the_net_after_each_epoch(table, validation):
    best, _ = run(table, validation)
    # the same training, stopped earlier each time
    stopped = [run(table, validation, epochs=n, with_best=False)[1] for n in range(1, 7)]
    accuracies = [model.score(validation.X, validation.y) for model in stopped]
    assert best.curve == pytest.approx(accuracies)
    assert len(set(accuracies)) > 2
    assert best.n_epochs == 6


def test_the_best_epoch_is_kept_and_the_last_one_too(table, validation):
    best, last = run(table, validation, epochs=8, module_lr=0.3)
    assert best.kept_epoch == 1 + int(np.argmax(best.curve))
    assert best.kept_epoch < 8, "otherwise the test shows nothing"
    model = best.best_of(last)
    _, stopped = run(table, validation, epochs=best.kept_epoch, module_lr=0.3, with_best=False)
    assert same_weights(model, stopped)
    assert not same_weights(model, last)
    assert model.score(validation.X, validation.y) == pytest.approx(max(best.curve))


def test_of_equal_epochs_the_first_is_kept(table, validation):
    validation.X, validation.y = validation.X[:5], validation.y[:5]
    best, last = run(table, validation, epochs=6)
    assert best.curve.count(max(best.curve)) > 1, "otherwise the test shows nothing"
    assert best.kept_epoch == 1 + best.curve.index(max(best.curve))
    _, stopped = run(table, validation, epochs=best.kept_epoch, with_best=False)
    assert same_weights(best.best_of(last), stopped)


def test_training_does_not_notice(table, validation):
    _, with_callback = run(table, validation)
    _, without = run(table, validation, with_best=False)
    assert same_weights(with_callback, without)


def test_batch_norm_statistics_are_kept_too(image_net):
    table, validation = make_table(64, images=True), make_table(40, seed=1, images=True)
    best = BestEpoch(validation.X, validation.y, [0, 1])
    net = image_net.set_params(max_epochs=4, callbacks=[("best", best.callback)])
    last = RetrainUnlearner(net, reweight=False, random_state=0).fit(table.X, table.y)
    model = best.best_of(last)
    assert model.score(validation.X, validation.y) == pytest.approx(max(best.curve))
    buffers = dict(model.net_.module_.named_buffers())
    assert any("running_mean" in name and value.abs().sum() > 0 for name, value in buffers.items())


def test_labels_may_be_names(table, validation):
    names = np.array(["even", "odd"])
    best = BestEpoch(validation.X, names[validation.y], names)
    net = make_net(callbacks=[("best", best.callback)])
    model = RetrainUnlearner(net, reweight=False, random_state=0).fit(table.X, names[table.y])
    assert best.curve[-1] == pytest.approx(model.score(validation.X, names[validation.y]))
    assert best.curve[-1] > 0.6


def test_the_history_has_the_curve(table, validation):
    best, model = run(table, validation)
    assert model.history_[:, "validation_accuracy"] == best.curve


def test_a_second_run_begins_a_new_record(table, validation):
    best = BestEpoch(validation.X, validation.y, [0, 1])
    net = make_net(max_epochs=3, callbacks=[("best", best.callback)])
    unlearner = RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
    of_training = list(best.curve)
    unlearner.unlearn(np.arange(40))
    assert len(best.curve) == 3
    assert best.curve != of_training
    assert best.best_of(unlearner).forget_idx_.tolist() == list(range(40))


def test_epochs_of_several_phases_are_measured_once(table, validation):
    best = BestEpoch(validation.X, validation.y, [0, 1])
    net = make_net(max_epochs=2, callbacks=[("best", best.callback)])
    unlearner = MIUUnlearner(net, max_epochs=4, random_state=0).fit(table.X, table.y, table.a)
    unlearner.unlearn(np.arange(10))
    assert len(best.curve) == 4


def test_nothing_of_the_record_leaves_with_the_model(table, validation):
    marked = validation.X.copy()
    marked[0, 0] = np.float32(8.7654)
    validation.X = marked
    best, last = run(table, validation, epochs=8, module_lr=0.3)
    model = best.best_of(last)
    early = weights_of(model)[0].tobytes()
    mark = np.float32(8.7654).tobytes()
    stored = pickle.dumps(last)
    assert early in pickle.dumps(model), "the search must be able to find weights"
    assert early not in stored
    assert mark not in stored
    assert any(isinstance(cb, KeepBestEpoch) for _, cb in pickle.loads(stored).net_.callbacks)
    alive = weakref.ref(best)
    del best
    gc.collect()
    assert alive() is None, "the model keeps the record alive"


def test_a_model_whose_record_is_gone_can_be_trained_on(table, validation):
    best, model = run(table, validation)
    del best
    gc.collect()
    model.set_params(reweight=True).unlearn([0])
    assert len(model.forget_idx_) == 1
    assert "validation_accuracy" not in model.history_[-1]


class Untouchable(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        raise AssertionError("these rows must not be read")


def test_only_validation_rows_are_read(table, validation):
    best = BestEpoch(Untouchable(), validation.y, [0, 1])
    net = make_net(callbacks=[("best", best.callback)])
    with pytest.raises(AssertionError, match="must not be read"):
        RetrainUnlearner(net, reweight=False).fit(table.X, table.y)


def test_asking_before_training_says_so(table, validation):
    _, model = run(table, validation, with_best=False)
    best = BestEpoch(validation.X, validation.y, [0, 1])
    with pytest.raises(ValueError, match="No epoch was recorded"):
        best.best_of(model)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((2, 4)), [0, 1, 0], "X has 2 rows and y has 3"),
        (np.zeros((0, 4)), [], "at least one"),
        (np.zeros((2, 4)), [0, 7], r"Validation row 1 has the label 7.*\[0, 1\]"),
        (np.zeros((2, 4)), [-1, 0], "Validation row 0 has the label -1"),
    ],
)
def test_bad_validation_rows_are_refused(X, y, message):
    with pytest.raises(ValueError, match=message):
        BestEpoch(X, np.array(y, dtype=int), [0, 1])
