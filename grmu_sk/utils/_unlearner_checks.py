"""The contract of unlearners: one function a promise, each raising AssertionError if it is broken.

Every check takes a name for its messages and an unlearner, of which it uses unfitted copies with
nets and data of its own.
"""

from __future__ import annotations

import pickle
import random
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

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

from ..base import BaseUnlearner
from ..checkpoint import UnlearningCheckpoint
from ..nets import SmallCNN
from ..training import fresh_net
from ..unlearners import all_unlearners
from ._check_tools import (
    FIRST,
    LR,
    SECOND,
    SEED,
    WATCHED_KINDS,
    DropoutNet,
    NormalizedMLP,
    PairsDataset,
    ReadLog,
    ReadsSeveral,
    SeveralInputs,
    State,
    WatchedDataset,
    fitted,
    holds,
    mask_of,
    prepared,
    raises,
    same_arrays,
    same_weights,
    small_data,
    small_net,
    unchanged,
    watched,
    weights_of,
)

# as an estimator -------------------------------------------------------------------------------


def check_common_parameters(name: str, unlearner: BaseUnlearner) -> None:
    """The constructor takes what all unlearners take."""
    common = {"estimator", "random_state", "store_data", "keep_forgotten"}
    missing = sorted(common - set(unlearner.get_params(deep=False)))
    assert not missing, f"{name}: the constructor does not take {missing}."


def check_parameters_are_not_modified(name: str, unlearner: BaseUnlearner) -> None:
    """Neither ``fit`` nor ``unlearn`` sets a parameter of the constructor."""
    data = small_data()
    made = prepared(unlearner)
    before = made.get_params(deep=False)
    made.fit(data.X, data.y, data.a).unlearn(FIRST)
    changed = [
        key for key, value in made.get_params(deep=False).items() if value is not before[key]
    ]
    assert not changed, (
        f"{name}: fit or unlearn replaced the parameter(s) {changed}. Keep what is learned in "
        "attributes whose names end with an underscore."
    )


def check_estimator_is_not_modified(name: str, unlearner: BaseUnlearner) -> None:
    """The net that is passed in stays as it was, trained or not."""
    data = small_data()
    net = small_net()
    before = pickle.dumps(net)
    fitted(unlearner, data, net).unlearn(FIRST)
    assert pickle.dumps(net) == before, (
        f"{name}: fit or unlearn changed the net that was passed as estimator. Change request.net."
    )
    if not unlearner._accepts_trained_net:
        return
    trained = small_net().fit(data.X, data.y)
    weights = [value.clone() for value in trained.module_.state_dict().values()]
    lr = trained.lr
    fitted(unlearner, data, FrozenEstimator(trained)).unlearn(FIRST)
    kept = all(map(torch.equal, weights, trained.module_.state_dict().values()))
    assert kept and trained.lr == lr, (
        f"{name}: fit or unlearn changed the trained net inside FrozenEstimator."
    )


def check_inputs_are_not_modified(name: str, unlearner: BaseUnlearner) -> None:
    """The arrays of the caller stay as they are, also those that could be written to."""
    data = small_data()
    mask = mask_of(FIRST, data.n)
    given = {"X": data.X, "y": data.y, "groups": data.a, "forget": mask}
    before = {key: value.copy() for key, value in given.items()}
    prepared(unlearner).fit(data.X, data.y, data.a).unlearn(mask)
    for key, value in given.items():
        assert np.array_equal(value, before[key]), f"{name}: fit or unlearn changed {key}."


def check_clone_and_pickle(name: str, unlearner: BaseUnlearner) -> None:
    """Copies made by pickle before, between and after requests go on as the original would."""
    data = small_data()
    copied = clone(pickle.loads(pickle.dumps(prepared(unlearner))))
    copied = pickle.loads(pickle.dumps(copied.fit(data.X, data.y, data.a)))
    copied = pickle.loads(pickle.dumps(copied.unlearn(FIRST)))
    original = fitted(unlearner, data).unlearn(FIRST)
    assert same_weights(copied, original), f"{name}: a pickled copy unlearns to other weights."
    copied.unlearn(SECOND)
    original.unlearn(SECOND)
    assert same_weights(copied, original), (
        f"{name}: a copy pickled after a request unlearns the next one to other weights."
    )
    again = clone(copied)
    assert not hasattr(again, "net_"), f"{name}: clone returns a fitted unlearner."
    assert again.get_params().keys() == copied.get_params().keys(), (
        f"{name}: clone changes the parameters."
    )


