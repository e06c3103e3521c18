"""Inputs on their way to a GPU, whose part the processor plays here."""

import numpy as np
import pytest
import torch
from conftest import make_net, same_weights
from parallel_cases import RowByRow

from grmu_sk import MIUUnlearner, RetrainUnlearner, device_copies, training
from grmu_sk.device_copies import kept_on_gpu
from grmu_sk.rows import InputRows, TrainingRows

FORGET = [40, 41, 50]
# without a GPU torch has no pinned memory
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory")


@pytest.fixture
def gpu(monkeypatch):
    """Take the processor for a GPU with this much free memory."""

    def pretend(free_memory):
        monkeypatch.setattr(device_copies, "is_gpu", lambda device: device is not None)
        monkeypatch.setattr(device_copies, "_free_memory", lambda device: free_memory)

    return pretend


def unlearned(table, X=None, **net_params):
    miu = MIUUnlearner(
        make_net(**net_params), max_epochs=2, forget_epochs=1, tune_updates=(3, 2), random_state=0
    )
    X = table.X if X is None else X
    return miu.fit(X, table.y, table.a).unlearn(FORGET).unlearn([60])


KINDS = {
    "float32": lambda X: X,
    "float64": lambda X: X.astype(np.float64),
    "read-only": lambda X: np.frombuffer(X.tobytes(), dtype=X.dtype).reshape(X.shape),
    "by columns": np.asfortranarray,
    "reversed": lambda X: X[::-1, ::-1],
    "other byte order": lambda X: X.astype(">f4"),
    "tensor": torch.from_numpy,
}


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_fit_are_read_from_their_copy(table, gpu, monkeypatch, kind):
    X = KINDS[kind](table.X)
    plain = unlearned(table, X)
    gpu(free_memory=2**30)
    monkeypatch.setattr(device_copies, "BYTES_COPIED_AT_ONCE", 100)
    read = []
    fetch = InputRows.fetch

    def spy(self, where, y=None):
        if self.on_device is not None:
            assert self.on_device.tolist() == self.X.tolist()
        read.append(self.on_device is not None)
        return fetch(self, where, y)

    monkeypatch.setattr(InputRows, "fetch", spy)
    near = unlearned(table, X)
    # what is looked at to check nets, rows and results comes before and after
    assert sum(read) > read.count(False)
    assert same_weights(plain, near)


def test_a_copy_is_dropped_in_any_case(table, gpu):
    gpu(free_memory=2**30)
    unlearner = unlearned(table)
    assert unlearner._data.on_device is None
    data = InputRows(table.X)
    with pytest.raises(KeyError), kept_on_gpu(data, "cpu"):
        assert data.on_device.shape == table.X.shape
        raise KeyError
    assert data.on_device is None


def test_rows_that_are_kept_have_no_copy_of_the_others(table, gpu):
    gpu(free_memory=2**30)
    rows = np.arange(table.n)
    data = TrainingRows(table.X, torch.from_numpy(table.y), torch.from_numpy(table.a), rows)
    with kept_on_gpu(data, "cpu"):
        assert data.keep(rows[5:]).on_device is None


def test_what_does_not_fit_or_is_read_lazily_stays(table, gpu, tmp_path):
    np.save(tmp_path / "X.npy", table.X)
    inputs = {
        "too large": table.X,
        "map": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "Dataset": RowByRow(table.X),
    }
    for what, X in inputs.items():
        gpu(free_memory=4 * table.X.nbytes - 1 if what == "too large" else 2**30)
        data = InputRows(X)
        with kept_on_gpu(data, "cpu"):
            assert data.on_device is None, what


def test_a_loader_with_processes_gets_no_copy(table, gpu, monkeypatch):
    gpu(free_memory=2**30)
    monkeypatch.setattr(device_copies, "_copy_of", None)  # would raise if it was called
    net = make_net(iterator_train__num_workers=1, max_epochs=1)
    RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a)


def test_without_a_gpu_nothing_is_copied(table, monkeypatch):
    monkeypatch.setattr(device_copies, "_copy_of", None)
    unlearned(table)


def test_what_does_not_fit_comes_through_a_loader_with_pinned_memory(gpu, table, monkeypatch):
    plain = unlearned(table)
    gpu(free_memory=0)
    loaders, own_loader = [], training._own_loader

    def spy(*args):
        loaders.append(own_loader(*args))
        return loaders[-1]

    monkeypatch.setattr(training, "_own_loader", spy)
    assert same_weights(plain, unlearned(table))
    assert loaders and all(loader.pin_memory for loader in loaders)
