"""Rows with label and protected attribute, as they come from a caller."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Dataset, Subset

from ..groups import attribute_column
from ..utils._digest import add, content
from ..utils.arguments import to_array

__all__ = ["RowSet"]


@dataclass(frozen=True)
class RowSet:
    """Inputs, labels and protected attribute of some rows.

    Attributes
    ----------
    X : array, DataFrame, tensor or Dataset of length n_samples
        Inputs.
    y : ndarray of shape (n_samples,)
        Labels.
    groups : ndarray of shape (n_samples,) or None
        Protected attribute; tuples if there were several columns.
    """

    X: Any
    y: NDArray[Any]
    groups: NDArray[Any] | None

    @classmethod
    def from_user(cls, given: Any, name: str) -> Self:
        """Check rows given as (X, y, groups), or as a Bunch with these fields.

        Parameters
        ----------
        given : tuple or Bunch
            The rows.
        name : str
            What to call the argument in error messages.

        Returns
        -------
        RowSet
            The rows; X is not copied.

        Raises
        ------
        ValueError
            If it is something else, empty, or the lengths differ.
        """
        if hasattr(given, "X") and hasattr(given, "y"):
            parts = (given.X, given.y, getattr(given, "groups", None))
        elif isinstance(given, tuple | list) and len(given) == 3:
            parts = tuple(given)
        else:
            raise ValueError(
                f"{name} must be a tuple (X, y, groups), or what training_rows() returns; got "
                f"{type(given).__name__}. Without a protected attribute, groups is None."
            )
        X, labels, groups = parts
        if not isinstance(X, Dataset | torch.Tensor | pd.DataFrame):
            X = to_array(X, f"X of {name}")
            if X.ndim < 1:
                raise ValueError(f"X of {name} must have a row for every label, got {X!r}.")
        y = attribute_column(labels, name=f"y of {name}")
        attribute = None if groups is None else attribute_column(groups, name=f"groups of {name}")
        lengths = {"X": len(X), "y": len(y)}
        if attribute is not None:
            lengths["groups"] = len(attribute)
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The parts of {name} differ in length: {lengths}.")
        if len(X) == 0:
            raise ValueError(f"{name} holds no row.")
        return cls(X, y, attribute)

    def __len__(self) -> int:
        return len(self.y)

    def take(self, positions: NDArray[np.int64]) -> Self:
        """Return some of the rows."""
        X = self.X
        if isinstance(X, Dataset):
            X = Subset(X, positions.tolist())
        elif isinstance(X, torch.Tensor):
            X = X[torch.from_numpy(positions).to(X.device)]
        else:
            X = X.iloc[positions] if isinstance(X, pd.DataFrame) else X[positions]
        groups = None if self.groups is None else self.groups[positions]
        return type(self)(X, self.y[positions], groups)

    def keys(self) -> list[bytes] | None:
        """Return a digest of each row, label included; None for a Dataset, which is not read."""
        if isinstance(self.X, Dataset):
            return None
        if isinstance(self.X, pd.DataFrame):
            inputs = pd.util.hash_pandas_object(self.X, index=False).to_numpy()
        else:
            X = self.X.detach().cpu() if isinstance(self.X, torch.Tensor) else self.X
            inputs = np.ascontiguousarray(np.asarray(X).reshape(len(self), -1))
        return [
            hashlib.sha256(row.tobytes() + repr(label).encode()).digest()
            for row, label in zip(inputs, self.y.tolist(), strict=True)
        ]

    def digest(self) -> str:
        """Return SHA-256 of all values: other rows, or another order, have another digest."""
        digest = hashlib.sha256()
        add(digest, "y", repr(self.y.tolist()).encode())
        groups = None if self.groups is None else self.groups.tolist()
        add(digest, "groups", repr(groups).encode())
        for part in _contents(self.X):
            add(digest, "X", part)
        return digest.hexdigest()


def _contents(X: Any) -> list[bytes]:
    if isinstance(X, Dataset):
        items = (X[position] for position in range(len(X)))  # type: ignore[arg-type]
        return [_item_content(item[0] if isinstance(item, tuple) else item) for item in items]
    if isinstance(X, pd.DataFrame):
        names = repr(list(X.columns)).encode()
        return [names, *(_item_content(X[name].to_numpy()) for name in X.columns)]
    return [_item_content(X)]


def _item_content(item: Any) -> bytes:
    if isinstance(item, dict):
        return b"".join(key.encode() + _item_content(value) for key, value in item.items())
    if isinstance(item, torch.Tensor):
        return content(item)
    array = np.asarray(item)
    kind = f"{array.dtype} {array.shape}".encode()
    is_plain = array.dtype != object
    return kind + (array.tobytes() if is_plain else repr(array.tolist()).encode())


def join(parts: Sequence[RowSet]) -> RowSet:
    """Return the rows of several sets, one after the other.

    Parameters
    ----------
    parts : sequence of RowSet
        The sets.

    Returns
    -------
    RowSet
        All rows.

    Raises
    ------
    ValueError
        If inputs are of different kinds or shapes, or only some have groups.
    """
    if len({part.groups is None for part in parts}) > 1:
        raise ValueError(
            "Some of the rows come with groups and some without: give a protected attribute for "
            "all of them or for none."
        )
    y = pd.concat([pd.Series(part.y) for part in parts]).to_numpy()
    groups = None
    if parts[0].groups is not None:
        groups = pd.concat([pd.Series(part.groups) for part in parts]).to_numpy()
    return RowSet(_joined_inputs([part.X for part in parts]), y, groups)


def _joined_inputs(inputs: list[Any]) -> Any:
    for kind in (Dataset, pd.DataFrame, torch.Tensor):
        are = [isinstance(X, kind) for X in inputs]
        if any(are) and not all(are):
            raise ValueError(
                f"Some inputs are a {kind.__name__} and some are not: "
                f"{[type(X).__name__ for X in inputs]}. Give all of them as one kind."
            )
    if isinstance(inputs[0], Dataset):
        return ConcatDataset(inputs)
    if isinstance(inputs[0], pd.DataFrame):
        if len({tuple(X.columns) for X in inputs}) > 1:
            raise ValueError("The tables of inputs differ in their columns.")
        return pd.concat(inputs, ignore_index=True)
    shapes = {tuple(X.shape[1:]) for X in inputs}
    if len(shapes) > 1:
        raise ValueError(f"The inputs' rows differ in shape: {sorted(shapes)}.")
    if isinstance(inputs[0], torch.Tensor):
        return torch.cat(inputs)
    return np.concatenate(inputs)
