"""A line of a ledger's history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["LedgerEntry"]


@dataclass(frozen=True)
class LedgerEntry:
    """Something that happened, once and for all.

    Attributes
    ----------
    sequence : int
        1 for the first entry. This is the order of things: ``time`` may go backwards.
    time : str
        UTC by the clock of whoever wrote it, in ISO 8601.
    event : str
        What happened: "created", "received", "asked again", "refused", "started", "computed",
        "done", "failed", "abandoned".
    details : dict
        What there is to say about it.
    hash : str
        SHA-256 of all this and of the hash of the entry before.
    """

    sequence: int
    time: str
    event: str
    details: dict[str, Any]
    hash: str
