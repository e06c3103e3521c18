"""Feeding a digest so that no two contents read the same."""

from __future__ import annotations

from typing import Any

import torch


def add(digest: Any, name: str, content: bytes) -> None:
    """Add a named content to a hashlib digest."""
    for part in (name.encode(), content):  # lengths, so that no two lists read the same
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)


def tensor_content(value: Any) -> bytes:
    """Return type, shape and bytes of a tensor; of anything else what it looks like."""
    if not isinstance(value, torch.Tensor):
        return repr(value).encode()
    plain = value.detach().cpu().contiguous()
    kind = f"{plain.dtype} {tuple(plain.shape)}".encode()
    return kind + plain.reshape(-1).view(torch.uint8).numpy().tobytes()
