"""Faults that are really injected. Nothing is lost, and the message says what happened."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

import grmu_sk
from grmu_sk.audit import (
    DeletionLedger,
    LedgerBusyError,
    LedgerDamagedError,
    LedgerError,
    _ledger_store,
)
from grmu_sk.audit._lease import lease
from grmu_sk.audit._ledger_state import ids_digest

KEY = b"sixteen bytes or more"
IDS = [f"person-{number}" for number in range(40)]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(grmu_sk.__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
}


def python(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=ENVIRONMENT, capture_output=True, text=True
    )


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
    raw, expected = ledger.path.read_bytes(), content(ledger)
    rng = random.Random(0)
    n_found = 0
    for trial in range(150):
        copy = tmp_path / f"copy{trial}"
        position = rng.randrange(100) if trial < 30 else rng.randrange(len(raw))
        flipped = bytes([raw[position] ^ 1 << rng.randrange(8)])
        copy.write_bytes(raw[:position] + flipped + raw[position + 1 :])
        try:
            found = content(DeletionLedger(copy))
        except LedgerDamagedError as error:
            n_found += 1
            assert str(copy) in str(error)
        else:
            assert found == expected, f"byte {position} has changed something, and nobody noticed"
    assert n_found > 15, "most of a small database is empty space, but not all"


def test_flipped_bits_of_what_was_written_are_all_found(ledger, tmp_path):
    raw = ledger.path.read_bytes()
    for word in (b"person-17", b"letter 20", b'"event"'[1:-1], b"received", b'"n_ids":10'):
        position = raw.find(word)
        while position >= 0:
            copy = tmp_path / f"{word.hex()}{position}"
            copy.write_bytes(raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :])
            with pytest.raises(LedgerDamagedError):
                DeletionLedger(copy)
            position = raw.find(word, position + 1)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.5, 0.99])
def test_cut_off_files(ledger, share, tmp_path):
    raw = ledger.path.read_bytes()
    ledger.path.write_bytes(raw[: int(share * len(raw))])
    for _ in range(2):  # opening it does not make it look new
        with pytest.raises(LedgerDamagedError):
            DeletionLedger(ledger.path)


def test_other_files_are_left_alone(tmp_path):
    text, database = tmp_path / "text", tmp_path / "database"
    text.write_text("Dear Sir or Madam, " * 100)
    with closing(sqlite3.connect(database)) as other:
        other.execute("CREATE TABLE customers (name TEXT)")
    for path in (text, database):
        before = path.read_bytes()
        with pytest.raises(LedgerDamagedError, match=r"not a (ledger|database)"):
            DeletionLedger(path)
        assert path.read_bytes() == before


# edits -------------------------------------------------------------------------------------------


def edit(ledger, *statements, triggers=True):
    """Change the file as someone would who knows SQLite."""
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as file:
        made = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in made:
            file.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            file.execute(statement)
        for _, sql in made if triggers else []:
            file.execute(sql)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("UPDATE history SET details = replace(details, '10', '90') WHERE sequence = 2", "entry 2"),
        ("UPDATE history SET time = '2020' WHERE sequence = 3", "entry 3"),
        ("UPDATE history SET event = 'refused' WHERE sequence = 3", "entry 3"),
        ("DELETE FROM history WHERE sequence = 3", "entry 3 of the history is missing"),
        ("DELETE FROM history WHERE sequence = 5", "ends with entry 4"),
        ("DELETE FROM history WHERE sequence = 1", "entry 1 of"),
        ("UPDATE history SET sequence = -sequence", "entry 1 of"),
        ("INSERT INTO history VALUES (6, '2020', 'done', '{}', '', NULL)", "entry 6"),
        ("UPDATE head SET sequence = 4", "ends with entry 5"),
        ("UPDATE requests SET state = 'done'", "requests are not those"),
        ("DELETE FROM requests WHERE number = 4", "requests are not those"),
        ("DELETE FROM items WHERE id = 'person-7'", "ids of request 1"),
        ("UPDATE items SET id = 'x' WHERE id = 'person-7'", "ids of request 1"),
        ("UPDATE items SET request = 2 WHERE id = 'person-7'", "ids of request 1"),
        ("INSERT INTO items VALUES ('x', 9)", "no request"),
        ("CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM items; END", "tables are not"),
        ("CREATE VIEW v AS SELECT * FROM items", "tables are not"),
        ("DROP INDEX items_of_request", "tables are not"),
    ],
)
def test_edits_are_found(ledger, statement, message):
    edit(ledger)
    ledger.verify()  # control: taking the triggers off and on changes nothing
    edit(ledger, statement)
    with pytest.raises(LedgerDamagedError, match=message):
        ledger.verify()
    with pytest.raises(LedgerDamagedError):
        DeletionLedger(ledger.path)


def test_history_is_append_only(ledger):
    with closing(sqlite3.connect(ledger.path)) as file:
        for statement in ("UPDATE history SET time = ''", "DELETE FROM history"):
            with pytest.raises(sqlite3.IntegrityError, match="not changed"):
                file.execute(statement)
    edit(ledger, triggers=False)
    with pytest.raises(LedgerDamagedError, match="tables are not"):
        ledger.verify()


def forge(path):
    """Remove the last request, and rewrite whatever can be computed without the key."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        made = file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in made:
            file.execute(f"DROP TRIGGER {name}")
        entries = file.execute("SELECT sequence, time, event, details FROM history").fetchall()
        file.execute("DELETE FROM items WHERE request = 1 AND id = (SELECT min(id) FROM items)")
        ids = [text for (text,) in file.execute("SELECT id FROM items WHERE request = 1")]
        digest, previous = ids_digest(ids), _ledger_store.NO_HASH
        file.execute(
            "UPDATE requests SET n_ids = ?, ids_sha256 = ? WHERE number = 1", (len(ids), digest)
        )
        for sequence, time, event, details in entries:
            told = json.loads(details)
            if told.get("request") == 1:
                told |= {"n_ids": len(ids), "ids_sha256": digest}
            details = _ledger_store._canonical(told)
            previous = _ledger_store._chained(previous, sequence, time, event, details)
            file.execute(
                "UPDATE history SET details = ?, hash = ? WHERE sequence = ?",
                (details, previous, sequence),
            )
        file.execute("UPDATE head SET hash = ?", (previous,))
        for _, sql in made:
            file.execute(sql)


