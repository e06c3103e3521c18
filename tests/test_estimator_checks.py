"""scikit-learn's own checks, nothing skipped or expected to fail.

Methods differ from one another in what they do to a net, which these checks do not look at: three
classes with a ``fit`` of their own stand for all, and ``make test-all`` runs every one.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import EVERY_METHOD
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from grmu_sk import MINE, ReweightSampler
from grmu_sk.unlearners import all_unlearners

UNLEARNERS = {"miu", "retrain", "sisa"}
ESTIMATORS = [
    MINE(max_updates=5),
    *(cls() for name, cls in all_unlearners() if name in UNLEARNERS or EVERY_METHOD),
]


@pytest.mark.filterwarnings("ignore")  # the checks provoke warnings on purpose
@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check):
    if "array_api" in str(check) and not os.environ.get("SCIPY_ARRAY_API"):
        return  # run below, with the variable it needs
    check(estimator)


@pytest.mark.parametrize(
    "name",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_get_params_invariance",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
def test_sampler_of_labels(name):
    """Like LabelEncoder it takes labels; these are the checks that do not feed it a matrix."""
    getattr(estimator_checks, name)("ReweightSampler", ReweightSampler())


def test_array_api_checks_in_a_process_of_their_own():
    """The variable they need must be set before scipy is imported."""
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "OMP_NUM_THREADS": "1"}
    if os.environ.get("SCIPY_ARRAY_API"):
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "array_api"]
    done = subprocess.run(
        [*command, str(Path(__file__))], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout
