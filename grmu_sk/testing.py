"""Checks that an unlearner keeps the promises of this package, for those who write their own.

Each promise is a function that takes an unlearner, of which it uses unfitted copies with nets and
data of its own, and raises AssertionError if the promise is broken.
"""

from __future__ import annotations

import functools
import gc
import pickle
import random
import re
import tempfile
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import Dataset

from . import training
from .base import BaseUnlearner
from .checkpoint import UnlearningCheckpoint
from .nets import MLP, SmallCNN
from .persistence import save
from .rows import TrainingRows
from .training import fresh_net
from .unlearners import all_unlearners

__all__ = ["check_unlearner", "parametrize_with_checks"]

Check = Callable[[BaseUnlearner], None]

# what two requests ask for; every group keeps rows
FIRST, SECOND = [40, 41, 50], [60, 61, 62, 63, 64]
SEED = 0
LR = 0.05
#: In the order in which they run: what other checks build upon comes first.
ALL_CHECKS: list[Check] = []


def _promise(check: Check) -> Check:
    """Make a function one of the checks, and let its errors begin with the name of the class."""

    @functools.wraps(check)
    def run(unlearner: BaseUnlearner) -> None:
        try:
            check(unlearner)
        except AssertionError as error:
            raise AssertionError(f"{type(unlearner).__name__}: {error}") from error

    ALL_CHECKS.append(run)
    return run


# data and nets -----------------------------------------------------------------------------------


def small_data(n_rows: int = 160, n_classes: int = 2, *, images: bool = False) -> SimpleNamespace:
    """Return rows whose label ``y`` and attribute ``a`` are correlated and both visible in X."""
    rng = np.random.default_rng(SEED)
    y = rng.integers(n_classes, size=n_rows)
    follows = rng.random(n_rows) < 0.7
    a = np.where(follows, y % 2, rng.integers(2, size=n_rows))
    # every pair (y, a) occurs at least four times
    corners = np.indices((n_classes, 2)).reshape(2, -1).repeat(4, axis=1)
    y[: corners.shape[1]], a[: corners.shape[1]] = corners
    if images:
        X = rng.normal(size=(n_rows, 3, 8, 8)) + (y - a)[:, None, None, None]
    else:
        X = rng.normal(size=(n_rows, 4)) + np.c_[y, a, y - a, y + a]
    return SimpleNamespace(X=X.astype(np.float32), y=y, a=a, n=n_rows)


def small_net(module: Any = MLP, **params: Any) -> NeuralNetClassifier:
    """Return an untrained net for this data that trains in a fraction of a second."""
    defaults = {"criterion": nn.CrossEntropyLoss, "optimizer": torch.optim.SGD, "lr": LR}
    defaults |= {"max_epochs": 3, "batch_size": 32, "train_split": None, "verbose": 0}
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
    """A Dataset of (input, label) pairs, as ``ImageFolder`` is one, that may note who reads it."""

    def __init__(self, X: NDArray[Any], log: ReadLog | None = None) -> None:
        self.X, self.log = X, log

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        if self.log is not None:
            self.log.note(i)
        return torch.as_tensor(self.X[i]), -1


class SeveralInputs(PairsDataset):
    """One whose inputs have a mask and a number beside them, in a dict or a list."""

    kind = "dict"

    def __getitem__(self, i: int) -> tuple[Any, int]:
        x, label = super().__getitem__(i)
        parts = {"X": x, "mask": x < np.inf, "number": 2**24 + 1}  # no float32 is this number
        return (parts if self.kind == "dict" else tuple(parts.values())), label


class ReadsSeveral(MLP):
    """A net that is wrong unless all inputs arrive as they are."""

    def forward(self, X: Any, mask: Any = None, number: Any = None) -> torch.Tensor:
        if mask is None:
            X, mask, number = X
        is_exact = (number % 2 == 1)[:, None] & (mask.dtype is torch.bool)
        return super().forward(X * is_exact)


def prepared(unlearner: BaseUnlearner, net: Any = "small", **params: Any) -> BaseUnlearner:
    """Return an unfitted copy with a net and data handling that suit a check."""
    settings = {"random_state": SEED, "store_data": True, "keep_forgotten": False, **params}
    if "feature_layer" in unlearner.get_params(deep=False):
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


