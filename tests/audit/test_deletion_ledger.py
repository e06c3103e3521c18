"""What a ledger writes down, and that it is carried out; faults are in test_ledger_faults."""

import json
import stat
from uuid import UUID

import numpy as np
import pytest
from conftest import make_net, same_weights

from grmu_sk import FineTuneUnlearner, RetrainUnlearner
from grmu_sk.audit import (
    DeletionLedger,
    LedgerDamagedError,
    LedgerError,
    _ledger_store,
    create_key_file,
    model_hash,
)

KEY = b"sixteen bytes or more"


@pytest.fixture
def ids(table):
    return [f"person-{row}" for row in range(table.n)]


@pytest.fixture
def fitted(table, ids):
    net = make_net(max_epochs=1)
    return RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a, sample_id=ids)


@pytest.fixture
def ledger(tmp_path):
    return DeletionLedger(tmp_path / "requests.ledger")


@pytest.fixture
def hashed(tmp_path):
    return DeletionLedger(tmp_path / "hashed.ledger", key=KEY)


@pytest.fixture
def data(table):
    return {"X": table.X, "y": table.y, "groups": table.a}


def events(ledger):
    return [entry.event for entry in ledger.history()]


# writing down ------------------------------------------------------------------------------------


def test_requests_are_numbered_and_idempotent(ledger):
    assert ledger.add(["a", "b"], reason="letter") == 1
    assert ledger.add(["b", "a", "a"]) is None
    assert ledger.add(["b", "c"]) == 2
    first, second = ledger.requests()
    assert (first.number, first.state, first.reason, first.n_ids) == (1, "received", "letter", 2)
    assert (second.number, second.n_ids) == (2, 2)
    assert ledger.add(["c", "a"]) is None, "each of them waits"
    assert ledger.requests_of(["a", "c", "x"]) == [1, 2, None]
    assert events(ledger) == ["created", "received", "received"]


def test_ids_are_the_same_if_written_the_same(ledger):
    ledger.add(np.array([7, 8]))
    assert ledger.requests_of([7, "7", np.int64(8), "08"]) == [1, 1, 1, None]
    ledger.add([UUID(int=5), ("clinic", 3)])
    assert ledger.requests_of([str(UUID(int=5)), ("clinic", np.int64(3)), ("clinic", "3")]) == [
        2,
        2,
        None,
    ]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([], ValueError, "at least one"),
        ("abc", TypeError, r"\['abc'\]"),
        ([3.0], TypeError, r"ids\[0\] is 3.0, a float"),
        (["a", None], TypeError, r"ids\[1\] is None"),
        ([True], TypeError, "bool"),
        ([""], ValueError, "empty"),
        (["\ud800"], ValueError, "Unicode"),
        (np.zeros((2, 2), dtype=int), TypeError, "one-dimensional"),
    ],
)
def test_ids_that_are_none(ledger, ids, error, message):
    with pytest.raises(error, match=message):
        ledger.add(ids)
    assert events(ledger) == ["created"]


def test_clock_going_backwards_does_not_change_the_order(ledger, monkeypatch):
    times = iter(["2030-01-01T00:00:00", "2020-01-01T00:00:00", "2010-01-01T00:00:00"])
    monkeypatch.setattr(_ledger_store, "now", lambda: next(times))
    for name in "abc":
        ledger.add([name])
    assert [request.number for request in ledger.requests()] == [1, 2, 3]
    assert [entry.sequence for entry in ledger.history()] == [1, 2, 3, 4]
    assert ledger.requests()[2].received == "2010-01-01T00:00:00", "the clock is not corrected"
    ledger.verify()


# keys --------------------------------------------------------------------------------------------


def test_ledger_with_a_key_holds_no_id(hashed, ledger):
    for book in (hashed, ledger):
        book.add(["person-12345678"])
    assert b"person-12345678" not in hashed.path.read_bytes()
    assert b"person-12345678" in ledger.path.read_bytes(), "control"
    assert hashed.requests_of(["person-12345678"]) == [1]
    assert hashed.requests_of(hashed.tokens(["person-12345678"])) == [1], "hashes are ids, too"


def test_two_ledgers_with_one_key_share_no_hash(hashed, tmp_path):
    other = DeletionLedger(tmp_path / "other.ledger", key=KEY)
    assert hashed.tokens(["a"]) != other.tokens(["a"])


