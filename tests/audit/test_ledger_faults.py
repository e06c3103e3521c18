"""Faults that are really injected. Nothing is lost, and the message says what happened."""

import errno
import json
import os
import random
import re
import sqlite3
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from chaos_ledger import PROBLEMS, run_chaos
from conftest import FORKED, disk_of

import grmu_sk
from grmu_sk.audit import DeletionLedger, ledger_file
from grmu_sk.audit.ledger_file import LedgerBusyError, LedgerDamagedError, LedgerWriteError, lease

KEY = b"sixteen bytes or more"
IDS = [f"person-{number}" for number in range(40)]


@pytest.fixture
def ledger(tmp_path):
    ledger = DeletionLedger(tmp_path / "requests.ledger", timeout=0.2)
    for start in range(0, 40, 10):
        ledger.add(IDS[start : start + 10], reason=f"letter {start}")
    return ledger


def content(ledger):
    return ledger.requests(), ledger.history(), ledger.requests_of(IDS)


# damage ------------------------------------------------------------------------------------------


def test_bit_flips_are_found_or_change_nothing(ledger, tmp_path):
    raw, expected, copy = ledger.path.read_bytes(), content(ledger), tmp_path / "copy"
    rng = random.Random(0)
    anywhere = [rng.randrange(100 if trial < 30 else len(raw)) for trial in range(100)]
    written = rb"person-17|letter 20|received|\"reason\"|history"
    of_entries = [found.start() for found in re.finditer(written, raw)]
    n_found = 0
    for place in (*anywhere, *of_entries):
        copy.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        try:
            assert content(DeletionLedger(copy)) == expected, f"byte {place}: nobody noticed"
            assert place not in of_entries
        except LedgerDamagedError as error:
            n_found += 1
            assert str(copy) in str(error)
    assert n_found > 30 and len(of_entries) > 10


def test_cut_off_and_other_files(ledger, tmp_path):
    raw = ledger.path.read_bytes()
    database = tmp_path / "database"
    with closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    contents = [raw[: int(share * len(raw))] for share in (0, 0.01, 0.5, 0.99)]
    for before in (*contents, b"Dear Sir or Madam, " * 100, database.read_bytes()):
        ledger.path.write_bytes(before)
        with pytest.raises(LedgerDamagedError):
            DeletionLedger(ledger.path)
        assert ledger.path.read_bytes() == before, "opening it does not make it look new"


# edits -------------------------------------------------------------------------------------------