def same_arrays(one: list[NDArray[Any]], other: list[NDArray[Any]]) -> bool:
    """Tell whether two lists of arrays agree in every bit."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def same_weights(one: BaseUnlearner, other: BaseUnlearner) -> bool:
    """Tell whether two nets agree in every bit."""
    return same_arrays(weights_of(one), weights_of(other))


# expectations ------------------------------------------------------------------------------------


@contextmanager
def raises(error: type[BaseException], what: str, match: str = "") -> Iterator[None]:
    """Raise AssertionError unless the block raises this error, with this in its message."""
    try:
        yield
    except error as raised:
        assert re.search(match, str(raised)), (
            f"{what}: the {error.__name__} should say {match!r}, but says {str(raised)!r}."
        )
    except Exception as raised:
        raise AssertionError(
            f"{what} should raise {error.__name__}, not {type(raised).__name__}: {raised}"
        ) from raised
    else:
        raise AssertionError(f"{what} should raise {error.__name__}, and raises nothing.")


@contextmanager
def unchanged(unlearner: BaseUnlearner, by: str) -> Iterator[None]:
    """Raise AssertionError if the block changes a fitted unlearner in any way."""
    names, weights, blob = set(vars(unlearner)), weights_of(unlearner), pickle.dumps(unlearner)
    yield
    others = set(vars(unlearner)) ^ names
    assert not others, f"{by} changed the attributes {sorted(others)}."
    assert same_arrays(weights_of(unlearner), weights), (
        f"{by} changed the weights of net_. Change request.net, which is a copy, never net_."
    )
    assert pickle.dumps(unlearner) == blob, f"{by} changed the object."


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect what the block warns of."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(warning.message) for warning in caught]


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
        X: Any = PairsDataset(data.X, log)
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
    own = type(root).__mro__[: type(root).__mro__.index(BaseUnlearner)]
    pending: list[Any] = [root, *(value for part in own for value in vars(part).values())]
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


# as an estimator ---------------------------------------------------------------------------------


@_promise
def check_common_parameters(unlearner: BaseUnlearner) -> None:
    """The constructor takes what all unlearners take."""
    common = {"estimator", "random_state", "store_data", "keep_forgotten"}
    missing = sorted(common - set(unlearner.get_params(deep=False)))
    assert not missing, f"the constructor does not take {missing}."


@_promise
def check_not_fitted(unlearner: BaseUnlearner) -> None:
    """Nothing can be unlearned or predicted before ``fit``."""
    for what in ("unlearn", "predict", "predict_proba"):
        with raises(NotFittedError, f"{what} before fit"):
            getattr(prepared(unlearner), what)([[0.0] * 4] if what != "unlearn" else [0])


@_promise
def check_unlearn_remembers_rows(unlearner: BaseUnlearner) -> None:
    """``unlearn`` returns the object, which knows what was forgotten and what remains."""
    data = small_data()
    made = fitted(unlearner, data)
    assert made.unlearn(FIRST) is made, "unlearn does not return the object itself."
    assert made.forget_idx_.tolist() == FIRST, "forget_idx_ is not what was asked for."
    rest = np.setdiff1d(np.arange(data.n), FIRST)
    assert np.array_equal(made.remaining_idx_, rest), "remaining_idx_ is not the rest."
    pairs = set(zip(data.y[FIRST].tolist(), data.a[FIRST].tolist(), strict=True))
    assert set(made.forget_groups_) == pairs, f"forget_groups_ is {made.forget_groups_}."
    assert made.predict(data.X).shape == (data.n,), "predict returns another shape."
    total = made.predict_proba(data.X).sum(axis=1)
    assert np.allclose(total, 1, rtol=1e-5), "probabilities do not sum to 1."


@_promise
def check_parameters_are_not_modified(unlearner: BaseUnlearner) -> None:
    """Neither ``fit`` nor ``unlearn`` sets a parameter of the constructor."""
    data, made = small_data(), prepared(unlearner)
    before = made.get_params(deep=False)
    made.fit(data.X, data.y, data.a).unlearn(FIRST)
    after = made.get_params(deep=False)
    changed = [key for key, value in after.items() if value is not before[key]]
    assert not changed, (
        f"fit or unlearn replaced the parameter(s) {changed}. Keep what is learned in attributes "
        "whose names end with an underscore."
    )


@_promise
def check_estimator_is_not_modified(unlearner: BaseUnlearner) -> None:
    """The net that is passed in stays as it was, trained or not."""
    data, net = small_data(), small_net()
    before = pickle.dumps(net)
    fitted(unlearner, data, net).unlearn(FIRST)
    assert pickle.dumps(net) == before, (
        "fit or unlearn changed the net that was passed as estimator. Change request.net."
    )
    if unlearner._accepts_trained_net:
        trained = small_net().fit(data.X, data.y)
        weights = [value.clone() for value in trained.module_.state_dict().values()]
        fitted(unlearner, data, FrozenEstimator(trained)).unlearn(FIRST)
        kept = all(map(torch.equal, weights, trained.module_.state_dict().values()))
        assert kept and trained.lr == LR, (
            "fit or unlearn changed the trained net inside FrozenEstimator."
        )


@_promise
def check_inputs_are_not_modified(unlearner: BaseUnlearner) -> None:
    """The arrays of the caller stay as they are, also those that could be written to."""
    data = small_data()
    given = {"X": data.X, "y": data.y, "groups": data.a, "forget": mask_of(FIRST, data.n)}
    before = {key: value.copy() for key, value in given.items()}
    prepared(unlearner).fit(data.X, data.y, data.a).unlearn(given["forget"])
    for key, value in given.items():
        assert np.array_equal(value, before[key]), f"fit or unlearn changed {key}."


@_promise
def check_clone_and_pickle(unlearner: BaseUnlearner) -> None:
    """Copies made by pickle before, between and after requests go on as the original would."""
    data = small_data()
    copied = clone(pickle.loads(pickle.dumps(prepared(unlearner))))
    copied = pickle.loads(pickle.dumps(copied.fit(data.X, data.y, data.a)))
    copied = pickle.loads(pickle.dumps(copied.unlearn(FIRST)))
    original = fitted(unlearner, data).unlearn(FIRST)
    assert same_weights(copied, original), "a pickled copy unlearns to other weights."
    assert same_weights(copied.unlearn(SECOND), original.unlearn(SECOND)), (
        "a copy pickled after a request unlearns the next one to other weights."
    )
    again = clone(copied)
    assert not hasattr(again, "net_"), "clone returns a fitted unlearner."
    assert again.get_params().keys() == copied.get_params().keys(), "clone changes the parameters."


@_promise
def check_metadata_routing(unlearner: BaseUnlearner) -> None:
    """``groups`` and ``forget`` are requested by default and reach ``fit`` in a pipeline."""
    data, made = small_data(), prepared(unlearner)
    with config_context(enable_metadata_routing=True):
        requests = made.get_metadata_routing().fit.requests
        for key in ("groups", "forget"):
            assert requests.get(key) is True, (
                f"fit does not request {key}. Leave __metadata_request__fit and the signature of "
                "fit as BaseUnlearner has them."
            )
        pipe = make_pipeline(StandardScaler(), made)
        pipe.fit(data.X, data.y, groups=data.a, forget=mask_of(FIRST, data.n))
    forgotten = pipe[-1].forget_idx_.tolist()
    assert forgotten == FIRST, "in a pipeline, rows marked in forget are not forgotten."


@_promise
def check_no_warning(unlearner: BaseUnlearner) -> None:
    """Ordinary use warns of nothing."""
    data = small_data()
    with warned() as said:
        fitted(unlearner, data).unlearn(FIRST).predict(data.X)
    assert not said, f"ordinary use warns: {said}."


# randomness --------------------------------------------------------------------------------------


@_promise
def check_deterministic(unlearner: BaseUnlearner) -> None:
    """Equal seeds give equal bits, other seeds others."""
    data = small_data()
    one, same, other = (
        fitted(unlearner, data, random_state=seed).unlearn(FIRST) for seed in (0, 0, 1)
    )
    assert same_weights(one, same), (
        "two runs with the same random_state differ. Draw with torch's, NumPy's or Python's "
        "global generator, which are seeded while _unlearn runs."
    )
    assert not same_weights(one, other), "random_state makes no difference."


@_promise
def check_caller_random_state(unlearner: BaseUnlearner) -> None:
    """The global generators, which are the caller's, are left alone."""
    data = small_data()

    def states() -> dict[str, bytes]:
        found = {"Python's random": random.getstate(), "NumPy": np.random.get_state()}  # noqa: NPY002
        pickled = {name: pickle.dumps(state) for name, state in found.items()}
        return {**pickled, "torch": torch.get_rng_state().numpy().tobytes()}

    before = states()
    for seed in (0, None):
        fitted(unlearner, data, random_state=seed).unlearn(FIRST).predict(data.X)
    for name, state in states().items():
        assert state == before[name], f"{name}: the caller's random state is not left alone."


