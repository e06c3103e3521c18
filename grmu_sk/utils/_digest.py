"""Digests of weights and arrays."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet

__all__ = ["add", "add_weights", "content"]


def add(digest: Any, name: str, content: bytes) -> None:
    """Add named bytes to a digest of :mod:`hashlib`."""
    for part in (name.encode(), content):  # lengths, so that no two lists read the same
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)


def add_weights(digest: Any, net: NeuralNet) -> None:
    """Add all that the parts of an initialised net hold as their state."""
    for component in (*net._modules, *net._criteria):  # skorch's list of what has weights
        module = getattr(net, component + "_")
        module = getattr(module, "_orig_mod", module)  # of torch.compile
        for name, value in module.state_dict().items():
            add(digest, f"{component}/{name}", content(value))


def content(value: Any) -> bytes:
    """Return type, shape and values of a tensor as bytes, and of anything else what it prints."""
    if not isinstance(value, torch.Tensor):
        return repr(value).encode()
    plain = value.detach().cpu().contiguous()
    kind = f"{plain.dtype} {tuple(plain.shape)}".encode()
    if plain.numel() == 0:  # of which torch gives no view
        return kind
    return kind + plain.reshape(-1).view(torch.uint8).numpy().tobytes()
