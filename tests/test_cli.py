from functools import partial

import pandas as pd
import pytest
from click.testing import CliRunner

from grmu_sk import comparison, datasets
from grmu_sk.cli import main
from grmu_sk.metrics import AVERAGE_GAP_METRICS


@pytest.fixture(scope="module")
def demo(tmp_path_factory, quick_attack):
    """The demo with one seed and a third of its training rows."""
    out = tmp_path_factory.mktemp("demo")
    few = partial(datasets.load_digits_on_backgrounds, n_test=1200)
    arguments = ["demo", "--data", "digits", "--methods", "miu", "--seeds", "1", "--jobs", "1"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "load_digits_on_backgrounds", few)
        result = CliRunner().invoke(main, [*arguments, "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out, result


def test_demo_writes_tidy_results(demo):
    out, _ = demo
    results = pd.read_csv(out / "results.csv")
    columns = ["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]
    assert not results.duplicated(columns[:-1]).any()
    methods = list(dict.fromkeys(zip(results["method"], results["reweight"], strict=True)))
    exact = [("pretrain", 0), ("retrain", 0), ("retrain", 1), ("gold_reseeded", 1)]
    assert methods == [*exact, ("miu", 0), ("miu", 1)]
    wide = results.set_index(["method", "reweight", "metric"])["value"].sort_index()
    gold = wide["retrain", 1]
    for method in methods:
        scores = wide[method]
        deltas = [abs(scores[name] - gold[name]) for name in AVERAGE_GAP_METRICS]
        assert scores["AVG_GAP"] == pytest.approx(100 - sum(deltas) / 6, abs=1e-2)
    assert wide["pretrain", 0, "RA"] > 85
    assert wide["retrain", 1, "AVG_GAP"] == 100


def test_demo_prints_its_table_and_writes_files_and_figures(demo):
    out, result = demo
    assert (out / "table.txt").read_text(encoding="utf-8") in result.output
    written = {"results.csv", "table.txt", "summary.txt"}
    figures = {"group_accuracy.png", "method_comparison.png"}
    assert {path.name for path in out.iterdir()} == written | figures


AUDIT = "audit file --original file --training file --nonmembers file"


@pytest.mark.parametrize(
    ("command", "words", "code"),
    [
        ("demo --seeds 0", "range", 2),
        ("demo --methods nonsense", "nonsense", 2),
        ("demo --out file/below", "Errno", 1),
        (f"{AUDIT} --out file/below", "Errno", 1),
    ],
)
def test_bad_options_are_refused_before_any_work(tmp_path, monkeypatch, command, words, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(comparison, "compare", lambda *args, **kwargs: pytest.fail("worked"))
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == code, result.output
    assert "Error: " in result.output and "Traceback" not in result.output
    assert words in result.output
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]
