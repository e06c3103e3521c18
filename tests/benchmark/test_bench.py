import signal
from functools import partial
from types import SimpleNamespace

import pandas as pd
import pytest
from click.testing import CliRunner
from quick_benchmark import TRAINING, UNLEARNING
from result_rows import full_results, models, run_rows

from grmu_sk.cli import main

GROUPS = (("blond", "male"), ("blond", "female"), ("dark", "male"), ("dark", "female"))


def grmu(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


bench, table, figure = (partial(grmu, name) for name in ("bench", "table", "figure"))


def quick_arguments(folder, out, *more, **changes):
    preset, text = folder / "quick.toml", ""
    for name, section in {"training": TRAINING | changes, "unlearning": UNLEARNING}.items():
        entries = [f"{key} = {value}" for key, value in section.items()]
        text += "\n".join([f'["digits/small_cnn".{name}]', *entries, ""])
    preset.write_text(text)
    quick = ("--dataset", "digits", "--preset", preset, "--methods", "fine_tune", "--seeds", 1)
    return [*quick, "--selection", "last", "--backend", "sequential", "--out", out, *more]


def test_interrupted_with_worker_processes_and_resumed(tmp_path, monkeypatch, quick_attack):
    out = tmp_path / "out"

    class Ends:
        def write(self, text):
            if text.startswith("2/"):
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("grmu_sk.benchmark.jobs.sys", SimpleNamespace(stderr=Ends()))
    result = bench(*quick_arguments(tmp_path, out, "--backend", "loky", "--jobs", 2))
    monkeypatch.undo()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert result.exit_code == 130
    assert "Interrupted. The same command goes on" in result.output
    kept = {path: path.read_bytes() for path in out.glob("jobs/*.json")}
    assert 2 <= len(kept) < 10
    result = bench(*quick_arguments(tmp_path, out))
    assert result.exit_code == 0, result.output
    assert f"{10 - len(kept)} jobs done now, {len(kept)} before, 0 failed" in result.output
    lines = [line.split()[0] for line in result.stderr.splitlines() if " jobs, " in line]
    assert lines == [f"{n}/{10 - len(kept)}" for n in range(1, 11 - len(kept))]
    assert all(path.read_bytes() == raw for path, raw in kept.items())
    made = table(1, "--dataset", "digits", "--results", out, "--selection", "last")
    assert made.exit_code == 0 and "gold standard, other seed" in made.output, made.output
    more = bench(*quick_arguments(tmp_path, out, "--methods", "no_op,fine_tune", "--dry-run"))
    assert "11 jobs, 10 of them done." in more.output
    listed = [line for line in more.output.splitlines() if line.startswith("to do")]
    assert [line.split()[2] for line in listed] == ["no_op"]
    refused = bench(*quick_arguments(tmp_path, out, lr=0.04))
    assert (refused.exit_code, "setting.lr" in refused.output) == (1, True)


def test_bad_usage_exits_with_2_and_failed_jobs_with_1(tmp_path, monkeypatch):
    for arguments, expected in [
        (["--dataset", "mnist"], "no problem 'mnist'"),
        (["--dataset", "digits", "--ratios", "0.5,1.5"], "1.5"),
    ]:
        result = bench(*arguments, "--out", tmp_path / "new")
        assert (result.exit_code, expected in result.output) == (2, True)
        assert not (tmp_path / "new").exists()

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr("grmu_sk.benchmark.jobs._Work.run", fail)
    result = bench(*quick_arguments(tmp_path, tmp_path / "out"))
    assert result.exit_code == 1
    assert "Failed: pretrain (seed 0, training): MemoryError" in result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("results")
    pairs = run_rows(models(), dataset="celeba", forget="pairs-2", groups=GROUPS)
    others = [run_rows(models(), dataset=name) for name in ("adult_sex", "fairface")]
    pd.concat([full_results("celeba"), pairs, *others]).to_csv(place / "results.csv", index=False)
    return place


def test_tables_from_results_and_without(folder):
    from_folder, from_file = (table(1, "--results", p) for p in (folder, folder / "results.csv"))
    assert from_folder.stdout == from_file.stdout
    assert "gold standard, other seed" in from_folder.stdout and "(paper)" in from_folder.stdout
    assert "Table 7." in table(7).stdout
    done = table(6, "--results", folder, "--dataset", "adult_sex", "--format", "csv")
    assert done.stdout.startswith("dataset,") and "adult_sex" in done.stdout
    assert "Gold standard" in done.stderr and "Gold standard" not in done.stdout


def test_figures_are_files_for_each_data_set(folder, tmp_path):
    done = figure(6, "--results", folder, "--out", tmp_path / "new", "--dataset", "fairface")
    assert done.exit_code == 0, done.output
    names = sorted(file.name for file in (tmp_path / "new").iterdir())
    assert names == ["figure_6_fairface.png", "figure_6_fairface.svg"]
    assert "Missing, fairface, groups-9, ratio 0.5:" in done.stdout
    options = ("--dataset", "fairface", "--methods", "miu, ssd")
    done = figure(4, "--results", folder, "--out", tmp_path, *options)
    text = (tmp_path / "figure_4_fairface.svg").read_text(encoding="utf-8")
    assert "miu + reweight" in text and "scrub" not in text
    assert "ratio 0.5: ssd; ssd + reweight" in done.stdout
    refused = figure(8, "--results", folder, "--out", tmp_path / "no", "--dataset", "fairface")
    assert refused.exit_code == 1 and not (tmp_path / "no").exists(), "no half result"
