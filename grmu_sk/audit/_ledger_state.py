"""What the entries of a ledger's history mean: tables that follow from them.

Nothing is written into these tables but by :func:`apply`. So they can be built anew from the
history at any time, and whatever differs has been damaged or edited.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["STATE_TABLES", "apply", "ids_digest"]

STATE_TABLES = {
    "requests": """CREATE TABLE requests (
        number INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        n_ids INTEGER NOT NULL,
        ids_sha256 TEXT NOT NULL,
        received TEXT NOT NULL,
        run INTEGER,
        error TEXT
    )""",
    "runs": """CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        state TEXT NOT NULL,
        token TEXT NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        method TEXT NOT NULL,
        parameters TEXT NOT NULL,
        reforgotten TEXT NOT NULL,
        model_before TEXT NOT NULL,
        model_after TEXT,
        started TEXT NOT NULL,
        finished TEXT,
        error TEXT
    )""",
}


def ids_digest(ids: Iterable[str]) -> str:
    """Return one hash of the ids of a request, as they are stored."""
    return hashlib.sha256(json.dumps(sorted(ids)).encode()).hexdigest()


def apply(connection: sqlite3.Connection, event: str, time: str, details: dict[str, Any]) -> None:
    """Write into the tables what an entry of the history says."""
    _HANDLERS[event](connection, {**details, "time": time})


def _created(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    """The first entry; it says what cannot change later."""


def _received(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    connection.execute(
        "INSERT INTO requests VALUES"
        " (:request, 'received', :reason, :n_ids, :ids_sha256, :time, NULL, NULL)",
        entry,
    )


def _asked_again(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    _set_requests(connection, entry["requests"], "state = 'received', error = NULL")


def _refused(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    connection.execute(
        "UPDATE requests SET state = 'failed', error = :error WHERE number = :request", entry
    )


def _started(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    texts = {name: json.dumps(entry[name], sort_keys=True) for name in ("parameters", "requests")}
    texts["reforgotten"] = json.dumps(entry["reforgotten"])
    connection.execute(
        "INSERT INTO runs VALUES (:run, 'running', :token, :host, :pid, :method, :parameters,"
        " :reforgotten, :model_before, NULL, :time, NULL, NULL)",
        entry | texts,
    )
    _set_requests(connection, entry["requests"], f"state = 'running', run = {int(entry['run'])}")


def _computed(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    connection.execute("UPDATE runs SET model_after = :model_after WHERE number = :run", entry)


def _done(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    _computed(connection, entry)
    _end(connection, entry, "done", "done")


def _failed(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    _end(connection, entry, "failed", "failed")


def _abandoned(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    _end(connection, entry, "abandoned", "received")


def _end(connection: sqlite3.Connection, entry: dict[str, Any], run: str, requests: str) -> None:
    values = {"error": None, **entry, "run_state": run, "request_state": requests}
    connection.execute(
        "UPDATE runs SET state = :run_state, finished = :time, error = :error WHERE number = :run",
        values,
    )
    connection.execute(
        "UPDATE requests SET state = :request_state, error = :error"
        " WHERE run = :run AND state = 'running'",
        values,
    )


def _set_requests(connection: sqlite3.Connection, numbers: list[int], what: str) -> None:
    connection.executemany(
        f"UPDATE requests SET {what} WHERE number = ?", [(number,) for number in numbers]
    )


_HANDLERS: dict[str, Callable[[sqlite3.Connection, dict[str, Any]], None]] = {
    "created": _created,
    "received": _received,
    "asked again": _asked_again,
    "refused": _refused,
    "started": _started,
    "computed": _computed,
    "done": _done,
    "failed": _failed,
    "abandoned": _abandoned,
}
