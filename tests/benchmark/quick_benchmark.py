"""A benchmark that takes seconds: the built-in digits, two epochs, one method."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from grmu_sk.benchmark import Preset, get_problem, make_jobs, make_rows, run_jobs

TRAINING = {"lr": 0.05, "batch_size": 64, "epochs": 2}
UNLEARNING = {"lr": 0.01, "batch_size": 64, "epochs": 1}
# what differs from run to run
NOT_REPEATABLE = ("seconds", "cost", "peak_memory_mb")


def preset(training=TRAINING, unlearning=UNLEARNING):
    table = {"digits/small_cnn": {"training": training, "unlearning": unlearning}}
    return Preset("quick", table)


def quick_jobs(methods=("fine_tune",), settings=None, **options):
    options = {"seeds": [0], "selections": ("best", "last"), **options}
    problem = get_problem("digits", device="cpu")
    return make_jobs(problem, settings or preset(), make_rows(methods), **options)[0]


def run_quickly(folder, jobs=None, **options):
    with open(Path(folder) / "progress.txt", "a", encoding="utf-8") as file:
        options = {"backend": "sequential", "file": file, **options}
        return run_jobs(quick_jobs() if jobs is None else jobs, folder, **options)


def job_of(jobs, kind, method, reweight=False, selection=""):
    chosen = [job for job in jobs if (job.kind, job.selection) == (kind, selection)]
    return next(job for job in chosen if (job.row.method, job.row.reweight) == (method, reweight))


def repeatable_lines(folder):
    """The lines of results.csv, without what is measured by a clock."""
    lines = (Path(folder) / "results.csv").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split(",")[8] not in NOT_REPEATABLE]


def write_toml(path, training=TRAINING, unlearning=UNLEARNING):
    text = ""
    for name, section in {"training": training, "unlearning": unlearning}.items():
        text += f'["digits/small_cnn".{name}]\n'
        text += "".join(f"{key} = {value}\n" for key, value in section.items())
    path.write_text(text, encoding="utf-8")
    return path


@cache
def uninterrupted_run():
    """The folder of a run that nothing interrupted; the same for all tests of a process."""
    folder = Path(tempfile.mkdtemp(prefix="uninterrupted-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    assert not run_quickly(folder).failed
    return folder
