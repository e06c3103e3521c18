import io
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import same_weights
from quick_benchmark import (
    TRAINING,
    UNLEARNING,
    preset,
    quick_plan,
    repeatable_lines,
    run_quickly,
    uninterrupted_run,
)
from sklearn.frozen import FrozenEstimator

from grmu_sk import FineTuneUnlearner, RetrainUnlearner
from grmu_sk.benchmark import worker
from grmu_sk.benchmark.forget_sets import ForgetSetMismatch
from grmu_sk.benchmark.problem import get_problem
from grmu_sk.benchmark.progress import Progress, format_seconds
from grmu_sk.benchmark.recipes import BestEpoch
from grmu_sk.benchmark.results import read_results
from grmu_sk.benchmark.runner import run_plan
from grmu_sk.benchmark.schedule import Schedule
from grmu_sk.benchmark.schema import METRICS
from grmu_sk.benchmark.store import Store, StoreError, StoreWarning
from grmu_sk.benchmark.worker import Outcome
from grmu_sk.groups import sample_forget_set
from grmu_sk.metrics import membership_inference_efficacy, per_sample_cross_entropy

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
    setting = preset().training(problem)
    best = BestEpoch(splits.validation.X, splits.validation.y, np.unique(train.y))
    callbacks = [*setting.net["callbacks"], ("best_epoch", best.callback)]
    net = problem.net().set_params(**setting.net | {"callbacks": callbacks})
    last = RetrainUnlearner(net, random_state=0).fit(train.X, train.y, train.groups)
    return problem, splits, rows, last, best


def values(folder, method, reweight, selection="best"):
    table = read_results(folder)
    chosen = (table["method"] == method) & (table["reweight"] == reweight)
    chosen &= table["selection"] == selection
    return table[chosen].set_index("metric")["value"]


# what a run computes -------------------------------------------------------------------------


@pytest.mark.parametrize("selection", ["best", "last"])
def test_pretrained_model_is_the_one_trained_by_hand(finished, by_hand, selection):
    problem, splits, rows, last, best = by_hand
    model = best.best_of(last) if selection == "best" else last
    stored = Store(finished).load_model(
        "digits--all--seed-0--pretrain--training", selection, problem.net()
    )
    assert same_weights(stored, model)
    found = values(finished, "pretrain", 0, selection)
    train, test = splits.train, splits.test
    rest = np.setdiff1d(np.arange(len(train.y)), rows)
    assert found["TA"] == 100 * np.mean(model.predict(test.X) == test.y)
    assert found["UA"] == 100 * np.mean(model.predict(train.X)[rows] == train.y[rows])
    assert found["RA"] == pytest.approx(
        100 * np.mean(model.predict(train.X)[rest] == train.y[rest])
    )
    in_group = (test.y == "even") & (test.groups == "orange")
    assert found["GA"] == pytest.approx(100 * np.mean(model.predict(test.X)[in_group] == "even"))
    assert found["group_accuracy[even, orange]"] == found["GA"]
    assert found["kept_epoch"] == (best.kept_epoch if selection == "best" else 2)


def test_unlearning_starts_from_the_pretrained_net_with_the_setting_of_unlearning(
    finished, by_hand
):
    problem, splits, rows, last, _ = by_hand
    setting = preset().unlearning(
        problem, forget="group", ratio=0.5, method="fine_tune", reweight=True
    )
    net = problem.net().set_params(**setting.net).initialize()
    net.module_.load_state_dict(last.net_.module_.state_dict())
    unlearner = FineTuneUnlearner(FrozenEstimator(net), random_state=0, **setting.unlearner)
    train = splits.train
    unlearner.fit(train.X, train.y, train.groups).unlearn(rows)
    found = values(finished, "fine_tune", 1, "last")
    assert found["TA"] == 100 * unlearner.score(splits.test.X, splits.test.y)
    proba = unlearner.predict_proba(train.X)
    losses = per_sample_cross_entropy(train.y, proba, classes=unlearner.classes_)
    held_out = per_sample_cross_entropy(
        splits.validation.y,
        unlearner.predict_proba(splits.validation.X),
        classes=unlearner.classes_,
    )
    is_rest = ~np.isin(np.arange(len(train.y)), rows)
    for name, attack in [("MIA", "paper"), ("MIA_balanced", "balanced")]:
        efficacy = membership_inference_efficacy(
            losses[is_rest], held_out, losses[rows], attack=attack
        )
        assert found[name] == 100 * efficacy
    # a negative control: from other weights the numbers are others
    assert values(finished, "fine_tune", 0, "last")["RA"] != found["RA"]


