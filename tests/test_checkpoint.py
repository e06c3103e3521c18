"""An ``unlearn`` that is cut short and resumed comes to the bits of one that nobody disturbed.

Here a run is cut short by an exception, which is quick, so that every method and every kind of
state can be tried. Processes that are really killed: ``audit/chaos_ledger.py``.
"""

import os
import pickle
import random
import stat
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_net, make_table, same_weights
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, Freezer, LRScheduler, Unfreezer
from skorch.dataset import ValidSplit
from test_malicious_files import Payload
from torch import nn

from grmu_sk import (
    CheckpointError,
    FineTuneUnlearner,
    GroupDROUnlearner,
    MIUUnlearner,
    RetrainUnlearner,
    UnlearningCheckpoint,
    base,
    training,
)
from grmu_sk import checkpoint as resume
from grmu_sk.audit import DeletionLedger, scan_residue
from grmu_sk.persistence import save
from grmu_sk.unlearners import all_unlearners

FIRST, SECOND = [40, 41], [50, 51, 60]
SHORT = {"max_epochs": 3, "forget_epochs": 2, "tune_updates": (3, 2)}


class Net(nn.Sequential):
    """Batch normalisation and dropout: buffers and random numbers."""

    def __init__(self):
        super().__init__(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
        )


def full_net(**params):
    schedules = {
        "by_epoch": LRScheduler("CosineAnnealingLR", T_max=3),
        "by_batch": LRScheduler("StepLR", step_every="batch", step_size=2),
        "stopping": EarlyStopping(patience=9, load_best=True, sink=str),
    }
    split = ValidSplit(4, stratified=True)
    defaults = {"train_split": split, "callbacks": list(schedules.items()), "batch_size": 48}
    return make_net(Net, **{**defaults, **params})


def make(method, net=None, **params):
    known = method._get_param_names()
    short = {name: value for name, value in SHORT.items() if name in known}
    if "reweight" in known:
        short["reweight"] = True
    return method(full_net() if net is None else net, random_state=0, **{**short, **params})


@pytest.fixture
def table():
    return make_table(96)


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture
def killer(monkeypatch):
    """Cuts training short at a moment: after a phase, or after what is done at an epoch's end."""
    killer = SimpleNamespace(moments=[], at=None)
    run_phase = training._run_phase

    def reach(moment):
        killer.moments.append(moment)
        if len(killer.moments) == killer.at:
            raise Killed

    def phase(*args):
        result = run_phase(*args)
        reach("phase")
        return result

    @contextmanager
    def resumable(*args):
        with resume.resumable(*args) as progress:

            def noted(*about):
                result = progress(*about)
                reach(f"epoch {result}")
                return result

            yield noted

    monkeypatch.setattr(training, "_run_phase", phase)
    monkeypatch.setattr(base, "resumable", resumable)
    # what is written is written; waiting for a disk would take most of the time
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    return killer


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "kept").mkdir()
    return UnlearningCheckpoint(tmp_path / "kept" / "state")


def left(checkpoint):
    return sorted(path.name for path in checkpoint.path.parent.iterdir())


def same(one, other):
    """Weights, buffers and history are equal, but for what a clock says."""
    one_history, other_history = (
        repr([{k: v for k, v in row.items() if k != "dur"} for row in unlearner.history_])
        for unlearner in (one, other)
    )
    return same_weights(one, other) and one_history == other_history


def cut_short(blob, checkpoint, killer, at, request=SECOND, **data):
    """Load the model, as the next process would, and let it forget; return it if it did."""
    unlearner = pickle.loads(blob)
    killer.moments, killer.at = [], at
    try:
        return unlearner.unlearn(request, checkpoint=checkpoint, **data)
    except Killed:
        return None
    finally:
        killer.at = None


def assert_resumes(unlearner, checkpoint, killer, **data):
    """Kill in the second epoch, and again later; the result is that of an undisturbed run."""
    blob = pickle.dumps(unlearner)
    undisturbed = pickle.loads(blob).unlearn(SECOND, **data)
    watched = cut_short(blob, checkpoint, killer, None, **data)
    assert same(watched, undisturbed), "storing the state changes the result"
    n_moments = len(killer.moments)
    for at in (min(killer.moments.index("epoch 1") + 2, n_moments), 4, None):
        resumed = cut_short(blob, checkpoint, killer, at, **data)
        if resumed is not None:
            break
        assert checkpoint.path.exists()
    assert killer.moments[0] != "epoch 0" and len(killer.moments) < n_moments, "began anew"
    assert same(resumed, undisturbed)
    assert left(checkpoint) == []


# every method, every kind of state ---------------------------------------------------------------


class Opaque(Callback):
    def on_train_begin(self, net, **kwargs):
        self.connection_ = iter(())


