"""What may go wrong with a ledger."""

from __future__ import annotations

__all__ = ["LedgerBusyError", "LedgerDamagedError", "LedgerError", "LedgerWriteError"]


class LedgerError(ValueError):
    """A ledger cannot be used as asked; the base of all its errors."""


class LedgerBusyError(LedgerError):
    """Another process has locked the ledger, or is carrying out its requests."""


class LedgerDamagedError(LedgerError):
    """The ledger is not what was written into it: damaged, cut off, or edited."""


class LedgerWriteError(LedgerError):
    """The ledger cannot be read or written where it is; nothing of it has changed."""
