"""Kill processes that carry out deletion requests, and count what is lost. See ``--help``.

Each life starts with a model that knows all rows and an empty ledger. A process hands in three
requests and carries them out. It is killed (SIGKILL) at a named point of the work or after a
random time, and started again, up to a few times, until one is let through. After each kill and
at the end it is compared what the ledger and the model's file say with what was acknowledged, and
with the models of a life without kills.

The processes are forked from this one, which has imported everything and trains nothing.
"""

import argparse
import functools
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
from skorch import NeuralNetClassifier

from grmu_sk import RetrainUnlearner, training
from grmu_sk.audit import DeletionLedger, LedgerBusyError, LedgerError, model_hash
from grmu_sk.audit._ledger_store import LedgerStore
from grmu_sk.nets import MLP
from grmu_sk.persistence import PersistenceError

KEY = b"a key of more than sixteen bytes"
N_ROWS = 80
REQUESTS = [["p3", "p7"], ["p11"], ["p20", "p21", "p22"]]
ROWS = [[int(text[1:]) for text in ids] for ids in REQUESTS]
POINT = "GRMU_SK_CHAOS_POINT"
MODES = ("together", "one by one")
#: Where a process can be told to die; the number says at which passage.
POINTS = [
    *(f"in {event}" for event in ("created", "received", "started", "computed", "done")),
    *(f"after {event}" for event in ("received", "started", "computed", "done")),
    "ledger made",
    "training",
    "model half written",
    "model written",
    "model replaced",
]


def net():
    return NeuralNetClassifier(
        MLP,
        module__n_features=4,
        module__hidden=(8,),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=2,
        lr=0.1,
        batch_size=16,
        train_split=None,
        verbose=0,
    )


def data():
    rng = np.random.default_rng(0)
    y, a = np.arange(N_ROWS) % 2, np.arange(N_ROWS) // 2 % 2
    X = rng.normal(size=(N_ROWS, 4)) + np.c_[y, a, y - a, y + a]
    return {"X": X.astype(np.float32), "y": y, "groups": a}


# what a process does -----------------------------------------------------------------------------


def fit(folder):
    ids = [f"p{row}" for row in range(N_ROWS)]
    RetrainUnlearner(net(), random_state=0).fit(**data(), sample_id=ids).save(folder / "model")


def serve(folder, mode):
    """Hand in all requests and carry them out; done by a process that may be killed."""
    ledger = patiently(lambda: DeletionLedger(folder / "ledger", key=KEY))
    for number, ids in enumerate(REQUESTS):
        ledger.add(ids)
        acknowledge(folder, number)
        if mode == "one by one":
            run(ledger, folder)
    run(ledger, folder)


def acknowledge(folder, number):
    with open(folder / "acknowledged", "ab", buffering=0) as file:
        file.write(f"{number}\n".encode())


def run(ledger, folder):
    patiently(lambda: ledger.run_file(folder / "model", net(), data=data()))


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

        @functools.wraps(original)
        def wrapped(*args, **kwargs):
            result = original(*args, **kwargs)
            reach(what(*args))
            return result

        setattr(owner, name, wrapped)

    after(LedgerStore, "append", lambda _, connection, event: f"in {event}")
    after(LedgerStore, "_put_in_place", lambda *_: "ledger made")
    after(DeletionLedger, "add", lambda *_: "after received")
    after(DeletionLedger, "_start", lambda *_: "after started")
    after(DeletionLedger, "_record", lambda _, run, token, event: f"after {event}")
    after(training, "_run_phase", lambda *_: "training")
    replace, fsync = os.replace, os.fsync

    def replaced(source, target):
        reach("model written")
        replace(source, target)
        reach("model replaced")

    def synced(handle):
        name = os.readlink(f"/proc/self/fd/{handle}") if os.path.isdir("/proc/self/fd") else ""
        if ".model." in name:
            if passages["model half written"] + 1 == int(passage):
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            reach("model half written")
        fsync(handle)

    os.replace = replaced
    if point == "model half written":
        os.fsync = synced


