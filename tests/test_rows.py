"""Where rows lie, and how they are fetched."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from grmu_sk.rows import ALIGNMENT, BYTES_AT_ONCE, TrainingRows

N_ROWS = 1_000


class Squares(Dataset):
    """Rows that are computed when asked for."""

    def __len__(self):
        return N_ROWS

    def __getitem__(self, i):
        return torch.full((16,), float(i) ** 2)


def make_rows(X, rows=None):
    numbers = torch.arange(N_ROWS)
    return TrainingRows(X, numbers % 3, numbers % 5, np.arange(N_ROWS) if rows is None else rows)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(N_ROWS, 16)).astype(np.float32)


def as_kind(X, kind, folder):
    if kind == "memory map":
        np.save(folder / "X.npy", X)
        return np.load(folder / "X.npy", mmap_mode="r")
    return {
        "array": lambda: X,
        "read-only array": lambda: _read_only(X),
        "array in column order": lambda: np.asfortranarray(X),
        "reversed array": lambda: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
        "other byte order": lambda: X.astype(">f4"),
        "part of an array": lambda: np.hstack([X, X])[:, :16],
        "double precision": lambda: X.astype(np.float64),
        "tensor": lambda: torch.as_tensor(X),
        "transposed tensor": lambda: torch.as_tensor(X.T.copy()).T,
    }[kind]()


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


KINDS = [
    "array",
    "read-only array",
    "reversed array",
    "other byte order",
    "array in column order",
    "part of an array",
    "double precision",
    "tensor",
    "transposed tensor",
    "memory map",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 7, 16, 5 * N_ROWS])
def test_batches_are_the_rows_in_the_order_given(X, kind, batch_size, tmp_path):
    data = make_rows(as_kind(X, kind, tmp_path))
    where = torch.randperm(N_ROWS, generator=torch.Generator().manual_seed(0))[:-3]
    batches = list(data.batches(where, batch_size))
    assert [len(y) for _, y, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert sum(len(y) for _, y, _ in batches) == len(where)
    inputs, y, positions = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert torch.equal(positions, where)
    assert torch.equal(y, where % 3)
    np.testing.assert_array_equal(inputs, X[where])
    assert inputs.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [7, 16])
def test_batches_begin_where_tensors_do(X, kind, batch_size, tmp_path):
    """The last bit of a matrix product may depend on it."""
    data = make_rows(as_kind(X, kind, tmp_path))
    for inputs, _, _ in data.batches(torch.arange(N_ROWS), batch_size):
        assert inputs.data_ptr() % ALIGNMENT == 0


def count_fetches(monkeypatch):
    fetches = []
    original = TrainingRows.__getitems__

    def fetch(data, positions):
        fetches.append(len(positions))
        return original(data, positions)

    monkeypatch.setattr(TrainingRows, "__getitems__", fetch)
    return fetches


def test_small_batches_are_fetched_many_at_once(X, monkeypatch):
    fetches = count_fetches(monkeypatch)
    batches = list(make_rows(X).batches(torch.arange(N_ROWS), 4))
    assert len(batches) == 250
    assert fetches == [N_ROWS]
    assert N_ROWS * X[0].nbytes < BYTES_AT_ONCE


def test_no_more_is_fetched_at_once_than_fits(monkeypatch):
    fetches = count_fetches(monkeypatch)
    wide = np.zeros((N_ROWS, 1_600), dtype=np.float32)
    list(make_rows(wide).batches(torch.arange(N_ROWS), 10))
    assert max(fetches) == 40
    fetches.clear()
    list(make_rows(wide).batches(torch.arange(N_ROWS), 100))
    assert set(fetches) == {100}


@pytest.mark.parametrize("X", [Squares(), np.zeros((N_ROWS, 3), dtype=np.float32)])
def test_batches_by_themselves(X, monkeypatch):
    """A Dataset may draw random numbers; rows of other lengths would not begin where they must."""
    fetches = count_fetches(monkeypatch)
    list(make_rows(X).batches(torch.arange(N_ROWS), 50))
    assert fetches == [50] * 20


def test_a_net_may_write_into_its_batch(X):
    """With a weight, even: to torch a batch is no part of anything."""
    scale = torch.ones(16, requires_grad=True)
    original = X.copy()
    for inputs, _, _ in make_rows(X).batches(torch.arange(100), 10):
        inputs *= scale
        inputs.sum().backward()
    np.testing.assert_array_equal(X, original)
    np.testing.assert_allclose(scale.grad, X[:100].sum(0), rtol=1e-4)


def test_rows_keep_their_numbers(X):
    data = make_rows(X)
    assert data.positions(np.array([3, 999, 0])).tolist() == [3, 999, 0]
    kept = data.keep(np.r_[5:10, 20:30])
    assert kept.positions(np.array([5, 9, 20, 29])).tolist() == [0, 4, 5, 14]
    np.testing.assert_array_equal(kept.fetch_rows(np.array([9, 21])), X[[9, 21]])
    assert kept.X.base is None, "a view would keep the dropped rows alive"
    again = kept.keep(np.array([9, 29]))
    np.testing.assert_array_equal(again.fetch_rows(np.array([29])), X[[29]])


@pytest.mark.parametrize("kind", ["memory map", "dataset"])
def test_lazily_read_rows_are_found_after_some_were_dropped(X, kind, tmp_path):
    source = Squares() if kind == "dataset" else as_kind(X, kind, tmp_path)
    kept = make_rows(source).keep(np.arange(1, N_ROWS, 2))
    assert kept.X is source
    inputs, y, _ = next(kept.batches(kept.positions(np.array([3, 7])), 2))
    expected = torch.stack([source[3], source[7]]) if kind == "dataset" else X[[3, 7]]
    np.testing.assert_array_equal(inputs, expected)
    assert y.tolist() == [0, 1]


def test_a_dataset_can_say_that_it_is_not_augmented():
    fixed, unknown = Squares(), Squares()
    fixed.is_augmented = False
    assert not make_rows(fixed).is_augmented
    assert make_rows(fixed).is_lazy
    assert make_rows(unknown).is_augmented
