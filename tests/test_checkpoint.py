"""An ``unlearn`` that is cut short and resumed comes to the bits of one that nobody disturbed.

Here a run is cut short by an exception, which is quick, so that every method and every kind of
state can be tried at many steps. Processes that are really killed: ``audit/test_killed_requests``.
"""

import json
import os
import pickle
import random
import stat
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from conftest import make_net, same_weights
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
    TrainEndCheckpoint,
    Unfreezer,
)
from skorch.dataset import ValidSplit
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from grmu_sk import (
    BoundaryExpandUnlearner,
    CheckpointError,
    FineTuneUnlearner,
    GroupDROUnlearner,
    MIUUnlearner,
    RetrainUnlearner,
    SISAUnlearner,
    SSDUnlearner,
    UnlearningCheckpoint,
    progress,
)
from grmu_sk.audit import DeletionLedger, scan_residue
from grmu_sk.base import BaseUnlearner
from grmu_sk.progress import NoProgress, Progress, RunProgress
from grmu_sk.training import Phase, train
from grmu_sk.unlearners import all_unlearners
from grmu_sk.utils import _files
from grmu_sk.utils._description import describe
from grmu_sk.utils._state_tree import NotPlainError, decode, encode

FIRST, SECOND = [40, 41], [50, 51, 60]
SHORT = {"max_epochs": 3, "forget_epochs": 2, "tune_updates": (3, 2)}


class Net(nn.Sequential):
    """Batch normalisation and dropout: buffers and random numbers."""

    def __init__(self):
        super().__init__(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)
        )


def schedules():
    return [
        ("by_epoch", LRScheduler("CosineAnnealingLR", T_max=3)),
        ("by_batch", LRScheduler("StepLR", step_every="batch", step_size=2)),
        ("stopping", EarlyStopping(patience=9, load_best=True, sink=print)),
    ]


def full_net(**params):
    defaults = {
        "train_split": ValidSplit(4, stratified=True),
        "callbacks": schedules(),
        "batch_size": 48,
    }
    return make_net(Net, **{**defaults, **params})


def make(method, net=None, **params):
    known = method._get_param_names()
    short = {name: value for name, value in SHORT.items() if name in known}
    if "reweight" in known:
        short["reweight"] = True
    return method(full_net() if net is None else net, random_state=0, **{**short, **params})


class Killed(BaseException):
    """Nothing catches it, as nothing catches a kill."""


@pytest.fixture
def killer(monkeypatch):
    """Cuts training short at a moment: after a step, a phase or a write, as they come."""

    class Killer:
        moments, at = 0, None

        def watch(self, owner, name):
            original = getattr(owner, name)

            def watched(*args, **kwargs):
                result = original(*args, **kwargs)
                self.moments += 1
                if self.moments == self.at:
                    raise Killed
                return result

            monkeypatch.setattr(owner, name, watched)

    killer = Killer()
    for owner, name in ((Progress, "step"), (RunProgress, "end_phase"), (Progress, "store")):
        killer.watch(owner, name)
    # what is written is written; waiting for a disk would take most of the time
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    return killer


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "kept").mkdir()
    return UnlearningCheckpoint(tmp_path / "kept" / "state", every_steps=1, every_seconds=None)


def left(checkpoint):
    return sorted(path.name for path in checkpoint.path.parent.iterdir())


def result(unlearner):
    """Weights, buffers and history, without what a clock says."""
    weights = [value.numpy() for value in unlearner.net_.module_.state_dict().values()]
    rows = [{k: v for k, v in row.items() if k != "dur"} for row in unlearner.history_]
    return weights, repr(rows)


def same(one, other):
    (weights, rows), (other_weights, other_rows) = result(one), result(other)
    return rows == other_rows and all(map(np.array_equal, weights, other_weights))


def cut_short(blob, checkpoint, killer, at, request=SECOND, **data):
    """Load the model, as the next process would, and let it forget; return it if it did."""
    unlearner = pickle.loads(blob)
    killer.moments, killer.at = 0, at
    try:
        return unlearner.unlearn(request, checkpoint=checkpoint, **data)
    except Killed:
        return None
    finally:
        killer.at = None


