import pytest
import torch
from conftest import fitted, make_net, state_of
from torch import nn

from grmu_sk import ShrinkPerturbUnlearner
from grmu_sk.unlearners import shrink_perturb


class Net(nn.Module):
    """A net whose new weights are drawn, and part of which is frozen."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 8).requires_grad_(False)
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 2)

    def forward(self, X):
        return self.head(self.norm(self.body(X)))


@pytest.mark.parametrize(("shrink", "noise"), [(0.4, 0.1), (1.0, 0.0), (0.0, 1.0)])
def test_start_against_the_formula(table, shrink, noise, spy):
    """Frozen weights and running statistics are left alone; the noise is a new net each time."""
    drawn = spy(shrink_perturb, "draw_initial_weights")
    starts = spy(shrink_perturb, "_shrink_and_perturb", lambda _, net, *rest: state_of(net))
    params = {"shrink": shrink, "noise": noise, "max_epochs": 1}
    unlearner = fitted(ShrinkPerturbUnlearner, table, make_net(Net), **params)
    for request in ([40, 41, 50], [60]):
        before = state_of(unlearner.net_)
        unlearner.unlearn(request)
        for name, weight in before.items():
            is_left = name.startswith("body") or "running" in name or "tracked" in name
            expected = weight if is_left else shrink * weight + noise * drawn[-1][name]
            torch.testing.assert_close(starts[-1][name], expected)
    assert not torch.equal(drawn[0]["head.weight"], drawn[1]["head.weight"])
    assert drawn[0]["head.weight"].abs().max() <= 8**-0.5  # torch's own initialisation
