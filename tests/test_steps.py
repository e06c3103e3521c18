"""The lean steps do what skorch's own do: same numbers, same history, same callbacks."""

import numpy as np
import pytest
import torch
from conftest import make_net, same_weights
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring, GradientNormClipping
from torch import nn
from torch.utils.data import DataLoader

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.nets import MLP
from grmu_sk.outputs import log_probabilities
from grmu_sk.rows import InputRows, TrainingRows
from grmu_sk.steps import evaluation_step, train_step
from grmu_sk.training import Phase, forward, train

HOOKS = ("on_batch_begin", "on_grad_computed", "on_batch_end")


def training_rows(table):
    g = torch.as_tensor(table.a + 2 * table.y)
    return TrainingRows(table.X, torch.as_tensor(table.y), g, np.arange(table.n))


def with_own_methods(net_class=NeuralNetClassifier):
    """A net that overrides every step without changing it, so that skorch's own code runs."""

    class Overrides(net_class):
        def run_single_epoch(self, *args, **kwargs):
            return super().run_single_epoch(*args, **kwargs)

        def train_step(self, batch, **kwargs):
            return super().train_step(batch, **kwargs)

        def evaluation_step(self, batch, training=False):
            return super().evaluation_step(batch, training=training)

        def notify(self, *args, **kwargs):
            return super().notify(*args, **kwargs)

    return Overrides


def initialized(net_class=NeuralNetClassifier, module=MLP, **kwargs):
    net = make_net(module, **kwargs)
    torch.manual_seed(0)
    return net_class(**net.get_params(deep=False)).initialize()


def trained(net, table, epochs=2):
    torch.manual_seed(7)
    return train(net, training_rows(table), [Phase("fit", np.arange(table.n))], epochs=epochs)


def history_of(net):
    return [{key: value for key, value in row.items() if key != "dur"} for row in net.history]


class WithDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)
        )

    def forward(self, X):
        return self.layers(X)


NETS = {
    "plain": {},
    "dropout and normalisation": {"module": WithDropout},
    "Adam": {"optimizer": torch.optim.Adam, "lr": 0.01},
    "LBFGS": {"optimizer": torch.optim.LBFGS, "lr": 0.1},  # asks for several gradients a step
    "clipping": {"callbacks": [GradientNormClipping(0.01)]},
    "training accuracy": {"callbacks": [EpochScoring("accuracy", name="acc", on_train=True)]},
}


@pytest.mark.parametrize("name", NETS)
def test_numbers_and_history_are_those_of_skorchs_own_code(table, name):
    lean = trained(initialized(**NETS[name]), table)
    own = trained(initialized(with_own_methods(), **NETS[name]), table)
    for ours, theirs in zip(lean.module_.parameters(), own.module_.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert history_of(lean) == history_of(own)
    data = InputRows(table.X)
    scores = [forward(net, data, lambda output: output) for net in (lean, own)]
    assert torch.equal(*scores)


CRITERIA = {
    "logits": {"criterion": nn.CrossEntropyLoss},
    "probabilities": {"criterion": nn.NLLLoss, "predict_nonlinearity": None},
    "own nonlinearity": {"predict_nonlinearity": lambda scores: torch.softmax(scores / 2, dim=1)},
    "one logit": {"criterion": nn.BCEWithLogitsLoss, "module__n_classes": 1},
}


@pytest.mark.parametrize("batch_size", [7, 32, 33, 1_000])
@pytest.mark.parametrize("name", CRITERIA)
def test_probabilities_are_those_of_each_batch_by_itself(name, batch_size):
    """Logits become probabilities once for all rows, which has to make no difference."""
    X = np.random.default_rng(0).normal(size=(501, 4)).astype(np.float32)
    net = initialized(**CRITERIA[name])
    unlearner = RetrainUnlearner(FrozenEstimator(net.set_params(batch_size=batch_size)))
    unlearner.fit(X, np.arange(501) % 2)
    module = unlearner.net_.module_.eval()
    with torch.no_grad():
        parts = [
            log_probabilities(unlearner.net_, module(rows.clone()))
            for rows in torch.as_tensor(X).split(batch_size)
        ]
    np.testing.assert_array_equal(unlearner.predict_log_proba(X), torch.cat(parts))


def test_whole_requests_are_those_of_skorchs_own_code(table):
    unlearners = []
    for net_class in (NeuralNetClassifier, with_own_methods()):
        net = net_class(**make_net().get_params(deep=False))
        options = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "random_state": 0}
        unlearner = MIUUnlearner(net, **options).fit(table.X, table.y, table.a)
        unlearners.append(unlearner.unlearn([40, 41, 50]).unlearn([60]))
    assert same_weights(*unlearners)


