"""Folds that keep groups and forget set together, and comparisons over them."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net, make_table
from sklearn.exceptions import FitFailedWarning, UndefinedMetricWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from grmu_sk import FineTuneUnlearner, NoOpUnlearner, RetrainUnlearner
from grmu_sk.metrics import group_accuracy_score
from grmu_sk.model_selection import UnlearningStratifiedKFold, cross_validate_unlearning
from grmu_sk.scorers import avg_gap_scorer, dp_scorer

pytestmark = pytest.mark.usefixtures("quick_attack")


def make(cls=FineTuneUnlearner, net=None, **kwargs):
    return cls(make_net(max_epochs=2) if net is None else net, **kwargs)


def forget_mask(table, n_forget=12):
    rows = np.flatnonzero((table.y == 1) & (table.a == 1))[:n_forget]
    return np.isin(np.arange(table.n), rows)


# folds -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_splits", "shuffle"), [(3, False), (5, True)])
def test_every_fold_keeps_the_proportions(table, n_splits, shuffle):
    mask = forget_mask(table)
    splitter = UnlearningStratifiedKFold(
        n_splits, shuffle=shuffle, random_state=0 if shuffle else None
    )
    folds = list(splitter.split(table.X, table.y, table.a, mask))
    assert len(folds) == n_splits == splitter.get_n_splits()
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(table.n))
    strata = 4 * table.y + 2 * table.a + mask
    for train, test in folds:
        assert sorted([*train, *test]) == list(range(table.n))
        for numbers in (strata, 2 * table.y + table.a, table.y, np.zeros_like(strata)):
            total = np.bincount(numbers)
            share = np.bincount(numbers[test], minlength=len(total)) - total / n_splits
            assert (np.abs(share) < 1).all()
    # labels and attributes may be of any kind
    groups = pd.DataFrame({"sex": np.array(["f", "m"])[table.a], "old": np.zeros(table.n)})
    rows = table.X, np.array(["no", "yes"])[table.y], groups, torch.from_numpy(mask)
    for (_, one), (_, two) in zip(folds, splitter.split(*rows), strict=True):
        assert np.array_equal(one, two)


def test_small_strata_are_spread():
    y, a, mask = np.repeat([0, 1], 10), np.r_[np.zeros(17, int), 1, 1, 1], np.arange(20) < 2
    a[0] = a[1] = 1
    folds = list(UnlearningStratifiedKFold(4).split(y, y, a, mask))
    assert sorted(int(mask[test].sum()) for _, test in folds) == [0, 0, 1, 1]
    with pytest.warns(UserWarning, match="got neither groups nor forget"):
        cross_val_score(LogisticRegression(), y[:, None], y, cv=UnlearningStratifiedKFold(4))


# comparison --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared():
    table = make_table()
    mask = forget_mask(table)
    folds = list(UnlearningStratifiedKFold(2).split(table.X, table.y, table.a, mask))
    methods = {"tune": make(), "noop": make_pipeline(StandardScaler(), make(NoOpUnlearner))}
    rows, gold = (table.X, table.y, table.a, mask), make(RetrainUnlearner)
    found = cross_validate_unlearning(methods, *rows, gold=gold, cv=folds, random_state=3)
    return table, mask, folds, methods, found


def test_values_are_those_of_a_fold_trained_by_hand_and_of_the_scorers(compared):
    table, mask, folds, methods, found = compared
    assert len(found) == 2 * 3 * 11 and found["method"].unique().tolist() == ["gold", *methods]
    assert not hasattr(methods["tune"], "net_") and methods["tune"].random_state is None
    is_one = found.loc[found["metric"] == "AVG_GAP", "value"] == 1
    assert is_one.tolist() == [True, False, False] * 2
    values = found.set_index(["fold", "method", "metric"])["value"]
    gap_scorer = avg_gap_scorer(make(RetrainUnlearner, random_state=3))
    train, test = folds[1]
    fitted = make(random_state=3, keep_forgotten=True)
    fitted.fit(table.X[train], table.y[train], table.a[train], forget=mask[train])
    X, y, a = table.X[test], table.y[test], table.a[test]
    pred = fitted.predict(X)
    expected = {
        "GA": group_accuracy_score(y, pred, groups=a, forget_groups=(1, 1)),
        "TA": np.mean(pred == y),
        "UA": fitted.predict(table.X[train][mask[train]]).mean(),
        "DP": -dp_scorer(fitted, X, y, groups=a),
        "AVG_GAP": gap_scorer(fitted, X, y, groups=a),
    }
    assert {name: values[1, "tune", name] for name in expected} == pytest.approx(expected)


def test_a_method_that_diverges_is_nan_and_the_others_go_on(table):
    methods = {"wild": make(lr=1e30), "tame": make()}
    args = (methods, table.X, table.y, table.a, forget_mask(table))
    with pytest.warns(FitFailedWarning, match="wild has NaN in one fold"):
        found = cross_validate_unlearning(*args, metrics=["GA"], cv=2, random_state=0)
    by_method = found.groupby("method")["value"]
    assert by_method.count().to_dict() == {"tame": 2, "wild": 0}


def test_a_metric_that_is_undefined_is_nan(table):
    group = np.flatnonzero((table.y == 1) & (table.a == 1))
    test = np.setdiff1d(np.arange(0, table.n, 2), group)
    folds = [(np.setdiff1d(np.arange(table.n), test), test)]
    args = ({"tune": make()}, table.X, table.y, table.a, forget_mask(table))
    with pytest.warns(UndefinedMetricWarning):
        found = cross_validate_unlearning(
            *args, gold=make(RetrainUnlearner), cv=folds, metrics=["GA", "TA", "AVG_GAP"]
        )
    values = found[found["method"] == "tune"].set_index("metric")["value"]
    assert values.isna().to_dict() == {"GA": True, "TA": False, "AVG_GAP": True}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"unlearners": {"gold": make()}}, "none 'gold'"),
        ({"metrics": ["GA", "X"]}, "metrics must be some of"),
        ({"metrics": ["AVG_GAP"]}, "AVG_GAP needs gold"),
        ({"forget": [1, 2]}, "must be a boolean mask of length 160"),
        ({"cv": KFold(2)}, "The training rows of fold 0 hold no row to forget"),
    ],
)
def test_bad_comparisons_are_refused_before_any_training(table, change, match, monkeypatch):
    monkeypatch.setattr(FineTuneUnlearner, "fit", lambda *_, **__: pytest.fail("trained"))
    first = np.isin(np.arange(table.n), np.flatnonzero((table.y == 1) & (table.a == 1))[:2])
    rows = {"X": table.X, "y": table.y, "groups": table.a, "forget": first}
    with pytest.raises(ValueError, match=match):
        cross_validate_unlearning(**{"unlearners": {"tune": make()}, **rows, **change})
