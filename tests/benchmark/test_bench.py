import os
import signal
import subprocess
import sys
import time
from functools import partial

import click
import pandas as pd
import pytest
from click.testing import CliRunner
from joblib.externals.loky.process_executor import TerminatedWorkerError
from quick_benchmark import repeatable_lines, uninterrupted_run, write_toml

from grmu_sk.benchmark.results import read_results
from grmu_sk.cli import main
from grmu_sk.cli._multi_value import MultiValueCommand


def bench(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


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


def test_the_command_does_what_the_functions_do(done):
    out, result = done
    assert result.exit_code == 0, result.output
    assert "16 jobs done now, 0 before, 0 failed" in result.output
    assert repeatable_lines(out) == repeatable_lines(uninterrupted_run())


def test_progress_is_told_line_by_line_without_a_terminal(done):
    _, result = done
    lines = [line for line in result.stderr.splitlines() if " jobs, " in line]
    assert [line.split()[0] for line in lines] == [f"{n}/16" for n in range(1, 17)]
    assert "pretrain (seed 0, training): done" in lines[0]


def test_a_table_can_be_made_of_the_results(done):
    out, _ = done
    result = CliRunner().invoke(
        main, ["table", "1", "--dataset", "digits", "--results", str(out), "--selection", "last"]
    )
    assert result.exit_code == 0, result.output
    assert "gold_reseeded" in result.output


def test_again_and_with_more(done, settings):
    out, _ = done
    result = bench(*quick_arguments(settings, out), "--methods", "no_op,fine_tune", "--dry-run")
    assert result.exit_code == 0
    assert "18 jobs, 16 of them done." in result.output
    listed = [line for line in result.output.splitlines() if line.startswith("to do")]
    assert [line.split()[2] for line in listed] == ["no_op", "no_op"]


def test_option_values_as_in_the_documentation(settings, tmp_path):
    arguments = [
        *("--dataset", "digits", "--forget", "group", "random", "--ratios", 0.1, 0.5, 0.9),
        *("--methods", "miu", "--seeds", 2, "--preset", settings, "--selection", "best"),
        *("--ablations", "--lambdas", 0, 10, "--dry-run", "--out", tmp_path),
    ]
    result = bench(*arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    # 4 exact lines and 7 of MIU for 6 forget sets and 2 seeds, and the trainings
    n_lines, n_sets, n_seeds = 4 + 2 + 3 + 2, 2 * 3, 2
    n_trainings = n_seeds * (1 + 3 * n_sets)
    assert lines[-1].startswith(f"{n_lines * n_sets * n_seeds + n_trainings} jobs")
    assert any("miu, no_calibration (random 0.9, seed 1, best)" in line for line in lines)
    assert any("miu + reweight, lam=10 (group 0.1, seed 0, best)" in line for line in lines)
    assert not any("miu + reweight, no_calibration" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--dataset", "mnist"], "no problem 'mnist'"),
        (["--dataset", "fairface"], "needs data_root"),
        (["--dataset", "digits", "--forget", "groups-9"], "no forget set 'groups-9'"),
        (["--dataset", "digits", "--methods", "magic"], "Unknown methods magic"),
        (["--dataset", "digits", "--preset", "mine"], "no preset 'mine'"),
        (["--dataset", "digits", "--net", "bert"], "net for digits must be one of"),
        (["--dataset", "digits", "--ratios", "0.5", "1.5"], "1.5"),
        (["--dataset", "digits", "--seeds", "0"], "0"),
        (["--dataset", "digits", "--ratios", "--seeds", "1"], "--ratios"),
        ([], "--dataset"),
    ],
)
def test_bad_usage_exits_with_2_and_says_why(arguments, expected, tmp_path):
    result = bench(*arguments, "--out", tmp_path / "new")
    assert result.exit_code == 2
    assert expected in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "new").exists()


def test_what_was_made_in_another_way_exits_with_1(done, tmp_path):
    out, _ = done
    other = write_toml(
        tmp_path / "other.toml", training={"lr": 0.04, "batch_size": 64, "epochs": 2}
    )
    result = bench(*quick_arguments(other, out))
    assert result.exit_code == 1
    assert "setting.net.lr (0.05, now 0.04)" in result.output


