"""The training rows: inputs, targets, groups and the row numbers they had in ``fit``.

Everything above this module speaks of *row numbers of fit*. Only this module knows where such a
row lies now, after earlier requests removed others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch.dataset import Dataset as SkorchDataset
from torch.utils.data import Dataset, default_collate

Rows = NDArray[np.int64]

# So much of a table is fetched at once; small enough to be in the cache when its turn comes.
BYTES_AT_ONCE = 2**18
# Torch's own tensors begin at multiples of so many bytes. Elsewhere the last bit of a matrix
# product may differ, and a result would depend on where in memory a batch happens to lie.
ALIGNMENT = 64


def is_memory_mapped(X: Any) -> bool:
    """Tell whether an array, or the array it is a view of, lives in a file."""
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return False


def as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor, in order and in this machine's byte order."""
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(native))


def _aligned(batch: torch.Tensor) -> torch.Tensor:
    return batch.clone() if batch.data_ptr() % ALIGNMENT else batch


class InputRows(SkorchDataset):
    """Inputs alone, fetched in whole batches.

    Parameters
    ----------
    X : ndarray, tensor or torch Dataset
        The inputs. Arrays and tensors are never copied as a whole.
    dtype : torch.dtype, default=torch.float32
        What numbers are cast to, batch by batch.
    keep_integers : bool, default=False
        Leave integers alone, as a net that embeds them needs.
    """

    def __init__(
        self, X: Any, dtype: torch.dtype = torch.float32, keep_integers: bool = False
    ) -> None:
        super().__init__(X, length=len(X))
        self.dtype = dtype
        self.keep_integers = keep_integers
        # a copy of X, while a net trains there (grmu_sk.device_copies)
        self.on_device: torch.Tensor | None = None

    def __getitem__(self, i: int) -> tuple[Any, torch.Tensor]:
        inputs = self.fetch(torch.tensor([i]))
        return inputs[0], torch.tensor(0)

    def __getitems__(self, positions: Sequence[int]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        where = torch.as_tensor(positions)
        return self.fetch(where), torch.zeros(len(where), dtype=torch.int64), where

    def batches(
        self, where: torch.Tensor, batch_size: int
    ) -> Iterator[tuple[Any, torch.Tensor, torch.Tensor]]:
        """Yield inputs, targets and positions, ``batch_size`` rows at a time.

        Small batches are fetched several at a time, which gives the same numbers sooner.
        """
        size = batch_size * self._batches_at_once(batch_size)
        for start in range(0, len(where), size):
            fetched = self.__getitems__(where[start : start + size])  # type: ignore[arg-type]
            if size == batch_size:
                yield fetched
            else:  # "unsafe": to torch a batch is no view, so that a net may write into it
                yield from zip(*(part.unsafe_split(batch_size) for part in fetched), strict=True)

    def _batches_at_once(self, batch_size: int) -> int:
        # random transforms of a Dataset take turns with the net's random layers
        n_bytes = 0 if isinstance(self.X, Dataset) else self.bytes_of_batch(batch_size)
        if n_bytes == 0 or n_bytes % ALIGNMENT:
            return 1
        return max(1, BYTES_AT_ONCE // n_bytes)

    def bytes_of_batch(self, batch_size: int) -> int:
        """Return how much memory a batch of an array or tensor takes once it is cast."""
        item_size = torch.empty((), dtype=self.dtype).element_size()
        return batch_size * math.prod(self.X.shape[1:]) * item_size

    def fetch(self, where: torch.Tensor) -> Any:
        """Return the inputs at these positions as one batch."""
        X = self.X if self.on_device is None else self.on_device
        if isinstance(X, Dataset):
            return self._cast(default_collate(self._items(X, where.tolist())))
        if isinstance(X, torch.Tensor):
            return self._cast(X.index_select(0, where.to(X.device)))
        X, numbers = np.asarray(X), where.numpy()
        # take is faster, but would copy an array in another order as a whole
        taken = X.take(numbers, axis=0) if X.flags.c_contiguous else X[numbers]
        return _aligned(self._cast(as_tensor(taken)))

    @staticmethod
    def _items(X: Dataset[Any], positions: list[int]) -> list[Any]:
        many = getattr(X, "__getitems__", None)
        items = many(positions) if many is not None else [X[i] for i in positions]
        # a Dataset of (input, label) pairs, such as ImageFolder: the label given to fit counts
        return [item[0] if isinstance(item, tuple | list) else item for item in items]

    def _cast(self, inputs: Any) -> Any:
        if isinstance(inputs, dict):
            return {name: self._cast(value) for name, value in inputs.items()}
        if self.keep_integers and not inputs.is_floating_point():
            return inputs
        return inputs.to(self.dtype)


class TrainingRows(InputRows):
    """Inputs with targets and group numbers, addressed by the row numbers of ``fit``.

    Parameters
    ----------
    X : ndarray, tensor or torch Dataset of length n_rows
        The inputs.
    y : tensor of shape (n_rows,)
        Class numbers.
    g : tensor of shape (n_rows,)
        Group numbers.
    rows : ndarray of shape (n_rows,)
        Row numbers in ``fit``, ascending.
    sample_weight : tensor of shape (n_rows,) or None, default=None
        Weight of each row's loss.
    dtype : torch.dtype, default=torch.float32
        What numbers are cast to, batch by batch.
    keep_integers : bool, default=False
        Leave integers alone, as a net that embeds them needs.
    """

    def __init__(
        self,
        X: Any,
        y: torch.Tensor,
        g: torch.Tensor,
        rows: Rows,
        sample_weight: torch.Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        keep_integers: bool = False,
    ) -> None:
        super().__init__(X, dtype, keep_integers)
        self.y = y
        self._len = len(rows)
        self.g = g
        self.rows = rows
        self.sample_weight = sample_weight
        # position in a lazily read X, which is never copied; None where X itself was cut
        self.source: torch.Tensor | None = None

    def __getitem__(self, i: int) -> tuple[Any, torch.Tensor]:
        inputs, y, _ = self.__getitems__([i])
        return inputs[0], y[0]

    def __getitems__(self, positions: Sequence[int]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        where = torch.as_tensor(positions)
        source = where if self.source is None else self.source[where]
        return self.fetch(source), self.y[where], where

    @property
    def is_lazy(self) -> bool:
        """Whether X is read on demand (a torch Dataset or a memory map) and thus not ours."""
        return isinstance(self.X, Dataset) or is_memory_mapped(self.X)

    @property
    def is_augmented(self) -> bool:
        """Whether the same row may come out differently each time.

        A torch Dataset may do so unless it says ``is_augmented = False``.
        """
        return isinstance(self.X, Dataset) and getattr(self.X, "is_augmented", True)

    def positions(self, rows: Rows) -> torch.Tensor:
        """Return where these row numbers of ``fit`` lie now."""
        if len(self.rows) and self.rows[-1] == len(self.rows) - 1:  # none is missing
            return torch.from_numpy(np.array(rows, dtype=np.int64))
        return torch.from_numpy(np.searchsorted(self.rows, rows))

    def fetch_rows(self, rows: Rows) -> Any:
        """Return the inputs of these row numbers of ``fit`` as one batch."""
        inputs, _, _ = self.__getitems__(self.positions(rows))  # type: ignore[arg-type]
        return inputs

    def keep(self, rows: Rows) -> TrainingRows:
        """Return a copy that holds only these row numbers of ``fit``.

        A lazily read X is shared, since it belongs to the caller; everything else is copied, so
        that no view keeps a dropped row alive.
        """
        where = self.positions(rows)
        kept = copy.copy(self)
        kept.on_device = None
        kept.rows, kept._len = rows.copy(), len(rows)
        kept.y, kept.g = self.y[where], self.g[where]
        if self.sample_weight is not None:
            kept.sample_weight = self.sample_weight[where]
        if self.is_lazy:
            kept.source = where if self.source is None else self.source[where]
        elif isinstance(self.X, torch.Tensor):
            kept.X = self.X[where.to(self.X.device)]
        else:
            kept.X = self.X[where.numpy()]
        return kept
