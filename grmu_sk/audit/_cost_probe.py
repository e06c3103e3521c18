"""Predict what a method costs from a few batches on a copy."""

from __future__ import annotations

import warnings
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from ..base import BaseUnlearner
from ..rows import TrainingRows
from ..training import fresh_net
from ..utils._random import isolated_rng

# Two runs of different length tell what a batch costs from what a run costs anyway.
_BATCHES = (2, 6)
_EPOCHS = (1, 2)
_REPEATS = 3
_LONG_ENOUGH = 0.5
# A run that takes less is made as a whole in place of being predicted.
_SHORT = 3.0


def predicted_seconds(
    unlearner: BaseUnlearner,
    data: TrainingRows,
    method: type[BaseUnlearner],
    params: dict[str, Any],
    forget: NDArray[np.int64],
) -> float:
    r"""Return about how long a method would take for a request.

    A run that takes up to about three seconds is made. Otherwise three short runs on copies give
    the terms of

    .. math::

        T(e, n) = c_0 + e \, (c_1 + c_2 n)

    for e epochs over n rows; e is 1 for a method that does not train in epochs. On the CPU it is
    the processor's time where that is less than what the clock says: other work on the machine does
    not count.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Fitted; it is not changed.
    data : TrainingRows
        The rows that are still there.
    method : type
        The method to time.
    params : dict
        Its parameters, without ``estimator``.
    forget : ndarray
        Row numbers to forget.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        If the method cannot be run on this net.
    """
    small, large = (_some_rows(unlearner, data, forget, count) for count in _BATCHES)
    first, last = _EPOCHS

    def shortest(rows: NDArray[np.int64], epochs: int) -> tuple[float, int]:
        runs: list[tuple[float, int]] = []
        # other work on the machine only ever adds time
        while len(runs) < _REPEATS and sum(seconds for seconds, _ in runs) < _LONG_ENOUGH:
            runs.append(_run(unlearner, data, method, params, rows, forget, epochs))
        return min(runs)

    # the first run of anything pays for what is set up once
    _run(unlearner, data, method, params, small, forget, first)
    (t_base, n_base), (t_epochs, n_epochs) = shortest(small, first), shortest(small, last)
    t_rows, _ = shortest(large, last)
    # a method that does not train in epochs passes over the rows once, whatever the net's are
    passes, epochs = (last, _n_epochs(unlearner, method, params)) if n_epochs > n_base else (1, 1)
    per_row = max(0.0, t_rows - t_epochs) / (passes * max(1, len(large) - len(small)))
    per_epoch = max(0.0, t_epochs - t_base, per_row * len(small)) if passes > 1 else t_base
    once = max(0.0, t_base - per_epoch)
    present = unlearner.remaining_idx_
    predicted = once + epochs * (per_epoch + per_row * (len(present) - len(small)))
    if predicted > _SHORT:
        return predicted
    return _run(unlearner, data, method, params, present, forget, None)[0]


def _n_epochs(unlearner: BaseUnlearner, method: type[BaseUnlearner], params: dict[str, Any]) -> int:
    own = method(**params)
    return int(getattr(own, "max_epochs", unlearner.net_.max_epochs))


def _some_rows(
    unlearner: BaseUnlearner, data: TrainingRows, forget: NDArray[np.int64], n_batches: int
) -> NDArray[np.int64]:
    """Return a few batches of rows with all groups that remain, in proportion."""
    batch = unlearner.net_.batch_size
    present = unlearner.remaining_idx_
    wanted = len(present) if batch in (-1, None) else min(len(present), n_batches * batch)
    rest = np.setdiff1d(present, forget)
    numbers = data.g[data.positions(rest)].numpy()
    _, first = np.unique(numbers, return_index=True)
    evenly = np.linspace(0, len(present) - 1, wanted).astype(np.int64)
    # a request of one row would be missed by picking evenly
    some = np.unique(np.concatenate([present[evenly], rest[first], forget[:1]]))
    if len(np.setdiff1d(some, forget)) < 2:
        some = np.union1d(some, rest[:2])
    return some


def _run(
    unlearner: BaseUnlearner,
    data: TrainingRows,
    method: type[BaseUnlearner],
    params: dict[str, Any],
    rows: NDArray[np.int64],
    forget: NDArray[np.int64],
    epochs: int | None,
) -> tuple[float, int]:
    """Return what a run takes, and of how many epochs its history tells."""
    new = np.intersect1d(rows, forget)
    changes: dict[str, Any] = {} if epochs is None else {"max_epochs": epochs}
    if epochs is not None:
        counts = {"max_epochs", "forget_epochs"} & set(method._get_param_names())
        params = {**params, **dict.fromkeys(counts, epochs)}
    probe = method(**params)
    probe._check_parameters()
    own = set(vars(probe))
    with isolated_rng(0, unlearner.net_.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # callbacks may write files; what they cost is not counted
        probe.net_ = fresh_net(
            unlearner.net_, callbacks="disable", verbose=0, train_split=None, **changes
        )
        for name, value in vars(unlearner).items():
            if name not in own and name not in ("net_", "_data"):
                setattr(probe, name, value)
        probe.estimator = FrozenEstimator(probe.net_)
        probe.remaining_idx_, probe.forget_idx_ = rows, np.empty(0, dtype=np.int64)
        numbers = data.g[data.positions(rows)].numpy()
        probe._group_counts = np.bincount(numbers, minlength=len(unlearner._group_counts))
        part = data.keep(rows)
        clocks = [perf_counter, process_time] if unlearner.net_.device == "cpu" else [perf_counter]
        n_before, start = len(probe.history_), [clock() for clock in clocks]
        probe._forget_rows(new, part)
        seconds = [clock() - began for clock, began in zip(clocks, start, strict=True)]
    return min(seconds), len(probe.history_) - n_before


def parameters_of(
    unlearner: BaseUnlearner, method: type[BaseUnlearner], can_reweight: bool
) -> dict[str, Any]:
    """Return the parameters to time a method with: the unlearner's own, if it is that method."""
    if type(unlearner) is method:
        params = clone(unlearner).get_params(deep=False)
        del params["estimator"]
    else:
        params = {}
        if "feature_layer" in method._get_param_names():
            params["feature_layer"] = getattr(unlearner, "feature_layer", None)
    if "reweight" in method._get_param_names() and not can_reweight:
        params["reweight"] = False
    params["random_state"] = 0
    return params
