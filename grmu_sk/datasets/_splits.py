"""What all readers return, and how validation rows are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..utils._random import RandomState
from ..utils.arguments import as_random_state

__all__ = ["SPLITS", "SPLIT_NAMES", "cut_validation", "make_bunch", "rows_by_code", "rows_by_name"]

#: The splits, by the code that official files give them.
SPLITS = ("train", "validation", "test")

#: What people call the splits, in lower case.
SPLIT_NAMES = {
    "train": ("train", "training", "0"),
    "validation": ("validation", "valid", "val", "dev", "1"),
    "test": ("test", "testing", "2"),
}


def rows_by_code(codes: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Return the row numbers of each split from a column of 0, 1 and 2."""
    return {split: np.flatnonzero(codes == code) for code, split in enumerate(SPLITS)}


def rows_by_name(
    names: Sequence[str] | None,
    n_rows: int,
    where: str,
    *,
    validation_size: float,
    test_size: float,
    random_state: RandomState,
) -> dict[str, NDArray[np.int64]]:
    """Return the row numbers of each split, cutting at random what the data do not say.

    Parameters
    ----------
    names : sequence of str or None
        Each row's split in one of the ways people write it; None if all rows are to be cut.
    n_rows : int
        Number of rows.
    where : str
        The data, for error messages.
    validation_size, test_size : float
        Shares cut from the rows for training.
    random_state : int, RandomState instance or None
        Seed of the cuts.

    Returns
    -------
    dict
        Row numbers by split, ascending.
    """
    rng = as_random_state(random_state)
    rows = {"train": np.arange(n_rows)} if names is None else _named_rows(names, where)
    if "train" not in rows:
        raise ValueError(f"The train split of {where} has no row.")
    if "test" not in rows:
        rows["train"], rows["test"] = cut_validation(
            rows["train"], test_size, rng, where, "test_size"
        )
    if "validation" not in rows:
        rows["train"], rows["validation"] = cut_validation(
            rows["train"], validation_size, rng, where
        )
    return rows


def _named_rows(names: Sequence[str], where: str) -> dict[str, NDArray[np.int64]]:
    known = {name: split for split, group in SPLIT_NAMES.items() for name in group}
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name.lower() not in known:
            raise ValueError(
                f"{where}, row {row}: the split is {name!r}, expected one of "
                f"{', '.join(map(repr, known))}."
            )
        found.setdefault(known[name.lower()], []).append(row)
    return {split: np.array(rows, dtype=np.int64) for split, rows in found.items()}


def cut_validation(
    rows: NDArray[np.int64],
    share: float,
    random_state: RandomState,
    where: str,
    name: str = "validation_size",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut rows at random into those that stay for training and a share, both ascending.

    Raises
    ------
    TypeError
        If the share is not a number.
    ValueError
        If the share is not in (0, 1), or leaves either part without a row.
    """
    if isinstance(share, bool) or not isinstance(share, Real):
        raise TypeError(f"{name} must be a number, got {share!r}.")
    if not 0 < share < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {share!r}.")
    n_cut = round(float(share) * len(rows))
    if not 0 < n_cut < len(rows):
        raise ValueError(
            f"{name}={share!r} cuts {n_cut} from the {len(rows)} training rows of {where} and "
            f"leaves {len(rows) - n_cut}; both need at least one."
        )
    shuffled = as_random_state(random_state).permutation(rows)
    return np.sort(shuffled[n_cut:]), np.sort(shuffled[:n_cut])


def make_bunch(
    *,
    data: Any,
    target: NDArray[np.int64],
    target_names: Sequence[str],
    groups: NDArray[np.int64],
    group_names: Sequence[str],
    rows: Mapping[str, NDArray[np.int64]],
    descr: str,
    **more: Any,
) -> Bunch:
    """Assemble what a reader returns.

    Parameters
    ----------
    data : object of length n_rows
        The inputs.
    target, groups : ndarray of shape (n_rows,)
        Codes of labels and of attribute values.
    target_names, group_names : sequence of str
        Their names.
    rows : mapping
        Row numbers of train, validation and test.
    descr : str
        Description; a table of counts is added to it.
    **more : dict
        Further attributes.

    Returns
    -------
    Bunch
        With the smallest group of the training rows.
    """
    shape = (len(target_names), len(group_names))
    train = rows["train"]
    counts = np.zeros(shape, dtype=np.int64)
    np.add.at(counts, (target[train], groups[train]), 1)
    return Bunch(
        data=data,
        target=target,
        target_names=list(target_names),
        groups=groups,
        group_names=list(group_names),
        **{split: rows[split] for split in SPLITS},
        smallest_group=_smallest(counts),
        **more,
        DESCR=f"{descr}\n{_sizes(rows)}\n\n{_count_table(counts, target_names, group_names)}\n",
    )


def _smallest(counts: NDArray[np.int64]) -> tuple[int, int]:
    """Return the pair with the fewest rows but at least one; of equals, the first."""
    present = np.where(counts > 0, counts, np.iinfo(np.int64).max)
    y, a = np.unravel_index(int(np.argmin(present)), counts.shape)
    return int(y), int(a)


def _sizes(rows: Mapping[str, NDArray[np.int64]]) -> str:
    return "Rows: " + ", ".join(f"{len(rows[split])} {split}" for split in SPLITS)


def _count_table(
    counts: NDArray[np.int64], target_names: Sequence[str], group_names: Sequence[str]
) -> str:
    lines = [
        f"{y:<24} {a:<28} {counts[i, j]:>7}"
        for i, y in enumerate(target_names)
        for j, a in enumerate(group_names)
    ]
    return "\n".join(["Training rows of each group (target, attribute):", *lines])
