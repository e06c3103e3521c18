"""The lean steps do what skorch's own do: same numbers, same history, same callbacks."""

import numpy as np
import pytest
import torch
from conftest import make_net, training_rows
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EpochScoring, GradientNormClipping
from torch import nn

from grmu_sk.nets import MLP
from grmu_sk.training import Phase, train

HOOKS = ("on_batch_begin", "on_grad_computed", "on_batch_end")
CALLS = []


class Overrides(NeuralNetClassifier):
    """A net that overrides every step without changing it, so that skorch's own code runs."""

    def run_single_epoch(self, *args, **kwargs):
        CALLS.append("epoch")
        return super().run_single_epoch(*args, **kwargs)

    def train_step(self, batch, **kwargs):
        CALLS.append("step")
        return super().train_step(batch, **kwargs)

    def notify(self, *args, **kwargs):
        return super().notify(*args, **kwargs)


def trained(table, kind=NeuralNetClassifier, module=MLP, **kwargs):
    torch.manual_seed(0)
    net = kind(**make_net(module, **kwargs).get_params(deep=False)).initialize()
    torch.manual_seed(7)
    return train(net, training_rows(table), [Phase("fit", np.arange(table.n))], epochs=2)


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


class FrozenNorm(WithDropout):
    """A layer of it stays in evaluation mode."""

    def train(self, mode=True):
        super().train(mode)
        self.layers[1].eval()
        return self


class LeaveDropout(Callback):
    """Switches a layer to evaluation, which the next step switches back."""

    def on_batch_end(self, net, **kwargs):
        net.module_.layers[3].eval()


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


NETS = {
    "dropout and normalisation": {"module": WithDropout},
    "frozen statistics": {"module": FrozenNorm},
    "left in evaluation": {"module": WithDropout, "callbacks": [LeaveDropout()]},
    "LBFGS": {"optimizer": torch.optim.LBFGS, "lr": 0.1},  # asks for several gradients a step
    "clipping": {"callbacks": [GradientNormClipping(0.01)]},
    "training accuracy": {"callbacks": [EpochScoring("accuracy", name="acc", on_train=True)]},
    "all events": {"callbacks": [("told", Told())]},
    "one event": {"callbacks": [("told", Told(HOOKS[1:2]))]},
}


@pytest.mark.parametrize("name", NETS)
def test_numbers_history_and_events_are_those_of_skorchs_own_code(table, name):
    CALLS.clear()
    nets = [trained(table, kind, **NETS[name]) for kind in (NeuralNetClassifier, Overrides)]
    assert (CALLS.count("epoch"), CALLS.count("step")) == (2, 10), "what is overridden is called"
    assert same(*nets)
    histories = [[{**row, "dur": 0} for row in net.history] for net in nets]
    assert histories[0] == histories[1]
    if "event" in name:
        heard = [dict(net.callbacks_)["told"].heard_ for net in nets]
        assert heard[0] == heard[1]
        assert len(heard[0]) == 10 * (3 if name == "all events" else 1)
