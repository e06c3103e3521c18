"""What the checks of unlearners work with: small data, small nets, and means to look inside."""

from __future__ import annotations

import gc
import pickle
import re
import types
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import Dataset

from .. import training
from ..base import BaseUnlearner
from ..nets import MLP
from ..rows import TrainingRows

# what two requests ask for; every group keeps rows
FIRST, SECOND = [40, 41, 50], [60, 61, 62, 63, 64]
SEED = 0
LR = 0.05


# data and nets -----------------------------------------------------------------------------------


def small_data(
    n_rows: int = 160, n_classes: int = 2, n_attributes: int = 2, *, images: bool = False
) -> SimpleNamespace:
    """Return rows whose label ``y`` and attribute ``a`` are correlated and both visible in X."""
    rng = np.random.default_rng(SEED)
    y = rng.integers(n_classes, size=n_rows)
    follows = rng.random(n_rows) < 0.7
    a = np.where(follows, y % n_attributes, rng.integers(n_attributes, size=n_rows))
    # every pair (y, a) occurs at least four times
    corners = np.indices((n_classes, n_attributes)).reshape(2, -1).repeat(4, axis=1)
    y[: corners.shape[1]], a[: corners.shape[1]] = corners
    if images:
        X = rng.normal(size=(n_rows, 3, 8, 8)) + (y - a)[:, None, None, None]
    else:
        X = rng.normal(size=(n_rows, 4)) + np.c_[y, a, y - a, y + a]
    return SimpleNamespace(X=X.astype(np.float32), y=y, a=a, n=n_rows)


def small_net(module: Any = MLP, **params: Any) -> NeuralNetClassifier:
    """Return an untrained net for this data that trains in a fraction of a second."""
    defaults: dict[str, Any] = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "lr": LR,
        "max_epochs": 3,
        "batch_size": 32,
        "train_split": None,
        "verbose": 0,
    }
    if module is MLP:
        defaults |= {"module__n_features": 4, "module__hidden": (16,)}
    if params.get("optimizer", torch.optim.SGD) is torch.optim.SGD:
        defaults["optimizer__momentum"] = 0.9
    return NeuralNetClassifier(module, **{**defaults, **params})


class NormalizedMLP(nn.Sequential):
    """A net for tables with batch normalisation."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


class DropoutNet(nn.Module):
    """A net with dropout, whose last linear layer is not listed last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(X))


class PairsDataset(Dataset):
    """A map-style Dataset of (input, label) pairs, as ``ImageFolder`` is one."""

    def __init__(self, X: NDArray[Any]) -> None:
        self.X = X

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.as_tensor(self.X[i]), -1


class SeveralInputs(PairsDataset):
    """A Dataset whose inputs have a mask and a number beside them, in a dict or a list."""

    def __init__(self, X: NDArray[Any], kind: str) -> None:
        super().__init__(X)
        self.kind = kind

    def __getitem__(self, i: int) -> Any:
        x, label = super().__getitem__(i)
        parts = {"X": x, "mask": x < np.inf, "number": 2**24 + 1}  # no float32 is this number
        return (parts, label) if self.kind == "dict" else (tuple(parts.values()), label)


class ReadsSeveral(MLP):
    """A net that is wrong unless all inputs arrive as they are."""

    def forward(self, X: Any, mask: Any = None, number: Any = None) -> torch.Tensor:
        if mask is None:
            X, mask, number = X
        is_exact = (number % 2 == 1)[:, None] & (mask.dtype is torch.bool)
        return super().forward(X * is_exact)


def prepared(unlearner: BaseUnlearner, net: Any = "small", **params: Any) -> BaseUnlearner:
    """Return an unfitted copy with a net and data handling that suit a check."""
    known = unlearner.get_params(deep=False)
    settings = {"random_state": SEED, "store_data": True, "keep_forgotten": False, **params}
    if "feature_layer" in known:
        settings.setdefault("feature_layer", None)
    settings["estimator"] = small_net() if isinstance(net, str) else net
    return clone(unlearner).set_params(**settings)


