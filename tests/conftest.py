"""Shared fixtures: a small table with groups, and nets to train on it."""

import multiprocessing
import os
import resource
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from grmu_sk.metrics import evaluate
from grmu_sk.nets import SmallCNN
from grmu_sk.rows import TrainingRows
from grmu_sk.testing import small_net as make_net

#: Set by ``make test-all``: also what one method stands for is tested on every method.
EVERY_METHOD = bool(os.environ.get("GRMU_TEST_EVERY_METHOD"))
#: Forks its processes from one that has imported everything and trained nothing.
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["torch._dynamo", "grmu_sk.audit", "grmu_sk.benchmark"])


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


def make_table(n_rows=160, n_classes=2, n_attributes=2, seed=0, images=False):
    """Rows whose label and attribute are correlated and both visible in X."""
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n_rows)
    a = np.where(
        rng.random(n_rows) < 0.7, y % n_attributes, rng.integers(n_attributes, size=n_rows)
    )
    # every pair (y, a) occurs at least four times
    corners = np.indices((n_classes, n_attributes)).reshape(2, -1).repeat(4, axis=1)
    y[: corners.shape[1]], a[: corners.shape[1]] = corners
    X = rng.normal(size=(n_rows, 4)) + np.c_[y, a, y - a, y + a]
    if images:
        X = rng.normal(size=(n_rows, 3, 8, 8)) + y[:, None, None, None] - a[:, None, None, None]
    return SimpleNamespace(X=X.astype(np.float32), y=y, a=a, n=n_rows)


def training_rows(table, rows=None):
    """Some rows of a table as the loop reads them, numbered anew."""
    rows = np.arange(table.n) if rows is None else rows
    y, g = (torch.as_tensor(values[rows]) for values in (table.y, table.a + 2 * table.y))
    return TrainingRows(table.X[rows], y, g, np.arange(len(rows)))


@pytest.fixture
def table():
    return make_table()


@pytest.fixture
def net():
    return make_net()


@pytest.fixture
def image_net():
    return make_net(SmallCNN, module__width=4)


def threshold_attack(members, nonmembers, forgotten, attack="paper"):
    """Stand for the membership attack where its values do not count: forests take long."""
    middle = np.mean if attack == "paper" else np.median
    return float(np.mean(forgotten > (middle(members) + middle(nonmembers)) / 2))


@pytest.fixture(scope="module")
def quick_attack():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evaluate, "membership_inference_efficacy", threshold_attack)
        yield


class RowSpy:
    """Records the row numbers of ``fit`` whose inputs are read, and in which phase."""

    def __init__(self, monkeypatch):
        self.phase = "setup"
        self.seen = []
        original_fetch = TrainingRows.__getitems__

        def fetch(data, positions):
            rows = data.rows[np.asarray(positions)]
            self.seen.append((self.phase, rows))
            return original_fetch(data, positions)

        monkeypatch.setattr(TrainingRows, "__getitems__", fetch)
        from grmu_sk import training
        from grmu_sk.base import BaseUnlearner

        # what is read to compare predictions and to know rows again is not what a method reads
        monkeypatch.setattr(BaseUnlearner, "_answers", lambda *_: None)
        monkeypatch.setattr(BaseUnlearner, "_digests_of", lambda *_: {})
        original_run = training._run_phase

        def run(net, data, phase, *args):
            self.phase = phase.name
            try:
                return original_run(net, data, phase, *args)
            finally:
                self.phase = "setup"

        monkeypatch.setattr(training, "_run_phase", run)

    def drawn(self, *phases):
        """Rows of these phases, or of all, in the order in which they were read."""
        chosen = [rows for name, rows in self.seen if not phases or name in phases]
        return np.concatenate(chosen) if chosen else np.array([], dtype=int)

    def rows(self, *phases):
        return np.unique(self.drawn(*phases))

    def clear(self):
        self.seen.clear()


@pytest.fixture
def row_spy(monkeypatch):
    return RowSpy(monkeypatch)


@pytest.fixture
def spy(monkeypatch):
    """Let a function note what it returns, or what ``note`` makes of that and its arguments."""

    def on(owner, name, note=lambda result, *args, **kwargs: result):
        original, seen = getattr(owner, name), []

        def noted(*args, **kwargs):
            result = original(*args, **kwargs)
            seen.append(note(result, *args, **kwargs))
            return result

        monkeypatch.setattr(owner, name, noted)
        return seen

    return on


@contextmanager
def disk_of(n_bytes):
    """Let no file grow beyond this."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def fitted(method, table, net=None, *, sample_weight=None, **params):
    """An unlearner of one seed, fitted to all rows."""
    unlearner = method(make_net() if net is None else net, **{"random_state": 0, **params})
    about = {} if sample_weight is None else {"sample_weight": sample_weight}
    return unlearner.fit(table.X, table.y, table.a, **about)


def state_of(net):
    """A copy of all weights and buffers, by name."""
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def weights_of(unlearner):
    """All weights, as one list of arrays."""
    return [value.numpy().copy() for value in unlearner.net_.module_.state_dict().values()]


def same_weights(one, other):
    return all(
        np.array_equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True)
    )
