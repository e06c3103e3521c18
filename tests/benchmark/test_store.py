import json
import math
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from quick_benchmark import quick_plan

from grmu_sk.benchmark import store as store_module
from grmu_sk.benchmark.file_lock import FileLock
from grmu_sk.benchmark.forget_sets import ForgetSetMismatch, draw_forget_set
from grmu_sk.benchmark.job import columns_of
from grmu_sk.benchmark.problem import get_problem
from grmu_sk.benchmark.results import read_results
from grmu_sk.benchmark.schema import METRICS, RESULT_COLUMNS
from grmu_sk.benchmark.store import Store, StoreError, StoreWarning
from grmu_sk.utils._files import write_atomically

METRIC_VALUES = {"RA": 90.0, "GA": 1 / 3}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture
def jobs(store):
    return {job.name: job for job in quick_plan(store).jobs}


@pytest.fixture
def job(jobs):
    return jobs["digits--group-0.5--seed-0--fine_tune+reweight--best"]


@pytest.fixture
def pretraining(jobs):
    return jobs["digits--all--seed-0--pretrain--training"]


def done(job, **more):
    return {"status": "done", "columns": columns_of(job), "seconds": 3.0, **more}


def record_path(store, job):
    return store.folder / "jobs" / f"{job.name}.json"


# files ---------------------------------------------------------------------------------------


def test_a_file_is_there_as_a_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def crash(*arguments):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="disk is full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    done = []
    flush, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("flush"), flush(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), rename(*names)))
    write_atomically(tmp_path / "file", b"new")
    assert done == ["flush", "rename", "flush"], "the folder is flushed at last"


