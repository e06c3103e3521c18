"""What every speed benchmark needs: two things timed in turns, and a row of the table.

Time is processor time of this process (all its threads), not the clock's: on a machine that others
use too a clock measures them as well. The two sides take turns, so that what remains of the others
meets both alike; a ratio is the median over pairs of neighbouring runs.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn

from grmu_sk.nets import MLP
from grmu_sk.rows import TrainingRows


@dataclass(frozen=True)
class Row:
    """One line of the table: a measured value, its spread and its target, if there is one."""

    what: str
    against: str
    target: float | None
    value: float
    low: float
    high: float
    repetitions: int
    unit: str = "x"
    at_least: bool = False
    note: str = ""

    @property
    def meets_target(self) -> bool | None:
        """Whether the measured value is on the right side of the target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def as_dict(self) -> dict[str, Any]:
        """Return the row for a JSON file."""
        return {**asdict(self), "meets_target": self.meets_target}

    def as_markdown(self) -> str:
        """Return the row of a Markdown table."""
        bound = "at least" if self.at_least else "at most"
        cells = [
            self.what,
            self.against,
            "" if self.target is None else f"{bound} {self._shown(self.target)}",
            f"{self._shown(self.value)} ({self._shown(self.low)} to {self._shown(self.high)})",
            {None: "", True: "yes", False: "no"}[self.meets_target],
            str(self.repetitions),
            self.note,
        ]
        return "| " + " | ".join(cells) + " |"

    def _shown(self, number: float) -> str:
        return f"{number:.0f} MB" if self.unit == "MB" else f"{number:.2f}{self.unit}"


HEADER = (
    "| what | against | target | measured: median (range) | met | repetitions | note |\n"
    "|---|---|---|---|---|---|---|"
)


def processor_seconds(function: Callable[[], Any]) -> float:
    """Run a function and return the processor time it took."""
    gc.collect()
    start = time.process_time()
    function()
    return time.process_time() - start


def compare(
    what: str,
    ours: Callable[[], Any],
    against: str,
    base: Callable[[], Any],
    *,
    target: float | None,
    repetitions: int,
    inverted: bool = False,
    unit_of_work: tuple[str, int] | None = None,
) -> Row:
    """Time two functions in turns.

    Parameters
    ----------
    what, against : str
        What the two functions do.
    ours, base : callable
        The functions.
    target : float or None
        The ratio ``ours / base`` must be at most this; with ``inverted``, ``base / ours`` at least.
        None where there is nothing to reach.
    repetitions : int
        Pairs of runs, after one to warm up.
    inverted : bool, default=False
        Report how many times faster ours is.
    unit_of_work : tuple of (str, int) or None, default=None
        Name of a unit (a step, a row) and how many of it a run holds, for the note.

    Returns
    -------
    Row
        The median ratio.
    """
    ours(), base()
    pairs = []
    for number in range(repetitions):
        if number % 2:
            first = processor_seconds(ours)
            pairs.append((first, processor_seconds(base)))
        else:
            second = processor_seconds(base)
            pairs.append((processor_seconds(ours), second))
    ratios = [b / a if inverted else a / b for a, b in pairs]
    name, amount = unit_of_work or ("run", 1)
    seconds = [statistics.median(side) / amount for side in zip(*pairs, strict=True)]
    return Row(
        what,
        against,
        target,
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        repetitions,
        at_least=inverted,
        note=f"{_duration(seconds[0])} against {_duration(seconds[1])} a {name}",
    )


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def make_table(n_rows: int, n_features: int = 20, n_attributes: int = 2) -> tuple[Any, Any, Any]:
    """Return random inputs, labels and protected attributes."""
    rng = np.random.default_rng(0)
    y, a = rng.integers(2, size=n_rows), rng.integers(n_attributes, size=n_rows)
    X = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    X[:, 0] += y
    return X, y, a


def training_rows(X: Any, y: Any, a: Any) -> TrainingRows:
    """Return the rows as the training loop takes them."""
    groups = torch.as_tensor(y * (a.max() + 1) + a)
    return TrainingRows(X, torch.as_tensor(y), groups, np.arange(len(y)))


def make_net(module: Any = MLP, **kwargs: Any) -> NeuralNetClassifier:
    """Return an untrained skorch net: SGD with momentum on cross-entropy, no validation split."""
    if module is MLP:
        kwargs = {"module__n_features": 20, **kwargs}
    defaults = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "lr": 0.01,
        "max_epochs": 1,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetClassifier(module, **{**defaults, **kwargs})
