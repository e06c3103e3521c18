from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_net, make_table, same_weights, weights_of
from skorch.callbacks import ParamMapper
from torch import nn

from grmu_sk import MIUUnlearner
from grmu_sk.unlearners import miu as miu_module

FORGET = [40, 41, 50, 60, 61]
SHORT = {"max_epochs": 3, "forget_epochs": 2, "tune_updates": (4, 2), "random_state": 0}


@pytest.fixture
def runs(monkeypatch):
    """The _Information objects of the runs, as they are made."""
    made = []
    original = miu_module._Information.__init__

    def spy(self, *args):
        original(self, *args)
        made.append(self)

    monkeypatch.setattr(miu_module._Information, "__init__", spy)
    return made


def run(table, net=None, **kwargs):
    unlearner = MIUUnlearner(make_net() if net is None else net, **{**SHORT, **kwargs})
    return unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)


def numpy_scores(critic, z, groups):
    network = critic.statistics
    w_z, bias = (p.detach().numpy() for p in network.from_features.parameters())
    w_g = network.from_labels.weight.detach().numpy()
    w_out, b_out = (p.detach().numpy() for p in network.score.parameters())
    return np.maximum(z @ w_z.T + bias + w_g[groups], 0) @ w_out[0] + b_out[0]


def numpy_information(critic, z, groups, others):
    marginal = numpy_scores(critic, z, others)
    return numpy_scores(critic, z, groups).mean() - np.log(np.exp(marginal).mean())


def test_losses_against_numpy(table, monkeypatch):
    """Every forget and retain loss, recomputed from weights, features and drawn groups."""
    records = []
    draw = miu_module._Information._other_groups

    def remember_draw(self, groups):
        self.drawn = draw(self, groups)
        return self.drawn

    def recompute(name, with_criterion):
        original = getattr(miu_module._Information, name)

        def loss(self, batch):
            read = self.tap.read
            z = read()
            self.tap.read = lambda: z
            value = original(self, batch)
            self.tap.read = read
            arrays = z.detach().numpy(), batch.g.numpy(), self.drawn.numpy()
            now = numpy_information(self.critic, *arrays)
            if with_criterion:
                with torch.no_grad():
                    z_o = self.original.module_.features(batch.X).numpy()
                before = numpy_information(self.original_critic, z_o, *arrays[1:])
                ce = nn.functional.cross_entropy(batch.output, batch.y).item()
                now = ce + self.miu.lam * (now - before) ** 2
            records.append((name, value.item(), now))
            return value

        monkeypatch.setattr(miu_module._Information, name, loss)

    monkeypatch.setattr(miu_module._Information, "_other_groups", remember_draw)
    recompute("forget_loss", with_criterion=False)
    recompute("retain_loss", with_criterion=True)
    run(table, lam=3.0, estimators="separate")
    assert {name for name, _, _ in records} == {"forget_loss", "retain_loss"}
    for _, value, expected in records:
        assert value == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_forget_phase_moves_neither_head_nor_critic(table, runs):
    """M depends on the features only; decay and momentum of the head must not act either."""
    net = make_net(optimizer__weight_decay=0.1)
    unlearner = MIUUnlearner(net, retaining=False, calibration=False, **SHORT)
    unlearner.fit(table.X, table.y, table.a)
    head = unlearner.net_.module_.head.weight.clone()
    body = unlearner.net_.module_.features[1].weight.clone()
    unlearner.unlearn(FORGET)
    assert torch.equal(head, unlearner.net_.module_.head.weight)
    assert not torch.equal(body, unlearner.net_.module_.features[1].weight)


def test_critic_learns_only_while_tuning(table, runs):
    run(table, tune_updates=(0, 0))
    state = [p.clone() for p in runs[0].critic.parameters()]
    torch.manual_seed(0)
    run(table, tune_updates=(0, 0), lam=7)
    assert all(map(torch.equal, state, runs[1].critic.parameters()))
    run(table)
    assert not all(map(torch.equal, state, runs[2].critic.parameters()))


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, {"tune": 3, "forget": 2, "retain": 3}),
        ({"unlearning": False}, {"tune": 3, "retain": 3}),
        ({"calibration": False}, {"tune": 3, "forget": 2, "retain": 3}),
        ({"retaining": False}, {"tune": 3, "forget": 2, "retain": 3}),
        ({"retaining": False, "calibration": False}, {"tune": 3, "forget": 2}),
        ({"unlearning": False, "calibration": False}, {"retain": 3}),
        ({"forget_epochs": 0}, {"tune": 3, "retain": 3}),
    ],
)
def test_ablation_switches(table, switches, expected):
    unlearner = run(table, **switches)
    phases = [row["phase"] for row in unlearner.history_ if row["phase"] != "fit"]
    assert {name: phases.count(name) for name in phases} == expected


