"""The training rows: inputs, targets, groups and the row numbers they had in ``fit``.

Everything above this module speaks of *row numbers of fit*. Only this module knows where such a
row lies now, after earlier requests removed others.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples
from skorch.dataset import Dataset as SkorchDataset
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import Dataset, Subset, default_collate

Rows = NDArray[np.int64]

# So much of a table is fetched at once; small enough to be in the cache when its turn comes.
BYTES_AT_ONCE = 2**18
# Torch's own tensors begin at multiples of so many bytes. Elsewhere the last bit of a matrix
# product may differ, and a result would depend on where in memory a batch happens to lie.
ALIGNMENT = 64


def take_rows(values: Any, positions: Rows) -> Any:
    """Return some rows, in the container they came in."""
    if isinstance(values, Dataset):
        return Subset(values, positions.tolist())
    return _safe_indexing(values, positions)


def evenly_spaced(rows: Rows, n_rows: int) -> Rows:
    """Return so many of the rows, from the first to the last, or all if there are no more."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), n_rows))
    return rows[places.astype(np.int64)]


def is_lazy(X: Any) -> bool:
    """Tell whether X is read on demand: a torch Dataset, or an array or view that is in a file."""
    while isinstance(X, np.ndarray) and not isinstance(X, np.memmap):
        X = X.base
    return isinstance(X, Dataset | np.memmap)


def as_tensor(array: NDArray[Any]) -> torch.Tensor:
    """Return an array as a tensor, in order and in this machine's byte order."""
    native = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(np.ascontiguousarray(native))


