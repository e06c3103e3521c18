"""A benchmark that takes seconds: the built-in digits, two epochs, one method."""

import atexit
import os
import warnings
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from unittest.mock import patch

from conftest import threshold_attack

from grmu_sk.benchmark import Preset, get_problem, jobs, make_jobs, make_rows, run_jobs

TRAINING = {"lr": 0.05, "batch_size": 64, "epochs": 2}
UNLEARNING = {"lr": 0.01, "batch_size": 64, "epochs": 1}


def preset(training=TRAINING, unlearning=UNLEARNING):
    table = {"digits/small_cnn": {"training": training, "unlearning": unlearning}}
    return Preset("quick", table)


def quick_jobs(methods=("fine_tune",), settings=None, **options):
    options = {"seeds": [0], "selections": ("best", "last"), **options}
    problem = get_problem("digits")
    return make_jobs(problem, settings or preset(), make_rows(methods), **options)


def run_quickly(folder, jobs=None, **options):
    options = {"backend": "sequential", "devices": ["cpu"], **options}
    with patch("grmu_sk.metrics.evaluate.membership_inference_efficacy", threshold_attack):
        return run_jobs(quick_jobs() if jobs is None else jobs, folder, **options)


def run_and_log(folder):
    """Run it in a process that may be killed; each job that is begun is noted."""
    warnings.simplefilter("error")
    jobs.torch.set_num_threads(1)
    run = jobs._Work.run

    def logged(work):
        known = jobs.read_record(work.folder, work.job.name)
        line = f"{work.job.name} {'again' if known else 'new'}\n"
        log = os.open(Path(folder) / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, line.encode())
        os.close(log)
        return run(work)

    jobs._Work.run = logged
    assert not run_quickly(folder).failed


def job_of(jobs, kind, method, reweight=False, selection=""):
    chosen = [job for job in jobs if (job.kind, job.selection) == (kind, selection)]
    return next(job for job in chosen if (job.row.method, job.row.reweight) == (method, reweight))


def repeatable_lines(folder):
    """The lines of results.csv, without what is measured by a clock."""
    lines = (Path(folder) / "results.csv").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split(",")[8] not in ("seconds", "cost")]


@cache
def uninterrupted_run():
    """The folder of a run that nothing interrupted; the same for all tests of a process."""
    folder = Path(mkdtemp(prefix="uninterrupted-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    assert not run_quickly(folder).failed
    return folder
