"""Runs the quick benchmark in processes that a test may kill.

Everything is imported once. Each line ``folder number`` on standard input forks so many processes
that run the benchmark there at the same time; their numbers are printed, and when all have ended,
how. Each job that is begun is noted in a log.
"""

import os
import sys
import warnings
from pathlib import Path

from quick_benchmark import run_quickly

from grmu_sk.benchmark import jobs


def log_jobs(folder):
    run = jobs._Work.run

    def logged(work):
        known = jobs.read_record(work.folder, work.job.name)
        line = f"{work.job.name} {'again' if known else 'new'}\n"
        log = os.open(Path(folder) / "log.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, line.encode())
        os.close(log)
        return run(work)

    jobs._Work.run = logged


def run(folder):
    warnings.simplefilter("error")
    log_jobs(folder)
    try:
        report = run_quickly(folder)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(3)
    os._exit(1 if report.failed else 0)


def main():
    jobs.torch.set_num_threads(1)
    print("ready", flush=True)
    for line in sys.stdin:
        folder, number = line.split()
        processes = []
        for _ in range(int(number)):
            processes.append(os.fork())
            if processes[-1] == 0:
                run(folder)
        print(*processes, flush=True)
        print(*(os.waitpid(process, 0)[1] for process in processes), flush=True)


if __name__ == "__main__":
    main()