def test_switched_off_terms_are_not_in_the_loss(table, runs):
    retain = {}
    for name in ("retaining", "calibration"):
        unlearner = run(table, lam=5, tune_updates=(50, 10), **{name: False})
        losses = [row["train_loss"] for row in unlearner.history_ if row["phase"] == "retain"]
        retain[name] = losses[0]
    both = run(table, lam=5, tune_updates=(50, 10))
    total = next(row["train_loss"] for row in both.history_ if row["phase"] == "retain")
    assert retain["retaining"] < 0.5 * retain["calibration"]
    assert total >= retain["calibration"]


@pytest.mark.parametrize("reweight", [True, "uniform", False])
def test_retain_fraction(table, row_spy, reweight):
    run(table, retain_fraction=0.3, reweight=reweight)
    batches = [rows for phase, rows in row_spy.seen if phase == "retain"]
    per_epoch = np.split(np.concatenate(batches), 3)
    assert len(per_epoch[0]) == np.ceil(0.3 * (table.n - len(FORGET)))
    assert not np.isin(np.concatenate(batches), FORGET).any()
    assert not np.array_equal(np.sort(per_epoch[0]), np.sort(per_epoch[1]))
    has_repeats = any(len(set(rows)) < len(rows) for rows in per_epoch)
    assert has_repeats == bool(reweight)


def test_retain_fraction_keeps_the_mix_of_reweight(row_spy):
    """Half of one group is forgotten; what is drawn of it makes up for that."""
    table = make_table(2000)
    group = np.flatnonzero((table.y == 1) & (table.a == 1))
    unlearner = MIUUnlearner(make_net(), **SHORT, retain_fraction=0.5, batch_size=500)
    unlearner.fit(table.X, table.y, table.a).unlearn(group[::2])
    drawn = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retain"])
    share = len(group) / table.n
    assert np.isin(drawn, group).mean() == pytest.approx(share, rel=0.1)
    left = len(group[1::2]) / (table.n - len(group[::2]))
    assert abs(left - share) > 0.2 * share  # without REWEIGHT it would be this


def test_fast_changes_parameters_only(table):
    fast = MIUUnlearner.fast(make_net(), random_state=3, lam=2.0)
    given = {"lam": 2.0, "random_state": 3}
    expected = {**MIUUnlearner().get_params(), **MIUUnlearner.FAST, **given}
    params = fast.get_params(deep=False)
    assert {name: params[name] for name in expected if name != "estimator"} == {
        name: value for name, value in expected.items() if name != "estimator"
    }
    assert MIUUnlearner.fast(max_epochs=7).max_epochs == 7
    fast.fit(table.X, table.y, table.a).unlearn(FORGET)


