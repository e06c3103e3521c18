import shutil

import pytest
from quick_benchmark import (
    job_of,
    quick_jobs,
    repeatable_lines,
    run_quickly,
    uninterrupted_run,
)

from grmu_sk.benchmark.jobs import read_records

distributed = pytest.importorskip("distributed")


def test_a_cluster_gives_what_one_process_gives(tmp_path):
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        address, options = cluster.scheduler_address, {"backend": "dask", "devices": ["cpu"]}
        report = run_quickly(
            tmp_path, quick_jobs(selections=["best"]), scheduler=address, **options
        )
        assert not report.failed and report.n_done == 10
        expected = [line for line in repeatable_lines(uninterrupted_run()) if ",last," not in line]
        assert repeatable_lines(tmp_path) == expected
        processes = {record["environment"]["process"] for record in read_records(tmp_path)}
        workers = {worker.process.pid for worker in cluster.workers.values()}
        assert processes <= workers, "some job was not done by the cluster"
        # the active client is used where no scheduler is named
        shutil.copytree(uninterrupted_run(), copied := tmp_path / "copy")
        job = job_of(quick_jobs(), "evaluation", "retrain", False, "best")
        (copied / "jobs" / f"{job.name}.json").unlink()
        with distributed.Client(cluster):
            report = run_quickly(copied, **options)
        assert (report.n_done, report.n_found) == (1, 15)
        assert repeatable_lines(copied) == repeatable_lines(uninterrupted_run())
