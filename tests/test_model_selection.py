"""Folds that keep groups and forget set together, and comparisons over them."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net, make_table
from scipy.sparse import coo_array
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning, UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier

from grmu_sk import FineTuneUnlearner, NoOpUnlearner, RetrainUnlearner
from grmu_sk.metrics import group_accuracy_score
from grmu_sk.model_selection import UnlearningStratifiedKFold, cross_validate_unlearning
from grmu_sk.scorers import avg_gap_scorer, get_unlearning_scorer, ta_scorer


def make(cls=FineTuneUnlearner, **kwargs):
    return cls(make_net(), **kwargs)


def forget_mask(table, n_forget=12):
    rows = np.flatnonzero((table.y == 1) & (table.a == 1))[:n_forget]
    return np.isin(np.arange(table.n), rows)


def fitted_by_hand(table, mask, train, **kwargs):
    rows = table.X[train], table.y[train], table.a[train]
    return make(**kwargs).fit(*rows, forget=mask[train])


def strata(table, mask):
    return 4 * table.y + 2 * table.a + mask


# --- folds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_splits", "shuffle"), [(2, True), (3, False), (5, True)])
def test_every_fold_keeps_the_proportions(table, n_splits, shuffle):
    mask = forget_mask(table)
    splitter = UnlearningStratifiedKFold(
        n_splits, shuffle=shuffle, random_state=0 if shuffle else None
    )
    folds = list(splitter.split(table.X, table.y, table.a, mask))
    assert len(folds) == n_splits == splitter.get_n_splits()
    tested = np.concatenate([test for _, test in folds])
    assert sorted(tested) == list(range(table.n))
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(table.n))
        assert np.array_equal(train, np.sort(train)) and np.array_equal(test, np.sort(test))
        for numbers in (strata(table, mask), 2 * table.y + table.a, table.y, np.zeros_like(mask)):
            total = np.bincount(numbers.astype(int))
            share = np.bincount(numbers[test].astype(int), minlength=len(total)) - total / n_splits
            assert (np.abs(share) < 1).all()


def test_shuffling_is_seeded(table):
    def first(seed, shuffle=True):
        splitter = UnlearningStratifiedKFold(3, shuffle=shuffle, random_state=seed)
        return next(splitter.split(table.X, table.y, table.a, forget_mask(table)))[1].tolist()

    assert first(0) == first(0) != first(1)
    assert first(None, shuffle=False) == first(None, shuffle=False) != first(0)


def test_small_strata_are_spread_and_named():
    y, a, mask = np.repeat([0, 1], 10), np.r_[np.zeros(17, int), 1, 1, 1], np.arange(20) < 2
    a[0] = a[1] = 1
    with pytest.warns(
        UserWarning, match=r"group \(0, 1\) \(2\).*to forget of group \(0, 1\) \(2\)"
    ):
        folds = list(UnlearningStratifiedKFold(4).split(y, y, a, mask))
    assert sorted(int(mask[test].sum()) for _, test in folds) == [0, 0, 1, 1]


def test_folds_of_strings_pairs_tensors_and_sparse_inputs(table):
    y, mask = np.array(["no", "yes"])[table.y], forget_mask(table)
    groups = pd.DataFrame({"sex": np.array(["f", "m"])[table.a], "old": np.zeros(table.n)})
    plain = UnlearningStratifiedKFold(2).split(coo_array(table.X), table.y, table.a, mask)
    other = UnlearningStratifiedKFold(2).split(table.X, y, groups, torch.from_numpy(mask))
    for (_, one), (_, two) in zip(plain, other, strict=True):
        assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("kwargs", "change", "match"),
    [
        ({"n_splits": 161}, {}, "n_splits must lie between 2 and the 160 rows, got 161"),
        ({"random_state": 0}, {}, "has no effect without shuffle=True"),
        ({}, {"y": None}, "needs y"),
        ({}, {"forget": [1, 2]}, "must be a boolean mask of length 160"),
        ({}, {"groups": np.zeros(3)}, "groups has 3 rows"),
    ],
)
def test_bad_folds_are_refused_at_once(table, kwargs, change, match):
    args = {"X": table.X, "y": table.y, "groups": table.a, "forget": forget_mask(table), **change}
    with pytest.raises(ValueError, match=match):
        UnlearningStratifiedKFold(**kwargs).split(**args)


def test_without_routing_it_warns_that_nothing_arrived(table):
    with pytest.warns(UserWarning, match="got neither groups nor forget"):
        cross_val_score(
            LogisticRegression(), table.X, table.y, cv=UnlearningStratifiedKFold(2), scoring=None
        )


def test_routing_hands_groups_and_mask_to_the_folds(table):
    mask, splitter = forget_mask(table), UnlearningStratifiedKFold(3)
    with config_context(enable_metadata_routing=True):
        params = {"groups": table.a, "forget": mask}
        scores = cross_val_score(
            make(random_state=0), table.X, table.y, params=params, cv=splitter, scoring=ta_scorer
        )
    folds = splitter.split(table.X, table.y, table.a, mask)
    for score, (train, test) in zip(scores, folds, strict=True):
        by_hand = fitted_by_hand(table, mask, train, random_state=0)
        assert score == np.mean(by_hand.predict(table.X[test]) == table.y[test])


# --- comparison ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared():
    table = make_table()
    mask = forget_mask(table)
    folds = list(UnlearningStratifiedKFold(2).split(table.X, table.y, table.a, mask))
    methods = {"tune": make(), "noop": make_pipeline(StandardScaler(), make(NoOpUnlearner))}
    rows, gold = (table.X, table.y, table.a, mask), make(RetrainUnlearner)
    found = cross_validate_unlearning(methods, *rows, gold=gold, cv=folds, random_state=3)
    return table, mask, folds, methods, found


def test_result_is_tidy(compared):
    *_, methods, found = compared
    assert found.columns.tolist() == ["fold", "method", "metric", "value"]
    assert not found.duplicated(["fold", "method", "metric"]).any()
    assert found["method"].unique().tolist() == ["gold", *methods]
    assert found["fold"].unique().tolist() == [0, 1]
    assert len(found) == 2 * 3 * 11
    assert not hasattr(methods["tune"], "net_") and methods["tune"].random_state is None
    assert found["value"].between(0, 1).all()
    gold = found[(found["method"] == "gold") & (found["metric"] == "AVG_GAP")]
    assert (gold["value"] == 1).all()
    others = found[(found["method"] != "gold") & (found["metric"] == "AVG_GAP")]
    assert (others["value"] < 1).all()


def test_values_are_those_of_a_fold_trained_by_hand_and_of_the_scorers(compared):
    table, mask, folds, _, found = compared
    values = found.set_index(["fold", "method", "metric"])["value"]
    gap_scorer = avg_gap_scorer(make(RetrainUnlearner, random_state=3))
    for i, (train, test) in enumerate(folds):
        fitted = fitted_by_hand(table, mask, train, random_state=3, keep_forgotten=True)
        X, y, a = table.X[test], table.y[test], table.a[test]
        pred = fitted.predict(X)
        ga = group_accuracy_score(y, pred, groups=a, forget_groups=(1, 1))
        dp = get_unlearning_scorer("dp")(fitted, X, y, groups=a)
        expected = {
            "GA": ga,
            "TA": np.mean(pred == y),
            "UA": fitted.predict(table.X[train][mask[train]]).mean(),
            "DP": -dp,
            "AVG_GAP": gap_scorer(fitted, X, y, groups=a),
        }
        assert {name: values[i, "tune", name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["frame", "dataset", "list"])
def test_inputs_people_have(table, kind):
    mask = forget_mask(table)
    tensor = torch.from_numpy(table.X)
    X = {
        "frame": pd.DataFrame(table.X, columns=list("abcd")),
        "dataset": torch.utils.data.TensorDataset(tensor, torch.zeros(table.n)),
        "list": table.X.tolist(),
    }[kind]
    y = np.array(["no", "yes"])[table.y].tolist()
    a = pd.Series(np.array(["f", "m"])[table.a], dtype="category")
    shared = {"metrics": ["GA"], "cv": 2, "random_state": 0}
    found = cross_validate_unlearning([make()], X, y, a, mask.tolist(), **shared)
    plain = cross_validate_unlearning([make()], table.X, table.y, table.a, mask, **shared)
    np.testing.assert_allclose(found["value"], plain["value"], atol=1e-6)
    assert found["method"].unique().tolist() == ["fine_tune"]


def test_more_processes_give_the_same(table):
    args = ([make()], table.X, table.y, table.a, forget_mask(table))
    shared = {"metrics": ["GA", "RA"], "cv": 2, "random_state": 0}
    one, two = (cross_validate_unlearning(*args, **shared, n_jobs=n) for n in (1, 2))
    pd.testing.assert_frame_equal(one, two)


def test_a_method_that_diverges_is_nan_and_the_others_go_on(table):
    methods = {"wild": clone(make()).set_params(lr=1e30), "tame": make()}
    args = (methods, table.X, table.y, table.a, forget_mask(table))
    with pytest.warns(FitFailedWarning, match="wild has NaN in one fold"):
        found = cross_validate_unlearning(*args, metrics="GA", cv=2, random_state=0)
    by_method = found.groupby("method")["value"]
    assert by_method.count().to_dict() == {"tame": 2, "wild": 0}


def test_a_metric_that_is_undefined_is_nan(table):
    group = np.flatnonzero((table.y == 1) & (table.a == 1))
    test = np.setdiff1d(np.arange(0, table.n, 2), group)
    folds = [(np.setdiff1d(np.arange(table.n), test), test)]
    args = ([make()], table.X, table.y, table.a, forget_mask(table))
    with pytest.warns(UndefinedMetricWarning):
        found = cross_validate_unlearning(
            *args, gold=make(RetrainUnlearner), cv=folds, metrics=["GA", "TA", "AVG_GAP"]
        )
    values = found[found["method"] == "fine_tune"].set_index("metric")["value"]
    assert values.isna().to_dict() == {"GA": True, "TA": False, "AVG_GAP": True}


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"unlearners": [make(), make()]}, ValueError, r"have the same name: \['fine_tune', 'fin"),
        ({"unlearners": []}, ValueError, "no unlearners to compare"),
        ({"unlearners": {"gold": make()}}, ValueError, "that of the gold standard"),
        ({"unlearners": [LogisticRegression()]}, TypeError, "needs an unlearner, a Pipeline"),
        ({"gold": LogisticRegression()}, TypeError, "needs an unlearner"),
        ({"metrics": ["GA", "X"]}, ValueError, "metrics must be some of"),
        ({"metrics": ["AVG_GAP"]}, ValueError, "pass gold=RetrainUnlearner"),
        ({"groups": None}, ValueError, "groups is None"),
        ({"forget": [1, 2]}, ValueError, "must be a boolean mask of length 160"),
        ({"y": np.zeros(3)}, ValueError, "inconsistent numbers of samples"),
        ({"cv": KFold(2)}, ValueError, "The training rows of fold 0 hold no row to forget"),
    ],
)
def test_bad_comparisons_are_refused_before_any_training(table, change, error, match, monkeypatch):
    monkeypatch.setattr(FineTuneUnlearner, "fit", lambda *_, **__: pytest.fail("trained"))
    first = np.isin(np.arange(table.n), np.flatnonzero((table.y == 1) & (table.a == 1))[:2])
    rows = {"X": table.X, "y": table.y, "groups": table.a, "forget": first}
    with pytest.raises(error, match=match):
        cross_validate_unlearning(**{"unlearners": [make()], **rows, **change})


def test_threshold_of_a_binary_net(table):
    """Folds are scored by the labels that ``predict`` returns."""
    net = NeuralNetBinaryClassifier(
        make_net().module,
        module__n_features=4,
        module__n_classes=1,
        threshold=0.8,
        max_epochs=2,
        lr=0.5,
        train_split=None,
        verbose=0,
    )
    unlearner, mask = NoOpUnlearner(net, random_state=0), forget_mask(table)
    folds = list(UnlearningStratifiedKFold(2).split(table.X, table.y, table.a, mask))
    scores = cross_validate_unlearning(
        {"a": unlearner}, table.X, table.y, table.a, mask, cv=folds, metrics=["TA"]
    )
    for value, (train, test) in zip(scores["value"], folds, strict=True):
        rows = table.X[train], table.y[train], table.a[train]
        model = clone(unlearner).fit(*rows, forget=mask[train])
        assert value == np.mean(model.predict(table.X[test]) == table.y[test])
        most_probable = model.predict_proba(table.X[test]).argmax(axis=1)
        assert value != np.mean(most_probable == table.y[test])
