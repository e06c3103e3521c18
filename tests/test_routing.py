"""The interface as the design writes it: with metadata routing, without, and with aliases."""

from contextlib import nullcontext

import numpy as np
import pytest
import sklearn
from conftest import make_net, same_weights
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.scorers import (
    avg_gap_scorer,
    eo_scorer,
    ga_scorer,
    mia_scorer,
)

SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "random_state": 0}


@pytest.fixture
def mask(table):
    return np.isin(np.arange(table.n), np.flatnonzero((table.y == 1) & (table.a == 1))[::5])


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def miu(**kwargs):
    return MIUUnlearner(make_net(), **SHORT, **kwargs)


def scoring(gold):
    return {"ga": ga_scorer, "eo": eo_scorer, "mia": mia_scorer, "avg_gap": avg_gap_scorer(gold)}


@pytest.mark.parametrize("name", ["groups", "miuunlearner__groups"])
def test_pipeline_gives_the_groups_to_the_unlearner(table, name):
    pipe = make_pipeline(StandardScaler(), miu())
    with sklearn.config_context(enable_metadata_routing=name == "groups"):
        pipe.fit(table.X, table.y, **{name: table.a})
    pipe[-1].unlearn([40, 41])
    by_hand = miu().fit(StandardScaler().fit_transform(table.X), table.y, table.a)
    assert same_weights(pipe[-1], by_hand.unlearn([40, 41]))


@pytest.mark.parametrize("keep", [True, False])
def test_cross_validate(table, mask, keep, routing, quick_attack):
    """By default no forgotten row is left to score; the other scores do not suffer."""
    pipe = make_pipeline(StandardScaler(), miu(keep_forgotten=keep))
    with nullcontext() if keep else pytest.warns(UserWarning, match="keep_forgotten=True"):
        found = cross_validate(
            pipe,
            table.X,
            table.y,
            params={"groups": table.a, "forget": mask},
            scoring=scoring(RetrainUnlearner(make_net())),
            cv=2,
            return_estimator=True,
        )
    for name in scoring(miu()):
        assert np.isfinite(found[f"test_{name}"]).all() == (keep or name in ("ga", "eo"))
    n_forgotten = [len(fitted[-1].forget_idx_) for fitted in found["estimator"]]
    assert sum(n_forgotten) == mask.sum(), "with two folds each row is trained on once"