@_promise
def check_predictions_are_deterministic(unlearner: BaseUnlearner) -> None:
    """A net with dropout predicts the same twice, and its features can be named."""
    data = small_data()
    has_layer = "feature_layer" in unlearner.get_params(deep=False)
    for params in ({}, {"feature_layer": "body"}) if has_layer else ({},):
        made = fitted(unlearner, data, small_net(DropoutNet), **params).unlearn(FIRST)
        assert np.array_equal(made.predict_proba(data.X), made.predict_proba(data.X)), (
            "two predictions of the same rows differ; is the net in training mode?"
        )


# requests ----------------------------------------------------------------------------------------


@_promise
def check_history(unlearner: BaseUnlearner) -> None:
    """``history_`` has one row for each epoch and phase of each run, with a finite loss."""
    made = fitted(unlearner, small_data())
    before = made.history_.to_list()
    rows = made.unlearn(FIRST).history_.to_list()
    assert rows[: len(before)] == before, "unlearn replaced the history of fit."
    for run in (before, rows[len(before) :]):
        keys = [(row.get("epoch"), row.get("phase")) for row in run]
        assert all(None not in key for key in keys), "history_ lacks epoch or phase."
        assert len(set(keys)) == len(keys), "history_ has an epoch and phase twice."
        epochs = [epoch for epoch, _ in keys]
        assert epochs == sorted(epochs), "the epochs of history_ are out of order."
    losses = [row.get("train_loss", np.nan) for row in rows]
    assert np.isfinite(losses).all(), "history_ lacks a finite train_loss."


@_promise
def check_mask_rows_and_fit_agree(unlearner: BaseUnlearner) -> None:
    """Row numbers in any order, a mask, and ``forget`` in ``fit`` ask for the same."""
    data = small_data()
    mask = mask_of(FIRST, data.n)
    by_rows = fitted(unlearner, data).unlearn(FIRST[::-1])
    by_mask = fitted(unlearner, data).unlearn(mask)
    in_fit = prepared(unlearner).fit(data.X, data.y, data.a, forget=mask)
    for made, how in ((by_mask, "a boolean mask"), (in_fit, "fit with forget")):
        assert made.forget_idx_.tolist() == FIRST, f"{how} forgets other rows."
        assert same_weights(by_rows, made), f"{how} and row numbers give other weights."


@_promise
def check_requests_are_cumulative(unlearner: BaseUnlearner) -> None:
    """Rows of earlier requests are never read again."""
    for kind in WATCHED_KINDS:
        with watched(unlearner, kind) as (made, log):
            gone: list[int] = []
            for request in (FIRST, SECOND, [70]):
                log.reads.clear()
                made.unlearn(request)
                read_in = log.phases_that_read(gone)
                assert not read_in, (
                    "a later request reads rows that were forgotten before, in the phase(s) "
                    f"{sorted(read_in)} (X: {kind}). Read request.data only."
                )
                gone = gone + request
                assert made.forget_idx_.tolist() == gone, (
                    "after a second request forget_idx_ lacks rows of one of them."
                )


