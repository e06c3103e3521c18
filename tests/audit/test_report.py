"""The evidence says what was done, and its page cannot be turned against its reader."""

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import make_net, make_table
from json_schema import errors
from sklearn.exceptions import NotFittedError

from grmu_sk import FineTuneUnlearner, MIUUnlearner, RetrainUnlearner
from grmu_sk.audit import (
    AcceptanceGate,
    AttackResult,
    Finding,
    ModelScores,
    ResidueScan,
    build_evidence,
    evidence_schema,
    measure,
    model_hash,
    read_evidence,
    write_report,
)

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e</style><script>alert(2)</script>"
ATTACKS = [
    AttackResult("RMIA AUC", "all", 0.5, 0.4, 0.6, 0.8, "no leak found"),
    AttackResult("LiRA", "(1, 0)", 0.7, 0.6, 0.8, 0.9, "leak"),
    AttackResult("LiRA", "(0, 0)", 0.5, 0.4, 0.6, 0.51, "inconclusive"),
]


@pytest.fixture(scope="module")
def case():
    table = make_table(320)
    training, test = slice(0, 200), slice(200, 320)
    unlearner = MIUUnlearner(make_net(), max_epochs=1, tune_updates=(2, 1), random_state=0)
    unlearner.fit(table.X[training], table.y[training], table.a[training])
    test_rows = table.X[test], table.y[test], table.a[test]
    forget = np.flatnonzero((table.y[training] == 1) & (table.a[training] == 0))[:6]
    pairs = [(1, 0)]
    before = measure(unlearner, *test_rows, forget_groups=pairs, n_bootstrap=50)
    hash_before = model_hash(unlearner)
    unlearner.unlearn(forget)
    return {
        "table": table,
        "unlearner": unlearner,
        "test": test_rows,
        "forget": forget,
        "before": before,
        "hash_before": hash_before,
    }


def full(case, **changed):
    given = {
        "before": case["before"],
        "gold": case["before"],
        "attacks": ATTACKS,
        "residue": ResidueScan(n_places=3, n_bytes=9),
        "hash_before": case["hash_before"],
        "n_bootstrap": 50,
        **changed,
    }
    return build_evidence(case["unlearner"], *case["test"], **given)