def fitted(
    unlearner: BaseUnlearner, data: SimpleNamespace, net: Any = "small", **params: Any
) -> BaseUnlearner:
    """Return a copy that was fitted to the data."""
    return prepared(unlearner, net, **params).fit(data.X, data.y, data.a)


def mask_of(rows: list[int], n_rows: int) -> NDArray[np.bool_]:
    """Return a boolean mask of some rows."""
    return np.isin(np.arange(n_rows), rows)


def weights_of(unlearner: BaseUnlearner) -> list[NDArray[Any]]:
    """Return copies of all weights and buffers of the net."""
    return [value.cpu().numpy().copy() for value in unlearner.net_.module_.state_dict().values()]


def same_weights(one: BaseUnlearner, other: BaseUnlearner) -> bool:
    """Tell whether two nets agree in every bit."""
    return same_arrays(weights_of(one), weights_of(other))


def same_arrays(one: list[NDArray[Any]], other: list[NDArray[Any]]) -> bool:
    """Tell whether two lists of arrays agree in every bit."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# expectations ------------------------------------------------------------------------------------


@contextmanager
def raises(error: type[BaseException], what: str, match: str = "") -> Iterator[None]:
    """Raise AssertionError unless the block raises this error.

    Parameters
    ----------
    error : type
        The class of the error.
    what : str
        What should have raised it; the beginning of the message.
    match : str, default=""
        A regular expression to be found in the error's own message.
    """
    try:
        yield
    except error as raised:
        if not re.search(match, str(raised)):
            raise AssertionError(
                f"{what}: the {error.__name__} should say {match!r}, but says {str(raised)!r}."
            ) from raised
    except Exception as raised:
        raise AssertionError(
            f"{what} should raise {error.__name__}, not {type(raised).__name__}: {raised}"
        ) from raised
    else:
        raise AssertionError(f"{what} should raise {error.__name__}, and raises nothing.")


class State:
    """What a fitted unlearner is, to tell later whether anything has changed."""

    def __init__(self, unlearner: BaseUnlearner) -> None:
        self.unlearner = unlearner
        self.names = set(vars(unlearner))
        self.weights = weights_of(unlearner)
        self.blob = pickle.dumps(unlearner)

    def check_unchanged(self, by: str) -> None:
        """Raise AssertionError if the unlearner is another now."""
        names = set(vars(self.unlearner))
        assert names == self.names, f"{by} changed the attributes {sorted(names ^ self.names)}."
        assert same_arrays(weights_of(self.unlearner), self.weights), (
            f"{by} changed the weights of net_. Change request.net, which is a copy, never net_."
        )
        assert pickle.dumps(self.unlearner) == self.blob, f"{by} changed the object."


@contextmanager
def unchanged(unlearner: BaseUnlearner, by: str) -> Iterator[None]:
    """Raise AssertionError if the block changes a fitted unlearner in any way."""
    state = State(unlearner)
    yield
    state.check_unchanged(by)


# who reads what ----------------------------------------------------------------------------------


class ReadLog:
    """Notes which rows are read, in which phase of training.

    Attributes
    ----------
    reads : list of (str, ndarray)
        The name of the phase, ``"setup"`` outside of any, and row numbers of ``fit``.
    stop_at : int or None
        The read, counted from 1, that raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.phase = "setup"
        self.reads: list[tuple[str, NDArray[np.int64]]] = []
        self.stop_at: int | None = None

    def note(self, rows: Any) -> None:
        """Note one read."""
        self.reads.append((self.phase, np.atleast_1d(rows)))
        if len(self.reads) == self.stop_at:
            raise KeyboardInterrupt

    def phases_that_read(self, rows: list[int]) -> set[str]:
        """Return the names of the phases in which one of these rows was read."""
        return {phase for phase, read in self.reads if np.isin(read, rows).any()}


class WatchedDataset(PairsDataset):
    """A Dataset that notes which of its items are read, whoever reads them."""

    def __init__(self, X: NDArray[Any], log: ReadLog) -> None:
        super().__init__(X)
        self.log = log

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        self.log.note(i)
        return super().__getitem__(i)