class Told(Callback):
    """Records every event of a batch and what came with it."""

    def __init__(self, hooks=HOOKS):
        self.hooks = hooks

    def initialize(self):
        self.heard_ = []
        for hook in self.hooks:
            setattr(self, hook, lambda net, hook=hook, **kwargs: self.hear(net, hook, kwargs))
        return self

    def hear(self, net, hook, told):
        names = [name for name, _ in told.get("named_parameters", ())]
        loss = None if "loss" not in told else told["loss"].item()
        n_batches = len(net.history[-1, "batches"])
        self.heard_.append((hook, sorted(told), names, loss, told["batch"][1].tolist(), n_batches))


def heard_by(net):
    return [event for _, callback in net.callbacks_ for event in getattr(callback, "heard_", [])]


@pytest.mark.parametrize("hooks", [HOOKS, *((hook,) for hook in HOOKS)])
def test_callbacks_hear_what_skorch_tells_them(table, hooks):
    nets = [
        trained(initialized(net_class, callbacks=[("told", Told(hooks))]), table)
        for net_class in (NeuralNetClassifier, with_own_methods())
    ]
    heard, by_skorch = map(heard_by, nets)
    assert heard == by_skorch
    assert len(heard) == 2 * 5 * len(hooks)


class Quiet(Callback):
    """Counts how often it is looked at for an event it does not listen to."""

    looked_at = 0

    def __getattribute__(self, name):
        if name in HOOKS:
            Quiet.looked_at += 1
        return super().__getattribute__(name)


def test_events_nobody_listens_to_are_not_sent(table):
    Quiet.looked_at = 0
    trained(initialized(callbacks=[Quiet()]), table)
    assert Quiet.looked_at == 0
    trained(initialized(with_own_methods(), callbacks=[Quiet()]), table)
    assert Quiet.looked_at == 2 * 5 * 3


@pytest.mark.parametrize("method", ["run_single_epoch", "train_step", "train_step_single"])
def test_an_overridden_step_is_called(table, method):
    calls = []

    def own(self, *args, **kwargs):
        calls.append(method)
        return getattr(NeuralNetClassifier, method)(self, *args, **kwargs)

    trained(initialized(type("Net", (NeuralNetClassifier,), {method: own})), table, epochs=1)
    assert len(calls) == (1 if method == "run_single_epoch" else 5)


def test_layer_that_left_training_mode_is_put_back(table):
    class Leave(Callback):
        def on_batch_end(self, net, **kwargs):
            net.module_.layers[3].eval()

    left = trained(initialized(module=WithDropout, callbacks=[Leave()]), table)
    stayed = trained(initialized(module=WithDropout), table)
    for one, other in zip(left.module_.parameters(), stayed.module_.parameters(), strict=True):
        assert torch.equal(one, other)


def test_layer_with_its_own_idea_of_training_keeps_it(table):
    class Frozen(WithDropout):
        def train(self, mode=True):
            super().train(mode)
            self.layers[1].eval()
            return self

    net = trained(initialized(module=Frozen), table)
    assert net.module_.layers[1].running_mean.abs().max() == 0
    assert trained(initialized(module=WithDropout), table).module_.layers[1].running_mean.any()


def test_mode_of_evaluation_and_of_training(table):
    net = initialized(module=WithDropout)
    X = torch.as_tensor(table.X[:8])
    assert not evaluation_step(net)(X).requires_grad
    assert not net.module_.layers[3].training
    train_step(net)((X, torch.as_tensor(table.y[:8])))
    assert all(layer.training for layer in net.module_.modules())
    assert evaluation_step(net, training=True)(X).requires_grad


class OwnLoader(DataLoader):
    used = 0

    def __iter__(self):
        OwnLoader.used += 1
        return super().__iter__()


def test_rows_come_in_the_same_order_through_a_loader(table):
    """A loader draws a seed for its workers, which moves the generator on."""
    OwnLoader.used = 0
    through_loader = trained(initialized(iterator_train=OwnLoader), table)
    assert OwnLoader.used == 2
    here = trained(initialized(), table)
    assert OwnLoader.used == 2
    for one, other in zip(
        through_loader.module_.parameters(), here.module_.parameters(), strict=True
    ):
        assert torch.equal(one, other)
