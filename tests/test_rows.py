"""Where rows lie, and how they are fetched."""

import numpy as np
import pytest
import torch

from grmu_sk.rows import ALIGNMENT, TrainingRows

N_ROWS = 1_000


def make_rows(X):
    numbers = torch.arange(N_ROWS)
    return TrainingRows(X, numbers % 3, numbers % 5, np.arange(N_ROWS))


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(N_ROWS, 16)).astype(np.float32)


def memory_map(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


KINDS = {
    "reversed array": lambda X, _: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "other byte order": lambda X, _: X.astype(">f4"),
    "transposed tensor": lambda X, _: torch.as_tensor(X.T.copy()).T,
    "memory map": memory_map,
}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_the_rows_in_the_order_given(X, kind, tmp_path):
    data, batch_size = make_rows(KINDS[kind](X, tmp_path)), 7
    where = torch.randperm(N_ROWS, generator=torch.Generator().manual_seed(0))[:-3]
    batches = list(data.batches(where.split(batch_size)))
    assert [len(y) for _, y, _ in batches] == [len(part) for part in where.split(batch_size)]
    # the last bit of a matrix product may depend on where a batch begins
    assert all(inputs.data_ptr() % ALIGNMENT == 0 for inputs, _, _ in batches)
    inputs, y, positions = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert torch.equal(positions, where)
    assert torch.equal(y, where % 3)
    np.testing.assert_array_equal(inputs, X[where])
    assert inputs.dtype == torch.float32


def test_rows_keep_their_numbers(X):
    data = make_rows(X)
    assert data.positions(np.array([3, 999, 0])).tolist() == [3, 999, 0]
    kept = data.keep(np.r_[5:10, 20:30])
    assert kept.positions(np.array([5, 9, 20, 29])).tolist() == [0, 4, 5, 14]
    np.testing.assert_array_equal(kept.fetch_rows(np.array([9, 21])), X[[9, 21]])
    assert kept.X.base is None, "a view would keep the dropped rows alive"
