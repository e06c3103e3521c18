"""Run the jobs of a benchmark in parallel; finished jobs survive a kill.

A folder holds ``jobs/<name>.json``, one record for each finished job: what it was, its numbers,
where and how long it ran; ``models/<name>-<epoch>.safetensors``, the nets of its trainings; and
``results.csv``, the numbers of all jobs, built from the records. Every file is written beside its
place and moved there when it is complete and on disk. A job is done when its record is there.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from joblib import Parallel, delayed, parallel_config

from ..comparison import (
    ONE_JOB,
    Splits,
    ending_workers,
    evaluate,
    forget_rows,
    make_unlearner,
    warm_up,
)
from ..files import write_atomically
from ..fingerprints import versions
from ..metrics.evaluate import SPLITS_OF
from ..persistence import load, save
from ..results import MODEL, PRETRAIN
from ..validation import about
from .plan import SELECTIONS, Job, digest_of_rows, draw_forget_set
from .problems import Problem
from .recipes import BestEpoch

RESULT_COLUMNS = ["dataset", "forget", "ratio", "seed", "selection", *MODEL, "metric", "value"]
#: What every model is measured by, in percent.
MEASURED = list(SPLITS_OF)
DONE, FAILED = "done", "failed"
SECONDS_FOR_WORKERS = 60
SECONDS_BETWEEN_LOOKS = 0.5
# on a GPU small batches are slow to predict; on a CPU large ones are
EVALUATION_BATCH_ON_GPU = 256


class BenchmarkError(ValueError):
    """The steps of a benchmark do not belong together: nothing that follows could be trusted."""


@dataclass
class Report:
    """What a run did.

    Parameters
    ----------
    n_found : int
        Jobs that were done before.
    n_done : int
        Jobs done now.
    failed : dict of str to str
        Reasons, by the label of the job.
    """

    n_found: int = 0
    n_done: int = 0
    failed: dict[str, str] = field(default_factory=dict)


# the folder -------------------------------------------------------------------------------------


def read_record(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the record of a job, None if there is none."""
    path = folder / "jobs" / f"{name}.json"
    with about(str(path)):
        return json.loads(path.read_bytes()) if path.exists() else None


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return all records."""
    found = (read_record(folder, path.stem) for path in sorted((folder / "jobs").glob("*.json")))
    return [record for record in found if record is not None]


def model_path(folder: Path, training: str, selection: str) -> Path:
    """Return where a trained net is."""
    return folder / "models" / f"{training}-{selection}.safetensors"


def results_of(folder: Path) -> pd.DataFrame:
    """Return the numbers of all jobs in a folder.

    Parameters
    ----------
    folder : Path
        With the records.

    Returns
    -------
    DataFrame
        A tidy table; metrics in percent, and NaN where a job failed. ``cost`` is the time of a run
        in epochs of the same seed's pretraining.
    """
    records = read_records(folder)
    epochs = {
        (r["columns"]["dataset"], r["columns"]["seed"]): r["seconds"] / r["epochs"]
        for r in records
        if r["columns"]["method"] == PRETRAIN.method and "epochs" in r and r["status"] == DONE
    }
    lines = []
    for record in records:
        if record["kind"] == "training":
            continue
        columns = record["columns"]
        numbers = dict.fromkeys(MEASURED, float("nan"))
        if record["status"] == DONE:
            numbers = record["metrics"] | {"seconds": record["seconds"]}
            epoch = epochs.get((columns["dataset"], columns["seed"]))
            numbers |= {} if epoch is None else {"cost": record["seconds"] / epoch}
            numbers |= {"kept_epoch": record["kept_epoch"]} if "kept_epoch" in record else {}
        lines += [(*columns.values(), metric, value) for metric, value in numbers.items()]
    table = pd.DataFrame(lines, columns=RESULT_COLUMNS)
    return table.sort_values(RESULT_COLUMNS[:-2], kind="stable", ignore_index=True)


def write_results(folder: Path) -> None:
    """Build ``results.csv`` from the records."""
    text = results_of(folder).to_csv(index=False, lineterminator="\n")
    write_atomically(folder / "results.csv", text.encode())


def _refuse_other_settings(folder: Path, jobs: Sequence[Job]) -> None:
    """Refuse a folder with results of the same rows of the table that were made in another way."""
    there = {(r["kind"], *r["columns"].values()): r["settings"] for r in read_records(folder)}
    for job in jobs:
        own = json.loads(json.dumps(job.settings()))
        known = there.get((job.kind, *job.columns().values()), own)
        if known != own:
            both = pd.json_normalize([known, own]).astype(str)
            changed = both.loc[:, both.iloc[0] != both.iloc[1]].to_dict("list")
            raise BenchmarkError(
                f"{folder} holds a result of {job.label} that was made in another way; use another "
                f"folder, or the settings of before (before, now): {changed}."
            )


# a run ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Workplace:
    """What every job is given."""

    folder: Path
    devices: tuple[str, ...] = ("cpu",)
    threads: int = 1


def run_jobs(
    jobs: Sequence[Job],
    folder: Path,
    *,
    backend: str = "loky",
    n_jobs: int | None = None,
    scheduler: str | None = None,
    threads: int = 1,
    devices: Sequence[str] | None = None,
) -> Report:
    """Do the jobs that are not done yet, and those that failed.

    Whatever ends the run, finished jobs stay finished, and the same call goes on where it
    stopped. Progress is shown on standard error.

    Parameters
    ----------
    jobs : sequence of Job
        What to do, see :func:`~grmu_sk.benchmark.make_jobs`.
    folder : Path
        Where results go.
    backend : {"loky", "dask", "sequential"}, default="loky"
        Processes of this machine, the workers of a Dask cluster, or none but this process.
    n_jobs : int or None, default=None
        Jobs at the same time; None takes one for each place on a GPU, or for each core. A Dask
        cluster takes as many as it has threads.
    scheduler : str or None, default=None
        Address of the Dask scheduler, such as ``"tcp://host:8786"``; None starts a cluster on this
        machine.
    threads : int, default=1
        Of torch, for each job.
    devices : sequence of str or None, default=None
        torch's names of what may be used, once for each job that may use it at a time; None takes
        all GPUs, or the CPU if there is none.

    Returns
    -------
    Report
        What happened.

    Raises
    ------
    ValueError
        If there is no such backend.
    BenchmarkError
        If the folder holds results that were made in another way, another run is at work in it,
        or steps of the comparison speak of different rows.
    ImportError
        If Dask is asked for and not installed.
    """
    folder = Path(folder).absolute()
    for name in ("jobs", "models", "locks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    place = _Workplace(folder, tuple(devices or gpus or ["cpu"]), threads)
    places = (os.cpu_count() or 1) if "cpu" in place.devices else len(place.devices)
    with _held(folder / "locks" / "run.lock") as is_ours:
        if not is_ours:
            raise BenchmarkError(f"Another run is at work in {folder}: wait for it to end.")
        _refuse_other_settings(folder, jobs)
        try:
            with _parallel(backend, n_jobs or places, scheduler) as parallel:
                return _do(parallel, place, jobs)
        finally:
            write_results(folder)


def _do(parallel: Parallel, place: _Workplace, jobs: Sequence[Job]) -> Report:
    to_do = [job for job in jobs if not _is_done(place.folder, job)]
    report, n_shown = Report(n_found=len(jobs) - len(to_do)), 0
    for is_training in (True, False):  # which all others may wait for
        wave = [job for job in to_do if (job.kind == "training") == is_training]
        with ending_workers(parallel(delayed(perform)(place, job) for job in wave)) as records:
            for record in records:
                n_shown += 1
                label, status, reason = map(record.get, ("label", "status", "reason"))
                if status == FAILED:
                    report.failed[label] = reason
                else:
                    report.n_done += 1
                how = f"{status}: {reason}" if reason else status
                sys.stderr.write(f"{n_shown}/{len(to_do)} jobs, {label}: {how}\n")
    return report


def _is_done(folder: Path, job: Job) -> bool:
    """Tell whether a job is done, and a training's nets are still there."""
    record = read_record(folder, job.name)
    selections = SELECTIONS if job.kind == "training" else ()
    has_models = all(model_path(folder, job.name, name).is_file() for name in selections)
    return record is not None and record["status"] == DONE and has_models


