"""Scorers: their values against the metrics, their errors, and how they are routed."""

import copy
import pickle

import numpy as np
import pytest
import torch
from conftest import make_net, make_table
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier
from torch import nn

from grmu_sk import FineTuneUnlearner, NoOpUnlearner, RetrainUnlearner, scorers
from grmu_sk.metrics import SplitPredictions as Split
from grmu_sk.metrics import average_gap_score, equalized_odds_gap, evaluate_predictions
from grmu_sk.model_selection import UnlearningStratifiedKFold
from grmu_sk.scorers import (
    avg_gap_scorer,
    eo_scorer,
    ga_scorer,
    get_unlearning_scorer,
    get_unlearning_scorer_names,
    mia_scorer,
    ra_scorer,
    ta_scorer,
    ua_scorer,
    wg_scorer,
)

FORGET = [40, 41, 50, 62, 63]
NAMES = {
    "dp": ("DP", -1),
    "eo": ("EO", -1),
    "ep": ("EP", -1),
    "ga": ("GA", 1),
    "mia": ("MIA", 1),
    "mia_balanced": ("MIA_balanced", 1),
    "ra": ("RA", 1),
    "ta": ("TA", 1),
    "ua": ("UA", 1),
    "wg": ("WG", 1),
}
routing = pytest.mark.usefixtures("_routing")


@pytest.fixture
def _routing():
    with config_context(enable_metadata_routing=True):
        yield


def make(cls=FineTuneUnlearner, **kwargs):
    return cls(**{"estimator": make_net(), "random_state": 0, "keep_forgotten": True, **kwargs})


def one_group(table):
    """A mask of rows to forget, all of the group (1, 1)."""
    rows = np.flatnonzero((table.y == 1) & (table.a == 1))[::5]
    return np.isin(np.arange(table.n), rows)


def expected(unlearner, table, test, forget=FORGET):
    """All metrics, from nothing but ``predict_proba``."""

    def split(rows, groups=None):
        return Split(table.y[rows], unlearner.predict_proba(table.X[rows]), groups)

    stay = np.setdiff1d(np.arange(table.n), forget)
    on_test = Split(test.y, unlearner.predict_proba(test.X), test.a)
    pairs = sorted(set(zip(table.y[forget].tolist(), table.a[forget].tolist(), strict=True)))
    return evaluate_predictions(
        classes=[0, 1],
        remaining=split(stay),
        forget=split(forget),
        test=on_test,
        holdout=on_test,
        forget_groups=pairs,
    )


@pytest.fixture(scope="module")
def scene():
    table, test = make_table(), make_table(seed=1)
    unlearner = make().fit(table.X, table.y, table.a).unlearn(FORGET)
    return unlearner, table, test


# --- values -------------------------------------------------------------------------------------


def test_every_scorer_is_its_metric_with_the_sign_that_makes_greater_better(scene):
    unlearner, table, test = scene
    assert get_unlearning_scorer_names() == sorted(NAMES)
    values = expected(unlearner, table, test)
    assert len(set(values.values())) > 5, "the metrics differ, so that a mix-up is noticed"
    for name, (metric, sign) in NAMES.items():
        score = get_unlearning_scorer(name)(unlearner, test.X, test.y, groups=test.a)
        assert type(score) is float
        assert score == pytest.approx(sign * values[metric], abs=1e-12), name


def test_weights_of_test_rows_count(scene):
    unlearner, _, test = scene
    weight = np.random.default_rng(0).random(test.n)
    pairs = unlearner.forget_groups_
    score = eo_scorer(unlearner, test.X, test.y, groups=test.a, sample_weight=weight)
    by_hand = equalized_odds_gap(
        test.y, unlearner.predict(test.X), groups=test.a, forget_groups=pairs, sample_weight=weight
    )
    assert score == pytest.approx(-by_hand, rel=1e-13)
    assert score != eo_scorer(unlearner, test.X, test.y, groups=test.a)


def test_training_rows_are_labelled_as_predict_does(table):
    net = NeuralNetBinaryClassifier(
        make_net().module,
        module__n_features=4,
        module__n_classes=1,
        criterion=nn.BCEWithLogitsLoss,
        threshold=0.9,
        max_epochs=2,
        lr=0.5,
        train_split=None,
        verbose=0,
    )
    unlearner = make(estimator=net).fit(table.X, table.y, table.a).unlearn(FORGET)
    stay = unlearner.remaining_idx_
    correct = np.mean(unlearner.predict(table.X[stay]) == table.y[stay])
    assert ra_scorer(unlearner, table.X, table.y) == pytest.approx(correct)


