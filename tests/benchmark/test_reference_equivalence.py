"""The package with ``reference`` settings against a second implementation of the authors' code.

Both start from the same weights and see the same batches and marginal groups: those that
the package drew are recorded and given to the other side, which checks that it would have drawn as
many, of the same rows and sizes.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import reference_behaviour as reference
import torch
from conftest import make_net, make_table
from reference_behaviour import Problem, Recipe, Tape
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback, LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR

from grmu_sk import MIUUnlearner
from grmu_sk.mutual_information import InformationCritic
from grmu_sk.nets import SmallCNN
from grmu_sk.unlearners import miu as miu_module

TOLERANCE = 1e-9


class DoubleCNN(SmallCNN):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.double()


@pytest.fixture(scope="module")
def table():
    return make_table(n_rows=230, n_classes=3, n_attributes=2, images=True)


class KeepBatches(Callback):
    """Notes the rows of each training batch; a first pixel tells which row it is."""

    first_pixels = None  # of the class, since a net's callbacks are copied with it
    batches = None

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        phase = net.history[-1].get("phase")
        if training and phase in ("forget", "retain"):
            pixels = batch[0][:, 0, 0, 0].numpy()
            rows = np.array([self.first_pixels.index(pixel) for pixel in pixels])
            self.batches.setdefault(phase, []).append(rows)


def pretrained(table, recipe):
    """A trained net, with the recipe of the unlearning run."""
    callbacks = [("batches", KeepBatches())]
    if recipe.cosine:
        callbacks.append(("rate", LRScheduler(CosineAnnealingLR, T_max=2)))
    sgd = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay}
    net = make_net(
        DoubleCNN,
        module__n_classes=3,
        module__width=4,
        lr=recipe.lr,
        batch_size=recipe.batch_size,
        max_epochs=2,
        callbacks=callbacks,
        **{f"optimizer__{name}": value for name, value in sgd.items()},
    )
    torch.manual_seed(0)
    return net.fit(table.X.astype(np.float64), table.y)


def problem_of(table, net):
    group = np.flatnonzero((table.y == 2) & (table.a == 0))
    X, y = torch.as_tensor(table.X, dtype=torch.float64), torch.as_tensor(table.y)
    # two batches to forget, the second one short
    return Problem(net.module_, X, y, torch.as_tensor(table.a) + 2 * y, 6, group[:45])


@pytest.fixture
def recording(monkeypatch, row_spy, spy, table):
    """What a run draws, M of every call of an estimator, and what the estimators begin with."""
    tape = Tape()
    monkeypatch.setattr(KeepBatches, "first_pixels", table.X[:, 0, 0, 0].tolist())
    monkeypatch.setattr(KeepBatches, "batches", tape.batches)
    spy(miu_module, "draw_marginal", lambda result, *_, **__: tape.drawn.append(result.clone()))

    def weights(critic, *_, **__):
        network = critic.statistics
        first = torch.cat([network.from_features.weight, network.from_labels.weight.T], dim=1)
        rest = network.from_features.bias, network.score.weight, network.score.bias
        return [value.detach().clone() for value in (first, *rest)]

    critics = spy(miu_module._Information, "_new_critic", weights)
    information = spy(
        InformationCritic, "forward", lambda value, *_, **__: (row_spy.phase, value.item())
    )
    tuning = miu_module._Information._tuning_batches

    def tuning_batches(self):
        for rows in tuning(self):
            tape.batches.setdefault("tune", []).append(rows)
            yield rows

    monkeypatch.setattr(miu_module._Information, "_tuning_batches", tuning_batches)
    return SimpleNamespace(tape=tape, information=information, critics=critics)


@pytest.mark.parametrize("reweight", [False, True])
def test_miu(table, recording, reweight):
    """Each loss of each step, each term of the retain loss, all weights and running statistics."""
    recipe = Recipe(lr=0.02, weight_decay=0.01, reweight=reweight, cosine=reweight)
    net = pretrained(table, recipe)
    problem = problem_of(table, net)
    settings = {"max_epochs": recipe.epochs, "reweight": recipe.reweight, "forget_epochs": 2}
    settings |= {"reference": True, "lam": 3.0, "mine_lr": 0.01}
    unlearner = MIUUnlearner(FrozenEstimator(net), random_state=1, **settings)
    unlearner.fit(table.X, table.y, table.a)
    n_fitted, losses = len(unlearner.history_), {}
    unlearner.unlearn(problem.forget)
    for row in unlearner.history_[n_fitted:]:
        losses.setdefault(row["phase"], []).extend(b["train_loss"] for b in row["batches"])
    pair = recording.critics[0], recording.critics[-1]  # one and the same if shared
    estimators = [reference.Estimator(weights, problem.n_groups, 0.01) for weights in pair]
    their_net, theirs = reference.miu(problem, recording.tape, recipe, estimators, lam=3.0)
    assert not any(recording.tape.batches.values()) and not recording.tape.drawn, "left over"
    cross_entropy, now, before, total = np.array(theirs["retain"]).T
    information = [value for phase, value in recording.information if phase == "retain"]
    our_now, our_before = np.array(information).reshape(-1, 2).T
    found = {
        "tune": np.add(losses["tune"], np.mean(theirs["tune"], axis=1)),
        "forget": np.subtract(losses["forget"], theirs["forget"]),
        "retain": losses["retain"] - total,
        "cross-entropy": losses["retain"] - 3.0 * (our_now - our_before) ** 2 - cross_entropy,
        "M now": our_now - now,
        "M before": our_before - before,
    }
    for name, value in their_net.state_dict().items():
        ours, other = unlearner.net_.module_.state_dict()[name], value.detach()
        found[name] = ((ours - other) / other.abs().clamp(min=1)).numpy()
    largest = {name: np.abs(values).max() for name, values in found.items()}
    assert len(found) > 10 and max(largest.values()) < TOLERANCE
