"""Kill processes that carry out deletion requests, and count what is lost. See ``--help``.

Each life starts with a model that knows all rows and no ledger. A process hands in two requests and
carries them out, and then a third. It is killed (SIGKILL) at a named point of the work or after a
random time, and started again, up to a few times, until one is let through. After each kill and at
the end it is compared what the ledger and the model's file say with what was acknowledged, and with
the models of a life without kills.

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
METHODS = {
    "retrain": lambda: RetrainUnlearner(net(), random_state=0),
    "miu": lambda: MIUUnlearner(net(), max_epochs=2, tune_updates=(3, 2), random_state=0),
    "sisa": lambda: SISAUnlearner(net(), n_shards=2, random_state=0),
}
#: Where a process can be told to die.
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


def serve(folder, with_checkpoint):
    """Hand in all requests and carry them out; done by a process that may be killed."""
    ledger = patiently(lambda: DeletionLedger(folder / "ledger", key=KEY))
    state = folder / "state" if with_checkpoint else None
    for numbers in ([0, 1], [2]):
        for number in numbers:
            ledger.add(REQUESTS[number])
            acknowledge(folder, number)
        patiently(lambda: ledger.run_file(folder / "model", net(), data=data(), checkpoint=state))


def acknowledge(folder, number):
    with open(folder / "acknowledged", "ab", buffering=0) as file:
        file.write(f"{number}\n".encode())


def patiently(action):
    while True:
        try:
            return action()
        except LedgerBusyError:
            time.sleep(0.02)


# how it dies -------------------------------------------------------------------------------------


def die_at(point, passage):
    """Make this process kill itself when it passes a point for the first time, or a later one."""
    passages = Counter()

    def reach(name, last=lambda: None):
        passages[name] += 1
        if name == point and passages[name] == passage:
            last()
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
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name  # such as .model.1a2b.tmp
        half = os.fstat(handle).st_size // 2
        what = name.lstrip(".").partition(".")[0]
        reach(f"{what} half written", lambda: os.ftruncate(handle, half))
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


def child(action, *args, point=(), broken=""):
    """Fork a process that does something; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if broken:
            BROKEN[broken]()
        if point:
            die_at(*point)
        action(*args)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid):
    """Wait for a process; return its exit code, or the negative number of what killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# what is looked at -------------------------------------------------------------------------------


class Chaos:
    """Lives with kills, and what was found in them."""

    def __init__(self, folder, seed=0, checkpoint=False, methods=("retrain",), broken=""):
        self.folder, self.with_checkpoint, self.broken = folder, checkpoint, broken
        self.random = random.Random(seed)
        self.found, self.points = Counter(), Counter()
        self.hashes, self.seconds = {}, {}
        for method in methods:
            self.live_undisturbed(method)

    def live_undisturbed(self, method):
        start = self.folder / method
        start.mkdir()
        assert ended(child(fit, start, method)) == 0
        life, began = self.new_life(method), time.monotonic()
        assert ended(child(serve, life, self.with_checkpoint)) == 0
        self.seconds[method] = time.monotonic() - began
        history = DeletionLedger(life / "ledger", key=KEY).history()
        after = [entry.details["model_after"] for entry in history if entry.event == "done"]
        self.hashes[method] = [model_hash(load(start / "model", net())), *after]

    def new_life(self, method):
        life = self.folder / f"life{len(list(self.folder.iterdir()))}"
        return Path(shutil.copytree(self.folder / method, life))

    def start(self, life, *point):
        return child(serve, life, self.with_checkpoint, point=point, broken=self.broken)

    def at_point(self, point, latest):
        """Die once at this point, at its first or a later passage."""
        method = self.random.choice(list(self.hashes))
        for passage in range(self.random.randint(1, latest), 0, -1):
            life = self.new_life(method)
            if self.end(life, method, [self.start(life, point, passage)], point):
                break  # not every point is passed so often
        self.finish(life, method)

    def at_random(self, n_processes):
        """Die a few times, after random times; perhaps in the middle of a second process's way."""
        method = self.random.choice(list(self.hashes))
        life = self.new_life(method)
        name = "random time" if n_processes == 1 else "random time, two processes"
        for _ in range(self.random.randint(1, 3)):
            pids = [self.start(life) for _ in range(n_processes)]
            time.sleep(self.random.uniform(0, 1.1 * self.seconds[method]))
            os.kill(pids[0], signal.SIGKILL)  # not waited for yet, so its number is still its own
            is_killed = self.end(life, method, pids, name)
            # a busy machine becomes slower and faster; too late is time wasted
            self.seconds[method] *= 1.1 if is_killed else 0.7
        self.finish(life, method)

    def end(self, life, method, pids, point=None):
        """Wait for processes, look at what they left, and tell whether one was killed."""
        codes = [ended(pid) for pid in pids]
        n_killed = codes.count(-signal.SIGKILL)
        self.found["errors"] += len(codes) - codes.count(0) - n_killed
        self.found["kills"] += n_killed
        self.points[point] += n_killed
        self.look(life, method)
        return n_killed > 0

    def look(self, life, method):
        """Compare ledger and model with what was acknowledged, and return them."""
        try:
            model = load(life / "model", net())
        except (PersistenceError, OSError):
            self.found["unreadable models"] += 1
            return None
        self.found["half-done models"] += model_hash(model) not in self.hashes[method]
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
        is_resumed = (life / "state").exists() and ledger.counts()["running"]
        self.found["resumed in the middle"] += bool(is_resumed)
        return ledger, model

    def finish(self, life, method):
        """Let a last process through; all must be as if none had died."""
        self.found["lives"] += 1
        self.found["errors"] += ended(self.start(life)) != 0
        seen = self.look(life, method)
        if seen is None:
            return
        ledger, model = seen
        told = [(entry.event, entry.details) for entry in ledger.history()]
        done = {about["run"] for event, about in told if event == "done"}
        taken = [about for event, about in told if event == "started" and about["run"] in done]
        times = Counter(number for about in taken for number in about["requests"])
        self.found["requests done twice"] += sum(count > 1 for count in times.values())
        self.found["requests not done"] += len(REQUESTS) - ledger.counts()["done"]
        self.found["other results"] += model_hash(model) != self.hashes[method][-1]
        self.found["checkpoints left"] += any("state" in path.name for path in life.iterdir())


def run_chaos(kills, points, latest=1, **options):
    """Die at some points, and then at random until there were so many kills."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    # to SIGKILL what is written is written, wherever it is; waiting for a disk would take long
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        chaos = Chaos(Path(name), **options)
        for point in points:
            chaos.at_point(point, latest)
        while chaos.found["kills"] < kills:
            chaos.at_random(1 + (chaos.found["lives"] % 3 == 2))
            print(f"{chaos.found['kills']} kills", end="\r", file=sys.stderr, flush=True)
    names = ("kills", "lives", "resumed in the middle", *PROBLEMS)
    return {name: chaos.found[name] for name in names} | {"kills by point": dict(chaos.points)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="how many at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", action="store_true", help="go on in the middle")
    parser.add_argument("--methods", default="retrain", help=f"of {', '.join(METHODS)}")
    asked = parser.parse_args()
    found = run_chaos(
        asked.kills,
        POINTS + POINTS_OF_CHECKPOINTS * asked.checkpoint,
        latest=4,
        seed=asked.seed,
        checkpoint=asked.checkpoint,
        methods=asked.methods.split(","),
    )
    print(json.dumps(found, indent=1))
    sys.exit(any(found[name] for name in PROBLEMS))
