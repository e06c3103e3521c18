"""Which job comes next: those whose training is done, in the order of the plan."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from time import monotonic

from .job import Job
from .worker import BUSY, Outcome

__all__ = ["Schedule"]

RETRY_SECONDS = 1.0


class Schedule:
    """Hands out jobs one by one, to be done at the same time.

    A job that needs a training waits until that is done. When none is ready ``None`` is handed
    out, which means to ask again in a moment; the end comes when every job was done. Jobs that
    somebody else is working on come again.

    Parameters
    ----------
    jobs : sequence of Job
        What is to be done, in the best order.
    outcomes : dict of str to str
        Status of the trainings that are done, or have failed, by name.

    Attributes
    ----------
    blocked : list of Job
        Those that cannot be done, because their training failed.
    """

    def __init__(self, jobs: Sequence[Job], outcomes: dict[str, str]) -> None:
        self._waiting = list(jobs)
        self._outcomes = dict(outcomes)
        self._running: dict[str, Job] = {}
        self._not_before: dict[str, float] = {}
        self.blocked: list[Job] = []
        self._lock = threading.Lock()  # joblib asks from a thread of its own

    def __iter__(self) -> Iterator[Job | None]:
        while True:
            with self._lock:
                job = self._next_ready()
                if job is not None:
                    self._waiting.remove(job)
                    self._running[job.name] = job
                elif not self._waiting and not self._running:
                    return
            yield job

    def finished(self, outcome: Outcome) -> Job:
        """Note what became of a job.

        Parameters
        ----------
        outcome : Outcome
            What its worker said.

        Returns
        -------
        Job
            The job.
        """
        with self._lock:
            job = self._running.pop(outcome.name)
            if outcome.status == BUSY:
                self._not_before[job.name] = monotonic() + RETRY_SECONDS
                self._waiting.append(job)
            else:
                self._outcomes[job.name] = outcome.status
        return job

    @property
    def running(self) -> list[Job]:
        """Jobs that were handed out and are not finished."""
        with self._lock:
            return list(self._running.values())

    def _next_ready(self) -> Job | None:
        now = monotonic()
        for job in list(self._waiting):
            if now < self._not_before.get(job.name, 0.0):
                continue
            status = self._outcomes.get(job.needs, "") if job.needs else "done"
            if status == "failed":
                self._waiting.remove(job)
                self.blocked.append(job)
            elif status == "done":
                return job
        return None
