"""What the audit adds to every unlearner: its report, and a mark that takes it out of service."""

import pickle

import pytest
from conftest import make_net, make_table

from grmu_sk import GradientAscentUnlearner
from grmu_sk.audit import AcceptanceGate, preflight

NOT_JUDGED = ("worst_group", "forgotten_groups", "eo")
OUT = {"expected_exception": RuntimeError, "match": "out of service"}


@pytest.fixture
def table():
    return make_table(320)


@pytest.fixture
def unlearner(table):
    """Its requests destroy the model."""
    ascent = GradientAscentUnlearner(make_net(), lr=5.0, max_epochs=2, random_state=0)
    return ascent.fit(table.X[:200], table.y[:200], table.a[:200])


@pytest.fixture
def test_rows(table):
    rows = {"X": table.X[200:], "y": table.y[200:], "groups": table.a[200:]}
    return {**rows, "n_bootstrap": 5}


@pytest.fixture
def gate():
    tolerances = dict.fromkeys(NOT_JUDGED)
    return AcceptanceGate(test_accuracy=0.05, leakage=False, residue=False, **tolerances)


def test_report_of_an_unlearner(unlearner, table, tmp_path):
    rows = (table.X[200:], table.y[200:], table.a[200:])
    evidence = unlearner.report(tmp_path / "a.html", *rows, n_bootstrap=5)
    assert evidence["request"]["n_forgotten"] == 0
    assert (tmp_path / "a.html").exists()
    assert (tmp_path / "a.json").exists()


def test_kept_out_of_service_until_a_request_passes(unlearner, table, test_rows, gate, tmp_path):
    unlearner.predict(table.X)
    assert gate.enforce(unlearner, [40, 41], "keep", **test_rows).action == "kept"
    unlearner.save(tmp_path / "model")
    copies = [
        unlearner,
        pickle.loads(pickle.dumps(unlearner)),
        type(unlearner).load(tmp_path / "model", make_net()),
    ]
    for copy in copies:
        for use in (copy.predict, copy.predict_proba):
            with pytest.raises(**OUT):
                use(table.X)
    preflight(unlearner, [40], methods=["retrain"])
    with pytest.raises(ValueError, match="inconsistent"):
        unlearner.fit(table.X, table.y[:3], table.a)
    with pytest.raises(**OUT):  # a failed fit changes nothing
        unlearner.predict(table.X)
    assert gate.enforce(unlearner, [40, 41], "retrain", **test_rows).action == "retrained"
    unlearner.predict(table.X)


def test_a_new_fit_is_back_in_service(unlearner, table, test_rows, gate):
    gate.enforce(unlearner, [42, 43], "keep", **test_rows)
    unlearner.fit(table.X, table.y, table.a).predict(table.X)
