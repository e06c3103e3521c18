"""Inputs on their way to a GPU, whose part the processor plays here."""

import contextlib
import threading

import numpy as np
import pytest
import torch
from conftest import make_net, make_table, same_weights
from parallel_cases import RowByRow

from grmu_sk import MIUUnlearner, RetrainUnlearner, device_copies
from grmu_sk.device_copies import N_AHEAD, copied_ahead, copies_pay, kept_on_gpu, to_gpu
from grmu_sk.rows import InputRows, TrainingRows

FORGET = [40, 41, 50]


@pytest.fixture
def gpu(monkeypatch):
    """Take the processor for a GPU with this much free memory."""

    def pretend(free_memory):
        monkeypatch.setattr(device_copies, "is_gpu", lambda device: device is not None)
        monkeypatch.setattr(device_copies, "_free_memory", lambda device: free_memory)

    return pretend


def clone(inputs):
    copied = inputs.clone()
    return lambda: copied


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


@pytest.mark.filterwarnings("error")
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
    # what fit looks at to check the net comes before, forgetting's own check of a request after
    assert sum(read) > 0.9 * len(read)
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
    monkeypatch.setattr(device_copies, "BYTES_AT_ONCE", 0)
    assert not copies_pay(InputRows(table.X), 32, "cpu")
    unlearned(table)


@pytest.mark.parametrize("images", [False, True])
def test_batches_copied_ahead_give_the_same_numbers(gpu, monkeypatch, images):
    from grmu_sk.nets import SmallCNN

    table = make_table(images=images)
    params = {"module": SmallCNN, "module__width": 4} if images else {}
    plain = unlearned(table, **params)
    gpu(free_memory=0)
    monkeypatch.setattr(device_copies, "BYTES_AT_ONCE", 0)
    n_copies = []

    def copy(inputs):
        assert threading.current_thread() is not threading.main_thread()
        n_copies.append(len(inputs))
        return clone(inputs)

    monkeypatch.setattr("grmu_sk.training.to_gpu", lambda device: copy)
    assert same_weights(plain, unlearned(table, **params))
    assert sum(n_copies) > 1_000


def test_copies_pay_for_large_batches_from_host_memory(table, gpu):
    gpu(free_memory=0)
    images = InputRows(np.zeros((8, 3, 64, 64), np.float32))
    assert copies_pay(images, 8, "cpu")
    assert not copies_pay(images, 1, "cpu")
    assert not copies_pay(InputRows(RowByRow(table.X)), 10**9, "cpu")
    assert not copies_pay(InputRows(torch.zeros(8, 3, 64, 64, device="meta")), 8, "cpu")
    assert not copies_pay(images, 8, None)


def three_at_a_time(n_batches, drawn):
    for number in range(n_batches):
        drawn.append(number)
        yield torch.full((3,), float(number)), torch.zeros(3), torch.arange(3)


def test_batches_come_in_order_and_not_too_early():
    drawn = []
    for number, (X, _, _) in enumerate(copied_ahead(three_at_a_time(6, drawn), clone)):
        assert X.tolist() == [number] * 3
        assert len(drawn) <= number + 1 + N_AHEAD
    assert drawn == list(range(6))
    assert list(copied_ahead(three_at_a_time(0, []), clone)) == []


def copying_threads():
    return [thread for thread in threading.enumerate() if "grmu_sk-copies" in thread.name]


def test_an_error_of_a_copy_reaches_the_caller_after_the_batches_before_it():
    def copy(inputs):
        if inputs[0] == 2:
            raise MemoryError("no room")
        return clone(inputs)

    seen = []
    with pytest.raises(MemoryError, match="no room"):
        for X, _, _ in copied_ahead(three_at_a_time(6, []), copy):
            seen.append(X[0].item())
    assert seen == [0, 1]
    assert not copying_threads()


def test_who_stops_early_leaves_no_thread_behind():
    batches = copied_ahead(three_at_a_time(6, []), clone)
    next(batches)
    assert copying_threads()
    batches.close()
    assert not copying_threads()


def test_the_gpus_other_work_waits_for_the_copy(monkeypatch):
    """The order of calls that a GPU needs; their effect takes a GPU to see."""
    log = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def record_event(self):
            log.append(f"event on {self.name}")
            return "event"

        def wait_event(self, event):
            log.append(f"{self.name} waits for {event}")

    class Inputs:
        def pin_memory(self):
            log.append("pinned")
            return self

        def to(self, device, non_blocking):
            log.append(f"to {device}, {non_blocking=}, on {current[-1]}")
            return self

        def record_stream(self, stream):
            log.append(f"used on {stream.name}")

    current = ["main"]

    @contextlib.contextmanager
    def stream(side):
        current.append(side.name)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("side"))
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(current[-1]))
    inputs = Inputs()
    wait = to_gpu("cuda:0")(inputs)
    assert log == ["pinned", "to cuda:0, non_blocking=True, on side", "event on side"]
    assert wait() is inputs
    assert log[3:] == ["main waits for event", "used on main"]
