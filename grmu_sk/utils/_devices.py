"""Kinds of devices."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["is_gpu"]


def is_gpu(device: Any) -> bool:
    """Tell whether a device, or None for none in particular, is a GPU of CUDA's kind."""
    return device is not None and torch.device(device).type == "cuda"
