"""Run the jobs of a benchmark, in parallel and so that a kill loses nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

from joblib import Parallel, delayed, parallel_config

from .devices import visible_devices
from .job import Job
from .plan import Plan
from .progress import Progress
from .schedule import Schedule
from .store import FAILED, Store
from .worker import BUSY, Outcome, Workplace, perform

__all__ = ["BACKENDS", "RunReport", "run_plan"]

BACKENDS = ("loky", "dask", "sequential")
SECONDS_BETWEEN_RESULTS = 15.0
SECONDS_FOR_WORKERS = 60


@dataclass
class RunReport:
    """What a run did.

    Attributes
    ----------
    n_found : int
        Jobs that were done before.
    n_done : int
        Jobs done now.
    failed : dict of str to str
        Reasons, by the label of the job; those of earlier runs included.
    results : Path or None
        The table.
    """

    n_found: int = 0
    n_done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    results: Path | None = None


def run_plan(
    plan: Plan,
    store: Store,
    *,
    backend: str = "loky",
    n_jobs: int | None = None,
    scheduler: str | None = None,
    threads: int = 1,
    devices: Sequence[str] | None = None,
    jobs_per_device: int = 1,
    retry_failed: bool = False,
    file: TextIO | None = None,
) -> RunReport:
    """Do the jobs of a plan that are not done yet.

    Whatever ends the run, finished jobs stay finished, and the same call goes on where it
    stopped. Two runs may work in one folder at the same time, and share the jobs.

    Parameters
    ----------
    plan : Plan
        What to do, see :func:`~grmu_sk.benchmark.plan.make_plan`.
    store : Store
        Where results go.
    backend : {"loky", "dask", "sequential"}, default="loky"
        Processes of this machine, the workers of a Dask cluster, or none but this process.
    n_jobs : int or None, default=None
        Jobs at the same time; None takes one for each place on a GPU, or for each core. A Dask
        cluster takes as many as it has threads.
    scheduler : str or None, default=None
        Address of the Dask scheduler, such as ``"tcp://host:8786"``; None takes the client that
        is active.
    threads : int, default=1
        Of torch, for each job.
    devices : sequence of str or None, default=None
        torch's names of what may be used; None takes all GPUs, or the CPU if there is none.
    jobs_per_device : int, default=1
        How many jobs may share a GPU.
    retry_failed : bool, default=False
        Whether jobs that failed in an earlier run are tried again.
    file : file or None, default=None
        Where progress is shown; None takes standard error.

    Returns
    -------
    RunReport
        What happened.

    Raises
    ------
    ValueError
        If the backend is unknown.
    StoreError
        If the folder holds results that were made in another way.
    ForgetSetMismatch
        If steps of the comparison speak of different rows.
    ImportError
        If Dask is asked for and not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, got {backend!r}.")
    if scheduler is not None and backend != "dask":
        raise ValueError("A scheduler is for the backend 'dask': add backend='dask'.")
    report = RunReport()
    to_do, outcomes = _sort_out(plan, store, report, retry_failed)
    chosen = tuple(devices) if devices is not None else tuple(visible_devices())
    place = Workplace(
        store.folder,
        plan.problem,
        chosen,
        jobs_per_device,
        threads,
        parent=os.getpid() if backend == "loky" else None,
    )
    store.remove_leftovers()
    n_parallel = n_jobs or _default_n_jobs(chosen, jobs_per_device)
    try:
        if to_do:
            with _backend(backend, n_parallel, scheduler) as parallel:
                n_parallel = parallel.n_jobs if parallel.n_jobs > 0 else n_parallel
                with Progress(to_do, n_parallel, file) as progress:
                    _run(parallel, Schedule(to_do, outcomes), place, store, report, progress)
    finally:
        report.results = store.write_results()
    return report


def _sort_out(
    plan: Plan, store: Store, report: RunReport, retry_failed: bool
) -> tuple[list[Job], dict[str, str]]:
    """Return the jobs to do, and what became of those that are done."""
    records = {job.name: store.read(job) for job in plan.jobs}
    for job in plan.jobs:
        record = records[job.name]
        if record is not None and record["status"] == FAILED and retry_failed:
            store.forget(job)
            records[job.name] = None
    wanted = {job.needs for job in plan.jobs if records[job.name] is None}
    to_do, outcomes = [], {}
    for job in plan.jobs:
        record = records[job.name]
        if record is None or _is_lost(job, record, wanted, store):
            to_do.append(job)
            continue
        outcomes[job.name] = record["status"]
        if record["status"] == FAILED:
            report.failed[job.label] = record["reason"]
        else:
            report.n_found += 1
    return to_do, outcomes


def _is_lost(job: Job, record: dict[str, Any], wanted: set[str], store: Store) -> bool:
    """Drop the record of a training whose models are needed and not there any more."""
    if job.name not in wanted or record["status"] == FAILED or store.has_models(job, record):
        return False
    store.forget(job)
    return True


def _run(
    parallel: Parallel,
    schedule: Schedule,
    place: Workplace,
    store: Store,
    report: RunReport,
    progress: Progress,
) -> None:
    written = monotonic()
    for outcome in parallel(delayed(perform)(place, job) for job in schedule):
        if outcome is not None:
            _note(outcome, schedule, report, progress)
        if monotonic() - written > SECONDS_BETWEEN_RESULTS:
            store.write_results()
            written = monotonic()
    for job in schedule.blocked:
        report.failed[job.label] = f"the training {job.needs} failed"
        progress.job_done(job, FAILED, 0.0)


def _note(outcome: Outcome, schedule: Schedule, report: RunReport, progress: Progress) -> None:
    job = schedule.finished(outcome)
    if outcome.status == BUSY:
        return
    status = outcome.status
    if status == FAILED:
        report.failed[job.label] = outcome.reason
        status = f"failed: {outcome.reason}"
    elif outcome.seconds:
        report.n_done += 1
    else:
        report.n_found += 1
    progress.job_done(job, status, outcome.seconds, schedule.running)


def _default_n_jobs(devices: Sequence[str], jobs_per_device: int) -> int:
    if "cpu" in devices:
        return os.cpu_count() or 1
    return len(devices) * jobs_per_device


@contextmanager
def _backend(backend: str, n_jobs: int, scheduler: str | None) -> Iterator[Parallel]:
    """Yield joblib's Parallel: a job at a time, results as they come."""
    one_by_one: dict[str, Any] = {"batch_size": 1, "return_as": "generator_unordered"}
    if backend != "dask":
        yield Parallel(n_jobs, backend=backend, pre_dispatch="n_jobs", **one_by_one)
        return
    with (
        _dask_client(scheduler),
        parallel_config(backend="dask", wait_for_workers_timeout=SECONDS_FOR_WORKERS),
    ):
        yield Parallel(n_jobs=-1, pre_dispatch="n_jobs", **one_by_one)


@contextmanager
def _dask_client(scheduler: str | None) -> Iterator[Any]:
    try:
        from distributed import Client, get_client
    except ImportError as error:
        raise ImportError(
            "The backend 'dask' needs the package distributed: pip install grmu_sk[dask]."
        ) from error
    if scheduler is None:
        try:
            yield get_client()
        except ValueError as error:
            raise ValueError(
                "There is no active Dask client: give the address of a scheduler, such as "
                "tcp://host:8786."
            ) from error
        return
    with Client(scheduler) as client:
        yield client
