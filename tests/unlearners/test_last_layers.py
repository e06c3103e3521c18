"""CF-k and EU-k, which differ in where the last layers start from."""

import numpy as np
import pytest
import torch
from conftest import make_net, make_table
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from grmu_sk import CFkUnlearner, EUkUnlearner
from grmu_sk.nets import MLP, SmallCNN
from grmu_sk.training import fresh_net
from grmu_sk.unlearners.approximate import ApproximateUnlearner
from grmu_sk.unlearners.last_layers import last_layers

FORGET = [40, 41, 50, 60, 61]
both = pytest.mark.parametrize("method", [CFkUnlearner, EUkUnlearner])


def state(unlearner):
    return {k: v.clone() for k, v in unlearner.net_.module_.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def decaying(module=SmallCNN, **kwargs):
    return make_net(module, optimizer__weight_decay=0.1, **kwargs)


@both
@pytest.mark.parametrize(
    ("k", "first"), [(1, "head"), (2, "features.8"), (3, "features.4"), (4, "features.0")]
)
def test_frozen_part_is_frozen_to_the_last_bit(method, k, first):
    """Weights and BatchNorm's statistics, in spite of weight decay and momentum."""
    images = make_table(n_rows=96, images=True)
    unlearner = method(decaying(module__width=4), k=k, max_epochs=2, random_state=0)
    unlearner.fit(images.X, images.y, images.a)
    before = state(unlearner)
    names = list(before)
    unlearner.unlearn(FORGET)
    trained = names[names.index(f"{first}.weight") :]
    assert changed(before, state(unlearner)) == set(trained)
    assert any("running_mean" in name for name in trained) == (k > 1)


def test_cf_k_is_training_of_the_last_layer_alone(table, monkeypatch):
    """One full-batch step of plain SGD, against the formula."""
    net = make_net(optimizer__momentum=0, batch_size=-1)
    unlearner = CFkUnlearner(net, max_epochs=1, lr=0.3, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    module = unlearner.net_.module_
    rest = np.setdiff1d(np.arange(table.n), FORGET)
    with torch.no_grad():
        z = module.features(torch.as_tensor(table.X[rest])).numpy().astype(np.float64)
    weight, bias = (p.detach().numpy().astype(np.float64) for p in module.head.parameters())
    logits = z @ weight.T + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = p - np.eye(2)[table.y[rest]]
    unlearner.unlearn(FORGET)
    head = unlearner.net_.module_.head
    np.testing.assert_allclose(
        head.weight.detach(), weight - 0.3 * error.T @ z / len(rest), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        head.bias.detach(), bias - 0.3 * error.mean(axis=0), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("instance", [False, True])
def test_start_of_training(table, instance, monkeypatch):
    """CF-k starts from the trained head, EU-k from a new one, whatever was trained before."""
    starts = []

    def remember(self, request):
        starts.append({k: v.clone() for k, v in request.net.module_.state_dict().items()})
        return request.net

    monkeypatch.setattr("grmu_sk.unlearners.approximate.ApproximateUnlearner._unlearn", remember)
    for method in (CFkUnlearner, EUkUnlearner):
        net = make_net(MLP(4, hidden=(16,))) if instance else make_net()
        unlearner = method(net, random_state=0).fit(table.X, table.y, table.a)
        before = state(unlearner)
        unlearner.unlearn(FORGET)
        expected = set() if method is CFkUnlearner else {"head.weight", "head.bias"}
        assert changed(before, starts[-1]) == expected
    bound = 1 / np.sqrt(16)  # torch's own initialisation of a linear layer with 16 inputs
    assert starts[-1]["head.weight"].abs().max() <= bound
    with torch.no_grad():
        unlearner.net_.module_.head.weight.fill_(100.0)
    unlearner.unlearn([70])
    assert starts[-1]["head.weight"].abs().max() <= bound


def test_eu_k_uses_the_modules_own_initialisation(table, monkeypatch):
    class Ones(MLP):
        def __init__(self):
            super().__init__(4, hidden=(16,))
            nn.init.ones_(self.head.weight)

    unlearner = EUkUnlearner(make_net(Ones), lr=1e-30, random_state=0)
    unlearner.fit(table.X, table.y, table.a)
    assert not (unlearner.net_.module_.head.weight == 1).all()
    assert (unlearner.unlearn(FORGET).net_.module_.head.weight == 1).all()


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
    unlearner = EUkUnlearner(make_net(OutOfOrder), k=2, max_epochs=1, random_state=0)
    before = state(unlearner.fit(table.X, table.y, table.a))
    frozen = {"scale", "norm.weight", "norm.bias", "first.weight", "first.bias"}
    assert changed(before, state(unlearner.unlearn(FORGET))) == set(before) - frozen


class WithHead(nn.Module):
    """A net whose last layer holds, or is followed by, more than a weight and a bias."""

    def __init__(self, kind):
        super().__init__()
        wrap = {"weight_norm": weight_norm, "spectral_norm": spectral_norm}.get(kind, nn.Sequential)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = wrap(nn.LazyLinear(2) if kind == "lazy" else nn.Linear(8, 2))
        self.after = nn.PReLU(2) if kind == "slope" else nn.Identity()
        if kind == "shift":
            self.shift = nn.Parameter(torch.randn(2))
        if kind == "matrix":
            self.head, self.matrix = nn.Identity(), nn.Parameter(torch.randn(8, 2))

    def forward(self, X):
        z = self.after(self.head(self.body(X)))
        return z @ self.matrix if hasattr(self, "matrix") else z + getattr(self, "shift", 0)


@pytest.mark.parametrize(
    "kind", ["weight_norm", "spectral_norm", "lazy", "slope", "shift", "matrix"]
)
@both
def test_a_head_is_one_layer_with_all_that_belongs_to_it(table, method, kind, monkeypatch):
    starts = []
    original = ApproximateUnlearner._unlearn

    def remember(self, request):
        starts.append({k: v.clone() for k, v in request.net.module_.state_dict().items()})
        return original(self, request)

    monkeypatch.setattr(ApproximateUnlearner, "_unlearn", remember)
    net = make_net(WithHead, module__kind=kind, optimizer__weight_decay=0.1)
    unlearner = method(net, random_state=0, max_epochs=2).fit(table.X, table.y, table.a)
    before = state(unlearner)
    with pytest.raises(ValueError, match="k must lie between 1 and 2"):
        last_layers(unlearner.net_, torch.as_tensor(table.X[:2]), 3)
    of_head = set(before) - {"body.0.weight", "body.0.bias"}
    assert changed(before, state(unlearner.unlearn(FORGET))) == of_head
    assert changed(before, starts[0]) == (of_head if method is EUkUnlearner else set())


@both
def test_all_layers(table, method):
    """With every layer among the last k nothing is frozen, and EU-k is retraining."""
    unlearner = method(decaying(MLP), k=2, max_epochs=1, random_state=0)
    before = state(unlearner.fit(table.X, table.y, table.a))
    assert changed(before, state(unlearner.unlearn(FORGET))) == set(before)


@both
def test_next_training_is_not_frozen(table, method):
    unlearner = method(make_net(), random_state=0).fit(table.X, table.y, table.a).unlearn(FORGET)
    for net in (unlearner.net_, fresh_net(unlearner.net_)):
        assert all(parameter.requires_grad for parameter in net.module_.parameters())
        assert not any(sub._forward_pre_hooks for sub in net.module_.modules())
