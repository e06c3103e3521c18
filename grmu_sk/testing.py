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
from contextlib import contextmanager
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
from .net_copies import fresh_net
from .nets import MLP
from .persistence import save
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


def small_data(n_rows: int = 160) -> SimpleNamespace:
    """Return rows whose label ``y`` and attribute ``a`` are correlated and both visible in X."""
    rng = np.random.default_rng(SEED)
    y = rng.integers(2, size=n_rows)
    a = np.where(rng.random(n_rows) < 0.7, y, rng.integers(2, size=n_rows))
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


class DropoutNet(nn.Module):
    """A net with batch normalisation and dropout, whose last linear layer is not listed last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(X))


class PairsDataset(Dataset):
    """A Dataset of (input, label) pairs, as ``ImageFolder`` is one, that may note who reads it."""

    is_augmented = True

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
    weights, blob = weights_of(unlearner), pickle.dumps(unlearner)
    yield
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
    reads : list of (str, int)
        The name of the phase, ``"setup"`` outside of any, and the row number of ``fit``.
    stop_at : int or None
        The read, counted from 1, that raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.phase = "setup"
        self.reads: list[tuple[str, int]] = []
        self.stop_at: int | None = None

    def note(self, row: int) -> None:
        """Note one read."""
        self.reads.append((self.phase, row))
        if len(self.reads) == self.stop_at:
            raise KeyboardInterrupt

    def phases_that_read(self, rows: list[int]) -> set[str]:
        """Return the names of the phases in which one of these rows was read."""
        return {phase for phase, row in self.reads if row in rows}


#: What is the same each time may be read ahead and kept, other rows are read anew: methods differ.
AUGMENTED = (False, True)


@contextmanager
def watched(
    unlearner: BaseUnlearner, is_augmented: bool, net: Any = "small"
) -> Iterator[tuple[BaseUnlearner, ReadLog]]:
    """Yield a fitted copy and, while the block runs, the log of the rows that are read."""
    data, log = small_data(), ReadLog()
    run_phase = training._run_phase

    def noted_phase(net: Any, rows: Any, phase: training.Phase, *args: Any) -> bool:
        log.phase = phase.name
        try:
            return run_phase(net, rows, phase, *args)
        finally:
            log.phase = "setup"

    with (
        mock.patch.object(training, "_run_phase", noted_phase),
        # what is read to compare predictions before and after is not what a method reads
        mock.patch.object(BaseUnlearner, "_answers", lambda *_: None),
    ):
        X = PairsDataset(data.X, log)
        X.is_augmented = is_augmented
        made = prepared(unlearner, net).fit(X, data.y, data.a)
        assert log.phases_that_read(FIRST), "the log must be able to see a row"
        log.reads.clear()
        yield made, log


# what is still there -----------------------------------------------------------------------------


def holds(unlearner: BaseUnlearner, arrays: Iterable[NDArray[Any]]) -> list[str | None]:
    """Say of each array where its values are found: in the pickle, in the object, or None."""
    places = {"pickle": [pickle.dumps(unlearner)], "object": list(_held_bytes(unlearner))}

    def place(array: NDArray[Any]) -> str | None:
        needles = [array.astype(kind).tobytes() for kind in ("f4", "f8")]
        found = (
            name
            for name, parts in places.items()
            if any(needle in part for needle in needles for part in parts)
        )
        return next(found, None)

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
            yield found.tobytes()
            yield found.T.tobytes()
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
        return [found.__closure__, found.__defaults__, found.__kwdefaults__, vars(found)]
    return gc.get_referents(found)


# what an unlearner is ----------------------------------------------------------------------------


@_promise
def check_parameters(unlearner: BaseUnlearner) -> None:
    """The constructor takes what all unlearners take, and nothing but the caller sets it."""
    common = {"estimator", "random_state", "store_data", "keep_forgotten"}
    missing = sorted(common - set(unlearner.get_params(deep=False)))
    assert not missing, f"the constructor does not take {missing}."
    data, made = small_data(), prepared(unlearner)
    before = made.get_params(deep=False)
    for what, given in {"unlearn": [0], "predict": data.X, "predict_proba": data.X}.items():
        with raises(NotFittedError, f"{what} before fit"):
            getattr(made, what)(given)
    made.fit(data.X, data.y, data.a).unlearn(FIRST)
    after = made.get_params(deep=False)
    changed = [key for key, value in after.items() if value is not before[key]]
    assert not changed, (
        f"fit or unlearn replaced the parameter(s) {changed}. Keep what is learned in attributes "
        "whose names end with an underscore."
    )


@_promise
def check_unlearn(unlearner: BaseUnlearner) -> None:
    """``unlearn`` returns the object, which knows what was forgotten and what remains.

    Ordinary use warns of nothing, and predicts probabilities.
    """
    data = small_data()
    with warned() as said:
        made = fitted(unlearner, data)
        assert made.unlearn(FIRST) is made, "unlearn does not return the object itself."
        found, total = made.predict(data.X), made.predict_proba(data.X).sum(axis=1)
    assert not said, f"ordinary use warns: {said}."
    assert made.forget_idx_.tolist() == FIRST, "forget_idx_ is not what was asked for."
    rest = np.setdiff1d(np.arange(data.n), FIRST)
    assert np.array_equal(made.remaining_idx_, rest), "remaining_idx_ is not the rest."
    pairs = set(zip(data.y[FIRST].tolist(), data.a[FIRST].tolist(), strict=True))
    assert set(made.forget_groups_) == pairs, f"forget_groups_ is {made.forget_groups_}."
    assert found.shape == (data.n,), "predict returns another shape."
    assert np.allclose(total, 1, rtol=1e-5), "probabilities do not sum to 1."


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
def check_what_is_the_callers_is_not_modified(unlearner: BaseUnlearner) -> None:
    """Arrays, nets and random generators of the caller stay as they are."""
    data, net = small_data(), small_net()
    given = {"X": data.X, "y": data.y, "groups": data.a, "forget": mask_of(FIRST, data.n)}
    before, states = {key: value.copy() for key, value in given.items()}, _random_states()
    pickled = pickle.dumps(net)
    for seed in (0, None):
        made = prepared(unlearner, net, random_state=seed).fit(data.X, data.y, data.a)
        made.unlearn(given["forget"]).predict(data.X)
    for key, value in given.items():
        assert np.array_equal(value, before[key]), f"fit or unlearn changed {key}."
    for name, state in _random_states().items():
        assert state == states[name], f"{name}: the caller's random state is not left alone."
    assert pickle.dumps(net) == pickled, (
        "fit or unlearn changed the net that was passed as estimator. Change request.net."
    )


def _random_states() -> dict[str, bytes]:
    found = {"Python's random": random.getstate(), "NumPy": np.random.get_state()}  # noqa: NPY002
    pickled = {name: pickle.dumps(state) for name, state in found.items()}
    return {**pickled, "torch": torch.get_rng_state().numpy().tobytes()}


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
    assert not hasattr(clone(copied), "net_"), "clone returns a fitted unlearner."


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
def check_deterministic(unlearner: BaseUnlearner) -> None:
    """Equal seeds give equal bits, other seeds others; predictions are the same twice."""
    data = small_data()
    one, same, other = (
        fitted(unlearner, data, random_state=seed).unlearn(FIRST) for seed in (0, 0, 1)
    )
    assert same_weights(one, same), (
        "two runs with the same random_state differ. Draw with torch's, NumPy's or Python's "
        "global generator, which are seeded while _unlearn runs."
    )
    assert not same_weights(one, other), "random_state makes no difference."
    has_layer = "feature_layer" in unlearner.get_params(deep=False)
    layer = {"feature_layer": "body"} if has_layer else {}
    made = fitted(unlearner, data, small_net(DropoutNet), **layer).unlearn(FIRST)
    assert np.array_equal(made.predict_proba(data.X), made.predict_proba(data.X)), (
        "two predictions of the same rows differ; is the net in training mode?"
    )


# requests ----------------------------------------------------------------------------------------


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
def check_rows_are_read_where_declared(unlearner: BaseUnlearner) -> None:
    """Rows to forget are read in the phases that the class declares, and later in none."""
    declared = set(unlearner._phases_that_read_forgotten)
    for is_augmented in AUGMENTED:
        with watched(unlearner, is_augmented) as (made, log):
            gone: list[int] = []
            for request in (FIRST, SECOND, [70]):
                log.reads.clear()
                made.unlearn(request)
                read_in = sorted(log.phases_that_read(gone))
                assert not read_in, (
                    "a later request reads rows that were forgotten before, in the phase(s) "
                    f"{read_in}. Read request.data only."
                )
                undeclared = sorted(log.phases_that_read(request) - declared)
                assert not undeclared, (
                    f"rows to forget are read in the phase(s) {undeclared}. Train on "
                    "request.retain; a phase that has to read them is declared in "
                    "_phases_that_read_forgotten ('setup' stands for reads outside of any phase)."
                )
                gone = gone + request
                assert made.forget_idx_.tolist() == gone, (
                    "after a second request forget_idx_ lacks rows of one of them."
                )


@_promise
def check_requests_without_new_rows(unlearner: BaseUnlearner) -> None:
    """To ask again for what is forgotten, or for nothing, changes nothing; the latter warns."""
    data = small_data()
    made = fitted(unlearner, data).unlearn(FIRST)
    with unchanged(made, "asking again for rows that are forgotten"):
        made.unlearn(FIRST).unlearn(FIRST[:1])
    with unchanged(made, "an empty request"), warned() as said:
        made.unlearn(np.zeros(data.n, dtype=bool))
    assert any("forget is empty" in text for text in said), (
        "an empty request does not warn that forget is empty."
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


# what must not be remembered ---------------------------------------------------------------------


@_promise
def check_no_trace_of_forgotten_rows(unlearner: BaseUnlearner) -> None:
    """After ``unlearn`` no forgotten row is left in the object, its pickle or a saved file."""
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
    content = _saved(made)
    assert not any(row.tobytes() in content for row in data.X), "the file holds rows."


@_promise
def check_no_trace_of_original_weights(unlearner: BaseUnlearner) -> None:
    """After ``unlearn`` the weights as they were are nowhere, of whatever net they came from."""
    data = small_data()
    for origin in ("fit", "estimator", "FrozenEstimator"):
        net: Any = small_net(optimizer=torch.optim.Adam, lr=0.01)
        if origin != "fit":
            net.fit(data.X, data.y)
        if origin == "FrozenEstimator":
            if not unlearner._accepts_trained_net:
                continue
            net = FrozenEstimator(net)
        made = fitted(unlearner, data, net)
        original = [weight for weight in weights_of(made) if weight.size >= 16]
        assert all(holds(made, original)), "the search must be able to see weights"
        places = holds(made.unlearn(FIRST), original)
        _check_weights_left(unlearner, places)
        content = _saved(made)
        if content:
            assert weights_of(made)[0].tobytes() in content, "the search must see weights"
            in_file = ["file" if weight.tobytes() in content else None for weight in original]
            _check_weights_left(unlearner, in_file)
        if origin == "estimator":
            given = [part.detach().numpy() for part in net.module_.parameters() if part.ndim > 1]
            assert not any(holds(made, given)), "weights from before fit are still there."


def _saved(made: BaseUnlearner) -> bytes:
    """Return what a saved file holds; files are for registered methods."""
    if type(made) not in dict(all_unlearners()).values():
        return b""
    with tempfile.TemporaryDirectory() as folder:
        save(made, Path(folder) / "model.safetensors")
        return (Path(folder) / "model.safetensors").read_bytes()


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
def check_unstored_data(unlearner: BaseUnlearner) -> None:
    """With ``store_data=False`` no row is kept, and ``unlearn`` takes them as arguments."""
    data = small_data()
    given = {"X": data.X, "y": data.y, "groups": data.a}
    if has_fit_parameter(unlearner, "sample_weight"):
        given["sample_weight"] = np.linspace(0.5, 1, data.n)
    made, stored = (prepared(unlearner, store_data=store).fit(**given) for store in (False, True))
    given["X"] = data.X.copy()  # the other one keeps what it was given
    assert holds(made, data.X[:1]) == [None], "store_data=False stores rows."
    with raises(ValueError, "unlearn without data", "was not stored"):
        made.unlearn(FIRST)
    with raises(ValueError, "data without groups", "X was passed without groups"):
        made.unlearn(FIRST, **{**given, "groups": None})
    made.unlearn(FIRST, **given)
    given["X"][FIRST] = 1e30
    made.unlearn(SECOND, **given)
    assert same_weights(made, stored.unlearn(FIRST).unlearn(SECOND)), (
        "data passed to unlearn gives other weights than stored data, or forgotten rows are read "
        "again."
    )
    assert holds(made, data.X[:1]) == [None], "store_data=False stores rows in unlearn."


# errors ------------------------------------------------------------------------------------------


@_promise
def check_refusals(unlearner: BaseUnlearner) -> None:
    """What cannot be is refused, with the reason, and leaves a fitted object as it was."""
    data = small_data()
    made = fitted(unlearner, data).unlearn(FIRST)
    whole_class = np.flatnonzero(data.y == 1)
    bad: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"forget": [160]}, IndexError, r"row 160, but fit was given 160 rows \(0 to 159\)"),
        ({"forget": [-1]}, ValueError, "negative row number -1"),
        ({"forget": [5, 7, 5]}, ValueError, "row 5 more than once"),
        ({"forget": np.ones(12, dtype=bool)}, ValueError, "length 12, but fit was given 160"),
        ({"forget": whole_class}, ValueError, r"every row of the class\(es\) \[1\]"),
        ({"X": np.full((160, 4), np.nan)}, ValueError, "contains NaN"),
        ({"y": np.arange(160) % 3}, ValueError, "2 outputs but y has 3 classes"),
        ({"groups": np.zeros(5)}, ValueError, "groups has 5 rows but y has 160"),
    ]
    for change, error, match in bad:
        ((name, value),) = change.items()
        what = f"the request {value!r}" if name == "forget" else f"fit with a wrong {name}"
        with unchanged(made, what), raises(error, what, match):
            if name == "forget":
                made.unlearn(value)
            else:
                made.fit(**{"X": data.X, "y": data.y, "groups": data.a, **change})


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
    """Ctrl-C at any read leaves the last finished state, and the request can be made again.

    With a checkpoint it goes on, to the same result, and leaves no file.
    """
    net = small_net(DropoutNet)
    for is_augmented in AUGMENTED:
        with watched(unlearner, is_augmented, net) as (undisturbed, log):
            undisturbed.unlearn(FIRST)
            n_reads = len(log.reads)
        for stop_at in sorted({1, n_reads // 2, n_reads}) if n_reads else ():
            with (
                watched(unlearner, is_augmented, net) as (made, log),
                tempfile.TemporaryDirectory() as folder,
                warnings.catch_warnings(),
            ):
                # a method that hands over no progress starts again, which is told and allowed
                warnings.filterwarnings("ignore", "Nothing was stored", UserWarning)
                checkpoint = UnlearningCheckpoint(Path(folder) / "state", every_seconds=0)
                again: dict[str, Any] = (
                    {"checkpoint": checkpoint} if stop_at == n_reads // 2 else {}
                )
                what, log.stop_at = f"Ctrl-C at read {stop_at} of {n_reads}", stop_at
                swallowed = f"{what} (skorch's own fit swallows it, training.train does not)"
                with unchanged(made, what), raises(KeyboardInterrupt, swallowed):
                    made.unlearn(FIRST, **again)
                log.stop_at = None
                made.unlearn(FIRST, **again)
                left = [path.name for path in Path(folder).iterdir()]
            how = "resumed from its checkpoint" if again else "made again after Ctrl-C"
            assert same_weights(made, undisturbed), (
                f"a request {how} gives other weights. What a phase changes beside the net belongs "
                "into Phase(state=...); draw random numbers from torch, NumPy or Python."
            )
            assert not left, f"unlearn leaves {left} behind."


# what people have --------------------------------------------------------------------------------


@_promise
def check_labels_of_any_kind(unlearner: BaseUnlearner) -> None:
    """Labels may be text, and several attributes are one group."""
    data = small_data()
    y = np.array(["no", "yes"])[data.y]
    groups = pd.DataFrame({"sex": np.array(["f", "m"])[data.a], "old": np.arange(data.n) % 2})
    made = prepared(unlearner).fit(data.X, y, groups).unlearn(FIRST)
    assert set(made.predict(data.X)) <= {"no", "yes"}, "predict returns other labels."
    known = set(y[FIRST].tolist())
    in_words = all(label in known and isinstance(a, tuple) for label, a in made.forget_groups_)
    assert in_words, f"forget_groups_ is not in the user's terms: {made.forget_groups_}."


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
def check_batch_norm(unlearner: BaseUnlearner) -> None:
    """One row can be forgotten, and one row be left for the last batch, with batch norm."""
    fitted(unlearner, small_data(65), small_net(DropoutNet)).unlearn([40])


@_promise
def check_frozen_net_is_not_trained(unlearner: BaseUnlearner) -> None:
    """``fit`` takes a trained net as it is, or refuses it, and ``unlearn`` leaves it alone."""
    data = small_data()
    trained = small_net().fit(data.X, data.y)
    if not unlearner._accepts_trained_net:
        with raises(ValueError, "fit with a trained net", "cannot take over a trained net"):
            fitted(unlearner, data, FrozenEstimator(trained))
        return
    kept = [value.numpy().copy() for value in trained.module_.state_dict().values()]
    made = fitted(unlearner, data, FrozenEstimator(trained))
    assert same_arrays(weights_of(made), kept), "fit trains a net that was frozen."
    assert len(made.history_) == 0, "fit records training of a net that was frozen."
    made.unlearn(FIRST)
    now = [value.numpy() for value in trained.module_.state_dict().values()]
    assert same_arrays(now, kept) and trained.lr == LR, (
        "fit or unlearn changed the trained net inside FrozenEstimator."
    )


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