def test_wrong_keys(hashed, ledger):
    with pytest.raises(LedgerError, match="not the one"):
        DeletionLedger(hashed.path, key=KEY + b"!")
    with pytest.raises(LedgerError, match="ids as they are"):
        DeletionLedger(ledger.path, key=KEY)
    with pytest.raises(LedgerError, match="needs 16"):
        DeletionLedger(hashed.path, key=b"short")
    with pytest.raises(TypeError, match="bytes"):
        DeletionLedger(hashed.path, key="text that is long enough")
    without = DeletionLedger(hashed.path)
    assert without.counts()["received"] == 0, "it can be looked at"
    with pytest.raises(LedgerError, match="open it with its key"):
        without.add(["a"])


def test_key_file(tmp_path):
    key_file, path = tmp_path / "key", tmp_path / "ledger"
    create_key_file(key_file)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        create_key_file(key_file)
    DeletionLedger(path, key_file=key_file).add(["a"])
    assert DeletionLedger(path, key=key_file.read_bytes().strip()).requests_of(["a"]) == [1]
    key_file.chmod(0o640)
    with pytest.raises(LedgerError, match="mode 0640"):
        DeletionLedger(path, key_file=key_file)


def test_ledger_is_private(ledger):
    assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600


def test_missing_ledger_is_not_made_unasked(tmp_path):
    with pytest.raises(LedgerError, match="no ledger"):
        DeletionLedger(tmp_path / "none", create=False)
    assert list(tmp_path.iterdir()) == []


# unlearn with ids --------------------------------------------------------------------------------


def test_ids_are_rows_by_another_name(fitted, table):
    by_rows = RetrainUnlearner(make_net(max_epochs=1), random_state=0)
    by_rows.fit(table.X, table.y, table.a).unlearn([40, 41])
    fitted.unlearn(ids=["person-41", "person-40"])
    assert same_weights(fitted, by_rows)
    before = model_hash(fitted)
    assert model_hash(fitted.unlearn(ids=["person-40"])) == before
    assert by_rows.unlearn(ids=[40, "41"]).forget_idx_.tolist() == [40, 41], "numbers by default"


def test_unlearn_refuses(fitted, ledger):
    with pytest.raises(ValueError, match="'nobody': no row of fit has this id"):
        fitted.unlearn(ids=["nobody"])
    with pytest.raises(ValueError, match="'nobody': no row of fit has this id"):
        fitted.unlearn(ids=["nobody"], ledger=ledger)
    with pytest.raises(TypeError, match="not both"):
        fitted.unlearn([3], ids=["person-3"])
    with pytest.raises(TypeError, match="Say what to forget"):
        fitted.unlearn()
    with pytest.raises(TypeError, match="pass ledger"):
        fitted.unlearn([3], reason="a letter")
    with pytest.raises(TypeError, match=r"must be a grmu_sk\.audit\.DeletionLedger"):
        fitted.unlearn([3], ledger="requests.ledger")
    assert events(ledger) == ["created"], "a slip of the pen is no request"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda ids: ids[:-1], ValueError, "inconsistent numbers of samples"),
        (lambda ids: [*ids[:-1], ids[0]], ValueError, "more than once: 'person-0'"),
        (lambda ids: [3, "3", *ids[2:]], ValueError, "more than once: '3'"),
        (lambda ids: np.arange(len(ids)) / 1, TypeError, "float"),
    ],
)
def test_fit_refuses_ids(table, ids, wrong, error, message):
    unlearner = RetrainUnlearner(make_net())
    with pytest.raises(error, match=message):
        unlearner.fit(table.X, table.y, table.a, sample_id=wrong(ids))
    assert not hasattr(unlearner, "net_")


def test_ids_are_saved_with_the_model(fitted, tmp_path):
    fitted.unlearn(ids=["person-40"]).save(tmp_path / "model")
    loaded = RetrainUnlearner.load(tmp_path / "model", make_net())
    assert loaded._sample_ids.texts == fitted._sample_ids.texts
    assert loaded._sample_ids.rows_of(["person-41", "person-40"]).tolist() == [40, 41]


# carrying out ------------------------------------------------------------------------------------