@_promise
def check_requests_are_idempotent(unlearner: BaseUnlearner) -> None:
    """To ask again for what is forgotten changes nothing."""
    made = fitted(unlearner, small_data()).unlearn(FIRST)
    with unchanged(made, "asking again for rows that are forgotten"):
        made.unlearn(FIRST).unlearn(FIRST[:1])


@_promise
def check_empty_request(unlearner: BaseUnlearner) -> None:
    """An empty request warns and changes nothing."""
    data = small_data()
    made = fitted(unlearner, data)
    requests: tuple[Any, ...] = ([], np.zeros(data.n, dtype=bool), np.array([]))
    for empty in requests:
        with unchanged(made, "an empty request"), warned() as said:
            made.unlearn(empty)
        assert any("forget is empty" in text for text in said), (
            "an empty request does not warn that forget is empty."
        )


@_promise
def check_forgotten_rows_are_read_where_declared(unlearner: BaseUnlearner) -> None:
    """Rows to forget are read in the phases that the class declares, and in no other."""
    for kind in WATCHED_KINDS:
        with watched(unlearner, kind) as (made, log):
            made.unlearn(FIRST)
        undeclared = log.phases_that_read(FIRST) - set(unlearner._phases_that_read_forgotten)
        assert not undeclared, (
            f"rows to forget are read in the phase(s) {sorted(undeclared)} (X: {kind}). Train on "
            "request.retain; a phase that has to read them is declared in "
            "_phases_that_read_forgotten ('setup' stands for reads outside of any phase)."
        )


@_promise
def check_nothing_changed_is_said(unlearner: BaseUnlearner) -> None:
    """A method that is not exact, and leaves the net as it was, warns of that."""
    own = {"lr": None} if "lr" in unlearner.get_params(deep=False) else {}
    made = fitted(unlearner, small_data(), small_net(lr=0.0), **own)
    before = weights_of(made)
    with warned() as said:
        made.unlearn(FIRST)
    is_said = any("may have forgotten nothing" in text for text in said)
    changed = not same_arrays(before, weights_of(made))
    assert changed or is_said or not made._may_change_too_little, (
        "unlearn leaves all weights as they were, and says nothing."
    )


@_promise
def check_single_row_and_batch_norm(unlearner: BaseUnlearner) -> None:
    """One row can be forgotten, and one row be left for the last batch, with batch norm."""
    fitted(unlearner, small_data(65), small_net(NormalizedMLP)).unlearn([40])
    images = small_data(65, images=True)
    fitted(unlearner, images, small_net(SmallCNN, module__width=4)).unlearn([40])


# what must not be remembered ---------------------------------------------------------------------


@_promise
def check_no_trace_of_forgotten_rows(unlearner: BaseUnlearner) -> None:
    """After ``unlearn`` no forgotten row is left in the object or its pickle."""
    data = small_data()
    made = fitted(unlearner, data)
    for request in (FIRST, SECOND):
        # without this control the search could be blind
        assert all(holds(made, data.X[request])), "fit does not store the training rows."
        made.unlearn(request)
        for row, place in zip(request, holds(made, data.X[request]), strict=True):
            assert place is None, (
                f"the forgotten row {row} is still in the {place} after unlearn. Store nothing of "
                "request.data; BaseUnlearner keeps the rows that remain."
            )
    assert holds(made, data.X[70:71]) != [None], "rows that remain are lost."


@_promise
def check_no_trace_of_original_weights(unlearner: BaseUnlearner) -> None:
    """After ``unlearn`` the weights as they were are left neither in the object nor its pickle."""
    data = small_data()
    for is_frozen in (False, True) if unlearner._accepts_trained_net else (False,):
        net: Any = small_net(optimizer=torch.optim.Adam, lr=0.01)
        if is_frozen:
            net = FrozenEstimator(net.fit(data.X, data.y))
        made = fitted(unlearner, data, net)
        original = [weight for weight in weights_of(made) if weight.size >= 16]
        assert all(holds(made, original)), "the search must be able to see weights"
        _check_weights_left(unlearner, holds(made.unlearn(FIRST), original))


@_promise
def check_trained_estimator_leaves_no_trace(unlearner: BaseUnlearner) -> None:
    """Weights of a net that was trained before it was passed in do not outlive a request."""
    data = small_data()
    net = small_net().fit(data.X, data.y)
    trained = net.module_.head.weight.detach().numpy().copy()
    made = fitted(unlearner, data, net)
    assert holds(made, [trained]) != [None], "the search must be able to see weights"
    (place,) = holds(made.unlearn(FIRST), [trained])
    assert place is None, (
        f"weights that the net had before fit are still in the {place} after unlearn."
    )
    kept = np.array_equal(net.module_.head.weight.detach(), trained)
    assert kept, "the caller's own net was changed."