def check_metadata_routing(name: str, unlearner: BaseUnlearner) -> None:
    """``groups`` and ``forget`` are requested by default and reach ``fit`` in a pipeline."""
    data = small_data()
    with config_context(enable_metadata_routing=True):
        made = prepared(unlearner)
        requests = made.get_metadata_routing().fit.requests
        for key in ("groups", "forget"):
            assert requests.get(key) is True, (
                f"{name}: fit does not request {key}. Leave __metadata_request__fit and the "
                "signature of fit as BaseUnlearner has them."
            )
        pipe = make_pipeline(StandardScaler(), made)
        pipe.fit(data.X, data.y, groups=data.a, forget=mask_of(FIRST, data.n))
    assert pipe[-1].forget_idx_.tolist() == FIRST, (
        f"{name}: in a pipeline, rows marked in forget are not forgotten."
    )


def check_no_warning(name: str, unlearner: BaseUnlearner) -> None:
    """Ordinary use warns of nothing."""
    data = small_data()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted(unlearner, data).unlearn(FIRST).predict(data.X)
    said = [str(warning.message) for warning in caught]
    assert not said, f"{name}: ordinary use warns: {said}."


# randomness ------------------------------------------------------------------------------------


def check_deterministic(name: str, unlearner: BaseUnlearner) -> None:
    """Equal seeds give equal bits, other seeds others."""
    data = small_data()
    one, same, other = (
        fitted(unlearner, data, random_state=seed).unlearn(FIRST) for seed in (0, 0, 1)
    )
    assert same_weights(one, same), (
        f"{name}: two runs with the same random_state differ. Draw with torch's, NumPy's or "
        "Python's global generator, which are seeded while _unlearn runs."
    )
    assert not same_weights(one, other), f"{name}: random_state makes no difference."


def check_caller_random_state(name: str, unlearner: BaseUnlearner) -> None:
    """The global generators, which are the caller's, are left alone."""
    data = small_data()
    before = random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    for seed in (0, None):
        fitted(unlearner, data, random_state=seed).unlearn(FIRST).predict(data.X)
    advice = "the caller's random state is not left alone."
    assert random.getstate() == before[0], f"{name}: Python's random: {advice}"
    assert pickle.dumps(np.random.get_state()) == before[1], f"{name}: NumPy: {advice}"  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2]), f"{name}: torch: {advice}"


def check_predictions_are_deterministic(name: str, unlearner: BaseUnlearner) -> None:
    """A net with dropout predicts the same twice, and its features can be named."""
    data = small_data()
    has_layer = "feature_layer" in unlearner.get_params(deep=False)
    for layer in (None, "body") if has_layer else (None,):
        params = {"feature_layer": layer} if has_layer else {}
        made = fitted(unlearner, data, small_net(DropoutNet), **params).unlearn(FIRST)
        once, twice = made.predict_proba(data.X), made.predict_proba(data.X)
        assert np.array_equal(once, twice), (
            f"{name}: two predictions of the same rows differ; is the net in training mode?"
        )


# requests --------------------------------------------------------------------------------------


