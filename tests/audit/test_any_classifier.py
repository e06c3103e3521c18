"""What works on unlearners of nets works on those of any classifier: estimators by capabilities.

The guide shows the table.
"""

import copy
import re
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_net, make_table
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from test_classifiers import CLASSIFIERS
from torch import nn

from grmu_sk import NoOpUnlearner, RetrainUnlearner, SISAUnlearner
from grmu_sk.audit import (
    AcceptanceGate,
    DeletionLedger,
    GateError,
    ReferenceModels,
    audit_unlearning,
    model_hash,
    preflight,
    scan_residue,
    write_report,
)
from grmu_sk.cli import main
from grmu_sk.model_selection import cross_validate_unlearning
from grmu_sk.persistence import PersistenceError, load, save
from grmu_sk.scorers import ga_scorer, row_distance_scorer

MODULE = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
SHARDED = "SISA"
ESTIMATORS = {
    "skorch net": make_net(max_epochs=2),
    "torch module": MODULE,
    **CLASSIFIERS,
    SHARDED: RandomForestClassifier(5),
}
NETS = ("skorch net", "torch module")
TABLE = make_table(300)
ROWS = np.arange(200)
TRAIN = {"X": TABLE.X[ROWS], "y": TABLE.y[ROWS], "groups": TABLE.a[ROWS]}
TEST = TABLE.X[200:], TABLE.y[200:], TABLE.a[200:]
FORGET = np.flatnonzero((TRAIN["y"] == 1) & (TRAIN["groups"] == 0))[:8]
LOOSE = dict.fromkeys(("test_accuracy", "worst_group", "forgotten_groups", "eo"), 0.9)


@pytest.fixture(params=ESTIMATORS, scope="module")
def name(request):
    return request.param


def made(name, **options):
    method = SISAUnlearner if name == SHARDED else RetrainUnlearner
    shards = {"n_shards": 2} if name == SHARDED else {}
    return method(ESTIMATORS[name], random_state=0, **shards, **options)


@pytest.fixture(scope="module")
def before(name):
    return made(name, keep_forgotten=True).fit(**TRAIN, sample_id=[f"p{row}" for row in ROWS])


@pytest.fixture(scope="module")
def after(before):
    return copy.deepcopy(before).unlearn(FORGET)


def brought(name, unlearner, path):
    """What ``load`` is to be given, after it has said so."""
    if name in NETS:
        return {"estimator": ESTIMATORS[name]}
    with pytest.raises(PersistenceError, match="give none"):
        load(path, LogisticRegression())
    try:
        load(path)
    except PersistenceError as error:
        assert "known to be harmless" in str(error) and "--trust TYPE" in str(error)
        return {"trusted": re.findall("'(.*?)'", str(error))}
    assert name in ("logistic regression", "naive Bayes", "pipeline")
    return {}


def test_save_and_load(name, after, tmp_path):
    save(after, path := tmp_path / "model")
    again = load(path, **brought(name, after, path))
    assert model_hash(again) == model_hash(after)
    np.testing.assert_array_equal(again.predict_proba(TEST[0]), after.predict_proba(TEST[0]))
    assert model_hash(again) == model_hash(after), "nor do questions change it"
    assert again.get_params(deep=False).keys() == after.get_params(deep=False).keys()
    further = [copy.deepcopy(after).unlearn([0]), again.unlearn([0], **TRAIN)]
    assert len({model_hash(one) for one in further}) == 1
    assert str(again.estimator) == str(after.estimator)


def test_ledger_and_ids(name, before, tmp_path):
    save(before, path := tmp_path / "model")
    needed = brought(name, before, path)
    named = [f"p{row}" for row in FORGET]
    ledger = DeletionLedger(tmp_path / "ledger")
    ledger.add(named)
    assert ledger.run_file(path, data=TRAIN, **needed) == [1]
    changed = load(path, **needed)
    assert changed.forget_idx_.tolist() == FORGET.tolist()
    assert model_hash(changed) == model_hash(copy.deepcopy(before).unlearn(ids=named))
    ledger.verify()


def test_evidence(name, before, after, tmp_path):
    found = write_report(after, tmp_path / "page.html", *TEST, before=before, n_bootstrap=5)
    told = found["method"]["net"]
    assert f"{next(iter(told))} = " in (tmp_path / "page.html").read_text()
    if name in NETS:
        return
    estimator = ESTIMATORS[name]
    assert told["class"] == type(estimator).__name__
    assert estimator.get_params(deep=False).keys() <= told.keys()
    how = {"nearest neighbours": "'draws'", SHARDED: "None"}.get(name, "'sample_weight'")
    assert told["reweighted_by"] == how


def test_gate(name, before):
    unlearner = copy.deepcopy(before)
    known, trained = model_hash(unlearner), len(unlearner.history_)
    given = dict(zip(("X", "y", "groups"), TEST, strict=True), n_bootstrap=5)
    with pytest.raises(GateError):
        AcceptanceGate().enforce(unlearner, FORGET, **given)
    assert model_hash(unlearner) == known and len(unlearner.history_) == trained
    if name == SHARDED:
        with pytest.raises(ValueError, match="exact already"):
            AcceptanceGate().enforce(unlearner, FORGET, "retrain", **given)
    else:
        control = NoOpUnlearner(ESTIMATORS[name], random_state=0).fit(**TRAIN)
        assert AcceptanceGate().enforce(control, FORGET, "retrain", **given).action == "retrained"
        gold = RetrainUnlearner(ESTIMATORS[name], random_state=0).fit(**TRAIN).unlearn(FORGET)
        np.testing.assert_array_equal(control.predict_proba(TEST[0]), gold.predict_proba(TEST[0]))
    loose = AcceptanceGate(leakage=False, residue=False, **LOOSE)
    assert loose.enforce(unlearner, FORGET, **given).action == "accepted"