@_promise
def check_no_trace_in_saved_file(unlearner: BaseUnlearner) -> None:
    """A saved file holds no training row, forgotten or not, and no original weights.

    Files are for the methods of the package: ``load`` knows no others.
    """
    if type(unlearner) not in dict(all_unlearners()).values():
        return
    data = small_data()
    made = fitted(unlearner, data, keep_forgotten=True)
    original = [weight for weight in weights_of(made) if weight.size >= 16]
    made.unlearn(FIRST)
    with tempfile.TemporaryDirectory() as folder:
        save(made, Path(folder) / "model.safetensors")
        content = (Path(folder) / "model.safetensors").read_bytes()
    assert weights_of(made)[0].tobytes() in content, "the search must be able to see weights"
    assert not any(row.tobytes() in content for row in data.X), "the file holds rows."
    found = ["file" if weight.tobytes() in content else None for weight in original]
    _check_weights_left(unlearner, found)


def _check_weights_left(unlearner: BaseUnlearner, places: list[str | None]) -> None:
    """Compare which original weights are left with what the class says of itself."""
    left = {place for place in places if place is not None}
    if unlearner._keeps_unaffected_weights:
        assert None in places, "all original weights are still there after unlearn."
    elif unlearner._keeps_weights:
        assert left, "_keeps_weights is declared, and no weight is kept."
    else:
        assert not left, (
            f"original weights are still in the {' and the '.join(sorted(left))} after unlearn. "
            "Store no copy of them; a method that by definition leaves some as they are declares "
            "_keeps_weights."
        )


@_promise
def check_training_state_is_dropped(unlearner: BaseUnlearner) -> None:
    """No momentum, no setting of the run and no hook is left in the net."""
    net = fitted(unlearner, small_data()).unlearn(FIRST).net_
    assert not net.optimizer_.state, "the optimizer still has the state of training."
    assert net.lr == LR, "the net keeps the learning rate of unlearning."
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    hooked = [part for part in net.module_.modules() if any(getattr(part, one) for one in hooks)]
    assert not hooked, f"hooks are left on {hooked}."


@_promise
def check_keep_forgotten(unlearner: BaseUnlearner) -> None:
    """``keep_forgotten=True`` keeps the rows for an evaluation, and changes nothing else."""
    data = small_data()
    kept, dropped = (fitted(unlearner, data, keep_forgotten=keep) for keep in (True, False))
    for request, expected in ((FIRST, FIRST), (SECOND, FIRST + SECOND)):
        forgotten = kept.unlearn(request).training_rows("forgotten")
        assert np.array_equal(forgotten.X, data.X[expected]), (
            "with keep_forgotten=True the forgotten rows are not there."
        )
        same = same_weights(kept, dropped.unlearn(request))
        assert same, "keep_forgotten changes what is unlearned."


@_promise
def check_unstored_data(unlearner: BaseUnlearner) -> None:
    """With ``store_data=False`` no row is kept, and ``unlearn`` takes them as arguments."""
    data = small_data()
    made = fitted(unlearner, data, store_data=False)
    assert holds(made, data.X[:1]) == [None], "store_data=False stores rows."
    with raises(ValueError, "unlearn without data", "was not stored"):
        made.unlearn(FIRST)
    X = data.X.copy()
    made.unlearn(FIRST, X=X, y=data.y, groups=data.a)
    X[FIRST] = 1e30
    made.unlearn(SECOND, X=X, y=data.y, groups=data.a)
    stored = fitted(unlearner, data).unlearn(FIRST).unlearn(SECOND)
    assert same_weights(made, stored), (
        "data passed to unlearn gives other weights than stored data, or forgotten rows are read "
        "again."
    )
    assert holds(made, data.X[:1]) == [None], "store_data=False stores rows in unlearn."
    with raises(ValueError, "data of another length", "150 rows but fit was given 160"):
        made.unlearn([70], X=X[:150], y=data.y[:150], groups=data.a[:150])


# errors ------------------------------------------------------------------------------------------


@_promise
def check_bad_requests(unlearner: BaseUnlearner) -> None:
    """A request that cannot be is refused, with the reason, and changes nothing."""
    data = small_data()
    made = fitted(unlearner, data).unlearn(FIRST)
    whole_class = np.flatnonzero(data.y == 1)
    bad: list[tuple[Any, type[Exception], str]] = [
        ([160], IndexError, r"row 160, but fit was given 160 rows \(0 to 159\)"),
        ([-1], ValueError, "negative row number -1"),
        ([5, 7, 5], ValueError, "row 5 more than once"),
        ([1.0, 2.0], ValueError, "must be integers"),
        (["a"], ValueError, "must be integers"),
        ([[1, 2]], ValueError, "one-dimensional"),
        (np.ones(12, dtype=bool), ValueError, "length 12, but fit was given 160"),
        (np.ones(160, dtype=bool), ValueError, "forget all rows"),
        (whole_class, ValueError, r"every row of the class\(es\) \[1\]"),
    ]
    for forget, error, match in bad:
        what = f"the request {forget!r}"
        with unchanged(made, what), raises(error, what, match):
            made.unlearn(forget)