def check_unlearn_remembers_rows(name: str, unlearner: BaseUnlearner) -> None:
    """``unlearn`` returns the object, which knows what was forgotten and what remains."""
    data = small_data()
    made = fitted(unlearner, data)
    assert made.unlearn(FIRST) is made, f"{name}: unlearn does not return the object itself."
    assert made.forget_idx_.tolist() == FIRST, f"{name}: forget_idx_ is not what was asked for."
    rest = np.setdiff1d(np.arange(data.n), FIRST)
    assert np.array_equal(made.remaining_idx_, rest), f"{name}: remaining_idx_ is not the rest."
    pairs = set(zip(data.y[FIRST].tolist(), data.a[FIRST].tolist(), strict=True))
    assert set(made.forget_groups_) == pairs, (
        f"{name}: forget_groups_ is {made.forget_groups_}, not {sorted(pairs)}."
    )
    assert made.predict(data.X).shape == (data.n,), f"{name}: predict returns another shape."
    total = made.predict_proba(data.X).sum(axis=1)
    assert np.allclose(total, 1, rtol=1e-5), f"{name}: probabilities do not sum to 1."


def check_history(name: str, unlearner: BaseUnlearner) -> None:
    """``history_`` has one row for each epoch and phase of each run, with a finite loss."""
    data = small_data()
    made = fitted(unlearner, data)
    before = made.history_.to_list()
    made.unlearn(FIRST)
    rows = made.history_.to_list()
    assert rows[: len(before)] == before, f"{name}: unlearn replaced the history of fit."
    for run in (before, rows[len(before) :]):
        keys = [(row.get("epoch"), row.get("phase")) for row in run]
        assert all(None not in key for key in keys), f"{name}: history_ lacks epoch or phase."
        assert len(set(keys)) == len(keys), f"{name}: history_ has an epoch and phase twice."
        epochs = [epoch for epoch, _ in keys]
        assert epochs == sorted(epochs), f"{name}: the epochs of history_ are out of order."
    losses = [row.get("train_loss", np.nan) for row in rows]
    assert np.isfinite(losses).all(), f"{name}: history_ lacks a finite train_loss."


def check_mask_rows_and_fit_agree(name: str, unlearner: BaseUnlearner) -> None:
    """Row numbers in any order, a mask, and ``forget`` in ``fit`` ask for the same."""
    data = small_data()
    mask = mask_of(FIRST, data.n)
    by_rows = fitted(unlearner, data).unlearn(FIRST[::-1])
    by_mask = fitted(unlearner, data).unlearn(mask)
    in_fit = prepared(unlearner).fit(data.X, data.y, data.a, forget=mask)
    for made, how in ((by_mask, "a boolean mask"), (in_fit, "fit with forget")):
        assert made.forget_idx_.tolist() == FIRST, f"{name}: {how} forgets other rows."
        assert same_weights(by_rows, made), f"{name}: {how} and row numbers give other weights."


def check_requests_are_cumulative(name: str, unlearner: BaseUnlearner) -> None:
    """Rows of earlier requests are never read again."""
    for kind in WATCHED_KINDS:
        _check_cumulative(name, unlearner, kind)


def _check_cumulative(name: str, unlearner: BaseUnlearner, kind: str) -> None:
    with watched(unlearner, kind) as (made, log):
        made.unlearn(FIRST)
        log.reads.clear()
        made.unlearn(SECOND)
        assert made.forget_idx_.tolist() == FIRST + SECOND, (
            f"{name}: after a second request forget_idx_ lacks rows of one of them."
        )
        read_in = log.phases_that_read(FIRST)
        assert not read_in, (
            f"{name}: the second request reads rows that were forgotten before, in the phase(s) "
            f"{sorted(read_in)} (X: {kind}). Read request.data only."
        )
        log.reads.clear()
        made.unlearn([70])
        read_in = log.phases_that_read(FIRST + SECOND)
        assert not read_in, f"{name}: a third request reads rows that were forgotten before."


def check_requests_are_idempotent(name: str, unlearner: BaseUnlearner) -> None:
    """To ask again for what is forgotten changes nothing."""
    made = fitted(unlearner, small_data()).unlearn(FIRST)
    with unchanged(made, f"{name}: asking again for rows that are forgotten"):
        made.unlearn(FIRST).unlearn(FIRST[:1])


