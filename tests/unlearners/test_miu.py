from collections import Counter

import numpy as np
import pytest
import torch
from conftest import fitted, make_net, make_table, state_of
from torch import nn

from grmu_sk import MIUUnlearner
from grmu_sk.unlearners import miu as miu_module

FORGET = [40, 41, 50, 60, 61]
SHORT = {"max_epochs": 3, "forget_epochs": 2, "tune_updates": (4, 2)}
Information = miu_module._Information


@pytest.fixture
def runs(spy):
    """The _Information objects of the runs, as they are made."""
    return spy(Information, "__init__", lambda _, self, *args: self)


def run(table, net=None, **kwargs):
    return fitted(MIUUnlearner, table, net, **{**SHORT, **kwargs}).unlearn(FORGET)


# losses ------------------------------------------------------------------------------------------


def numpy_scores(critic, z, groups):
    network = critic.statistics
    w_z, bias = (p.detach().numpy() for p in network.from_features.parameters())
    w_g = network.from_labels.weight.detach().numpy()
    w_out, b_out = (p.detach().numpy() for p in network.score.parameters())
    return np.maximum(z @ w_z.T + bias + w_g[groups], 0) @ w_out[0] + b_out[0]


def numpy_information(critic, z, groups, others):
    marginal = numpy_scores(critic, z, others)
    return numpy_scores(critic, z, groups).mean() - np.log(np.exp(marginal).mean())


@pytest.mark.parametrize(
    ("retaining", "calibration", "every"),
    [(True, True, 1), (True, True, 3), (False, True, 1), (True, False, 1)],
)
def test_losses_against_numpy(table, spy, retaining, calibration, every):
    """Every forget and retain loss, recomputed from weights, features and drawn groups."""
    drawn = spy(Information, "_other_groups")
    n_batches = -(-(table.n - len(FORGET)) // make_net().batch_size)  # of an epoch
    steps = iter(range(10**6))

    def forgetting(self, batch, z):
        return numpy_information(self.critic, z, batch.g.numpy(), drawn[-1].numpy())

    def retaining_loss(self, batch, z):
        ce = nn.functional.cross_entropy(batch.output, batch.y).item() if retaining else 0.0
        if next(steps) % n_batches % every or not calibration:
            return ce
        with torch.no_grad():
            z_o = self.original.module_.features(batch.X).numpy()
        groups = batch.g.numpy(), drawn[-1].numpy()
        change = numpy_information(self.critic, z, *groups)
        change -= numpy_information(self.original_critic, z_o, *groups)
        return ce + every * self.miu.lam * change**2

    def recompute(name, by_hand):
        def note(value, self, batch):
            # tuned critics do not learn from these losses
            assert not any(p.requires_grad for p in self.critic.parameters())
            return value.item(), by_hand(self, batch, features[-1].detach().numpy())

        return spy(Information, name, note)

    features = spy(miu_module.FeatureTap, "read")
    records = [recompute("forget_loss", forgetting), recompute("retain_loss", retaining_loss)]
    switches = {"retaining": retaining, "calibration": calibration, "calibrate_every": every}
    run(table, lam=3.0, estimators="separate", **switches)
    for record in records:
        values, expected = zip(*record, strict=True)
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)


def test_forget_phase_moves_neither_head_nor_critic(table, runs):
    """M depends on the features only; decay and momentum of the head must not act either."""
    net = make_net(optimizer__weight_decay=0.1)
    switches = {"retaining": False, "calibration": False, "tune_updates": (0, 0)}
    unlearner = fitted(MIUUnlearner, table, net, **{**SHORT, **switches})
    before = state_of(unlearner.net_)
    after = state_of(unlearner.unlearn(FORGET).net_)
    stayed = {name for name, weight in before.items() if torch.equal(weight, after[name])}
    assert stayed == {"head.weight", "head.bias"}
    run(table, tune_updates=(0, 0), lam=7.0)
    run(table)
    first, second, tuned = (list(made.critic.parameters()) for made in runs)
    assert all(map(torch.equal, first, second)) and not any(map(torch.equal, first, tuned))


def test_ablation_switches(table):
    for switches, expected in [
        ({"unlearning": False}, {"tune": 3, "retain": 3}),
        ({"retaining": False, "calibration": False}, {"tune": 3, "forget": 2}),
        ({"unlearning": False, "calibration": False}, {"retain": 3}),
    ]:
        phases = Counter(row["phase"] for row in run(table, **switches).history_)
        assert phases - Counter(fit=3) == expected


# tuning ------------------------------------------------------------------------------------------


def statistics(net):
    return net.module_.features[1].num_batches_tracked.item()


@pytest.mark.parametrize("mode", ["eval", "train", "reference"])
def test_batch_norm(image_net, runs, mode):
    """Tuning leaves it alone, but in train mode, where one pass serves both critics."""
    table = make_table(n_rows=96, images=True)
    modes = {"tune_mode": mode, "original_mode": mode, "calibrate_every": 1}
    params = {"reference": True} if mode == "reference" else modes
    unlearner = fitted(MIUUnlearner, table, image_net, **SHORT, **params)
    trained = statistics(unlearner.net_)
    unlearner.unlearn(FORGET)
    n_tuned = {"eval": 0, "train": 4 + 2 + 2, "reference": 101 + 11 + 11}[mode]
    n_trained = 2 * 1 + 3 * 3  # forget batches, retain batches
    assert statistics(unlearner.net_) - trained == n_tuned + n_trained
    assert statistics(runs[0].original) - trained == (0 if mode == "eval" else 3 * 3)


def test_a_large_forget_set_takes_no_more_steps_than_a_net_can_bear():
    """Batches of 16 rows, or larger ones that leave 30 steps an epoch."""
    table = make_table(n_rows=1200, seed=0)
    forget = np.flatnonzero(table.y == 1)[:500]
    for n_rows, size in ((300, 16), (500, 17)):
        unlearner = MIUUnlearner(make_net(max_epochs=1), max_epochs=1, tune_updates=(1, 1))
        unlearner.fit(table.X, table.y, table.a).unlearn(forget[:n_rows])
        (epoch,) = [row for row in unlearner.history_.to_list() if row["phase"] == "forget"]
        assert epoch["batches"][0]["train_batch_size"] == size
