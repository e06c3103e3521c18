"""The pieces of work that a benchmark consists of, and what makes each of them the same again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from skorch import NeuralNet
from torch.utils.data import Dataset

from ..base import BaseUnlearner
from ..unlearners import all_unlearners
from ..utils._description import describe as described
from ..utils._devices import is_gpu
from .candidates import RESEED, Candidate
from .forget_sets import data_fingerprint
from .problem import Problem
from .settings import Setting
from .splits import Splits

__all__ = ["Job", "candidate_of", "describe", "digest", "identity_of_data", "net_for"]

Kind = Literal["training", "evaluation", "unlearning"]

#: Number of the format of records; raise it when what a job computes changes.
FORMAT = 1

#: Names of results that are no method of the registry, and the method behind them.
ALIASES = {"pretrain": "retrain", "gold_reseeded": "retrain"}

# decide where and how quickly a net is trained, not what comes out
_NOT_IDENTITY = (
    "device",
    "verbose",
    "iterator_train__num_workers",
    "iterator_valid__num_workers",
    "iterator_valid__batch_size",
)
# on a GPU small batches are slow to predict; on a CPU large ones are
EVALUATION_BATCH_ON_GPU = 256


@dataclass(frozen=True)
class Job:
    """One piece of work: a training, the evaluation of one, or an unlearning run.

    A *training* makes nets from scratch and keeps them in files: those of its best validation
    epoch and of its last one. An *evaluation* measures one of these two against one forget set. An
    *unlearning* job takes a pretrained net, lets a method forget and measures the result.

    Parameters
    ----------
    kind : {"training", "evaluation", "unlearning"}
        Which of them.
    dataset : str
        Name of the problem.
    forget : str
        Name of the forget set; empty for pretraining, which knows of none.
    ratio : float
        Share of the forget set's groups; 0 for pretraining.
    seed : int
        Of data, forget set, weights and batches.
    method : str
        Name in the results.
    reweight : bool
        Whether REWEIGHT is on.
    variant : str, default=""
        What differs from the method as it is.
    selection : str, default=""
        ``"best"`` or ``"last"``; empty for a training, which yields both.
    setting : Setting
        How the net is trained, or the method run.
    needs : str, default=""
        Name of the training whose result it takes.
    identity : dict
        Everything that decides the outcome, as plain values.
    expected_cost : float, default=1
        How long it takes compared with other jobs.
    """

    kind: Kind
    dataset: str
    forget: str
    ratio: float
    seed: int
    method: str
    reweight: bool
    setting: Setting
    variant: str = ""
    selection: str = ""
    needs: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    expected_cost: float = 1.0

    @property
    def name(self) -> str:
        """Name of its files; two jobs of a benchmark never share it."""
        parts = [self.dataset, forget_set_name(self.forget, self.ratio) if self.forget else "all"]
        method = self.method + "+reweight" * self.reweight
        parts += [f"seed-{self.seed}", method, self.variant]
        parts.append("training" if self.kind == "training" else self.selection)
        return "--".join(part for part in parts if part)

    @property
    def label(self) -> str:
        """Name for people."""
        who = f"{self.method} + reweight" if self.reweight else self.method
        who = f"{who}, {self.variant}" if self.variant else who
        where = f"{self.forget} {self.ratio:g}, " if self.forget else ""
        return f"{who} ({where}seed {self.seed}, {self.selection or 'training'})"

    @property
    def digest(self) -> str:
        """Short fingerprint of everything that decides the outcome."""
        return digest(self.identity)

    @property
    def epochs(self) -> int:
        """Epochs of its training or unlearning."""
        own = self.setting.unlearner.get("max_epochs")
        return int(own or self.setting.net.get("max_epochs") or 10)


def forget_set_name(forget: str, ratio: float) -> str:
    """Return the name of a forget set and its share, for files."""
    return f"{forget}-{ratio:g}"


def pretraining_name(dataset: str, seed: int) -> str:
    """Return the name of the training that all unlearning of a seed starts from."""
    return f"{dataset}--all--seed-{seed}--pretrain--training"


def method_class(method: str) -> type[BaseUnlearner]:
    """Return the class behind a name of the results."""
    return dict(all_unlearners())[ALIASES.get(method, method)]


def candidate_of(job: Job) -> Candidate:
    """Return who does the work of a job.

    Parameters
    ----------
    job : Job
        A training or an unlearning job.

    Returns
    -------
    Candidate
        Method, parameters and seed.
    """
    return Candidate(
        job.method,
        job.reweight,
        method_class(job.method),
        dict(job.setting.unlearner),
        seed_shift=RESEED if job.method == "gold_reseeded" else 0,
    )


def net_for(problem: Problem, setting: Setting, device: str | None = None) -> NeuralNet:
    """Return the uninitialised net of a problem under a setting.

    Parameters
    ----------
    problem : Problem
        The problem.
    setting : Setting
        How it is trained.
    device : str or None, default=None
        Where; None leaves it as the problem says.

    Returns
    -------
    NeuralNet
        The net.
    """
    net = problem.net().set_params(**setting.net)
    if device is not None:
        net.set_params(device=device)
    if is_gpu(net.device):
        net.set_params(iterator_valid__batch_size=EVALUATION_BATCH_ON_GPU)
    return net


# identity ------------------------------------------------------------------------------------


def digest(identity: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values, in hexadecimal."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def identity_of_data(splits: Splits) -> dict[str, Any]:
    """Return what tells data apart: labels and attributes of every split, and the rows' shape.

    Parameters
    ----------
    splits : Splits
        The data.

    Returns
    -------
    dict
        Plain values.
    """
    return {
        "train": data_fingerprint(splits),
        "validation": data_fingerprint(replace(splits, train=splits.validation)),
        "test": data_fingerprint(replace(splits, train=splits.test)),
        "row": _shape_of_row(splits.train.X),
    }


def _shape_of_row(X: Any) -> Any:
    if not isinstance(X, Dataset):
        return list(X.shape[1:])
    row = X[0]
    row = row[0] if isinstance(row, tuple | list) else row
    if isinstance(row, Mapping):
        return {name: list(value.shape) for name, value in row.items()}
    return list(row.shape)


def identity_of_setting(problem: Problem, setting: Setting, splits: Splits) -> dict[str, Any]:
    """Return what tells ways of training apart.

    Parameters
    ----------
    problem : Problem
        Which net.
    setting : Setting
        How it is trained.
    splits : Splits
        The data, which may offer training transforms.

    Returns
    -------
    dict
        Plain values.
    """
    net = net_for(problem, setting)
    parameters = {
        name: _identity_of_weights(value) if name == "module__weights" else describe(value)
        for name, value in net.get_params(deep=False).items()
        if name not in _NOT_IDENTITY and not name.startswith("_")
    }
    is_augmented = setting.augment and splits.augmented is not None
    return {
        "net": {"class": describe(type(net)), **parameters},
        "unlearner": describe(setting.unlearner),
        "augmented": describe(getattr(splits.augmented, "transform", True))
        if is_augmented
        else False,
    }


def _identity_of_weights(weights: Any) -> Any:
    """Return a digest of a file, which may lie elsewhere next time."""
    path = Path(str(weights))
    if not path.is_file():
        return describe(weights)
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def describe(value: Any) -> Any:
    """Return plain values that are equal for equal parameters, in every process.

    Parameters
    ----------
    value : object
        A parameter: numbers, text, lists, dicts, classes, functions, arrays, or objects made of
        these.

    Returns
    -------
    object
        What JSON can hold.

    Raises
    ------
    TypeError
        If an object says nothing about itself.
    """
    return described(value, _fields)


def _fields(value: Any) -> dict[str, Any]:
    if is_dataclass(value):
        return {entry.name: getattr(value, entry.name) for entry in fields(value)}
    if hasattr(value, "__dict__"):
        return dict(sorted(vars(value).items()))
    raise TypeError(
        f"A setting holds {value!r} of type {type(value).__name__}, which cannot be compared with "
        "that of an earlier run. Use numbers, text, functions, or objects with get_params()."
    )


def differences(one: Mapping[str, Any], other: Mapping[str, Any], path: str = "") -> Iterable[str]:
    """Yield where two identities differ, for a message."""
    for name in sorted({*one, *other}):
        where = f"{path}.{name}" if path else name
        if name not in one or name not in other:
            yield f"{where} (only in one of them)"
        elif isinstance(one[name], Mapping) and isinstance(other[name], Mapping):
            yield from differences(one[name], other[name], where)
        elif one[name] != other[name]:
            yield f"{where} ({_short(one[name])}, now {_short(other[name])})"


def _short(value: Any, length: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def columns_of(job: Job) -> dict[str, Any]:
    """Return the columns of a job's rows in a table of results, without metric and value."""
    values = asdict(replace(job, setting=Setting({}), identity={}))
    names = ("dataset", "forget", "ratio", "seed", "selection", "method", "reweight", "variant")
    return {name: values[name] for name in names} | {"reweight": int(job.reweight)}
