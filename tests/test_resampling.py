"""REWEIGHT in pipelines of imbalanced-learn."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from imblearn.pipeline import make_pipeline
from imblearn.utils.estimator_checks import estimator_checks_generator
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
    resampler.fit_resample(X[rest], y[rest], groups=a[rest])
    np.testing.assert_array_equal(resampler.sample_indices_, expected)
    expected = {label: rest.sum() * np.mean(y == label) for label in range(3)}
    assert resampler.sampling_strategy_ == pytest.approx(expected, abs=0.5)
    # the same of several attributes
    groups = pd.DataFrame({"sex": a, "old": (np.arange(4000) % 2).astype(bool)})
    attributes = list(groups.itertuples(index=False, name=None))
    resampler = ReweightResampler(Counter(zip(y.tolist(), attributes, strict=True)))
    resampler.fit_resample(X[rest], y[rest], groups=groups[rest])
    assert resampler.sampling_strategy_ == pytest.approx(expected, abs=0.5)


def test_without_a_reference_groups_get_equal_shares(rows):
    X, y, a, rest = rows
    resampler = ReweightResampler(random_state=0)
    _, y_new = resampler.fit_resample(X[rest], y[rest], groups=a[rest])
    found = shares(y_new, a[rest][resampler.sample_indices_])
    assert list(found.values()) == pytest.approx([1 / 6] * 6, abs=0.03)


def test_pipeline_hands_groups_on_with_routing_only(rows):
    X, y, a, rest = rows
    resampler = ReweightResampler(pairs(y, a), random_state=0)
    model = make_pipeline(StandardScaler(), resampler, LogisticRegression())
    with pytest.raises(ValueError, match="drops groups silently"):
        model.fit(X[rest], y[rest], reweightresampler__groups=a[rest])
    with config_context(enable_metadata_routing=True):
        model.fit(X[rest], y[rest], groups=a[rest])
        grid = {"reweightresampler__group_counts": [None, pairs(y, a)]}
        search = GridSearchCV(model, grid, cv=3, error_score="raise")
        search.fit(X[rest], y[rest], groups=a[rest])  # which are cut by fold
    drawn = model[1].sample_indices_
    assert shares(y[rest][drawn], a[rest][drawn]) == pytest.approx(shares(y, a), abs=0.04)