def test_unlearn_writes_down_what_was_done(fitted, ledger):
    before = model_hash(fitted)
    fitted.unlearn(ids=["person-40"], ledger=ledger, reason="letter")
    (request,) = ledger.requests()
    assert (request.state, request.reason, request.method) == ("done", "letter", "RetrainUnlearner")
    assert (request.model_before, request.model_after) == (before, model_hash(fitted))
    assert request.parameters["reweight"] is True
    assert events(ledger) == ["created", "received", "started", "done"]
    fitted.unlearn([40], ledger=ledger)
    assert len(ledger.history()) == 4, "nothing new, nothing done"
    fitted.unlearn([41], ledger=ledger)
    assert fitted.forget_idx_.tolist() == [40, 41]
    assert ledger.requests_of(["person-41"]) == [2]
    ledger.verify()


def test_what_waits_is_forgotten_in_one_go(fitted, ledger):
    ledger.add(["person-40"])
    ledger.add(["person-41"])
    fitted.unlearn(ledger=ledger)
    assert fitted.forget_idx_.tolist() == [40, 41]
    assert [request.run for request in ledger.requests()] == [1, 1]
    assert fitted._n_requests == 1


def test_old_copy_forgets_again(fitted, ledger, tmp_path):
    """Someone restores a model from before: the rows do not stay."""
    fitted.save(tmp_path / "old")
    data = fitted.training_rows()
    fitted.unlearn(ids=["person-40"], ledger=ledger)
    assert ledger.returned_rows(fitted).tolist() == []
    old = RetrainUnlearner.load(tmp_path / "old", make_net(max_epochs=1))
    assert ledger.returned_rows(old).tolist() == [40]
    old.unlearn(ids=["person-41"], ledger=ledger, X=data.X, y=data.y, groups=data.groups)
    assert old.forget_idx_.tolist() == [40, 41]
    assert ledger.history()[-2].details["reforgotten"] == [40]
    ledger.verify()


def test_failed_request_stays_and_is_tried_again(fitted, ledger):
    before, held = model_hash(fitted), fitted._data.X.copy()
    fitted._data.X[:] = np.nan
    with pytest.raises(FloatingPointError):
        fitted.unlearn(ids=["person-40"], ledger=ledger)
    (request,) = ledger.requests("failed")
    assert request.error.startswith("FloatingPointError")
    assert model_hash(fitted) == before
    fitted._data.X[:] = held
    assert ledger.run(fitted) == [], "failed ones do not wait"
    assert ledger.run(fitted, retry_failed=True) == [1]
    assert fitted.forget_idx_.tolist() == [40]
    ledger.verify()


def test_asking_again_for_what_failed_is_a_new_try(fitted, ledger):
    ledger.add(["nobody", "person-40"])
    with pytest.warns(UserWarning, match="Request 1 failed: 'nobody'"):
        assert ledger.run(fitted) == []
    assert ledger.add(["person-40", "nobody"]) is None
    assert ledger.counts()["received"] == 1
    assert ledger.run(fitted, unknown="ignore") == [1]
    assert fitted.forget_idx_.tolist() == [40]
    ledger.verify()


def test_one_hopeless_request_does_not_stop_the_others(fitted, ledger):
    ledger.add(["nobody"])
    ledger.add(["person-40"])
    with pytest.warns(UserWarning, match="Request 1 failed"):
        assert ledger.run(fitted) == [2]
    assert [request.state for request in ledger.requests()] == ["failed", "done"]


@pytest.mark.filterwarnings("ignore:Request 1 failed")
@pytest.mark.parametrize("order", ["failed before", "fails beside", "left waiting"])
@pytest.mark.parametrize("kind", ["ledger", "hashed"])
def test_done_means_that_every_named_row_is_forgotten(fitted, kind, order, request):
    ledger = request.getfixturevalue(kind)
    ledger.add(["person-3", "typo"])
    if order == "failed before":
        assert ledger.run(fitted) == []
    assert ledger.add(["person-3", "person-7"]) == 2
    chosen = [2] if order == "left waiting" else None
    assert ledger.run(fitted, requests=chosen) == [2]
    assert fitted.forget_idx_.tolist() == [3, 7]
    assert ledger.add(["person-7"]) is None
    fitted.unlearn(ids=["person-7", "person-9"], ledger=ledger)  # 7's id is gone if hashed
    assert fitted.forget_idx_.tolist() == [3, 7, 9]
    assert [request.state for request in ledger.requests()] == ["failed", "done", "done"]
    ledger.verify()


