"""Safetensors files that are either whole or known not to be.

The header's metadata has an entry ``sha256``: the digest of the whole file, with its own 64 digits
read as zeros.
"""

from __future__ import annotations

import hashlib
import json

__all__ = [
    "NO_DIGEST",
    "digest_is_right",
    "end_of_header",
    "with_digest",
    "with_sorted_header",
]

#: What metadata has to say under ``sha256`` before :func:`with_digest`.
NO_DIGEST = "0" * 64
_DIGEST_KEY = b'"sha256":"'


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
