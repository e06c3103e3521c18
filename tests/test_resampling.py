"""REWEIGHT in pipelines of imbalanced-learn."""

import importlib
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from imblearn.base import is_sampler
from imblearn.pipeline import make_pipeline
from imblearn.utils.estimator_checks import estimator_checks_generator
from scipy import sparse
from sklearn import config_context
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from grmu_sk import ReweightSampler
from grmu_sk.resampling import ReweightResampler

# the same as imblearn's parametrize_with_checks, whose iterator new versions of pytest refuse
IMBLEARN_CHECKS = list(estimator_checks_generator(ReweightResampler(random_state=0)))


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
@pytest.mark.parametrize(
    ("resampler", "check"),
    [pytest.param(*pair, id=pair[1].func.__name__) for pair in IMBLEARN_CHECKS],
)
def test_imblearn_check(resampler, check):
    check(resampler)


@pytest.fixture
def rows():
    """Training rows, and which of them remain after most of (1, "f") asked to be forgotten."""
    rng = np.random.default_rng(0)
    y, a = rng.integers(3, size=4000), np.array(["f", "m"])[rng.integers(2, size=4000)]
    asked = (y == 1) & (a == "f") & (rng.random(4000) < 0.8)
    X = np.c_[np.arange(4000), rng.normal(size=4000)]
    return X, y, a, ~asked


def pairs(y, a):
    return Counter(zip(y.tolist(), a.tolist(), strict=True))


def shares(y, a):
    return {pair: count / len(y) for pair, count in sorted(pairs(y, a).items())}


def test_draws_with_the_probabilities_of_the_sampler(rows):
    X, y, a, rest = rows
    weights = ReweightSampler().fit(y, groups=a).transform(y[rest], groups=a[rest])
    expected = np.random.RandomState(3).choice(rest.sum(), size=rest.sum(), p=weights)
    resampler = ReweightResampler(pairs(y, a), random_state=3)
    _, y_new = resampler.fit_resample(X[rest], y[rest], groups=a[rest])
    np.testing.assert_array_equal(resampler.sample_indices_, expected)
    assert resampler.sampling_strategy_ == pytest.approx(
        {label: rest.sum() * np.mean(y == label) for label in range(3)}, abs=0.5
    )
    tolerance = 4 * np.sqrt(0.25 / rest.sum())
    assert shares(y_new, a[rest][expected]) == pytest.approx(shares(y, a), abs=tolerance)
    # and without it the mix is another: the test can fail
    assert abs(shares(y[rest], a[rest])[1, "f"] - shares(y, a)[1, "f"]) > 3 * tolerance


def test_without_a_reference_groups_get_equal_shares(rows):
    X, y, a, rest = rows
    resampler = ReweightResampler(random_state=0)
    _, y_new = resampler.fit_resample(X[rest], y[rest], groups=a[rest])
    found = shares(y_new, a[rest][resampler.sample_indices_])
    assert list(found.values()) == pytest.approx([1 / 6] * 6, abs=0.03)
    # without groups, labels; as imbalanced-learn's samplers balance classes
    resampler.fit_resample(X[rest], y[rest])
    assert list(resampler.sampling_strategy_.values()) == pytest.approx(
        [rest.sum() / 3] * 3, abs=0.5
    )


def test_several_attributes(rows):
    X, y, a, rest = rows
    groups = pd.DataFrame({"sex": a, "old": (np.arange(4000) % 2).astype(bool)})
    attributes = list(groups.itertuples(index=False, name=None))
    resampler = ReweightResampler(Counter(zip(y.tolist(), attributes, strict=True)))
    resampler.fit_resample(X[rest], y[rest], groups=groups[rest])
    assert resampler.sampling_strategy_ == pytest.approx(
        {label: rest.sum() * np.mean(y == label) for label in range(3)}, abs=0.5
    )


@pytest.mark.parametrize("kind", ["images", "frame", "csr", "list", "texts", "tensor"])
def test_rows_are_taken_in_their_own_type(kind):
    y = np.repeat([0, 1], [20, 40])
    numbers = np.arange(60)
    X = {
        "images": np.tile(numbers[:, None, None, None], (1, 3, 2, 2)),
        "frame": pd.DataFrame({"n": numbers, "s": [str(n) for n in numbers]}, index=numbers + 100),
        "csr": sparse.csr_matrix(numbers[:, None]),
        "list": numbers[:, None].tolist(),
        "texts": [f"text {n}" for n in numbers],
        "tensor": torch.as_tensor(numbers)[:, None],
    }[kind]
    resampler = ReweightResampler(random_state=0)
    X_new, y_new = resampler.fit_resample(X, y)
    drawn = resampler.sample_indices_
    np.testing.assert_array_equal(y_new, y[drawn])
    if kind == "frame":
        expected = X.iloc[drawn].reset_index(drop=True)
        pd.testing.assert_frame_equal(X_new, expected)
        assert resampler.feature_names_in_.tolist() == ["n", "s"]
    elif kind == "texts":
        assert X_new == [f"text {n}" for n in drawn]
    elif kind == "csr":
        assert X_new.toarray().ravel().tolist() == drawn.tolist()
    else:
        assert type(X_new) is type(X)
        first = X_new if kind == "list" else X_new.reshape(60, -1)
        assert [int(row[0]) for row in first] == drawn.tolist()
        assert getattr(X_new, "dtype", None) == getattr(X, "dtype", None)


# --- in a pipeline ------------------------------------------------------------------------------


