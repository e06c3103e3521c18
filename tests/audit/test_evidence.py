"""The evidence says what was done, and its page cannot be turned against its reader."""

import copy
import json
import re
from dataclasses import astuple, replace
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from conftest import make_net, make_table
from leakage_case import LEAK, NO_LEAK, UNSURE, finding
from sklearn.dummy import DummyClassifier

from grmu_sk import FineTuneUnlearner, MIUUnlearner
from grmu_sk.audit import (
    DeletionRequest,
    Finding,
    LeakageFinding,
    ModelScores,
    ResidueScan,
    build_evidence,
    evidence_schema,
    measure,
    model_hash,
    read_evidence,
    write_report,
)
from grmu_sk.audit.evidence import STATEMENT
from grmu_sk.audit.scores import as_json, from_json
from grmu_sk.metrics import damage_to_other_groups, log_odds_of_label, row_distance_score
from grmu_sk.persistence import load, save

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e</style><script>alert(2)</script>{{ 711*11 }}"
HOSTILE += "\n# h\n- [l](http://z) `c` **b** | \\"
ATTACKS = [NO_LEAK, LEAK, UNSURE]
TABLE = make_table(320)
TRAIN = TABLE.X[:200], TABLE.y[:200], TABLE.a[:200]
TEST = TABLE.X[200:], TABLE.y[200:], TABLE.a[200:]
FORGET = np.flatnonzero((TRAIN[1] == 1) & (TRAIN[2] == 0))[:6]


@pytest.fixture(scope="module")
def model():
    unlearner = MIUUnlearner(make_net(), max_epochs=1, tune_updates=(2, 1), random_state=0)
    return unlearner.fit(*TRAIN).unlearn(FORGET)


@pytest.fixture(scope="module")
def evidence(model):
    return full(model)


def full(model, **changed):
    before = measure(model, *TEST, forget_groups=[(1, 0)], n_bootstrap=5)
    given = {"before": before, "gold": before, "attacks": ATTACKS, "n_bootstrap": 5}
    given |= {"residue": ResidueScan(n_places=3, n_bytes=9), "hash_before": "0" * 64}
    return build_evidence(model, *TEST, **{**given, **changed})