def assert_resumes(unlearner, checkpoint, killer, n_kills=3, **data):
    """Kill at random moments, again and again; the result is that of an undisturbed run."""
    blob = pickle.dumps(unlearner)
    undisturbed = pickle.loads(blob).unlearn(SECOND, **data)
    killer.moments = 0
    watched = pickle.loads(blob).unlearn(SECOND, checkpoint=checkpoint, **data)
    assert same(watched, undisturbed), "storing the state changes the result"
    assert killer.moments > 1 and left(checkpoint) == []
    n_moments, rng = killer.moments, random.Random(0)
    latest = max(2, n_moments // (n_kills + 1))
    for _ in range(n_kills):
        assert cut_short(blob, checkpoint, killer, rng.randint(2, latest), **data) is None
        assert checkpoint.path.exists()
    resumed = cut_short(blob, checkpoint, killer, None, **data)
    assert killer.moments < n_moments, "started from the beginning"
    assert same(resumed, undisturbed)
    assert left(checkpoint) == []


# every method, every kind of state ---------------------------------------------------------------


@pytest.mark.parametrize("method", [pytest.param(cls, id=name) for name, cls in all_unlearners()])
def test_every_method_resumes_after_an_earlier_request(method, table, checkpoint, killer):
    unlearner = make(method).fit(table.X, table.y, table.a).unlearn(FIRST)
    assert_resumes(unlearner, checkpoint, killer, n_kills=1)


class Ema(Callback):
    """Holds a module, a counter and a nested callback."""

    def on_train_begin(self, net, **kwargs):
        self.mean_ = nn.Linear(4, 8)
        self.mean_.load_state_dict(net.module_[0].state_dict())
        self.inner_ = GradientNormClipping(0.5)
        self.n_batches_ = 0

    def on_batch_end(self, net, training, **kwargs):
        if not training:
            return
        self.n_batches_ += 1
        with torch.no_grad():
            self.mean_.weight.lerp_(net.module_[0].weight, 0.1)
            net.module_[0].weight.lerp_(self.mean_.weight, 1 / (1 + self.n_batches_))


class Accumulating(NeuralNetClassifier):
    """Collects gradients over two batches, as skorch's documentation shows it."""

    def train_step_single(self, batch, **fit_params):
        self._set_training(True)
        X, y = batch
        y_pred = self.infer(X, **fit_params)
        loss = self.get_loss(y_pred, y, X=X, training=True)
        loss.backward()
        return {"loss": loss, "y_pred": y_pred}

    def train_step(self, batch, **fit_params):
        done = len(self.history[-1, "batches"])
        step = self.train_step_single(batch, **fit_params)
        if done % 2 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


def accumulating_net():
    params = full_net(callbacks=[]).get_params(deep=False)
    return Accumulating(**params)


NETS = {
    "adam and a plateau": lambda: full_net(
        optimizer=torch.optim.AdamW,
        callbacks=[LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=0)],
    ),
    "one cycle": lambda: full_net(
        callbacks=[LRScheduler(OneCycleLR, max_lr=0.1, total_steps=99, step_every="batch")]
    ),
    "L-BFGS": lambda: full_net(optimizer=torch.optim.LBFGS, lr=0.01, callbacks=[]),
    "scores of training batches": lambda: full_net(
        callbacks=[EpochScoring("accuracy", on_train=True, name="train_acc")]
    ),
    "freezing": lambda: full_net(
        callbacks=[Freezer("0.*"), Unfreezer("0.*", at=3), ProgressBar(detect_notebook=False)]
    ),
    "callbacks of one's own": lambda: full_net(callbacks=[Ema()]),
    "gradients over several batches": accumulating_net,
    "loader with a generator": lambda: full_net(
        iterator_train__generator=torch.Generator().manual_seed(3), iterator_train__pin_memory=False
    ),
    "loader with workers": lambda: full_net(iterator_train__num_workers=1, batch_size=60),
}


@pytest.mark.parametrize("kind", NETS)
def test_every_kind_of_state(kind, table, checkpoint, killer, tmp_path):
    unlearner = make(MIUUnlearner, NETS[kind]()).fit(table.X, table.y, table.a)
    assert_resumes(unlearner, checkpoint, killer, n_kills=2)


def test_files_that_callbacks_write(table, checkpoint, killer, tmp_path):
    net = full_net(callbacks=[TrainEndCheckpoint(dirname=str(tmp_path / "theirs"))])
    unlearner = make(FineTuneUnlearner, net).fit(table.X, table.y, table.a)
    assert_resumes(unlearner, checkpoint, killer)


@pytest.mark.parametrize(
    "params",
    [{"reference": True}, {"estimators": "separate"}, {"retain_fraction": 0.5}],
    ids=lambda params: next(iter(params)),
)
def test_variants_of_miu(params, table, checkpoint, killer):
    unlearner = make(MIUUnlearner, **params).fit(table.X, table.y, table.a)
    assert_resumes(unlearner, checkpoint, killer)