class KeepsItself(Opaque):
    """The same, with a state of its own that decides about the result."""

    n_ = 0

    def on_batch_end(self, net, **kwargs):
        self.n_ += 1
        net.optimizer_.param_groups[0]["lr"] = 0.1 / self.n_

    def state_dict(self):
        return {"n": self.n_}

    def load_state_dict(self, state):
        self.n_ = state["n"]


def fine_tune(*callbacks, **params):
    return make(FineTuneUnlearner, full_net(callbacks=list(callbacks), **params), max_epochs=5)


CASES = {
    "the original model changes": lambda: make(MIUUnlearner, original_mode="train"),
    "shards": lambda: make(dict(all_unlearners())["sisa"]),
    "weights of groups": lambda: make(GroupDROUnlearner),
    "a fixed mix": lambda: make(dict(all_unlearners())["as_unseen"]),
    "skorch's callbacks": lambda: fine_tune(
        LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0),
        EpochScoring("accuracy", on_train=True, name="train_acc"),
        *(Freezer("0.*"), Unfreezer("0.*", at=3)),
        optimizer=torch.optim.AdamW,
    ),
    "one's own callback": lambda: fine_tune(KeepsItself()),
    "early stop": lambda: fine_tune(EarlyStopping("train_loss", patience=2, threshold=10)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_state_is_resumed_after_an_earlier_request(case, table, checkpoint, killer):
    unlearner = CASES[case]().fit(table.X, table.y, table.a).unlearn(FIRST)
    assert_resumes(unlearner, checkpoint, killer)


class Noisy(torch.utils.data.TensorDataset):
    """Inputs that come out differently each time, by all three global generators."""

    def __getitem__(self, i):
        noise = torch.randn(4) + random.gauss(0, 1) + np.random.normal()
        return self.tensors[0][i] + 0.1 * noise


def test_random_transforms_and_weights_of_rows(table, checkpoint, killer):
    given = {"y": table.y, "groups": table.a, "sample_weight": np.linspace(0.5, 2, table.n)}
    X = Noisy(torch.from_numpy(table.X))
    unlearner = make(RetrainUnlearner).fit(X, **given)
    assert_resumes(unlearner, checkpoint, killer, X=X, **given)


# controls: without one part of the state it is another result ------------------------------------


@pytest.mark.parametrize(
    "part",
    ["module_", "optimizer_", "random", "callback 'by_epoch'", "history", "of phase 0"],
)
def test_control_without_a_part_of_the_state(part, table, checkpoint, killer, monkeypatch):
    unlearner = make(GroupDROUnlearner, eta=1.0).fit(table.X, table.y, table.a)
    blob = pickle.dumps(unlearner)
    undisturbed = pickle.loads(blob).unlearn(SECOND)
    assert cut_short(blob, checkpoint, killer, 6) is None
    original = resume._put_back

    def incomplete(state, *others):
        now = resume._state(*others, 0)
        place, new = (state, now) if part in state else (state["parts"], now["parts"])
        place[part] = new[part]
        return original(state, *others)

    monkeypatch.setattr(resume, "_put_back", incomplete)
    assert not same(cut_short(blob, checkpoint, killer, None), undisturbed)


# the file ----------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(table, checkpoint, killer):
    """A model, and the checkpoint of a request of it that was cut short."""
    unlearner = make(MIUUnlearner).fit(table.X, table.y, table.a)
    assert cut_short(pickle.dumps(unlearner), checkpoint, killer, 6) is None
    assert left(checkpoint) == ["state"]
    return unlearner


def test_damaged_files_are_refused_and_leave_the_model_alone(interrupted, checkpoint, tmp_path):
    before, raw = pickle.dumps(interrupted), checkpoint.path.read_bytes()
    places = [0, len(raw) // 2, len(raw) - 1]
    flipped = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in places]
    for broken in [*flipped, *(raw[:at] for at in places), raw + b"\0"]:
        checkpoint.path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"is damaged.*Delete it"):
            interrupted.unlearn(SECOND, checkpoint=checkpoint)
    identity = resume._loaded(raw[len(resume.FORMAT) + 64 :])["identity"]
    checkpoint._write({"identity": identity, "runs": [Payload(tmp_path / "made")]})
    with pytest.raises(pickle.UnpicklingError):
        interrupted.unlearn(SECOND, checkpoint=checkpoint)
    assert not (tmp_path / "made").exists() and pickle.dumps(interrupted) == before
    checkpoint.path.write_bytes(raw)
    interrupted.unlearn(SECOND, checkpoint=checkpoint)  # control: whole, it works
    assert left(checkpoint) == []