def check_empty_request(name: str, unlearner: BaseUnlearner) -> None:
    """An empty request warns and changes nothing."""
    data = small_data()
    made = fitted(unlearner, data)
    requests: tuple[Any, ...] = ([], np.zeros(data.n, dtype=bool), np.array([]))
    for empty in requests:
        with (
            unchanged(made, f"{name}: an empty request"),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("always")
            made.unlearn(empty)
        assert any("forget is empty" in str(warning.message) for warning in caught), (
            f"{name}: an empty request does not warn that forget is empty."
        )


def check_forgotten_rows_are_read_where_declared(name: str, unlearner: BaseUnlearner) -> None:
    """Rows to forget are read in the phases that the class declares, and in no other."""
    declared = set(unlearner._phases_that_read_forgotten)
    for kind in WATCHED_KINDS:
        with watched(unlearner, kind) as (made, log):
            made.unlearn(FIRST)
        undeclared = log.phases_that_read(FIRST) - declared
        assert not undeclared, (
            f"{name}: rows to forget are read in the phase(s) {sorted(undeclared)} (X: {kind}). "
            "Train on request.retain; a phase that has to read them is declared in "
            "_phases_that_read_forgotten ('setup' stands for reads outside of any phase)."
        )


def check_nothing_changed_is_said(name: str, unlearner: BaseUnlearner) -> None:
    """A method that is not exact, and leaves the net as it was, warns of that."""
    data = small_data()
    own = {"lr": None} if "lr" in unlearner.get_params(deep=False) else {}
    made = fitted(unlearner, data, small_net(lr=0.0), **own)
    before = weights_of(made)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made.unlearn(FIRST)
    said = any("may have forgotten nothing" in str(warning.message) for warning in caught)
    changed = not same_arrays(before, weights_of(made))
    assert changed or said or not made._may_change_too_little, (
        f"{name}: unlearn leaves all weights as they were, and says nothing."
    )


def check_single_row_and_batch_norm(name: str, unlearner: BaseUnlearner) -> None:
    """One row can be forgotten, and one row be left for the last batch, with batch norm."""
    data = small_data(65)
    fitted(unlearner, data, small_net(NormalizedMLP)).unlearn([40])
    images = small_data(65, images=True)
    fitted(unlearner, images, small_net(SmallCNN, module__width=4)).unlearn([40])


# what must not be remembered -------------------------------------------------------------------


def check_no_trace_of_forgotten_rows(name: str, unlearner: BaseUnlearner) -> None:
    """After ``unlearn`` no forgotten row is left in the object or its pickle."""
    data = small_data()
    made = fitted(unlearner, data)
    for request in (FIRST, SECOND):
        # without this control the search could be blind
        assert all(holds(made, data.X[request])), f"{name}: fit does not store the training rows."
        made.unlearn(request)
        for row, place in zip(request, holds(made, data.X[request]), strict=True):
            assert place is None, (
                f"{name}: the forgotten row {row} is still in the {place} after unlearn. Store "
                "nothing of request.data; BaseUnlearner keeps the rows that remain."
            )
    assert holds(made, data.X[70:71]) != [None], f"{name}: rows that remain are lost."


def check_no_trace_of_original_weights(name: str, unlearner: BaseUnlearner) -> None:
    """After ``unlearn`` the weights as they were are left neither in the object nor its pickle."""
    data = small_data()
    for is_frozen in (False, True) if unlearner._accepts_trained_net else (False,):
        net: Any = small_net(optimizer=torch.optim.Adam, lr=0.01)
        if is_frozen:
            net = FrozenEstimator(net.fit(data.X, data.y))
        made = fitted(unlearner, data, net)
        original = [weight for weight in weights_of(made) if weight.size >= 16]
        assert all(holds(made, original)), "the search must be able to see weights"
        _check_weights_left(name, unlearner, holds(made.unlearn(FIRST), original))


def check_trained_estimator_leaves_no_trace(name: str, unlearner: BaseUnlearner) -> None:
    """Weights of a net that was trained before it was passed in do not outlive a request."""
    data = small_data()
    net = small_net().fit(data.X, data.y)
    trained = net.module_.head.weight.detach().numpy().copy()
    made = fitted(unlearner, data, net)
    assert holds(made, [trained]) != [None], "the search must be able to see weights"
    (place,) = holds(made.unlearn(FIRST), [trained])
    assert place is None, (
        f"{name}: weights that the net had before fit are still in the {place} after unlearn."
    )
    assert np.array_equal(net.module_.head.weight.detach(), trained), (
        f"{name}: the caller's own net was changed."
    )


def check_no_trace_in_saved_file(name: str, unlearner: BaseUnlearner) -> None:
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
        made.save(Path(folder) / "model.safetensors")
        content = (Path(folder) / "model.safetensors").read_bytes()
    assert weights_of(made)[0].tobytes() in content, "the search must be able to see weights"
    assert not any(row.tobytes() in content for row in data.X), f"{name}: the file holds rows."
    places = ["file" if weight.tobytes() in content else None for weight in original]
    _check_weights_left(name, unlearner, places)


def _check_weights_left(name: str, unlearner: BaseUnlearner, places: list[str | None]) -> None:
    """Compare which original weights are left with what the class says of itself."""
    left = [place is not None for place in places]
    if unlearner._keeps_unaffected_weights:
        assert not all(left), f"{name}: all original weights are still there after unlearn."
    elif unlearner._keeps_weights:
        assert any(left), f"{name}: _keeps_weights is declared, and no weight is kept."
    else:
        where = sorted({str(place) for place in places} - {"None"})
        assert not any(left), (
            f"{name}: original weights are still in the {' and the '.join(where)} after unlearn. "
            "Store no copy of them; a method that by definition leaves some as they are declares "
            "_keeps_weights."
        )


def check_training_state_is_dropped(name: str, unlearner: BaseUnlearner) -> None:
    """No momentum, no setting of the run and no hook is left in the net."""
    net = fitted(unlearner, small_data()).unlearn(FIRST).net_
    assert not net.optimizer_.state, f"{name}: the optimizer still has the state of training."
    assert net.lr == LR, f"{name}: the net keeps the learning rate of unlearning."
    hooked = [
        layer
        for layer in net.module_.modules()
        if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks
    ]
    assert not hooked, f"{name}: hooks are left on {hooked}."


def check_keep_forgotten(name: str, unlearner: BaseUnlearner) -> None:
    """``keep_forgotten=True`` keeps the rows for an evaluation, and changes nothing else."""
    data = small_data()
    kept = fitted(unlearner, data, keep_forgotten=True)
    dropped = fitted(unlearner, data)
    for request, expected in ((FIRST, FIRST), (SECOND, FIRST + SECOND)):
        forgotten = kept.unlearn(request).training_rows("forgotten")
        assert np.array_equal(forgotten.X, data.X[expected]), (
            f"{name}: with keep_forgotten=True the forgotten rows are not there."
        )
        assert same_weights(kept, dropped.unlearn(request)), (
            f"{name}: keep_forgotten changes what is unlearned."
        )


def check_unstored_data(name: str, unlearner: BaseUnlearner) -> None:
    """With ``store_data=False`` no row is kept, and ``unlearn`` takes them as arguments."""
    data = small_data()
    made = fitted(unlearner, data, store_data=False)
    assert holds(made, data.X[:1]) == [None], f"{name}: store_data=False stores rows."
    with raises(ValueError, f"{name}: unlearn without data", "was not stored"):
        made.unlearn(FIRST)
    X = data.X.copy()
    made.unlearn(FIRST, X=X, y=data.y, groups=data.a)
    X[FIRST] = 1e30
    made.unlearn(SECOND, X=X, y=data.y, groups=data.a)
    stored = fitted(unlearner, data).unlearn(FIRST).unlearn(SECOND)
    assert same_weights(made, stored), (
        f"{name}: data passed to unlearn gives other weights than stored data, or forgotten rows "
        "are read again."
    )
    assert holds(made, data.X[:1]) == [None], f"{name}: store_data=False stores rows in unlearn."
    with raises(ValueError, f"{name}: data of another length", "150 rows but fit was given 160"):
        made.unlearn([70], X=X[:150], y=data.y[:150], groups=data.a[:150])


# errors ----------------------------------------------------------------------------------------


def check_not_fitted(name: str, unlearner: BaseUnlearner) -> None:
    """Nothing can be unlearned or predicted before ``fit``."""
    for what in ("unlearn", "predict", "predict_proba"):
        with raises(NotFittedError, f"{name}: {what} before fit"):
            getattr(prepared(unlearner), what)([[0.0] * 4] if what != "unlearn" else [0])


def check_bad_requests(name: str, unlearner: BaseUnlearner) -> None:
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
        what = f"{name}: the request {forget!r}"
        with unchanged(made, what), raises(error, what, match):
            made.unlearn(forget)


def check_bad_fit(name: str, unlearner: BaseUnlearner) -> None:
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
        what = f"{name}: fit with a wrong {next(iter(change))}"
        arguments = {"X": data.X, "y": data.y, "groups": data.a, **change}
        with unchanged(made, what), raises(ValueError, what, match):
            made.fit(**arguments)


def check_wrong_number_of_outputs(name: str, unlearner: BaseUnlearner) -> None:
    """A net that does not fit the classes is refused before training."""
    net = small_net(module__n_classes=3)
    with raises(ValueError, f"{name}: a net with 3 outputs", "3 outputs but y has 2 classes"):
        fitted(unlearner, small_data(), net)


def check_groups_are_asked_for(name: str, unlearner: BaseUnlearner) -> None:
    """A method works without groups, or says that it needs them."""
    data = small_data()
    made = prepared(unlearner).fit(data.X, data.y)
    if not made._needs_groups:
        made.unlearn(FIRST)
        return
    match = r"fit was called without groups\. Call fit\(X, y, groups"
    with raises(ValueError, f"{name}: unlearn without groups", match):
        made.unlearn(FIRST)


def check_nan_loss(name: str, unlearner: BaseUnlearner) -> None:
    """A loss that is NaN is an error, and leaves the state before the request."""
    data, log = small_data(), ReadLog()
    X = WatchedDataset(data.X.copy(), log)
    made = prepared(unlearner).fit(X, data.y, data.a)
    log.reads.clear()
    X.X[:] = np.nan
    state = State(made)
    try:
        made.unlearn(FIRST)
    except FloatingPointError:
        state.check_unchanged(f"{name}: a request that failed")
        return
    assert not log.reads, (
        f"{name}: unlearn does not raise FloatingPointError though the rows it reads are NaN."
    )


def check_interruption(name: str, unlearner: BaseUnlearner) -> None:
    """Ctrl-C at any read leaves the last finished state, and the request can be made again."""
    for kind in WATCHED_KINDS:
        with watched(unlearner, kind) as (undisturbed, log):
            undisturbed.unlearn(FIRST)
            n_reads = len(log.reads)
        with watched(unlearner, kind) as (made, log):
            for stop_at in sorted({1, n_reads // 2, n_reads} - {0}) if n_reads else ():
                log.reads.clear()
                log.stop_at = stop_at
                _check_interrupted(f"{name}: Ctrl-C at read {stop_at} of {n_reads}", made)
                log.stop_at = None
            made.unlearn(FIRST)
        assert same_weights(made, undisturbed), (
            f"{name}: a request made again after Ctrl-C gives other weights."
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


def check_resumption(name: str, unlearner: BaseUnlearner) -> None:
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
        log.reads.clear()
        log.stop_at = n_reads // 2
        with suppress(KeyboardInterrupt):
            made.unlearn(FIRST, checkpoint=checkpoint)
        log.stop_at = None
        made.unlearn(FIRST, checkpoint=checkpoint)
        left = [path.name for path in Path(folder).iterdir()]
    assert same_weights(made, undisturbed), (
        f"{name}: a request resumed from its checkpoint gives other weights. What a phase changes "
        "beside the net belongs into Phase(state=...); draw random numbers from torch, NumPy or "
        "Python."
    )
    assert not left, f"{name}: unlearn leaves {left} behind."


# what people have ------------------------------------------------------------------------------


def check_labels_of_any_kind(name: str, unlearner: BaseUnlearner) -> None:
    """Labels may be text, or numbers with gaps; several attributes are one group."""
    data = small_data()
    y = np.array(["no", "yes"])[data.y]
    groups = pd.DataFrame({"sex": np.array(["f", "m"])[data.a], "old": np.arange(data.n) % 2})
    made = prepared(unlearner).fit(data.X, y, groups).unlearn(FIRST)
    assert set(made.predict(data.X)) <= {"no", "yes"}, f"{name}: predict returns other labels."
    known = {("no", "yes")[label] for label in data.y[FIRST]}
    in_words = all(label in known and isinstance(a, tuple) for label, a in made.forget_groups_)
    assert in_words, f"{name}: forget_groups_ is not in the user's terms: {made.forget_groups_}."
    seven = small_data(300, n_classes=7)
    made = prepared(unlearner, small_net(module__n_classes=7))
    made.fit(seven.X, seven.y * 10 + 3, seven.a).unlearn([60, 61])
    assert set(made.predict(seven.X)) <= set(range(3, 70, 10)), (
        f"{name}: predict returns labels that were not among those of fit."
    )


def check_images(name: str, unlearner: BaseUnlearner) -> None:
    """Inputs may have any number of axes."""
    data = small_data(96, images=True)
    made = fitted(unlearner, data, small_net(SmallCNN, module__width=4)).unlearn([40, 41])
    assert made.predict_proba(data.X).shape == (data.n, 2), (
        f"{name}: predict_proba fails on images."
    )


def check_kinds_of_input(name: str, unlearner: BaseUnlearner) -> None:
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
        assert near, f"{name}: a {kind} gives other weights than an array."
        assert np.array_equal(made.predict(X), reference.predict(data.X)), (
            f"{name}: a {kind} gives other predictions than an array."
        )
        first = data.X[FIRST[0]]
        assert not any(values.tobytes() in pickle.dumps(made) for values in (first, first * 1.0)), (
            f"{name}: given a {kind}, the pickle holds a forgotten row."
        )


def check_extra_inputs(name: str, unlearner: BaseUnlearner) -> None:
    """Masks and whole numbers beside an input reach the module as the Dataset hands them out."""
    data = small_data()
    reference = fitted(unlearner, data).unlearn(FIRST).predict_proba(data.X)
    for kind in ("dict", "list"):
        X = SeveralInputs(data.X, kind)
        net = small_net(ReadsSeveral, module__n_features=4, module__hidden=(16,))
        made = prepared(unlearner, net)
        try:
            made.fit(X, data.y, data.a)
        except ValueError as error:
            assert "one array of real numbers" in str(error), f"{name}: fit fails: {error}"
            continue  # refused by name
        assert np.allclose(made.unlearn(FIRST).predict_proba(X), reference, rtol=1e-3, atol=1e-5), (
            f"{name}: inputs in a {kind} with a mask give other predictions than an array. Hand "
            "batch.X on to the net as it is."
        )


def _memory_map(X: NDArray[Any]) -> np.memmap[Any, Any]:
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype=X.dtype, mode="w+", shape=X.shape)
    mapped[:] = X
    return mapped


def check_sample_weight(name: str, unlearner: BaseUnlearner) -> None:
    """Weights count after a request as well, and have to be passed with the data."""
    if not has_fit_parameter(unlearner, "sample_weight"):
        return
    data = small_data()
    weight = np.random.default_rng(SEED).random(data.n)
    stored, given = (prepared(unlearner, store_data=store) for store in (True, False))
    for made in (stored, given):
        made.fit(data.X, data.y, data.a, sample_weight=weight)
    arguments = {"X": data.X, "y": data.y, "groups": data.a}
    what = f"{name}: data without the weights of fit"
    with raises(ValueError, what, "X was passed without sample_weight"):
        given.unlearn(FIRST, **arguments)
    given.unlearn(FIRST, **arguments, sample_weight=weight)
    assert same_weights(stored.unlearn(FIRST), given), (
        f"{name}: weights passed to unlearn count otherwise than stored ones."
    )


def check_frozen_net_is_not_trained(name: str, unlearner: BaseUnlearner) -> None:
    """``fit`` takes a trained net as it is, or refuses it."""
    data = small_data()
    trained = small_net().fit(data.X, data.y)
    if not unlearner._accepts_trained_net:
        what = f"{name}: fit with a trained net"
        with raises(ValueError, what, "cannot take over a trained net"):
            fitted(unlearner, data, FrozenEstimator(trained))
        return
    made = fitted(unlearner, data, FrozenEstimator(trained))
    kept = [value.numpy() for value in trained.module_.state_dict().values()]
    assert same_arrays(weights_of(made), kept), f"{name}: fit trains a net that was frozen."
    assert len(made.history_) == 0, f"{name}: fit records training of a net that was frozen."


def check_given_parts_are_copied(name: str, unlearner: BaseUnlearner) -> None:
    """A module passed as an object, or remembered by a function, is where a fresh net starts."""
    data = small_data()
    for way in ("an object", "a function"):
        module = DropoutNet()
        given = [weight.clone() for weight in module.parameters()]
        net = small_net(module if way == "an object" else lambda kept=module: kept)
        made = fitted(unlearner, data, net).unlearn(FIRST)
        fresh = fresh_net(made.net_, weights_from=None).module_
        member = getattr(fresh, "members", [fresh])[0]
        for found in (module, member):
            assert all(map(torch.equal, given, found.parameters())), (
                f"{name}: fit or unlearn trained {way} that was passed as module. Build nets with "
                "fresh_net, which copies it."
            )


def check_frozen_layers_stay_frozen(name: str, unlearner: BaseUnlearner) -> None:
    """Weights that need no gradient are the same after ``fit`` and ``unlearn``."""
    module = DropoutNet()
    given = module.body.requires_grad_(False)[0].weight.clone()
    made = fitted(unlearner, small_data(), small_net(module)).unlearn(FIRST)
    for where, weight in made.net_.module_.named_parameters():
        if where.endswith("body.0.weight"):
            assert torch.equal(weight, given) and not weight.requires_grad, (
                f"{name}: a frozen layer was changed. Leave weights alone that need no gradient."
            )


def check_default_net(name: str, unlearner: BaseUnlearner) -> None:
    """``estimator=None`` gives a net for tables and for images."""
    for images in (False, True):
        data = small_data(80, images=images)
        made = fitted(unlearner, data, None).unlearn([40])
        assert made.predict(data.X).shape == (data.n,), f"{name}: the default net does not predict."


#: In the order in which they run: what other checks build upon comes first.
ALL_CHECKS = [
    check_common_parameters,
    check_not_fitted,
    check_unlearn_remembers_rows,
    check_parameters_are_not_modified,
    check_estimator_is_not_modified,
    check_inputs_are_not_modified,
    check_clone_and_pickle,
    check_metadata_routing,
    check_no_warning,
    check_deterministic,
    check_caller_random_state,
    check_predictions_are_deterministic,
    check_history,
    check_mask_rows_and_fit_agree,
    check_requests_are_cumulative,
    check_requests_are_idempotent,
    check_empty_request,
    check_forgotten_rows_are_read_where_declared,
    check_nothing_changed_is_said,
    check_single_row_and_batch_norm,
    check_no_trace_of_forgotten_rows,
    check_no_trace_of_original_weights,
    check_trained_estimator_leaves_no_trace,
    check_no_trace_in_saved_file,
    check_training_state_is_dropped,
    check_keep_forgotten,
    check_unstored_data,
    check_bad_requests,
    check_bad_fit,
    check_wrong_number_of_outputs,
    check_groups_are_asked_for,
    check_nan_loss,
    check_interruption,
    check_resumption,
    check_labels_of_any_kind,
    check_images,
    check_kinds_of_input,
    check_extra_inputs,
    check_sample_weight,
    check_frozen_net_is_not_trained,
    check_given_parts_are_copied,
    check_frozen_layers_stay_frozen,
    check_default_net,
]
__all__ = [check.__name__ for check in ALL_CHECKS]