def test_results_have_every_line_and_metric_once(finished):
    table = read_results(finished)
    assert set(table["selection"]) == {"best", "last"}
    lines = table[["method", "reweight"]].drop_duplicates().apply(tuple, axis=1).tolist()
    assert lines == [
        ("pretrain", 0),
        ("retrain", 0),
        ("retrain", 1),
        ("gold_reseeded", 1),
        ("fine_tune", 0),
        ("fine_tune", 1),
    ]
    for _, rows in table.groupby(["selection", "method", "reweight"]):
        assert {*METRICS, "seconds", "cost", "peak_memory_mb"} <= set(rows["metric"])
    costs = table[(table["metric"] == "cost") & (table["method"] == "pretrain")]["value"]
    assert costs.tolist() == [2.0, 2.0], "pretraining took two epochs"


def test_best_and_last_come_from_one_training(finished):
    store = Store(finished)
    names = [record["name"] for record in store.records() if record["kind"] == "training"]
    assert len(names) == 4
    models = sorted(path.name for path in (finished / "models").iterdir())
    assert models == sorted(
        f"{name}--{which}.safetensors" for name in names for which in ("best", "last")
    )


def test_a_record_says_what_when_and_where(finished):
    for record in Store(finished).records():
        assert record["status"] == "done"
        assert record["wall_seconds"] > 0
        assert record["environment"]["versions"]["torch"]
        assert record["environment"]["threads"] == 1
        assert record["environment"]["device"] == "cpu"
        assert record["peak_memory_mb"] > 50
        if record["kind"] != "training":
            assert record["split"]["n_forget"] == 25
            assert len(record["split"]["forget"]) == 64


