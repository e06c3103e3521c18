"""Doing nothing is found out, retraining is not accused, and what cannot be told is not claimed."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net
from leakage_case import N_MODELS, before_and_after, finding, fitted_references, memorised_rows
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from grmu_sk import NoOpUnlearner, RetrainUnlearner
from grmu_sk.audit import LeakageAudit, ReferenceModels, audit_unlearning, scan_residue

ROWS = ("forgotten", "nonmembers")


@pytest.fixture(scope="module")
def case():
    torch.set_num_threads(1)
    case = memorised_rows()
    case.references = fitted_references(case)
    case.original, case.no_op = before_and_after(case, NoOpUnlearner)
    _, case.gold = before_and_after(case, RetrainUnlearner)
    return case


def audited(case, unlearner, **kwargs):
    given = {
        "original": case.original,
        "forgotten": case.forgotten,
        "nonmembers": case.nonmembers,
        "references": case.references,
        "n_bootstrap": 300,
        **kwargs,
    }
    return audit_unlearning(unlearner, **given)


def of(audit, attack, rows="forgotten", group="all"):
    (found,) = [f for f in audit.findings if (f.attack, f.rows, f.group) == (attack, rows, group)]
    return found


# what it finds -----------------------------------------------------------------------------------


def test_doing_nothing_is_a_leak(case):
    audit = audited(case, case.no_op)
    for attack in ("LiRA", "RMIA"):
        found = of(audit, attack)
        assert found.verdict == "leak" and "still look trained on" in found.reason
        assert found.auc == found.power and found.power.value > 0.75
        assert (found.change.value, found.change.low, found.change.high) == (0, 0, 0)
    assert audit.verdict == "leak"
    assert of(audit, "RMIA", "remaining").verdict == "no leak found"
    groups = sorted({f.group for f in audit.findings if f.rows == "forgotten"})
    assert groups == ["(0, 1)", "(1, 0)", "all"]
    assert of(audit, "RMIA").confidence == 0.95
    assert of(audit, "RMIA", group="(1, 0)").confidence == pytest.approx(1 - 0.05 / 2)
    assert of(audit, "RMIA", group="(0, 1)").n_rows == 12
    for shown in (f"{N_MODELS} reference models", "tolerance 0.1", of(audit, "RMIA").power):
        assert str(shown) in str(audit)
    assert audit.to_frame()["power"].notna().all()


def test_retraining_is_never_a_leak(case):
    for seed, reweight in ((1, True), (2, False)):
        _, gold = before_and_after(case, RetrainUnlearner, seed, reweight=reweight)
        audit = audited(case, gold)
        on_forgotten = [found for found in audit.findings if found.rows == "forgotten"]
        assert {found.verdict for found in on_forgotten} <= {"no leak found", "inconclusive"}
        assert len(on_forgotten) == 3 * 3  # attacks, times all and two groups
        assert of(audit, "RMIA").power.low > 0.6, "else it could not have been found"


def test_an_attack_without_power_proves_nothing(case):
    """An original model that does not know the rows cannot vouch for the attack."""
    audit = audited(case, case.gold, original=before_and_after(case, RetrainUnlearner, 9)[1].net_)
    found = [f for f in audit.findings if f.rows == "forgotten"]
    assert {f.verdict for f in found} == {"inconclusive"}
    assert "no power on the original model" in of(audit, "RMIA").reason


# what becomes of it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("findings", "verdict", "n_decisive"),
    [
        ([], "inconclusive", 0),
        ([("inconclusive", 0.5), ("no leak found", 0.9)], "no leak found", 1),
        ([("inconclusive", 0.9), ("no leak found", 0.8)], "inconclusive", 1),
        ([("leak", 0.5), ("no leak found", 0.9)], "leak", 2),
    ],
)
def test_the_most_powerful_attack_decides(findings, verdict, n_decisive):
    audit = LeakageAudit([finding(*parts) for parts in findings], n_models=8)
    assert (audit.verdict, len(audit.decisive)) == (verdict, n_decisive)
    stays = finding("inconclusive", 0.9, rows="remaining")
    both = LeakageAudit([*audit, stays], n_models=8)
    assert both.verdict == ("leak" if verdict == "leak" else "inconclusive")
    assert len(both.decisive) == n_decisive + 1


def test_nothing_stays_in_the_unlearner(case):
    before = pickle.dumps(case.gold)
    quick = ReferenceModels(make_net(module__n_features=12), n_models=4, remaining_per_group=5)
    audit = audited(case, case.gold, references=quick, attacks=["RMIA"])
    assert audit.n_models == 4 and {found.attack for found in audit.findings} == {"RMIA"}
    assert pickle.dumps(case.gold) == before
    assert scan_residue(pickle.dumps(audit), case.forgotten[0]) == []
    assert scan_residue(pickle.dumps((audit, case.forgotten[0])), case.forgotten[0]) != []


def test_pipelines(case):
    def piped(model):
        return make_pipeline(FunctionTransformer(np.negative), model)

    rows = {name: (-vars(case)[name][0], *vars(case)[name][1:]) for name in ROWS}
    audit = audited(case, piped(case.no_op), original=piped(case.original), **rows)
    pd.testing.assert_frame_equal(audit.to_frame(), audited(case, case.no_op).to_frame())


def test_bad_input(case):
    X, y, a = case.nonmembers
    with_group = (y == 1) & (a == 0)
    without = (X[~with_group], y[~with_group], a[~with_group])
    reordered = tuple(part[::-1] for part in case.forgotten)
    for unlearner, changed, message in [
        (case.gold, {"tolerance": 0.5}, r"tolerance must lie in \[0, 0.5\)"),
        (case.no_op, {"original": copy.deepcopy(case.no_op)}, "has forgotten the rows too"),
        (case.no_op, {"forgotten": reordered}, "fitted with other forgotten rows"),
        (case.no_op, {"nonmembers": without, "references": 4}, r"no row of the group \(1, 0\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            audited(case, unlearner, **changed)
    with pytest.raises(NotFittedError):
        audited(case, NoOpUnlearner(), remaining=case.remaining)
