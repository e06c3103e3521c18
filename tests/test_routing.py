"""The interface as the design writes it: with metadata routing, without, and with aliases."""

from contextlib import nullcontext

import numpy as np
import pytest
import sklearn
from conftest import make_net, same_weights
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from grmu_sk import MIUUnlearner, RetrainUnlearner
from grmu_sk.model_selection import UnlearningStratifiedKFold
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
def test_cross_validate(table, mask, keep, routing):
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


def test_grid_search(table, mask, routing):
    search = GridSearchCV(
        miu(),
        {"lam": [1, 10], "estimator__lr": [0.01, 0.1]},
        scoring={"ga": ga_scorer, "eo": eo_scorer},
        refit="ga",
        cv=UnlearningStratifiedKFold(2),
        error_score="raise",
    ).fit(table.X, table.y, groups=table.a, forget=mask)
    assert len(search.cv_results_["params"]) == 4
    assert len(set(search.cv_results_["mean_test_eo"])) > 1, "the parameters reach the net"
    best = search.best_estimator_
    assert best.forget_idx_.tolist() == np.flatnonzero(mask).tolist()
    assert best.net_.lr == search.best_params_["estimator__lr"]
    assert ga_scorer(search, table.X, table.y, groups=table.a) >= 0


def test_alias_beside_group_k_fold(table, mask, routing):
    subjects = np.arange(table.n) // 4
    ga = clone(ga_scorer).set_score_request(groups="attr")
    given = miu().set_fit_request(groups="attr"), table.X, table.y
    params = {"groups": subjects, "attr": table.a, "forget": mask}
    how = {"params": params, "cv": GroupKFold(2), "error_score": "raise"}
    returned = {"return_estimator": True, "return_indices": True}
    found = cross_validate(*given, scoring={"ga": ga}, **how, **returned)
    train, test = found["indices"]["train"][0], found["indices"]["test"][0]
    assert not set(subjects[train]) & set(subjects[test])
    fitted = found["estimator"][0]
    assert same_weights(
        fitted, miu().fit(table.X[train], table.y[train], table.a[train], forget=mask[train])
    )
    with pytest.raises(ValueError, match=r"fit has not seen.*set_score_request\(groups=.attr"):
        cross_val_score(*given, scoring=ga_scorer, **how)
