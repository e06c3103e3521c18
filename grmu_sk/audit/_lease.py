"""The lease: one process at a time carries out a ledger's requests, or changes a model's file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ._errors import LedgerBusyError, LedgerWriteError

__all__ = ["lease"]


@contextmanager
def lease(path: Path, owners: Callable[[], str]) -> Iterator[None]:
    """Hold a lock on a file beside another one, for as long as the block runs.

    The lock is the system's. It ends with the process that holds it, however that ends, so that
    a lease is never stale and no clock is asked. Whoever reads the file, in the same process as
    well, does not end it.

    Parameters
    ----------
    path : Path
        Of a ledger or of a model.
    owners : callable
        Says who has it, for a message.

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
        raise LedgerBusyError(
            f"{path} is in use: its requests are being carried out by {owners()}. Wait until that "
            "has ended; if the process dies, the way is free."
        ) from error
    except (OSError, NotImplementedError) as error:
        raise LedgerWriteError(
            f"{beside} cannot be written and locked ({error}). Carrying out requests needs this "
            "file; it may be deleted while nothing runs."
        ) from error
    try:
        yield
    finally:
        lock.release()
