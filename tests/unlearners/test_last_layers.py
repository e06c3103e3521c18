"""CF-k and EU-k, which differ in where the last layers start from."""

import pytest
import torch
from conftest import fitted, make_net, make_table, state_of
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from grmu_sk import CFkUnlearner, EUkUnlearner
from grmu_sk.net_copies import fresh_net
from grmu_sk.nets import SmallCNN
from grmu_sk.unlearners import last_layers as last_layers_module
from grmu_sk.unlearners.last_layers import last_layers

FORGET = [40, 41, 50, 60, 61]
both = pytest.mark.parametrize("method", [CFkUnlearner, EUkUnlearner])


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture
def starts(spy):
    """The state with which each unlearning run starts to train."""
    return spy(last_layers_module, "_freeze_others", lambda _, net, layers: state_of(net))


@both
@pytest.mark.parametrize(("k", "first"), [(1, "head"), (2, "features.8"), (4, "features.0")])
def test_frozen_part_is_frozen_to_the_last_bit(method, k, first):
    """Weights and BatchNorm's statistics, in spite of weight decay and momentum."""
    images = make_table(n_rows=96, images=True)
    net = make_net(SmallCNN, module__width=4, optimizer__weight_decay=0.1)
    unlearner = fitted(method, images, net, k=k, max_epochs=2)
    before = state_of(unlearner.net_)
    names = list(before)
    trained = names[names.index(f"{first}.weight") :]
    assert changed(before, state_of(unlearner.unlearn(FORGET).net_)) == set(trained)
    assert any("running_mean" in name for name in trained) == (k > 1)
    for net in (unlearner.net_, fresh_net(unlearner.net_)):  # the next training is not frozen
        assert all(parameter.requires_grad for parameter in net.module_.parameters())
        assert not any(sub._forward_pre_hooks for sub in net.module_.modules())


class OutOfOrder(nn.Module):
    """Listed in another order than run; attention's output projection never runs by itself."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.head = nn.Linear(4, 2)
        self.attention = nn.MultiheadAttention(4, 1, batch_first=True)
        self.norm = nn.LayerNorm(4)
        self.first = nn.Linear(1, 4)

    def forward(self, X):
        z = self.norm(self.first(X[:, :, None])) * self.scale
        return self.head(self.attention(z, z, z, need_weights=False)[0].mean(dim=1))


def test_layers_are_counted_in_running_order(table):
    net = make_net(OutOfOrder).initialize()
    X = torch.as_tensor(table.X[:2])
    assert last_layers(net, X, 1) == ["head"]
    attention = ["attention", "attention.out_proj"]
    assert last_layers(net, X, 2) == ["head", *attention]
    assert last_layers(net, X, 3) == ["", "head", *attention, "norm", "first"]
    unlearner = fitted(EUkUnlearner, table, make_net(OutOfOrder), k=2, max_epochs=1)
    before = state_of(unlearner.net_)
    frozen = {"scale", "norm.weight", "norm.bias", "first.weight", "first.bias"}
    assert changed(before, state_of(unlearner.unlearn(FORGET).net_)) == set(before) - frozen


class WithHead(nn.Module):
    """A net whose last layer holds, or is followed by, more than a weight and a bias."""

    def __init__(self, kind):
        super().__init__()
        wrap = {"weight_norm": weight_norm, "spectral_norm": spectral_norm}.get(kind, nn.Sequential)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = wrap(nn.Linear(8, 2))
        self.after = nn.PReLU(2) if kind == "slope" else nn.Identity()
        self.shift = nn.Parameter(torch.randn(2)) if kind == "shift" else 0

    def forward(self, X):
        return self.after(self.head(self.body(X))) + self.shift


@pytest.mark.parametrize("kind", ["weight_norm", "spectral_norm", "slope", "shift"])
def test_a_head_is_one_layer_with_all_that_belongs_to_it(table, kind, starts):
    net = make_net(WithHead, module__kind=kind, optimizer__weight_decay=0.1)
    unlearner = fitted(EUkUnlearner, table, net, max_epochs=2)
    before = state_of(unlearner.net_)
    with pytest.raises(ValueError, match="k must lie between 1 and 2"):
        last_layers(unlearner.net_, torch.as_tensor(table.X[:2]), 3)
    of_head = set(before) - {"body.0.weight", "body.0.bias"}
    assert changed(before, state_of(unlearner.unlearn(FORGET).net_)) == of_head
    assert changed(before, starts[0]) == of_head