def shifted_table(seed, n_rows=3000):
    """Group (1, 1) lies on the other side of the border from the rest of its class."""
    rng = np.random.default_rng(seed)
    y, a = rng.integers(2, size=(2, n_rows))
    X = rng.normal(size=(n_rows, 1)) + np.where((y == 1) & (a == 0), 4, 0)[:, None]
    X[(y == 1) & (a == 1)] += 1.5
    return X, y, a


@pytest.fixture
def request_of_a_group():
    X, y, a = shifted_table(seed=0)
    asked = (y == 1) & (a == 1) & (np.random.default_rng(1).random(len(y)) < 0.95)
    return X, y, a, ~asked


def group_accuracy(model):
    X, y, a = shifted_table(seed=5)
    group = (y == 1) & (a == 1)
    return model.score(X[group], y[group])


def test_pipeline_with_routing_restores_the_group(request_of_a_group):
    X, y, a, rest = request_of_a_group
    counts = pairs(y, a)
    before = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[rest], y[rest])
    model = make_pipeline(
        StandardScaler(), ReweightResampler(counts, random_state=0), LogisticRegression()
    )
    assert is_sampler(model[1])
    with config_context(enable_metadata_routing=True):
        model.fit(X[rest], y[rest], groups=a[rest])
    drawn = model[1].sample_indices_
    assert shares(y[rest][drawn], a[rest][drawn]) == pytest.approx(shares(y, a), abs=0.04)
    assert group_accuracy(plain) < group_accuracy(before) - 0.1
    assert group_accuracy(model) == pytest.approx(group_accuracy(before), abs=0.05)
    # rows are not resampled when predicting
    assert model.predict(X[:7]).shape == (7,)


def test_model_selection_cuts_groups_by_fold(request_of_a_group):
    X, y, a, rest = request_of_a_group
    model = make_pipeline(ReweightResampler(pairs(y, a), random_state=0), LogisticRegression())
    grid = {"reweightresampler__group_counts": [None, pairs(y, a)]}
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, grid, cv=3, error_score="raise")
        search.fit(X[rest], y[rest], groups=a[rest])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_groups_that_were_dropped_are_missed(request_of_a_group):
    """With routing off imbalanced-learn passes no groups on and says nothing."""
    X, y, a, rest = request_of_a_group
    model = make_pipeline(ReweightResampler(pairs(y, a), random_state=0), LogisticRegression())
    with pytest.warns(UserWarning, match="no groups were passed: only the mix of labels"):
        model.fit(X[rest], y[rest], reweightresampler__groups=a[rest])
    drawn = model[0].sample_indices_
    assert np.mean(y[rest][drawn]) == pytest.approx(np.mean(y), abs=0.03)
    assert shares(y[rest][drawn], a[rest][drawn])[1, 1] < 0.5 * shares(y, a)[1, 1]


# --- what is refused ----------------------------------------------------------------------------

COUNTS = {(label, sex): 1 for label in (0, 1) for sex in "fm"}
BAD = [
    ({"y": None}, ValueError, "requires y to be passed"),
    ({"y": np.zeros(6)}, ValueError, "y has 1 class, 0.0"),
    ({"y": np.linspace(0, 1, 6)}, ValueError, "Unknown label type"),
    ({"y": [0, 1]}, ValueError, "inconsistent numbers of samples"),
    ({"groups": ["f", "m"]}, ValueError, "groups has 2 rows but y has 6"),
    ({"groups": ["f", "m", None, "f", "m", "f"]}, ValueError, "groups has a missing value"),
    ({"counts": {(0, "f"): 3}}, ValueError, r"no entry for the group\(s\) \[\(0, 'm'\), \(1, 'f"),
    (
        {"counts": {**COUNTS, (0, "x"): 3}},
        ValueError,
        r"nothing to sample for the group\(s\) \[\(0, 'x'",
    ),
    ({"counts": {0: 3, 1: 3}}, ValueError, "With groups every key must be a pair"),
    ({"counts": {**COUNTS, (0, "f"): -1}}, ValueError, "must be finite, not negative"),
    ({"counts": {**COUNTS, (0, "f"): np.nan}}, ValueError, "must be finite, not negative"),
    ({"counts": dict.fromkeys(COUNTS, 0)}, ValueError, "not all zero"),
    ({"seed": "x"}, ValueError, "'x' cannot be used to seed"),
]


@pytest.mark.parametrize(("change", "error", "match"), BAD)
def test_bad_input_is_refused_and_changes_nothing(change, error, match):
    good = {"X": np.zeros((6, 2)), "y": [0, 0, 0, 1, 1, 1], "groups": list("fmfmfm")}
    resampler = ReweightResampler(COUNTS, random_state=0)
    resampler.fit_resample(**good)
    fitted = {name for name in vars(resampler) if name.endswith("_")}
    before = {name: getattr(resampler, name) for name in fitted}
    resampler.set_params(
        group_counts=change.get("counts", COUNTS), random_state=change.get("seed", 0)
    )
    arguments = {**good, **{k: v for k, v in change.items() if k in good}}
    with pytest.raises(error, match=match):
        resampler.fit_resample(**arguments)
    after = {name for name in vars(resampler) if name.endswith("_")}
    assert after == fitted
    assert all(getattr(resampler, name) is before[name] for name in fitted)


def test_without_imblearn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn", None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, "imblearn.base", None)
    monkeypatch.delitem(sys.modules, "grmu_sk.resampling")
    with pytest.raises(ImportError, match=r"pip install grmu_sk\[imblearn\]"):
        importlib.import_module("grmu_sk.resampling")