def test_chosen_requests(fitted, ledger):
    ledger.add(["person-40"])
    ledger.add(["person-41"])
    assert ledger.run(fitted, requests=[2]) == [2]
    assert fitted.forget_idx_.tolist() == [41]
    with pytest.raises(ValueError, match=r"\[2, 9\] do not wait"):
        ledger.run(fitted, requests=[1, 2, 9])


def test_forgotten_ids_leave_the_model_if_the_ledger_is_hashed(fitted, hashed, data, tmp_path):
    path = tmp_path / "model"
    fitted.unlearn(ids=["person-41"]).save(path)
    assert b"person-41" in path.read_bytes(), "control"
    hashed.add(["person-40"])
    net = make_net(max_epochs=1)
    assert hashed.run_file(path, net, data=data) == [1]
    raw = path.read_bytes()
    assert b'"person-40"' not in raw and b'"person-41"' not in raw and b'"person-42"' in raw
    loaded = RetrainUnlearner.load(path, net)
    assert loaded.forget_idx_.tolist() == [40, 41]
    with pytest.raises(ValueError, match="The ids of 2 forgotten rows were dropped"):
        loaded.unlearn(ids=["person-40"])
    again = model_hash(loaded.unlearn(ids=["person-40"], ledger=hashed, **data))
    assert again == hashed.requests()[0].model_after, "the ledger knows"
    assert loaded.unlearn([40], ledger=hashed).forget_idx_.tolist() == [40, 41]


def test_model_may_know_hashes_alone(table, ids, hashed, tmp_path):
    unlearner = FineTuneUnlearner(make_net(max_epochs=1), max_epochs=1, random_state=0)
    unlearner.fit(table.X, table.y, table.a, sample_id=hashed.tokens(ids))
    unlearner.unlearn(ids=["person-40"], ledger=hashed).save(tmp_path / "model")
    assert unlearner.forget_idx_.tolist() == [40]
    assert b"person" not in (tmp_path / "model").read_bytes()


def test_interrupted_in_memory_is_carried_out_later(fitted, ledger, monkeypatch):
    def interrupted(request):
        raise KeyboardInterrupt

    before = model_hash(fitted)
    with monkeypatch.context() as patched:
        patched.setattr(fitted, "_unlearn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fitted.unlearn(ids=["person-40"], ledger=ledger)
    assert model_hash(fitted) == before
    assert ledger.counts()["running"] == 1, "as a killed process leaves it"
    assert ledger.run(fitted) == [1]
    assert events(ledger)[2:] == ["started", "abandoned", "started", "done"]


# the history -------------------------------------------------------------------------------------


def test_head_proves_what_was_before(ledger, tmp_path):
    ledger.add(["a"])
    head = ledger.head
    ledger.add(["b"])
    ledger.verify(head)
    other = DeletionLedger(tmp_path / "other.ledger")
    other.add(["a"])
    with pytest.raises(LedgerDamagedError, match="no entry has the hash"):
        other.verify(head)


def test_details_are_json(ledger, fitted):
    fitted.unlearn([40], ledger=ledger)
    for entry in ledger.history():
        assert json.loads(json.dumps(entry.details)) == entry.details


def test_sample_ids_are_routed(table, ids):
    requests = RetrainUnlearner(make_net()).get_metadata_routing().fit.requests
    assert requests["sample_id"] is True and requests["groups"] is True


def test_model_hash_sees_every_weight_and_forgotten_row(fitted):
    hashes = {model_hash(fitted)}
    for parameter in fitted.net_.module_.parameters():
        parameter.data.view(-1)[-1] += 1e-3
        hashes.add(model_hash(fitted))
    fitted.forget_idx_ = np.array([3])
    hashes.add(model_hash(fitted))
    assert len(hashes) == 2 + len(list(fitted.net_.module_.parameters()))


@pytest.mark.parametrize("given", [[[]], "X", 3, lambda _: [1]])
def test_data_that_is_no_mapping(fitted, ledger, data, tmp_path, given):
    fitted.save(tmp_path / "model")
    ledger.add(["person-1"])
    net = make_net(max_epochs=1)
    before = (tmp_path / "model").read_bytes()
    with pytest.raises(TypeError, match=r"data must be a mapping.*or a function"):
        ledger.run_file(tmp_path / "model", net, data=given)
    assert (tmp_path / "model").read_bytes() == before
    done = ledger.run_file(tmp_path / "model", net, data=lambda _: data, retry_failed=True)
    assert done == [1]
