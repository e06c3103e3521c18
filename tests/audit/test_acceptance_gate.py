"""A model that breaks its promises is not taken into service, and the old one is not damaged."""

import pickle

import numpy as np
import pytest
from conftest import make_net, make_table, same_weights

from grmu_sk import FineTuneUnlearner, GradientAscentUnlearner, RetrainUnlearner, SISAUnlearner
from grmu_sk.audit import (
    AcceptanceGate,
    AttackResult,
    Finding,
    GateError,
    ModelScores,
    ResidueScan,
)
from grmu_sk.audit.scores import Score

FORGET = [40, 41, 50]
NO_LEAK = AttackResult("RMIA AUC", "all", 0.5, 0.4, 0.6, 0.8, "no leak found")
LEAK = AttackResult("RMIA AUC", "(1, 0)", 0.8, 0.7, 0.9, 0.8, "leak")
UNSURE = AttackResult("RMIA AUC", "(0, 0)", 0.5, 0.4, 0.6, 0.5, "inconclusive")
OPEN = {"test_accuracy": None, "worst_group": None, "forgotten_groups": None, "eo": None}
ONLY_ACCURACY = {**OPEN, "leakage": False, "residue": False}


def scores(TA=0.8, WG=0.6, GA=0.7, EO=0.1, spread=0.05):
    values = {"TA": TA, "WG": WG, "GA": GA, "EO": EO}
    return ModelScores({name: Score(v, v - spread, v + spread) for name, v in values.items()})


def fitted(method=FineTuneUnlearner, **kwargs):
    table = make_table(320)
    made = method(make_net(), random_state=0, **kwargs)
    made.fit(table.X[:200], table.y[:200], table.a[:200])
    test = {"X": table.X[200:], "y": table.y[200:], "groups": table.a[200:], "n_bootstrap": 5}
    return made, test


@pytest.mark.parametrize(
    ("metric", "option", "sign"),
    [
        ("TA", "test_accuracy", -1),
        ("WG", "worst_group", -1),
        ("GA", "forgotten_groups", -1),
        ("EO", "eo", 1),
    ],
)
def test_tolerances(metric, option, sign):
    gate = AcceptanceGate(**{**ONLY_ACCURACY, option: 0.03})
    start = scores().metrics[metric].value
    for change, status in ((0, "passed"), (0.03, "passed"), (0.031, "failed"), (-0.2, "passed")):
        after = scores(**{metric: start + sign * change})
        result = gate.decide(after, before=scores())
        assert [check.status for check in result.checks] == [status]
        assert result.passed == (status == "passed")


def test_interval_rule_takes_the_unfavourable_end():
    options = {**ONLY_ACCURACY, "test_accuracy": 0.03, "eo": 0.03}
    assert AcceptanceGate(**options).decide(scores(), before=scores()).passed
    strict = AcceptanceGate(**options, rule="interval")
    result = strict.decide(scores(), before=scores())
    assert [check.status for check in result.checks] == ["failed", "failed"]
    assert strict.decide(scores(spread=0.02), before=scores()).passed


def test_reference():
    gate = AcceptanceGate(**{**ONLY_ACCURACY, "test_accuracy": 0.01}, compare_to="gold")
    assert gate.decide(scores(TA=0.7), before=scores(), gold=scores(TA=0.7)).passed
    (check,) = gate.decide(scores(), before=scores()).checks
    assert check.status == "inconclusive" and "gold" in check.detail