def test_first_tuning_takes_the_features_of_the_original(table, runs, monkeypatch):
    """The net is the original still, so its rows need not go through it once more."""
    passes = []
    features = miu_module._Information._features
    monkeypatch.setattr(
        miu_module._Information,
        "_features",
        lambda self, net, rows: (passes.append(net is self.net), features(self, net, rows))[1],
    )
    reused = run(table)
    assert passes == [False, True, True]  # of the original once; of the net in epochs 2 and 3
    monkeypatch.setattr(miu_module, "same_weights", lambda *nets: False)
    computed = run(table)
    assert passes[3:] == [False, True, True, True]
    for one, other in zip(weights_of(reused), weights_of(computed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_a_net_changed_before_the_first_epoch_is_not_taken_for_the_original(table, monkeypatch):
    answers = []
    same = miu_module.same_weights
    monkeypatch.setattr(
        miu_module, "same_weights", lambda *nets: answers.append(same(*nets)) or answers[-1]
    )
    run(table)
    assert answers == [True, False, False]
    answers.clear()

    def double(weight, *_):
        weight.data *= 2

    run(table, make_net(callbacks=[ParamMapper("features.1.weight", fn=double, at=1)]))
    assert answers == [False, False, False]


def test_critic_gets_no_gradient_outside_tuning(table, runs, monkeypatch):
    learns = {"forget_loss": [], "retain_loss": [], "_tune_once": []}
    for name, record in learns.items():
        original = getattr(miu_module._Information, name)

        def spy(self, *args, original=original, record=record):
            record.append({p.requires_grad for p in self.critic.parameters()})
            return original(self, *args)

        monkeypatch.setattr(miu_module._Information, name, spy)
    run(table)
    assert all(record == {True} for record in learns["_tune_once"])
    assert all(record == {False} for record in learns["forget_loss"] + learns["retain_loss"])
    assert all(learns.values())


def test_number_of_tuning_updates(table):
    def updates(**kwargs):
        history = run(table, **kwargs).history_
        return [len(row["batches"]) for row in history if row["phase"] == "tune"]

    assert updates(tune_updates=(100, 10)) == [100, 10, 10]
    assert updates(reference=True) == [101, 11, 11]


def statistics(net):
    return net.module_.features[1].num_batches_tracked.item()


def test_tuning_leaves_batch_norm_alone(image_net, runs):
    table = make_table(n_rows=96, images=True)
    counts = {}
    for mode in ("eval", "train"):
        unlearner = MIUUnlearner(image_net, **SHORT, tune_mode=mode, original_mode=mode)
        unlearner.fit(table.X, table.y, table.a)
        trained = statistics(unlearner.net_)
        unlearner.unlearn(FORGET)
        counts[mode] = statistics(unlearner.net_) - trained
    assert counts["eval"] == 2 * 1 + 3 * 3  # forget batches, retain batches
    assert counts["train"] == counts["eval"] + 4 + 2 + 2
    assert statistics(runs[0].original) == trained
    assert statistics(runs[1].original) == trained + 3 * 3


def test_reference_passes_each_tuning_batch_once(image_net):
    """Both critics learn from one forward pass, which moves the statistics once."""
    table = make_table(n_rows=96, images=True)
    unlearner = MIUUnlearner(image_net, **SHORT, reference=True)
    unlearner.fit(table.X, table.y, table.a)
    trained = statistics(unlearner.net_)
    unlearner.unlearn(FORGET)
    assert statistics(unlearner.net_) - trained == (101 + 11 + 11) + 2 * 1 + 3 * 3


class NormalisedMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 2)

    def forward(self, X):
        return self.head(self.features(X))


@pytest.mark.parametrize("estimators", ["shared", "separate", "reference"])
def test_batches_of_one_row_in_train_mode(estimators):
    """One row has no variance: it is normalised by the running statistics instead."""
    table = make_table(n_rows=65 + len(FORGET))
    modes = {"tune_mode": "train", "original_mode": "train", "estimators": estimators}
    net = make_net(NormalisedMLP, batch_size=23)
    assert (table.n % 23, (table.n - len(FORGET)) % 23) == (1, 19)
    run(table, net, **modes)
    net = make_net(NormalisedMLP, batch_size=32)
    assert (table.n - len(FORGET)) % 32 == 1
    unlearner = run(table, net, **modes)
    assert all(np.isfinite(weight).all() for weight in weights_of(unlearner))


@pytest.mark.parametrize(
    ("estimators", "critics"), [("shared", 1), ("separate", 2), ("reference", 2)]
)
def test_estimators(table, runs, estimators, critics):
    run(table, estimators=estimators)
    made = runs[0]
    assert (made.critic is made.original_critic) == (critics == 1)
    assert len(made.optimizers) == critics


def test_tuning_uses_the_right_features(table, runs):
    """After unlearning the two nets differ; 'separate' tunes each critic on its own net."""
    run(table, estimators="separate")
    made = runs[0]
    seen = []
    original = made._tune_once
    made._tune_once = lambda sources, number, rows: (
        seen.append(sources),
        original(sources, number, rows),
    )[1]
    list(made.tune(2))
    changed, untouched = (features(0) for _, features in seen[0])
    assert not torch.allclose(changed, untouched)
    made.modes.estimators = "reference"
    list(made.tune(2))
    changed, untouched = (features(0) for _, features in seen[-1])
    assert torch.equal(changed, untouched)


@pytest.mark.parametrize("estimators", ["shared", "separate", "reference"])
def test_keep_features_changes_memory_only(table, runs, estimators):
    kept, computed = (
        run(table, keep_features=keep, estimators=estimators) for keep in (True, False)
    )
    assert runs[0].original_features.shape == (table.n, 16)
    assert runs[1].original_features is None
    for one, other in zip(weights_of(kept), weights_of(computed), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_features_are_kept_beside_a_memory_map_only_if_small(table, runs, monkeypatch, tmp_path):
    np.save(tmp_path / "X.npy", table.X)
    lazy = SimpleNamespace(**{**vars(table), "X": np.load(tmp_path / "X.npy", mmap_mode="r")})
    n_bytes = table.n * 16 * 4  # the features of make_net, in float32
    for size, data, are_kept in [
        (n_bytes, lazy, True),
        (n_bytes - 1, lazy, False),
        (n_bytes - 1, table, True),  # in memory X itself takes more
    ]:
        monkeypatch.setattr(miu_module, "BYTES_OF_FEATURES", size)
        run(data)
        assert (runs[-1].original_features is not None) == are_kept


@pytest.mark.parametrize("marginal", ["uniform", "train", "permute"])
def test_marginals_run(table, marginal):
    assert not same_weights(run(table, marginal=marginal), run(table, calibration=False))
