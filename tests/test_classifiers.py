"""Any scikit-learn classifier in the place of a net, and a plain torch module."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from catboost import CatBoostClassifier
from conftest import make_table
from lightgbm import LGBMClassifier
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import nn
from xgboost import XGBClassifier

from grmu_sk import (
    FineTuneUnlearner,
    MIUUnlearner,
    NoOpUnlearner,
    RetrainUnlearner,
    SISAUnlearner,
    SubsampleRetrainUnlearner,
)
from grmu_sk.audit import scan_residue
from grmu_sk.reweight import group_balance_weights

CLASSIFIERS = {
    "logistic regression": LogisticRegression(),
    "random forest": RandomForestClassifier(10),
    "gradient boosting": HistGradientBoostingClassifier(max_iter=10),
    "nearest neighbours": KNeighborsClassifier(),
    "naive Bayes": GaussianNB(),
    "pipeline": make_pipeline(StandardScaler(), LogisticRegression()),
    "xgboost": XGBClassifier(n_estimators=10, subsample=0.5, n_jobs=1),
    "lightgbm": LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1),
    "catboost": CatBoostClassifier(10, verbose=0, thread_count=1, allow_writing_files=False),
}
TAKE_NO_WEIGHTS = ("nearest neighbours",)
METHODS = {
    RetrainUnlearner: {},
    SubsampleRetrainUnlearner: {},
    SISAUnlearner: {"n_shards": 2},
    NoOpUnlearner: {},
}
ROWS = [3, 8, 21, 40]


@pytest.fixture
def data():
    return make_table(200)


def retrained(estimator, data, **options):
    unlearner = RetrainUnlearner(estimator, random_state=0, **options)
    return unlearner.fit(data.X, data.y, data.a)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_forget(data, name, method):
    unlearner = method(CLASSIFIERS[name], random_state=0, **METHODS[method])
    unlearner.fit(data.X, data.y, data.a)
    before = unlearner.predict_proba(data.X)
    unlearner.unlearn(ROWS)
    after = unlearner.predict_proba(data.X)
    assert (before == after).all() == (method is NoOpUnlearner)
    assert unlearner.score(data.X, data.y) > 0.6
    assert unlearner.forget_idx_.tolist() == ROWS and len(unlearner.training_rows().X) == 196
    copied = pickle.loads(pickle.dumps(unlearner))
    assert (copied.predict_proba(data.X) == after).all()
    assert not hasattr(clone(copied), "estimator_")
    if method is RetrainUnlearner:
        how = "draws" if name in TAKE_NO_WEIGHTS else "sample_weight"
        assert unlearner.reweighted_by_ == how
        again = method(CLASSIFIERS[name], random_state=0)
        again.fit(data.X, data.y, data.a, forget=np.isin(np.arange(200), ROWS))
        assert unlearner.history_[:, "phase"] == ["fit", "retrain"]
        assert again.history_[:, "phase"] == ["retrain"], "nothing is trained twice"
        np.testing.assert_array_equal(again.predict_proba(data.X), after)


def test_gold_is_the_classifier_fitted_by_hand(data):
    """Also the steps before it are fitted to what remains, and weights of the user multiply."""
    weight = np.linspace(1, 2, 200)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    gold = RetrainUnlearner(pipeline, random_state=0)
    gold.fit(data.X, data.y, data.a, sample_weight=weight).unlearn(ROWS)
    kept = np.delete(np.arange(200), ROWS)
    groups = 2 * data.y + data.a
    p = group_balance_weights(np.bincount(groups, minlength=4), groups[kept])
    weights = len(kept) * p * weight[kept]
    expected = clone(pipeline).fit(
        data.X[kept], data.y[kept], logisticregression__sample_weight=weights.astype(np.float32)
    )
    np.testing.assert_allclose(gold.predict_proba(data.X), expected.predict_proba(data.X), 1e-4)
    scaler = gold.estimator_[0]
    np.testing.assert_allclose(scaler.mean_, data.X[kept].mean(axis=0), rtol=1e-6)


def test_drawing_agrees_with_weighting_in_expectation(data):
    forget = np.flatnonzero((data.y == 1) & (data.a == 1))[::2]
    kept = np.setdiff1d(np.arange(200), forget)
    groups = 2 * data.y + data.a
    p = group_balance_weights(np.bincount(groups, minlength=4), groups[kept])
    numbers = np.arange(200)[:, None]
    mean = np.zeros(200)
    for seed in range(100):
        unlearner = RetrainUnlearner(KNeighborsClassifier(), random_state=seed)
        unlearner.fit(numbers, data.y, data.a, forget=np.isin(numbers[:, 0], forget))
        drawn = unlearner.estimator_._fit_X[:, 0].astype(int)  # it learns by keeping its rows
        mean += np.bincount(drawn, minlength=200) / 100
    assert (mean[forget] == 0).all()
    error = np.sqrt(len(kept) * p / 100)  # of a mean of 100 counts
    assert (np.abs(mean[kept] - len(kept) * p) < 5 * error).all()


def test_nothing_of_forgotten_rows_stays(data):
    """Neighbours are the training rows themselves; what was given fitted is given back unfitted."""
    given = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(data.X, data.y)
    for estimator in (given, FrozenEstimator(given)):
        unlearner = retrained(estimator, data)
        assert scan_residue(unlearner, data.X[ROWS]).verdict != "clean"
        unlearner.unlearn(ROWS)
        scaled = given[0].transform(data.X[ROWS])
        for rows in (data.X[ROWS], scaled):
            assert scan_residue(unlearner, rows).verdict == "clean"
    before = retrained(FrozenEstimator(given), data)
    assert (before.predict(data.X) == given.predict(data.X)).all(), "a frozen one is taken as it is"


def test_tables_texts_and_sparse_inputs(data):
    frame = pd.DataFrame({"x": data.X[:, 0], "job": np.where(data.a, "smith", None)})
    encoder = make_column_transformer((OneHotEncoder(), ["job"]), remainder="passthrough")
    pipeline = make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=5))
    unlearner = RetrainUnlearner(pipeline, random_state=0, store_data=False)
    unlearner.fit(frame, data.y, data.a)
    changed = frame.assign(x=frame["x"] + 1)
    with pytest.raises(ValueError, match="X differ"):
        unlearner.unlearn(ROWS, X=changed, y=data.y, groups=data.a)
    unlearner.unlearn(ROWS, X=frame, y=data.y, groups=data.a)
    stored = RetrainUnlearner(pipeline, random_state=0).fit(frame, data.y, data.a).unlearn(ROWS)
    assert (stored.predict_proba(frame) == unlearner.predict_proba(frame)).all()
    pd.testing.assert_frame_equal(stored.training_rows().X, frame.drop(index=ROWS))
    texts = [f"row {'good' if label else 'bad'}" for label in data.y]
    words = make_pipeline(TfidfVectorizer(), LogisticRegression())
    for estimator, X in ((words, texts), (LogisticRegression(), csr_array(data.X))):
        unlearner = RetrainUnlearner(estimator, random_state=0).fit(X, data.y, data.a)
        assert unlearner.unlearn(ROWS).score(X, data.y) > 0.6


FROZEN = FrozenEstimator(StandardScaler())
THRESHOLD = FixedThresholdClassifier(LogisticRegression(), threshold=0.9, pos_label=0)


@pytest.mark.parametrize(
    ("method", "estimator", "message"),
    [
        (MIUUnlearner, LogisticRegression(), "RetrainUnlearner or SISAUnlearner"),
        (RetrainUnlearner, RidgeClassifier(), "CalibratedClassifierCV"),
        (RetrainUnlearner, make_pipeline(LogisticRegression(), memory="folder"), "memory keeps"),
        (RetrainUnlearner, make_pipeline(FROZEN, LogisticRegression()), "is frozen"),
        (RetrainUnlearner, THRESHOLD, "not those that its probabilities say"),
        (SISAUnlearner, FrozenEstimator(LogisticRegression()), "cannot take over"),
    ],
)
def test_what_cannot_forget_is_refused(data, method, estimator, message):
    with pytest.raises((TypeError, ValueError), match=message):
        method(estimator).fit(data.X, data.y, data.a)


@pytest.mark.parametrize(
    "estimator", [LogisticRegression(), HistGradientBoostingClassifier(max_iter=20)]
)
def test_scikit_learns_checks(estimator):
    check_estimator(RetrainUnlearner(estimator, reweight=False, random_state=0), on_skip=None)


def test_a_torch_module(data):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with torch.no_grad():
        expected = module(torch.from_numpy(data.X).float()).argmax(1).numpy()
    taken = FineTuneUnlearner(FrozenEstimator(module), max_epochs=2, random_state=0)
    taken.fit(data.X, expected, data.a)
    assert (taken.predict(data.X) == expected).all(), "a trained one is taken as it is"
    trained = FineTuneUnlearner(module, random_state=0).fit(data.X, data.y, data.a)
    assert trained.unlearn(ROWS).score(data.X, data.y) > 0.7
