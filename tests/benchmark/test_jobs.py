import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import same_weights
from quick_benchmark import (
    TRAINING,
    UNLEARNING,
    job_of,
    preset,
    quick_jobs,
    repeatable_lines,
    run_quickly,
    uninterrupted_run,
)
from sklearn.frozen import FrozenEstimator

from grmu_sk import FineTuneUnlearner, RetrainUnlearner
from grmu_sk.benchmark import get_problem, read_results
from grmu_sk.benchmark import jobs as module
from grmu_sk.benchmark.jobs import MEASURED, BenchmarkError, read_record, read_records
from grmu_sk.benchmark.recipes import BestEpoch
from grmu_sk.groups import sample_forget_set
from grmu_sk.metrics import membership_inference_efficacy, per_sample_cross_entropy
from grmu_sk.persistence import load
from grmu_sk.results import GOLD, PRETRAIN, RESEEDED_GOLD, RETRAIN, Row

N_KILLS = 5
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def finished():
    return uninterrupted_run()


@pytest.fixture(scope="module")
def by_hand():
    """The digits, the rows to forget and a trained net, made without the runner."""
    problem = get_problem("digits", device="cpu")
    splits = problem.load(0)
    train = splits.train
    rows = sample_forget_set(
        train.y, train.groups, forget_groups=splits.forget_groups, ratio=0.5, random_state=0
    )
    net = problem.net().set_params(**preset().setting(problem, PRETRAIN).net())
    best = BestEpoch(splits.validation.X, splits.validation.y, np.unique(train.y))
    net.set_params(callbacks=[*net.callbacks, ("best_epoch", best.callback)])
    last = RetrainUnlearner(net, random_state=0).fit(train.X, train.y, train.groups)
    return problem, splits, rows, last, best


def values(folder, method, reweight, selection="best"):
    table = read_results(folder)
    chosen = Row(method, bool(reweight)).of(table) & (table["selection"] == selection)
    return table[chosen].set_index("metric")["value"]


# what a run computes -------------------------------------------------------------------------


@pytest.mark.parametrize("selection", ["best", "last"])
def test_pretrained_model_is_the_one_trained_by_hand(finished, by_hand, selection):
    problem, splits, rows, last, best = by_hand
    model = best.best_of(last) if selection == "best" else last
    training = job_of(quick_jobs(), "training", "pretrain")
    path = module.model_path(finished, training.name, selection)
    assert same_weights(load(path, problem.net()), model)
    found = values(finished, "pretrain", 0, selection)
    train, test = splits.train, splits.test
    rest = np.setdiff1d(np.arange(len(train.y)), rows)
    right = model.predict(train.X) == train.y
    assert found["TA"] == 100 * np.mean(model.predict(test.X) == test.y)
    assert (found["UA"], found["RA"]) == (100 * right[rows].mean(), 100 * right[rest].mean())
    in_group = (test.y == "even") & (test.groups == "orange")
    assert found["GA"] == pytest.approx(100 * np.mean(model.predict(test.X)[in_group] == "even"))
    assert found["group_accuracy[even, orange]"] == found["GA"]
    assert found["kept_epoch"] == (best.kept_epoch if selection == "best" else 2)


def test_unlearning_starts_from_the_pretrained_net_with_the_setting_of_unlearning(
    finished, by_hand
):
    problem, splits, rows, last, _ = by_hand
    setting = preset().setting(problem, Row("fine_tune", True), "group", 0.5)
    net = problem.net().set_params(**setting.net()).initialize()
    net.module_.load_state_dict(last.net_.module_.state_dict())
    unlearner = FineTuneUnlearner(FrozenEstimator(net), random_state=0, **setting.parameters)
    train = splits.train
    unlearner.fit(train.X, train.y, train.groups).unlearn(rows)
    found = values(finished, "fine_tune", 1, "last")
    assert found["TA"] == 100 * unlearner.score(splits.test.X, splits.test.y)
    losses, held_out = (
        per_sample_cross_entropy(
            part.y, unlearner.predict_proba(part.X), classes=unlearner.classes_
        )
        for part in (train, splits.validation)
    )
    is_rest = ~np.isin(np.arange(len(train.y)), rows)
    for name, attack in [("MIA", "paper"), ("MIA_balanced", "balanced")]:
        expected = membership_inference_efficacy(
            losses[is_rest], held_out, losses[rows], attack=attack
        )
        assert found[name] == 100 * expected
    # a negative control: from other weights the numbers are others
    assert values(finished, "fine_tune", 0, "last")["RA"] != found["RA"]


