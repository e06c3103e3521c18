"""A model that breaks its promises is not taken into service, and the old one is not damaged."""

import pytest
from conftest import make_net, make_table, same_weights
from leakage_case import LEAK, NO_LEAK, UNSURE
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from grmu_sk import FineTuneUnlearner, GradientAscentUnlearner, RetrainUnlearner, SISAUnlearner
from grmu_sk.audit import (
    AcceptanceGate,
    Finding,
    GateError,
    Interval,
    ModelScores,
    ResidueScan,
    build_evidence,
    model_hash,
    scan_residue,
)

FORGET = [40, 41, 50]
OPEN = {"test_accuracy": None, "worst_group": None, "forgotten_groups": None, "eo": None}
ONLY_ACCURACY = {**OPEN, "leakage": False, "residue": False}
RESIDUE = ResidueScan([Finding("forgotten row", "a", "float32", rows=(1,))])
TABLE = make_table(320)
TRAINING = {"X": TABLE.X[:200], "y": TABLE.y[:200], "groups": TABLE.a[:200]}
TEST = {"X": TABLE.X[200:], "y": TABLE.y[200:], "groups": TABLE.a[200:], "n_bootstrap": 5}


def scores(**changed):
    values = {"TA": 0.8, "WG": 0.6, "GA": 0.7, "EO": 0.1, **changed}
    return ModelScores({name: Interval(v, v - 0.05, v + 0.05) for name, v in values.items()})


def fitted(method=FineTuneUnlearner, **kwargs):
    return method(make_net(), random_state=0, **kwargs).fit(**TRAINING)


def statuses(result):
    return [check.status for check in result.checks]


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
        result = gate.decide(scores(**{metric: start + sign * change}), before=scores())
        assert (statuses(result), result.passed) == ([status], status == "passed")
    for unknown in (scores(**{metric: float("nan")}), ModelScores({}), None):
        assert statuses(gate.decide(unknown, before=scores())) == ["inconclusive"]
    gate = AcceptanceGate(**{**ONLY_ACCURACY, option: 0.03}, compare_to="gold")
    worse = scores(**{metric: start + sign * 0.2})
    assert gate.decide(worse, before=scores(), gold=worse).passed
    (check,) = gate.decide(scores(), before=scores()).checks
    assert check.status == "inconclusive" and "gold" in check.detail


@pytest.mark.parametrize(
    ("found", "status"),
    [
        ({"attacks": [NO_LEAK]}, "passed"),
        ({"attacks": [NO_LEAK, LEAK]}, "failed"),
        ({"attacks": [NO_LEAK, UNSURE]}, "inconclusive"),
        ({"attacks": []}, "inconclusive"),
        ({"residue": ResidueScan()}, "passed"),
        ({"residue": RESIDUE}, "failed"),
        ({"residue": ResidueScan(not_searched=["b: encrypted"])}, "inconclusive"),
        ({"residue": None}, "inconclusive"),
    ],
)
def test_leakage_and_residue(found, status):
    asked = {"leakage": "attacks" in found, "residue": "residue" in found}
    result = AcceptanceGate(**OPEN, **asked).decide(None, **found)
    assert statuses(result)[0] == status, "the worst stands first"
    assert result.passed == (status == "passed")
    told = getattr(found.get("residue"), "not_searched", [])
    assert all(text in result.checks[0].detail for text in told), "and not only how many"
    lenient = AcceptanceGate(**OPEN, **asked, allow_inconclusive=True)
    assert lenient.decide(None, **found).passed == (status != "failed")


# acting ------------------------------------------------------------------------------------------


def ruin():
    """A method that destroys the model, and a gate that notices."""
    unlearner = fitted(GradientAscentUnlearner, lr=5.0, max_epochs=2)
    return unlearner, AcceptanceGate(**{**ONLY_ACCURACY, "test_accuracy": 0.05})