@_promise
def check_bad_fit(unlearner: BaseUnlearner) -> None:
    """Data that cannot be used is refused, with the reason, and a fitted object is unchanged."""
    data = small_data()
    made = fitted(unlearner, data)
    bad = [
        ({"groups": np.zeros(5)}, "groups has 5 rows but y has 160"),
        ({"groups": np.r_[np.nan, np.zeros(159)]}, "groups has a missing value"),
        ({"X": np.full((160, 4), np.nan)}, "contains NaN"),
        ({"y": np.zeros(160)}, "1 class"),
        ({"y": np.zeros(5)}, "inconsistent numbers of samples"),
        ({"forget": [1, 2]}, "must be a boolean mask of length 160"),
        ({"sample_weight": np.ones(3)}, "one weight for each of the 160 rows"),
    ]
    for change, match in bad:
        if "sample_weight" in change and not has_fit_parameter(made, "sample_weight"):
            continue
        what = f"fit with a wrong {next(iter(change))}"
        arguments = {"X": data.X, "y": data.y, "groups": data.a, **change}
        with unchanged(made, what), raises(ValueError, what, match):
            made.fit(**arguments)


@_promise
def check_wrong_number_of_outputs(unlearner: BaseUnlearner) -> None:
    """A net that does not fit the classes is refused before training."""
    net = small_net(module__n_classes=3)
    with raises(ValueError, "a net with 3 outputs", "3 outputs but y has 2 classes"):
        fitted(unlearner, small_data(), net)


@_promise
def check_groups_are_asked_for(unlearner: BaseUnlearner) -> None:
    """A method works without groups, or says that it needs them."""
    data = small_data()
    made = prepared(unlearner).fit(data.X, data.y)
    if not made._needs_groups:
        made.unlearn(FIRST)
        return
    match = r"fit was called without groups\. Call fit\(X, y, groups"
    with raises(ValueError, "unlearn without groups", match):
        made.unlearn(FIRST)


@_promise
def check_nan_loss(unlearner: BaseUnlearner) -> None:
    """A loss that is NaN is an error, and leaves the state before the request."""
    data = small_data()
    X = PairsDataset(data.X.copy())
    made = prepared(unlearner).fit(X, data.y, data.a)
    X.X[:] = np.nan
    before = pickle.dumps(made)
    try:
        made.unlearn(FIRST)
    except FloatingPointError:
        assert pickle.dumps(made) == before, "a request that failed changed the object."
        return
    assert not made._changes_net, "unlearn does not raise FloatingPointError for rows that are NaN."


