"""The file of a ledger: one table of chained entries, its key, its lease, and checks for damage."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..files import flush_folder

APPLICATION_ID = 0x67726D75  # "grmu"
FORMAT_VERSION = 3
#: What the first entry follows.
NO_HASH = "0" * 64
_NEVER = "BEGIN SELECT RAISE(ABORT, 'entries of the history are not changed'); END"
SCHEMA = [
    "CREATE TABLE history (sequence INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, "
    "event TEXT NOT NULL, details TEXT NOT NULL, hash TEXT NOT NULL, seal TEXT)",
    f"CREATE TRIGGER history_update BEFORE UPDATE ON history {_NEVER}",
    f"CREATE TRIGGER history_delete BEFORE DELETE ON history {_NEVER}",
]
# where SQLite itself writes down, for AUTOINCREMENT, which entry was the last one
_LAST_NUMBERS = "CREATE TABLE sqlite_sequence(name,seq)"
MIN_KEY_BYTES = 16
TOKEN = re.compile(r"hmac-sha256:[0-9a-f]{64}")
# what a history that was forged, with all its hashes, may lead to
_NOT_OURS = (AttributeError, LookupError, OverflowError, RecursionError, TypeError, UnicodeError)


class LedgerError(ValueError):
    """A ledger cannot be used as asked; the base of all its errors."""


class LedgerBusyError(LedgerError):
    """Another process has locked the ledger, or is carrying out its requests."""


class LedgerDamagedError(LedgerError):
    """The ledger is not what was written into it: damaged, cut off, or edited."""


class LedgerWriteError(LedgerError):
    """The ledger cannot be read or written where it is; nothing of it has changed."""


# errors of SQLite, by how their names begin: what they mean
_BUSY = LedgerBusyError, "has been locked by another process for {timeout:g} s. Try again."
_FULL = LedgerWriteError, "cannot be read or written ({error}): the disk may be full."
_CLOSED = LedgerWriteError, "cannot be opened ({error}): file and folder have to be writable."
_CAUSES: dict[str, tuple[type[LedgerError], str]] = {
    **dict.fromkeys(("SQLITE_BUSY", "SQLITE_LOCKED"), _BUSY),
    **dict.fromkeys(("SQLITE_FULL", "SQLITE_IOERR"), _FULL),
    **dict.fromkeys(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"), _CLOSED),
}


@dataclass(frozen=True)
class LedgerEntry:
    """An entry of the history; never changed.

    Attributes
    ----------
    sequence : int
        1 for the first entry. Entries are ordered by this; ``time`` may go backwards.
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


# the key -----------------------------------------------------------------------------------------


def create_key_file(path: str | os.PathLike[str]) -> None:
    """Write a new random key into a file that only its owner can read.

    Keep it apart from the ledger, and keep a copy: without it no id can be looked up again.

    Parameters
    ----------
    path : str or path-like
        Where to; must not exist yet.

    Raises
    ------
    FileExistsError
        If there is such a file: without its key a ledger cannot be used.
    OSError
        If it cannot be written.

    See Also
    --------
    DeletionLedger : Takes it as ``key_file``.
    """
    _write_new(Path(path), f"{secrets.token_hex(32)}\n".encode())


def _write_new(path: Path, raw: bytes) -> None:
    """Write a private file that is not there yet, whole or not at all."""
    with open(path, "xb", opener=partial(os.open, mode=0o600)) as file:
        try:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            path.unlink()  # half a key would be taken for a whole one
            raise