# --- errors -------------------------------------------------------------------------------------

GOLD = avg_gap_scorer(make(RetrainUnlearner))


def kept(table, groups=True, forget=FORGET, **kwargs):
    unlearner = make(**kwargs).fit(table.X, table.y, table.a if groups else None)
    return unlearner.unlearn(forget) if forget else unlearner


REFUSED = [
    *((get_unlearning_scorer(name), {"forget": None}, "forgotten none") for name in ("ga", "ua")),
    *((s, {"keep_forgotten": False}, "has dropped the") for s in (ua_scorer, mia_scorer, GOLD)),
    *((s, {"a": None}, "needs groups.*enable_metadata_routing") for s in (ga_scorer, wg_scorer)),
    (eo_scorer, {"groups": False}, "was fitted without groups"),
    (ga_scorer, {"a": np.arange(160)}, "values that fit has not seen.*set_score_request"),
    (ga_scorer, {"estimator": LogisticRegression()}, "needs an unlearner, a Pipeline whose last"),
    (ta_scorer, {"estimator": make()}, "not fitted"),
    (mia_scorer, {"sample_weight": np.ones(160)}, "mia_scorer looks at training rows"),
]


@pytest.mark.parametrize(("scorer", "change", "match"), REFUSED)
def test_refused(table, scorer, change, match):
    change = dict(change)
    a, estimator = change.pop("a", table.a), change.pop("estimator", None)
    weight = change.pop("sample_weight", None)
    estimator = estimator or kept(table, **change)
    with pytest.raises((NotFittedError, TypeError, ValueError), match=match):
        scorer(estimator, table.X, table.y, groups=a, sample_weight=weight)


def test_worst_group_needs_no_groups_in_fit(table):
    score = wg_scorer(kept(table, groups=False), table.X, table.y, groups=table.a)
    assert 0 <= score <= 1
    with pytest.raises(ValueError, match=r"'xx' is not the name.*'dp', .*avg_gap_scorer\(gold="):
        get_unlearning_scorer("xx")


# --- routing ------------------------------------------------------------------------------------


def test_requests_can_be_changed_on_a_copy_only_with_routing():
    scorer = get_unlearning_scorer("ga")
    with pytest.raises(RuntimeError, match="only available when metadata routing is enabled"):
        scorer.set_score_request(groups="attr")
    with config_context(enable_metadata_routing=True):
        assert scorer.set_score_request(groups="attr") is scorer
        with pytest.raises(ValueError, match="valid identifier"):
            scorer.set_score_request(groups="not valid")
    assert scorer.get_metadata_routing().score.requests["groups"] == "attr"
    assert ga_scorer.get_metadata_routing().score.requests["groups"] is True
    assert pickle.loads(pickle.dumps(scorer)).get_metadata_routing().score.requests == (
        scorer.get_metadata_routing().score.requests
    )


@routing
def test_cross_validate_scores_each_fold_as_by_hand(table):
    mask, pipe = one_group(table), make_pipeline(StandardScaler(), make())
    folds = list(UnlearningStratifiedKFold(2).split(table.X, table.y, table.a, mask))
    scoring = {name: get_unlearning_scorer(name) for name in ("ga", "ua", "ta")}
    params = {"groups": table.a, "forget": mask}
    found = cross_validate(pipe, table.X, table.y, params=params, scoring=scoring, cv=folds)
    for i, (train, test) in enumerate(folds):
        fitted = clone(pipe).fit(
            table.X[train], table.y[train], groups=table.a[train], forget=mask[train]
        )
        pred, in_group = fitted.predict(table.X[test]), (table.y[test] == 1) & (table.a[test] == 1)
        assert found["test_ga"][i] == pytest.approx(pred[in_group].mean())
        assert found["test_ta"][i] == pytest.approx(np.mean(pred == table.y[test]))
        forgotten = train[mask[train]]
        assert found["test_ua"][i] == pytest.approx(fitted.predict(table.X[forgotten]).mean())


# --- the average gap ----------------------------------------------------------------------------


@pytest.fixture
def count_fits(monkeypatch):
    """Row counts of every ``fit`` of RetrainUnlearner."""
    fits, fit = [], RetrainUnlearner.fit

    def counted(self, X, *args, **kwargs):
        fits.append(len(X))
        return fit(self, X, *args, **kwargs)

    monkeypatch.setattr(RetrainUnlearner, "fit", counted)
    return fits


