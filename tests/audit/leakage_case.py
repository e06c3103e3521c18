"""A net that learns its rows by heart, so that attacks have something to find."""

import copy
from types import SimpleNamespace

import numpy as np
from conftest import make_net

from grmu_sk.audit import Interval, LeakageFinding, ReferenceModels

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
    kinds = {
        "forgotten": forget,
        "remaining": np.setdiff1d(training, forget),
        "nonmembers": np.arange(n_training, n_rows),
    }
    given = {kind: (X[rows], y[rows], a[rows]) for kind, rows in kinds.items()}
    return SimpleNamespace(X=X, y=y, a=a, training=training, forget=forget, **given)


def finding(verdict, power=0.8, auc=(0.5, 0.4, 0.6), attack="RMIA", rows="forgotten", group="all"):
    values = Interval(*auc), Interval(power), Interval(auc[0] - power)
    return LeakageFinding(attack, rows, group, 50, 50.0, *values, 0.95, verdict, "because", 8)


NO_LEAK = finding("no leak found")
LEAK = finding("leak", auc=(0.8, 0.7, 0.9), group="(1, 0)")
UNSURE = finding("inconclusive", power=0.51, group="(0, 0)")


def memorising_net():
    shape = {"module__n_features": 12, "module__hidden": (48,)}
    return make_net(**shape, max_epochs=30, lr=0.1, batch_size=16)


def fitted_references(case, **kwargs):
    given = {"n_models": N_MODELS, "remaining_per_group": 20, **kwargs}
    references = ReferenceModels(memorising_net(), **given)
    return references.fit(case.forgotten, case.remaining, case.nonmembers)


def before_and_after(case, method, seed=0, **kwargs):
    """Return the original model and the one that has forgotten."""
    unlearner = method(memorising_net(), random_state=seed, **kwargs)
    unlearner.fit(case.X[case.training], case.y[case.training], case.a[case.training])
    original = copy.deepcopy(unlearner)
    return original, unlearner.unlearn(case.forget)