class Page(HTMLParser):
    """What a browser would make of the page, which must be harmless."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.attributes, self.words = html, [], [], []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))
        assert not {"script", "img", "link", "iframe", "object", "form"} & set(self.tags)
        assert not [name for name, _ in self.attributes if name.startswith("on")]
        assert not {"src", "href", "action", "data"} & {name for name, _ in self.attributes}
        assert self.tags.count("style") == 1 and "\u202e" not in html

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.tags and self.tags[-1] not in ("style", "title"):
            self.words.append(data)


def page_of(evidence, tmp_path):
    write_report(evidence, tmp_path / "report.html")
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


# content -----------------------------------------------------------------------------------------


def fits(value, schema, root):
    """Tell whether a value has the fields and kinds of its schema, and no others."""
    schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")] if "$ref" in schema else schema
    if "anyOf" in schema:
        return any(fits(value, one, root) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if isinstance(value, list):
        return all(fits(item, schema["items"], root) for item in value)
    if not isinstance(value, dict):
        return (value is None) == ("null" in schema["type"]) or value is not None
    known, other = schema.get("properties", {}), schema.get("additionalProperties", False)
    parts = {name: known.get(name, other) for name in value}
    is_whole = set(schema.get("required", [])) <= set(value) and all(parts.values())
    return is_whole and all(fits(value[name], part, root) for name, part in parts.items())


def test_schema(model, evidence):
    schema = json.loads(evidence_schema())
    for right in (evidence, build_evidence(model, request=ASKED)):
        assert fits(json.loads(json.dumps(right, allow_nan=False)), schema, schema)
    for wrong in ({**evidence, "more": 1}, {**evidence, "model": {"hash_after": 1}}):
        assert not fits(wrong, schema, schema), "control"


def test_request_and_method(model, evidence, tmp_path):
    request, method = evidence["request"], evidence["method"]
    assert (request["n_rows"], request["n_forgotten"], request["n_remaining"]) == (200, 6, 194)
    assert request["groups"] == [{"label": "1", "attribute": "0"}]
    counts = pd.Series(list(zip(*TRAIN[1:], strict=True))).value_counts()
    for row in evidence["group_mix"]:
        pair = (int(row["label"]), int(row["attribute"]))
        expected = counts[pair], 6 if pair == (1, 0) else 0
        assert (row["trained"], row["forgotten"]) == expected
        assert row["remaining"] == row["trained"] - row["forgotten"]
    assert (method["name"], method["seed"], method["parameters"]["max_epochs"]) == ("miu", 0, "1")
    phases = {run["phase"]: run["n_epochs"] for run in method["history"]}
    assert phases["fit"] == 3 and len(phases) > 1
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model", make_net())
    assert build_evidence(loaded)["group_mix"] is None
    again = build_evidence(loaded, training=TRAIN[1:])
    assert again["group_mix"] == evidence["group_mix"]
    assert again["model"]["hash_after"] == evidence["model"]["hash_after"] == model_hash(model)


# scores ------------------------------------------------------------------------------------------


def test_scores_against_plain_computation(model, evidence):
    X, y, a = TEST
    right, found = model.predict(X) == y, evidence["scores"]["after"]
    assert found["metrics"]["TA"]["value"] == pytest.approx(right.mean())
    by_group = {(int(g["label"]), int(g["attribute"])): g for g in found["groups"]}
    for pair, group in by_group.items():
        inside = (y == pair[0]) & (a == pair[1])
        assert group["n_rows"] == inside.sum()
        assert group["accuracy"]["value"] == pytest.approx(right[inside].mean())
    worst = min(group["accuracy"]["value"] for group in by_group.values())
    assert found["metrics"]["WG"]["value"] == pytest.approx(worst)
    assert found["metrics"]["GA"]["value"] == pytest.approx(right[(y == 1) & (a == 0)].mean())
    rest = np.setdiff1d(np.arange(200), FORGET)
    splits = {
        n: (TRAIN[0][r], TRAIN[1][r]) for n, r in (("remaining", rest), ("forgotten", FORGET))
    }
    scores = measure(model, *TEST, **splits, n_bootstrap=5)
    for name, split in (("RA", "remaining"), ("UA", "forgotten")):
        assert scores.metrics[name].value == pytest.approx(model.score(*splits[split]))
    assert from_json(ModelScores, json.loads(json.dumps(as_json(scores)))) == scores
    one = build_evidence(model, X[y == 1], y[y == 1], a[y == 1], n_bootstrap=5)
    assert one["scores"]["after"]["metrics"]["EO"]["value"] is None, "undefined"


def test_single_rows_and_groups_nobody_asked_about(model, tmp_path):
    before = FineTuneUnlearner(make_net(), random_state=0).fit(*TRAIN)
    forgotten = TRAIN[0][FORGET], TRAIN[1][FORGET]
    given = {"before": before, "forgotten": forgotten, "n_bootstrap": 5}
    found = full(model, gold=before, **given)
    odds = [
        log_odds_of_label(forgotten[1], one.predict_log_proba(forgotten[0]), classes=one.classes_)
        for one in (model, before)
    ]
    expected = {"after": row_distance_score(odds[0], odds[1:]), "before": 0}
    assert found["row_distance"] == pytest.approx(expected)
    X, y, a = TEST
    answers = y, model.predict(X), before.predict(X)
    damage = damage_to_other_groups(*answers, groups=a, forget_groups=(1, 0))
    by_default = build_evidence(model, *TEST, **given)["damage"]
    assert (found["damage"]["against"], by_default["against"]) == ("gold", "before")
    for told in (found["damage"], by_default):
        assert told["loss"] == pytest.approx(damage.loss) and told["n_rows"] == damage.n_rows
        assert (told["label"], told["attribute"]) == tuple(map(str, damage.group))
    page = page_of(found, tmp_path).text
    assert f"by {-100 * damage.loss:+.1f} points against the retrained" in page
    assert f"by {expected['after']:.2f} nats" in page
    few = build_evidence(model, X[:40], y[:40], a[:40], before=before, n_bootstrap=5)
    assert few["damage"] is None is few["row_distance"]


def test_interval_of_the_test_accuracy_is_that_of_a_proportion():
    rng = np.random.default_rng(0)
    y, a = (rng.random(400) < 0.8).astype(int), rng.integers(2, size=400)
    model = DummyClassifier().fit(a[:, None], y)
    scores = measure(model, a[:, None], y, a, forget_groups=[(1, 0)], n_bootstrap=100)
    share = y.mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    found = astuple(scores.metrics["TA"])
    assert found == pytest.approx((share, share - half, share + half), abs=0.015)
    perfect = [group.accuracy for group in scores.groups if group.label == "1"]
    assert len(perfect) == 2 and all(one.value == 1 > one.low for one in perfect)


# the page ----------------------------------------------------------------------------------------


def test_page_shows_what_failed_first_and_the_figures(model, tmp_path):
    scan = ResidueScan([Finding("forgotten row", "cache.npy", "float32", rows=(3,))])
    evidence = full(model, residue=scan, reason="Art. 17", request_id="2026-17")
    statuses = [check["status"] for check in evidence["gate"]["checks"]]
    assert list(dict.fromkeys(statuses)) == ["failed", "inconclusive", "passed"]
    evidence["gate"]["checks"].reverse()
    evidence["attacks"].sort(key=lambda attack: attack["power"]["value"])
    page = page_of(evidence, tmp_path)
    order = "Not accepted", "✕ Failed", "? Not", "✓ Passed", "What was asked"
    places = [page.text.index(word) for word in order]
    assert places == sorted(places)
    assert page.text.index(" leak ") < page.text.index(" no leak found ")
    score = evidence["scores"]["after"]["metrics"]["TA"]
    interval = f"[{100 * score['low']:.1f}%, {100 * score['high']:.1f}%]"
    facts = f"{100 * score['value']:.1f}%", interval, "6 rows of 200", "0.800", "max_epochs = 1"
    for fact in (*facts, "Art. 17", "2026-17", "cache.npy", evidence["model"]["hash_after"]):
        assert fact in page.text
    assert set(re.findall(r"https?://[^\s\"']+", page.html)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in page.html and "@import" not in page.html
    policy = next(v for n, v in page.attributes if n == "content" and v.startswith("default-src"))
    assert "default-src 'none'" in policy and "script" not in policy


def test_many_attacks_do_not_hide_the_other_checks(model, tmp_path):
    unsure = [finding("inconclusive", power=0.51, group=f"({y}, 7)") for y in range(5)]
    page = page_of(full(model, attacks=[LEAK, *unsure]), tmp_path).text
    checks = page[page.index("Checks") : page.index("What was asked")]
    assert "Leakage: 5 attacks ? Not decided" in checks and f"group {LEAK.group} ✕" in checks
    assert [checks.count(found.group) for found in unsure] == [0] * 5
    assert all(found.group in page for found in unsure)


def test_page_says_what_is_not_known(model, tmp_path):
    shown = page_of(build_evidence(model), tmp_path).text
    assert "This is empirical evidence and not a certificate" in shown and "Accepted" not in shown
    for missing in ("Not measured", "No attack was run", "No scan was run", "Not decided"):
        assert missing in shown


def poisoned(evidence):
    """Put a hostile text in all places, also those that are not ours to fill."""

    def changed(value):
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [changed(item) for item in value]
        return HOSTILE if isinstance(value, str) else value

    document = changed(evidence)
    for check in document["gate"]["checks"]:
        check["status"] = "failed"
    for attack in document["attacks"]:
        attack["verdict"] = "leak"
    found = ResidueScan([Finding("forgotten row", HOSTILE, HOSTILE)]).to_dict()
    document["residue"] = {**found, "not_searched": [HOSTILE]}
    document["request"]["reason"] = HOSTILE + "broken \ud800 text"
    return document


def test_every_text_of_the_document_is_escaped(evidence, tmp_path):
    changed = poisoned(evidence)
    page = page_of(changed, tmp_path)
    # a text is shown in one piece, or as part of a longer one
    assert page.text.count("<img src=x onerror=alert(1)>") > 30 and "7821" not in page.text
    assert r"\u{d800}" in page.html and r"\u{202e}" in page.html
    assert json.loads((tmp_path / "report.json").read_text())["title"] == HOSTILE
    changed["gate"]["checks"][0]["status"] = HOSTILE
    with pytest.raises(ValueError, match="incomplete or damaged"):
        page_of(changed, tmp_path)


# documents in Markdown ---------------------------------------------------------------------------

KINDS = "card", "reply", "record"
ASKED = DeletionRequest(7, "done", "letter of 2 May", 6, "2026-05-02T10:00:00+00:00", 1, "MIU")
ASKED = replace(ASKED, model_before="1" * 64, finished="2026-05-03T10:00:00+00:00")


def document(evidence, kind, tmp_path):
    write_report(evidence, tmp_path / "a.md", kind=kind)
    assert [file.name for file in tmp_path.iterdir()] == ["a.md"]
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    assert "not legal advice" in text and STATEMENT in text and "[name" in text
    return text


def test_documents_from_full_evidence(model, tmp_path):
    forgotten = TRAIN[0][FORGET], TRAIN[1][FORGET]
    given = {"forgotten": forgotten, "request": ASKED, "hash_before": ""}
    evidence = full(model, gold=copy.deepcopy(model), **given)
    assert evidence["model"]["hash_before"] == ASKED.model_before
    card, reply, record = (document(evidence, kind, tmp_path) for kind in KINDS)
    n_rows = "6 records of the 200 that the model was trained on were taken out"
    for text in (card, reply, record):
        assert n_rows in text and "changed by the method miu" in text
        assert "3 comparisons: 1 found signs of it, 1 found none, and 1 could not tell" in text
    for fact in ("on 2026-05-02. We noted: letter of 2 May. It named 6", "out on 2026-05-03"):
        assert fact in reply
    score = evidence["scores"]["after"]["metrics"]["TA"]
    shown = "{value:.1%} [{low:.1%}, {high:.1%}]".format(**score)
    found = re.findall(r"Test accuracy \(TA\) \|[^|]*\| ([^|]*) \|", card + record)
    assert found == [shown, shown]
    assert "| (1, 0) | 26 | 6 | 20 |" in card and "has only 5 test rows" in card
    write_report(evidence, tmp_path / "b", kind="json")
    hashed = sha256((tmp_path / "b").read_bytes()).hexdigest()
    for fact in (hashed, *evidence["model"].values(), "does not have the hash that the ledger"):
        assert fact in record
    for check in evidence["gate"]["checks"]:
        assert f"| {check['name']} | {check['status']} |" in record


def test_documents_claim_nothing_that_was_not_measured(model, tmp_path):
    partly = build_evidence(model, *TEST, n_bootstrap=5)
    bare = build_evidence(model) | {"group_mix": None}
    for kind in KINDS:
        text, less = document(partly, kind, tmp_path), document(bare, kind, tmp_path)
        for missing in ("It was not tested whether", "Files were not searched", "0 passed"):
            assert missing in text and missing in less
        assert "not measured" in less or "No score" in less or "Not measured" in less
        assert "%" not in less and "nats" not in text and "nobody asked about," not in text
        assert ("[date]" in less) == (kind == "reply")
        for change, says, other in (
            ({"method": {**bare["method"], "effect": "exact"}}, "trained again from", "miu."),
            ({"gate": {**bare["gate"], "action": "retrained"}}, "trained again from", "miu."),
            ({"method": {**bare["method"], "effect": "none"}}, "not changed", "again from"),
            ({"request": {**bare["request"], "n_forgotten": 0}}, "No record", "The model was"),
        ):
            changed = document(bare | change, kind, tmp_path)
            assert says in changed and other not in changed


def test_no_text_breaks_out_of_markdown(evidence, tmp_path):
    changed = poisoned(evidence)
    changed["ledger"] = dict.fromkeys(("received", "state", "model_after"), HOSTILE) | {"n_ids": 1}
    for kind in KINDS:
        write_report(changed, tmp_path / "a.md", kind=kind)
        text = (tmp_path / "a.md").read_text(encoding="utf-8")
        assert text.count("onerror=alert(1)") >= 4 and "7821" not in text and "\u202e" not in text
        plain = re.sub(r"\\.", "", text)
        assert not re.search(r"[<>*]|\]\(|http:|^# h|`c|\\|[|] [|]", plain, re.MULTILINE)
        for table in re.findall(r"(?:^\|.*\n)+", plain, re.MULTILINE):
            assert len({line.count("|") for line in table.splitlines()}) == 1, table


# files -------------------------------------------------------------------------------------------


def test_files(model, tmp_path):
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    options = {"n_bootstrap": 5, "created": moment}
    evidence = write_report(model, tmp_path / "a.html", *TEST, **options)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.html", "a.json"]
    assert read_evidence(tmp_path / "a.json") == json.loads(json.dumps(evidence))
    for path, more, message in (
        ("a.json", {}, "beside the page"),
        ("a.html", {"reason": "x"}, "no further arguments"),
        ("a.html", {"kind": "pdf"}, "kind must be"),
    ):
        with pytest.raises(ValueError, match=message):
            write_report(evidence, tmp_path / path, **more)
    with pytest.raises(ValueError, match="incomplete or damaged"):
        write_report({"title": "x"}, tmp_path / "b.html")
    assert not (tmp_path / "b.json").exists()
    old = {suffix: (tmp_path / f"a.{suffix}").read_bytes() for suffix in ("html", "json")}
    write_report(model, tmp_path / "a.html", *TEST, **options)
    assert old == {suffix: (tmp_path / f"a.{suffix}").read_bytes() for suffix in old}


def test_what_is_not_evidence_and_what_is_not_measured(model, tmp_path):
    for content in ("{" * 20000, json.dumps({"format": "grmu_sk evidence 99"})):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(ValueError, match="is not evidence"):
            read_evidence(tmp_path / "a.json")
    X, y, a = TEST
    with pytest.raises(ValueError, match="all of X, y and groups"):
        build_evidence(model, X, y)
    with pytest.raises(ValueError, match="confidence"):
        measure(model, X, y, a, confidence=95)


def test_findings_of_attacks_are_read_again():
    fields = json.loads(json.dumps(as_json(UNSURE)))
    assert fields["power"]["high"] is None and from_json(LeakageFinding, fields) == UNSURE
    fields["power"]["value"] = None
    with pytest.raises(ValueError, match="power was not measured"):
        from_json(LeakageFinding, {**fields, "verdict": "no leak found"})
