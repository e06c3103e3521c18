"""Doing one job of a benchmark, in whatever process it landed."""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
import torch

from ..base import BaseUnlearner
from .devices import DevicePool
from .environment import PeakMemory, environment
from .execution import evaluate, forget_rows, train_on_all, warm_up
from .forget_sets import ForgetSet, ForgetSetMismatch
from .job import Job, candidate_of, columns_of, digest, net_for
from .problem import Problem
from .recipes import BestEpoch
from .splits import Splits
from .store import DONE, FAILED, Store, StoreError

__all__ = ["Outcome", "Workplace", "perform"]

BUSY = "busy"
PAUSE_SECONDS = 0.2
SECONDS_BETWEEN_LOOKS = 0.5

# a process does one job at a time, even where a scheduler gives it several threads: the seeds,
# torch's number of threads and the peak of memory are the process's
_one_job = threading.Lock()
_loaded: dict[tuple[str, int], Splits] = {}
_is_warm = False
_is_watching = False


@dataclass(frozen=True)
class Workplace:
    """What every job of a benchmark is given.

    Parameters
    ----------
    folder : Path
        Of the :class:`~grmu_sk.benchmark.store.Store`; all workers must see it.
    problem : Problem
        Data and net.
    devices : tuple of str
        torch's names of what jobs may use.
    jobs_per_device : int, default=1
        How many jobs may share a GPU.
    threads : int, default=1
        Of torch, for each job.
    device_locks : Path or None, default=None
        Folder of the :class:`~grmu_sk.benchmark.devices.DevicePool`.
    parent : int or None, default=None
        The process without which its worker processes have no reason to go on.
    """

    folder: Path
    problem: Problem
    devices: tuple[str, ...] = ("cpu",)
    jobs_per_device: int = 1
    threads: int = 1
    device_locks: Path | None = None
    parent: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Parameters
    ----------
    name : str
        Of the job.
    status : {"done", "failed", "busy"}
        Busy: another runner works on it.
    reason : str, default=""
        Why it failed.
    seconds : float, default=0
        How long it took, by the clock on the wall; 0 if it was there already.
    """

    name: str
    status: str
    reason: str = ""
    seconds: float = 0.0


def perform(place: Workplace, job: Job | None) -> Outcome | None:
    """Do a job, unless it is done or somebody else does it.

    Parameters
    ----------
    place : Workplace
        Where and with what.
    job : Job or None
        What; None pauses for a moment.

    Returns
    -------
    Outcome or None
        None for a pause.

    Raises
    ------
    ForgetSetMismatch
        If steps of the comparison speak of different rows.
    StoreError
        If the folder holds results of another benchmark, or cannot be seen from here.
    """
    _end_with(place.parent)
    if job is None:
        sleep(PAUSE_SECONDS)
        return None
    if not place.folder.is_dir():
        raise StoreError(
            f"This worker does not see {place.folder}: all workers need the same file system."
        )
    store = Store(place.folder)
    with _one_job, store.lock(job).held() as is_ours:
        if not is_ours:
            return Outcome(job.name, BUSY)
        record = store.read(job)  # another runner may have been quicker
        if record is not None:
            return Outcome(job.name, record["status"], record.get("reason", ""))
        start = perf_counter()
        record = _attempt(place, store, job)
        seconds = perf_counter() - start
        store.write(job, record | {"wall_seconds": seconds})
    return Outcome(job.name, record["status"], record.get("reason", ""), seconds)


def _end_with(parent: int | None) -> None:
    """End this process soon after its parent was killed; it would wait for jobs for minutes."""
    global _is_watching
    if _is_watching or parent is None or os.getppid() != parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    _is_watching = True


def _attempt(place: Workplace, store: Store, job: Job) -> dict[str, Any]:
    """Return the record of a job that was done, or that failed by itself."""
    torch.set_num_threads(place.threads)
    torch.backends.cudnn.benchmark = False  # would choose among algorithms by their speed today
    torch.backends.cudnn.deterministic = True
    pool = DevicePool(place.devices, place.jobs_per_device, place.device_locks)
    about = {"columns": columns_of(job), "seed": job.seed}
    with pool.device() as device:
        about["environment"] = environment(device)
        try:
            with PeakMemory(device) as peak:
                outcome = _Work(place, store, job, device).run()
        except (ForgetSetMismatch, StoreError):
            raise  # nothing that follows could be trusted
        except FloatingPointError as error:
            return {**about, "status": FAILED, "reason": str(error)}
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            trace = traceback.format_exc()
            return {**about, "status": FAILED, "reason": reason, "traceback": trace}
    memory = {"peak_memory_mb": peak.megabytes, "peak_memory_scope": peak.scope}
    return {**about, **memory, **outcome, "status": DONE}


class _Work:
    """One job on one device."""

    def __init__(self, place: Workplace, store: Store, job: Job, device: str) -> None:
        self.problem, self.store, self.job, self.device = place.problem, store, job, device
        self.splits = load_once(place.problem, job.seed)
        self.net = net_for(place.problem, job.setting, device)

    def run(self) -> dict[str, Any]:
        """Return what the record says about the outcome."""
        if self.job.kind == "training":
            return self._train()
        if self.job.kind == "evaluation":
            return self._evaluate_training()
        return self._unlearn()

    @property
    def _inputs(self) -> Any:
        return self.splits.training_inputs(self.job.setting.augment)

    def _forget_set(self) -> ForgetSet:
        return self.store.forget_set(self.job, self.splits)

    # training ----------------------------------------------------------------------------------

    def _train(self) -> dict[str, Any]:
        job, splits = self.job, self.splits
        _warm_up_once(self.net, splits)
        validation = splits.validation
        best = BestEpoch(validation.X, validation.y, np.unique(splits.train.y))
        callbacks = [*(self.net.callbacks or []), ("best_epoch", best.callback)]
        self.net.set_params(callbacks=callbacks)
        if job.method == "pretrain":
            last, seconds = train_on_all(self.net, splits, self._inputs, job.seed)
        else:
            last = candidate_of(job).build(self.net, None, job.seed).set_params(store_data=False)
            mask = self._forget_set().mask(len(splits.train.y))
            seconds = forget_rows(last, self.net, splits, self._inputs, mask)
        models = {"best": best.best_of(last), "last": last}
        return {
            "models": self.store.save_models(job, models),
            "kept_epochs": {"best": best.kept_epoch, "last": best.n_epochs},
            "validation_accuracy": best.curve,
            "epochs": best.n_epochs,
            "seconds": seconds,
        }

    # evaluation --------------------------------------------------------------------------------

    def _evaluate_training(self) -> dict[str, Any]:
        job = self.job
        training = self._training_record()
        model = self.store.load_model(job.needs, job.selection, self.net)
        forget_set = self._forget_set()
        if job.method != "pretrain":
            forget_set.require(training["identity"]["forget"], f"The training {job.needs}")
            _require_forgotten(model, forget_set, job)
        return {
            "metrics": self._metrics(model, forget_set),
            # what the model cost is what its training cost
            "seconds": training["seconds"],
            "peak_memory_mb": training["peak_memory_mb"],
            "peak_memory_scope": training["peak_memory_scope"],
            "kept_epoch": training["kept_epochs"][job.selection],
            "split": self._split_digests(forget_set),
        }

    def _training_record(self) -> dict[str, Any]:
        record = self.store.read_by_name(self.job.needs)
        if record is None or record["status"] != DONE:
            raise RuntimeError(f"The training {self.job.needs} is not done.")
        if digest(record["identity"]) != self.job.identity["training"]:
            raise StoreError(
                f"The training {self.job.needs} in {self.store.folder} was made in another way "
                f"than {self.job.label} expects. Use another folder."
            )
        return record

    def _metrics(self, model: BaseUnlearner, forget_set: ForgetSet) -> dict[str, float]:
        mask = forget_set.mask(len(self.splits.train.y))
        scores = evaluate(model, self.splits, mask, self.problem.pairs(self.job.forget))
        return {name: 100 * float(value) for name, value in scores.items()}

    def _split_digests(self, forget_set: ForgetSet) -> dict[str, Any]:
        return {"forget": forget_set.fingerprint, "n_forget": len(forget_set)}

    # unlearning --------------------------------------------------------------------------------

    def _unlearn(self) -> dict[str, Any]:
        job = self.job
        candidate, start = candidate_of(job), None
        _warm_up_once(self.net, self.splits)
        if job.needs:
            self._training_record()
            start = self.store.load_model(job.needs, job.selection, self.net)
        forget_set = self._forget_set()
        unlearner = candidate.build(self.net, start and start.net_, job.seed)
        mask = forget_set.mask(len(self.splits.train.y))
        seconds = forget_rows(unlearner, self.net, self.splits, self._inputs, mask)
        _require_forgotten(unlearner, forget_set, job)
        return {
            "metrics": self._metrics(unlearner, forget_set),
            "seconds": seconds,
            "epochs": job.epochs,
            "split": self._split_digests(forget_set),
        }


def _require_forgotten(model: BaseUnlearner, forget_set: ForgetSet, job: Job) -> None:
    if not np.array_equal(model.forget_idx_, forget_set.rows):
        raise ForgetSetMismatch(
            f"The model of {job.label} forgot other rows than those of its forget set "
            f"({len(model.forget_idx_)} instead of {len(forget_set)}, or others)."
        )


def load_once(problem: Problem, seed: int) -> Splits:
    """Return the data of a seed; those used last are kept for the process's next job.

    Parameters
    ----------
    problem : Problem
        The problem.
    seed : int
        Of the data.

    Returns
    -------
    Splits
        The data.
    """
    key = (sha256(pickle.dumps(problem)).hexdigest(), seed)
    if key not in _loaded:
        _loaded.clear()  # before loading: two data sets may not fit into memory
        _loaded[key] = problem.load(seed)
    return _loaded[key]


def _warm_up_once(net: Any, splits: Splits) -> None:
    global _is_warm
    if not _is_warm:
        warm_up(net, splits)
        _is_warm = True
