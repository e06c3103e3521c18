"""scikit-learn's own checks, nothing skipped or expected to fail.

Methods differ from one another in what they do to a net, which these checks do not look at: three
classes with a ``fit`` of their own stand for all, and ``make test-all`` runs every one.
"""

import pytest
from conftest import EVERY_METHOD
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from grmu_sk import MINE, ReweightSampler
from grmu_sk.unlearners import all_unlearners

UNLEARNERS = {"miu": {}, "retrain": {}, "sisa": {"n_shards": 2}}
ESTIMATORS = [
    MINE(max_updates=5),
    *(
        cls(**UNLEARNERS.get(name, {}))
        for name, cls in all_unlearners()
        if name in UNLEARNERS or EVERY_METHOD
    ),
]


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # or those of other arrays are skipped
    check(estimator)


def test_sampler_of_labels():
    """Like LabelEncoder it takes labels; these are the checks that do not feed it a matrix."""
    for name in ("estimator_cloneable", "get_params_invariance", "no_attributes_set_in_init"):
        getattr(estimator_checks, f"check_{name}")("ReweightSampler", ReweightSampler())
