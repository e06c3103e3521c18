"""Kill processes that carry out deletion requests, and count what is lost. See ``--help``.

Each life starts with a model that knows all rows and an empty ledger. A process hands in three
requests and carries them out. It is killed (SIGKILL) at a named point of the work or after a
random time, and started again, up to a few times, until one is let through. After each kill and
at the end it is compared what the ledger and the model's file say with what was acknowledged, and
with the models of a life without kills.

With ``--checkpoint`` the state of training is kept after every epoch, so that a process goes on
with the next one of the request in which the one before was killed.

The processes are forked from this one, which has imported everything and trains nothing.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch._dynamo  # which the first optimizer of each process would import
from skorch import NeuralNetClassifier
from torch import nn

from grmu_sk import (
    MIUUnlearner,
    RetrainUnlearner,
    SISAUnlearner,
    UnlearningCheckpoint,
    training,
)
from grmu_sk.audit import DeletionLedger, LedgerBusyError, LedgerError, model_hash
from grmu_sk.audit.ledger_file import LedgerFile
from grmu_sk.persistence import PersistenceError, load, save

KEY = b"a key of more than sixteen bytes"
N_ROWS = 80
REQUESTS = [["p3", "p7"], ["p11"], ["p20", "p21", "p22"]]
ROWS = [[int(text[1:]) for text in ids] for ids in REQUESTS]
POINT = "GRMU_SK_CHAOS_POINT"
MODES = ("together", "one by one")
METHODS = {
    "retrain": lambda: RetrainUnlearner(net(), random_state=0),
    "miu": lambda: MIUUnlearner(net(), max_epochs=2, tune_updates=(3, 2), random_state=0),
    "sisa": lambda: SISAUnlearner(net(), n_shards=2, random_state=0),
}
#: Where a process can be told to die; the number says at which passage.
POINTS = [
    *(f"in {event}" for event in ("created", "received", "started", "computed", "done")),
    *(f"after {event}" for event in ("received", "started", "computed", "done")),
    *("ledger made", "training", "model half written", "model written", "model replaced"),
]
POINTS_OF_CHECKPOINTS = [
    f"state {how}" for how in ("half written", "written", "replaced", "deleted")
]
PROBLEMS = [
    *("lost requests", "returned rows", "requests not done", "requests done twice"),
    *("half-done models", "unreadable models", "damaged ledgers", "other results"),
    *("checkpoints left", "errors"),
]


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
        )


def net():
    options = {"criterion": nn.CrossEntropyLoss, "optimizer__momentum": 0.9, "lr": 0.1}
    options |= {"max_epochs": 2, "batch_size": 16, "train_split": None, "verbose": 0}
    return NeuralNetClassifier(Net, **options)


def data():
    rng = np.random.default_rng(0)
    y, a = np.arange(N_ROWS) % 2, np.arange(N_ROWS) // 2 % 2
    X = rng.normal(size=(N_ROWS, 4)) + np.c_[y, a, y - a, y + a]
    return {"X": X.astype(np.float32), "y": y, "groups": a}


# what a process does -----------------------------------------------------------------------------


def fit(folder, method):
    ids = [f"p{row}" for row in range(N_ROWS)]
    save(METHODS[method]().fit(**data(), sample_id=ids), folder / "model")


def serve(folder, mode, with_checkpoint):
    """Hand in all requests and carry them out; done by a process that may be killed."""
    ledger = patiently(lambda: DeletionLedger(folder / "ledger", key=KEY))
    for number, ids in enumerate(REQUESTS):
        ledger.add(ids)
        acknowledge(folder, number)
        if mode == "one by one":
            run(ledger, folder, with_checkpoint)
    run(ledger, folder, with_checkpoint)


def acknowledge(folder, number):
    with open(folder / "acknowledged", "ab", buffering=0) as file:
        file.write(f"{number}\n".encode())


def run(ledger, folder, with_checkpoint):
    state = None
    if with_checkpoint:
        state = UnlearningCheckpoint(folder / "state")
        if state.path.exists() and ledger.counts()["running"]:
            with open(folder / "resumed", "ab", buffering=0) as file:
                file.write(b".")
    patiently(lambda: ledger.run_file(folder / "model", net(), data=data(), checkpoint=state))


def patiently(action):
    while True:
        try:
            return action()
        except LedgerBusyError:
            time.sleep(0.02)


# points at which it dies -------------------------------------------------------------------------


def install_crash_point():
    """Make this process kill itself where the environment says: ``<point>:<passage>``."""
    point, _, passage = os.environ.get(POINT, "").partition(":")
    if not point:
        return
    passages = Counter()

    def reach(name):
        passages[name] += 1
        if name == point and passages[name] == int(passage):
            os.kill(os.getpid(), signal.SIGKILL)

    def after(owner, name, what):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            result = original(*args, **kwargs)
            reach(what(*args))
            return result

        setattr(owner, name, wrapped)

    after(LedgerFile, "append", lambda _, connection, event: f"in {event}")
    after(LedgerFile, "_put_in_place", lambda *_: "ledger made")
    after(DeletionLedger, "add", lambda *_: "after received")
    after(DeletionLedger, "_start", lambda *_: "after started")
    after(DeletionLedger, "_record", lambda _, event: f"after {event}")
    after(training, "_run_phase", lambda *_: "training")
    after(UnlearningCheckpoint, "delete", lambda *_: "state deleted")
    replace, fsync = os.replace, os.fsync

    def replaced(source, target):
        reach(f"{Path(target).name} written")
        replace(source, target)
        reach(f"{Path(target).name} replaced")

    def synced(handle):
        name = os.readlink(f"/proc/self/fd/{handle}") if os.path.isdir("/proc/self/fd") else ""
        if f".{point.split()[0]}." in name:
            if passages[point] + 1 == int(passage):
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            reach(point)
        fsync(handle)

    os.replace = replaced
    if point.endswith("half written"):
        os.fsync = synced


def done_first():
    record = DeletionLedger._record

    def before_the_model_is_written(self, event, **details):
        if event != "done":
            record(self, "done" if event == "computed" else event, **details)

    DeletionLedger._record = before_the_model_is_written


def acknowledge_first():
    add = DeletionLedger.add

    def before_it_is_written(self, ids, **kwargs):
        acknowledge(self.path.parent, REQUESTS.index(list(ids)))
        return add(self, ids, **kwargs)

    DeletionLedger.add = before_it_is_written


#: Promises that can be broken on purpose: the figures must show it.
BROKEN = {"done first": done_first, "acknowledge first": acknowledge_first}


def child(action, folder, *args, point="", broken=""):
    """Fork a process that does something; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ[POINT] = point
        BROKEN.get(broken, lambda: None)()
        install_crash_point()
        action(folder, *args)
        code = 0
    except BaseException:
        with open(folder / "errors", "a") as file:
            traceback.print_exc(file=file)
    finally:
        os._exit(code)


