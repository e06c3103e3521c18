"""The lean steps do what skorch's own do: same numbers, same history, same callbacks."""

import numpy as np
import pytest
import torch
from conftest import make_net, training_rows
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring, GradientNormClipping
from torch import nn

from grmu_sk.nets import MLP
from grmu_sk.rows import InputRows
from grmu_sk.steps import evaluation_step, train_step
from grmu_sk.training import Phase, forward, train

HOOKS = ("on_batch_begin", "on_grad_computed", "on_batch_end")


class Overrides(NeuralNetClassifier):
    """A net that overrides every step without changing it, so that skorch's own code runs."""

    def run_single_epoch(self, *args, **kwargs):
        return super().run_single_epoch(*args, **kwargs)

    def train_step(self, batch, **kwargs):
        return super().train_step(batch, **kwargs)

    def evaluation_step(self, batch, training=False):
        return super().evaluation_step(batch, training=training)

    def notify(self, *args, **kwargs):
        return super().notify(*args, **kwargs)


KINDS = (NeuralNetClassifier, Overrides)


def initialized(net_class=NeuralNetClassifier, module=MLP, **kwargs):
    net = make_net(module, **kwargs)
    torch.manual_seed(0)
    return net_class(**net.get_params(deep=False)).initialize()


def trained(net, table, epochs=2):
    torch.manual_seed(7)
    return train(net, training_rows(table), [Phase("fit", np.arange(table.n))], epochs=epochs)


def same(one, other):
    return all(map(torch.equal, one.module_.parameters(), other.module_.parameters()))


class WithDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2)
        )

    def forward(self, X):
        return self.layers(X)


NETS = {
    "dropout and normalisation": {"module": WithDropout},
    "LBFGS": {"optimizer": torch.optim.LBFGS, "lr": 0.1},  # asks for several gradients a step
    "clipping": {"callbacks": [GradientNormClipping(0.01)]},
    "training accuracy": {"callbacks": [EpochScoring("accuracy", name="acc", on_train=True)]},
}


@pytest.mark.parametrize("name", NETS)
def test_numbers_and_history_are_those_of_skorchs_own_code(table, name):
    nets = [trained(initialized(kind, **NETS[name]), table) for kind in KINDS]
    assert same(*nets)
    histories = [[{**row, "dur": 0} for row in net.history] for net in nets]
    assert histories[0] == histories[1]
    scores = [forward(net, InputRows(table.X), lambda output: output) for net in nets]
    assert torch.equal(*scores)


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


@pytest.mark.parametrize("hooks", [HOOKS, *((hook,) for hook in HOOKS)])
def test_callbacks_hear_what_skorch_tells_them(table, hooks):
    heard = []
    for kind in KINDS:
        net = trained(initialized(kind, callbacks=[("told", Told(hooks))]), table)
        heard.append(dict(net.callbacks_)["told"].heard_)
    assert heard[0] == heard[1]
    assert len(heard[0]) == 2 * 5 * len(hooks)


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
    assert same(left, trained(initialized(module=WithDropout), table))


def test_layer_with_its_own_idea_of_training_keeps_it(table):
    class Frozen(WithDropout):
        def train(self, mode=True):
            super().train(mode)
            self.layers[1].eval()
            return self

    net = trained(initialized(module=Frozen), table)
    assert net.module_.layers[1].running_mean.abs().max() == 0


def test_mode_of_evaluation_and_of_training(table):
    net = initialized(module=WithDropout)
    X = torch.as_tensor(table.X[:8])
    assert not evaluation_step(net)(X).requires_grad
    assert not net.module_.layers[3].training
    train_step(net)((X, torch.as_tensor(table.y[:8])))
    assert all(layer.training for layer in net.module_.modules())
    assert evaluation_step(net, training=True)(X).requires_grad
