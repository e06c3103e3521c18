"""Scorers: their values against the metrics, their errors, and how they are routed."""

import pickle

import numpy as np
import pytest
import torch
from conftest import make_net, make_table
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier
from torch import nn

from grmu_sk import FineTuneUnlearner, NoOpUnlearner, RetrainUnlearner, scorers
from grmu_sk.metrics import SplitPredictions as Split
from grmu_sk.metrics import average_gap_score, evaluate_predictions
from grmu_sk.model_selection import UnlearningStratifiedKFold, cross_validate_unlearning
from grmu_sk.scorers import avg_gap_scorer, eo_scorer, ga_scorer, mia_scorer, row_distance_scorer

pytestmark = pytest.mark.usefixtures("quick_attack")

FORGET = [40, 41, 50, 62, 63]
NAMES = ("dp", "eo", "ep", "ga", "mia", "mia_balanced", "ra", "ta", "ua", "wg")


def make(cls=FineTuneUnlearner, **kwargs):
    given = {"estimator": make_net(max_epochs=2), "random_state": 0, "keep_forgotten": True}
    return cls(**{**given, **kwargs})


def one_group(table):
    """A mask of rows to forget, all of the group (1, 1)."""
    rows = np.flatnonzero((table.y == 1) & (table.a == 1))[::5]
    return np.isin(np.arange(table.n), rows)


def expected(unlearner, table, test):
    """All metrics, from nothing but ``predict_proba``."""

    def split(table, rows, groups=None):
        return Split(table.y[rows], unlearner.predict_proba(table.X[rows]), groups)

    on_test = split(test, slice(None), test.a)
    pairs = [*map(tuple, np.unique(np.c_[table.y, table.a][FORGET], axis=0).tolist())]
    return evaluate_predictions(
        classes=[0, 1],
        remaining=split(table, np.setdiff1d(np.arange(table.n), FORGET)),
        forget=split(table, FORGET),
        test=on_test,
        holdout=on_test,
        forget_groups=pairs,
    )


@pytest.fixture(scope="module")
def scene():
    table, test = make_table(), make_table(seed=1)
    unlearner = make().fit(table.X, table.y, table.a).unlearn(FORGET)
    return unlearner, table, test


def test_every_scorer_is_its_metric_with_the_sign_that_makes_greater_better(scene):
    unlearner, table, test = scene
    values = expected(unlearner, table, test)
    assert len(set(values.values())) > 5, "the metrics differ, so that a mix-up is noticed"
    for name in NAMES:
        score = getattr(scorers, f"{name}_scorer")(unlearner, test.X, test.y, groups=test.a)
        value = values["MIA_balanced" if name == "mia_balanced" else name.upper()]
        sign = -1 if name in ("dp", "eo", "ep") else 1
        assert score == pytest.approx(sign * value, abs=1e-12), name
    without_groups = make().fit(table.X, table.y)
    assert 0 <= scorers.wg_scorer(without_groups, table.X, table.y, groups=table.a) <= 1


def test_labels_are_those_of_predict_with_its_threshold(table):
    net = NeuralNetBinaryClassifier(
        make_net().module,
        module__n_features=4,
        module__n_classes=1,
        criterion=nn.BCEWithLogitsLoss,
        threshold=0.8,
        max_epochs=2,
        lr=0.5,
        train_split=None,
        verbose=0,
    )
    mask = one_group(table)
    unlearner = make(NoOpUnlearner, estimator=net).fit(table.X, table.y, table.a, forget=mask)
    correct = unlearner.predict(table.X) == table.y
    assert scorers.ra_scorer(unlearner, table.X, table.y) == pytest.approx(correct[~mask].mean())
    most_probable = unlearner.predict_proba(table.X).argmax(axis=1)
    assert correct.mean() != np.mean(most_probable == table.y), "the test can fail"
    rows = (table.X, table.y, table.a, mask)
    everything = [(np.arange(table.n), np.arange(table.n))]
    folds = cross_validate_unlearning({"m": unlearner}, *rows, cv=everything, metrics=["TA"])
    assert folds["value"].tolist() == [correct.mean()]


REFUSED = [
    (ga_scorer, {"forget": None}, "forgotten none"),
    (mia_scorer, {"keep_forgotten": False}, "has dropped the"),
    (ga_scorer, {"a": None}, "needs groups.*enable_metadata_routing"),
    (eo_scorer, {"groups": False}, "was fitted without"),
    (ga_scorer, {"a": np.arange(160)}, "values that fit has not seen.*set_score_request"),
]


