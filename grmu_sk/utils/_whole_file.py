"""Safetensors files that are either whole or known not to be.

The header's metadata has an entry ``sha256``: the digest of the whole file, with its own 64 digits
read as zeros.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

from ._files import require_replaceable

__all__ = [
    "NO_DIGEST",
    "digest_is_right",
    "end_of_header",
    "flush_folder",
    "temporaries",
    "with_digest",
    "with_sorted_header",
    "write_atomically",
]

#: What metadata has to say under ``sha256`` before :func:`with_digest`.
NO_DIGEST = "0" * 64
_DIGEST_KEY = b'"sha256":"'
_SUFFIX = ".tmp"


def end_of_header(raw: bytes) -> int:
    """Return where the tensors begin."""
    return 8 + int.from_bytes(raw[:8], "little")


def with_sorted_header(raw: bytes) -> bytes:
    """Give equal content equal bytes: safetensors writes metadata in random order."""
    end = end_of_header(raw)
    header = json.dumps(json.loads(raw[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # the tensors' bytes start at a multiple of 8
    return len(header).to_bytes(8, "little") + header + raw[end:]


def with_digest(raw: bytes) -> bytes:
    """Write the file's digest into it."""
    end = end_of_header(raw)
    digest = hashlib.sha256(raw).hexdigest().encode()
    header = raw[:end].replace(_DIGEST_KEY + NO_DIGEST.encode(), _DIGEST_KEY + digest)
    return header + raw[end:]


def digest_is_right(raw: bytes) -> bool:
    """Tell whether a file is what :func:`with_digest` returned."""
    start = raw.find(_DIGEST_KEY, 8, end_of_header(raw)) + len(_DIGEST_KEY)
    stop = start + len(NO_DIGEST)
    content = hashlib.sha256(raw[:start])
    content.update(NO_DIGEST.encode())
    content.update(memoryview(raw)[stop:])
    return content.hexdigest().encode() == raw[start:stop]


def write_atomically(path: Path, raw: bytes, *, private: bool = False) -> None:
    """Write a file so that under its name there is always a whole one, old or new.

    Parameters
    ----------
    path : Path
        The file.
    raw : bytes
        What it is to hold.
    private : bool, default=False
        Whether a new file is for its owner only.

    Raises
    ------
    OSError
        If it cannot be written; an old file is as it was.
    """
    require_replaceable(path)
    mode = 0o600 if private else 0o666
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_SUFFIX}")
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():  # what was private stays private
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def temporaries(path: Path) -> list[Path]:
    """Return what :func:`write_atomically` leaves of a file if it is killed."""
    start = f".{path.name}."
    return [
        found
        for found in path.parent.iterdir()
        if found.name.startswith(start) and found.name.endswith(_SUFFIX)
    ]


def flush_folder(folder: Path) -> None:
    """Make a new name survive a power cut, where the system knows how to."""
    if os.name != "posix":
        return
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
