"""Evaluation of all metrics against one forward pass over the same rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from harness import Row, compare, make_net, make_table

from grmu_sk import RetrainUnlearner
from grmu_sk.metrics import SplitPredictions, evaluate_predictions, per_sample_cross_entropy
from grmu_sk.nets import SmallCNN


def bare_passes(module, splits, batch_size):
    """Predict each split by hand and keep what comes out."""
    module.eval()
    with torch.no_grad():
        return [torch.cat([module(part) for part in X.split(batch_size)]) for X in splits]


def against_forward(what, net, X, y, a, batch_size, repetitions):
    """Compare all metrics of a fitted unlearner with passes over remaining, forget, test rows."""
    n_rows = len(y)
    unlearner = RetrainUnlearner(net, random_state=0).fit(X, y, a)
    # 10 percent forgotten, 30 percent test, 10 percent the attack's non-members
    bounds = np.cumsum([0, 5 * n_rows // 10, n_rows // 10, 3 * n_rows // 10, n_rows // 10])
    names = ("remaining", "forget", "test", "holdout")
    parts = {
        name: slice(start, stop)
        for name, start, stop in zip(names, bounds[:-1], bounds[1:], strict=True)
    }
    tensors = [torch.as_tensor(X[part]) for part in parts.values()]

    def evaluate():
        splits = {
            name: SplitPredictions(y[part], unlearner.predict_proba(X[part]), a[part])
            for name, part in parts.items()
        }
        evaluate_predictions(
            classes=unlearner.classes_,
            **splits,
            forget_groups=(y[0], a[0]),
            metrics=("RA", "UA", "TA", "EO", "GA", "DP", "EP", "WG"),
        )
        for name in ("remaining", "forget", "holdout"):  # what the attack's forests are given
            split = splits[name]
            per_sample_cross_entropy(split.y, split.proba, classes=unlearner.classes_)

    return compare(
        f"all metrics but the membership forests, {what}",
        evaluate,
        "forward pass by hand over the same rows",
        lambda: bare_passes(unlearner.net_.module_, tensors, batch_size),
        target=1.15,
        repetitions=repetitions,
    )


def measure(repetitions: int = 9) -> Iterator[Row]:
    """Measure all rows of this file."""
    X, y, a = make_table(50_000)
    net = make_net(batch_size=256)
    yield against_forward("MLP, 50k x 20, batch 256", net, X, y, a, 256, repetitions)
    X = np.random.default_rng(0).standard_normal((4_000, 3, 32, 32), dtype=np.float32)
    net, what = make_net(SmallCNN, batch_size=64), "SmallCNN, 4k x 3 x 32 x 32, batch 64"
    yield against_forward(what, net, X, y[:4_000], a[:4_000], 64, max(3, repetitions // 3))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for row in measure():
        print(row.as_markdown())