def sabotage(how):
    """Break a promise on purpose: the figures must show it."""
    record, add = DeletionLedger._record, DeletionLedger.add

    def done_before_the_model_is_written(self, run, token, event, **details):
        if event == "computed":
            record(self, run, token, "done", **details)
        elif event != "done":
            record(self, run, token, event, **details)

    def acknowledge_before_it_is_written(self, ids, **kwargs):
        acknowledge(self.path.parent, [list(ids) == known for known in REQUESTS].index(True))
        return add(self, ids, **kwargs)

    if how == "done first":
        DeletionLedger._record = done_before_the_model_is_written
    elif how == "acknowledge first":
        DeletionLedger.add = acknowledge_before_it_is_written
    elif how:
        raise ValueError(how)


def child(action, folder, *args, point="", broken=""):
    """Fork a process that does something; return its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.environ[POINT] = point
        sabotage(broken)
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
    """Lives with kills, and what was found in them."""

    def __init__(self, folder, seed, broken=""):
        self.folder, self.broken = folder, broken
        self.random = random.Random(seed)
        self.found = Counter()
        self.points = Counter()
        self.start = folder / "start"
        self.start.mkdir()
        assert ended(child(fit, self.start)) is False, (self.start / "errors").read_text()
        self.hashes, self.seconds = {}, {}
        for mode in MODES:
            life = self.new_life()
            assert ended(child(serve, self.new_life(), mode)) is False  # the first one is slow
            began = time.monotonic()
            assert ended(child(serve, life, mode)) is False, (life / "errors").read_text()
            self.seconds[mode] = time.monotonic() - began
            history = DeletionLedger(life / "ledger", key=KEY).history()
            after = [entry.details["model_after"] for entry in history if entry.event == "done"]
            self.hashes[mode] = [model_hash(self.model(self.start)), *after]

    def new_life(self):
        life = self.folder / f"life{len(list(self.folder.iterdir()))}"
        shutil.copytree(self.start, life)
        return life

    def model(self, life):
        return RetrainUnlearner.load(life / "model", net())

    def at_point(self, point):
        """Die once at this point, at its first or a later passage."""
        mode = self.random.choice(MODES)
        life = self.new_life()
        passage = self.random.randint(1, 3)
        for tried in range(passage, 0, -1):  # not every point is passed so often
            killed = self.killed(life, mode, [child_with(self, life, mode, f"{point}:{tried}")])
            if killed:
                self.points[point] += killed
                break
            life = self.new_life()
        self.finish(life, mode)

    def at_random(self, n_processes=1):
        """Die a few times, after random times; perhaps in the middle of a second process's way."""
        mode = self.random.choice(MODES) if n_processes == 1 else "together"
        life = self.new_life()
        for _ in range(self.random.randint(1, 3)):
            pids = [child_with(self, life, mode, "") for _ in range(n_processes)]
            time.sleep(self.random.uniform(0, 1.1 * self.seconds[mode]))
            os.kill(pids[0], signal.SIGKILL)  # not waited for yet, so its number is still its own
            name = "random time" if n_processes == 1 else "random time, two processes"
            n_killed = self.killed(life, mode, pids)
            self.points[name] += n_killed
            # a busy machine becomes slower and faster; too late is time wasted
            self.seconds[mode] *= 1.1 if n_killed else 0.7
        self.finish(life, mode)

    def together(self):
        """Two processes at once, and nobody dies."""
        life = self.new_life()
        self.killed(life, "together", [child_with(self, life, "together", "") for _ in range(2)])
        self.found["pairs of processes"] += 1
        self.finish(life, "together")

    def killed(self, life, mode, pids):
        results = [ended(pid) for pid in pids]
        self.found["errors"] += results.count("failed")
        n_killed = results.count(True)
        self.found["kills"] += n_killed
        self.look(life, mode)
        return n_killed

    def look(self, life, mode):
        """Compare ledger and model with what was acknowledged."""
        try:
            model = self.model(life)
        except (PersistenceError, OSError):
            self.found["unreadable models"] += 1
            return None
        if model_hash(model) not in self.hashes[mode]:
            self.found["half-done models"] += 1
        acknowledged = set()
        if (life / "acknowledged").exists():
            acknowledged = {int(line) for line in (life / "acknowledged").read_text().split()}
        try:
            ledger = DeletionLedger(life / "ledger", key=KEY, create=False)
        except LedgerError as error:
            missing = "no ledger" in str(error)
            self.found["lost requests"] += len(acknowledged)
            self.found["damaged ledgers"] += not missing
            return None
        for number in acknowledged:
            asked = ledger.requests_of(REQUESTS[number])
            self.found["lost requests"] += None in asked
        self.found["returned rows"] += len(ledger.returned_rows(model))
        return ledger, model

    def finish(self, life, mode):
        """Let a last process through; all must be as if none had died."""
        self.found["lives"] += 1
        failed = ended(child(serve, life, mode))
        self.found["errors"] += failed is not False
        seen = self.look(life, mode)
        if seen is None:
            return
        ledger, model = seen
        done = Counter(
            number
            for entry in ledger.history()
            if entry.event == "done"
            for number in runs(ledger)[entry.details["run"]]
        )
        self.found["requests done twice"] += sum(count > 1 for count in done.values())
        self.found["requests not done"] += len(REQUESTS) - ledger.counts()["done"]
        self.found["other results"] += model_hash(model) != self.hashes[mode][-1]
        remaining = set(model.remaining_idx_.tolist())
        self.found["returned rows"] += len(remaining & {row for rows in ROWS for row in rows})
        if not any(self.problems().values()):
            shutil.rmtree(life)

    def problems(self):
        names = (
            "lost requests",
            "returned rows",
            "requests not done",
            "requests done twice",
            "half-done models",
            "unreadable models",
            "damaged ledgers",
            "other results",
            "errors",
        )
        return {name: self.found[name] for name in names}