class Noisy(torch.utils.data.Dataset):
    """Inputs that come out differently each time, by all three global generators."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        noise = torch.randn(4) + random.gauss(0, 1) + np.random.normal()
        return torch.from_numpy(self.X[i]) + 0.1 * noise


def test_random_transforms(table, checkpoint, killer):
    X = Noisy(table.X)
    unlearner = make(MIUUnlearner).fit(X, table.y, table.a)
    blob = pickle.dumps(unlearner)
    given = {"X": X, "y": table.y, "groups": table.a}
    undisturbed = pickle.loads(blob).unlearn(SECOND, **given)
    assert cut_short(blob, checkpoint, killer, 7, **given) is None
    assert same(cut_short(blob, checkpoint, killer, None, **given), undisturbed)


def test_memory_mapped_rows_and_weights_of_rows(table, checkpoint, killer, tmp_path):
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, table.X.shape)
    X[:] = table.X
    given = {"y": table.y, "groups": table.a, "sample_weight": np.linspace(0.5, 2, table.n)}
    blob = pickle.dumps(make(RetrainUnlearner).fit(X, **given))
    undisturbed = pickle.loads(blob).unlearn(SECOND, X=X, **given)
    assert cut_short(blob, checkpoint, killer, 7, X=X, **given) is None
    resumed = cut_short(blob, checkpoint, killer, None, X=X, **given)
    assert same(resumed, undisturbed)


def test_an_early_stop_after_the_resumption(table, checkpoint, killer):
    net = full_net(callbacks=[EarlyStopping(monitor="train_loss", patience=2, threshold=10)])
    unlearner = make(FineTuneUnlearner, net, max_epochs=9).fit(table.X, table.y, table.a)
    assert len(pickle.loads(pickle.dumps(unlearner)).unlearn(SECOND).history_) < 3 + 9
    assert_resumes(unlearner, checkpoint, killer)


# controls: without one part of the state it is another result ------------------------------------


def nothing_to_put_back(part, monkeypatch):
    """Let the resumed process leave out one part of the state."""
    original = RunProgress._put_back

    def incomplete(self, state):
        now = self._state()
        original(self, {**state, part: pickle.loads(pickle.dumps(now[part]))})

    monkeypatch.setattr(RunProgress, "_put_back", incomplete)


@pytest.mark.parametrize(
    ("method", "part"),
    [
        (FineTuneUnlearner, "modules"),
        (FineTuneUnlearner, "optimizers"),
        (FineTuneUnlearner, "random"),
        (FineTuneUnlearner, "callbacks"),
        (FineTuneUnlearner, "history"),
        (MIUUnlearner, "phases"),
        (GroupDROUnlearner, "phases"),
        (BoundaryExpandUnlearner, "phases"),
        (SISAUnlearner, "random"),
    ],
)
def test_control_without_a_part_of_the_state(method, part, table, checkpoint, killer, monkeypatch):
    params = {"eta": 1.0} if method is GroupDROUnlearner else {}
    blob = pickle.dumps(make(method, **params).fit(table.X, table.y, table.a))
    undisturbed = pickle.loads(blob).unlearn(SECOND)
    assert cut_short(blob, checkpoint, killer, 11) is None
    nothing_to_put_back(part, monkeypatch)
    assert not same(cut_short(blob, checkpoint, killer, None), undisturbed)


def test_control_sums_of_a_one_step_method(table, checkpoint, killer, monkeypatch):
    unlearner = make(SSDUnlearner, selection_weighting=1.0).fit(table.X, table.y, table.a)
    blob = pickle.dumps(unlearner)
    undisturbed = pickle.loads(blob).unlearn(SECOND)
    assert cut_short(blob, checkpoint, killer, 5) is None  # after the second of three phases
    nothing_to_put_back("phases", monkeypatch)
    assert not same(cut_short(blob, checkpoint, killer, None), undisturbed)


# the file ----------------------------------------------------------------------------------------


@pytest.fixture
def interrupted(table, checkpoint, killer):
    """A model, and the checkpoint of a request of it that was cut short."""
    unlearner = make(MIUUnlearner).fit(table.X, table.y, table.a)
    blob = pickle.dumps(unlearner)
    assert cut_short(blob, checkpoint, killer, 12) is None
    assert left(checkpoint) == ["state", "state.previous"]
    return unlearner


def damaged_copies(raw):
    for share in (0, 0.01, 0.5, 0.99):
        yield raw[: int(share * len(raw))]
    rng = random.Random(0)
    for trial in range(40):
        position = rng.randrange(400) if trial < 20 else rng.randrange(len(raw))
        yield raw[:position] + bytes([raw[position] ^ 1 << rng.randrange(8)]) + raw[position + 1 :]
    yield raw + b"\0"
    yield b"something else altogether, and long enough"


def test_damage_is_found_and_leaves_the_model_alone(interrupted, checkpoint):
    checkpoint._previous.unlink()
    before = pickle.dumps(interrupted)
    raw = checkpoint.path.read_bytes()
    for broken in damaged_copies(raw):
        checkpoint.path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=r"is damaged.*Delete it"):
            interrupted.unlearn(SECOND, checkpoint=checkpoint)
    assert pickle.dumps(interrupted) == before
    checkpoint.path.write_bytes(raw)
    interrupted.unlearn(SECOND, checkpoint=checkpoint)  # control: whole, it works
    assert left(checkpoint) == []


def test_the_one_before_serves_if_the_newest_is_damaged(interrupted, checkpoint, killer):
    undisturbed = pickle.loads(pickle.dumps(interrupted)).unlearn(SECOND)
    os.truncate(checkpoint.path, 1000)
    killer.moments = 0
    with pytest.warns(UserWarning, match="is damaged.*The one before is used"):
        interrupted.unlearn(SECOND, checkpoint=checkpoint)
    assert same(interrupted, undisturbed)
    assert left(checkpoint) == []


def test_a_file_of_another_kind_or_format(interrupted, checkpoint, tmp_path, monkeypatch):
    checkpoint._previous.unlink()
    interrupted.save(checkpoint.path)
    with pytest.raises(CheckpointError, match="another format"):
        interrupted.unlearn(SECOND, checkpoint=checkpoint)
    monkeypatch.setattr("grmu_sk.checkpoint.FORMAT_VERSION", "2")
    checkpoint._store({"finished": []})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="another format"):
        interrupted.unlearn(SECOND, checkpoint=checkpoint)


def other_rows(unlearner):
    return {"forget": [70, 71]}


def other_parameter(unlearner):
    unlearner.set_params(lam=2.0)


def other_net(unlearner):
    unlearner.net_.set_params(batch_size=16)


def other_model(unlearner):
    with torch.no_grad():
        unlearner.net_.module_[0].bias += 1e-6


def other_data(unlearner):
    unlearner._data.X = unlearner._data.X.copy()
    unlearner._data.X[100, 1] += 1e-3


def other_requests(unlearner):
    unlearner.unlearn([3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_rows, "differs in rows to forget"),
        (other_parameter, r"differs in parameters lam \(1.0 then, 2.0 now\)"),
        (other_net, r"differs in net batch_size \(48 then, 16 now\)"),
        (other_model, "differs in weights of the model"),
        (other_data, "differs in training rows"),
        (other_requests, r"weights of the model .*earlier requests \(0 then, 1 now\)"),
    ],
)
def test_another_run_is_refused_or_started_anew(interrupted, checkpoint, change, message):
    other = pickle.loads(pickle.dumps(interrupted))
    request = (change(other) or {}).get("forget", SECOND)
    before = pickle.dumps(other)
    with pytest.raises(CheckpointError, match=message):
        other.unlearn(request, checkpoint=checkpoint)
    assert pickle.dumps(other) == before and checkpoint.exists()
    undisturbed = pickle.loads(before).unlearn(request)
    checkpoint.unusable = "restart"
    with pytest.warns(UserWarning, match=message + ".*Starting from the beginning"):
        other.unlearn(request, checkpoint=checkpoint)
    assert same(other, undisturbed)
    assert left(checkpoint) == []


def test_other_versions_are_refused(interrupted, checkpoint, monkeypatch):
    monkeypatch.setattr("grmu_sk.base.versions", lambda: {"torch": "1.0"})
    with pytest.raises(CheckpointError, match=r'versions torch \(".*" then, "1.0" now\)'):
        interrupted.unlearn(SECOND, checkpoint=checkpoint)


def test_a_full_disk_is_told_and_does_not_end_the_training(table, checkpoint, killer, monkeypatch):
    unlearner = make(FineTuneUnlearner).fit(table.X, table.y, table.a)
    blob = pickle.dumps(unlearner)
    undisturbed = pickle.loads(blob).unlearn(SECOND)
    assert cut_short(blob, checkpoint, killer, 6) is None
    earlier = checkpoint.path.read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="could not be written .*No space left"):
        assert cut_short(blob, checkpoint, killer, 8) is None
    assert checkpoint.path.read_bytes() == earlier
    assert left(checkpoint) in (["state"], ["state", "state.previous"])  # and no half file
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    assert same(cut_short(blob, checkpoint, killer, None), undisturbed)


def test_a_folder_that_is_not_there_is_told_before_anything_is_done(table, tmp_path, row_spy):
    unlearner = make(FineTuneUnlearner).fit(table.X, table.y, table.a)
    row_spy.clear()
    for path in (tmp_path / "missing" / "state", tmp_path):
        with pytest.raises(CheckpointError, match="a file in a folder that exists"):
            unlearner.unlearn(SECOND, checkpoint=path)
    assert len(row_spy.rows("retain")) == 0


# what becomes of it ------------------------------------------------------------------------------


def test_ctrl_c_leaves_the_last_finished_state_and_the_checkpoint(table, checkpoint, monkeypatch):
    unlearner = make(MIUUnlearner).fit(table.X, table.y, table.a)
    before = pickle.dumps(unlearner)
    undisturbed = pickle.loads(before).unlearn(SECOND)

    class Interrupting(Killed, KeyboardInterrupt):
        pass

    def stop_at_five(self, step=Progress.step):
        step(self)
        self.seen = getattr(self, "seen", 0) + 1
        if self.seen == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "step", stop_at_five)
        with pytest.raises(KeyboardInterrupt):
            unlearner.unlearn(SECOND, checkpoint=checkpoint)
    assert pickle.dumps(unlearner) == before
    assert checkpoint.exists()
    assert same(unlearner.unlearn(SECOND, checkpoint=checkpoint), undisturbed)
    assert left(checkpoint) == []


def test_no_row_is_in_it_and_nothing_is_left(interrupted, checkpoint, table, killer):
    blob = pickle.dumps(interrupted)
    rows = table.X[SECOND]
    folder = checkpoint.path.parent
    # control: what the scan would find if rows or weights were there
    weights = [value.numpy() for value in interrupted.net_.module_.state_dict().values()]
    (folder / "planted").write_bytes(rows.tobytes())
    assert scan_residue(folder, rows, remaining=table.X[:40])
    (folder / "planted").unlink()
    assert scan_residue(folder, table.X, original=weights) == []
    assert stat.S_IMODE(checkpoint.path.stat().st_mode) == 0o600
    (folder / ".state.0123456789abcdef.tmp").write_bytes(b"half a file")
    (folder / "state of affairs").write_text("somebody else's")
    unlearner = cut_short(blob, checkpoint, killer, None)
    assert left(checkpoint) == ["state of affairs"]
    assert scan_residue(unlearner, rows, original=weights, remaining=unlearner._data.X) == []


def test_the_checkpoint_of_the_first_step_holds_weights(table, checkpoint, killer):
    """Control of the scan: the same file does hold weights, those of the moment."""
    blob = pickle.dumps(make(FineTuneUnlearner).fit(table.X, table.y, table.a))
    assert cut_short(blob, checkpoint, killer, 5) is None
    held = checkpoint._read_newest()["current"]["state"]["modules"]["module"]["state"]
    assert scan_residue(checkpoint.path, None, original={k: v.numpy() for k, v in held.items()})


def test_kept_until_the_model_is_saved(table, checkpoint, killer):
    blob = pickle.dumps(make(SISAUnlearner, n_shards=2).fit(table.X, table.y, table.a))
    checkpoint.keep = True
    done = pickle.loads(blob).unlearn(SECOND, checkpoint=checkpoint)
    assert checkpoint.exists()
    killer.moments = 0
    again = pickle.loads(blob).unlearn(SECOND, checkpoint=checkpoint)
    assert killer.moments <= 1, "it trained again"
    assert same(again, done)
    checkpoint.delete()
    assert left(checkpoint) == [] and not checkpoint.exists()
    checkpoint.delete()  # twice does no harm


def test_a_run_that_diverges_leaves_nothing(table, checkpoint):
    unlearner = make(FineTuneUnlearner).fit(table.X, table.y, table.a)
    unlearner._data.X[100:] = np.nan
    with pytest.raises(FloatingPointError):
        unlearner.unlearn(SECOND, checkpoint=checkpoint)
    assert left(checkpoint) == []


def test_nothing_to_forget_touches_no_file(interrupted, checkpoint):
    interrupted.unlearn([3])
    before = left(checkpoint)
    interrupted.unlearn([3], checkpoint=checkpoint)
    assert left(checkpoint) == before


def test_a_path_alone_and_seconds(table, tmp_path, monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", iter(range(0, 10**6, 25)).__next__)
    stored = []
    monkeypatch.setattr(UnlearningCheckpoint, "_store", lambda self, state: stored.append(state))
    unlearner = make(FineTuneUnlearner).fit(table.X, table.y, table.a)
    unlearner.unlearn(SECOND, checkpoint=str(tmp_path / "state"))
    assert 1 < len(stored) < 9  # every third time that the clock is looked at
    places = [(at["current"]["epoch"], at["current"]["n_batches"]) for at in stored[:-1]]
    assert places == sorted(places)


# requests of a ledger ----------------------------------------------------------------------------


@pytest.fixture
def service(table, tmp_path, checkpoint):
    """A saved model, a ledger with a request, and what carries it out as a process would."""
    unlearner = make(FineTuneUnlearner).fit(table.X, table.y, table.a)
    unlearner.save(tmp_path / "model")
    ledger = DeletionLedger(tmp_path / "ledger")
    ledger.add([str(row) for row in SECOND])
    given = {"X": table.X, "y": table.y, "groups": table.a}

    def serve():
        return ledger.run_file(tmp_path / "model", full_net(), data=given, checkpoint=checkpoint)

    return serve, ledger, unlearner.unlearn(SECOND), tmp_path / "model"


def test_a_ledgers_run_goes_on_where_it_was(service, checkpoint, killer):
    serve, ledger, expected, model = service
    killer.at = 9
    with pytest.raises(Killed):
        serve()
    assert left(checkpoint) and ledger.counts()["running"] == 1
    killer.moments, killer.at = 0, None
    assert serve() == [1]
    assert 0 < killer.moments < 9 * 4
    assert same_weights(FineTuneUnlearner.load(model, full_net()), expected)
    assert left(checkpoint) == [] and serve() == []


def test_a_ledgers_checkpoint_is_there_until_the_model_is_written(service, checkpoint, killer):
    serve, _, expected, model = service
    before = model.read_bytes()
    with pytest.MonkeyPatch.context() as killing, pytest.raises(Killed):
        killing.setattr(DeletionLedger, "_record", raise_killed)
        serve()  # trained, and killed before anything was said of it
    assert left(checkpoint) and model.read_bytes() == before
    killer.moments = 0
    assert serve() == [1]
    assert killer.moments < 3, "it trained again"
    assert same_weights(FineTuneUnlearner.load(model, full_net()), expected)
    assert left(checkpoint) == []


def raise_killed(*args, **kwargs):
    raise Killed


def test_a_ledgers_checkpoint_of_a_killed_process_goes_with_the_next_run(service, checkpoint):
    serve, _, expected, model = service
    with pytest.MonkeyPatch.context() as killing, pytest.raises(Killed):
        killing.setattr(UnlearningCheckpoint, "delete", raise_killed)
        serve()  # the model is written
    assert left(checkpoint)
    assert serve() == [] and left(checkpoint) == []
    assert same_weights(FineTuneUnlearner.load(model, full_net()), expected)


@pytest.mark.parametrize("way", ["unlearn", "in memory", "file", "file, hashed ids"])
def test_what_was_done_stays_done_if_its_checkpoint_cannot_be_deleted(
    way, table, tmp_path, checkpoint, monkeypatch
):
    def refuse(self):
        raise PermissionError("the folder is read-only")

    given = {"X": table.X, "y": table.y, "groups": table.a}
    model, key = tmp_path / "model", b"sixteen bytes or more" if "hashed" in way else None
    unlearner = make(FineTuneUnlearner).fit(**given)
    unlearner.save(model)
    ledger = DeletionLedger(tmp_path / "ledger", key=key)
    monkeypatch.setattr(UnlearningCheckpoint, "delete", refuse)
    with pytest.warns(UserWarning, match="could not be deleted .the folder is read-only"):
        if "file" not in way:
            book = ledger if way == "in memory" else None
            unlearner.unlearn(SECOND, ledger=book, checkpoint=checkpoint)
        else:
            ledger.add(SECOND)
            ledger.run_file(model, full_net(), data=given, checkpoint=checkpoint)
            unlearner = FineTuneUnlearner.load(model, full_net())
    assert unlearner.forget_idx_.tolist() == sorted(SECOND)
    assert ledger.counts()["done"] == len(ledger.requests()) == (way != "unlearn")
    assert left(checkpoint), "control"


def test_a_ledgers_checkpoint_that_does_not_fit_is_in_nobodys_way(service, checkpoint, killer):
    serve, _, expected, model = service
    killer.at = 9
    with pytest.raises(Killed):
        serve()
    killer.at = None
    FineTuneUnlearner.load(model, full_net()).set_params(lr=0.01).save(model)
    with pytest.warns(UserWarning, match="parameters lr .*Starting from the beginning"):
        assert serve() == [1]
    assert not same_weights(FineTuneUnlearner.load(model, full_net()), expected)
    assert left(checkpoint) == []


@pytest.mark.parametrize("name", ["model", "ledger"])
def test_a_ledgers_checkpoint_is_no_file_that_is_needed(service, table, name):
    """It would be deleted when the requests are done."""
    _, ledger, _, model = service
    given = {"X": table.X, "y": table.y, "groups": table.a}
    before = {path: path.read_bytes() for path in (model, ledger.path)}
    taken = {"model": model, "ledger": ledger.path}[name]
    with pytest.raises(ValueError, match=f"the file of the {name}.*would be deleted"):
        ledger.run_file(model, full_net(), data=given, checkpoint=taken)
    assert {path: path.read_bytes() for path in before} == before
    another = model.with_name("another")  # control
    assert ledger.run_file(model, full_net(), data=given, checkpoint=another) == [1]
    assert model.exists() and ledger.path.exists() and not another.exists()


def test_a_request_whose_checkpoint_is_the_ledger_is_not_written_down(table, tmp_path):
    unlearner = make(FineTuneUnlearner).fit(table.X, table.y, table.a)
    ledger = DeletionLedger(tmp_path / "ledger")
    with pytest.raises(ValueError, match="the file of the ledger"):
        unlearner.unlearn(SECOND, ledger=ledger, checkpoint=ledger.path)
    assert ledger.requests() == [] and len(unlearner.forget_idx_) == 0
    unlearner.unlearn(SECOND, ledger=ledger)  # control
    assert len(ledger.requests()) == 1


def test_unlearn_with_a_ledger_and_a_checkpoint(table, tmp_path, checkpoint, killer):
    blob = pickle.dumps(make(FineTuneUnlearner).fit(table.X, table.y, table.a))
    undisturbed = pickle.loads(blob).unlearn(SECOND)
    ledger = DeletionLedger(tmp_path / "ledger")
    killer.at = 9
    with pytest.raises(Killed):
        pickle.loads(blob).unlearn(SECOND, ledger=ledger, checkpoint=checkpoint)
    assert left(checkpoint)
    killer.at = None
    resumed = pickle.loads(blob).unlearn(ledger=ledger, checkpoint=checkpoint)
    assert same(resumed, undisturbed) and left(checkpoint) == []


# what it asks of others --------------------------------------------------------------------------


class Opaque(Callback):
    def on_train_begin(self, net, **kwargs):
        self.connection_ = iter(())


def test_state_that_cannot_be_kept_is_told_before_training(table, checkpoint, row_spy):
    net = full_net(callbacks=[("mine", Opaque())])
    unlearner = make(FineTuneUnlearner, net).fit(table.X, table.y, table.a)
    before = pickle.dumps(unlearner)
    row_spy.clear()
    with pytest.raises(CheckpointError, match=r"'mine' \(Opaque\) holds 'connection_'"):
        unlearner.unlearn(SECOND, checkpoint=checkpoint)
    assert pickle.dumps(unlearner) == before and left(checkpoint) == []
    assert len(row_spy.rows("retain")) == 0


def test_a_file_does_not_say_what_a_callback_was_given():
    callback = EarlyStopping(patience=9)
    progress._load_callback("stopping", callback, {"values": {"patience": 1, "misses_": 4}})
    assert (callback.patience, callback.misses_) == (9, 4)


class Fills(Callback):
    def __init__(self, seen=None):
        self.seen = seen

    def on_batch_end(self, net, **kwargs):
        self.seen = [*(self.seen or []), 1]


def test_a_callback_that_changes_what_it_was_given_is_refused(table, checkpoint):
    unlearner = make(FineTuneUnlearner, full_net(callbacks=[("mine", Fills())]))
    unlearner.fit(table.X, table.y, table.a)
    with pytest.raises(CheckpointError, match="'mine' changes what its constructor was given"):
        unlearner.unlearn(SECOND, checkpoint=checkpoint)
    assert len(unlearner.forget_idx_) == 0


class KeepsItself(Opaque):
    """The same, with a state of its own that decides about the result."""

    def on_train_begin(self, net, **kwargs):
        super().on_train_begin(net)
        self.n_ = 0

    def on_batch_end(self, net, **kwargs):
        self.n_ += 1
        net.optimizer_.param_groups[0]["lr"] = 0.1 / self.n_

    def state_dict(self):
        return {"n": self.n_}

    def load_state_dict(self, state):
        self.n_ = state["n"]


def test_a_callback_may_keep_itself(table, checkpoint, killer):
    net = full_net(callbacks=[KeepsItself()])
    unlearner = make(FineTuneUnlearner, net).fit(table.X, table.y, table.a)
    assert_resumes(unlearner, checkpoint, killer)


class HandsNothingOver(BaseUnlearner):
    def _unlearn(self, request):
        return train(request.net, request.data, [Phase("retain", request.retain)], epochs=2)


def test_a_method_that_hands_no_progress_over_is_told(table, checkpoint):
    unlearner = HandsNothingOver(make_net(), random_state=0).fit(table.X, table.y, table.a)
    with pytest.warns(UserWarning, match="Nothing was stored in the checkpoint"):
        unlearner.unlearn(SECOND, checkpoint=checkpoint)


def test_several_processes_are_refused(table, checkpoint):
    class Accelerator:
        num_processes, scaler = 2, None

    net = full_net().initialize()
    RunProgress(Progress(checkpoint, {}, None), net, [], number=0)  # control
    net.accelerator = Accelerator()
    with pytest.raises(CheckpointError, match="several processes"):
        RunProgress(Progress(checkpoint, {}, None), net, [], number=0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"every_seconds": None}, "Give every_steps or every_seconds"),
        ({"every_steps": 0}, "every_steps must be positive"),
        ({"every_seconds": -1}, "every_seconds must be positive"),
        ({"unusable": "ignore"}, "unusable must be"),
    ],
)
def test_bad_parameters(params, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        UnlearningCheckpoint(tmp_path / "state", **params)


# what it costs where nobody asks for it ----------------------------------------------------------


def test_without_a_checkpoint_there_is_no_work_in_a_step(table, monkeypatch):
    batches = iter([1, 2, 3])
    assert NoProgress().batches(lambda: batches, 3) is batches
    for name in ("__init__", "batches", "begin"):
        monkeypatch.setattr(RunProgress, name, None)
    make(FineTuneUnlearner).fit(table.X, table.y, table.a).unlearn(SECOND)


# state as JSON -----------------------------------------------------------------------------------


def test_state_comes_back_as_it_was():
    strided = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    values = {
        "plain": [None, True, 3, -0.0, float("inf"), 1e-310, "é"],
        "nested": ((1, [2]), {"a": {2: (3,)}}, {4, 5}, torch.Size([2, 3])),
        "kinds": [OrderedDict(b=1, a=2), Counter({3: 2})],
        "tensors": [torch.randn(3).bfloat16(), torch.tensor(7), torch.empty(0, 2), strided[0, 0]],
        "arrays": [np.float32(0.1), np.arange(3, dtype="u4"), np.zeros((0, 2)), np.array(["x"])],
        "rng": random.getstate(),
    }
    tensors = {}
    text = json.dumps(encode(values, tensors))
    back = decode(json.loads(text), tensors)
    assert repr(back) == repr({**values, "nested": (*values["nested"][:3], (2, 3))})
    assert type(back["kinds"][0]) is OrderedDict and type(back["kinds"][1]) is Counter
    assert back["tensors"][3].stride() == strided[0, 0].stride()
    assert back["arrays"][0].dtype == np.float32
    back["tensors"][1] += 1
    assert values["tensors"][1] == 7, "not a copy"


@pytest.mark.parametrize("value", [print, object(), {"a": [b"x"]}, np.array([object()])])
def test_state_that_is_not_plain(value):
    with pytest.raises(NotPlainError):
        encode(value, {})


def test_a_forged_file_fills_no_memory():
    again = {"tensor": ["0", "cpu", None]}
    with pytest.raises(KeyError):
        decode([again, again], {"0": torch.ones(9)})
    far = decode({"tensor": ["0", "cpu", [10**6]]}, {"0": torch.ones(9)})
    assert far.untyped_storage().nbytes() == 36


def test_no_foreign_type_comes_from_a_file():
    with pytest.raises(ValueError, match="not expected"):
        decode({"array": ["0", "|O", [1]]}, {"0": torch.zeros(8, dtype=torch.uint8)})
    with pytest.raises(KeyError):
        decode({"object": "os.system"}, {})


def test_leftovers_are_told_from_other_files(tmp_path):
    for name in (".a.0.tmp", "a.0.tmp", ".ab.0.tmp", ".a.0", "a"):
        (tmp_path / name).touch()
    assert [path.name for path in _files.temporaries(tmp_path / "a")] == [".a.0.tmp"]


def test_a_set_among_the_parameters_is_recognised_in_another_process():
    """Where texts hash to other numbers, so that a set has another order."""
    words = [f"word {number}" for number in range(20)]
    assert describe({"keys": set(words), "more": frozenset(words)}) == {
        "keys": sorted(words),
        "more": sorted(words),
    }
