"""How the time of ``fit`` and ``unlearn`` grows with rows, groups and requests."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from harness import Row, make_net, make_table

from grmu_sk import MIUUnlearner, RetrainUnlearner

# few epochs and updates: what grows is the same in each of them
SHORT = {
    "Retrain": (RetrainUnlearner, {}),
    "MIU": (MIUUnlearner, {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (10, 10)}),
}


def seconds_of(method, table, rows):
    """Return the processor time of ``fit`` and of ``unlearn``, one after the other."""
    cls, options = SHORT[method]
    unlearner = cls(make_net(batch_size=256), random_state=0, **options)
    gc.collect()
    start = time.process_time()
    unlearner.fit(*table)
    middle = time.process_time()
    unlearner.unlearn(rows)
    return middle - start, time.process_time() - middle


def growth(what, against, target, small, large, repetitions, per=(1, 1)):
    """Compare two sizes in turns; ``per`` is what the times of each are divided by."""
    small(), large()
    pairs = [(small(), large()) for _ in range(repetitions)]
    ratios = [(b / per[1]) / (a / per[0]) for a, b in pairs]
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    return Row(
        what,
        against,
        target,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        repetitions,
        note=f"{medians[1]:.3g} s against {medians[0]:.3g} s",
    )


def drawn(n_rows, n_forget):
    """Return row numbers to forget."""
    return np.random.default_rng(1).choice(n_rows, n_forget, replace=False)


def with_rows(method, sizes, repetitions):
    """Time a row, at two numbers of rows of which one in a hundred is forgotten."""
    tables = {n: make_table(n) for n in sizes}
    small, large = (
        lambda n=n: sum(seconds_of(method, tables[n], drawn(n, n // 100))) for n in sizes
    )
    names = [f"{n:,}" for n in sizes]
    return growth(
        f"time a row of fit + unlearn, {method}, {names[1]} rows",
        f"{names[0]} rows",
        1.10,
        small,
        large,
        repetitions,
        sizes,
    )


def with_groups(method, n_groups, repetitions, n_rows=100_000):
    """Time fit and unlearn with many groups and with four."""
    few, many = (make_table(n_rows, n_attributes=n // 2) for n in (4, n_groups))
    rows = drawn(n_rows, 100)
    return growth(
        f"fit + unlearn, {method}, {n_rows:,} rows, {n_groups:,} groups",
        "4 groups",
        1.10,
        lambda: sum(seconds_of(method, few, rows)),
        lambda: sum(seconds_of(method, many, rows)),
        repetitions,
    )


def with_requests(method, repetitions, n_rows=100_000):
    """Time a thousand requests handled in one batch, and one request."""
    table = make_table(n_rows)
    one, thousand = drawn(n_rows, 1), drawn(n_rows, 1_000)
    return growth(
        f"unlearn, {method}, {n_rows:,} rows, 1,000 requests in one batch",
        "1 request",
        1.10,
        lambda: seconds_of(method, table, one)[1],
        lambda: seconds_of(method, table, thousand)[1],
        repetitions,
    )


def measure(repetitions: int = 9) -> Iterator[Row]:
    """Measure all rows of this file."""
    few = max(3, repetitions // 3)
    yield with_rows("Retrain", (10_000, 100_000), repetitions)
    yield with_rows("Retrain", (100_000, 1_000_000), few)
    yield with_rows("MIU", (10_000, 100_000), few)
    yield with_groups("Retrain", 100, repetitions)
    yield with_groups("Retrain", 10_000, repetitions)
    yield with_groups("MIU", 100, few)
    yield with_requests("Retrain", repetitions)
    yield with_requests("MIU", few)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in measure():
        print(row.as_markdown())