def child_with(chaos, life, mode, point):
    return child(serve, life, mode, point=point, broken=chaos.broken)


def runs(ledger):
    """Which requests each run took on."""
    return {
        entry.details["run"]: entry.details["requests"]
        for entry in ledger.history()
        if entry.event == "started"
    }


def report(chaos):
    return {
        "kills": chaos.found["kills"],
        "lives": chaos.found["lives"],
        "pairs of processes": chaos.found["pairs of processes"],
        **chaos.problems(),
        "kills by point": dict(chaos.points),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="how many at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", default="all", help="named points, separated by commas; none")
    parser.add_argument("--broken", default="", help="'done first' or 'acknowledge first'")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    points = {"all": POINTS, "none": []}.get(options.points, options.points.split(","))
    # to SIGKILL what is written is written, wherever it is; waiting for a disk would take long
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as name:
        chaos = Chaos(Path(name), options.seed, options.broken)
        for point in points:
            chaos.at_point(point)
        kinds = [chaos.at_random, chaos.at_random, lambda: chaos.at_random(2), chaos.together]
        while chaos.found["kills"] < options.kills:
            kinds[chaos.found["lives"] % len(kinds)]()
            print(f"{chaos.found['kills']} kills", end="\r", file=sys.stderr, flush=True)
        found = report(chaos)
        if chaos.found["errors"]:
            for errors in Path(name).glob("life*/errors"):
                sys.stderr.write(errors.read_text())
    if options.json:
        print(json.dumps(found))
    else:
        by_point = found.pop("kills by point")
        for what, count in found.items():
            print(f"{count:6}  {what}")
        print("\nKills by point:")
        for point, count in by_point.items():
            print(f"{count:6}  {point}")
    return any(chaos.problems().values())


if __name__ == "__main__":
    sys.exit(main())
