"""A deletion request, as the ledger knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["DeletionRequest"]


@dataclass(frozen=True)
class DeletionRequest:
    """A request and how far it got.

    Attributes
    ----------
    number : int
        1 for the ledger's first.
    state : {"received", "running", "done", "failed"}
        "running" may also be what a process left behind that was killed; the next run settles it.
    reason : str
        As it was given.
    n_ids : int
        How many ids it names that no earlier request named.
    received : str
        When, UTC in ISO 8601.
    run : int or None
        Number of the last run that took it on. Runs take on all that is waiting.
    method : str or None
        What that run unlearned with.
    model_before, model_after : str or None
        :func:`~grmu_sk.audit.model_hash` of the model before and after.
    started, finished : str or None
        When that run began and ended.
    host, pid : str and int, or None
        Where it runs or ran.
    error : str or None
        Why it failed.
    parameters : dict or None
        Those of ``method``.
    """

    number: int
    state: str
    reason: str
    n_ids: int
    received: str
    run: int | None
    method: str | None
    model_before: str | None
    model_after: str | None
    started: str | None
    finished: str | None
    host: str | None
    pid: int | None
    error: str | None
    parameters: dict[str, Any] | None