def test_failed_jobs_exit_with_1(tmp_path):
    wild = {"lr": 1.0, "weight_decay": 1e5, "batch_size": 64, "epochs": 1}
    settings = write_toml(tmp_path / "wild.toml", unlearning=wild)
    out = tmp_path / "out"
    result = bench(*quick_arguments(settings, out), "--selection", "last")
    assert result.exit_code == 1
    assert "Failed: fine_tune (group 0.5, seed 0, last): The loss is NaN" in result.output
    assert "--retry-failed" in result.output
    table = read_results(out)
    assert table[table["method"] == "fine_tune"]["value"].isna().all()


def start_and_signal(arguments, out, number):
    """Send a signal to a run that has finished some jobs; return its exit code and messages."""
    with subprocess.Popen(
        [sys.executable, "-m", "grmu_sk", "bench", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # what runs in the background ignores Ctrl-C, and so would what it starts
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        deadline = time.monotonic() + 200
        while len(list(out.glob("jobs/*.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, number)
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_with_worker_processes_and_resumed(number, settings, tmp_path):
    for attempt in range(3):  # on a busy machine the run may end before the signal is sent
        out = tmp_path / f"out{attempt}"
        quick = [*quick_arguments(settings, out)[:8], "--selection", "last", "--out", out]
        arguments = [*map(str, quick), "--backend", "loky", "--jobs", "2"]
        code, errors = start_and_signal(arguments, out, number)
        if code != 0:
            break
    if number == signal.SIGINT:
        assert code == 130
        assert "Interrupted. The same command goes on" in errors
        assert "Traceback" not in errors
    else:
        assert code == -signal.SIGKILL
    n_kept = len(list(out.glob("jobs/*.json")))
    assert 2 <= n_kept < 10
    kept = {path.name: path.read_bytes() for path in out.glob("jobs/*.json")}
    result = bench(*quick, "--backend", "sequential")
    assert result.exit_code == 0, result.output
    assert all((out / "jobs" / name).read_bytes() == raw for name, raw in kept.items())
    expected = [line for line in repeatable_lines(uninterrupted_run()) if ",best," not in line]
    assert repeatable_lines(out) == expected


def test_help_explains_everything():
    result = bench("--help")
    assert result.exit_code == 0
    for word in ("--ratios", "--selection", "--scheduler", "--jobs-per-device", "130 interrupted"):
        assert word in result.output


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TerminatedWorkerError("exit codes -9"), "worker process was killed"),
        (ImportError("needs the package distributed"), "needs the package distributed"),
    ],
)
def test_what_stops_a_run_is_told_without_a_traceback(
    error, expected, settings, tmp_path, monkeypatch
):
    def stop(*arguments, **options):
        raise error

    monkeypatch.setattr("grmu_sk.benchmark.runner.run_plan", stop)
    result = bench(*quick_arguments(settings, tmp_path))
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert expected in result.output


@click.command(cls=MultiValueCommand)
@click.option("--many", multiple=True, type=float)
@click.option("--one", "-o", default="")
@click.option("--on", is_flag=True)
@click.argument("rest", nargs=-1)
def command(many, one, on, rest):
    click.echo(repr((many, one, on, rest)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--many", "1", "2", "3"], ((1.0, 2.0, 3.0), "", False, ())),
        (["--many", "1", "--many", "2"], ((1.0, 2.0), "", False, ())),
        (["--many=1", "--many", "2", "3"], ((1.0, 2.0, 3.0), "", False, ())),
        (["--many", "1", "2", "-o", "x", "--on"], ((1.0, 2.0), "x", True, ())),
        (["--one", "x", "y"], ((), "x", False, ("y",))),
        (["--on", "y", "--many", "1"], ((1.0,), "", True, ("y",))),
        (["--many", "1", "--", "2"], ((1.0,), "", False, ("2",))),
    ],
)
def test_options_of_several_values(arguments, expected):
    result = CliRunner().invoke(command, arguments)
    assert result.output.strip() == repr(expected)


def test_an_option_of_several_values_needs_one():
    assert CliRunner().invoke(command, ["--many"]).exit_code == 2
    assert CliRunner().invoke(command, ["--many", "--on"]).exit_code == 2
    assert CliRunner().invoke(command, ["--many", "one"]).exit_code == 2


def test_results_are_complete_enough_to_be_read_without_the_package(done):
    table = pd.read_csv(done[0] / "results.csv")
    assert len(table) == 2 * (4 * 18 + 2 * 17)
