import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from grmu_sk.cli import main
from grmu_sk.metrics import AVERAGE_GAP_METRICS


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The real demo with one seed."""
    out = tmp_path_factory.mktemp("demo")
    result = CliRunner().invoke(main, ["demo", "--seeds", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out, result


def test_demo_writes_tidy_results(demo):
    out, _ = demo
    results = pd.read_csv(out / "results.csv")
    columns = ["dataset", "ratio", "seed", "method", "reweight", "metric", "value"]
    assert list(results) == columns
    assert not results.duplicated(columns[:-1]).any()
    methods = list(dict.fromkeys(zip(results["method"], results["reweight"], strict=True)))
    assert methods == [
        ("pretrain", 0),
        ("retrain", 0),
        ("retrain", 1),
        ("gold_reseeded", 1),
        ("miu", 0),
        ("miu", 1),
    ]
    wide = results.set_index(["method", "reweight", "metric"])["value"].sort_index()
    gold = wide["retrain", 1]
    for method in methods:
        scores = wide[method]
        deltas = [abs(scores[name] - gold[name]) for name in AVERAGE_GAP_METRICS]
        assert scores["AVG_GAP"] == pytest.approx(100 - sum(deltas) / 6, abs=1e-2)
    assert wide["pretrain", 0, "RA"] > 95
    assert wide["retrain", 1, "AVG_GAP"] == 100


def test_demo_prints_the_table_and_lists_what_it_wrote(demo):
    out, result = demo
    assert (out / "table.txt").read_text(encoding="utf-8") in result.output
    written = ["results.csv", "table.txt", "group_accuracy.png", "method_comparison.png"]
    assert f"Written to {out}: {', '.join(written)}" in result.output
    assert sorted(path.name for path in out.iterdir()) == sorted(written)


@pytest.mark.parametrize("name", ["group_accuracy.png", "method_comparison.png"])
def test_demo_draws_figures(demo, name):
    with Image.open(demo[0] / name) as image:
        assert image.size[0] > 800
        drawn = np.asarray(image.convert("L"))
    assert 0.01 < (drawn < 128).mean() < 0.5, "neither empty nor covered"


def test_help_explains_everything():
    result = CliRunner().invoke(main, ["demo", "--help"])
    assert result.exit_code == 0
    for word in ("--seeds", "--methods", "--ratio", "--out", "gold_reseeded", "average gap"):
        assert word in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--seeds", "0"],
        ["demo", "--ratio", "1.5"],
        ["demo", "--methods", "nonsense"],
        ["demo", "--nonsense"],
        ["nonsense"],
    ],
)
def test_bad_usage_exits_with_2(arguments):
    assert CliRunner().invoke(main, arguments).exit_code == 2


def test_failure_exits_with_1_and_a_message(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "file" / "below")])
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert "Traceback" not in result.output


def test_python_m():
    done = subprocess.run(
        [sys.executable, "-m", "grmu_sk", "--help"], capture_output=True, text=True, check=True
    )
    assert "Exit codes: 0 done, 1 failure, 2 bad usage" in done.stdout
