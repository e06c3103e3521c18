import io
import shutil
import time
from threading import Barrier, Thread

import pytest
from quick_benchmark import quick_plan, repeatable_lines, run_quickly, uninterrupted_run

from grmu_sk.benchmark import worker
from grmu_sk.benchmark.problem import get_problem
from grmu_sk.benchmark.runner import run_plan
from grmu_sk.benchmark.store import Store

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster():
    """A real cluster of two processes on this machine."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster


def test_a_cluster_gives_what_one_process_gives(cluster, tmp_path):
    options = {"selections": ["best"]}
    _, report = run_quickly(
        tmp_path,
        plan_options=options,
        backend="dask",
        scheduler=cluster.scheduler_address,
        devices=["cpu"],
    )
    assert not report.failed
    assert report.n_done == 10
    expected = [line for line in repeatable_lines(uninterrupted_run()) if ",last," not in line]
    assert repeatable_lines(tmp_path) == expected
    store = Store(tmp_path)
    jobs = quick_plan(store, **options).jobs
    processes = {store.lock(job).owner()["pid"] for job in jobs}
    workers = {worker.process.pid for worker in cluster.workers.values()}
    assert len(workers) == 2
    assert processes <= workers, "some job was not done by the cluster"


def test_the_active_client_is_used_where_no_scheduler_is_named(cluster, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(uninterrupted_run(), copied)
    next((copied / "jobs").glob("*--retrain--best.json")).unlink()
    with distributed.Client(cluster):
        _, report = run_quickly(copied, backend="dask", devices=["cpu"])
    assert (report.n_done, report.n_found) == (1, 15)
    assert repeatable_lines(copied) == repeatable_lines(uninterrupted_run())


def test_without_a_scheduler_or_a_client_there_is_an_explanation(tmp_path):
    plan = quick_plan(Store(tmp_path))
    with pytest.raises(ValueError, match="no active Dask client"):
        run_plan(plan, Store(tmp_path), backend="dask", file=io.StringIO())


def test_threads_of_one_worker_take_turns(tmp_path, monkeypatch):
    """Two jobs in one process would disturb each other's seeds."""
    at_work, most = [], []

    def run(work):
        at_work.append(work)
        most.append(len(at_work))
        time.sleep(0.05)
        at_work.remove(work)
        return {}

    monkeypatch.setattr(worker._Work, "run", run)
    place = worker.Workplace(tmp_path, get_problem("digits", device="cpu"))
    jobs = quick_plan(Store(tmp_path)).jobs[:4]
    barrier = Barrier(len(jobs))

    def perform(job):
        barrier.wait()
        worker.perform(place, job)

    threads = [Thread(target=perform, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
