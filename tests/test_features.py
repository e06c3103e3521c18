import pytest
import torch
from conftest import make_net
from torch import nn

from grmu_sk import MIUUnlearner
from grmu_sk.outputs import FeatureTap, find_feature_layer


class Reordered(nn.Module):
    """The layer listed last runs first."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())

    def forward(self, X):
        return self.head(self.body(X))


class Convolutional(nn.Module):
    """A head without a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.classify = nn.Conv2d(6, 2, 1)

    def forward(self, X):
        return self.classify(self.stem(X)).mean((2, 3))


def test_tap_reads_input_or_output():
    net = make_net(Reordered).initialize()
    X = torch.randn(5, 4)
    assert find_feature_layer(net, X) == ("head", "input")  # the last to run, not to be listed
    taps = FeatureTap(net, "head", "input"), FeatureTap(net, "body", "output")
    net.evaluation_step((X, None))
    expected = net.module_.body(X)
    # this call went past the tap on the body again; the one on the head saw only the first
    torch.testing.assert_close(taps[0].read(), expected.detach())
    torch.testing.assert_close(taps[1].read(), expected)
    for tap in taps:
        tap.close()
    net.evaluation_step((X, None))
    with pytest.raises(RuntimeError, match="No forward pass"):
        taps[0].read()


def test_net_without_linear_head_is_refused_before_training(table):
    images = torch.randn(160, 3, 8, 8)
    unlearner = MIUUnlearner(make_net(Convolutional))
    with pytest.raises(ValueError, match=r"no linear layer.*feature_layer.*stem, classify"):
        unlearner.fit(images, table.y, table.a)
    assert not hasattr(unlearner, "net_")
    short = {"max_epochs": 2, "tune_updates": (2, 1)}
    named = MIUUnlearner(make_net(Convolutional), feature_layer="stem", **short)
    named.fit(images, table.y, table.a).unlearn([40])
