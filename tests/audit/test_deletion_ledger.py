"""What a ledger writes down, and that it is carried out; faults are in test_ledger_faults."""

import stat
from uuid import UUID

import numpy as np
import pytest
from conftest import make_net, same_weights
from sklearn.pipeline import Pipeline

from grmu_sk import FineTuneUnlearner, RetrainUnlearner
from grmu_sk.audit import DeletionLedger, LedgerError, create_key_file, ledger_file, model_hash
from grmu_sk.persistence import load, save

KEY = b"sixteen bytes or more"
IDS = [f"person-{row}" for row in range(160)]


@pytest.fixture
def data(table):
    return {"X": table.X, "y": table.y, "groups": table.a}


@pytest.fixture
def fitted(data):
    return RetrainUnlearner(make_net(max_epochs=1), random_state=0).fit(**data, sample_id=IDS)


@pytest.fixture
def ledger(tmp_path):
    return DeletionLedger(tmp_path / "requests.ledger")


@pytest.fixture
def hashed(tmp_path):
    return DeletionLedger(tmp_path / "hashed.ledger", key=KEY)


def events(ledger):
    return [entry.event for entry in ledger.history()]


# writing down ------------------------------------------------------------------------------------


def test_requests_are_numbered_idempotent_and_in_order(ledger, monkeypatch):
    times = iter(["2030-01-01", "2020-01-01", "2010-01-01"])
    monkeypatch.setattr(ledger_file, "now", lambda: next(times))
    assert ledger.add(np.array([7, 8]), reason="letter") == 1
    assert ledger.add([8, "7", np.int64(7)]) is None
    assert ledger.add([8, UUID(int=5), "clinic/3"]) == 2
    first, second = ledger.requests()
    assert (first.state, first.reason, first.n_ids, second.n_ids) == ("received", "letter", 2, 3)
    assert ledger.add(["7", "clinic/3"]) is None, "each of them waits"
    assert ledger.requests_of(["7", "08", str(UUID(int=5)), "clinic/4"]) == [1, None, 2, None]
    assert second.received == "2020-01-01" < first.received, "the clock is not corrected"
    assert [entry.sequence for entry in ledger.history()] == [1, 2, 3]
    head, another = ledger.head, DeletionLedger(ledger.path)
    assert another.add(["new"]) == 3
    assert ledger.requests_of(["new"]) == [3], "what others write is seen"
    ledger.verify(head)
    assert ledger.requests() == another.requests() and ledger.counts()["received"] == 3
    for ids in ([], [""], [3.0]):
        with pytest.raises((ValueError, TypeError), match=r"at least one|empty|a float"):
            ledger.add(ids)


def test_keys(hashed, ledger, tmp_path):
    for book in (hashed, ledger):
        book.add(["person-12345678"])
    assert b"person-12345678" not in hashed.path.read_bytes()
    assert b"person-12345678" in ledger.path.read_bytes(), "control"
    assert hashed.requests_of(["person-12345678"]) == [1]
    assert hashed.requests_of(hashed.tokens(["person-12345678"])) == [1], "hashes are ids, too"
    other = DeletionLedger(tmp_path / "other.ledger", key=KEY)
    assert hashed.tokens(["a"]) != other.tokens(["a"]), "two ledgers share no hash"
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
    for path, key, message in [
        (hashed.path, KEY + b"!", "not the one"),
        (ledger.path, KEY, "ids as they are"),
        (hashed.path, b"short", "needs 16"),
    ]:
        with pytest.raises(LedgerError, match=message):
            DeletionLedger(path, key=key)
    without = DeletionLedger(hashed.path)
    assert without.counts()["received"] == 1, "it can be looked at"
    with pytest.raises(LedgerError, match="open it with its key"):
        without.add(["a"])
    key_file = tmp_path / "key"
    create_key_file(key_file)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        create_key_file(key_file)
    DeletionLedger(tmp_path / "ledger", key_file=key_file)
    key_file.chmod(0o640)
    with pytest.raises(LedgerError, match="mode 0640"):
        DeletionLedger(tmp_path / "ledger", key_file=key_file)


def test_ids_are_rows_by_another_name(fitted, data):
    hashes = {model_hash(fitted)}
    for parameter in fitted.net_.module_.parameters():
        value = parameter.data.view(-1)[-1].clone()
        parameter.data.view(-1)[-1] += 1e-3
        hashes.add(model_hash(fitted))
        parameter.data.view(-1)[-1] = value
    assert len(hashes) == 1 + len(list(fitted.net_.module_.parameters())), "every weight counts"
    by_rows = RetrainUnlearner(make_net(max_epochs=1), random_state=0).fit(**data).unlearn([40, 41])
    fitted.unlearn(ids=["person-41", "person-40"])
    assert same_weights(fitted, by_rows)
    assert by_rows.unlearn(ids=[40, "41"]).forget_idx_.tolist() == [40, 41], "numbers by default"
    with pytest.raises(ValueError, match="'nobody': no row of fit has this id"):
        fitted.unlearn(ids=["nobody"])


