import random
import shutil
import threading
import time
from collections import Counter

import numpy as np
import pytest
from conftest import FORKED, same_weights, threshold_attack
from filelock import FileLock
from quick_benchmark import (
    TRAINING,
    UNLEARNING,
    job_of,
    preset,
    quick_jobs,
    repeatable_lines,
    run_and_log,
    run_quickly,
    uninterrupted_run,
)
from sklearn.frozen import FrozenEstimator

from grmu_sk import FineTuneUnlearner, RetrainUnlearner
from grmu_sk.benchmark import get_problem, read_results
from grmu_sk.benchmark import jobs as module
from grmu_sk.benchmark.jobs import MEASURED, BenchmarkError, read_records
from grmu_sk.benchmark.recipes import BestEpoch
from grmu_sk.groups import sample_forget_set
from grmu_sk.metrics import per_sample_cross_entropy
from grmu_sk.persistence import load
from grmu_sk.results import PRETRAIN, RETRAIN, Row


@pytest.fixture(scope="module")
def finished():
    return uninterrupted_run()


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def values(folder, method, reweight, selection="best"):
    table = read_results(folder)
    chosen = Row(method, bool(reweight)).of(table) & (table["selection"] == selection)
    return table[chosen].set_index("metric")["value"]


# what a run computes -------------------------------------------------------------------------


def test_models_are_those_trained_and_unlearned_by_hand(finished):
    problem = get_problem("digits")
    splits = problem.load(0)
    train, validation, test = splits.train, splits.validation, splits.test
    rows = sample_forget_set(
        train.y, train.groups, forget_groups=splits.forget_groups, ratio=0.5, random_state=0
    )
    rest = np.setdiff1d(np.arange(len(train.y)), rows)
    net = problem.net().set_params(**preset().setting(problem.key, PRETRAIN).net())
    best = BestEpoch(validation.X, validation.y, np.unique(train.y))
    net.set_params(callbacks=[*net.callbacks, ("best_epoch", best.callback)])
    last = RetrainUnlearner(net, random_state=0).fit(train.X, train.y, train.groups)
    training = job_of(quick_jobs(), "training", "pretrain")
    both = {"best": (best.best_of(last), best.kept_epoch), "last": (last, 2)}
    for selection, (model, epoch) in both.items():
        path = module.model_path(finished, training.name, selection)
        assert same_weights(load(path, problem.net()), model)
        found, right = values(finished, "pretrain", 0, selection), model.predict(train.X) == train.y
        predicted = model.predict(test.X)
        assert found["TA"] == 100 * np.mean(predicted == test.y)
        assert (found["UA"], found["RA"]) == (100 * right[rows].mean(), 100 * right[rest].mean())
        in_group = (test.y == "even") & (test.groups == "orange")
        assert found["GA"] == pytest.approx(100 * np.mean(predicted[in_group] == "even"))
        assert found["group_accuracy[even, orange]"] == found["GA"]
        assert (found["kept_epoch"], found["cost"]) == (epoch, 2.0), "two epochs of training"
    # unlearning starts from the last epoch, with the setting of unlearning
    setting = preset().setting(problem.key, Row("fine_tune", True), "group", 0.5)
    net = problem.net().set_params(**setting.net()).initialize()
    net.module_.load_state_dict(last.net_.module_.state_dict())
    unlearner = FineTuneUnlearner(FrozenEstimator(net), random_state=0, **setting.parameters)
    unlearner.fit(train.X, train.y, train.groups).unlearn(rows)
    found = values(finished, "fine_tune", 1, "last")
    assert found["TA"] == 100 * unlearner.score(test.X, test.y)
    losses = [
        per_sample_cross_entropy(y, unlearner.predict_proba(X), classes=unlearner.classes_)
        for X, y in ((train.X, train.y), (validation.X, validation.y))
    ]
    score = threshold_attack(losses[0][rest], losses[1], losses[0][rows])
    assert found["MIA"] == 100 * score
    assert values(finished, "fine_tune", 0, "last")["RA"] != found["RA"], "the control"


def test_results_and_records_are_complete(finished):
    found = read_results(finished).groupby(["selection", "method", "reweight"])["metric"].agg(set)
    assert len(found) == 12 and all({*MEASURED, "seconds", "cost"} <= names for names in found)
    records = read_records(finished)
    assert len(records) == 16, "best and last come from one training"
    assert all((r["status"], r["environment"]["device"]) == ("done", "cpu") for r in records)
    suffixes = {path.suffix for path in finished.rglob("*") if path.is_file()}
    assert suffixes <= {".json", ".safetensors", ".lock", ".csv", ".txt"}, "no pickle"


# resuming ------------------------------------------------------------------------------------