def test_forgery_of_everything_is_found_by_key_or_head(tmp_path):
    plain = DeletionLedger(tmp_path / "plain")
    keyed = DeletionLedger(tmp_path / "keyed", key=KEY)
    for book in (plain, keyed):
        book.add(["a", "b"])
    head = plain.head
    forge(plain.path)
    forge(keyed.path)
    plain.verify()  # whoever may write the file may write another one
    with pytest.raises(LedgerDamagedError, match="no entry has the hash"):
        plain.verify(head)
    with pytest.raises(LedgerDamagedError, match="made without the key"):
        keyed.verify()


# other processes ---------------------------------------------------------------------------------


def test_locked_ledger(ledger):
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        for action in (lambda: ledger.add(["x"]), ledger.requests, ledger.verify):
            with pytest.raises(LedgerBusyError, match=r"locked by another process for 0\.2 s"):
                action()
        other.execute("ROLLBACK")
    assert ledger.add(["x"]) == 5


def test_lease_is_held_by_one(ledger, table, net):
    unlearner = grmu_sk.NoOpUnlearner(net, random_state=0).fit(
        table.X, table.y, table.a, sample_id=[*IDS, *range(table.n - 40)]
    )
    with lease(ledger.path, lambda: ""):
        with pytest.raises(LedgerBusyError, match="carried out by another process"):
            ledger.run(unlearner)
        assert ledger.add(["7"]) == 5, "requests can be handed in meanwhile"
    assert ledger.run(unlearner) == [1, 2, 3, 4, 5]