def edit(path, *statements):
    """Change the file as someone would who knows SQLite."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        made = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for statement in [
            *(f"DROP TRIGGER {name}" for name, _ in made),
            *statements,
            *(sql for _, sql in made),
        ]:
            file.execute(*([statement] if isinstance(statement, str) else statement))


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE history SET details = replace(details, '7', '9') WHERE sequence = 2", "entry 2"),
        ("DELETE FROM history WHERE sequence = 3", "entry 3 of the history is missing"),
        ("DELETE FROM history WHERE sequence = 5", "ends with entry 4"),
        ("INSERT INTO history VALUES (6, '2020', 'done', '{}', '', NULL)", "entry 6"),
        ("UPDATE sqlite_sequence SET seq = 4", "ends with entry 5"),
        ("UPDATE history SET details = x'ff00fe' WHERE sequence = 2", "what no ledger holds"),
        ("PRAGMA user_version = 77", "has format 77"),
        ("CREATE TRIGGER t AFTER INSERT ON history BEGIN SELECT 1; END", "tables are not"),
    ],
)
def test_edits_are_found(ledger, statement, message):
    with closing(sqlite3.connect(ledger.path)) as file:
        for refused in ("UPDATE history SET time = ''", "DELETE FROM history"):
            with pytest.raises(sqlite3.IntegrityError, match="not changed"):
                file.execute(refused)
    edit(ledger.path)
    ledger.verify()  # control: taking the triggers off and on changes nothing
    edit(ledger.path, statement)
    for action in (ledger.verify, lambda: DeletionLedger(ledger.path)):
        with pytest.raises(LedgerDamagedError, match=message):
            action()


def forge(path, change):
    """Change what entries say, and rewrite whatever can be computed without the key."""
    with closing(sqlite3.connect(path)) as file:
        entries = file.execute("SELECT sequence, time, event, details FROM history").fetchall()
    previous, statements = ledger_file.NO_HASH, []
    for sequence, time, event, details in entries:
        details = json.dumps(change(event, json.loads(details)))
        previous = ledger_file.chained(previous, sequence, time, event, details)
        update = "UPDATE history SET details = ?, hash = ? WHERE sequence = ?"
        statements.append((update, (details, previous, sequence)))
    edit(path, *statements)


def without_an_id(event, details):
    return details | ({"ids": details["ids"][1:]} if event == "received" else {})


def test_forgery_of_everything_is_found_by_key_or_head(ledger, tmp_path):
    plain = DeletionLedger(tmp_path / "plain")
    keyed = DeletionLedger(tmp_path / "keyed", key=KEY)
    for book in (plain, keyed):
        book.add(["a", "b"])
        forge(book.path, without_an_id)
    again = DeletionLedger(plain.path)  # whoever may write the file may write another one
    assert again.requests()[0].n_ids == 1
    with pytest.raises(LedgerDamagedError, match="no entry has the hash"):
        again.verify(plain._state.last.hash)
    for action in (plain.verify, plain.requests, lambda: plain.add(["c"])):
        with pytest.raises(LedgerDamagedError):
            action()  # who has seen the ledger before remembers it
    with pytest.raises(LedgerDamagedError, match="made without the key"):
        DeletionLedger(keyed.path, key=KEY)
    forge(ledger.path, lambda event, told: told | {"request": 3} if "ids" in told else told)
    with pytest.raises(LedgerDamagedError, match="holds what no ledger holds"):
        DeletionLedger(ledger.path)


# other processes ---------------------------------------------------------------------------------


def test_locked_ledger(ledger):
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for action in (lambda: ledger.add(["x"]), ledger.requests, ledger.verify):
            with pytest.raises(LedgerBusyError, match=r"locked by another process for 0\.2 s"):
                action()
        other.execute("ROLLBACK")
    assert ledger.add(["x"]) == 5


def test_a_lease_is_held_by_one_whoever_looks_at_its_file(ledger, table, net):
    unlearner = grmu_sk.NoOpUnlearner(net, random_state=0).fit(
        table.X, table.y, table.a, sample_id=[*IDS, *range(table.n - 40)]
    )

    def look():
        ledger.path.with_name(ledger.path.name + ".lease").read_bytes()
        with pytest.raises(LedgerBusyError, match="in use by another run"):
            ledger.run(unlearner)

    with lease(ledger.path):
        for _ in range(2):
            with ThreadPoolExecutor() as pool:
                pool.submit(look).result()
        assert ledger.add(["7"]) == 5, "requests can be handed in meanwhile"
    assert ledger.run(unlearner) == [1, 2, 3, 4, 5]


def test_two_ledgers_do_not_undo_each_other(table, net, tmp_path):
    """Both load the model with all rows; who saves last would bring the other's row back."""
    model, data = tmp_path / "model", {"X": table.X, "y": table.y, "groups": table.a}
    grmu_sk.persistence.save(grmu_sk.NoOpUnlearner(net, random_state=0).fit(**data), model)
    mine, other = DeletionLedger(tmp_path / "mine"), DeletionLedger(tmp_path / "other")
    mine.add([3])
    other.add([7])

    def meanwhile(_):
        with pytest.raises(LedgerBusyError, match="model is in use"):
            other.run_file(model, net, data=data)
        return data

    assert mine.run_file(model, net, data=meanwhile) == [1]
    assert other.run_file(model, net, data=data) == [1]
    assert grmu_sk.persistence.load(model, net).forget_idx_.tolist() == [3, 7]