def ended(pid):
    """Wait for a process, and tell whether it was killed."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"died of {os.WTERMSIG(status)}"
        return True
    return os.WEXITSTATUS(status) != 0 and "failed"


# what is looked at -------------------------------------------------------------------------------


class Chaos:
    """Lives with kills, and what was found in them. A life is of a kind: a method and a mode."""

    def __init__(self, folder, options):
        self.folder, self.broken = folder, options.broken
        self.with_checkpoint = options.checkpoint
        self.random = random.Random(options.seed)
        self.found = Counter()
        self.points = Counter()
        self.hashes, self.seconds = {}, {}
        self.methods = options.methods.split(",")
        for method in self.methods:
            start = self.start(method)
            start.mkdir()
            assert ended(child(fit, start, method)) is False, (start / "errors").read_text()

    def live_undisturbed(self, kind):
        life, began = self.new_life(kind[0]), time.monotonic()
        pid = child(serve, life, kind[1], self.with_checkpoint)
        assert ended(pid) is False, (life / "errors").read_text()
        self.seconds[kind] = time.monotonic() - began
        history = DeletionLedger(life / "ledger", key=KEY).history()
        after = [entry.details["model_after"] for entry in history if entry.event == "done"]
        self.hashes[kind] = [model_hash(load(self.start(kind[0]) / "model", net())), *after]

    def start(self, method):
        return self.folder / f"start {method}"

    def new_life(self, method):
        life = self.folder / f"life{len(list(self.folder.iterdir()))}"
        return Path(shutil.copytree(self.start(method), life))

    def any_kind(self, modes=MODES):
        kind = self.random.choice(self.methods), self.random.choice(modes)
        if kind not in self.hashes:
            self.live_undisturbed(kind)
        return kind

    def at_point(self, point):
        """Die once at this point, at its first or a later passage, or at the one it names."""
        kind = self.any_kind()
        life = self.new_life(kind[0])
        point, _, number = point.partition(":")
        latest = 12 if point in POINTS_OF_CHECKPOINTS else 3
        passage = int(number) if number else self.random.randint(1, latest)
        for tried in range(passage, 0, -1):  # not every point is passed so often
            killed = self.killed(life, kind, [self.child(life, kind, f"{point}:{tried}")])
            if killed:
                self.points[point] += killed
                break
            life = self.new_life(kind[0])
        self.finish(life, kind)

    def at_random(self, n_processes=1):
        """Die a few times, after random times; perhaps in the middle of a second process's way."""
        kind = self.any_kind(MODES if n_processes == 1 else ["together"])
        life = self.new_life(kind[0])
        for _ in range(self.random.randint(1, 3)):
            pids = [self.child(life, kind) for _ in range(n_processes)]
            time.sleep(self.random.uniform(0, 1.1 * self.seconds[kind]))
            os.kill(pids[0], signal.SIGKILL)  # not waited for yet, so its number is still its own
            name = "random time" if n_processes == 1 else "random time, two processes"
            n_killed = self.killed(life, kind, pids)
            self.points[name] += n_killed
            # a busy machine becomes slower and faster; too late is time wasted
            self.seconds[kind] *= 1.1 if n_killed else 0.7
        self.finish(life, kind)

    def child(self, life, kind, point=""):
        return child(serve, life, kind[1], self.with_checkpoint, point=point, broken=self.broken)

    def killed(self, life, kind, pids):
        results = [ended(pid) for pid in pids]
        self.found["errors"] += results.count("failed")
        n_killed = results.count(True)
        self.found["kills"] += n_killed
        self.look(life, kind)
        return n_killed

    def look(self, life, kind):
        """Compare ledger and model with what was acknowledged."""
        try:
            model = load(life / "model", net())
        except (PersistenceError, OSError):
            self.found["unreadable models"] += 1
            return None
        if model_hash(model) not in self.hashes[kind]:
            self.found["half-done models"] += 1
        told = life / "acknowledged"
        acknowledged = {int(line) for line in told.read_text().split()} if told.exists() else ()
        try:
            ledger = DeletionLedger(life / "ledger", key=KEY, create=False)
        except LedgerError as error:
            self.found["lost requests"] += len(acknowledged)
            self.found["damaged ledgers"] += "no ledger" not in str(error)
            return None
        for number in acknowledged:
            self.found["lost requests"] += None in ledger.requests_of(REQUESTS[number])
        self.found["returned rows"] += len(ledger.returned_rows(model))
        return ledger, model

    def finish(self, life, kind):
        """Let a last process through; all must be as if none had died."""
        self.found["lives"] += 1
        failed = ended(self.child(life, kind))
        self.found["errors"] += failed is not False
        seen = self.look(life, kind)
        if seen is None:
            return
        ledger, model = seen
        told = [(entry.event, entry.details) for entry in ledger.history()]
        done = {about["run"] for event, about in told if event == "done"}
        taken = [about for event, about in told if event == "started" and about["run"] in done]
        times = Counter(number for about in taken for number in about["requests"])
        self.found["requests done twice"] += sum(count > 1 for count in times.values())
        self.found["requests not done"] += len(REQUESTS) - ledger.counts()["done"]
        self.found["other results"] += model_hash(model) != self.hashes[kind][-1]
        remaining = set(model.remaining_idx_.tolist())
        self.found["returned rows"] += len(remaining & {row for rows in ROWS for row in rows})
        if (life / "resumed").exists():
            self.found["resumed in the middle"] += len((life / "resumed").read_bytes())
        self.found["checkpoints left"] += any("state" in path.name for path in life.iterdir())
        if not any(self.found[name] for name in PROBLEMS):
            shutil.rmtree(life)