def test_preflight(name, before):
    some = {"methods": ["retrain"]} if name in NETS else {}
    report = preflight(before, FORGET, **some)
    costs = report.costs.set_index("method")
    if name == SHARDED:
        assert report.recommendation == "sisa"
        assert costs.loc["sisa", "ratio"] == 1, "both shards are touched"
        assert preflight(before, FORGET[:1]).costs["ratio"][0] == 0.5
        return
    assert report.recommendation == "retrain + reweight"
    assert costs.loc["retrain", "ratio"] == 1
    if name not in NETS:
        assert set(costs.index) == {"retrain", "subsample_retrain", "sisa"}
        assert "fewer rows" in costs.loc["subsample_retrain", "note"]
        assert "SISAUnlearner" in str(report)
        (note,) = preflight(before, FORGET, methods=["scrub"]).costs["note"]
        assert note == "not possible here: it needs a net"


def test_scorers_and_cross_validation(name, after):
    gold = clone(after).set_params(random_state=1)
    for scorer in (row_distance_scorer(gold), ga_scorer):
        assert np.isfinite(scorer(after, *TEST[:2], groups=TEST[2]))
    given = (*TRAIN.values(), np.isin(ROWS, FORGET))
    options = {"cv": 2, "metrics": ["RA", "UA", "GA"], "random_state": 0}
    found = cross_validate_unlearning({"own": made(name)}, *given, **options)
    assert found["value"].notna().all() and set(found["fold"]) == {0, 1}


def test_audit(name, before, after):
    kinds = {"forgotten": FORGET, "remaining": after.remaining_idx_}
    rows = {k: tuple(part[of] for part in TRAIN.values()) for k, of in kinds.items()}
    references = ReferenceModels(before, 4, remaining_per_group=5)
    found = audit_unlearning(
        after, before, **rows, nonmembers=TEST, references=references, n_bootstrap=100
    )
    assert {finding.attack for finding in found} == {"loss", "LiRA", "RMIA"}
    powers = [finding.power.value for finding in found if finding.attack == "RMIA"]
    assert np.isfinite(powers).all()


SCALER_OF_NOBODY = make_pipeline(FunctionTransformer(lambda X: X), LogisticRegression())
NET_WITHIN = make_pipeline(FunctionTransformer(), make_net(max_epochs=1))


@pytest.mark.parametrize("inside", [SCALER_OF_NOBODY, NET_WITHIN], ids=["lambda", "net"])
def test_what_only_pickle_can_write_is_not_saved(inside, tmp_path):
    (tmp_path / "model").write_bytes(b"as before")
    unlearner = RetrainUnlearner(inside, random_state=0).fit(**TRAIN)
    with pytest.raises(PersistenceError, match="Pipeline cannot be saved without pickle"):
        save(unlearner, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"as before"


def test_frozen_classifiers_and_foreign_files(tmp_path, monkeypatch):
    trained = LogisticRegression().fit(TRAIN["X"], TRAIN["y"])
    taken = RetrainUnlearner(FrozenEstimator(trained), random_state=0).fit(**TRAIN)
    save(taken, path := tmp_path / "model")
    again = load(path)
    assert again.estimator.estimator is again.estimator_
    np.testing.assert_array_equal(again.predict(TEST[0]), trained.predict(TEST[0]))
    with pytest.raises(ValueError, match="is fitted in one step"):
        taken.unlearn([3], checkpoint=tmp_path / "state")
    forged = copy.copy(taken)
    forged.estimator_ = {"no": "classifier"}
    save(forged, other := tmp_path / "other")
    with pytest.raises(PersistenceError, match="there is no classifier"):
        load(other)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    for use in (lambda: save(taken, path), lambda: load(path)):
        with pytest.raises(ImportError, match=r"pip install 'grmu_sk\[skops\]'"):
            use()


def test_commands_ask_for_trust(tmp_path):
    path, rows, ledger = (str(tmp_path / name) for name in ("model", "rows.npz", "ledger"))
    save(RetrainUnlearner(RandomForestClassifier(2), random_state=0).fit(**TRAIN), path)
    np.savez(rows, **TRAIN)
    DeletionLedger(ledger).add([3])
    run = ["requests", "run", ledger, path, "--data", rows]
    refused = CliRunner().invoke(main, run)
    assert refused.exit_code == 1 and "trusted=['sklearn.tree._tree.Tree']" in refused.output
    trust = ["--trust", "sklearn.tree._tree.Tree"]
    for command in (run, ["requests", "verify", ledger, "--model", path]):
        done = CliRunner().invoke(main, command + trust)
        assert done.exit_code == 0, done.output


def test_residue(name, before, after):
    forgotten = TRAIN["X"][FORGET]
    light = copy.deepcopy(after)
    light.keep_forgotten = False
    light.unlearn([0])
    assert scan_residue(light, forgotten).verdict == "clean"
    found = scan_residue(light, forgotten, original=before)
    assert found.verdict == ("clean" if name in NETS else "inconclusive")
    assert name in NETS or "only weights of nets" in found.not_searched[0]