def test_accepted_is_as_unlearned():
    unlearner, other = fitted(), fitted().unlearn(FORGET)
    seen = []

    def scan(model):
        seen.append(model.forget_idx_.tolist())
        return ResidueScan()

    gate = AcceptanceGate(**{**OPEN, "test_accuracy": 1}, leakage=False)
    result = gate.enforce(unlearner, FORGET, residue=scan, **TEST)
    assert (result.passed, result.action, seen) == (True, "accepted", [FORGET])
    assert same_weights(unlearner, other) and vars(unlearner).keys() == vars(other).keys()
    assert unlearner.training_rows().rows.tolist() == other.training_rows().rows.tolist()


def test_failures_leave_everything_as_it_was():
    unlearner, gate = ruin()
    before, weights = dict(vars(unlearner)), model_hash(unlearner)
    with pytest.raises(GateError, match="Test accuracy") as caught:
        gate.enforce(unlearner, FORGET, **TEST)
    assert not caught.value.result.passed
    assert vars(unlearner) == before and model_hash(unlearner) == weights
    assert unlearner.unlearn(FORGET).forget_idx_.tolist() == FORGET, "it can still be carried out"
    for method, action, error, message in (
        (SISAUnlearner, "retrain", ValueError, "exact already"),
        (GradientAscentUnlearner, "refuse", FloatingPointError, None),
        (FineTuneUnlearner, "ignore", ValueError, "on_failure"),
    ):
        unlearner = fitted(method, **({"lr": 1e30} if method is GradientAscentUnlearner else {}))
        before = dict(vars(unlearner))
        with pytest.raises(error, match=message):
            AcceptanceGate(**ONLY_ACCURACY).enforce(unlearner, FORGET, action, **TEST)
        assert vars(unlearner) == before
    with pytest.raises(ValueError, match="eo must be a fraction"):
        AcceptanceGate(eo=float("nan"))


def test_fallback_is_retraining_with_reweight():
    unlearner, gate = ruin()
    gold = fitted(RetrainUnlearner).unlearn(FORGET)
    original = {k: v.clone() for k, v in unlearner.net_.module_.state_dict().items()}
    assert scan_residue(unlearner, TABLE.X[FORGET], original)
    result = gate.enforce(unlearner, FORGET, "retrain", **TEST)
    assert result.action == "retrained"
    assert type(unlearner) is GradientAscentUnlearner and unlearner.lr == 5.0
    assert same_weights(unlearner, gold) and unlearner.forget_idx_.tolist() == FORGET
    assert unlearner.training_rows().rows.tolist() == gold.remaining_idx_.tolist()
    assert [row["phase"] for row in unlearner.history_.to_list()] == ["fit"] * 3 + ["retrain"] * 3
    assert scan_residue(unlearner, TABLE.X[FORGET], original) == []
    assert unlearner.unlearn([60]).forget_idx_.tolist() == [*FORGET, 60]


@pytest.mark.parametrize("action", ["refuse", "retrain"])
def test_pipeline_is_judged_as_a_whole(action):
    store = action == "retrain"
    ascent = GradientAscentUnlearner(make_net(), lr=5.0, random_state=0, store_data=store)
    moved = {**TRAINING, "X": 100 * TRAINING["X"]}  # nobody predicts that without the first step
    test = {**TEST, "X": 100 * TEST["X"]}
    pipe = make_pipeline(StandardScaler(), ascent)
    with config_context(enable_metadata_routing=True):
        pipe.fit(**moved)
    accuracy, seen = pipe.score(test["X"], test["y"]), []

    def attack(model):
        seen.append(model.score(test["X"], test["y"]))
        return []

    evidence = build_evidence(pipe, **test)
    assert evidence["scores"]["after"]["metrics"]["TA"]["value"] == pytest.approx(accuracy)
    gate = AcceptanceGate(**{**ONLY_ACCURACY, "test_accuracy": 0.1 if store else 1})
    given = {"attacks": attack, "training": None if store else moved}
    result = gate.enforce(pipe, FORGET, action, **given, **test)
    assert result.passed and pipe[-1].forget_idx_.tolist() == FORGET
    assert seen[-1] == pipe.score(test["X"], test["y"])
    if store:
        assert result.action == "retrained" and seen[-1] > accuracy - 0.1 > seen[0]