def test_run_that_was_taken_over_ends_nothing(ledger):
    about = {"method": "", "parameters": {}, "reforgotten": [], "model_before": ""}
    run = ledger._start([1], **about)
    DeletionLedger(ledger.path)._record("abandoned", run=run)
    for event in ("computed", "done", "failed"):
        with pytest.raises(LedgerBusyError, match="taken over"):
            ledger._record(event, run=run, model_after="")
    assert ledger.requests()[0].state == "received"
    ledger.verify()


def test_threads_share_a_ledger(ledger):
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: ledger.add([number]), range(16)))
    assert [request.number for request in ledger.requests()] == list(range(1, 21))


# the disk ----------------------------------------------------------------------------------------


def test_full_disk_loses_nothing(ledger, table, net, tmp_path):
    data = {"X": table.X, "y": table.y, "groups": table.a}
    model, before = tmp_path / "model", content(ledger)
    with disk_of(ledger.path.stat().st_size), pytest.raises(LedgerWriteError, match="may be full"):
        ledger.add([f"{n:0100}" for n in range(5000)])
    with disk_of(0), pytest.raises(LedgerWriteError, match="No ledger can be made"):
        DeletionLedger(tmp_path / "new")
    ledger.verify()
    assert content(ledger) == before
    unlearner = grmu_sk.NoOpUnlearner(net, random_state=0)
    grmu_sk.persistence.save(unlearner.fit(**data, sample_id=[*IDS, *range(table.n - 40)]), model)
    raw = model.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patched, pytest.raises(OSError, match="No space left"):
        patched.setattr(os, "replace", full)
        ledger.run_file(model, net, data=data)
    assert model.read_bytes() == raw and ledger.counts()["failed"] == 4
    assert ledger.run_file(model, net, data=data, retry_failed=True) == [1, 2, 3, 4]
    left = {path.name for path in tmp_path.iterdir() if path.suffix != ".lease"}
    assert left == {"requests.ledger", "model"}


def test_read_only_folder_can_be_looked_at():
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as above:  # pytest's own folders are closed to others
        folder = Path(above) / "folder"
        folder.mkdir()
        ledger = DeletionLedger(folder / "ledger")
        ledger.add(["a"])
        for path, mode in ((ledger.path, 0o555), (folder, 0o555), (folder.parent, 0o755)):
            path.chmod(mode)
        try:
            os.seteuid(user or 65534)  # to root nothing is read-only
            assert DeletionLedger(ledger.path).requests_of(["a"]) == [1]
            for action in (
                lambda: ledger.add(["b"]),
                lambda: DeletionLedger(folder / "new"),
                lambda: lease(ledger.path).__enter__(),
            ):
                with pytest.raises(LedgerWriteError):
                    action()
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


# kill -9 -----------------------------------------------------------------------------------------

# ``chaos_ledger.py --kills 200`` does the same for longer, at every named point
POINTS = ["in received", "after started", "training", "model written", "model replaced"]
STATES = ["state half written", "state replaced", "after computed", "state deleted"]
RUNS = [
    {"points": POINTS},
    {"points": STATES, "checkpoint": True},
    {"points": ["model written"], "broken": "done first"},
    {"points": ["in received"], "broken": "acknowledge first"},
]


def test_killed_processes_lose_nothing():
    with ProcessPoolExecutor(1, mp_context=FORKED) as pool:  # whose own children are forked
        *kept, done_first, acknowledged_first = [
            run.result() for run in [pool.submit(run_chaos, 1, **run) for run in RUNS]
        ]
    for figures, points in zip(kept, (POINTS, STATES), strict=True):
        assert not any(figures[name] for name in PROBLEMS), figures
        assert figures["kills by point"] == dict.fromkeys(points, 1)
        assert (figures["resumed in the middle"] > 0) == (points == STATES)
    assert done_first["returned rows"] > 0, "control: a broken promise is found"
    assert acknowledged_first["lost requests"] > 0
