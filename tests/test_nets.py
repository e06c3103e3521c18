import pytest
import torch
from torch import nn

from grmu_sk.nets import MLP, SmallCNN


def _last_linear(net):
    return [module for module in net.modules() if isinstance(module, nn.Linear)][-1]


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("size", [4, 8, 28])
def test_small_cnn_takes_images_of_any_size(batch_norm, size):
    net = SmallCNN(n_classes=5, n_channels=1, width=4, batch_norm=batch_norm)
    X = torch.zeros(3, 1, size, size + 1)
    assert net(X).shape == (3, 5)
    assert net.features(X).shape == (3, 16)
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules()) is batch_norm


def test_small_cnn_has_three_convolutions_and_defaults_for_the_built_in_data():
    net = SmallCNN()
    assert sum(isinstance(m, nn.Conv2d) for m in net.modules()) == 3
    assert net(torch.zeros(2, 3, 8, 8)).shape == (2, 2)


def test_deeper_small_cnn():
    net = SmallCNN(width=4, depth=5)
    sizes = [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert sizes == [4, 8, 16, 32, 64]
    assert net.features(torch.zeros(3, 3, 16, 16)).shape == (3, 64)


def test_mlp_layers():
    net = MLP(6, 3, hidden=(10, 4))
    X = torch.zeros(2, 6)
    assert net(X).shape == (2, 3)
    assert net.features(X).shape == (2, 4)
    assert MLP(6, hidden=())(X).shape == (2, 2)
    assert MLP(6)(torch.zeros(2, 3, 2)).shape == (2, 2)  # more axes are flattened


@pytest.mark.parametrize(
    ("net", "X"),
    [(SmallCNN(), torch.rand(4, 3, 8, 8)), (MLP(7), torch.rand(4, 7))],
    ids=["SmallCNN", "MLP"],
)
def test_features_are_the_input_of_the_last_linear_layer(net, X):
    net.eval()
    assert _last_linear(net) is net.head
    torch.testing.assert_close(net.head(net.features(X)), net(X))


def test_the_same_seed_gives_the_same_weights():
    nets = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            nets.append(SmallCNN())
    for one, two in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("make", [SmallCNN, lambda: MLP(192)], ids=["SmallCNN", "MLP"])
def test_every_parameter_gets_a_gradient(make):
    net = make()
    net(torch.rand(8, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SmallCNN(n_classes=0), "n_classes must be a whole number of at least 1, got 0"),
        (lambda: SmallCNN(depth=0), "depth must be a whole number of at least 1, got 0"),
        (lambda: MLP(0), "n_features must be a whole number of at least 1, got 0"),
        (lambda: MLP(3, hidden=(8, -1)), r"hidden\[1\] must be a whole number .* got -1"),
    ],
)
def test_sizes_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
