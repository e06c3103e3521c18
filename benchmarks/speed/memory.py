"""Memory of ``fit`` and ``unlearn`` on a memory map, above what training the net takes by itself.

Counted is the peak of memory that belongs to the process (Linux: ``RssAnon``). Pages of the map
itself are the operating system's cache of the file, which it takes back when it needs them.

Each measurement is a process of its own:

    python benchmarks/speed/memory.py --gigabytes 4
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch
from harness import Row, make_net
from torch.utils.data import Dataset

from grmu_sk import MIUUnlearner, RetrainUnlearner

BATCH_SIZE = 256
METHODS = {
    "Retrain": (RetrainUnlearner, {}),
    "MIU": (MIUUnlearner, {"max_epochs": 1, "forget_epochs": 1, "tune_updates": (10, 10)}),
}


def own_megabytes() -> float:
    """Return the memory that belongs to this process now."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


@contextmanager
def peak_memory(report):
    """Put the peak, and what there was at the start, into ``report``."""
    report["start"] = report["peak"] = own_megabytes()
    done = threading.Event()

    def watch():
        while not done.wait(0.005):
            report["peak"] = max(report["peak"], own_megabytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def write_map(path, n_rows, n_features):
    """Write random float32 rows, piece by piece."""
    X = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, n_features))
    rng = np.random.default_rng(0)
    for start in range(0, n_rows, 2**14):
        part = X[start : start + 2**14]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
    X.flush()


class GeneratedRows(Dataset):
    """A Dataset of any length: a row is computed when it is asked for."""

    def __init__(self, n_rows, n_features):
        self.n_rows, self.n_features = n_rows, n_features

    def __len__(self):
        return self.n_rows

    def __getitem__(self, i):
        return self.__getitems__([i])[0]

    def __getitems__(self, positions):
        numbers = torch.tensor(positions, dtype=torch.float32).unsqueeze(1)
        return list(torch.sin(numbers * torch.arange(1.0, self.n_features + 1)))


def bare_training(n_rows, n_features):
    """Train the net by hand on batches that are made up: its footprint without any data."""
    net = make_net(module__n_features=n_features).initialize()
    labels = torch.arange(BATCH_SIZE) % 2
    for _ in range(min(500, n_rows // BATCH_SIZE)):
        net.optimizer_.zero_grad()
        output = net.module_(torch.randn(BATCH_SIZE, n_features))
        net.criterion_(output, labels).backward()
        net.optimizer_.step()


def fit_and_unlearn(X, method):
    """Train on all rows and forget one in a thousand."""
    rng = np.random.default_rng(0)
    n_rows, n_features = len(X), X.shape[1] if hasattr(X, "shape") else X.n_features
    y, a = rng.integers(2, size=(2, n_rows), dtype=np.int8)
    cls, options = METHODS[method]
    net = make_net(module__n_features=n_features, batch_size=BATCH_SIZE)
    unlearner = cls(net, random_state=0, **options).fit(X, y, a)
    unlearner.unlearn(rng.choice(n_rows, n_rows // 1000, replace=False))


def in_own_process(**options):
    """Run one measurement in a process of its own and return its report."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, __file__, "--report", *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def above_bare(what, bare, report, *, target=None, note=""):
    """Return the row of a comparison of peaks."""
    above = report["peak"] - bare["peak"]
    against = "peak of training the net by hand"
    peaks = f"peak {report['peak']:.0f} MB against {bare['peak']:.0f} MB"
    note = f"{peaks}, {report['seconds']:.0f} s{note}"
    return Row(what, against, target, above, above, above, 1, unit="MB", note=note)


def measure(repetitions: int = 9, gigabytes: float = 4.0, n_features: int = 1024) -> Iterator[Row]:
    """Measure all rows of this file; one repetition each, since memory does not vary much."""
    n_rows = int(gigabytes * 2**30) // (4 * n_features)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "X.npy")
        write_map(path, n_rows, n_features)
        bare = in_own_process(rows=n_rows, features=n_features)
        for method in METHODS:
            report = in_own_process(rows=n_rows, features=n_features, path=path, method=method)
            what = f"fit + unlearn, {method}, map of {gigabytes:g} GB ({n_rows:,} x {n_features})"
            yield above_bare(what, bare, report, target=300.0)


def measure_ten_million(n_rows: int = 10_000_000, n_features: int = 20) -> Iterator[Row]:
    """Train and unlearn 10 million rows of a memory map and of a Dataset; minutes."""
    bare = in_own_process(rows=n_rows, features=n_features)
    note = f"; a number kept of each row takes {n_rows * 8 / 2**20:.0f} MB"
    with tempfile.TemporaryDirectory() as folder:
        map_path = Path(folder, "X.npy")
        write_map(map_path, n_rows, n_features)
        for kind, path in (("map", map_path), ("Dataset", "generated")):
            report = in_own_process(rows=n_rows, features=n_features, path=path)
            yield above_bare(
                f"fit + unlearn, Retrain, {kind} of {n_rows:,} rows", bare, report, note
            )


@click.command()
@click.option("--gigabytes", default=4.0, show_default=True)
@click.option("--ten-million", is_flag=True, help="Ten million rows instead.")
@click.option("--report", is_flag=True, help="Measure in this process and print JSON.")
@click.option("--rows", default=0)
@click.option("--features", default=0)
@click.option("--path", default=None, help="A memory map, or 'generated'; none: by hand.")
@click.option("--method", default="Retrain", type=click.Choice(list(METHODS)))
def main(gigabytes, ten_million, report, rows, features, path, method):
    """Print the rows of this file."""
    torch.set_num_threads(1)
    if not report:
        for row in measure_ten_million() if ten_million else measure(gigabytes=gigabytes):
            print(row.as_markdown())
        return
    measured = {}
    with peak_memory(measured):
        start = time.perf_counter()
        if path is None:
            bare_training(rows, features)
        elif path == "generated":
            fit_and_unlearn(GeneratedRows(rows, features), method)
        else:
            fit_and_unlearn(np.load(path, mmap_mode="r"), method)
        measured["seconds"] = time.perf_counter() - start
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