# carrying out ------------------------------------------------------------------------------------


def test_what_was_done_is_written_down(fitted, ledger):
    before = model_hash(fitted)
    ledger.process(fitted, ["person-40"], reason="letter")
    (request,) = ledger.requests()
    assert (request.state, request.reason, request.method) == ("done", "letter", "RetrainUnlearner")
    assert (request.model_before, request.model_after) == (before, model_hash(fitted))
    assert request.parameters["reweight"] is True and request.finished > request.started
    assert events(ledger) == ["created", "received", "started", "done"]
    ledger.process(fitted, ["person-40"])
    assert len(ledger.history()) == 4, "nothing new, nothing done"
    ledger.add(["person-41"])
    ledger.add(["person-42"])
    ledger.process(fitted)
    assert fitted.forget_idx_.tolist() == [40, 41, 42] and fitted._n_requests == 2
    assert [request.run for request in ledger.requests()] == [1, 2, 2], "in one go"
    assert ledger.requests() == DeletionLedger(ledger.path).requests()
    with pytest.warns(UserWarning), pytest.raises(LedgerError, match="'nobody': no row of fit has"):
        ledger.process(fitted, ["nobody"])


def test_old_copy_forgets_again(fitted, ledger, tmp_path, data):
    """Someone restores a model from before: the rows do not stay."""
    save(fitted, tmp_path / "old")
    ledger.process(fitted, ["person-40"])
    assert ledger.returned_rows(fitted).tolist() == []
    old = load(tmp_path / "old", make_net(max_epochs=1))
    assert ledger.returned_rows(old).tolist() == [40]
    ledger.process(Pipeline([("unlearner", old)]), ["person-41"], **data)
    assert old.forget_idx_.tolist() == [40, 41]
    assert ledger.history()[-2].details["reforgotten"] == [40]


def test_failed_request_stays_and_is_tried_again(fitted, ledger):
    before, held = model_hash(fitted), fitted._data.X.copy()
    fitted._data.X[:] = np.nan
    with pytest.raises(FloatingPointError):
        ledger.process(fitted, ["person-40"])
    assert ledger.requests("failed")[0].error.startswith("FloatingPointError")
    assert model_hash(fitted) == before
    fitted._data.X[:] = held
    ledger.add(["nobody"])
    with pytest.warns(UserWarning, match="Request 2 failed: 'nobody'"):
        assert ledger.run(fitted) == [], "failed ones do not wait"
    ledger.add(["person-3"])
    assert ledger.run(fitted) == [3]
    with pytest.warns(UserWarning, match="Request 2 failed: 'nobody'"):
        assert ledger.run(fitted, retry_failed=True) == [1]
    assert ledger.add(["nobody"]) == 4, "one that failed holds nothing"
    assert ledger.counts() == {"received": 1, "running": 0, "done": 2, "failed": 1}
    assert fitted.forget_idx_.tolist() == [3, 40]
    ledger.verify()


@pytest.mark.filterwarnings("ignore:Request 1 failed")
def test_done_means_that_every_named_row_is_forgotten(fitted, hashed):
    ledger = hashed
    ledger.add(["person-3", "typo"])
    assert ledger.add(["person-3", "person-7"]) == 2
    assert ledger.run(fitted) == [2]
    assert fitted.forget_idx_.tolist() == [3, 7]
    assert ledger.add(["person-7"]) is None
    ledger.process(fitted, ["person-7", "person-9"])  # 7's id is gone if hashed
    assert fitted.forget_idx_.tolist() == [3, 7, 9]
    assert [request.state for request in ledger.requests()] == ["failed", "done", "done"]


def test_forgotten_ids_leave_the_model_if_the_ledger_is_hashed(fitted, hashed, data, tmp_path):
    path, net = tmp_path / "model", make_net(max_epochs=1)
    save(fitted.unlearn(ids=["person-41"]), path)
    assert b"person-41" in path.read_bytes(), "control"
    hashed.add(["person-40"])
    assert hashed.run_file(path, net, data=data) == [1]
    raw = path.read_bytes()
    assert b'"person-40"' not in raw and b'"person-41"' not in raw and b'"person-42"' in raw
    loaded = load(path, net)
    assert loaded.forget_idx_.tolist() == [40, 41]
    with pytest.raises(ValueError, match="The ids of 2 forgotten rows were dropped"):
        loaded.unlearn(ids=["person-40"])
    hashed.process(loaded, ["person-40"], **data)
    assert model_hash(loaded) == hashed.requests()[0].model_after, "the ledger knows"
    knows_hashes = FineTuneUnlearner(net, max_epochs=1, random_state=0)
    knows_hashes.fit(**data, sample_id=hashed.tokens(IDS))
    hashed.process(knows_hashes, ["person-42"])
    save(knows_hashes, path)
    assert knows_hashes.forget_idx_.tolist() == [40, 42] and b"person" not in path.read_bytes()