@_promise
def check_interruption(unlearner: BaseUnlearner) -> None:
    """Ctrl-C at any read leaves the last finished state, and the request can be made again."""
    for kind in WATCHED_KINDS:
        with watched(unlearner, kind) as (undisturbed, log):
            undisturbed.unlearn(FIRST)
            n_reads = len(log.reads)
        with watched(unlearner, kind) as (made, log):
            for stop_at in sorted({1, n_reads // 2, n_reads} - {0}) if n_reads else ():
                log.reads.clear()
                log.stop_at = stop_at
                _check_interrupted(f"Ctrl-C at read {stop_at} of {n_reads}", made)
            log.stop_at = None
            made.unlearn(FIRST)
        assert same_weights(made, undisturbed), (
            "a request made again after Ctrl-C gives other weights."
        )


def _check_interrupted(what: str, made: BaseUnlearner) -> None:
    with unchanged(made, what):
        try:
            made.unlearn(FIRST)
        except KeyboardInterrupt:
            return
        raise AssertionError(
            f"{what} is swallowed, and the model looks finished. skorch's own fit and partial_fit "
            "do that; grmu_sk.training.train does not."
        )


@_promise
def check_resumption(unlearner: BaseUnlearner) -> None:
    """A request that is interrupted and made again with its checkpoint has the same result.

    The file is gone when it has succeeded.
    """
    with watched(unlearner, "Dataset", small_net(DropoutNet)) as (undisturbed, log):
        undisturbed.unlearn(FIRST)
        n_reads = len(log.reads)
    with (
        watched(unlearner, "Dataset", small_net(DropoutNet)) as (made, log),
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
    ):
        # a method that hands over no progress starts again, which is told and allowed
        warnings.filterwarnings("ignore", "Nothing was stored", UserWarning)
        checkpoint = UnlearningCheckpoint(Path(folder) / "state", every_seconds=0)
        log.stop_at = n_reads // 2
        with suppress(KeyboardInterrupt):
            made.unlearn(FIRST, checkpoint=checkpoint)
        log.stop_at = None
        made.unlearn(FIRST, checkpoint=checkpoint)
        left = [path.name for path in Path(folder).iterdir()]
    assert same_weights(made, undisturbed), (
        "a request resumed from its checkpoint gives other weights. What a phase changes beside "
        "the net belongs into Phase(state=...); draw random numbers from torch, NumPy or Python."
    )
    assert not left, f"unlearn leaves {left} behind."


# what people have --------------------------------------------------------------------------------


@_promise
def check_labels_of_any_kind(unlearner: BaseUnlearner) -> None:
    """Labels may be text, or numbers with gaps; several attributes are one group."""
    data = small_data()
    y = np.array(["no", "yes"])[data.y]
    groups = pd.DataFrame({"sex": np.array(["f", "m"])[data.a], "old": np.arange(data.n) % 2})
    made = prepared(unlearner).fit(data.X, y, groups).unlearn(FIRST)
    assert set(made.predict(data.X)) <= {"no", "yes"}, "predict returns other labels."
    known = set(y[FIRST].tolist())
    in_words = all(label in known and isinstance(a, tuple) for label, a in made.forget_groups_)
    assert in_words, f"forget_groups_ is not in the user's terms: {made.forget_groups_}."
    seven = small_data(300, n_classes=7)
    made = prepared(unlearner, small_net(module__n_classes=7))
    made.fit(seven.X, seven.y * 10 + 3, seven.a).unlearn([60, 61])
    known_numbers = set(range(3, 70, 10))
    assert set(made.predict(seven.X)) <= known_numbers, "predict returns other labels than fit has."


@_promise
def check_images(unlearner: BaseUnlearner) -> None:
    """Inputs may have any number of axes."""
    data = small_data(96, images=True)
    made = fitted(unlearner, data, small_net(SmallCNN, module__width=4)).unlearn([40, 41])
    assert made.predict_proba(data.X).shape == (data.n, 2), "predict_proba fails on images."


@_promise
def check_kinds_of_input(unlearner: BaseUnlearner) -> None:
    """Lists, float64, DataFrames, tensors, memory maps and Datasets give the same."""
    data = small_data()
    reference = fitted(unlearner, data).unlearn(FIRST)
    kinds: dict[str, Any] = {
        "list": data.X.tolist(),
        "float64 array": data.X.astype(np.float64),
        "DataFrame": pd.DataFrame(data.X, columns=list("abcd")),
        "tensor": torch.as_tensor(data.X),
        "memory map": _memory_map(data.X),
        "Dataset": PairsDataset(data.X),
    }
    for kind, X in kinds.items():
        made = prepared(unlearner).fit(X, data.y, data.a).unlearn(FIRST)
        near = all(
            np.allclose(one, other, rtol=1e-4, atol=1e-6)
            for one, other in zip(weights_of(made), weights_of(reference), strict=True)
        )
        assert near, f"a {kind} gives other weights than an array."
        same = np.array_equal(made.predict(X), reference.predict(data.X))
        assert same, f"a {kind} gives other predictions than an array."
        first, blob = data.X[FIRST[0]], pickle.dumps(made)
        found = first.tobytes() in blob or first.astype(np.float64).tobytes() in blob
        assert not found, f"given a {kind}, the pickle holds a forgotten row."


def _memory_map(X: NDArray[Any]) -> np.memmap[Any, Any]:
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    return mapped


@_promise
def check_extra_inputs(unlearner: BaseUnlearner) -> None:
    """Masks and whole numbers beside an input reach the module as the Dataset hands them out."""
    data = small_data()
    reference = fitted(unlearner, data).unlearn(FIRST).predict_proba(data.X)
    for kind in ("dict", "list"):
        X = SeveralInputs(data.X)
        X.kind = kind
        net = small_net(ReadsSeveral, module__n_features=4, module__hidden=(16,))
        made = prepared(unlearner, net)
        try:
            made.fit(X, data.y, data.a)
        except ValueError as error:
            assert "one array of real numbers" in str(error), f"fit fails: {error}"
            continue  # refused by name
        assert np.allclose(made.unlearn(FIRST).predict_proba(X), reference, rtol=1e-3, atol=1e-5), (
            f"inputs in a {kind} with a mask give other predictions than an array. Hand batch.X on "
            "to the net as it is."
        )


@_promise
def check_sample_weight(unlearner: BaseUnlearner) -> None:
    """Weights count after a request as well, and have to be passed with the data."""
    if not has_fit_parameter(unlearner, "sample_weight"):
        return
    data = small_data()
    weight = np.random.default_rng(SEED).random(data.n)
    stored, given = (
        prepared(unlearner, store_data=store).fit(data.X, data.y, data.a, sample_weight=weight)
        for store in (True, False)
    )
    arguments = {"X": data.X, "y": data.y, "groups": data.a}
    what = "data without the weights of fit"
    with raises(ValueError, what, "X was passed without sample_weight"):
        given.unlearn(FIRST, **arguments)
    given.unlearn(FIRST, **arguments, sample_weight=weight)
    same = same_weights(stored.unlearn(FIRST), given)
    assert same, "weights passed to unlearn count otherwise than stored ones."


@_promise
def check_frozen_net_is_not_trained(unlearner: BaseUnlearner) -> None:
    """``fit`` takes a trained net as it is, or refuses it."""
    data = small_data()
    trained = small_net().fit(data.X, data.y)
    if not unlearner._accepts_trained_net:
        with raises(ValueError, "fit with a trained net", "cannot take over a trained net"):
            fitted(unlearner, data, FrozenEstimator(trained))
        return
    made = fitted(unlearner, data, FrozenEstimator(trained))
    kept = [value.numpy() for value in trained.module_.state_dict().values()]
    assert same_arrays(weights_of(made), kept), "fit trains a net that was frozen."
    assert len(made.history_) == 0, "fit records training of a net that was frozen."


@_promise
def check_given_parts_are_copied(unlearner: BaseUnlearner) -> None:
    """A module passed as an object, or remembered by a function, is where a fresh net starts."""
    for way in ("an object", "a function"):
        module = DropoutNet()
        given = [weight.clone() for weight in module.parameters()]
        net = small_net(module if way == "an object" else lambda kept=module: kept)
        made = fitted(unlearner, small_data(), net).unlearn(FIRST)
        fresh = fresh_net(made.net_, weights_from=None).module_
        for found in (module, getattr(fresh, "members", [fresh])[0]):
            assert all(map(torch.equal, given, found.parameters())), (
                f"fit or unlearn trained {way} that was passed as module. Build nets with "
                "fresh_net, which copies it."
            )


@_promise
def check_frozen_layers_stay_frozen(unlearner: BaseUnlearner) -> None:
    """Weights that need no gradient are the same after ``fit`` and ``unlearn``."""
    module = DropoutNet()
    module.body.requires_grad_(False)
    given = next(module.body.parameters()).clone()
    made = fitted(unlearner, small_data(), small_net(module)).unlearn(FIRST)
    for where, weight in made.net_.module_.named_parameters():
        is_changed = weight.requires_grad or not torch.equal(weight, given)
        assert not (where.endswith("body.0.weight") and is_changed), (
            "a frozen layer was changed. Leave weights alone that need no gradient."
        )


@_promise
def check_default_net(unlearner: BaseUnlearner) -> None:
    """``estimator=None`` gives a net for tables and for images."""
    for images in (False, True):
        data = small_data(80, images=images)
        made = fitted(unlearner, data, None).unlearn([40])
        assert made.predict(data.X).shape == (data.n,), "the default net does not predict."


# how they are run --------------------------------------------------------------------------------


def check_unlearner(
    unlearner: BaseUnlearner, generate_only: bool = False
) -> Iterator[tuple[BaseUnlearner, Check]] | None:
    """Check that an unlearner does what every unlearner of this package does.

    Among the promises are: after ``unlearn`` no forgotten row and no original weight is left in
    the object, its pickle or a saved file; requests add up, and naming a row again changes
    nothing; a mask means the same as row numbers; a request that is refused, fails or is
    interrupted leaves the state before it; one that is resumed from a checkpoint comes to the same
    result; equal seeds give equal bits, and the caller's random
    state and net stay as they are; rows to forget are read in no phase but those declared.

    Parameters
    ----------
    unlearner : BaseUnlearner
        An instance. Its parameters are kept, so few epochs make the checks fast, except that the
        checks bring their own nets and data, and set ``estimator``, ``feature_layer``,
        ``random_state``, ``store_data`` and ``keep_forgotten``. The instance is not modified.
    generate_only : bool, default=False
        Whether to return the checks instead of running them.

    Returns
    -------
    iterator of (unlearner, callable) or None
        With ``generate_only=True``, pairs to be run as ``check(unlearner)``.

    Raises
    ------
    AssertionError
        If a promise is broken; the message says which, and how to keep it. Other errors are those
        that the unlearner itself raises where it should work.
    TypeError
        If ``unlearner`` is not an instance of an unlearner.

    See Also
    --------
    parametrize_with_checks : The same as one test for each check, for pytest.
    sklearn.utils.estimator_checks.check_estimator : What scikit-learn promises of estimators in
        general. It is not repeated here: run both.

    Notes
    -----
    What a method cannot promise it declares, by attributes of its class:
    ``_phases_that_read_forgotten``, ``_keeps_weights``, ``_keeps_unaffected_weights`` and
    ``_accepts_trained_net``. They are held against what the method does.

    The class must be importable (the top level of a module will do), since its objects are pickled.

    The checks find mistakes, not intentions: passing them is no proof that a method forgets.

    Examples
    --------
    >>> from grmu_sk import RetrainUnlearner
    >>> from grmu_sk.testing import check_unlearner
    >>> class PlainRetrainUnlearner(RetrainUnlearner):
    ...     def __init__(self, estimator=None, *, store_data=True, keep_forgotten=False):
    ...         super().__init__(estimator, store_data=store_data, keep_forgotten=keep_forgotten)
    >>> check_unlearner(PlainRetrainUnlearner())
    Traceback (most recent call last):
        ...
    AssertionError: PlainRetrainUnlearner: the constructor does not take ['random_state'].
    >>> check_unlearner(RetrainUnlearner())  # says nothing: all is well
    """
    checks = _checks_of(unlearner)
    if generate_only:
        return checks
    for one, check in checks:
        check(one)
    return None


def parametrize_with_checks(unlearners: Iterable[BaseUnlearner]) -> Any:
    """Return a pytest decorator that runs every check of every unlearner as a test of its own.

    Parameters
    ----------
    unlearners : iterable of BaseUnlearner
        Instances, as :func:`check_unlearner` takes them.

    Returns
    -------
    pytest.mark.parametrize
        For a test function with the arguments ``unlearner`` and ``check``.

    Raises
    ------
    TypeError
        If one is not an instance of an unlearner.

    See Also
    --------
    check_unlearner : Runs the checks without pytest, and says what they promise.

    Examples
    --------
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.testing import parametrize_with_checks
    >>> @parametrize_with_checks([FineTuneUnlearner(max_epochs=1)])
    ... def test_my_unlearner(unlearner, check):
    ...     check(unlearner)
    """
    import pytest

    pairs = [pair for unlearner in unlearners for pair in _checks_of(unlearner)]
    ids = [f"{type(unlearner).__name__}-{check.__name__}" for unlearner, check in pairs]
    return pytest.mark.parametrize(("unlearner", "check"), pairs, ids=ids)


def _checks_of(unlearner: BaseUnlearner) -> Iterator[tuple[BaseUnlearner, Check]]:
    if not isinstance(unlearner, BaseUnlearner):
        raise TypeError(
            "The checks take an instance of an unlearner (a subclass of "
            f"grmu_sk.base.BaseUnlearner); got {unlearner!r}."
        )
    return ((unlearner, check) for check in ALL_CHECKS)
