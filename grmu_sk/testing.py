"""Checks that an unlearner keeps the promises of this package, for those who write their own.

Each promise is a function that takes an unlearner, of which it uses unfitted copies with nets and
data of its own, and raises AssertionError if the promise is broken.
"""

from __future__ import annotations

import functools
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import TestCase, mock

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn
from torch.utils.data import Dataset

from . import training
from .audit.residue_places import Places
from .base import BaseUnlearner
from .checkpoint import UnlearningCheckpoint
from .fingerprints import digest, weights
from .net_copies import fresh_net
from .nets import MLP, net_of_module
from .randomness import isolated_rng, random_states

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
    X = (rng.normal(size=(n_rows, 4)) + np.c_[y, a, y - a, y + a]).astype(np.float32)
    return SimpleNamespace(X=X, y=y, a=a, n=n_rows, given={"X": X, "y": y, "groups": a})


def small_net(module: Any = MLP, **params: Any) -> NeuralNetClassifier:
    """Return an untrained net for this data that trains in a fraction of a second."""
    if module is MLP:
        params = {"module__n_features": 4, "module__hidden": (16,), **params}
    return net_of_module(module, **{"lr": LR, "max_epochs": 3, "batch_size": 32, **params})


class DropoutNet(nn.Module):
    """A net with batch normalisation and dropout, whose last linear layer is not listed last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(X))


class WatchedRows(Dataset):
    """A Dataset of (input, label) pairs, as ``ImageFolder`` is one, that notes who reads it.

    Attributes
    ----------
    reads : list of (str, int)
        The phase of training, ``"setup"`` outside of any, and the row number of ``fit``.
    stop_at : int or None
        The read, counted from 1, that raises KeyboardInterrupt.
    """

    is_augmented = True

    def __init__(self, X: NDArray[Any]) -> None:
        self.X, self.phase = X, "setup"
        self.stop_at: int | None = None
        self.reads: list[tuple[str, int]] = []

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        self.reads.append((self.phase, int(i)))
        if len(self.reads) == self.stop_at:
            raise KeyboardInterrupt
        return torch.as_tensor(self.X[i]), -1

    def phases_that_read(self, rows: list[int]) -> set[str]:
        """Return the names of the phases in which one of these rows was read."""
        return {phase for phase, row in self.reads if row in rows}


class SeveralInputs(WatchedRows):
    """One whose inputs have a mask and a number beside them."""

    def __getitem__(self, i: int) -> tuple[Any, int]:
        x, label = super().__getitem__(i)
        return {"X": x, "mask": x < np.inf, "number": 2**24 + 1}, label  # no float32 is this number


class ReadsSeveral(MLP):
    """A net that is wrong unless all inputs arrive as they are."""

    def forward(self, X: Any, mask: Any = None, number: Any = None) -> torch.Tensor:
        return super().forward(X * ((number % 2 == 1)[:, None] & (mask.dtype is torch.bool)))


def prepared(unlearner: BaseUnlearner, net: Any = None, **params: Any) -> BaseUnlearner:
    """Return an unfitted copy with a net and data handling that suit a check."""
    settings = {"random_state": SEED, "store_data": True, "keep_forgotten": False, **params}
    if "feature_layer" in unlearner.get_params(deep=False):
        settings.setdefault("feature_layer", None)
    settings["estimator"] = small_net() if net is None else net
    return clone(unlearner).set_params(**settings)


def fitted(unlearner: BaseUnlearner, net: Any = None, **params: Any) -> BaseUnlearner:
    """Return a copy that was fitted to the small data."""
    return prepared(unlearner, net, **params).fit(**small_data().given)


def mask_of(rows: list[int]) -> NDArray[np.bool_]:
    """Return a boolean mask of some rows of the small data."""
    return np.isin(np.arange(small_data().n), rows)


def state_of(net: NeuralNet) -> str:
    """Return a digest of all weights and buffers."""
    return digest(weights(net))


def same_weights(one: BaseUnlearner, other: BaseUnlearner) -> bool:
    """Tell whether two nets agree in every bit."""
    return state_of(one.net_) == state_of(other.net_)


# expectations ------------------------------------------------------------------------------------


def raises(error: type[BaseException], what: str, match: str = "") -> Any:
    """Raise AssertionError unless the block raises this error, with this in its message."""
    return TestCase().assertRaisesRegex(error, match, msg=what)


@contextmanager
def unchanged(unlearner: BaseUnlearner, by: str) -> Iterator[None]:
    """Raise AssertionError if the block changes a fitted unlearner in any way."""

    def state() -> bytes:  # rows that are watched know how often they were read
        return pickle.dumps({k: v for k, v in vars(unlearner).items() if k != "_data"})

    before = state()
    yield
    assert state() == before, f"{by} changed the object or its net."


@contextmanager
def watched(
    unlearner: BaseUnlearner, is_augmented: bool, net: Any = None
) -> Iterator[tuple[BaseUnlearner, WatchedRows]]:
    """Yield a fitted copy and its rows, which know the phase while the block runs."""
    data = small_data()
    X = WatchedRows(data.X)
    X.is_augmented = is_augmented
    run_phase = training._run_phase

    def noted_phase(net: Any, rows: Any, phase: training.Phase, *args: Any) -> bool:
        X.phase = phase.name
        try:
            return run_phase(net, rows, phase, *args)
        finally:
            X.phase = "setup"

    with (
        mock.patch.object(training, "_run_phase", noted_phase),
        # what is read to compare predictions before and after is not what a method reads
        mock.patch.object(BaseUnlearner, "_answers", lambda *_: None),
    ):
        made = prepared(unlearner, net).fit(X, data.y, data.a)
        X.reads.clear()
        yield made, X


def holds(unlearner: BaseUnlearner, arrays: Iterable[NDArray[Any]]) -> list[str | None]:
    """Say of each array where its values are found: in the pickle, in the object, or None.

    The object leads to more than is in the pickle: what ``__getstate__`` hides, what a function
    remembers, the whole array behind a view, and attributes of the class.
    """
    own = type(unlearner).__mro__[: type(unlearner).__mro__.index(BaseUnlearner)]
    pieces = Places(1 << 26, 0, 1).of_object([unlearner, *map(vars, own)], "")
    memory = [piece.raw.tobytes() for piece in pieces]
    held = {"pickle": [pickle.dumps(unlearner)], "object": memory}

    def is_in(parts: list[bytes], array: NDArray[Any]) -> bool:
        needles = [array.astype(kind).tobytes() for kind in ("f4", "f8")]
        return any(needle in part for needle in needles for part in parts)

    return [next((n for n, p in held.items() if is_in(p, array)), None) for array in arrays]


# what an unlearner is ----------------------------------------------------------------------------


@_promise
def check_unlearn(unlearner: BaseUnlearner) -> None:
    """``unlearn`` returns the object, which knows what was forgotten, what remains, and the losses.

    Labels may be text, and several attributes are one group. Ordinary use warns of nothing,
    predicts probabilities, and sets no parameter; the constructor takes what all unlearners take.
    """
    common = {"estimator", "random_state", "store_data", "keep_forgotten"}
    missing = sorted(common - set(unlearner.get_params(deep=False)))
    assert not missing, f"the constructor does not take {missing}."
    data, params = small_data(), prepared(unlearner).get_params(deep=False)
    y = np.array(["no", "yes"])[data.y]
    groups = pd.DataFrame({"sex": np.array(["f", "m"])[data.a], "old": np.arange(data.n) % 2})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        made = prepared(unlearner).set_params(**params).fit(data.X, y, groups)
        before = made.history_.to_list()
        assert made.unlearn(FIRST) is made, "unlearn does not return the object itself."
        found, total = made.predict(data.X), made.predict_proba(data.X).sum(axis=1)
    set_by = [key for key, value in made.get_params(False).items() if value is not params[key]]
    assert not set_by, f"fit or unlearn replaced the parameter(s) {set_by}."
    assert not said, f"ordinary use warns: {[str(one.message) for one in said]}."
    assert made.forget_idx_.tolist() == FIRST, "forget_idx_ is not what was asked for."
    rest = np.setdiff1d(np.arange(data.n), FIRST)
    assert np.array_equal(made.remaining_idx_, rest), "remaining_idx_ is not the rest."
    pairs = {(y[row], tuple(groups.iloc[row])) for row in FIRST}
    assert set(made.forget_groups_) == pairs, f"forget_groups_ is {made.forget_groups_}."
    assert found.shape == (data.n,) and set(found) <= {"no", "yes"}, "predict returns no labels."
    assert np.allclose(total, 1, rtol=1e-5), "probabilities do not sum to 1."

    rows = made.history_.to_list()
    assert rows[: len(before)] == before, "unlearn replaced the history of fit."
    for run in (before, rows[len(before) :]):
        keys = [(row.get("epoch"), row.get("phase")) for row in run]
        assert all(None not in key for key in keys), "history_ lacks epoch or phase."
        assert len(set(keys)) == len(keys), "history_ has an epoch and phase twice."
    losses = [row.get("train_loss", np.nan) for row in rows]
    assert np.isfinite(losses).all(), "history_ lacks a finite train_loss."


@_promise
def check_what_is_the_callers_is_not_modified(unlearner: BaseUnlearner) -> None:
    """Arrays, nets, trained ones too, and random generators of the caller stay as they are."""
    data, mask = small_data(), mask_of(FIRST)
    arrays = {**data.given, "forget": mask}
    copies = {key: value.copy() for key, value in arrays.items()}
    trained = FrozenEstimator(small_net().fit(data.X, data.y))
    if not unlearner._accepts_trained_net:
        with raises(ValueError, "fit with a trained net", "cannot take over a trained net"):
            fitted(unlearner, trained)
    states = digest(random_states().items())
    for net in [small_net(), trained][: 1 + unlearner._accepts_trained_net]:
        before = pickle.dumps(net)
        made = prepared(unlearner, net, random_state=None).fit(**data.given)
        if net is trained:
            is_kept = state_of(made.net_) == state_of(net.estimator) and not made.history_
            assert is_kept, "fit trains a net that was frozen."
        made.unlearn(mask).predict(data.X)
        assert pickle.dumps(net) == before, "the net that was passed as estimator was changed."
    for key, value in arrays.items():
        assert np.array_equal(value, copies[key]), f"fit or unlearn changed {key}."
    assert digest(random_states().items()) == states, "the caller's random state is not left alone."


@_promise
def check_same_result(unlearner: BaseUnlearner) -> None:
    """Equal seeds give equal bits, and other seeds others; so do copies by pickle at any time."""
    one, same, other = (fitted(unlearner, random_state=s).unlearn(FIRST) for s in (0, 0, 1))
    assert same_weights(one, same), "two runs with the same random_state differ."
    assert not same_weights(one, other), "random_state makes no difference."
    copied = clone(pickle.loads(pickle.dumps(prepared(unlearner))))
    copied = pickle.loads(pickle.dumps(copied.fit(**small_data().given)))
    copied = pickle.loads(pickle.dumps(copied.unlearn(FIRST)))
    assert same_weights(copied, one), "a pickled copy unlearns to other weights."
    copied.unlearn(SECOND)
    assert same_weights(copied, one.unlearn(SECOND)), "a copy unlearns differently later."
    assert not hasattr(clone(copied), "net_"), "clone returns a fitted unlearner."


# requests ----------------------------------------------------------------------------------------


@_promise
def check_ways_to_ask_agree(unlearner: BaseUnlearner) -> None:
    """Row numbers in any order, a mask, and ``forget`` of ``fit`` are one request.

    To ask again for what is forgotten changes nothing.
    """
    by_rows = fitted(unlearner).unlearn(FIRST[::-1])
    by_mask = fitted(unlearner).unlearn(mask_of(FIRST))
    in_fit = prepared(unlearner).fit(**small_data().given, forget=mask_of(FIRST))
    for made, how in ((by_mask, "a boolean mask"), (in_fit, "fit with forget")):
        assert made.forget_idx_.tolist() == FIRST, f"{how} forgets other rows."
        assert same_weights(by_rows, made), f"{how} and row numbers give other weights."
    with unchanged(by_rows, "asking again for rows that are forgotten"):
        by_rows.unlearn(FIRST).unlearn(FIRST[:1])


@_promise
def check_rows_are_read_where_declared(unlearner: BaseUnlearner) -> None:
    """Rows to forget are read in the phases that the class declares, and later in none."""
    declared = set(unlearner._phases_that_read_forgotten)
    # what is the same each time may be read ahead and kept, other rows are read anew
    for is_augmented in (False, True):
        with watched(unlearner, is_augmented) as (made, X):
            gone: list[int] = []
            for request in (FIRST, SECOND, [70]):
                X.reads.clear()
                made.unlearn(request)
                read_in = sorted(X.phases_that_read(gone))
                assert not read_in, f"rows that were forgotten before are read in {read_in}."
                undeclared = sorted(X.phases_that_read(request) - declared)
                assert not undeclared, (
                    f"rows to forget are read in the phase(s) {undeclared}, which "
                    "_phases_that_read_forgotten does not name."
                )
                gone = gone + request


# what must not be remembered ---------------------------------------------------------------------


@_promise
def check_no_trace_of_forgotten_rows(unlearner: BaseUnlearner) -> None:
    """After ``unlearn`` no forgotten row is left in the object or its pickle."""
    data, made = small_data(), fitted(unlearner)
    for request in (FIRST, SECOND):
        # without this control the search could be blind
        assert all(holds(made, data.X[request])), "fit does not store the training rows."
        made.unlearn(request)
        for row, place in zip(request, holds(made, data.X[request]), strict=True):
            assert place is None, f"the forgotten row {row} is still in the {place}."
    assert holds(made, data.X[70:71]) != [None], "rows that remain are lost."


@_promise
def check_no_trace_of_original_weights(unlearner: BaseUnlearner) -> None:
    """After ``unlearn`` the weights as they were are nowhere, of whatever net they came from.

    Nor is momentum, a setting of the run, or a hook.
    """
    data = small_data()
    for origin in ("fit", "estimator", "FrozenEstimator"):
        net: Any = small_net(optimizer=torch.optim.Adam)
        if origin != "fit":
            with isolated_rng(0):
                net.fit(data.X, data.y)
        if origin == "FrozenEstimator":
            if not unlearner._accepts_trained_net:
                continue
            net = FrozenEstimator(net)
        made = fitted(unlearner, net)
        parameters = [weight.detach().numpy() for weight in made.net_.module_.parameters()]
        original = [weight.copy() for weight in parameters if weight.size >= 16]
        assert all(holds(made, original)), "the search must be able to see weights"
        places = holds(made.unlearn(FIRST), original)
        left = set(filter(None, places))
        if unlearner._keeps_unaffected_weights:
            assert None in places, "all original weights are still there after unlearn."
        elif unlearner._keeps_weights:
            assert left, "_keeps_weights is declared, and no weight is kept."
        else:
            assert not left, f"original weights are still in the {' and the '.join(sorted(left))}."
        if origin == "estimator":
            given = [part.detach().numpy() for part in net.module_.parameters() if part.ndim > 1]
            assert not any(holds(made, given)), "weights from before fit are still there."
        assert not made.net_.optimizer_.state, "the optimizer still has the state of training."
        assert made.net_.lr == LR, "the net keeps the learning rate of unlearning."
        layers = made.net_.module_.modules()
        hooked = [m for m in layers if m._forward_hooks or m._forward_pre_hooks]
        assert not hooked, f"hooks are left on {hooked}."


@_promise
def check_unstored_data(unlearner: BaseUnlearner) -> None:
    """With ``store_data=False`` no row is kept, and ``unlearn`` takes them as arguments."""
    data = small_data()
    given = dict(data.given)
    made, stored = (prepared(unlearner, store_data=store).fit(**given) for store in (False, True))
    given["X"] = data.X.copy()  # the other one keeps what it was given
    assert holds(made, data.X[:1]) == [None], "store_data=False stores rows."
    with raises(ValueError, "unlearn without data", "not held"):
        made.unlearn(FIRST)
    made.unlearn(FIRST, **given)
    given["X"][FIRST] = 1e30
    made.unlearn(SECOND, **given)
    is_same = same_weights(made, stored.unlearn(FIRST).unlearn(SECOND))
    assert is_same, "data passed to unlearn gives other weights than stored data."
    assert holds(made, data.X[:1]) == [None], "store_data=False stores rows in unlearn."


# errors ------------------------------------------------------------------------------------------


@_promise
def check_refusals(unlearner: BaseUnlearner) -> None:
    """What cannot be is refused, with the reason, and leaves a fitted object as it was.

    A loss that becomes NaN is an error as well.
    """
    data, made = small_data(), fitted(unlearner).unlearn(FIRST)
    bad: list[tuple[Any, type[Exception], str]] = [
        ([160], IndexError, "160"),
        ([-1], ValueError, "-1"),
        ([5, 7, 5], ValueError, "5"),
        (np.ones(12, dtype=bool), ValueError, "160"),
        (np.flatnonzero(data.y == 1), ValueError, "class"),
    ]
    for request, error, match in bad:
        what = f"the request {request!r}"
        with unchanged(made, what), raises(error, what, match):
            made.unlearn(request)
    with unchanged(made, "fit of NaN"), raises(ValueError, "fit of NaN", "NaN"):
        made.fit(data.X * np.nan, data.y, data.a)
    no_groups = prepared(unlearner).fit(data.X, data.y)
    if made._needs_groups:
        with raises(ValueError, "unlearn without groups", "needs the protected attribute"):
            no_groups.unlearn(FIRST)
    else:
        no_groups.unlearn(FIRST)
    X = WatchedRows(data.X.copy())
    made = prepared(unlearner).fit(X, data.y, data.a)
    X.X[:] = np.nan
    what = "unlearn of rows that became NaN"
    if made._changes_net:
        with unchanged(made, what), raises(FloatingPointError, what):
            made.unlearn(FIRST)


@_promise
def check_interruption(unlearner: BaseUnlearner) -> None:
    """Ctrl-C at any read leaves the last finished state, and the request can be made again.

    With a checkpoint it goes on, to the same result, and leaves no file.
    """
    net = small_net(DropoutNet)
    with watched(unlearner, True, net) as (undisturbed, X):
        undisturbed.unlearn(FIRST)
        n_reads = len(X.reads)
    for stop_at in sorted({1, n_reads // 2, n_reads}) if n_reads else ():
        with (
            watched(unlearner, True, net) as (made, X),
            tempfile.TemporaryDirectory() as folder,
        ):
            checkpoint = UnlearningCheckpoint(Path(folder) / "state")
            again: dict[str, Any] = {"checkpoint": checkpoint} if stop_at == n_reads // 2 else {}
            what, X.stop_at = f"Ctrl-C at read {stop_at} of {n_reads}", stop_at
            with unchanged(made, what), raises(KeyboardInterrupt, what):
                made.unlearn(FIRST, **again)
            X.stop_at = None
            made.unlearn(FIRST, **again)
            left = [path.name for path in Path(folder).iterdir()]
        assert same_weights(made, undisturbed), (
            f"a request {'resumed' if again else 'made again'} after {what} gives other weights: "
            "what a phase changes beside the net belongs into Phase(state=...)."
        )
        assert not left, f"unlearn leaves {left} behind."


# what people have --------------------------------------------------------------------------------


@_promise
def check_extra_inputs(unlearner: BaseUnlearner) -> None:
    """Masks and whole numbers beside an input reach the module as the Dataset hands them out."""
    data = small_data()
    reference = fitted(unlearner).unlearn(FIRST).predict_proba(data.X)
    X = SeveralInputs(data.X)
    made = prepared(unlearner, small_net(ReadsSeveral, module__n_features=4, module__hidden=(16,)))
    try:
        made.fit(X, data.y, data.a)
    except ValueError as error:
        assert "one array of real numbers" in str(error), f"fit fails: {error}"
        return  # refused by name
    is_same = np.allclose(made.unlearn(FIRST).predict_proba(X), reference, rtol=1e-3, atol=1e-5)
    assert is_same, "inputs with a mask give other predictions than an array."


@_promise
def check_given_modules(unlearner: BaseUnlearner) -> None:
    """A module passed as an object, or remembered by a function, is where a fresh net starts.

    It is copied, its frozen weights stay, and batch norm gets over a last batch of one row.
    """
    data = small_data(65)
    for way in ("an object", "a function"):
        module = DropoutNet()
        module.body.requires_grad_(False)
        frozen = module.get_parameter("body.0.weight")
        given = [weight.clone() for weight in module.parameters()]
        net = small_net(module if way == "an object" else lambda kept=module: kept)
        made = prepared(unlearner, net).fit(**data.given).unlearn([40])
        fresh = fresh_net(made.net_, weights_from=None).module_
        for found in (module, getattr(fresh, "members", [fresh])[0]):
            is_given = all(map(torch.equal, given, found.parameters()))
            assert is_given, f"fit or unlearn trained {way} that was passed as module."
        for where, weight in made.net_.module_.named_parameters():
            is_frozen = not weight.requires_grad and torch.equal(weight, frozen)
            assert is_frozen or not where.endswith("body.0.weight"), "a frozen layer was changed."


# how they are run --------------------------------------------------------------------------------


def check_unlearner(unlearner: BaseUnlearner) -> None:
    """Check that an unlearner does what every unlearner of this package does.

    Among the promises are: after ``unlearn`` no forgotten row and no original weight is left in
    the object or its pickle; requests add up, and naming a row again changes
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

    Passing the checks is no proof that a method forgets.

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
    _refuse_others(unlearner)
    for check in ALL_CHECKS:
        check(unlearner)


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

    given = list(unlearners)
    _refuse_others(*given)
    pairs = [(unlearner, check) for unlearner in given for check in ALL_CHECKS]
    ids = [f"{type(unlearner).__name__}-{check.__name__}" for unlearner, check in pairs]
    return pytest.mark.parametrize(("unlearner", "check"), pairs, ids=ids)


def _refuse_others(*given: Any) -> None:
    for one in given:
        if not isinstance(one, BaseUnlearner):
            raise TypeError(f"The checks take an instance of an unlearner, got {one!r}.")
