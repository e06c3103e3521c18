import pandas as pd
import pytest
from click.testing import CliRunner
from matplotlib import pyplot as plt
from result_rows import models, run_rows

from grmu_sk.cli import main

GROUPS = (("blond", "male"), ("blond", "female"), ("dark", "male"), ("dark", "female"))


def run(*arguments):
    return CliRunner().invoke(main, ["figure", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("results")
    both = pd.concat(
        [
            run_rows(models(), dataset="celeba", forget="pairs-2", groups=GROUPS),
            run_rows(models(), dataset="adult_sex"),
            run_rows(models(), dataset="fairface"),
        ]
    )
    both.to_csv(place / "results.csv", index=False)
    return place


def test_one_pair_of_files_a_data_set(folder, tmp_path):
    done = run(4, "--results", folder, "--out", tmp_path / "new")
    assert done.exit_code == 0, done.output
    names = sorted(file.name for file in (tmp_path / "new").iterdir())
    assert names == [
        f"figure_4_{name}.{kind}" for name in ("adult_sex", "fairface") for kind in ("png", "svg")
    ]
    assert "Figure 4, adult_sex:" in done.stdout
    assert "Missing: group, ratio 0.1:" in done.stdout
    assert plt.get_fignums() == [], "figures are closed"


def test_groups(folder, tmp_path):
    options = ("--mark", "blond,male", "--mark", "dark, female")
    done = run(2, "--results", folder, "--out", tmp_path, *options)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "figure_2_celeba.svg").read_text(encoding="utf-8")
    assert text.count("(forgotten from)") == 2


def test_methods(folder, tmp_path):
    done = run(
        4, "--results", folder, "--out", tmp_path, "--dataset", "fairface", "--methods", "miu, ssd"
    )
    assert done.exit_code == 0, done.output
    text = (tmp_path / "figure_4_fairface.svg").read_text(encoding="utf-8")
    assert "miu + reweight" in text
    assert "scrub" not in text
    assert "ratio 0.5: ssd; ssd + reweight" in done.stdout


@pytest.mark.parametrize("number", [3, 4, 5, 6, 8])
def test_paper_alone(number, tmp_path):
    done = run(number, "--out", tmp_path, *(["--dataset", "celeba"] if number < 6 else []))
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.iterdir())) == 2


def test_failures(folder, tmp_path):
    assert "1 is not in the range 2<=x<=8" in run(1).output
    for number in (2, 7):
        done = run(number, "--out", tmp_path)
        assert done.exit_code == 2
        assert f"no numbers of Figure {number}" in done.output
    done = run(2, "--results", folder, "--out", tmp_path, "--mark", "blond")
    assert "'blond' is no group: write label,attribute" in done.output
    done = run(8, "--results", folder, "--out", tmp_path, "--dataset", "fairface")
    assert done.exit_code == 1
    assert "several weights of its calibration" in done.output
    assert not list(tmp_path.iterdir()), "no half result"
