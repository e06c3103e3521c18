"""The benchmark's small convolutional network."""

from __future__ import annotations

import torch

from ..nets import SmallCNN

__all__ = ["ChannelsLastCNN"]


class ChannelsLastCNN(SmallCNN):
    """A :class:`~grmu_sk.nets.SmallCNN` whose activations lie in memory with channels last.

    Quicker on a CPU; outputs differ by rounding only. The weights stay as they are, since what
    reads them (files, methods that rank them) expects the usual order.
    """

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of images."""
        return super().forward(X.contiguous(memory_format=torch.channels_last))
