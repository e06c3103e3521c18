import pytest
import torch
from torch import nn

from grmu_sk.nets import MLP, SmallCNN


@pytest.mark.parametrize(
    ("depth", "batch_norm", "size"), [(3, True, 4), (3, False, 28), (5, True, 16)]
)
def test_small_cnn(depth, batch_norm, size):
    net = SmallCNN(n_classes=5, n_channels=1, width=4, batch_norm=batch_norm, depth=depth)
    X = torch.zeros(3, 1, size, size + 1)
    assert net(X).shape == (3, 5)
    features = net.eval().features(X)
    assert features.shape == (3, 4 * 2 ** (depth - 1))
    torch.testing.assert_close(net.head(features), net(X))
    widths = [m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [4 * 2**level for level in range(depth)]
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules()) is batch_norm


def test_mlp():
    net, X = MLP(6, 3, hidden=(10, 4)), torch.zeros(2, 6)
    assert net(X).shape == (2, 3)
    assert net.features(X).shape == (2, 4)
    assert MLP(6, hidden=())(X).shape == (2, 2)
    assert MLP(6)(torch.zeros(2, 3, 2)).shape == (2, 2)  # more axes are flattened