def test_a_lease_outlives_whoever_looks_at_its_file(ledger):
    beside = ledger.path.with_name(ledger.path.name + ".lease")

    def look():
        beside.read_bytes()
        with pytest.raises(LedgerBusyError), lease(ledger.path, lambda: "another process"):
            pass

    with lease(ledger.path, str):
        for _ in range(2):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        found = python("-c", TRY_LEASE, ledger.path)
        assert found.stdout == "busy\n", found.stderr
    assert python("-c", TRY_LEASE, ledger.path).stdout == "free\n"


TRY_LEASE = """
import sys
from pathlib import Path
from grmu_sk.audit import LedgerBusyError
from grmu_sk.audit._lease import lease
try:
    with lease(Path(sys.argv[1]), str):
        print("free")
except LedgerBusyError:
    print("busy")
"""


def test_two_ledgers_do_not_undo_each_other(ledger, table, net, tmp_path):
    """Both load the model with all rows; who saves last would bring the other's row back."""
    other, model = DeletionLedger(tmp_path / "other.ledger"), tmp_path / "model"
    data = {"X": table.X, "y": table.y, "groups": table.a}
    grmu_sk.NoOpUnlearner(net, random_state=0).fit(**data).save(model)
    mine = DeletionLedger(tmp_path / "mine.ledger")
    mine.add([3])
    other.add([7])

    def meanwhile(_):
        with pytest.raises(LedgerBusyError, match=r"model is in use.*another ledger"):
            other.run_file(model, net, data=data)
        return data

    assert mine.run_file(model, net, data=meanwhile) == [1]
    assert other.run_file(model, net, data=data) == [1]
    assert grmu_sk.persistence.load(model, net).forget_idx_.tolist() == [3, 7]


def test_run_that_was_taken_over_ends_nothing(ledger):
    about = {"method": "", "parameters": {}, "reforgotten": [], "model_before": ""}
    run, _ = ledger._start([1], **about)
    with pytest.raises(LedgerBusyError, match="taken over"):
        ledger._record(run, "another token", "computed", model_after="")
    ledger.verify()


# the disk ----------------------------------------------------------------------------------------

FULL_DISK = """
import json, resource, sys
from pathlib import Path
import numpy as np, torch
from skorch import NeuralNetClassifier
from grmu_sk import RetrainUnlearner
from grmu_sk.audit import DeletionLedger, LedgerWriteError
from grmu_sk.nets import MLP

def full_above(n_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

torch.set_num_threads(1)
folder = Path(sys.argv[1])
ledger = DeletionLedger(folder / "ledger")
ledger.add(["3"])
full_above(ledger.path.stat().st_size)
try:
    ledger.add([f"{number:0100}" for number in range(5000)])
except LedgerWriteError as error:
    print("adding:", error)
try:
    full_above(0)
    DeletionLedger(folder / "new")
except LedgerWriteError as error:
    print("making:", error)
full_above(resource.RLIM_INFINITY)
ledger.verify()
assert not (folder / "new").exists()
assert [request.n_ids for request in ledger.requests()] == [1]

net = NeuralNetClassifier(
    MLP, module__n_features=2, module__hidden=(50000,), max_epochs=1, train_split=None, verbose=0,
    criterion=torch.nn.CrossEntropyLoss,
)
data = {"X": np.eye(2, dtype=np.float32)[[0, 1] * 5], "y": [0, 1] * 5, "groups": [0] * 5 + [1] * 5}
model = folder / "model"
RetrainUnlearner(net, random_state=0).fit(**data).save(model)
before = model.read_bytes()
full_above(len(before) // 2)
try:
    ledger.run_file(model, net, data=data)
except OSError as error:
    print("running:", error)
assert model.read_bytes() == before
assert [request.state for request in ledger.requests()] == ["failed"]
full_above(resource.RLIM_INFINITY)
assert ledger.run_file(model, net, data=data, retry_failed=True) == [1]
ledger.verify()
left = {path.name for path in folder.iterdir()}
assert left - {"ledger.lease", "model.lease"} == {"ledger", "model"}
"""