def run_chaos(arguments):
    """Run what the arguments of the command line say, and return the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="how many at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", default="all", help="such as training or training:2, or none")
    parser.add_argument("--checkpoint", action="store_true", help="go on in the middle")
    parser.add_argument("--methods", default="retrain", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--broken", default="", choices=["", *BROKEN], help="a promise to break")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    every = POINTS + POINTS_OF_CHECKPOINTS * options.checkpoint
    points = {"all": every, "none": []}.get(options.points, options.points.split(","))
    # to SIGKILL what is written is written, wherever it is; waiting for a disk would take long
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        chaos = Chaos(Path(name), options)
        for point in points:
            chaos.at_point(point)
        while chaos.found["kills"] < options.kills:
            chaos.at_random(1 + (chaos.found["lives"] % 3 == 2))
            print(f"{chaos.found['kills']} kills", end="\r", file=sys.stderr, flush=True)
        for errors in Path(name).glob("life*/errors"):
            sys.stderr.write(errors.read_text())
    names = ("kills", "lives", "resumed in the middle", *PROBLEMS)
    return {name: chaos.found[name] for name in names} | {"kills by point": dict(chaos.points)}


if __name__ == "__main__":
    found = run_chaos(sys.argv[1:])
    print(json.dumps(found, indent=1))
    sys.exit(any(found[name] for name in PROBLEMS))