def test_killed_at_random_points_and_finished_by_another_run(finished, tmp_path):
    rng, n_killed = random.Random(time.time_ns()), 2

    def start():
        process = FORKED.Process(target=run_and_log, args=(tmp_path,))
        process.start()
        return process

    def n_records():
        return len(list(tmp_path.glob("jobs/*.json")))

    for _ in range(n_killed):
        wanted, process = n_records() + rng.randint(1, 3), start()
        while n_records() < wanted and process.is_alive():
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))  # somewhere within the work that follows
        process.kill()
        process.join()
        assert process.exitcode < 0
    process = start()
    process.join()
    assert process.exitcode == 0
    assert repeatable_lines(tmp_path) == repeatable_lines(finished)
    begun = Counter(tuple(line.split()) for line in (tmp_path / "log.txt").read_text().splitlines())
    assert {name for name, _ in begun} == {job.name for job in quick_jobs()}
    assert not [name for name, state in begun if state == "again"], "a finished job was repeated"
    # only what was under way when the process was killed is begun anew
    assert sum(begun.values()) <= 16 + n_killed


def test_a_dask_cluster_gives_what_one_process_gives(finished, tmp_path):
    distributed = pytest.importorskip("distributed")
    # two threads: jobs that were done at the same time would disturb each other's draws
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        options = {"backend": "dask", "scheduler": cluster.scheduler_address}
        report = run_quickly(tmp_path, quick_jobs(selections=["best"]), **options)
    assert not report.failed and report.n_done == 10
    expected = [line for line in repeatable_lines(finished) if ",last," not in line]
    assert repeatable_lines(tmp_path) == expected


def record_path(folder, *which):
    return folder / "jobs" / f"{job_of(quick_jobs(), *which).name}.json"


def test_lost_models_are_made_again_and_a_folder_is_for_one_run_at_a_time(copied, finished):
    training = job_of(quick_jobs(), "training", "pretrain")
    module.model_path(copied, training.name, "best").unlink()
    path = record_path(copied, "unlearning", "fine_tune", True, "best")
    path.unlink()
    with FileLock(copied / "locks" / "run.lock"), pytest.raises(BenchmarkError, match="at work"):
        run_quickly(copied)
    report = run_quickly(copied)
    assert (report.n_done, report.n_found) == (2, 14)
    assert repeatable_lines(copied) == repeatable_lines(finished)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=path.name):
        run_quickly(copied)


def test_another_setting_is_refused_in_the_same_folder_and_more_of_the_same_is_not(copied):
    changed = preset(training={**TRAINING, "lr": 0.06})
    with pytest.raises(BenchmarkError, match=r"'setting.lr': \['0.05', '0.06'\]"):
        run_quickly(copied, quick_jobs(settings=changed))
    jobs = [job for job in quick_jobs(ratios=[0.2]) if job.row in (PRETRAIN, RETRAIN)]
    assert run_quickly(copied, jobs).n_found == 1, "pretraining does not depend on the forget set"
    assert set(read_results(copied)["ratio"]) == {0.2, 0.5}


def test_other_rows_are_a_hard_failure(copied, monkeypatch):
    path = record_path(copied, "unlearning", "fine_tune", False, "best")
    path.unlink()
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
    record_path(copied, "evaluation", "retrain", False, "best").unlink()
    with pytest.raises(BenchmarkError, match="forgot other rows"):
        run_quickly(copied)


# failing jobs --------------------------------------------------------------------------------


def test_failures_are_tried_again_and_block_what_needs_them(tmp_path, monkeypatch):
    wild = preset(unlearning={**UNLEARNING, "lr": 1.0, "weight_decay": 1e5})
    jobs, run = quick_jobs(settings=wild, selections=["best"]), module.forget_rows

    def out_of_memory(*arguments):
        if arguments[-1] is None:  # nothing to forget: the model before
            raise MemoryError("no more")
        return run(*arguments)

    monkeypatch.setattr(module, "forget_rows", out_of_memory)
    report = run_quickly(tmp_path, jobs)
    assert report.failed["pretrain (seed 0, training)"] == "MemoryError: no more"
    diverged = {f"fine_tune{r} (group 0.5, seed 0, best)" for r in ("", " + reweight")}
    assert all(report.failed[name].endswith("pretrain (seed 0, training)") for name in diverged)
    assert values(tmp_path, "retrain", 1)["TA"] > 50
    monkeypatch.setattr(module, "forget_rows", run)
    report = run_quickly(tmp_path, jobs)
    assert set(report.failed) == diverged, "tried again"
    assert all("NaN or infinite" in reason for reason in report.failed.values())
    assert values(tmp_path, "fine_tune", 0)[MEASURED].isna().all()


def test_no_gpu_is_given_to_more_jobs_than_may_share_it(tmp_path):
    (tmp_path / "locks").mkdir()
    place = module._Workplace(tmp_path, ("fake:0", "fake:1"))
    with module._device(place) as one, module._device(place) as other:
        assert {one, other} == {"fake:0", "fake:1"}
        taken = []

        def wait_for_one():
            with module._device(place) as device:
                taken.append(device)

        thread = threading.Thread(target=wait_for_one)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and not taken
    thread.join()
    assert len(taken) == 1
