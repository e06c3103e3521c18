import pandas as pd
import pytest
from click.testing import CliRunner
from result_rows import full_results, models, run_rows

from grmu_sk.benchmark.paper import GOLD, RESEEDED_GOLD, Model
from grmu_sk.benchmark.results import bench_command
from grmu_sk.cli import main


def run(*arguments):
    return CliRunner().invoke(main, ["table", *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("results")
    both = pd.concat([full_results("celeba"), run_rows(models(), dataset="adult_sex")])
    both.to_csv(place / "results.csv", index=False)
    return place


@pytest.mark.parametrize("number", range(1, 19))
def test_paper_tables_without_results(number):
    done = run(number)
    assert done.exit_code == 0, done.output
    assert f"Table {number}." in done.stdout


def test_folder_or_file(folder):
    from_folder = run(1, "--results", folder)
    from_file = run(1, "--results", folder / "results.csv")
    assert from_folder.exit_code == 0, from_folder.output
    assert from_folder.stdout == from_file.stdout
    assert "gold_reseeded (ceiling)" in from_folder.stdout
    assert "  paper" in from_folder.stdout


def test_another_data_set(folder):
    done = run(6, "--results", folder, "--dataset", "adult_sex")
    assert done.exit_code == 0, done.output
    assert "Table 6. Unlearning: adult_sex" in done.stdout
    assert "  paper" not in done.stdout


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("t.md", "**Table 1"),
        ("t.tex", "% needs"),
        ("t.csv", "dataset,method"),
        ("t.txt", "Table 1."),
    ],
)
def test_suffix_chooses_the_format(folder, tmp_path, name, start):
    file = tmp_path / "new" / name
    done = run(1, "--results", folder, "--out", file)
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    assert file.read_text(encoding="utf-8").startswith(start)
    done = run(1, "--results", folder, "--out", file, "--format", "latex")
    assert file.read_text(encoding="utf-8").startswith("% needs")


def test_notes_of_csv_go_to_the_other_stream(folder):
    done = run(1, "--results", folder, "--format", "csv")
    assert "Gold standard" not in done.stdout
    assert "Gold standard" in done.stderr
    lines = done.stdout.splitlines()
    assert len({line.count(",") for line in lines}) == 1


def test_last_epoch_gold(folder):
    done = run(1, "--results", folder, "--selection", "last")
    assert done.exit_code == 1
    assert "selection 'last'" in done.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "lacks the columns dataset, forget"),
        ("", "cannot be read as a CSV file"),
        ('a,b\n1,"2\n', "cannot be read as a CSV file"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    file = tmp_path / "broken.csv"
    file.write_text(text)
    done = run(1, "--results", file)
    assert done.exit_code == 1
    assert str(file) in done.output
    assert message in done.output
    assert "Traceback" not in done.output


def test_a_wrong_cell_is_found(folder, tmp_path):
    lines = (folder / "results.csv").read_text().splitlines()
    cells = lines[6].split(",")
    lines[6] = ",".join([*cells[:-1], "ninety"])
    file = tmp_path / "wrong.csv"
    file.write_text("\n".join(lines))
    done = run(1, "--results", file)
    assert f"{file}, line 7, column 'value': expected a finite number, got 'ninety'" in done.output


def test_other_failures(folder, tmp_path):
    assert run(19).exit_code == 2
    assert "19 is not in the range 1<=x<=18" in run(19).output
    assert "does not exist" in run(1, "--results", tmp_path / "no").output
    assert "no results at" in run(1, "--results", tmp_path).output
    done = run(2, "--results", folder)
    assert done.exit_code == 1
    assert "no data set 'waterbirds'; they hold adult_sex, celeba" in done.output


@pytest.mark.parametrize(
    "wanted",
    [
        [],
        [GOLD, RESEEDED_GOLD],
        [Model("miu", 1), Model("scrub", 0), Model("miu", 0, "no_retaining")],
        [Model("miu", 1, "lam=0.1"), Model("miu", 1, "lam=10")],
    ],
)
def test_commands_for_missing_runs_are_understood(wanted, tmp_path):
    command = bench_command("digits", "group", 0.5, wanted, [0, 1], "last")
    words = command.replace("RESULTS", str(tmp_path)).split()
    done = CliRunner().invoke(main, [*words[1:], "--dry-run"])
    assert done.exit_code == 0, done.output
    for model in wanted:
        names = (model.method, model.variant)
        lines = [line for line in done.output.splitlines() if all(name in line for name in names)]
        assert any("seed 1, last" in line for line in lines), model