class Page(HTMLParser):
    """What a browser would make of the page."""

    VOID = {"meta", "link", "br", "img", "input", "hr"}

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def page_of(evidence, tmp_path):
    write_report(evidence, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def schema_errors(evidence):
    schema = json.loads(evidence_schema())
    return list(errors(evidence, schema, schema))


# content -----------------------------------------------------------------------------------------


def test_evidence_matches_its_schema(case):
    for evidence in (full(case), build_evidence(case["unlearner"])):
        assert schema_errors(json.loads(json.dumps(evidence, allow_nan=False))) == []


def test_schema_tells_wrong_evidence(case):
    for change in (
        lambda e: e.pop("statement"),
        lambda e: e["request"].update(n_rows=-1),
        lambda e: e.update(more=1),
        lambda e: e["scores"]["after"]["metrics"]["TA"].update(value=81.0),
        lambda e: e["gate"]["checks"][0].update(status="fine"),
    ):
        evidence = full(case)
        change(evidence)
        assert schema_errors(evidence)


def test_request_and_group_mix(case):
    evidence, table = full(case), case["table"]
    request = evidence["request"]
    assert (request["n_rows"], request["n_forgotten"], request["n_remaining"]) == (200, 6, 194)
    assert request["groups"] == [{"label": "1", "attribute": "0"}]
    counts = pd.Series(list(zip(table.y[:200], table.a[:200], strict=True))).value_counts()
    for row in evidence["group_mix"]:
        pair = (int(row["label"]), int(row["attribute"]))
        assert row["trained"] == counts[pair]
        assert row["forgotten"] == (6 if pair == (1, 0) else 0)
        assert row["remaining"] == row["trained"] - row["forgotten"]


def test_group_mix_without_stored_rows(case, tmp_path):
    case["unlearner"].save(tmp_path / "model")
    loaded = type(case["unlearner"]).load(tmp_path / "model", make_net())
    assert build_evidence(loaded)["group_mix"] is None
    table = case["table"]
    again = build_evidence(loaded, training=(table.y[:200], table.a[:200]))
    assert again["group_mix"] == full(case)["group_mix"]
    assert again["model"]["hash_after"] == full(case)["model"]["hash_after"]


def test_method_and_versions(case):
    evidence = full(case)
    method = evidence["method"]
    assert (method["name"], method["seed"]) == ("miu", 0)
    assert method["parameters"]["max_epochs"] == "1"
    phases = [run["phase"] for run in method["history"]]
    assert phases[0] == "fit" and len(phases) > 1
    assert {"python", "packages"} <= set(evidence["environment"])
    assert evidence["model"]["hash_before"] != evidence["model"]["hash_after"]


def test_scores_against_plain_computation(case):
    X, y, a = case["test"]
    right = case["unlearner"].predict(X) == y
    found = full(case)["scores"]["after"]
    assert found["metrics"]["TA"]["value"] == pytest.approx(right.mean())
    by_group = {(int(g["label"]), int(g["attribute"])): g for g in found["groups"]}
    for pair, group in by_group.items():
        inside = (y == pair[0]) & (a == pair[1])
        assert group["n_rows"] == inside.sum()
        assert group["accuracy"]["value"] == pytest.approx(right[inside].mean())
    worst = min(group["accuracy"]["value"] for group in by_group.values())
    assert found["metrics"]["WG"]["value"] == pytest.approx(worst)
    assert found["metrics"]["GA"]["value"] == pytest.approx(right[(y == 1) & (a == 0)].mean())
    for score in found["metrics"].values():
        assert score["low"] <= score["value"] <= score["high"]


class Known:
    """A model that is right on these rows."""

    forget_groups_ = ((1, 0),)

    def __init__(self, right):
        self.right = right

    def predict(self, X):
        return np.where(self.right, X[:, 0], 1 - X[:, 0])


def test_interval_of_the_test_accuracy_is_that_of_a_proportion():
    rng = np.random.default_rng(0)
    y, a = rng.integers(2, size=400), rng.integers(2, size=400)
    right = rng.random(400) < 0.8
    scores = measure(Known(right), y[:, None], y, a, n_bootstrap=800, random_state=1)
    score, share = scores.metrics["TA"], right.mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert score.value == pytest.approx(share)
    assert score.low == pytest.approx(share - half, abs=0.01)
    assert score.high == pytest.approx(share + half, abs=0.01)
    perfect = measure(Known(np.ones(400, bool)), y[:, None], y, a, n_bootstrap=20)
    assert all(group.accuracy.value == 1 > group.accuracy.low for group in perfect.groups)


def test_remaining_and_forgotten_rows(case):
    table, forget = case["table"], case["forget"]
    rest = np.setdiff1d(np.arange(200), forget)
    scores = measure(
        case["unlearner"],
        *case["test"],
        remaining=(table.X[rest], table.y[rest]),
        forgotten=(table.X[forget], table.y[forget]),
        n_bootstrap=5,
    )
    expected = case["unlearner"].score(table.X[rest], table.y[rest])
    assert scores.metrics["RA"].value == pytest.approx(expected)
    assert scores.metrics["UA"].high > scores.metrics["UA"].value - 1e-12
    again = ModelScores.from_dict(json.loads(json.dumps(scores.to_dict())))
    assert again.metrics["RA"] == scores.metrics["RA"]


def test_undefined_metrics_become_null(case):
    X, y, a = case["test"]
    one = y == 1
    evidence = build_evidence(case["unlearner"], X[one], y[one], a[one], n_bootstrap=5)
    assert evidence["scores"]["after"]["metrics"]["EO"]["value"] is None
    json.dumps(evidence, allow_nan=False)


# the page ----------------------------------------------------------------------------------------


def test_what_failed_stands_first(case, tmp_path):
    scan = ResidueScan([Finding("forgotten row", "cache.npy", "float32", rows=(3,))])
    evidence = full(case, residue=scan)
    order = [check["status"] for check in evidence["gate"]["checks"]]
    assert order == sorted(order, key=["failed", "inconclusive", "passed"].index)
    assert {"failed", "inconclusive", "passed"} == set(order)
    shown = page_of(evidence, tmp_path).text
    places = [shown.index(word) for word in ("Not accepted", "✕ Failed", "? Not", "✓ Passed")]
    assert places == sorted(places)
    assert shown.index("✓ Passed") < shown.index("What was asked")


def test_page_says_that_it_is_no_certificate(case, tmp_path):
    shown = page_of(build_evidence(case["unlearner"]), tmp_path).text
    assert "This is empirical evidence and not a certificate" in shown
    for missing in ("Not measured", "No attack was run", "No scan was run", "Not decided"):
        assert missing in shown
    assert "Accepted" not in shown


def test_page_shows_the_figures(case, tmp_path):
    evidence = full(case, reason="Art. 17", request_id="2026-17")
    shown = page_of(evidence, tmp_path).text
    score = evidence["scores"]["after"]["metrics"]["TA"]
    for figure in (
        f"{100 * score['value']:.1f}%",
        f"[{100 * score['low']:.1f}%, {100 * score['high']:.1f}%]",
        "6 rows of 200",
        "Art. 17",
        "2026-17",
        "0.800",
        evidence["model"]["hash_after"],
        "max_epochs = 1",
    ):
        assert figure in shown


def test_page_is_self_contained(case, tmp_path):
    page = page_of(full(case), tmp_path)
    assert not {"script", "link", "iframe", "img", "object", "form"} & set(page.tags)
    references = [v for name, v in page.attributes if name in ("src", "href", "action", "data")]
    assert references == []
    html = (tmp_path / "report.html").read_text()
    assert set(re.findall(r"https?://[^\s\"']+", html)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in html and "@import" not in html
    assert ("content", "width=device-width, initial-scale=1") in page.attributes
    policy = next(v for n, v in page.attributes if n == "content" and v.startswith("default-src"))
    assert "default-src 'none'" in policy and "script" not in policy


def hostile_evidence():
    table = make_table(240)
    y = np.array(["ok", HOSTILE], dtype=object)[table.y]
    a = np.array(["fine", HOSTILE + "2"], dtype=object)[table.a]
    unlearner = FineTuneUnlearner(make_net(), max_epochs=1, random_state=0)
    unlearner.fit(table.X[:160], y[:160], a[:160]).unlearn(
        np.flatnonzero((table.y[:160] == 1) & (table.a[:160] == 1))[:5]
    )
    attack = AttackResult(HOSTILE, HOSTILE, 0.5, 0.4, 0.6, 0.8, "leak")
    finding = Finding("forgotten row", HOSTILE, HOSTILE, rows=(1,))
    return build_evidence(
        unlearner,
        table.X[160:],
        y[160:],
        a[160:],
        attacks=[attack],
        residue=ResidueScan([finding], not_searched=[HOSTILE]),
        title=HOSTILE,
        request_id=HOSTILE,
        received=HOSTILE,
        reason=HOSTILE,
        n_bootstrap=5,
    )


def test_hostile_text_stays_text(tmp_path):
    evidence = hostile_evidence()
    page = page_of(evidence, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("style") == 1
    assert "\u202e" not in html, "nothing reorders what the reader sees"
    # a text is shown in one piece, or as part of a longer one
    assert page.text.count("<img src=x onerror=alert(1)>") > 12
    assert json.loads((tmp_path / "report.json").read_text())["title"] == HOSTILE


def test_every_text_of_the_document_is_escaped(case, tmp_path):
    """Also one that was changed in the JSON, in places that are not ours to fill."""

    def poisoned(value):
        if isinstance(value, dict):
            return {key: poisoned(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poisoned(item) for item in value]
        return HOSTILE if isinstance(value, str) else value

    evidence = poisoned(full(case))
    for check in evidence["gate"]["checks"]:
        check["status"] = "failed"
    for attack in evidence["attacks"]:
        attack["verdict"] = "leak"
    evidence["residue"]["verdict"] = "clean"
    page = page_of(evidence, tmp_path)
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_no_surrogate_stops_the_report(case, tmp_path):
    page_of(full(case, reason="broken \ud800 text"), tmp_path)
    assert "\\u{d800}" in (tmp_path / "report.html").read_text()


# files -------------------------------------------------------------------------------------------


def test_files(case, tmp_path):
    evidence = write_report(case["unlearner"], tmp_path / "a.html", *case["test"], n_bootstrap=5)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html", "a.json"]
    assert read_evidence(tmp_path / "a.json") == json.loads(json.dumps(evidence))
    with pytest.raises(ValueError, match="beside the page"):
        write_report(case["unlearner"], tmp_path / "a.json")
    with pytest.raises(ValueError, match="no further arguments"):
        write_report(evidence, tmp_path / "a.html", reason="x")
    with pytest.raises(ValueError, match="incomplete or damaged"):
        write_report({"title": "x"}, tmp_path / "b.html")
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"format": "x"}', "{" * 20000])
def test_foreign_json(content, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="is not evidence"):
        read_evidence(tmp_path / "a.json")


def test_newer_json(tmp_path):
    content = {"format": "grmu_sk evidence", "format_version": 99}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Update grmu_sk"):
        read_evidence(tmp_path / "a.json")


def test_failure_leaves_the_old_page(case, tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text("old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(case["unlearner"], tmp_path / "a.html")
    assert [file.name for file in tmp_path.iterdir()] == ["a.html"]
    assert (tmp_path / "a.html").read_text() == "old"


def test_same_evidence_same_bytes(case, tmp_path):
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    for name in ("a", "b"):
        write_report(full(case, created=moment), tmp_path / f"{name}.html")
    for suffix in ("html", "json"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_gate_of_ones_own(case):
    gate = AcceptanceGate(test_accuracy=1, worst_group=1, forgotten_groups=1, eo=1, leakage=False)
    assert full(case, gate=gate)["gate"]["passed"]


def test_bad_input(case):
    X, y, a = case["test"]
    with pytest.raises(ValueError, match="all of X, y and groups"):
        build_evidence(case["unlearner"], X, y)
    with pytest.raises(NotFittedError):
        build_evidence(RetrainUnlearner(make_net()))
    with pytest.raises(ValueError, match="n_bootstrap"):
        measure(case["unlearner"], X, y, a, n_bootstrap=1)
    with pytest.raises(ValueError, match="confidence"):
        measure(case["unlearner"], X, y, a, confidence=95)
    with pytest.raises(ValueError, match="groups is None"):
        measure(case["unlearner"], X, y, None)
    with pytest.raises(ValueError, match=r"not scores as ModelScores\.to_dict"):
        ModelScores.from_dict({"metrics": []})


def test_attack_result():
    result = AttackResult("a", "all", 0.5, 0.4, float("nan"), float("nan"), "inconclusive")
    fields = result.to_dict()
    assert fields["high"] is None
    assert np.isnan(AttackResult.from_dict(fields).power)
    with pytest.raises(ValueError, match="verdict must be one of"):
        AttackResult("a", "all", 0.5, 0.4, 0.6, 0.8, "passed")
    with pytest.raises(ValueError, match="power was not measured"):
        AttackResult("a", "all", 0.5, 0.4, 0.6, float("nan"), "no leak found")
    with pytest.raises(ValueError, match="has the fields"):
        AttackResult.from_dict({"name": "a"})
    with pytest.raises(ValueError, match="must be a number"):
        AttackResult.from_dict({**fields, "value": "0.5"})