def map_tensors(function: Callable[[torch.Tensor], Any], inputs: Any) -> Any:
    """Apply a function to each tensor of inputs that may be several, by name or one after another.

    What is neither is left alone. As in skorch, a module receives a tuple as a list.
    """
    if isinstance(inputs, torch.Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {name: map_tensors(function, value) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list) and not isinstance(inputs, PackedSequence):
        return [map_tensors(function, value) for value in inputs]
    return inputs


def split_item(item: Any) -> tuple[Any, Any]:
    """Return inputs and label of a Dataset's item; None for the label if it has none.

    Raises
    ------
    TypeError
        If it is neither inputs nor a pair (inputs, label).
    """
    if not isinstance(item, tuple | list):
        return item, None
    if len(item) == 1 or (len(item) == 2 and _is_one_label(item[1])):
        return item[0], item[1] if len(item) == 2 else None
    kinds = ", ".join(type(part).__name__ for part in item)
    raise TypeError(f"An item of X, ({kinds}): hand out several inputs as ((x1, x2), label).")


def _is_one_label(label: Any) -> bool:
    size = label.numel() if isinstance(label, torch.Tensor) else np.size(label)
    return bool(size == 1) and not isinstance(label, Mapping)


def _aligned(batch: torch.Tensor) -> torch.Tensor:
    return batch.clone() if batch.data_ptr() % ALIGNMENT else batch


class LazyRows(Dataset):
    """A Dataset of some rows of a memory map.

    Parameters
    ----------
    X : memory map of length n_rows
        The array; never copied as a whole.
    rows : ndarray of shape (n_samples,)
        Positions in X.
    """

    def __init__(self, X: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self.X = X
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> NDArray[Any]:
        return np.array(self.X[self.rows[i]])

    def __getitems__(self, positions: Sequence[int]) -> list[NDArray[Any]]:
        # one read a batch; a copy, since torch warns of arrays that cannot be written to
        return list(np.array(self.X[self.rows[list(positions)]]))


class InputRows(SkorchDataset):
    """Inputs alone, fetched in whole batches.

    Parameters
    ----------
    X : ndarray, tensor or torch Dataset
        The inputs. Arrays and tensors are never copied as a whole.
    dtype : torch.dtype, default=torch.float32
        What floating-point numbers are cast to, batch by batch.
    keep_integers : bool, default=False
        Leave the whole numbers of an array alone, as a net that embeds them needs. Those of
        tensors and Datasets always are left alone, masks among them.
    """

    def __init__(
        self, X: Any, dtype: torch.dtype = torch.float32, keep_integers: bool = False
    ) -> None:
        super().__init__(X, length=_num_samples(X))
        self.dtype = dtype
        self.keeps_integers = keep_integers
        # makes a batch of (input, label) pairs; None means torch's way
        self.collate: Callable[[list[Any]], Any] | None = None
        # position in a lazily read X, which is never copied; None where X itself was cut
        self.source: torch.Tensor | None = None
        # the net's own loaders, while it trains (grmu_sk.loading)
        self.loaders: dict[str, Any] | None = None
        # a copy of X, while a net trains there (grmu_sk.loading)
        self.on_device: torch.Tensor | None = None

    def __getitem__(self, i: int) -> tuple[Any, torch.Tensor]:
        inputs, y, _ = self.__getitems__([i])
        return map_tensors(lambda batch: batch[0], inputs), y[0]

    def __getitems__(self, positions: Sequence[int]) -> tuple[Any, torch.Tensor, torch.Tensor]:
        where = torch.as_tensor(positions)
        return self.fetch(where), self.labels(where), where

    def labels(self, where: torch.Tensor) -> torch.Tensor:
        """Return something for labels, by which a ``collate_fn`` that mixes rows is found out."""
        return where % 2

    def batches(
        self, batches: Sequence[torch.Tensor]
    ) -> Iterator[tuple[Any, torch.Tensor, torch.Tensor]]:
        """Yield inputs, targets and positions of each batch of positions.

        Small batches are fetched several at a time, which gives the same numbers sooner.
        """
        n_at_once = 1
        # random transforms take turns with random layers
        if batches and not isinstance(self.X, Dataset) and self.collate is None:
            n_bytes = len(batches[0]) * math.prod(self.X.shape[1:]) * self.dtype.itemsize
            n_at_once = max(1, BYTES_AT_ONCE // max(1, n_bytes))
        for start in range(0, len(batches), n_at_once):
            group = batches[start : start + n_at_once]
            if len(group) == 1:
                yield self.__getitems__(group[0])  # type: ignore[arg-type]
                continue
            fetched, sizes = self.__getitems__(torch.cat(group)), list(map(len, group))  # type: ignore[arg-type]
            # "unsafe": to torch a batch is no view, so that a net may write into it
            X, y, where = (part.unsafe_split_with_sizes(sizes) for part in fetched)
            yield from zip(map(_aligned, X), y, where, strict=True)

    def fetch(self, where: torch.Tensor) -> Any:
        """Return the inputs at these positions as one batch."""
        X = self.X if self.on_device is None else self.on_device
        places = where if self.source is None else self.source[where]
        if isinstance(X, Dataset) or self.collate is not None:
            return self.cast(self._collated(X, places, self.labels(where)))
        if isinstance(X, torch.Tensor):
            return self.cast(X.index_select(0, places.to(X.device)))
        X, numbers = np.asarray(X), places.numpy()
        # take is faster, but would copy an array in another order as a whole
        taken = X.take(numbers, axis=0) if X.flags.c_contiguous else X[numbers]
        return _aligned(self.cast(as_tensor(taken)))

    def _collated(self, X: Any, where: torch.Tensor, y: torch.Tensor) -> Any:
        many = getattr(X, "__getitems__", None)
        positions = where.tolist()
        items = many(positions) if many is not None else [X[i] for i in positions]
        if not isinstance(X, Dataset):
            items = [(item, -1) for item in items]
        # of (input, label) pairs, such as those of ImageFolder: the label given to fit counts
        pairs = [split_item(item) for item in items]
        if self.collate is None:
            return default_collate([inputs for inputs, _ in pairs])
        if all(label is None for _, label in pairs):
            return self.collate(items)
        numbered = [
            (inputs, number if isinstance(label, torch.Tensor) else number.item())
            for (inputs, label), number in zip(pairs, y, strict=True)
        ]
        made, labels = self.collate(numbered)
        if np.asarray(labels).reshape(-1).tolist() != y.tolist():
            raise ValueError("collate_fn must return the labels it was given, in the same order.")
        return made

    def cast(self, inputs: Any) -> Any:
        """Return inputs in the net's precision; masks and whole numbers as they are."""
        casts_all = isinstance(self.X, np.ndarray | LazyRows) and not self.keeps_integers
        return map_tensors(
            lambda part: part.to(self.dtype) if casts_all or part.is_floating_point() else part,
            inputs,
        )


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
    """

    def __init__(self, X: Any, y: torch.Tensor, g: torch.Tensor, rows: Rows) -> None:
        super().__init__(X)
        self.y = y
        self._len = len(rows)
        self.g = g
        self.rows = rows
        # weight of each row's loss
        self.sample_weight: torch.Tensor | None = None
        # what the class numbers stand for; None if nothing but they themselves
        self.classes: NDArray[Any] | None = None

    def labels(self, where: torch.Tensor) -> torch.Tensor:
        """Return the class numbers of the rows at these positions."""
        return self.y[where]

    @property
    def is_lazy(self) -> bool:
        """Whether X is read on demand, and thus not ours."""
        return is_lazy(self.X)

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
        return self.fetch(self.positions(rows))

    def inputs_as_given(self, rows: Rows, names: Any = None) -> Any:
        """Return some of the inputs in the user's terms, without reading lazy ones.

        Parameters
        ----------
        rows : ndarray
            Row numbers of ``fit``.
        names : ndarray or None, default=None
            Names of columns, if the inputs were a table.

        Returns
        -------
        array, DataFrame, tensor or Dataset
            The inputs; not a copy if it are all.
        """
        kept = self if np.array_equal(rows, self.rows) else self.keep(rows)
        if kept.source is not None:
            is_set = isinstance(kept.X, Dataset)
            some = kept.source.numpy()
            return Subset(kept.X, some.tolist()) if is_set else LazyRows(kept.X, some)
        is_table = names is not None and isinstance(kept.X, np.ndarray)
        return pd.DataFrame(kept.X, columns=names, index=rows) if is_table else kept.X

    def keep(self, rows: Rows) -> TrainingRows:
        """Return a copy that holds only these row numbers of ``fit``.

        A lazily read X is shared, since it belongs to the caller; everything else is copied, so
        that no view keeps a dropped row alive.
        """
        where = self.positions(rows)
        kept = copy.copy(self)
        kept.loaders = kept.on_device = None
        kept.rows, kept._len = rows.copy(), len(rows)
        kept.y, kept.g = self.y[where], self.g[where]
        if self.sample_weight is not None:
            kept.sample_weight = self.sample_weight[where]
        if self.is_lazy:
            kept.source = where if self.source is None else self.source[where]
        elif isinstance(self.X, torch.Tensor):
            kept.X = self.X[where.to(self.X.device)]
        else:
            kept.X = take_rows(self.X, where.numpy())
        return kept


class _Encoded(Dataset[Any]):
    """A Dataset of (inputs, label) pairs with class numbers in place of labels."""

    def __init__(self, pairs: Any, classes: NDArray[Any], dtype: torch.dtype) -> None:
        self.pairs = pairs
        self.classes = pd.Index(classes)
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Any, torch.Tensor]:
        inputs, label = self.pairs[i]
        (number,) = self.classes.get_indexer(np.asarray([label]))
        if number < 0:
            raise ValueError(f"The validation set has a label that is not in {[*self.classes]}.")
        return inputs, torch.as_tensor(number, dtype=self.dtype)


def encoded(validation: Any, data: TrainingRows) -> Any:
    """Return a validation set of the user's own with class numbers in place of labels.

    Parameters
    ----------
    validation : Dataset of (inputs, label) pairs
        Its labels are those that ``fit`` was given; others are an error when they are read.
    data : TrainingRows
        Knows the classes.

    Returns
    -------
    Dataset
        The same inputs.
    """
    if data.classes is None:
        return validation
    return _Encoded(validation, data.classes, data.y.dtype)
