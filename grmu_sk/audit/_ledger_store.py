"""The file of a ledger: transactions, the chain of its history, and what damage looks like."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..utils._files import flush_folder
from ._errors import LedgerBusyError, LedgerDamagedError, LedgerError, LedgerWriteError
from ._ledger_key import LedgerKey
from ._ledger_state import STATE_TABLES, apply, ids_digest
from .ledger_entry import LedgerEntry

__all__ = ["LedgerStore"]

APPLICATION_ID = 0x67726D75  # "grmu"
FORMAT_VERSION = 2
#: What the first entry follows.
NO_HASH = "0" * 64
_HISTORY = """CREATE TABLE history (
    sequence INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    event TEXT NOT NULL,
    details TEXT NOT NULL,
    hash TEXT NOT NULL,
    seal TEXT
)"""
_ITEMS = """CREATE TABLE items (
    id TEXT NOT NULL, request INTEGER NOT NULL, PRIMARY KEY (id, request)
) WITHOUT ROWID"""
_HEAD = "CREATE TABLE head (sequence INTEGER NOT NULL, hash TEXT NOT NULL)"
_APPEND_ONLY = "CREATE TRIGGER history_{} BEFORE {} ON history BEGIN SELECT RAISE(ABORT, '{}'); END"
# what a history that was forged, with all its hashes, may lead to
_NOT_OURS = (json.JSONDecodeError, KeyError, OverflowError, RecursionError, TypeError, UnicodeError)
SCHEMA = [
    _HISTORY,
    _ITEMS,
    _HEAD,
    *STATE_TABLES.values(),
    "CREATE INDEX items_of_request ON items (request)",
    *(
        _APPEND_ONLY.format(name, name.upper(), "entries of the history are not changed")
        for name in ("update", "delete")
    ),
]


def now() -> str:
    """Return the time of day, for people; the order of things is that of sequence numbers."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class LedgerStore:
    """A ledger's SQLite file.

    A connection is opened for each transaction and closed after it. So nothing is held while a
    model is trained, and a process that is forked takes no open transaction along.

    Parameters
    ----------
    path : Path
        The file, which exists.
    timeout : float
        Seconds to wait for other processes' transactions.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self.key: LedgerKey | None = None

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Do something wholly or not at all, durably when the block has ended."""
        with self._clear_errors(), closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                self._check_is_ledger(connection)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def append(self, connection: sqlite3.Connection, event: str, **details: Any) -> None:
        """Write an entry into the history, and what follows from it into the other tables."""
        last, previous = connection.execute("SELECT sequence, hash FROM head").fetchone()
        entry = (last + 1, now(), event, _canonical(details))
        digest = _chained(previous, *entry)
        seal = None if self.key is None else self.key.seal(digest)
        connection.execute("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", (*entry, digest, seal))
        connection.execute("UPDATE head SET sequence = ?, hash = ?", (last + 1, digest))
        apply(connection, event, entry[1], json.loads(entry[3]))

    def entries(self, connection: sqlite3.Connection) -> Iterator[LedgerEntry]:
        """Yield the history, oldest first."""
        for sequence, time, event, details, digest, _ in _history(connection):
            yield LedgerEntry(sequence, time, event, json.loads(details), digest)

    # the first entry -------------------------------------------------------------------------

    def create(self, key: bytes | None) -> None:
        """Make the file, complete or not at all; another process's file is left alone."""
        ledger_id = secrets.token_hex(16)
        self.key = None if key is None else LedgerKey(key, ledger_id)
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.tmp")
        try:
            try:
                os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            except OSError as error:
                raise LedgerWriteError(f"No ledger can be made at {self.path}: {error}") from error
            self._fill(temporary, ledger_id)
            self._put_in_place(temporary)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _put_in_place(self, temporary: Path) -> None:
        try:
            os.link(temporary, self.path)  # unlike a rename, never over another process's ledger
        except FileExistsError:
            return
        except OSError:  # a file system without links
            if not self.path.exists():
                os.replace(temporary, self.path)
        flush_folder(self.path.parent)

    def _fill(self, path: Path, ledger_id: str) -> None:
        with self._clear_errors(), closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            file.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            file.execute("PRAGMA synchronous = EXTRA")
            file.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA:
                file.execute(statement)
            file.execute("INSERT INTO head VALUES (0, ?)", (NO_HASH,))
            check = None if self.key is None else self.key.check
            self.append(file, "created", ledger=ledger_id, key_check=check)
            file.execute("COMMIT")

    def open(self, key: bytes | None) -> bool:
        """Check file and key, and return whether the ledger holds hashes in place of ids."""
        with self.transaction() as connection:
            first = connection.execute("SELECT details FROM history WHERE sequence = 1").fetchone()
            if first is None:
                raise LedgerDamagedError(f"{self.path}: the first entry of the history is missing.")
            details = _details(first[0], self.path)
        check = details.get("key_check")
        if key is None:
            return check is not None
        if check is None:
            raise LedgerError(
                f"{self.path} holds ids as they are, and a key was given. Ids are hashed from the "
                "start or never: make a new ledger for that, or leave the key out."
            )
        self.key = LedgerKey(key, str(details.get("ledger")))
        if self.key.check != check:
            self.key = None
            raise LedgerError(
                f"The key is not the one that {self.path} was made with: no id would be found. "
                "(If it is, the first entry of the history is damaged.)"
            )
        return True

    # is it what was written? -----------------------------------------------------------------

    def verify(self, head: str | None = None) -> list[LedgerEntry]:
        """Compare everything in the file with the history, and the history with itself."""
        with self.transaction() as connection:
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if found != "ok":
                raise self._damaged(str(found).replace("\n", " "))
            self._check_chain(connection)
            entries = list(self.entries(connection))
            self._check_tables(connection, entries)
            self._check_items(connection)
        if head is not None and head not in {entry.hash for entry in entries}:
            raise self._damaged(
                f"no entry has the hash {head}, which is said to have been the last one: entries "
                "were removed or edited, or this is another ledger"
            )
        return entries

    def _check_chain(self, connection: sqlite3.Connection) -> None:
        previous, last = NO_HASH, 0
        for sequence, time, event, details, digest, seal in _history(connection):
            if sequence != last + 1:
                raise self._damaged(f"entry {last + 1} of the history is missing")
            if digest != _chained(previous, sequence, time, event, details):
                raise self._damaged(
                    f"entry {sequence} of the history was changed after it was made"
                )
            if self.key is not None and seal != self.key.seal(digest):
                raise self._damaged(f"entry {sequence} of the history was made without the key")
            previous, last = digest, sequence
        heads = connection.execute("SELECT sequence, hash FROM head").fetchall()
        if heads != [(last, previous)] or last == 0:
            raise self._damaged(f"the history ends with entry {last}, which is not its last one")

    def _check_tables(self, connection: sqlite3.Connection, entries: list[LedgerEntry]) -> None:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as replayed:
            for statement in STATE_TABLES.values():
                replayed.execute(statement)
            for entry in entries:
                apply(replayed, entry.event, entry.time, entry.details)
            for table in STATE_TABLES:
                query = f"SELECT * FROM {table} ORDER BY number"
                if connection.execute(query).fetchall() != replayed.execute(query).fetchall():
                    raise self._damaged(f"the {table} are not those that the history tells of")

    def _check_items(self, connection: sqlite3.Connection) -> None:
        n_ids = 0
        for number, n_asked, digest in connection.execute(
            "SELECT number, n_ids, ids_sha256 FROM requests"
        ).fetchall():
            ids = [
                text
                for (text,) in connection.execute(
                    "SELECT id FROM items WHERE request = ?", (number,)
                )
            ]
            n_ids += len(ids)
            if len(ids) != n_asked or ids_digest(ids) != digest:
                raise self._damaged(f"the ids of request {number} are not those that were received")
        if connection.execute("SELECT count(*) FROM items").fetchone()[0] != n_ids:
            raise self._damaged("there are ids of no request")

    # inside ----------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise LedgerError(f"There is no ledger {self.path}.")
        uri = self.path.as_uri() + "?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=self.timeout, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA synchronous = EXTRA")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_is_ledger(self, connection: sqlite3.Connection) -> None:
        if self.path.stat().st_size == 0:
            raise self._damaged("the file is empty")
        found = connection.execute("PRAGMA application_id").fetchone()[0]
        if found != APPLICATION_ID:
            raise LedgerDamagedError(
                f"{self.path} is not a ledger of grmu_sk, or its first bytes are damaged."
            )
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT_VERSION:
            raise LedgerDamagedError(
                f"{self.path} has format {version}, and this version of grmu_sk reads format "
                f"{FORMAT_VERSION}. Use the version that wrote it; if this is it, the file is "
                "damaged."
            )
        schema = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        if sorted(sql for (sql,) in schema) != sorted(SCHEMA):
            raise self._damaged("its tables are not those of a ledger")

    def _damaged(self, what: str) -> LedgerDamagedError:
        return LedgerDamagedError(
            f"{self.path} is not what was written into it: {what}. Do not go on with it: take a "
            "copy that verifies, and hand in again what was asked for since."
        )

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Say what an error of the database means and what can be done."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except _NOT_OURS as error:
            raise self._damaged(f"it holds what no ledger holds ({error!r})") from error

    def _explained(self, error: sqlite3.Error) -> LedgerError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return LedgerBusyError(
                f"{self.path} has been locked by another process for {self.timeout:g} s. Nothing "
                "was changed; try again, or give it more time with timeout."
            )
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            return LedgerWriteError(
                f"{self.path} cannot be read or written ({error}): the disk may be full, or "
                "failing. Nothing was changed; make room, and do it again."
            )
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            return LedgerWriteError(
                f"{self.path} cannot be opened for writing ({error}). Nothing was changed; file "
                "and folder have to be writable for whoever runs this."
            )
        return self._damaged(str(error))


def _history(connection: sqlite3.Connection) -> sqlite3.Cursor:
    return connection.execute(
        "SELECT sequence, time, event, details, hash, seal FROM history ORDER BY sequence"
    )


def _chained(previous: str, sequence: int, time: str, event: str, details: str) -> str:
    line = json.dumps([previous, sequence, time, event, details])
    return hashlib.sha256(line.encode()).hexdigest()


def _canonical(details: dict[str, Any]) -> str:
    return json.dumps(details, sort_keys=True, separators=(",", ":"))


def _details(text: Any, path: Path) -> dict[str, Any]:
    with suppress(ValueError, TypeError, RecursionError):
        details = json.loads(text)
        if isinstance(details, dict):
            return details
    raise LedgerDamagedError(f"{path}: an entry of the history cannot be read.")