def test_results_and_records_are_complete(finished):
    table = read_results(finished)
    assert len(table) == 2 * (4 * 17 + 2 * 16)
    lines = table[["selection", "method", "reweight"]].drop_duplicates().apply(tuple, axis=1)
    rows = [PRETRAIN, RETRAIN, GOLD, RESEEDED_GOLD, Row("fine_tune", False), Row("fine_tune", True)]
    ordered = [(s, row.method, int(row.reweight)) for s in ("best", "last") for row in rows]
    assert lines.tolist() == ordered
    for _, found in table.groupby(["selection", "method", "reweight"]):
        assert {*MEASURED, "seconds", "cost"} <= set(found["metric"])
    costs = table[(table["metric"] == "cost") & (table["method"] == "pretrain")]["value"]
    assert costs.tolist() == [2.0, 2.0], "pretraining took two epochs"
    records = read_records(finished)
    trained = [record for record in records if record["kind"] == "training"]
    assert (len(records), len(trained)) == (16, 4), "best and last come from one training"
    assert len(list((finished / "models").iterdir())) == 8
    for record in records:
        assert (record["status"], record["environment"]["device"]) == ("done", "cpu")
        assert record["wall_seconds"] > 0 and record["environment"]["versions"]["torch"]
    suffixes = {path.suffix for path in finished.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".lock", ".csv", ".txt"}, "no pickle"


# resuming ------------------------------------------------------------------------------------


def test_nothing_is_done_twice(finished, monkeypatch):
    monkeypatch.setattr(module._Work, "run", lambda work: pytest.fail("worked again"))
    before = (finished / "results.csv").read_bytes()
    report = run_quickly(finished)
    assert (report.n_done, report.n_found) == (0, 16)
    assert (finished / "results.csv").read_bytes() == before


