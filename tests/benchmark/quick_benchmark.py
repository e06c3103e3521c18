"""A benchmark that takes seconds: the built-in digits, two epochs, one method."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from grmu_sk.benchmark.plan import lines_for, make_plan
from grmu_sk.benchmark.problem import get_problem
from grmu_sk.benchmark.runner import run_plan
from grmu_sk.benchmark.settings import TablePreset
from grmu_sk.benchmark.store import Store

TRAINING = {"lr": 0.05, "batch_size": 64, "epochs": 2}
UNLEARNING = {"lr": 0.01, "batch_size": 64, "epochs": 1}
METHODS = ("fine_tune",)
# what differs from run to run
NOT_REPEATABLE = ("seconds", "cost", "peak_memory_mb")


def preset(training=TRAINING, unlearning=UNLEARNING):
    table = {"digits/small_cnn": {"training": training, "unlearning": unlearning}}
    return TablePreset("quick", table)


def quick_plan(store, methods=METHODS, settings=None, **options):
    options = {"seeds": [0], "selections": ("best", "last"), **options}
    problem = get_problem("digits", device="cpu")
    return make_plan(problem, settings or preset(), store, lines_for(methods), **options)


def run_quickly(folder, methods=METHODS, settings=None, plan_options=None, **options):
    store = Store(folder)
    plan = quick_plan(store, methods, settings, **(plan_options or {}))
    with open(Path(folder) / "progress.txt", "a", encoding="utf-8") as file:
        return store, run_plan(plan, store, **{"backend": "sequential", "file": file, **options})


def repeatable_lines(folder):
    """The lines of results.csv, without what is measured by a clock."""
    lines = (Path(folder) / "results.csv").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split(",")[8] not in NOT_REPEATABLE]


def write_toml(path, training=TRAINING, unlearning=UNLEARNING):
    sections = {"training": training, "unlearning": unlearning}
    text = ""
    for name, section in sections.items():
        text += f'["digits/small_cnn".{name}]\n'
        text += "".join(f"{key} = {value}\n" for key, value in section.items())
    path.write_text(text, encoding="utf-8")
    return path


@cache
def uninterrupted_run():
    """The folder of a run that nothing interrupted; the same for all tests of a process."""
    folder = Path(tempfile.mkdtemp(prefix="uninterrupted-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _, report = run_quickly(folder)
    assert not report.failed
    return folder
