"""grmu report, gate and preflight, from saved files alone."""

import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_table

from grmu_sk import MIUUnlearner
from grmu_sk.audit import AttackResult
from grmu_sk.cli import main

NO_LEAK = AttackResult("RMIA AUC", "all", 0.5, 0.4, 0.6, 0.8, "no leak found")
LOOSE = ["--test-accuracy", "1", "--worst-group", "1", "--forgotten-groups", "1", "--eo", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    table = make_table(320)
    unlearner = MIUUnlearner(max_epochs=1, tune_updates=(2, 1), random_state=0)
    unlearner.fit(table.X[:200], table.y[:200], table.a[:200])
    unlearner.save(folder / "before.model")
    forget = np.flatnonzero((table.y[:200] == 1) & (table.a[:200] == 0))[:6]
    unlearner.unlearn(forget).save(folder / "after.model")
    for name, rows in (("training", slice(0, 200)), ("test", slice(200, 320))):
        np.savez(folder / name, X=table.X[rows], y=table.y[rows], groups=table.a[rows])
    (folder / "rows.txt").write_text("\n".join(map(str, forget)))
    np.save(folder / "rows.npy", forget)
    (folder / "attacks.json").write_text(json.dumps([NO_LEAK.to_dict()]))
    (folder / "clean").mkdir()
    (folder / "dirty").mkdir()
    np.savez_compressed(folder / "dirty" / "cache", X=table.X[:200])
    return folder


def run(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def report(folder, out, *more, scan="clean"):
    return run(
        *("report", folder / "after.model", "--test", folder / "test.npz"),
        *("--training", folder / "training.npz", "--before", folder / "before.model"),
        *("--attacks", folder / "attacks.json", "--scan", folder / scan),
        *("--out", out, "--bootstrap", 5, *more),
    )


def test_report_and_gate(folder, tmp_path):
    result = report(folder, tmp_path / "r.html", "--reason", "<b>Art. 17</b>")
    assert result.exit_code == 0, result.output
    assert "Test accuracy" in result.output
    evidence = json.loads((tmp_path / "r.json").read_text())
    assert evidence["residue"]["verdict"] == "clean"
    assert evidence["scores"]["after"]["metrics"]["UA"]["value"] is not None
    assert evidence["model"]["hash_before"]
    assert "&lt;b&gt;Art. 17" in (tmp_path / "r.html").read_text()
    passed = run("gate", tmp_path / "r.json", *LOOSE)
    assert (passed.exit_code, passed.output.splitlines()[0]) == (0, "Passed (checked)")
    failed = run("gate", tmp_path / "r.json", *LOOSE, "--compare-to", "gold")
    assert failed.exit_code == 3
    assert "inconclusive" in failed.output
    lenient = ["--compare-to", "gold", "--allow-inconclusive"]
    assert run("gate", tmp_path / "r.json", *LOOSE, *lenient).exit_code == 0
    nothing = ["--no-leakage", "--no-residue", "--compare-to", "gold"]
    none = [word if word.startswith("--") else "none" for word in LOOSE]
    assert run("gate", tmp_path / "r.json", *none, *nothing).exit_code == 0


def test_residue_fails_the_gate(folder, tmp_path):
    result = report(folder, tmp_path / "r.html", scan="dirty")
    assert "failed" in result.output and "cache.npz" in result.output
    assert run("gate", tmp_path / "r.json", *LOOSE).exit_code == 3
    assert run("gate", tmp_path / "r.json", *LOOSE, "--no-residue").exit_code == 0


def test_scores_of_an_earlier_report_stand_for_the_model(folder, tmp_path):
    result = run(
        *("report", folder / "before.model", "--test", folder / "test.npz", "--bootstrap", 5),
        *("--out", tmp_path / "b.html"),
    )
    assert result.exit_code == 0, result.output
    result = run(
        *("report", folder / "after.model", "--test", folder / "test.npz"),
        *("--before", tmp_path / "b.json", "--out", tmp_path / "a.html", "--bootstrap", 5),
    )
    assert result.exit_code == 0, result.output
    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("b", "a"))
    assert second["scores"]["before"] == first["scores"]["after"]


def test_exit_code_of_the_program(folder, tmp_path):
    report(folder, tmp_path / "r.html", scan="dirty")
    done = subprocess.run(
        [sys.executable, "-m", "grmu_sk", "gate", str(tmp_path / "r.json")],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 3


@pytest.mark.parametrize("rows", ["rows.txt", "rows.npy"])
def test_preflight(rows, folder):
    before = (folder / "before.model").read_bytes()
    common = (
        *("preflight", folder / "before.model", "--training", folder / "training.npz"),
        *("--forget", folder / rows),
    )
    result = run(*common)
    assert result.exit_code == 0, result.output
    assert "Request: 6 of 200 rows" in result.output and "Recommended: " in result.output
    found = json.loads(run(*common, "--json").output)
    assert found["n_requested"] == 6
    assert (folder / "before.model").read_bytes() == before


def test_names_do_not_steer_the_terminal(folder, tmp_path):
    name = "\x1b]0;owned\x07\x9b2J\u202eeht"
    table = make_table(60)
    groups = np.array(["kept é", name])[table.a]
    unlearner = MIUUnlearner(max_epochs=1, tune_updates=(2, 1), random_state=0)
    unlearner.fit(table.X, table.y, groups).save(tmp_path / "model")
    np.savez(tmp_path / "training", X=table.X, y=table.y, groups=groups)
    data = (tmp_path / "model", "--training", tmp_path / "training.npz", "--forget")
    (tmp_path / "rows").write_text("3")
    found = run("preflight", *data, tmp_path / "rows").output
    assert r"\x1b]0;owned\x07\x9b2J\u202eeht" in found and "kept é" in found
    (tmp_path / name).write_text("3 x")
    failed = run("preflight", *data, tmp_path / name)
    assert failed.exit_code == 1 and not {*"\x1b\x07\x9b\u202e"} & {*found, *failed.output}


def test_own_net(folder, tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(
        "from conftest import make_net\ndef build():\n    return make_net()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from conftest import make_net

    table = make_table(200)
    unlearner = MIUUnlearner(make_net(), max_epochs=1, tune_updates=(2, 1), random_state=0)
    unlearner.fit(table.X, table.y, table.a).save(tmp_path / "model")
    out = ("--out", tmp_path / "r.html")
    result = run("report", tmp_path / "model", "--net", "my_net:build", *out)
    assert result.exit_code == 0, result.output
    result = run("report", tmp_path / "model", "--net", "my_net:nothing")
    assert result.exit_code == 1 and "cannot be imported" in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"X": np.zeros((3, 4))}, "lacks the array"),
        ({"X": np.zeros((3, 4)), "y": np.zeros(2)}, "differ in length"),
        ({"X": np.zeros((3, 4)), "y": np.array([None, 1, 2])}, "not a .npz file of plain arrays"),
        ({"X": np.zeros((3, 4)), "y": np.zeros(3)}, "lacks the array groups"),
    ],
)
def test_bad_test_rows(content, message, folder, tmp_path):
    np.savez(tmp_path / "bad", **content)
    result = run("report", folder / "after.model", "--test", tmp_path / "bad.npz")
    assert result.exit_code in (1, 2)
    assert message in result.output.replace("\n", " ")


