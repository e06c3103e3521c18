import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from unittest.mock import Mock

import pandas as pd
import pytest
from click.testing import CliRunner
from joblib.externals.loky.process_executor import TerminatedWorkerError
from matplotlib import pyplot as plt
from quick_benchmark import repeatable_lines, uninterrupted_run, write_toml
from result_rows import full_results, models, run_rows

from grmu_sk.benchmark.tables import bench_command
from grmu_sk.cli import main
from grmu_sk.results import GOLD, RESEEDED_GOLD, Row

GROUPS = (("blond", "male"), ("blond", "female"), ("dark", "male"), ("dark", "female"))


def grmu(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


bench, table, figure = (partial(grmu, name) for name in ("bench", "table", "figure"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return write_toml(tmp_path_factory.mktemp("settings") / "quick.toml")


def quick_arguments(settings, out):
    return [
        *("--dataset", "digits", "--preset", settings, "--methods", "fine_tune", "--seeds", 1),
        *("--selection", "best", "last", "--backend", "sequential", "--out", out),
    ]


@pytest.fixture(scope="module")
def done(settings, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    return out, bench(*quick_arguments(settings, out))


def test_the_command_does_what_the_functions_do(done, settings, tmp_path):
    out, result = done
    assert result.exit_code == 0, result.output
    assert "16 jobs done now, 0 before, 0 failed" in result.output
    assert repeatable_lines(out) == repeatable_lines(uninterrupted_run())
    lines = [line for line in result.stderr.splitlines() if " jobs, " in line]
    assert [line.split()[0] for line in lines] == [f"{n}/16" for n in range(1, 17)]
    assert "pretrain (seed 0, training): done" in lines[0]
    made = table(1, "--dataset", "digits", "--results", out, "--selection", "last")
    assert made.exit_code == 0 and "gold_reseeded" in made.output, made.output
    more = bench(*quick_arguments(settings, out), "--methods", "no_op,fine_tune", "--dry-run")
    assert "18 jobs, 16 of them done." in more.output
    listed = [line for line in more.output.splitlines() if line.startswith("to do")]
    assert [line.split()[2] for line in listed] == ["no_op", "no_op"]
    other = write_toml(tmp_path / "other.toml", {"lr": 0.04, "batch_size": 64, "epochs": 2})
    refused = bench(*quick_arguments(other, out))
    assert refused.exit_code == 1
    assert "setting.lr (0.05, now 0.04)" in refused.output


def test_option_values_as_in_the_documentation(settings, tmp_path):
    result = bench(
        *("--dataset", "digits", "--forget", "group", "random", "--ratios", 0.1, 0.5, 0.9),
        *("--methods", "miu", "--seeds", 2, "--preset", settings, "--selection", "best"),
        *("--ablations", "--lambdas", 0, 10, "--dry-run", "--out", tmp_path),
    )
    assert result.exit_code == 0, result.output
    # 4 exact lines and 7 of MIU for 6 forget sets and 2 seeds, and the trainings
    n_lines, n_sets, n_seeds = 4 + 2 + 3 + 2, 2 * 3, 2
    n_trainings = n_seeds * (1 + 3 * n_sets)
    lines = result.output.splitlines()
    assert lines[-1].startswith(f"{n_lines * n_sets * n_seeds + n_trainings} jobs")
    assert any("miu, no calibration (random 0.9, seed 1, best)" in line for line in lines)
    assert any("miu + reweight, lam=10 (group 0.1, seed 0, best)" in line for line in lines)


def test_bad_usage_exits_with_2_and_failed_jobs_with_1(tmp_path):
    for arguments, expected in [
        (["--dataset", "mnist"], "no problem 'mnist'"),
        (["--dataset", "digits", "--forget", "groups-9"], "no forget set 'groups-9'"),
        (["--dataset", "digits", "--methods", "magic"], "no method 'magic'"),
        (["--dataset", "digits", "--preset", "mine"], "no preset 'mine'"),
        (["--dataset", "digits", "--ratios", "0.5", "1.5"], "1.5"),
        (["--dataset", "digits", "--ratios", "--seeds", "1"], "--ratios"),
    ]:
        result = bench(*arguments, "--out", tmp_path / "new")
        assert (result.exit_code, expected in result.output) == (2, True)
        assert "Traceback" not in result.output and not (tmp_path / "new").exists()
    wild = {"lr": 1.0, "weight_decay": 1e5, "batch_size": 64, "epochs": 1}
    settings = write_toml(tmp_path / "wild.toml", unlearning=wild)
    result = bench(*quick_arguments(settings, tmp_path / "out"), "--selection", "last")
    assert result.exit_code == 1
    assert "Failed: fine_tune (group 0.5, seed 0, last): The loss is NaN" in result.output
    assert "--retry-failed" in result.output


def start_and_interrupt(arguments, out):
    """Press Ctrl-C in a run that has finished some jobs; return its exit code and messages."""
    messages = out.with_name(out.name + ".err")  # no pipe: workers may hold it
    with (
        messages.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "grmu_sk", "bench", *arguments],
            stderr=errors,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            # what runs in the background ignores Ctrl-C, and so would what it starts
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        ) as process,
    ):
        deadline = time.monotonic() + 200
        while len(list(out.glob("jobs/*.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        process.wait(timeout=60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what workers of a killed run are left
    return process.returncode, messages.read_text()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupted_with_worker_processes_and_resumed(settings, tmp_path):
    for attempt in range(3):  # on a busy machine the run may end before the signal is sent
        out = tmp_path / f"out{attempt}"
        quick = [*quick_arguments(settings, out)[:8], "--selection", "last", "--out", out]
        arguments = [*map(str, quick), "--backend", "loky", "--jobs", "2"]
        code, errors = start_and_interrupt(arguments, out)
        if code != 0:
            break
    assert code == 130
    assert "Interrupted. The same command goes on" in errors
    assert "Traceback" not in errors
    kept = {path.name: path.read_bytes() for path in out.glob("jobs/*.json")}
    assert 2 <= len(kept) < 10
    result = bench(*quick, "--backend", "sequential")
    assert result.exit_code == 0, result.output
    assert all((out / "jobs" / name).read_bytes() == raw for name, raw in kept.items())
    expected = [line for line in repeatable_lines(uninterrupted_run()) if ",best," not in line]
    assert repeatable_lines(out) == expected


def test_what_stops_a_run_is_told_without_a_traceback(settings, tmp_path, monkeypatch):
    for error, expected in [
        (TerminatedWorkerError("exit codes -9"), "worker process was killed"),
        (ImportError("needs the package distributed"), "needs the package distributed"),
    ]:
        monkeypatch.setattr("grmu_sk.benchmark.jobs.run_jobs", Mock(side_effect=error))
        result = bench(*quick_arguments(settings, tmp_path))
        assert result.exit_code == 1
        assert "Error: " in result.output and expected in result.output


# tables and figures --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("results")
    pairs = run_rows(models(), dataset="celeba", forget="pairs-2", groups=GROUPS)
    others = [run_rows(models(), dataset=name) for name in ("adult_sex", "fairface")]
    pd.concat([full_results("celeba"), pairs, *others]).to_csv(place / "results.csv", index=False)
    return place


def test_tables_from_results_and_without(folder, tmp_path):
    from_folder, from_file = (table(1, "--results", p) for p in (folder, folder / "results.csv"))
    assert from_folder.stdout == from_file.stdout
    assert "gold_reseeded (ceiling)" in from_folder.stdout and "  paper" in from_folder.stdout
    other = table(6, "--results", folder, "--dataset", "adult_sex").stdout
    assert "Table 6. Unlearning: adult_sex" in other and "  paper" not in other
    assert "Table 7." in table(7).stdout
    starts = {"md": "**Table 1", "tex": "% needs", "csv": "dataset,", "x": "Table"}
    for name, start in starts.items():
        file = tmp_path / "new" / f"t.{name}"
        done = table(1, "--results", folder, "--out", file)
        assert (done.exit_code, done.stdout) == (0, "")
        assert file.read_text(encoding="utf-8").startswith(start)
    done = table(1, "--results", folder, "--format", "csv")
    assert "Gold standard" in done.stderr and "Gold standard" not in done.stdout
    assert len({line.count(",") for line in done.stdout.splitlines()}) == 1


def test_malformed_files(folder, tmp_path):
    lines = (folder / "results.csv").read_text().splitlines()
    lines[6] = ",".join([*lines[6].split(",")[:-1], "ninety"])
    for text, message in [
        ("a,b\n1,2\n", "lacks the columns dataset, ratio"),
        ("", "No columns"),
        ('a,b\n1,"2\n', "EOF"),
        ("\n".join(lines), "results['value'] must hold finite numbers only, got 'ninety' in row 5"),
    ]:
        (file := tmp_path / "broken.csv").write_text(text)
        done = table(1, "--results", file)
        assert done.exit_code == 1 and "Traceback" not in done.output
        assert str(file) in done.output and message in done.output


def test_figures_are_files_for_each_data_set(folder, tmp_path):
    done = figure(6, "--results", folder, "--out", tmp_path / "new", "--dataset", "fairface")
    assert done.exit_code == 0, done.output
    names = sorted(file.name for file in (tmp_path / "new").iterdir())
    assert names == ["figure_6_fairface.png", "figure_6_fairface.svg"]
    assert "Missing: groups-9, ratio 0.5:" in done.stdout
    options = ("--mark", "blond,male", "--mark", "dark, female")
    assert figure(2, "--results", folder, "--out", tmp_path, *options).exit_code == 0
    text = (tmp_path / "figure_2_celeba.svg").read_text(encoding="utf-8")
    assert text.count("(forgotten from)") == 2
    options = ("--dataset", "fairface", "--methods", "miu, ssd")
    done = figure(4, "--results", folder, "--out", tmp_path, *options)
    text = (tmp_path / "figure_4_fairface.svg").read_text(encoding="utf-8")
    assert "miu + reweight" in text and "scrub" not in text
    assert "ratio 0.5: ssd; ssd + reweight" in done.stdout
    assert figure(8, "--out", tmp_path / "paper").exit_code == 0
    assert plt.get_fignums() == [], "figures are closed"


def test_failures_of_tables_and_figures(folder, tmp_path):
    results = ("--results", folder)
    for run, arguments, code, message in [
        (table, [19], 2, "19 is not in the range 1<=x<=18"),
        (table, [1, "--results", tmp_path], 1, "no results at"),
        (table, [2, *results], 1, "no data set 'waterbirds'; they hold adult_sex, celeba"),
        (figure, [1], 2, "1 is not in the range 2<=x<=8"),
        (figure, [7, "--out", tmp_path], 2, "no numbers of Figure 7"),
        (figure, [2, *results, "--out", tmp_path, "--mark", "blond"], 2, "write label,attribute"),
        (figure, [8, *results, "--out", tmp_path, "--dataset", "fairface"], 1, "several weights"),
    ]:
        done = run(*arguments)
        assert (done.exit_code, message in " ".join(done.output.split())) == (code, True)
    assert not list(tmp_path.iterdir()), "no half result"


def test_commands_for_missing_runs_are_understood(tmp_path):
    for wanted in (
        [],
        [GOLD, RESEEDED_GOLD],
        [Row("miu", True), Row("scrub", False), Row("miu", False, "no_retaining")],
        [Row("miu", True, "lam=0.1"), Row("miu", True, "lam=10")],
    ):
        given = bench_command("digits", "group", 0.5, wanted, [0, 1], "last")
        done = grmu(*given.replace("RESULTS", str(tmp_path)).split()[1:], "--dry-run")
        assert done.exit_code == 0, done.output
        for row in wanted:
            assert f"{row.label} (group 0.5, seed 1, last)" in done.output
