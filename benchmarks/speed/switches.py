"""What torch's own switches do to a training step: bfloat16, channels last, compilation and so on.

Each is one line of the user's net; nothing in the package has to be changed for it. The page on
performance of the documentation says how, and what it costs in precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from harness import Row, compare, make_net, make_table, training_rows
from loop import make_images
from torch import nn
from torchvision.models import resnet18

from grmu_sk.benchmark.nets import ChannelsLastCNN
from grmu_sk.nets import MLP, SmallCNN
from grmu_sk.training import Phase, train


class Wrapped(nn.Module):
    """A ResNet-18 with two classes that computes as the switches say."""

    def __init__(self, bfloat16: bool = False, channels_last: bool = False) -> None:
        super().__init__()
        self.net = resnet18(num_classes=2)
        self.bfloat16 = bfloat16
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return logits in float32."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return self.net(X.contiguous(memory_format=self.memory_format)).float()


SWITCHES: dict[str, dict[str, Any]] = {
    "bfloat16": {"module__bfloat16": True},
    "channels last": {"module__channels_last": True},
    "bfloat16 and channels last": {"module__bfloat16": True, "module__channels_last": True},
}


def against_plain(what, on, off, X, y, batch_size, repetitions):
    """Compare an epoch of two nets on the same batches."""
    data = training_rows(X, y, np.zeros(len(y), dtype=np.int64))

    def epoch(net):
        net.history.clear()
        train(net, data, [Phase("fit", data.rows, batch_size=batch_size)], epochs=1)

    on.initialize(), off.initialize()
    return compare(
        f"one epoch with {what}, batch {batch_size}",
        lambda: epoch(on),
        "the same without",
        lambda: epoch(off),
        target=None,
        repetitions=repetitions,
        unit_of_work=("step", -(-len(y) // batch_size)),
    )


def measure(repetitions: int = 9) -> Iterator[Row]:
    """Measure all rows of this file."""
    few = max(3, repetitions // 3)
    images, y = make_images(64, 64)
    for name, options in SWITCHES.items():
        on, off = make_net(Wrapped, **options), make_net(Wrapped)
        yield against_plain(f"{name}, ResNet-18, 64 px", on, off, images, y, 32, few)
    nets = make_net(Wrapped, compile=True), make_net(Wrapped)
    yield against_plain("compile=True, ResNet-18, 64 px", *nets, images, y, 32, few)
    images, y = make_images(1_024, 32)
    nets = make_net(ChannelsLastCNN), make_net(SmallCNN)
    yield against_plain("channels last, SmallCNN, 32 px", *nets, images, y, 64, few)
    nets = make_net(SmallCNN, optimizer__fused=True), make_net(SmallCNN)
    yield against_plain("optimizer__fused=True, SmallCNN, 32 px", *nets, images, y, 64, few)
    nets = make_net(SmallCNN, compile=True), make_net(SmallCNN)
    yield against_plain("compile=True, SmallCNN, 32 px", *nets, images, y, 64, few)
    X, y, _ = make_table(10_000)
    nets = make_net(MLP, optimizer__fused=True), make_net(MLP)
    yield against_plain("optimizer__fused=True, MLP, 20 columns", *nets, X, y, 32, repetitions)
    nets = make_net(MLP, compile=True), make_net(MLP)
    yield against_plain("compile=True, MLP, 20 columns", *nets, X, y, 32, repetitions)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in measure():
        print(row.as_markdown(), flush=True)