def test_bad_files(folder, tmp_path):
    (tmp_path / "bad.json").write_text('{"format": "grmu_sk evidence", "format_version": 1}')
    result = run("gate", tmp_path / "bad.json")
    assert result.exit_code == 1 and "incomplete or damaged" in result.output
    (tmp_path / "rows.txt").write_text("1 two")
    common = ("preflight", folder / "before.model", "--training", folder / "training.npz")
    result = run(*common, "--forget", tmp_path / "rows.txt")
    assert result.exit_code == 1 and "does not hold row numbers" in result.output
    (tmp_path / "attacks.json").write_text("{}")
    result = run("report", folder / "after.model", "--attacks", tmp_path / "attacks.json")
    assert result.exit_code == 1 and "not a JSON list" in result.output
    result = run("report", folder / "after.model", "--scan", folder)
    assert result.exit_code == 2 and "--scan needs --training" in result.output
    (tmp_path / "junk.npz").write_bytes(b"PK\3\4junk")
    result = run("report", folder / "after.model", "--test", tmp_path / "junk.npz")
    assert result.exit_code == 1 and "not a .npz file" in result.output
    assert run("gate", tmp_path / "bad.json", "--eo", "much").exit_code == 2


def test_audit_writes_what_report_reads(folder, tmp_path):
    given = [
        *("audit", folder / "after.model", "--original", folder / "before.model"),
        *("--training", folder / "training.npz", "--nonmembers", folder / "test.npz"),
        *("--models", 4, "--cache", tmp_path / "cache"),
    ]
    result = run(*given, "--out", tmp_path / "attacks.json")
    assert result.exit_code == 0, result.output
    assert "4 reference models without REWEIGHT" in result.output
    written = json.loads((tmp_path / "attacks.json").read_text())
    # six rows of one group, and those that stay; each by three attacks
    groups = {(fields["name"].split()[3], fields["group"]) for fields in written}
    assert ("forgotten", "all") in groups and ("remaining", "(1, 0)") in groups
    few = [fields for fields in written if "forgotten" in fields["name"]]
    assert {fields["verdict"] for fields in few} == {"inconclusive"}
    assert all(AttackResult.from_dict(fields).power > 0 for fields in written)
    again = run(*given, "--out", tmp_path / "decisive.json", "--decisive")
    assert again.exit_code == 0
    assert len(json.loads((tmp_path / "decisive.json").read_text())) <= len(written) / 2
    more = ["--attacks", tmp_path / "attacks.json"]
    assert report(folder, tmp_path / "r.html", *more).exit_code == 0
    evidence = json.loads((tmp_path / "r.json").read_text())
    assert evidence["attacks"] == written


def test_audit_needs_a_model_that_has_forgotten(folder):
    result = run(
        *("audit", folder / "before.model", "--original", folder / "before.model"),
        *("--training", folder / "training.npz", "--nonmembers", folder / "test.npz"),
    )
    assert result.exit_code == 1 and "has forgotten no row" in result.output
    result = run(
        *("audit", folder / "after.model", "--original", folder / "before.model"),
        *("--training", folder / "test.npz", "--nonmembers", folder / "test.npz"),
    )
    assert result.exit_code == 1 and "has 120 rows, but fit was given 200" in result.output