@pytest.mark.parametrize(("scorer", "change", "match"), REFUSED)
def test_refused(table, scorer, change, match):
    change = {"a": table.a, "forget": FORGET, "groups": True, **change}
    unlearner = make(keep_forgotten=change.get("keep_forgotten", True))
    unlearner.fit(table.X, table.y, table.a if change["groups"] else None)
    if change["forget"]:
        unlearner.unlearn(change["forget"])
    with pytest.raises(ValueError, match=match):
        scorer(unlearner, table.X, table.y, groups=change["a"])


# the average gap ---------------------------------------------------------------------------------


@pytest.fixture
def count_fits(spy):
    """Row counts of every ``fit`` of RetrainUnlearner."""
    return spy(RetrainUnlearner, "fit", lambda result, self, X, *args, **kwargs: len(X))


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
    odds = []
    for model in (unlearner, by_hand):
        proba = model.predict_proba(table.X[FORGET])
        own = proba[np.arange(len(FORGET)), table.y[FORGET]]
        odds.append(np.log(own) - np.log(proba.sum(axis=1) - own))
    score = row_distance_scorer(gold)(unlearner, test.X, test.y, groups=test.a)
    assert score == pytest.approx(-np.sqrt(np.mean((odds[0] - odds[1]) ** 2)), rel=1e-4)


@config_context(enable_metadata_routing=True)
def test_gold_is_trained_once_a_fold_for_all_candidates(table, count_fits):
    GridSearchCV(
        make(),
        {"max_epochs": [1, 2]},
        scoring=avg_gap_scorer(make(RetrainUnlearner)),
        cv=UnlearningStratifiedKFold(2),
        refit=False,
        error_score="raise",
    ).fit(table.X, table.y, groups=table.a, forget=one_group(table))
    assert count_fits == [80, 80]


def test_what_makes_gold_train_again_and_what_is_remembered(scene, count_fits, monkeypatch):
    unlearner, table, test = scene
    net = make_net(max_epochs=1)
    monkeypatch.setattr(scorers, "AVERAGE_GAP_METRICS", ())  # which take time
    scorer = row_distance_scorer(make(RetrainUnlearner, estimator=net))

    def n_trained(scorer=scorer, unlearner=unlearner, y=test.y, a=test.a):
        before = len(count_fits)
        scorer(unlearner, test.X, y, groups=a)
        return len(count_fits) - before

    def refit(X=table.X, a=table.a, forget=FORGET):
        return make(NoOpUnlearner, estimator=net).fit(X, table.y, a).unlearn(forget)

    assert n_trained() == 1
    assert n_trained() == n_trained(pickle.loads(pickle.dumps(scorer))) == 0
    assert n_trained(unlearner=refit()) == 0, "another method with the same rows"
    changed = table.X.copy()
    changed[0, 0] += 1
    others = refit(forget=FORGET[:4]), refit(X=changed), refit(a=np.roll(table.a, 1))
    assert [n_trained(unlearner=other) for other in others] == [1, 1, 1]
    assert n_trained(y=np.roll(test.y, 1)) == n_trained(a=np.roll(test.a, 1)) == 1
    without_seed = row_distance_scorer(make(RetrainUnlearner, estimator=net, random_state=None))
    assert n_trained(without_seed) == 1 and n_trained(without_seed) == 0, "one seed for all folds"
    blob = pickle.dumps([scorer, scorers._gold_answers])
    assert table.X[FORGET[0]].tobytes() not in blob and len(blob) < 20_000


@config_context(enable_metadata_routing=True)
def test_gold_takes_data_sets_and_is_the_last_step_of_a_pipeline(table, scene):
    unlearner, _, test = scene
    scorer = row_distance_scorer(make(RetrainUnlearner))
    X, X_test = (
        torch.utils.data.TensorDataset(torch.from_numpy(X), torch.zeros(len(X)))
        for X in (table.X, test.X)
    )
    other = make().fit(X, table.y, table.a).unlearn(FORGET)
    reference = scorer(unlearner, test.X, test.y, groups=test.a)
    assert scorer(other, X_test, test.y, groups=test.a) == pytest.approx(reference, abs=1e-3)
    scored = make_pipeline(StandardScaler(), make())
    scored.fit(table.X, table.y, groups=table.a, forget=one_group(table))
    pipe = make_pipeline(StandardScaler(), make(RetrainUnlearner))
    one, same = (
        row_distance_scorer(gold)(scored, test.X, test.y, groups=test.a)
        for gold in (pipe, pipe[-1])
    )
    assert one == same
