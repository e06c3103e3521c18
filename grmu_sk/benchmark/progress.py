"""How far a benchmark is, and how long it will take."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from time import monotonic
from typing import Any, TextIO

from .job import Job

__all__ = ["Progress", "format_seconds"]


class Progress:
    """Shows one bar for all jobs; without a terminal, a line for each.

    The time left is estimated from the jobs done so far: those of the same kind and method tell
    most. Use it in a ``with`` block.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be done.
    n_parallel : int, default=1
        How many are done at the same time.
    file : file or None, default=None
        Where to; None takes standard error.
    """

    def __init__(
        self, jobs: Sequence[Job], n_parallel: int = 1, file: TextIO | None = None
    ) -> None:
        self.file = file or sys.stderr
        self.n_parallel = max(1, n_parallel)
        self._left = {job.name: job for job in jobs}
        self.n_jobs = len(self._left)
        self._total = sum(job.expected_cost for job in jobs)
        # seconds taken, and cost expected, of what was done in this run
        self._measured: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._start = monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self.file.isatty():
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._total,
                file=self.file,
                dynamic_ncols=True,
                bar_format="{percentage:3.0f}%|{bar:20}| {desc}",
            )
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def seconds_left(self) -> float | None:
        """Estimate the time left; None before anything was done."""
        if not self._measured:
            return None
        seconds, cost = (sum(part) for part in zip(*self._measured.values(), strict=True))
        work = 0.0
        for job in self._left.values():
            own_seconds, own_cost = self._measured.get(_family(job), (0.0, 0.0))
            rate = own_seconds / own_cost if own_cost else seconds / cost
            work += rate * job.expected_cost
        return work / min(self.n_parallel, max(1, len(self._left)))

    def job_done(self, job: Job, status: str, seconds: float, running: Sequence[Job] = ()) -> None:
        """Show that a job is finished.

        Parameters
        ----------
        job : Job
            Which.
        status : str
            What became of it.
        seconds : float
            How long it took; 0 if it was there already.
        running : sequence of Job, default=()
            What is being done now.
        """
        self._left.pop(job.name, None)
        if seconds:
            measured = self._measured[_family(job)]
            measured[0] += seconds
            measured[1] += job.expected_cost
        n_done = self.n_jobs - len(self._left)
        left = self.seconds_left()
        counts = f"{n_done}/{self.n_jobs} jobs"
        remaining = f", about {format_seconds(left)} left" if left is not None else ""
        if self._bar is None:
            elapsed = format_seconds(monotonic() - self._start)
            self._print(f"{counts}, {elapsed}{remaining}: {job.label}: {status}, {seconds:.1f} s")
            return
        if status != "done":
            self._bar.write(f"{job.label}: {status}", file=self.file)
        names = "; ".join(other.label for other in running)
        self._bar.update(job.expected_cost)
        self._bar.set_description_str(f"{counts}{remaining}" + (f": {names}" if names else ""))

    def _print(self, line: str) -> None:
        self.file.write(line + "\n")
        self.file.flush()


def _family(job: Job) -> tuple[str, str]:
    # all evaluations take the same time
    return job.kind, "" if job.kind == "evaluation" else job.method


def format_seconds(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds.

    Parameters
    ----------
    seconds : float
        The duration.

    Returns
    -------
    str
        Such as ``"1:02:05"`` or ``"2:05"``.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