@pytest.mark.parametrize(
    ("attacks", "status"),
    [
        ([NO_LEAK], "passed"),
        ([NO_LEAK, LEAK], "failed"),
        ([NO_LEAK, UNSURE], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_leakage(attacks, status):
    result = AcceptanceGate(**OPEN, residue=False).decide(None, attacks=attacks)
    assert result.checks[0].status == status, "the worst stands first"
    assert result.passed == (status == "passed")
    lenient = AcceptanceGate(**OPEN, residue=False, allow_inconclusive=True)
    assert lenient.decide(None, attacks=attacks).passed == (status != "failed")


@pytest.mark.parametrize(
    ("residue", "status"),
    [
        (ResidueScan(), "passed"),
        (ResidueScan([Finding("forgotten row", "a", "float32", rows=(1,))]), "failed"),
        (ResidueScan(not_searched=["b"]), "inconclusive"),
        (None, "inconclusive"),
    ],
)
def test_residue(residue, status):
    (check,) = AcceptanceGate(**OPEN, leakage=False).decide(None, residue=residue).checks
    assert check.status == status


def test_undefined_metric_is_inconclusive():
    gate = AcceptanceGate(**{**ONLY_ACCURACY, "eo": 0.1})
    (check,) = gate.decide(scores(EO=float("nan")), before=scores()).checks
    assert check.status == "inconclusive"
    (check,) = gate.decide(ModelScores({}), before=scores()).checks
    assert check.status == "inconclusive"


def test_check_measures(monkeypatch):
    unlearner, test = fitted()
    before = pickle.loads(pickle.dumps(unlearner))
    unlearner.unlearn(FORGET)
    gate = AcceptanceGate(test_accuracy=1, worst_group=1, forgotten_groups=1, eo=1, residue=False)
    seen = []

    def attack(model):
        seen.append(model)
        return [NO_LEAK]

    result = gate.check(unlearner, **test, before=before, attacks=attack)
    assert result.passed and seen == [unlearner]
    assert len(result.checks) == 5
    assert "passed" in str(result)
    assert not gate.check(unlearner, **test, attacks=[NO_LEAK]).passed


# acting ------------------------------------------------------------------------------------------


def ruin():
    """A method that destroys the model, and a gate that notices."""
    unlearner, test = fitted(GradientAscentUnlearner, lr=5.0, max_epochs=2)
    return unlearner, test, AcceptanceGate(**{**ONLY_ACCURACY, "test_accuracy": 0.05})


def test_accepted_is_as_unlearned():
    unlearner, test = fitted()
    other = fitted()[0].unlearn(FORGET)
    result = AcceptanceGate(**{**ONLY_ACCURACY, "test_accuracy": 1}).enforce(
        unlearner, FORGET, **test
    )
    assert (result.passed, result.action) == (True, "accepted")
    assert same_weights(unlearner, other)
    assert vars(unlearner).keys() == vars(other).keys()
    assert unlearner.training_rows().rows.tolist() == other.training_rows().rows.tolist()


def test_refused_leaves_everything_as_it_was():
    unlearner, test, gate = ruin()
    before, names = pickle.dumps(unlearner), list(vars(unlearner))
    with pytest.raises(GateError, match="Test accuracy") as caught:
        gate.enforce(unlearner, FORGET, **test)
    assert not caught.value.result.passed
    assert pickle.dumps(unlearner) == before
    assert list(vars(unlearner)) == names
    unlearner.unlearn(FORGET)
    assert unlearner.forget_idx_.tolist() == FORGET, "the request can still be carried out"


def test_kept_out_of_service():
    unlearner, test, gate = ruin()
    before = dict(vars(unlearner))
    result = gate.enforce(unlearner, FORGET, "keep", **test)
    assert (result.passed, result.action) == (False, "kept")
    assert "Test accuracy" in unlearner._out_of_service
    assert "_out_of_service" in vars(pickle.loads(pickle.dumps(unlearner)))
    after = dict(vars(unlearner))
    del after["_out_of_service"]
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert AcceptanceGate(**ONLY_ACCURACY).enforce(unlearner, FORGET, **test).passed
    assert "_out_of_service" not in vars(unlearner)


def test_fallback_is_retraining_with_reweight():
    unlearner, test, gate = ruin()
    table = make_table(320)
    gold = RetrainUnlearner(make_net(), random_state=0)
    gold.fit(table.X[:200], table.y[:200], table.a[:200]).unlearn(FORGET)
    result = gate.enforce(unlearner, FORGET, "retrain", **test)
    assert result.action == "retrained"
    assert result.first_attempt[0].status == "failed"
    assert same_weights(unlearner, gold)
    assert type(unlearner) is GradientAscentUnlearner
    assert unlearner.lr == 5.0, "its parameters are its own"
    assert unlearner.forget_idx_.tolist() == FORGET
    assert unlearner.training_rows().rows.tolist() == gold.remaining_idx_.tolist()
    assert [row["phase"] for row in unlearner.history_.to_list()] == ["fit"] * 3 + ["retrain"] * 3
    unlearner.unlearn([60])
    assert unlearner.forget_idx_.tolist() == [*FORGET, 60]


def test_fallback_keeps_nothing_of_the_original():
    from grmu_sk.audit import scan_residue

    unlearner, test, gate = ruin()
    original = {k: v.clone() for k, v in unlearner.net_.module_.state_dict().items()}
    rows = make_table(320).X[FORGET]
    assert scan_residue(unlearner, rows, original)
    gate.enforce(unlearner, FORGET, "retrain", **test)
    assert scan_residue(unlearner, rows, original) == []


def test_no_fallback_for_several_nets():
    unlearner, test = fitted(SISAUnlearner)
    before = pickle.dumps(unlearner)
    with pytest.raises(ValueError, match="exact already"):
        AcceptanceGate().enforce(unlearner, FORGET, "retrain", **test)
    assert pickle.dumps(unlearner) == before


def test_failure_while_unlearning_leaves_everything_as_it_was():
    unlearner, test = fitted(GradientAscentUnlearner, lr=1e30)
    before = pickle.dumps(unlearner)
    with pytest.raises(FloatingPointError):
        AcceptanceGate(**ONLY_ACCURACY).enforce(unlearner, FORGET, **test)
    assert pickle.dumps(unlearner) == before


def test_residue_and_attacks_are_of_the_new_model():
    unlearner, test = fitted()
    seen = []

    def scan(model):
        seen.append(model.forget_idx_.tolist())
        return ResidueScan()

    AcceptanceGate(**OPEN, leakage=False).enforce(unlearner, FORGET, residue=scan, **test)
    assert seen == [FORGET]


def test_rows_that_are_not_stored():
    table = make_table(320)
    unlearner, test = fitted(store_data=False)
    training = {"X": table.X[:200], "y": table.y[:200], "groups": table.a[:200]}
    gate = AcceptanceGate(**ONLY_ACCURACY)
    with pytest.raises(ValueError, match="was not stored"):
        gate.enforce(unlearner, FORGET, **test)
    gate.enforce(unlearner, FORGET, training=training, **test)
    assert np.array_equal(unlearner.forget_idx_, FORGET)


@pytest.mark.parametrize(
    "options",
    [
        {"test_accuracy": -0.1},
        {"eo": float("nan")},
        {"compare_to": "after"},
        {"rule": "both"},
    ],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AcceptanceGate(**options)


def test_bad_action():
    unlearner, test = fitted()
    with pytest.raises(ValueError, match="on_failure"):
        AcceptanceGate().enforce(unlearner, FORGET, "ignore", **test)
