"""One epoch of the training loop against a loop written by hand, and against plain skorch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from harness import Row, compare, make_net, make_table, training_rows
from torch import nn
from torchvision.models import resnet18

from grmu_sk.nets import SmallCNN
from grmu_sk.training import Phase, train

TABLE = (50_000, 20)


def bare_epoch(module, optimizer, X, y, batch_size):
    """Train as one would by hand; nothing is logged and nothing is checked."""
    criterion = nn.CrossEntropyLoss()
    module.train()
    for rows in torch.randperm(len(X)).split(batch_size):
        optimizer.zero_grad()
        criterion(module(X[rows]), y[rows]).backward()
        optimizer.step()


def against_bare(what, net, X, y, *, batch_size, target, repetitions):
    """Compare the loop with the bare one, each on a net of its own with the same weights."""
    ours, other = net.initialize(), net.__class__(**net.get_params(deep=False)).initialize()
    other.module_.load_state_dict(ours.module_.state_dict())
    data = training_rows(X, y, np.zeros(len(y), dtype=np.int64))
    X, y = torch.as_tensor(X), torch.as_tensor(y)

    def loop():
        ours.history.clear()
        train(ours, data, [Phase("fit", data.rows, batch_size=batch_size)], epochs=1)

    def bare():
        bare_epoch(other.module_, other.optimizer_, X, y, batch_size)

    return compare(
        f"one epoch, {what}, batch {batch_size}",
        loop,
        "bare torch loop, same batches",
        bare,
        target=target,
        repetitions=repetitions,
        unit_of_work=("step", -(-len(y) // batch_size)),
    )


def against_skorch(batch_size, repetitions):
    """Compare the loop with ``fit`` of skorch, whose loader fetches row by row."""
    X, y, a = make_table(*TABLE)
    data = training_rows(X, y, a)
    ours, plain = make_net(batch_size=batch_size).initialize(), make_net(batch_size=batch_size)

    def loop():
        ours.history.clear()
        train(ours, data, [Phase("fit", data.rows)], epochs=1)

    return compare(
        f"one epoch, MLP, 50k x 20, batch {batch_size}",
        loop,
        "skorch's fit, default DataLoader",
        lambda: plain.fit(X, y),
        target=3.0,
        repetitions=repetitions,
        inverted=True,
        unit_of_work=("step", -(-len(y) // batch_size)),
    )


def measure(repetitions: int = 9) -> Iterator[Row]:
    """Measure all rows of this file."""
    few = max(3, repetitions // 3)
    X, y, _ = make_table(*TABLE)
    for batch_size in (256, 32):
        options = {"batch_size": batch_size, "target": 1.10, "repetitions": repetitions}
        yield against_bare("MLP, 50k x 20", make_net(), X, y, **options)
    images, y = make_images(10_000, 32)
    net, options = make_net(SmallCNN), {"batch_size": 64, "target": 1.05, "repetitions": few}
    yield against_bare("SmallCNN, 10k x 3 x 32 x 32", net, images, y, **options)
    images, y = make_images(256, 64)
    net, options = make_net(resnet18, module__num_classes=2), {**options, "batch_size": 32}
    yield against_bare("ResNet-18, 256 x 3 x 64 x 64", net, images, y, **options)
    for batch_size in (256, 32):
        yield against_skorch(batch_size, few)


def make_images(n_images, size):
    """Return random images and labels."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((n_images, 3, size, size), dtype=np.float32)
    return images, rng.integers(2, size=n_images)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in measure():
        print(row.as_markdown())
