"""What skorch offers while training works while unlearning, one feature at a time."""

import pickle

import numpy as np
import pytest
import torch
from conftest import EVERY_METHOD, make_net, same_weights, weights_of
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LoadInitState,
    LRScheduler,
)
from skorch.dataset import ValidSplit

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.nets import MLP
from grmu_sk.unlearners import all_unlearners

SHORT = {"max_epochs": 3, "forget_epochs": 2, "tune_updates": (4, 2), "random_state": 0}
FORGET = [40, 41, 50]
N_FIT = 3  # epochs of fit, each a row of the history
LAST_PHASE = {MIUUnlearner: "retain", RetrainUnlearner: "retrain"}

# of each kind of computation one: own losses and features, two nets, rows' gradients, shards
KINDS = {"bad_teacher", "group_dro", "influence", "miu", "sisa"}
every_kind = pytest.mark.parametrize(
    "method",
    [pytest.param(cls, id=name) for name, cls in all_unlearners() if name in KINDS or EVERY_METHOD],
)
# one that changes the trained net, in several phases an epoch, and one that trains anew
two_kinds = pytest.mark.parametrize("method", LAST_PHASE)


def fitted(method, table, *callbacks, **net):
    known = method._get_param_names()
    short = {name: value for name, value in SHORT.items() if name in known}
    unlearner = method(make_net(callbacks=list(callbacks), **net), **short)
    return unlearner.fit(table.X, table.y, table.a)


def rows_of(unlearner, phase):
    """The history of unlearning: one row for each epoch of the phase."""
    return [row for row in unlearner.history_[N_FIT:] if row["phase"] == phase]


VALIDATED = {"train_split": ValidSplit(5, stratified=True)}


def test_best_so_far_is_the_best_of_last_phases(table):
    """Losses of phases are different quantities: 0.02 nats of information, 0.6 of cross-entropy."""
    unlearner = fitted(MIUUnlearner, table, **VALIDATED).unlearn(FORGET)
    for name in ("train_loss", "valid_loss"):
        best = np.inf
        for row in rows_of(unlearner, "retain"):
            assert row[name + "_best"] == (row[name] < best)
            best = min(best, row[name])
    assert not any(row["train_loss_best"] for row in rows_of(unlearner, "tune"))


@two_kinds
def test_cosine_schedule_starts_anew_with_each_request(table, method):
    unlearner = fitted(method, table, LRScheduler("CosineAnnealingLR", T_max=3))
    unlearner.unlearn(FORGET).unlearn([60, 61])
    rates = [row["event_lr"] for row in unlearner.history_ if "event_lr" in row]
    assert rates == pytest.approx(3 * [0.05, 0.0375, 0.0125])


def worse_after_the_first_epoch():
    """A schedule under which the first epoch is the best one."""
    return ("lr", LRScheduler("MultiStepLR", milestones=[1], gamma=60.0))


class WeightsOfEpochs(Callback):
    """Records the weights after each epoch of the last run."""

    once_per_epoch = True
    weights = []

    def on_train_begin(self, net, **kwargs):
        WeightsOfEpochs.weights = []

    def on_epoch_end(self, net, **kwargs):
        WeightsOfEpochs.weights.append(
            [value.numpy().copy() for value in net.module_.state_dict().values()]
        )


def is_same(weights, others):
    return all(map(np.array_equal, weights, others))


@two_kinds
@pytest.mark.parametrize("how", ["stop", "valid_loss_best", "train_loss_best"])
def test_the_best_epoch_of_the_request_is_restored(table, method, how, tmp_path):
    keeper = Checkpoint(monitor=how, dirname=tmp_path, load_best=True)
    if how == "stop":
        keeper = EarlyStopping(monitor="valid_loss", patience=2, load_best=True)
    callbacks = [("keeper", keeper), worse_after_the_first_epoch(), WeightsOfEpochs()]
    unlearner = fitted(method, table, *callbacks, **VALIDATED)
    original = weights_of(unlearner)
    unlearner.unlearn(FORGET)
    assert is_same(weights_of(unlearner), WeightsOfEpochs.weights[0])
    assert not is_same(weights_of(unlearner), WeightsOfEpochs.weights[-1])
    assert not is_same(weights_of(unlearner), original)
    if how != "stop":  # with load_best skorch goes back to the history of that epoch as well
        epochs = [row["epoch"] for row in unlearner.history_ if row["phase"] == LAST_PHASE[method]]
        assert epochs == [1]


def only_in_fit(net):
    return net.history[-1, "phase"] == "fit"


@two_kinds
def test_checkpoint_of_an_earlier_run_is_not_brought_back(table, method, tmp_path):
    """It holds the weights of before the request, and loading them would undo it."""
    save = Checkpoint(dirname=tmp_path, monitor=only_in_fit, load_best=True)
    unlearner = fitted(method, table, ("save", save))
    before = weights_of(unlearner)
    with pytest.raises(ValueError, match="'save' is to load the best checkpoint"):
        unlearner.unlearn(FORGET)
    assert is_same(weights_of(unlearner), before)
    assert len(unlearner.forget_idx_) == 0


@two_kinds
def test_weights_of_an_old_checkpoint_are_not_loaded(table, method, tmp_path):
    """Retraining would start from the weights it is to replace."""
    saves = Checkpoint(dirname=tmp_path, monitor=None)
    loading = fitted(method, table, ("save", saves), ("load", LoadInitState(saves)))
    assert (tmp_path / "params.pt").exists()
    plain = fitted(method, table)
    assert same_weights(loading, plain)
    assert same_weights(loading.unlearn(FORGET), plain.unlearn(FORGET))


class Autocast(MLP):
    """Computes in bfloat16, as mixed precision does; weights and losses stay in float32."""

    def forward(self, X):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(X)


@pytest.mark.filterwarnings("ignore::UserWarning:torch")  # its compiler's own
@every_kind
@pytest.mark.parametrize("how", ["compiled", "bfloat16"])
def test_compiled_and_half_precise_nets(method, how, table):
    torch.compiler.reset()  # this backend runs what it traced, without a C compiler
    net = {"module": Autocast, "module__n_features": 4}
    if how == "compiled":
        net = {"compile": True, "compile__backend": "eager"}
    unlearner = fitted(method, table, **net).unlearn(FORGET)
    assert hasattr(unlearner.net_.module_, "_orig_mod") == (how == "compiled")
    found = unlearner.predict_proba(table.X)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    if how == "compiled":
        plain = fitted(method, table).unlearn(FORGET)
        np.testing.assert_allclose(found, plain.predict_proba(table.X), rtol=1e-4, atol=1e-5)
    assert {p.dtype for p in unlearner.net_.module_.parameters()} == {torch.float32}
    assert all(np.isfinite(row["train_loss"]) for row in unlearner.history_)
    assert same_weights(pickle.loads(pickle.dumps(unlearner)), unlearner)
