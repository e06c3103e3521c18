"""A net that learns its rows by heart, so that attacks have something to find."""

import copy
from types import SimpleNamespace

import numpy as np
from conftest import make_net

from grmu_sk.audit import ReferenceModels

N_MODELS = 8


def memorised_rows(seed=0, n_training=160, n_unseen=240):
    """Rows whose labels are mostly noise, so that only a row that was seen is known."""
    rng = np.random.default_rng(seed)
    n_rows = n_training + n_unseen
    X = rng.normal(size=(n_rows, 12)).astype(np.float32)
    a = rng.integers(2, size=n_rows)
    y = (X[:, 0] + 2 * rng.normal(size=n_rows) > 0).astype(int)
    training = np.arange(n_training)
    wanted = np.flatnonzero((y[training] == 1) & (a[training] == 0))
    others = np.flatnonzero((y[training] == 0) & (a[training] == 1))
    forget = np.sort(np.concatenate([wanted[: len(wanted) // 2 + 8], others[:12]]))

    def rows(which):
        return X[which], y[which], a[which]

    return SimpleNamespace(
        rows=rows,
        X=X,
        y=y,
        a=a,
        training=training,
        forget=forget,
        forgotten=rows(forget),
        remaining=rows(np.setdiff1d(training, forget)),
        nonmembers=rows(np.arange(n_training, n_rows)),
    )


def memorising_net():
    return make_net(
        module__n_features=12, module__hidden=(48,), max_epochs=30, lr=0.1, batch_size=16
    )


def fitted_references(case, **kwargs):
    given = {"n_models": N_MODELS, "remaining_per_group": 20, **kwargs}
    references = ReferenceModels(memorising_net(), **given)
    return references.fit(case.forgotten, case.remaining, case.nonmembers)


def before_and_after(case, method, seed=0, **kwargs):
    """Return the original model and the one that has forgotten."""
    unlearner = method(memorising_net(), random_state=seed, **kwargs)
    unlearner.fit(*case.rows(case.training))
    original = copy.deepcopy(unlearner)
    return original, unlearner.unlearn(case.forget)