def test_what_killed_processes_left_is_removed_when_it_is_old(store):
    old, new = (store.folder / "models" / f".model.{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    store.remove_leftovers()
    assert not old.exists()
    assert new.exists(), "somebody may be writing it"


# records -------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was(store, job):
    assert store.read(job) is None
    store.write(job, done(job, metrics=METRIC_VALUES))
    record = store.read(job)
    assert record["metrics"] == METRIC_VALUES, "every digit"
    assert record["identity"] == job.identity
    store.forget(job)
    assert store.read(job) is None
    store.forget(job)


@pytest.mark.parametrize("length", [0, 1, 64, 65, 300, -2, -1])
def test_a_record_cut_anywhere_counts_as_missing(store, job, length):
    store.write(job, done(job, metrics=METRIC_VALUES))
    path = record_path(store, job)
    path.write_bytes(path.read_bytes()[:length])
    if length == -1:  # the newline at the end says nothing
        assert store.read(job) is not None
        return
    with pytest.warns(StoreWarning, match="damaged or incomplete; its job is done again"):
        assert store.read(job) is None
    with pytest.warns(StoreWarning, match="damaged or incomplete"):
        assert store.table().empty


def test_a_changed_digit_is_noticed(store, job):
    store.write(job, done(job, metrics=METRIC_VALUES))
    path = record_path(store, job)
    path.write_bytes(path.read_bytes().replace(b"90.0", b"91.0"))
    with pytest.warns(StoreWarning, match="damaged"):
        assert store.read(job) is None


def test_the_record_of_other_settings_or_data_is_refused(store, job):
    store.write(job, done(job))
    data = {**job.identity["data"], "train": "0" * 64}
    other = replace(job, identity={**job.identity, "data": data, "seed": 1})
    with pytest.raises(StoreError, match=r"made in another way: data.train .*; seed \(0, now 1\)"):
        store.read(other)
    fewer = {name: value for name, value in job.identity.items() if name != "variant"}
    with pytest.raises(StoreError, match=r"variant \(only in one of them\)"):
        store.read(replace(job, identity=fewer))


def test_the_record_of_another_format_is_refused(store, job, monkeypatch):
    monkeypatch.setattr(store_module, "FORMAT", 99)
    store.write(job, done(job))
    monkeypatch.undo()
    with pytest.raises(StoreError, match="is of format 99"):
        store.read(job)


# forget sets ---------------------------------------------------------------------------------


def test_forget_sets_are_kept_and_checked(store, job):
    splits = get_problem("digits").load(0)
    kept = store.forget_set(job, splits)
    assert len(kept) == 25
    kept_again = draw_forget_set(splits, splits.forget_groups, 0.5, 0)
    store.keep_forget_set("digits", "group", kept_again)
    rows = kept.rows.copy()
    rows[0] += 1
    with pytest.raises(ForgetSetMismatch, match="another forget set"):
        store.keep_forget_set("digits", "group", replace(kept, fingerprint="f" * 64))
    with pytest.raises(ForgetSetMismatch, match="other training rows"):
        store.forget_set(job, get_problem("digits").load(1))
    with pytest.raises(ForgetSetMismatch, match="another forget set"):
        store.forget_set(replace(job, identity={**job.identity, "forget": "f" * 64}), splits)


def test_a_lost_forget_set_is_written_again(store, job):
    splits = get_problem("digits").load(0)
    path = next((store.folder / "forget_sets").iterdir())
    path.write_text(path.read_text()[:100])
    with pytest.warns(StoreWarning, match="is damaged"), pytest.raises(ForgetSetMismatch):
        store.forget_set(job, splits)
    with pytest.warns(StoreWarning, match="is damaged"):
        quick_plan(store)
    assert np.array_equal(store.forget_set(job, splits).rows, json.loads(path.read_text())["rows"])


# results -------------------------------------------------------------------------------------


def test_rows_and_costs(store, job, pretraining):
    store.write(pretraining, done(pretraining, epochs=20, seconds=40.0))
    store.write(job, done(job, metrics=METRIC_VALUES, peak_memory_mb=100.5, kept_epoch=None))
    table = store.table()
    assert list(table) == RESULT_COLUMNS
    values = table.set_index("metric")["value"]
    assert values.to_dict() == {
        "RA": 90.0,
        "GA": 1 / 3,
        "cost": 1.5,
        "seconds": 3.0,
        "peak_memory_mb": 100.5,
    }
    assert table.iloc[0].tolist()[:-1] == [
        "digits",
        "group",
        0.5,
        0,
        "best",
        "fine_tune",
        1,
        "",
        "RA",
    ]


def test_without_pretraining_there_is_no_cost(store, job, pretraining):
    store.write(job, done(job, metrics=METRIC_VALUES))
    assert "cost" not in set(store.table()["metric"])
    store.write(pretraining, {"status": "failed", "reason": "", "columns": columns_of(pretraining)})
    assert "cost" not in set(store.table()["metric"])


def test_failed_jobs_have_empty_rows(store, job):
    store.write(job, {"status": "failed", "reason": "NaN", "columns": columns_of(job)})
    table = store.table()
    assert table["metric"].tolist() == list(METRICS)
    assert table["value"].isna().all()


def test_results_are_written_in_an_order_of_their_own_and_read_again(store, jobs):
    evaluated = [job for job in jobs.values() if job.kind != "training"]
    rng = np.random.default_rng(0)
    for job in rng.permutation(np.array(evaluated, dtype=object)):
        store.write(job, done(job, metrics=METRIC_VALUES))
    path = store.write_results()
    table = read_results(path)
    assert table["value"].tolist() == store.table()["value"].tolist(), "every digit"
    assert table.iloc[:, :8].drop_duplicates().apply(tuple, axis=1).tolist() == [
        ("digits", "group", 0.5, 0, selection, method, reweight, "")
        for selection in ("best", "last")
        for method, reweight in [
            ("pretrain", 0),
            ("retrain", 0),
            ("retrain", 1),
            ("gold_reseeded", 1),
            ("fine_tune", 0),
            ("fine_tune", 1),
        ]
    ]
    before = path.read_bytes()
    assert store.write_results().read_bytes() == before
    assert not any(math.isnan(value) for value in table["value"])


# locks ---------------------------------------------------------------------------------------


def test_one_owner_at_a_time(store, job):
    lock, other = store.lock(job), store.lock(job)
    with lock.held() as is_ours, other.held() as is_theirs:
        assert (is_ours, is_theirs) == (True, False)
        assert other.owner()["pid"] == os.getpid()
    with other.held() as is_theirs:
        assert is_theirs


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    path = tmp_path / "lock"
    path.write_text('{"pid": 1, "host": "elsewhere"}')  # as one that was killed leaves it
    lock = FileLock(path)
    assert lock.acquire()
    assert lock.owner()["pid"] == os.getpid()
    lock.release()


def test_a_file_system_without_locks_is_explained(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match=r"knows no locks\. Use a folder on another one"):
        FileLock(tmp_path / "lock").acquire()