#: An array may be read ahead and kept, a Dataset is read anew each time: methods differ there.
WATCHED_KINDS = ("array", "Dataset")


@contextmanager
def watched(
    unlearner: BaseUnlearner, kind: str, net: Any = "small"
) -> Iterator[tuple[BaseUnlearner, ReadLog]]:
    """Yield a fitted copy and, while the block runs, the log of the rows that are read."""
    data, log = small_data(), ReadLog()
    fetch, run_phase = TrainingRows.__getitems__, training._run_phase

    def noted_fetch(rows: TrainingRows, positions: Any) -> Any:
        log.note(rows.rows[np.asarray(positions)])
        return fetch(rows, positions)

    def noted_phase(net: Any, rows: Any, phase: training.Phase, *args: Any) -> bool:
        log.phase = phase.name
        try:
            return run_phase(net, rows, phase, *args)
        finally:
            log.phase = "setup"

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(training, "_run_phase", noted_phase))
        # what is read to compare predictions before and after is not what a method reads
        patches.enter_context(mock.patch.object(BaseUnlearner, "_answers", lambda *_: None))
        X: Any = WatchedDataset(data.X, log)
        if kind == "array":
            X = data.X
            patches.enter_context(mock.patch.object(TrainingRows, "__getitems__", noted_fetch))
        made = prepared(unlearner, net).fit(X, data.y, data.a)
        assert log.phases_that_read(FIRST), "the log must be able to see a row"
        log.reads.clear()
        yield made, log


# what is still there -----------------------------------------------------------------------------


def holds(unlearner: BaseUnlearner, arrays: Iterable[NDArray[Any]]) -> list[str | None]:
    """Say of each array where its values are found: in the pickle, in the object, or None."""
    blob, held = pickle.dumps(unlearner), list(_held_bytes(unlearner))

    def place(array: NDArray[Any]) -> str | None:
        needles = {np.ascontiguousarray(array.astype(kind)).tobytes() for kind in ("f4", "f8")}
        if any(needle in blob for needle in needles):
            return "pickle"
        return "object" if any(needle in part for needle in needles for part in held) else None

    return [place(array) for array in arrays]


def _held_bytes(root: BaseUnlearner) -> Iterator[bytes]:
    """Yield the bytes of all arrays, tensors and buffers that an unlearner leads to.

    That is more than a pickle has: what ``__getstate__`` hides, what a function remembers, the
    whole array behind a view, and attributes of the class.
    """
    pending: list[Any] = [root, *_class_attributes(type(root))]
    seen: dict[int, Any] = {}  # keeps objects alive, so that no id is used twice
    while pending:
        found = pending.pop()
        if id(found) in seen or isinstance(found, type | types.ModuleType | str | int | float):
            continue
        seen[id(found)] = found
        if isinstance(found, np.ndarray):
            yield np.ascontiguousarray(found).tobytes()
            yield np.ascontiguousarray(found.T).tobytes()
        elif isinstance(found, torch.Tensor):
            memory = torch.empty(0, dtype=torch.uint8, device=found.device)
            yield memory.set_(found.untyped_storage()).cpu().numpy().tobytes()
        elif isinstance(found, bytes | bytearray):
            yield bytes(found)
        pending.extend(_led_to(found))


def _class_attributes(cls: type) -> list[Any]:
    own = cls.__mro__[: cls.__mro__.index(BaseUnlearner)]
    return [value for part in own for value in vars(part).values()]


def _led_to(found: Any) -> list[Any]:
    if isinstance(found, np.ndarray):  # not known to the garbage collector
        return [found.base, *(found.ravel().tolist() if found.dtype == object else ())]
    if isinstance(found, torch.Tensor):
        return [found.grad if found.is_leaf else None, vars(found)]
    if isinstance(found, types.FunctionType):  # all but the globals of its module
        cells = [cell.cell_contents for cell in found.__closure__ or () if _is_filled(cell)]
        return [*cells, found.__defaults__, found.__kwdefaults__, vars(found)]
    return gc.get_referents(found)


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