def test_average_gap_is_that_of_a_gold_trained_by_hand(scene):
    unlearner, table, test = scene
    gold = make(RetrainUnlearner, random_state=7)
    by_hand = clone(gold).fit(table.X, table.y, table.a).unlearn(FORGET)
    values = (expected(u, table, test) for u in (unlearner, by_hand))
    score = avg_gap_scorer(gold)(unlearner, test.X, test.y, groups=test.a)
    assert score == pytest.approx(average_gap_score(*values), abs=1e-12)
    assert 0 < score < 1
    assert not hasattr(gold, "net_")
    assert avg_gap_scorer(clone(unlearner))(unlearner, test.X, test.y, groups=test.a) == 1


@routing
def test_gold_is_trained_once_a_fold_for_all_candidates(table, count_fits):
    mask = one_group(table)
    search = GridSearchCV(
        make(),
        {"max_epochs": [1, 2]},
        scoring=avg_gap_scorer(make(RetrainUnlearner)),
        cv=UnlearningStratifiedKFold(2),
        refit=False,
        error_score="raise",
    ).fit(table.X, table.y, groups=table.a, forget=mask)
    assert count_fits == [80, 80]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_what_makes_gold_train_again(scene, count_fits):
    unlearner, table, test = scene
    scorer = avg_gap_scorer(make(RetrainUnlearner))

    def n_trained(scorer=scorer, unlearner=unlearner, y=test.y, a=test.a):
        before = len(count_fits)
        scorer(unlearner, test.X, y, groups=a)
        return len(count_fits) - before

    def refit(X=table.X, a=table.a, forget=FORGET):
        return make().fit(X, table.y, a).unlearn(forget)

    assert n_trained() == 1
    assert n_trained() == n_trained(copy.deepcopy(scorer)) == 0
    assert n_trained(pickle.loads(pickle.dumps(scorer))) == 0
    assert n_trained(unlearner=refit()) == 0
    other_method = make(NoOpUnlearner).fit(table.X, table.y, table.a).unlearn(FORGET)
    assert n_trained(unlearner=other_method) == 0
    assert n_trained(unlearner=refit(forget=FORGET[:4])) == 1
    changed = table.X.copy()
    changed[0, 0] += 1
    assert n_trained(unlearner=refit(X=changed)) == 1
    assert n_trained(unlearner=refit(a=np.roll(table.a, 1))) == 1
    assert n_trained(y=np.roll(test.y, 1)) == 1
    assert n_trained(a=np.roll(test.a, 1)) == 1
    assert n_trained(avg_gap_scorer(make(RetrainUnlearner, random_state=1))) == 1
    without_seed = avg_gap_scorer(make(RetrainUnlearner, random_state=None))
    assert n_trained(without_seed) == 1 and n_trained(without_seed) == 0, "one seed for all folds"


def test_no_row_and_no_weight_is_remembered(scene):
    unlearner, table, test = scene
    scorer = avg_gap_scorer(make(RetrainUnlearner))
    scorer(unlearner, test.X, test.y, groups=test.a)
    blob = pickle.dumps([scorer, scorers._gold_metrics])
    assert table.X[FORGET[0]].tobytes() not in blob
    assert len(blob) < 20_000


@pytest.mark.parametrize("kind", ["dataset", "memory map"])
def test_other_kinds_of_inputs(scene, kind, tmp_path):
    unlearner, table, test = scene

    def convert(X, name):
        if kind == "dataset":
            return torch.utils.data.TensorDataset(torch.from_numpy(X), torch.zeros(len(X)))
        np.save(tmp_path / name, X)
        return np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    scorer = avg_gap_scorer(make(RetrainUnlearner))
    reference = scorer(unlearner, test.X, test.y, groups=test.a)
    X, X_test = convert(table.X, "train"), convert(test.X, "test")
    other = make().fit(X, table.y, table.a).unlearn(FORGET)
    assert scorer(other, X_test, test.y, groups=test.a) == pytest.approx(reference, abs=1e-3)


def test_gold_is_the_last_step_of_a_pipeline(table, scene, _routing):
    with pytest.raises(TypeError, match="needs an unlearner"):
        avg_gap_scorer(make_pipeline(StandardScaler(), LogisticRegression()))
    unlearner, _, test = scene
    pipe = make_pipeline(StandardScaler(), make(RetrainUnlearner))
    rows = (test.X, test.y)
    with pytest.raises(ValueError, match="what is scored is none"):
        avg_gap_scorer(pipe)(unlearner, *rows, groups=test.a)
    scored = make_pipeline(StandardScaler(), make())
    scored.fit(table.X, table.y, groups=table.a, forget=one_group(table))
    one, other = (avg_gap_scorer(gold)(scored, *rows, groups=test.a) for gold in (pipe, pipe[-1]))
    assert one == other
