"""grmu audit, gate, preflight and report, from saved files alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_table
from leakage_case import NO_LEAK

from grmu_sk import FineTuneUnlearner, MIUUnlearner
from grmu_sk.audit import DeletionLedger, LeakageFinding
from grmu_sk.audit.scores import as_json, from_json
from grmu_sk.cli import main
from grmu_sk.persistence import save

OPTIONS = ("--test-accuracy", "--worst-group", "--forgotten-groups", "--eo")
LOOSE = [word for name in OPTIONS for word in (name, "1")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    table = make_table(320)
    unlearner = MIUUnlearner(max_epochs=1, tune_updates=(2, 1), random_state=0)
    unlearner.fit(table.X[:200], table.y[:200], table.a[:200])
    save(unlearner, folder / "before.model")
    forget = np.flatnonzero((table.y[:200] == 1) & (table.a[:200] == 0))[:6]
    save(unlearner.unlearn(forget), folder / "after.model")
    for name, rows in (("training", slice(0, 200)), ("test", slice(200, 320))):
        np.savez(folder / name, X=table.X[rows], y=table.y[rows], groups=table.a[rows])
    (folder / "rows.txt").write_text("\n".join(map(str, forget)))
    np.save(folder / "rows.npy", forget)
    (folder / "attacks.json").write_text(json.dumps([as_json(NO_LEAK)]))
    for name in ("clean", "dirty"):
        (folder / name).mkdir()
    np.savez_compressed(folder / "dirty" / "cache", X=table.X[:200])
    return folder


def run(*arguments, code=0):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    return result.output


def report(folder, out, *more, scan="clean"):
    return run(
        *("report", folder / "after.model", "--test", folder / "test.npz"),
        *("--training", folder / "training.npz", "--before", folder / "before.model"),
        *("--attacks", folder / "attacks.json", "--scan", folder / scan),
        *("--out", out, "--bootstrap", 5, *more),
    )


def test_report_and_gate(folder, tmp_path):
    assert "Test accuracy" in report(folder, tmp_path / "r.html", "--reason", "<b>Art. 17</b>")
    evidence = json.loads((tmp_path / "r.json").read_text())
    assert evidence["residue"]["verdict"] == "clean" and evidence["model"]["hash_before"]
    metrics = evidence["scores"]["after"]["metrics"]
    assert metrics["RA"]["value"] is not None and metrics["UA"]["value"] is not None
    assert "&lt;b&gt;Art. 17" in (tmp_path / "r.html").read_text()
    gate = "gate", tmp_path / "r.json"
    assert run(*gate, *LOOSE).splitlines()[0] == "Passed (checked)"
    assert "inconclusive" in run(*gate, *LOOSE, "--compare-to", "gold", code=3)
    output = report(folder, tmp_path / "r.html", scan="dirty")
    assert "failed" in output and "cache.npz" in output
    assert "residue" not in run(*gate, *LOOSE, "--no-residue").lower()


def test_documents_of_a_request_in_a_ledger(folder, tmp_path):
    ledger = DeletionLedger(tmp_path / "ledger")
    ledger.add(["3"], reason="letter")
    asked = "report", folder / "after.model", "--ledger", ledger.path, "--request-id"
    assert "has no such request" in run(*asked, 2, code=2)
    run(*asked, 1, "--format", "reply", "--out", tmp_path / "a.md")
    assert "not carried out yet" in (tmp_path / "a.md").read_text()
    run(*asked, 1, "--out", tmp_path / "r.html")
    evidence = tmp_path / "r.json"
    for kind in ("html", "json", "card", "reply", "record"):
        run("report", evidence, "--format", kind, "--out", tmp_path / kind)
    for one, other in (("html", "r.html"), ("json", "r.json"), ("html.json", "r.json")):
        assert (tmp_path / one).read_bytes() == (tmp_path / other).read_bytes()
    assert (tmp_path / "reply").read_bytes() == (tmp_path / "a.md").read_bytes()
    assert "--format and --out only" in run("report", evidence, "--reason", "x", code=2)


def test_scores_of_an_earlier_report_stand_for_the_model(folder, tmp_path):
    common = "--test", folder / "test.npz", "--bootstrap", 5, "--out"
    run("report", folder / "before.model", *common, tmp_path / "b.html")
    after = "report", folder / "after.model", "--before", tmp_path / "b.json"
    run(*after, *common, tmp_path / "a.html")
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("b", "a"))
    assert second["scores"]["before"] == first["scores"]["after"]


def test_preflight(folder, monkeypatch):
    module = sys.modules["grmu_sk.audit.preflight"]
    monkeypatch.setattr(module, "_predicted_seconds", lambda *_: 1.0)
    before = (folder / "before.model").read_bytes()
    data = "--training", folder / "training.npz", "--forget", folder / "rows.npy"
    found = json.loads(run("preflight", folder / "before.model", *data, "--json"))
    assert found["n_requested"] == 6
    assert (folder / "before.model").read_bytes() == before


def test_names_do_not_steer_the_terminal(tmp_path):
    name = "\x1b]0;owned\x07\x9b2J\u202eeht"
    table = make_table(60)
    groups = np.array(["kept é", name])[table.a]
    save(FineTuneUnlearner(random_state=0).fit(table.X, table.y, groups), tmp_path / "model")
    np.savez(tmp_path / "training", X=table.X, y=table.y, groups=groups)
    data = "preflight", tmp_path / "model", "--training", tmp_path / "training.npz", "--forget"
    (tmp_path / "rows").write_text(" ".join(map(str, range(60))))
    found = run(*data, tmp_path / "rows")
    assert "Request: 60 of 60 rows" in found and "Recommended: none" in found
    assert r"\x1b]0;owned\x07\x9b2J\u202eeht" in found and "kept é" in found
    (tmp_path / name).write_text("3 x")
    assert not {*"\x1b\x07\x9b\u202e"} & {*found, *run(*data, tmp_path / name, code=1)}


def test_bad_files(folder, tmp_path):
    evidence = '{"format": "grmu_sk evidence 1", "scores": {"after": {}}}'
    texts = {"bad.json": evidence, "rows.txt": "1 two", "attacks.json": "[1]"}
    for name, text in {**texts, "junk.npz": "PK\3\4junk"}.items():
        (tmp_path / name).write_text(text)
    np.savez(tmp_path / "lengths", X=np.zeros((3, 4)), y=np.zeros(2))
    np.savez(tmp_path / "no_groups", X=np.zeros((3, 4)), y=np.zeros(3))
    model = "report", folder / "after.model"
    asked = "--training", folder / "training.npz", "--forget", tmp_path / "rows.txt"
    for command, code, message in (
        (("gate", tmp_path / "bad.json"), 1, "incomplete or damaged"),
        (("preflight", folder / "before.model", *asked), 1, "does not say which"),
        ((*model, "--attacks", tmp_path / "attacks.json"), 1, "no list of attacks"),
        ((*model, "--scan", folder), 2, "--scan needs --training"),
        ((*model, "--key-file", tmp_path / "rows.txt"), 2, "--key-file needs --ledger"),
        ((*model, "--test", tmp_path / "junk.npz"), 1, "not a .npz file"),
        ((*model, "--test", tmp_path / "lengths.npz"), 1, "differs in length"),
        ((*model, "--test", tmp_path / "no_groups.npz"), 1, "some are missing"),
    ):
        assert message in run(*command, code=code).replace("\n", " ")


def test_audit_writes_what_report_reads(folder, tmp_path):
    command = "audit", folder / "after.model", "--original", folder / "before.model"
    nonmembers = "--nonmembers", folder / "test.npz", "--models", 4
    given = *command, "--training", folder / "training.npz", *nonmembers
    output = run(*given, "--decisive", "--out", tmp_path / "attacks.json")
    assert "4 reference models" in output
    written = json.loads((tmp_path / "attacks.json").read_text())
    # six rows of one group, and those that stay; of three attacks the strongest, and leaks
    found = from_json(list[LeakageFinding], written)
    groups = [(one.rows, one.group) for one in found if one.verdict != "leak"]
    assert ("forgotten", "all") in groups and ("remaining", "(1, 0)") in groups
    assert len(groups) == len(set(groups))
    assert {one.verdict for one in found if one.rows == "forgotten"} == {"inconclusive"}
    report(folder, tmp_path / "r.html", "--attacks", tmp_path / "attacks.json")
    assert json.loads((tmp_path / "r.json").read_text())["attacks"] == written
    none = "audit", folder / "before.model", "--original", folder / "before.model"
    assert "has forgotten no row" in run(
        *none, "--training", folder / "training.npz", *nonmembers, code=1
    )
    other = *command, "--training", folder / "test.npz", *nonmembers
    assert "has 120 rows, but fit was given 200" in run(*other, code=1)


def test_help_and_version_import_nothing_slow():
    code = "import sys; from grmu_sk.cli import main; main([sys.argv[1]], standalone_mode=False)\n"
    code += "print({'torch', 'numpy', 'pandas', 'sklearn'} & {*sys.modules})"
    for option in ("--help", "--version"):
        program = [sys.executable, "-c", code, option]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        assert done.stdout.endswith("set()\n"), done.stdout