def read_key_file(path: str | os.PathLike[str]) -> bytes:
    """Return the key in a file, which nobody else may read."""
    with open(path, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise LedgerError(f"{path} has mode {mode:04o}: others can read the key (chmod 600).")
        return file.read().strip()


class _Key:
    """Turns ids into keyed hashes, and signs. No two ledgers share a hash, whatever their keys."""

    def __init__(self, key: bytes, ledger_id: str) -> None:
        if len(key) < MIN_KEY_BYTES:
            raise LedgerError(f"The key has {len(key)} bytes and needs {MIN_KEY_BYTES}.")
        self._id_key, self._seal_key, check = (
            hmac.digest(key, f"grmu_sk ledger {ledger_id} {use}".encode(), "sha256")
            for use in ("ids", "seal", "check")
        )
        self.check = check.hex()

    def token(self, text: str) -> str:
        """Return HMAC-SHA256 of an id; what is such a hash already stays as it is."""
        if TOKEN.fullmatch(text):
            return text
        return "hmac-sha256:" + hmac.digest(self._id_key, text.encode(), "sha256").hex()

    def seal(self, text: str) -> str:
        """Return HMAC-SHA256 of a line of the history."""
        return hmac.digest(self._seal_key, text.encode(), "sha256").hex()


# the lease ---------------------------------------------------------------------------------------


@contextmanager
def lease(path: Path) -> Iterator[None]:
    """Hold a lock on a file beside another one, for as long as the block runs.

    One process at a time carries out a ledger's requests, or changes a model's file. The lock is
    the system's. It ends with the process that holds it, however that ends, so that a lease is
    never stale and no clock is asked. Whoever reads the file, in the same process as well, does
    not end it.

    Parameters
    ----------
    path : Path
        Of a ledger or of a model.

    Raises
    ------
    LedgerBusyError
        If another process (or thread) has it.
    LedgerWriteError
        If the file cannot be made or locked.
    """
    beside = path.with_name(path.name + ".lease")
    lock = FileLock(beside, timeout=0, mode=0o600)
    try:
        lock.acquire()
    except Timeout as error:
        raise LedgerBusyError(f"{path} is in use by another run.") from error
    except (OSError, NotImplementedError) as error:
        raise LedgerWriteError(f"{beside} cannot be written and locked ({error}).") from error
    try:
        yield
    finally:
        lock.release()


# the file ----------------------------------------------------------------------------------------


def now() -> str:
    """Return the time, for people to read; entries are ordered by sequence numbers."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class LedgerFile:
    """A ledger's SQLite file.

    A connection is opened for each transaction and closed after it. So nothing is held while a
    model is trained, and a process that is forked takes no open transaction along.

    Parameters
    ----------
    path : Path
        The file.
    key : bytes or None
        The secret of a ledger that holds hashes in place of ids.
    create : bool
        Whether to make the file if there is none.
    timeout : float
        Seconds to wait for other processes' transactions.

    Attributes
    ----------
    is_hashed : bool
        Whether it holds hashes in place of ids.
    key : object or None
        What hashes and seals; None if the ledger was opened without.
    """

    def __init__(self, path: Path, key: bytes | None, *, create: bool, timeout: float) -> None:
        self.path = path
        self.timeout = float(timeout)
        self.key: _Key | None = None
        if create and not path.exists():
            self._create(key)
            self.key = None
        with self.transaction() as connection:
            about = next(self.entries(connection)).details
            ledger_id, check = about["ledger"], about["key_check"]
        self.is_hashed = check is not None
        if key is None:
            return
        if not self.is_hashed:
            raise LedgerError(f"{path} holds ids as they are: leave the key out.")
        self.key = _Key(key, ledger_id)
        if self.key.check != check:
            raise LedgerError(f"The key is not the one that {path} was made with.")

    def _create(self, key: bytes | None) -> None:
        """Make the file, complete or not at all; another process's file is left alone."""
        ledger_id = secrets.token_hex(16)
        self.key = None if key is None else _Key(key, ledger_id)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            for statement in SCHEMA:
                connection.execute(statement)
            check = None if self.key is None else self.key.check
            self.append(connection, "created", ledger=ledger_id, key_check=check)
            raw = connection.serialize()
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}.tmp")
        try:
            _write_new(temporary, raw)
            self._put_in_place(temporary)
        except OSError as error:
            raise LedgerWriteError(f"No ledger can be made at {self.path}: {error}") from error
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _put_in_place(self, temporary: Path) -> None:
        try:
            os.link(temporary, self.path)  # unlike a rename, never over another process's ledger
        except FileExistsError:
            return
        flush_folder(self.path.parent)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """Do something wholly or not at all, durably when the block has ended."""
        with self._clear_errors(), closing(self._connect()) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA synchronous = EXTRA")
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
        """Write an entry, chained to the last one."""
        last = connection.execute("SELECT sequence, hash FROM history ORDER BY sequence DESC")
        sequence, previous = last.fetchone() or (0, NO_HASH)
        text = json.dumps(details, sort_keys=True, separators=(",", ":"))
        entry = (sequence + 1, now(), event, text)
        digest = chained(previous, *entry)
        seal = None if self.key is None else self.key.seal(digest)
        connection.execute("INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)", (*entry, digest, seal))

    def entries(
        self, connection: sqlite3.Connection, after: LedgerEntry | None = None
    ) -> Iterator[LedgerEntry]:
        """Yield the entries after one that was read before, and raise where the chain breaks."""
        last, previous = (0, NO_HASH) if after is None else (after.sequence, after.hash)
        rows = connection.execute(
            "SELECT sequence, time, event, details, hash, seal FROM history"
            " WHERE sequence < 1 OR sequence > ? ORDER BY sequence",
            (last,),
        )
        for sequence, time, event, details, digest, seal in rows:
            if sequence != last + 1:
                raise self.damaged(f"entry {last + 1} of the history is missing")
            if digest != chained(previous, sequence, time, event, details):
                raise self.damaged(f"entry {sequence} of the history was changed after it was made")
            if self.key is not None and seal != self.key.seal(digest):
                raise self.damaged(f"entry {sequence} of the history was made without the key")
            previous, last = digest, sequence
            yield LedgerEntry(sequence, time, event, json.loads(details), digest)
        numbers = connection.execute("SELECT * FROM sqlite_sequence").fetchall()
        found = connection.execute("SELECT hash FROM history WHERE sequence = ?", (last,))
        if numbers != [("history", last)] or found.fetchone() != (previous,):
            raise self.damaged(f"the history ends with entry {last}, which is not its last one")

    def check_integrity(self, connection: sqlite3.Connection) -> None:
        """Raise if SQLite finds the file damaged."""
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if found != "ok":
            raise self.damaged(str(found).replace("\n", " "))

    def _connect(self) -> sqlite3.Connection:
        if not self.path.is_file():
            raise LedgerError(f"There is no ledger {self.path}.")
        uri = self.path.as_uri() + "?mode=rw"
        return sqlite3.connect(uri, uri=True, timeout=self.timeout, isolation_level=None)

    def _check_is_ledger(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise LedgerDamagedError(f"{self.path} is not a ledger, or is damaged at its start.")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT_VERSION:
            raise LedgerDamagedError(f"{self.path} has format {version}, not {FORMAT_VERSION}.")
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        if sorted(sql for (sql,) in found) != sorted([*SCHEMA, _LAST_NUMBERS]):
            raise self.damaged("its tables are not those of a ledger")

    def damaged(self, what: str) -> LedgerDamagedError:
        """Return an error that says what is wrong with the file, and what to do."""
        return LedgerDamagedError(
            f"{self.path} is not what was written into it: {what}. Go on with a copy that verifies."
        )

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Say what an error of the database means and what can be done."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            for begin, (kind, meaning) in _CAUSES.items():
                if name.startswith(begin):
                    told = meaning.format(error=error, timeout=self.timeout)
                    raise kind(f"{self.path} {told} Nothing was changed.") from error
            raise self.damaged(str(error)) from error
        except (*_NOT_OURS, json.JSONDecodeError) as error:
            raise self.damaged(f"it holds what no ledger holds ({error!r})") from error


def chained(previous: str, sequence: int, time: str, event: str, details: str) -> str:
    """Return the hash of an entry that follows another one."""
    line = json.dumps([previous, sequence, time, event, details])
    return hashlib.sha256(line.encode()).hexdigest()
