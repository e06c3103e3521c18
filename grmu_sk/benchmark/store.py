"""The folder of a benchmark: what is done, on disk, in a way that survives a kill at any point."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

import pandas as pd

from ..base import BaseUnlearner
from ..persistence import load, save
from ..utils._files import write_atomically
from .candidates import method_order
from .file_lock import FileLock
from .forget_sets import ForgetSet, ForgetSetMismatch
from .job import FORMAT, Job, differences, forget_set_name, pretraining_name
from .schema import METRICS, RESULT_COLUMNS
from .splits import Splits

__all__ = ["Store", "StoreError", "StoreWarning"]

RESULTS_FILE = "results.csv"
FOLDERS = ("jobs", "models", "forget_sets", "locks")
SECONDS_TO_WRITE = 3600
DONE, FAILED = "done", "failed"
MEASURED = ("seconds", "kept_epoch", "peak_memory_mb")


class StoreError(ValueError):
    """A folder holds results that do not belong to this benchmark."""


class StoreWarning(UserWarning):
    """A file of a benchmark is damaged and is made again."""


class Store:
    """The results of a benchmark in a folder.

    ======================  ==================================================================
    ``jobs/*.json``         one record for each finished job: what it was, its numbers, where
                            and how long it ran
    ``models/*.safetensors``  trained nets, in the package's own format
    ``forget_sets/*.json``  row numbers of each forget set, with their fingerprint
    ``locks/``              who works on what
    ``results.csv``         the numbers of all jobs, built from the records
    ======================  ==================================================================

    Every file is written beside its place and moved there when it is complete and on disk. A job
    is done when its record is there, so that a kill loses what was under way and nothing else.

    Parameters
    ----------
    folder : str or Path
        Where; made if it is not there.

    Examples
    --------
    >>> import tempfile
    >>> from grmu_sk.benchmark.store import Store
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(Store(folder).table())
    0
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    # records -----------------------------------------------------------------------------------

    def write(self, job: Job, record: Mapping[str, Any]) -> None:
        """Keep the record of a finished job.

        Parameters
        ----------
        job : Job
            The job.
        record : dict
            ``status``, and what belongs to it, as plain values.
        """
        whole = {
            "format": FORMAT,
            "name": job.name,
            "kind": job.kind,
            "identity": job.identity,
            **record,
        }
        text = json.dumps(whole, indent=1)
        checksum = hashlib.sha256(text.encode()).hexdigest()
        write_atomically(self._record_path(job.name), f"{checksum}\n{text}\n".encode())

    def read(self, job: Job) -> dict[str, Any] | None:
        """Return the record of a job.

        Parameters
        ----------
        job : Job
            The job.

        Returns
        -------
        dict or None
            None if it is not done, or its record is damaged (with a warning).

        Raises
        ------
        StoreError
            If the record is of a job with this name that had other settings or data.
        """
        record = self._read(self._record_path(job.name))
        if record is not None and record["identity"] != job.identity:
            listed = "; ".join(differences(record["identity"], job.identity))
            raise StoreError(
                f"{self.folder} holds a result of {job.label} that was made in another way: "
                f"{listed}. Use another folder, or the same data, options and preset as before."
            )
        return record

    def read_by_name(self, name: str) -> dict[str, Any] | None:
        """Return the record of a job without asking how it was made.

        Parameters
        ----------
        name : str
            Of the job.

        Returns
        -------
        dict or None
            None if there is none, or it is damaged.
        """
        return self._read(self._record_path(name))

    def forget(self, job: Job) -> None:
        """Drop the record of a job, so that it is done again.

        Parameters
        ----------
        job : Job
            The job.
        """
        self._record_path(job.name).unlink(missing_ok=True)

    def _record_path(self, name: str) -> Path:
        return self.folder / "jobs" / f"{name}.json"

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        checksum, _, text = raw.partition(b"\n")
        if hashlib.sha256(text.removesuffix(b"\n")).hexdigest().encode() != checksum:
            warnings.warn(
                f"{path} is damaged or incomplete; its job is done again.",
                StoreWarning,
                stacklevel=3,
            )
            return None
        record: dict[str, Any] = json.loads(text)
        if record["format"] != FORMAT:
            raise StoreError(
                f"{path} is of format {record['format']}, and this version of grmu_sk writes "
                f"format {FORMAT}: their results cannot be mixed. Use another folder."
            )
        return record

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield all records that are whole, in the order of their names."""
        for path in sorted((self.folder / "jobs").glob("*.json")):
            record = self._read(path)
            if record is not None:
                yield record

    # models ------------------------------------------------------------------------------------

    def save_models(self, job: Job, models: Mapping[str, BaseUnlearner]) -> dict[str, str]:
        """Keep what a training made.

        Parameters
        ----------
        job : Job
            The training.
        models : dict of str to BaseUnlearner
            Trained nets, by selection.

        Returns
        -------
        dict of str to str
            SHA-256 of each file, for the record.
        """
        checksums = {}
        for selection, unlearner in models.items():
            path = self.model_path(job.name, selection)
            save(unlearner, path)
            checksums[selection] = _checksum(path)
        return checksums

    def load_model(self, training: str, selection: str, net: Any) -> BaseUnlearner:
        """Return what a training made.

        Parameters
        ----------
        training : str
            Name of the training.
        selection : str
            Which epoch.
        net : NeuralNet
            Unfitted; the weights of the file are filled in.

        Returns
        -------
        BaseUnlearner
            Fitted.
        """
        return load(self.model_path(training, selection), net)

    def model_path(self, training: str, selection: str) -> Path:
        """Return where a trained net is."""
        return self.folder / "models" / f"{training}--{selection}.safetensors"

    def has_models(self, job: Job, record: Mapping[str, Any]) -> bool:
        """Tell whether the files of a finished training are there and whole; warn if not.

        Parameters
        ----------
        job : Job
            The training.
        record : dict
            Its record.

        Returns
        -------
        bool
            False if it has to be done again.
        """
        for selection, checksum in record["models"].items():
            path = self.model_path(job.name, selection)
            if not path.is_file() or _checksum(path) != checksum:
                warnings.warn(
                    f"{path} is missing or damaged; it is trained again.",
                    StoreWarning,
                    stacklevel=2,
                )
                return False
        return True

    # forget sets -------------------------------------------------------------------------------

    def keep_forget_set(self, dataset: str, forget: str, forget_set: ForgetSet) -> None:
        """Write a forget set down, or make sure that it is the one written down before.

        Parameters
        ----------
        dataset : str
            Name of the problem.
        forget : str
            Name of the forget set.
        forget_set : ForgetSet
            The rows.

        Raises
        ------
        ForgetSetMismatch
            If the folder has other rows for it.
        """
        path = self._forget_set_path(dataset, forget, forget_set.ratio, forget_set.seed)
        known = _read_json(path)
        if known is None:
            write_atomically(path, json.dumps(forget_set.to_dict()).encode())
        else:
            forget_set.require(known["fingerprint"], f"What {self.folder} holds")

    def forget_set(self, job: Job, splits: Splits) -> ForgetSet:
        """Return the forget set of a job, after making sure that it belongs to the data.

        Parameters
        ----------
        job : Job
            The job.
        splits : Splits
            The data.

        Returns
        -------
        ForgetSet
            The rows.

        Raises
        ------
        ForgetSetMismatch
            If it was drawn from other data, or is not the one that the job was planned with.
        """
        path = self._forget_set_path(job.dataset, job.forget, job.ratio, job.seed)
        stored = _read_json(path)
        if stored is None:
            raise ForgetSetMismatch(f"{path} is missing or damaged: run the benchmark again.")
        forget_set = ForgetSet.from_dict(stored, splits)
        forget_set.require(job.identity["forget"], f"The job {job.label}")
        return forget_set

    def _forget_set_path(self, dataset: str, forget: str, ratio: float, seed: int) -> Path:
        name = f"{dataset}--{forget_set_name(forget, ratio)}--seed-{seed}.json"
        return self.folder / "forget_sets" / name

    def remove_leftovers(self) -> None:
        """Remove what killed processes were writing an hour ago or earlier."""
        for path in self.folder.glob("*/.*.tmp"):
            with suppress(FileNotFoundError):  # another runner removes them, too
                if time() - path.stat().st_mtime > SECONDS_TO_WRITE:
                    path.unlink()

    # locks -------------------------------------------------------------------------------------

    def lock(self, job: Job) -> FileLock:
        """Return the lock that whoever works on a job holds."""
        return FileLock(self.folder / "locks" / f"{job.name}.lock")

    # results -----------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """Return the numbers of all jobs in the folder.

        Returns
        -------
        DataFrame
            With the columns ``RESULT_COLUMNS``; metrics in percent, and NaN where a job failed.
            ``cost`` is the time of a run in epochs of the same seed's pretraining.
        """
        records = list(self.records())
        trainings = {entry["name"]: entry for entry in records if entry["kind"] == "training"}
        found = [entry for entry in records if entry["kind"] != "training"]
        found.sort(key=_order)
        rows = [row for record in found for row in _rows(record, trainings)]
        return pd.DataFrame(rows, columns=RESULT_COLUMNS)

    def write_results(self) -> Path:
        """Build ``results.csv`` from the records.

        Returns
        -------
        Path
            The file.
        """
        path = self.folder / RESULTS_FILE
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(RESULT_COLUMNS)
        writer.writerows(self.table().itertuples(index=False))
        write_atomically(path, text.getvalue().encode())
        return path


def _order(record: Mapping[str, Any]) -> tuple[Any, ...]:
    row = record["columns"]
    run = (row["dataset"], row["forget"], row["ratio"], row["seed"], row["selection"])
    return (*run, *method_order(row["method"]), row["reweight"], row["variant"])


def _rows(
    record: Mapping[str, Any], trainings: Mapping[str, Mapping[str, Any]]
) -> Iterable[tuple[Any, ...]]:
    columns = record["columns"]
    run = tuple(columns[name] for name in RESULT_COLUMNS[:-2])
    if record["status"] == FAILED:
        return [(*run, metric, float("nan")) for metric in METRICS]
    numbers = dict(record["metrics"])
    pretraining = trainings.get(pretraining_name(columns["dataset"], columns["seed"]))
    if pretraining is not None and pretraining["status"] == DONE:
        epoch = pretraining["seconds"] / pretraining["epochs"]
        numbers["cost"] = record["seconds"] / epoch
    numbers |= {name: record[name] for name in MEASURED if record.get(name) is not None}
    return [(*run, metric, value) for metric, value in numbers.items()]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        warnings.warn(f"{path} is damaged.", StoreWarning, stacklevel=3)
        return None


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