def test_full_disk_loses_nothing(tmp_path):
    result = python("-c", FULL_DISK, tmp_path)
    assert result.returncode == 0, result.stderr
    adding, making, running = result.stdout.splitlines()
    assert adding.startswith("adding:") and "the disk may be full" in adding
    assert "Nothing was changed" in adding and "making:" in making
    assert running.startswith("running:") and "File too large" in running


READ_ONLY = """
import os, sys
from pathlib import Path
from grmu_sk.audit import DeletionLedger, LedgerWriteError
from grmu_sk.audit._lease import lease

folder = Path(sys.argv[1])
DeletionLedger(folder / "ledger").add(["a"])
for path in (folder / "ledger", folder):
    path.chmod(0o555)
folder.parent.chmod(0o755)
if os.geteuid() == 0:  # to whom nothing is read-only
    os.setuid(65534)
ledger = DeletionLedger(folder / "ledger")
print(ledger.requests_of(["a"]))
def lend():
    with lease(ledger.path, str):
        pass
for action in (lambda: ledger.add(["b"]), lambda: DeletionLedger(folder / "new"), lend):
    try:
        action()
    except LedgerWriteError as error:
        print(error)
ledger.verify()
"""


def test_read_only_folder_can_be_looked_at(tmp_path_factory):
    import tempfile

    with tempfile.TemporaryDirectory() as above:  # pytest's own folders are closed to others
        folder = Path(above) / "folder"
        folder.mkdir()
        result = python("-c", READ_ONLY, folder)
        folder.chmod(0o755)
    assert result.returncode == 0, result.stderr
    looked, added, made, lent = result.stdout.splitlines()
    assert looked == "[1]"
    assert "cannot be opened for writing" in added and "file and folder have to be" in added
    assert "No ledger can be made" in made and "Permission denied" in made
    assert "ledger.lease cannot be written" in lent


# kill -9 -----------------------------------------------------------------------------------------

CHAOS = Path(__file__).with_name("chaos_ledger.py")


def chaos(*arguments):
    result = python(CHAOS, "--json", *arguments)
    assert result.stdout, result.stderr
    return json.loads(result.stdout), result


def test_killed_processes_lose_nothing():
    """``chaos_ledger.py --kills 200`` does the same for longer, at every named point."""
    points = "in received,after started,training,model written,model replaced,after done"
    found, result = chaos("--kills", "11", "--points", points)
    assert result.returncode == 0, (found, result.stderr)
    assert found["kills"] >= 11
    assert set(points.split(",")) <= set(found["kills by point"])


@pytest.mark.parametrize(
    ("broken", "point", "figure"),
    [
        ("done first", "model written", "returned rows"),
        ("acknowledge first", "in received", "lost requests"),
    ],
)
def test_chaos_finds_broken_promises(broken, point, figure):
    found, result = chaos("--kills", "1", "--points", point, "--broken", broken)
    assert result.returncode == 1
    assert found[figure] > 0


def test_killed_processes_go_on_in_the_middle():
    points = "epoch,state half written,state replaced,state deleted"
    arguments = ["--checkpoint", "--methods", "miu", "--points", points]
    found, result = chaos("--kills", "4", *arguments)
    assert result.returncode == 0, (found, result.stderr)
    assert found["kills"] >= 4 and found["resumed in the middle"] > 0
    assert set(points.split(",")) <= set(found["kills by point"])


def test_chaos_finds_a_resumption_that_is_not_exact():
    arguments = ["--checkpoint", "--methods", "miu", "--broken", "no random states"]
    found, result = chaos("--kills", "1", "--points", "epoch:3", *arguments)
    assert result.returncode == 1
    assert found["other results"] > 0


def test_ledger_error_is_a_value_error():
    assert issubclass(LedgerError, ValueError)