#: What makes it another request, beside the rows.
CHANGES = {
    "rows to forget": lambda unlearner: None,
    "training rows": lambda unlearner: vars(unlearner._data).update(X=1.01 * unlearner._data.X),
    "parameters": lambda unlearner: unlearner.set_params(lam=2.0),
    "net": lambda unlearner: unlearner.net_.set_params(batch_size=16),
    "weights of the model": lambda unlearner: unlearner.net_.module_[0].bias.data.add_(1e-6),
    "earlier requests": lambda unlearner: vars(unlearner).update(_n_requests=1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_run_is_refused_or_started_anew(interrupted, checkpoint, what):
    CHANGES[what](interrupted)
    request = [70, 71] if what == "rows to forget" else SECOND
    before = pickle.dumps(interrupted)
    with pytest.raises(CheckpointError, match=f"another run: {what} differ"):
        interrupted.unlearn(request, checkpoint=checkpoint)
    assert pickle.dumps(interrupted) == before and checkpoint.path.exists()
    checkpoint.restart = True
    with pytest.warns(UserWarning, match=what + " differ.*Starting from the beginning"):
        interrupted.unlearn(request, checkpoint=checkpoint)
    assert same(interrupted, pickle.loads(before).unlearn(request)) and left(checkpoint) == []


@pytest.mark.parametrize(
    ("owner", "name", "message"),
    [
        (os, "fsync", "could not be written .a full disk"),
        (UnlearningCheckpoint, "delete", "deleted"),
    ],
)
def test_a_file_that_fails_is_told_and_undoes_no_training(
    owner, name, message, interrupted, checkpoint, monkeypatch
):
    undisturbed = pickle.loads(pickle.dumps(interrupted)).unlearn(SECOND)

    def fail(*_):
        raise OSError("a full disk, or a folder that is read-only")

    monkeypatch.setattr(owner, name, fail)
    checkpoint.keep = owner is os
    earlier = checkpoint.path.read_bytes()
    with pytest.warns(UserWarning, match=message):
        interrupted.unlearn(SECOND, checkpoint=checkpoint)
    assert (checkpoint.path.read_bytes() == earlier) == (owner is os)
    assert same(interrupted, undisturbed) and left(checkpoint) == ["state"]


# what becomes of it ------------------------------------------------------------------------------


def test_no_row_is_in_it_and_nothing_is_left(interrupted, checkpoint, table, killer):
    blob = pickle.dumps(interrupted)
    folder = checkpoint.path.parent
    (folder / "planted").write_bytes(table.X[SECOND].tobytes())
    assert scan_residue(folder, table.X[SECOND], remaining=table.X[:40]), "control"
    (folder / "planted").unlink()
    assert scan_residue(folder, table.X, original=interrupted) == []
    assert stat.S_IMODE(checkpoint.path.stat().st_mode) == 0o600
    (folder / ".state.0123456789abcdef.tmp").write_bytes(b"half a file")
    (folder / "state of affairs").write_text("somebody else's")
    cut_short(blob, checkpoint, killer, None)
    assert left(checkpoint) == ["state of affairs"]


def test_a_loss_that_is_not_finite_leaves_no_file(table, checkpoint):
    unlearner = make(FineTuneUnlearner, lr=1e30).fit(table.X, table.y, table.a)
    with pytest.raises(FloatingPointError):
        unlearner.unlearn(SECOND, checkpoint=checkpoint)
    assert left(checkpoint) == []


# requests of a ledger ----------------------------------------------------------------------------


def test_a_ledgers_checkpoint_is_no_file_that_is_needed(table, tmp_path):
    """It would be deleted when the requests are done; how a ledger uses it: ``chaos_ledger.py``."""
    model, ledger = tmp_path / "model", DeletionLedger(tmp_path / "ledger")
    save(make(FineTuneUnlearner).fit(table.X, table.y, table.a), model)
    ledger.add([str(row) for row in SECOND])
    for taken in (model, ledger.path):
        with pytest.raises(ValueError, match="would be deleted"):
            ledger.run_file(model, full_net(), data={}, checkpoint=taken)
        assert taken.exists()


# what it asks of others --------------------------------------------------------------------------


def test_what_cannot_be_kept_is_told_before_training(table, checkpoint, tmp_path, row_spy):
    net = full_net(callbacks=[("mine", Opaque())])
    unlearner = make(FineTuneUnlearner, net).fit(table.X, table.y, table.a)
    before = pickle.dumps(unlearner)
    row_spy.clear()
    for place, message in [
        (tmp_path / "missing" / "state", "a file in a folder that exists"),
        (tmp_path, "a file in a folder that exists"),
        (checkpoint, "callback 'mine' cannot be kept"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            unlearner.unlearn(SECOND, checkpoint=place)
    assert pickle.dumps(unlearner) == before and left(checkpoint) == []
    assert len(row_spy.rows("retain")) == 0


def test_a_file_does_not_say_what_a_callback_was_given():
    callback = EarlyStopping(patience=9)
    resume._set_state(callback, {"patience": 1, "misses_": 4})
    assert (callback.patience, callback.misses_) == (9, 4)