@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(
        [sys.executable, HERE / "benchmark_server.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process


def start(server, folder, number=1):
    server.stdin.write(f"{folder} {number}\n")
    server.stdin.flush()
    return [int(process) for process in server.stdout.readline().split()]


def statuses(server):
    return [os.waitstatus_to_exitcode(int(status)) for status in server.stdout.readline().split()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_at_random_points_and_resumed(server, finished, tmp_path):
    rng = random.Random(time.time_ns())
    n_killed = 0
    for _ in range(N_KILLS):
        n_records = len(list(tmp_path.glob("jobs/*.json")))
        (process,) = start(server, tmp_path)
        deadline = time.monotonic() + 120
        # somewhere within the work that follows the next two or three jobs
        wanted = min(n_records + rng.randint(1, 3), 15)
        while len(list(tmp_path.glob("jobs/*.json"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        os.kill(process, signal.SIGKILL)
        n_killed += statuses(server) == [-signal.SIGKILL]
    assert n_killed == N_KILLS
    start(server, tmp_path)
    assert statuses(server) == [0]
    assert repeatable_lines(tmp_path) == repeatable_lines(finished)
    begun = Counter(tuple(line.split()) for line in (tmp_path / "log.txt").read_text().splitlines())
    assert {name for name, _ in begun} == {job.name for job in quick_jobs()}
    assert not [name for name, state in begun if state == "again"], "a finished job was repeated"
    # only what was under way when the process was killed is begun anew
    assert sum(begun.values()) <= 16 + n_killed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_runners_share_the_jobs_of_one_folder(server, finished, tmp_path):
    start(server, tmp_path, 2)
    assert statuses(server) == [0, 0]
    assert repeatable_lines(tmp_path) == repeatable_lines(finished)
    begun = (tmp_path / "log.txt").read_text().splitlines()
    assert len(begun) == len(set(begun)) == 16


# damage and change ---------------------------------------------------------------------------


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def record_path(folder, *which):
    return folder / "jobs" / f"{job_of(quick_jobs(), *which).name}.json"


def test_damaged_records_and_models_are_made_again_when_they_are_needed(copied, finished):
    path = record_path(copied, "unlearning", "fine_tune", True, "last")
    for length in (0, 300, -2):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.warns(UserWarning, match=rf"{path.name} is damaged"):
            report = run_quickly(copied)
        assert (report.n_done, report.n_found) == (1, 15)
    training = job_of(quick_jobs(), "training", "pretrain")
    model = module.model_path(copied, training.name, "best")
    model.write_bytes(model.read_bytes()[:-1])
    assert run_quickly(copied).n_done == 0, "nobody needed it"
    record_path(copied, "unlearning", "fine_tune", True, "best").unlink()
    with pytest.warns(UserWarning, match=r"-best.safetensors is missing or damaged"):
        report = run_quickly(copied)
    assert report.n_done == 2
    assert repeatable_lines(copied) == repeatable_lines(finished)


def test_another_setting_is_refused_in_the_same_folder_and_more_of_the_same_is_not(copied):
    for changed, message in [
        (preset(training={**TRAINING, "lr": 0.06}), r"setting.lr \(0.05, now 0.06"),
        (preset(unlearning={**UNLEARNING, "epochs": 2}), r"setting.epochs \(1, now 2"),
    ]:
        with pytest.raises(BenchmarkError, match=rf"made in another way: .*{message}"):
            run_quickly(copied, quick_jobs(settings=changed))
    report = run_quickly(copied, quick_jobs(ratios=[0.2], selections=["best"]))
    assert report.n_found == 1, "pretraining does not depend on the forget set"
    assert set(read_results(copied)["ratio"]) == {0.2, 0.5}


def test_other_rows_are_a_hard_failure(copied, monkeypatch):
    path = record_path(copied, "unlearning", "fine_tune", False, "best")
    path.unlink()
    monkeypatch.setattr(module, "_loaded", {})
    draw = module.draw_forget_set
    monkeypatch.setattr(module, "draw_forget_set", lambda *given: draw(*given)[1:])
    with pytest.raises(BenchmarkError, match="planned with other rows"):
        run_quickly(copied)
    assert not path.exists(), "recorded as a failed job"
    monkeypatch.setattr(module, "draw_forget_set", draw)
    own, other = (
        module.model_path(copied, job_of(quick_jobs(), "training", method).name, "best")
        for method in ("retrain", "pretrain")
    )
    shutil.copy(other, own)
    record = record_path(copied, "evaluation", "retrain", False, "best")
    record.unlink()
    training = json.loads(record_path(copied, "training", "retrain").read_text())
    training["models"]["best"] = module._checksum(own)
    record_path(copied, "training", "retrain").write_text(json.dumps(training))
    with pytest.raises(BenchmarkError, match="forgot other rows"):
        run_quickly(copied)


# failing jobs --------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_fails_one_job_and_no_other(tmp_path):
    wild = preset(unlearning={**UNLEARNING, "lr": 1.0, "weight_decay": 1e5})
    jobs = quick_jobs(("fine_tune", "no_op"), wild, selections=["best"])
    report = run_quickly(tmp_path, jobs)
    failed = {f"fine_tune{r} (group 0.5, seed 0, best)" for r in ("", " + reweight")}
    assert set(report.failed) == failed
    assert all("NaN or infinite" in reason for reason in report.failed.values())
    assert values(tmp_path, "fine_tune", 0)[MEASURED].isna().all()
    assert values(tmp_path, "no_op", 0)["TA"] > 50
    again = run_quickly(tmp_path, jobs)
    assert (again.n_done, set(again.failed)) == (0, failed)


def test_other_failures_are_tried_again_on_request_and_block_what_needs_them(tmp_path, monkeypatch):
    train, jobs = module.train_on_all, quick_jobs(selections=["best"])

    def out_of_memory(*arguments):
        raise MemoryError("no more")

    monkeypatch.setattr(module, "train_on_all", out_of_memory)
    report = run_quickly(tmp_path, jobs)
    assert report.failed["pretrain (seed 0, training)"] == "MemoryError: no more"
    needy = "fine_tune (group 0.5, seed 0, best)"
    assert report.failed[needy].endswith("failed: pretrain (seed 0, training)")
    assert values(tmp_path, "retrain", 1)["TA"] > 50
    monkeypatch.setattr(module, "train_on_all", train)
    report = run_quickly(tmp_path, jobs, retry_failed=True)
    assert not report.failed and report.n_done == 4


# one process ---------------------------------------------------------------------------------


def in_threads(function, *arguments):
    threads = [threading.Thread(target=function, args=given) for given in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_process_loads_data_once_and_does_one_job_at_a_time(monkeypatch, tmp_path):
    problem, at_work, most = get_problem("digits", device="cpu"), [], []
    monkeypatch.setattr(module, "_loaded", {})
    splits = module.load_once(problem, 0)
    assert module.load_once(get_problem("digits", device="cpu"), 0) is splits
    assert module.load_once(problem, 1) is not splits
    assert len(module._loaded) == 1, "memory for one"

    def run(work):
        at_work.append(work)
        most.append(len(at_work))
        time.sleep(0.05)
        at_work.remove(work)
        return {}

    monkeypatch.setattr(module._Work, "run", run)
    jobs = [job for job in quick_jobs() if job.kind == "training"]
    (tmp_path / "jobs").mkdir()
    (tmp_path / "locks").mkdir()
    in_threads(module.perform, *((module._Workplace(tmp_path), job) for job in jobs))
    assert most == [1, 1, 1, 1]
    assert all(read_record(tmp_path, job.name)["status"] == "done" for job in jobs)


def test_no_gpu_is_given_to_more_jobs_than_may_share_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(module, "_identity", lambda device: device)
    place = module._Workplace(tmp_path, ("fake:0", "fake:1"))
    at_work, most, given = Counter(), [], []

    def job():
        with module._device(place) as device:
            at_work[device] += 1
            most.append(at_work[device])
            given.append(device)
            time.sleep(0.1)
            at_work[device] -= 1

    in_threads(job, (), (), (), ())
    assert most == [1] * 4 and set(given) == {"fake:0", "fake:1"}
    shared = module._Workplace(tmp_path, ("fake:0", "fake:1"), jobs_per_device=2)
    with (
        module._device(shared) as one,
        module._device(shared) as two,
        module._device(shared) as three,
    ):
        assert (one, two, three) == ("fake:0", "fake:1", "fake:0"), "empty devices first"
    with module._device(module._Workplace(tmp_path)) as one:
        assert one == "cpu"
    if torch.cuda.is_available():
        assert module._identity("cuda:0") != "cuda:0"


def test_wrong_arguments_are_explained(tmp_path):
    for options, message in [
        ({"backend": "magic"}, "magic"),
        ({"scheduler": "tcp://nowhere:1"}, "scheduler is for the backend 'dask'"),
        ({"backend": "dask"}, "first create a Dask Client"),
    ]:
        with pytest.raises(ValueError, match=message):
            run_quickly(tmp_path, **options)