@contextmanager
def _parallel(backend: str, n_jobs: int, scheduler: str | None) -> Iterator[Parallel]:
    """Yield joblib's Parallel: a job at a time, results as they come."""
    options: dict[str, Any] = {"batch_size": 1, "return_as": "generator_unordered"}
    options["pre_dispatch"] = "n_jobs"
    if backend != "dask":
        yield Parallel(n_jobs, backend=backend, **options)
        return
    with on_cluster(scheduler):
        yield Parallel(-1, **options)


@contextmanager
def on_cluster(scheduler: str | None) -> Iterator[None]:
    """Let joblib's jobs run on a Dask cluster; None starts one on this machine."""
    from distributed import Client

    timeout = {"wait_for_workers_timeout": SECONDS_FOR_WORKERS}
    with Client(scheduler), parallel_config("dask", **timeout):
        yield


# one job, in whatever process it landed -----------------------------------------------------------

_loaded: dict[tuple[Problem, int], Splits] = {}


def perform(place: _Workplace, job: Job) -> dict[str, Any]:
    """Do a job, and return its record."""
    with ONE_JOB:
        start = perf_counter()
        outcome = _attempt(place, job)
        record: dict[str, Any] = {"kind": job.kind, "label": job.label, "columns": job.columns()}
        record |= {"settings": job.settings(), **outcome, "wall_seconds": perf_counter() - start}
        text = json.dumps(record, indent=1) + "\n"
        write_atomically(place.folder / "jobs" / f"{job.name}.json", text.encode())
    return record


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Try to hold a lock, which the system releases when its owner dies, for a block."""
    try:
        lock = FileLock(path).acquire(blocking=False)
    except Timeout:
        yield False
        return
    with lock:
        yield True


@contextmanager
def _device(place: _Workplace) -> Iterator[str]:
    """Wait for a place on a GPU and hold it for a block, against all runs in this folder.

    The CPU is not counted.
    """
    if "cpu" in place.devices:
        yield "cpu"
        return
    while True:
        for number, device in enumerate(place.devices):
            with _held(place.folder / "locks" / f"device-{number}.lock") as is_ours:
                if is_ours:
                    yield device
                    return
        sleep(SECONDS_BETWEEN_LOOKS)


def _attempt(place: _Workplace, job: Job) -> dict[str, Any]:
    """Return the record of a job that was done, or that failed by itself."""
    torch.set_num_threads(place.threads)
    torch.backends.cudnn.benchmark = False  # would choose among algorithms by their speed today
    torch.backends.cudnn.deterministic = True
    training = read_record(place.folder, job.needs) if job.needs else None
    if job.needs and (training is None or training["status"] != DONE):
        reason = f"the training it needs failed: {training['label'] if training else job.needs}"
        return {"status": FAILED, "reason": reason}
    with _device(place) as device:
        about = {"status": FAILED, "environment": _environment(device)}
        try:
            outcome = _Work(place.folder, job, device, training).run()
        except BenchmarkError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return {**about, "reason": reason, "traceback": traceback.format_exc()}
        return {**about, **outcome, "status": DONE}


class _Work:
    """One job on one device."""

    def __init__(
        self, folder: Path, job: Job, device: str, training: dict[str, Any] | None
    ) -> None:
        self.folder, self.job, self.training = folder, job, training
        self.splits = splits = load_once(job.problem, job.seed)
        self.forget = np.empty(0, dtype=np.int64)
        if job.forget:
            self.forget = draw_forget_set(job.problem, splits, job.forget, job.ratio, job.seed)
        if digest_of_rows(splits, self.forget) != job.rows:
            raise BenchmarkError(
                f"{job.label} was planned with other rows than those read now ({len(self.forget)} "
                f"to forget of {len(splits.train.y)}). Were the files changed meanwhile?"
            )
        self.mask = np.isin(np.arange(len(splits.train.y)), self.forget)
        self.row = replace(job.row, parameters=job.setting.parameters)
        self.net = job.problem.net().set_params(**job.setting.net(), device=device)
        if device != "cpu":
            self.net.set_params(iterator_valid__batch_size=EVALUATION_BATCH_ON_GPU)
        is_augmented = job.setting.augment and splits.augmented is not None
        self.inputs = splits.augmented if is_augmented else splits.train.X

    def run(self) -> dict[str, Any]:
        """Return what the record says about the outcome."""
        if self.job.kind == "evaluation":
            return self._evaluate_training()
        warm_up(self.net, self.splits)
        return self._train() if self.job.kind == "training" else self._unlearn()

    def _train(self) -> dict[str, Any]:
        job, splits, net = self.job, self.splits, self.net
        best = BestEpoch(splits.validation.X, splits.validation.y, np.unique(splits.train.y))
        net.set_params(callbacks=[*(net.callbacks or []), ("best_epoch", best.callback)])
        last = make_unlearner(self.row, net, None, job.seed).set_params(store_data=False)
        mask = None if job.row == PRETRAIN else self.mask
        seconds = forget_rows(last, net, splits, self.inputs, mask)
        for selection, model in (("best", best.best_of(last)), ("last", last)):
            save(model, model_path(self.folder, job.name, selection))
        return {
            "kept_epochs": {"best": best.kept_epoch, "last": len(best.curve)},
            "validation_accuracy": best.curve,
            "epochs": len(best.curve),
            "seconds": seconds,
        }

    def _evaluate_training(self) -> dict[str, Any]:
        assert self.training is not None
        kept = self.training["kept_epochs"][self.job.selection]
        # what the model cost is what its training cost
        seconds = self.training["seconds"]
        return {"metrics": self._metrics(self._trained()), "seconds": seconds, "kept_epoch": kept}

    def _unlearn(self) -> dict[str, Any]:
        start = self._trained() if self.training else None
        unlearner = make_unlearner(self.row, self.net, start, self.job.seed)
        seconds = forget_rows(unlearner, self.net, self.splits, self.inputs, self.mask)
        return {"metrics": self._metrics(unlearner), "seconds": seconds}

    def _trained(self) -> Any:
        return load(model_path(self.folder, self.job.needs, self.job.selection), self.net)

    def _metrics(self, model: Any) -> dict[str, float]:
        job = self.job
        if job.row != PRETRAIN and not np.array_equal(model.forget_idx_, self.forget):
            raise BenchmarkError(
                f"The model of {job.label} forgot other rows than those of its forget set "
                f"({len(model.forget_idx_)} instead of {len(self.forget)}, or others)."
            )
        scores = evaluate(model, self.splits, self.mask, job.problem.pairs(job.forget)).scores
        return {name: 100 * float(value) for name, value in scores.items()}


def load_once(problem: Problem, seed: int) -> Splits:
    """Return the data of a seed; those used last are kept for the process's next job."""
    if (problem, seed) not in _loaded:
        _loaded.clear()  # before loading: two data sets may not fit into memory
        _loaded[problem, seed] = problem.load(seed)
    return _loaded[problem, seed]


def _environment(device: str) -> dict[str, Any]:
    name = device if device == "cpu" else torch.cuda.get_device_name(device)
    return {"device": name, "versions": versions()}
