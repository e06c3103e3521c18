"""The key of a ledger that holds hashes in place of ids."""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat

from ..utils.arguments import check_types
from ._errors import LedgerError

__all__ = ["LedgerKey", "create_key_file"]

MIN_BYTES = 16
TOKEN = re.compile(r"hmac-sha256:[0-9a-f]{64}")


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
        If there is such a file: a key that is replaced is a ledger that is lost.
    OSError
        If it cannot be written.

    See Also
    --------
    DeletionLedger : Takes it as ``key_file``.
    """
    check_types(create_key_file, locals())
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(path)  # half a key would be taken for a whole one
        raise


def read_key_file(path: str | os.PathLike[str]) -> bytes:
    """Return the key in a file, which nobody else may read."""
    check_types(read_key_file, locals())
    with open(path, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if os.name == "posix" and mode & 0o077:
            raise LedgerError(
                f"{path} has mode {mode:04o}, so that others can read the key. Make it private "
                f"(chmod 600 {path}), and take a new key for new ledgers if others may have."
            )
        return file.read().strip()


class LedgerKey:
    """Turns ids into keyed hashes, and signs.

    Parameters
    ----------
    key : bytes
        The secret, of at least 16 bytes.
    ledger_id : str
        Of the ledger. Two ledgers with one key share no hash, so that they cannot be compared.

    Raises
    ------
    TypeError
        If the key is not bytes.
    LedgerError
        If the key is too short.
    """

    def __init__(self, key: bytes, ledger_id: str) -> None:
        if not isinstance(key, bytes):
            raise TypeError(f"key must be bytes, got a {type(key).__name__}.")
        if len(key) < MIN_BYTES:
            raise LedgerError(
                f"The key has {len(key)} bytes and needs {MIN_BYTES} or more, since ids can be "
                "guessed. grmu_sk.audit.create_key_file makes a good one."
            )
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