def test_no_pickle_in_the_folder(finished):
    suffixes = {path.suffix for path in finished.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors", ".lock", ".csv", ".txt"}


# resuming ------------------------------------------------------------------------------------


def test_nothing_is_done_twice(finished, monkeypatch):
    monkeypatch.setattr(worker._Work, "run", lambda work: pytest.fail("worked again"))
    before = (finished / "results.csv").read_bytes()
    _, report = run_quickly(finished)
    assert report.n_done == 0
    assert report.n_found == 16
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
    assert {name for name, _ in begun} == {record["name"] for record in Store(tmp_path).records()}
    assert not [name for name, state in begun if state == "again"], "a finished job was repeated"
    # only what was under way when the process was killed is begun anew
    assert sum(begun.values()) <= 16 + n_killed
    left = [path.name for path in tmp_path.rglob("*.tmp")]
    assert len(left) <= n_killed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_two_runners_share_the_jobs_of_one_folder(server, finished, tmp_path):
    start(server, tmp_path, 2)
    assert statuses(server) == [0, 0]
    assert repeatable_lines(tmp_path) == repeatable_lines(finished)
    begun = (tmp_path / "log.txt").read_text().splitlines()
    assert len(begun) == len(set(begun)) == 16


def test_an_interrupt_keeps_what_is_done(tmp_path, monkeypatch):
    run = worker._Work.run

    def interrupted(work):
        if work.job.method == "retrain":
            raise KeyboardInterrupt
        return run(work)

    monkeypatch.setattr(worker._Work, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_quickly(tmp_path, methods=("pretrain",))
    methods = {record["columns"]["method"] for record in Store(tmp_path).records()}
    assert methods == {"pretrain"}
    assert set(read_results(tmp_path)["method"]) == {"pretrain"}
    monkeypatch.setattr(worker._Work, "run", run)
    _, report = run_quickly(tmp_path, methods=("pretrain",))
    assert report.n_found == len(methods) * 3
    assert not report.failed


# damage and change ---------------------------------------------------------------------------


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_damaged_records_are_done_again(copied, finished, damage):
    path = next((copied / "jobs").glob("*fine_tune+reweight--last.json"))
    raw = path.read_bytes()
    broken = {
        "truncated": raw[: len(raw) // 2],
        "changed": raw.replace(b'"n_forget": 25', b'"n_forget": 26'),
        "empty": b"",
    }[damage]
    assert broken != raw
    path.write_bytes(broken)
    with pytest.warns(StoreWarning, match=r"fine_tune\+reweight--last.json is damaged"):
        _, report = run_quickly(copied)
    assert (report.n_done, report.n_found) == (1, 15)
    assert repeatable_lines(copied) == repeatable_lines(finished)


def test_a_damaged_model_is_trained_again_when_it_is_needed(copied, finished):
    model = copied / "models" / "digits--all--seed-0--pretrain--training--best.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    _, report = run_quickly(copied)
    assert report.n_done == 0, "nobody needed it"
    next((copied / "jobs").glob("*fine_tune+reweight--best.json")).unlink()
    with pytest.warns(StoreWarning, match=r"--best.safetensors is missing or damaged"):
        _, report = run_quickly(copied)
    assert report.n_done == 2
    assert repeatable_lines(copied) == repeatable_lines(finished)


def test_another_setting_is_refused_in_the_same_folder(copied):
    changed = preset(training={**TRAINING, "lr": 0.06})
    with pytest.raises(StoreError, match=r"made in another way: .*setting.net.lr \(0.05, now 0.06"):
        run_quickly(copied, settings=changed)
    changed = preset(unlearning={**UNLEARNING, "epochs": 2})
    with pytest.raises(StoreError, match=r"fine_tune.*max_epochs"):
        run_quickly(copied, settings=changed)


def test_more_of_the_same_goes_into_the_same_folder(copied):
    store, report = run_quickly(copied, plan_options={"ratios": [0.2], "selections": ["best"]})
    assert report.n_found == 1, "pretraining does not depend on the forget set"
    assert set(store.table()["ratio"]) == {0.2, 0.5}
    trainings = [entry["name"] for entry in store.records() if entry["kind"] == "training"]
    assert sum("pretrain" in name for name in trainings) == 1


def test_other_rows_are_a_hard_failure(copied):
    path = next((copied / "forget_sets").iterdir())
    text = path.read_text()
    changed = text.replace('"rows": [', '"rows": [0, ')
    assert changed != text
    path.write_text(changed)
    plan = quick_plan(Store(copied))
    next((copied / "jobs").glob("*fine_tune--best.json")).unlink()
    with pytest.raises(ForgetSetMismatch, match="drawn from other training rows"):
        run_plan(plan, Store(copied), backend="sequential", file=io.StringIO())
    assert not list((copied / "jobs").glob("*fine_tune--best.json")), "recorded as a failed job"


def test_a_model_that_forgot_other_rows_is_a_hard_failure(copied):
    store = Store(copied)
    models = copied / "models"
    other, own = (
        models / f"digits--{name}--training--best.safetensors"
        for name in ("all--seed-0--pretrain", "group-0.5--seed-0--retrain")
    )
    shutil.copy(other, own)
    next((copied / "jobs").glob("*0--retrain--best.json")).unlink()
    job = next(job for job in quick_plan(store).jobs if job.name.endswith("0--retrain--best"))
    place = worker.Workplace(copied, get_problem("digits", device="cpu"))
    with pytest.raises(ForgetSetMismatch, match="forgot other rows"):
        worker.perform(place, job)


# failing jobs --------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_fails_one_job_and_no_other(tmp_path):
    wild = preset(unlearning={**UNLEARNING, "lr": 1.0, "weight_decay": 1e5})
    options = {"methods": ("fine_tune", "no_op"), "settings": wild}
    options["plan_options"] = {"selections": ["best"]}
    _, report = run_quickly(tmp_path, **options)
    failed = {
        "fine_tune (group 0.5, seed 0, best)",
        "fine_tune + reweight (group 0.5, seed 0, best)",
    }
    assert set(report.failed) == failed
    assert all("NaN or infinite" in reason for reason in report.failed.values())
    assert values(tmp_path, "fine_tune", 0)[list(METRICS)].isna().all()
    assert values(tmp_path, "no_op", 0)["TA"] > 50
    _, again = run_quickly(tmp_path, **options)
    assert (again.n_done, set(again.failed)) == (0, failed)


def test_failed_jobs_are_tried_again_on_request(tmp_path, monkeypatch):
    forget = worker.forget_rows

    def out_of_memory(unlearner, *arguments):
        if isinstance(unlearner, FineTuneUnlearner):
            raise MemoryError("no more")
        return forget(unlearner, *arguments)

    monkeypatch.setattr(worker, "forget_rows", out_of_memory)
    options = {"plan_options": {"selections": ["best"]}}
    _, report = run_quickly(tmp_path, **options)
    assert list(report.failed.values()) == ["MemoryError: no more"] * 2
    monkeypatch.setattr(worker, "forget_rows", forget)
    _, report = run_quickly(tmp_path, **options, retry_failed=True)
    assert not report.failed
    assert report.n_done == 2


def test_what_needs_a_failed_training_is_not_tried(tmp_path, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("The loss is NaN")

    monkeypatch.setattr(worker, "train_on_all", fail)
    _, report = run_quickly(tmp_path, plan_options={"selections": ["best"]})
    assert report.failed["pretrain (seed 0, training)"] == "The loss is NaN"
    needy = report.failed["fine_tune (group 0.5, seed 0, best)"]
    assert "training digits--all--seed-0--pretrain--training failed" in needy
    assert values(tmp_path, "retrain", 1)["TA"] > 50


# the schedule --------------------------------------------------------------------------------


def test_jobs_wait_for_their_training(tmp_path):
    jobs = quick_plan(Store(tmp_path)).jobs
    schedule = Schedule(jobs, {})
    handed = iter(schedule)
    at_work = []
    while (job := next(handed)) is not None:
        at_work.append(job)
    assert {job.kind for job in at_work} == {"training"}
    assert len(at_work) == 4
    schedule.finished(Outcome(at_work[0].name, "done"))
    job = next(handed)
    assert job.needs == at_work[0].name
    schedule.finished(Outcome(job.name, "done"))
    schedule.finished(Outcome(at_work[1].name, "failed", "why"))
    rest = []
    while (job := next(handed)) is not None:
        rest.append(job)
        schedule.finished(Outcome(job.name, "done"))
    assert {job.needs for job in schedule.blocked} == {at_work[1].name}
    assert not {job.needs for job in rest} & {at_work[1].name}


def test_a_job_of_somebody_else_comes_again(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("grmu_sk.benchmark.schedule.monotonic", lambda: now[0])
    job = quick_plan(Store(tmp_path)).jobs[0]
    handed = iter(schedule := Schedule([job], {}))
    assert next(handed) is job
    assert next(handed) is None, "it is under way"
    schedule.finished(Outcome(job.name, "busy"))
    assert next(handed) is None, "not at once"
    now[0] = 10.0
    assert next(handed) is job
    schedule.finished(Outcome(job.name, "done"))
    with pytest.raises(StopIteration):
        next(handed)


def test_time_left_is_weighted_by_what_jobs_cost(tmp_path):
    jobs = quick_plan(Store(tmp_path)).jobs
    file = io.StringIO()
    with Progress(jobs, n_parallel=2, file=file) as progress:
        assert progress.seconds_left() is None
        first = jobs[0]
        progress.job_done(first, "done", 10.0)
        rate = 10.0 / first.expected_cost
        expected = rate * sum(job.expected_cost for job in jobs[1:]) / 2
        assert progress.seconds_left() == pytest.approx(expected)
        for job in jobs[1:]:
            progress.job_done(job, "done", 0.0)
        assert progress.seconds_left() == 0
    lines = file.getvalue().splitlines()
    assert lines[0].startswith("1/16 jobs, 0:00, about ")
    assert "pretrain (seed 0, training): done, 10.0 s" in lines[0]
    assert format_seconds(3725) == "1:02:05"


def test_a_process_loads_data_once(monkeypatch):
    problem = get_problem("digits", device="cpu")
    first, again = (pickle.loads(pickle.dumps(problem)) for _ in range(2))
    monkeypatch.setattr(worker, "_loaded", {})
    splits = worker.load_once(first, 0)
    assert worker.load_once(again, 0) is splits
    other = worker.load_once(again, 1)
    assert other.train.X.tobytes() != splits.train.X.tobytes()
    assert len(worker._loaded) == 1, "memory for one"


def test_wrong_arguments_are_explained(tmp_path):
    plan = quick_plan(Store(tmp_path))
    with pytest.raises(ValueError, match="backend must be one of"):
        run_plan(plan, Store(tmp_path), backend="threads")
    with pytest.raises(ValueError, match="scheduler is for the backend 'dask'"):
        run_plan(plan, Store(tmp_path), scheduler="tcp://nowhere:1")


def test_the_table_of_an_empty_folder_is_empty(tmp_path):
    assert Store(tmp_path).table().equals(pd.DataFrame(columns=Store(tmp_path).table().columns))
