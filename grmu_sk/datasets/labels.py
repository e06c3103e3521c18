"""Label files, splits, and what all readers return."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from ..randomness import RandomState
from .images import ImageFiles
from .sources import Source

Rows = dict[str, NDArray[np.int64]]
Coded = tuple[NDArray[np.int64], Sequence[str]]
Records = list[tuple[int, list[str]]]

#: The splits, by the code that official files give them.
SPLITS = ("train", "validation", "test")
#: What people call the splits, in lower case.
SPLIT_NAMES = {"train": 0, "val": 1, "validation": 1, "test": 2, "0": 0, "1": 1, "2": 2}


# files -------------------------------------------------------------------------------------------


def read_records(source: Source, name: str, delimiter: str = ",") -> Records:
    """Return number and fields of each line that is not empty, without blanks around them."""
    text = io.StringIO(source.read(name).decode("utf-8-sig"), newline="")
    reader = csv.reader(text, delimiter=delimiter)
    return [(reader.line_num, [field.strip() for field in row]) for row in reader if row]


def table_of(records: Records, columns: Sequence[str], source: Source, name: str) -> pd.DataFrame:
    """Make a table of text from numbered lines that have been taken apart.

    Parameters
    ----------
    records : sequence of (int, list of str)
        Number and fields of each line.
    columns : sequence of str
        What the fields are.
    source : Source
        Where the file is.
    name : str
        The file.

    Returns
    -------
    DataFrame
        One row a line, indexed by line number in the file.

    Raises
    ------
    ValueError
        If a line has too few or too many fields, or there is no line.
    """
    where = source.where(name)
    for number, fields in records:
        if len(fields) != len(columns):
            raise ValueError(
                f"Line {number} of {where} has {len(fields)} fields instead of {len(columns)}; the "
                f"file may be cut short. {source.how_to_get}"
            )
    if not records:
        raise ValueError(f"{where} has no row. {source.how_to_get}")
    numbers, rows = zip(*records, strict=True)
    index = pd.Index(numbers, name="line")
    return pd.DataFrame(list(rows), columns=list(columns), index=index, dtype=object)


def read_csv(source: Source, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read a comma-separated file with a header, all values as text.

    Parameters
    ----------
    source : Source
        Where the file is.
    name : str
        The file.
    columns : sequence of str
        Columns that are needed.

    Returns
    -------
    DataFrame
        One row a line, indexed by line number in the file (the header is line 1).

    Raises
    ------
    ValueError
        If a column is missing, a line has too few or too many fields, or there is no line.
    """
    lines = read_records(source, name)
    header = lines[0][1] if lines else []
    for column in columns:
        require_column(column, header, source.where(name))
    return table_of(lines[1:], header, source, name)


def require_column(name: str, there: Iterable[str], where: Any) -> None:
    """Raise ValueError if a table has no such column, and name the nearest one.

    Parameters
    ----------
    name : str
        The column.
    there : iterable of str
        What there is.
    path : Path
        The table.
    """
    there = [str(column) for column in there]
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(there)}."
        raise ValueError(f"{where} has no column {name!r}: {hint}")


# values ------------------------------------------------------------------------------------------


def encode(
    values: pd.Series, names: Sequence[str] | Mapping[str, int], where: str
) -> NDArray[np.int64]:
    """Return the position of each value in ``names``, or its code there.

    Raises
    ------
    ValueError
        If a value is not among the names; says which, how often, and on which line first.
    """
    if not isinstance(names, Mapping):
        names = {name: code for code, name in enumerate(names)}
    codes = values.map(names)
    if (is_bad := codes.isna()).any():
        first = is_bad.idxmax()
        raise ValueError(
            f"{where}, line {first}: {values.name} is {values[first]!r}, expected one of "
            f"{list(names)}. {int(is_bad.sum())} rows have such a value."
        )
    return codes.to_numpy(dtype=np.int64)


# splits ------------------------------------------------------------------------------------------


def rows_of_splits(
    codes: NDArray[np.int64],
    where: str,
    *,
    validation_size: float | None = None,
    random_state: RandomState = None,
) -> Rows:
    """Return the row numbers of each split, cutting at random what the data do not say.

    Parameters
    ----------
    codes : ndarray of shape (n_rows,)
        0 for training, 1 for validation, 2 for test.
    where : str
        The data, for error messages.
    validation_size : float or None, default=None
        Share of the training rows that becomes validation rows, if the data have none.
    random_state : int, RandomState instance or None, default=None
        Seed of that cut.

    Returns
    -------
    dict
        Row numbers by split, ascending.

    Raises
    ------
    ValueError
        If the share is not in (0, 1), or a split has no row.
    """
    rows = {split: np.flatnonzero(codes == code) for code, split in enumerate(SPLITS)}
    if validation_size is not None:
        if not 0 < validation_size < 1:
            raise ValueError(f"validation_size must lie in (0, 1), got {validation_size!r}.")
        shuffled = check_random_state(random_state).permutation(rows["train"])
        n_cut = round(float(validation_size) * len(shuffled))
        rows["validation"], rows["train"] = np.sort(shuffled[:n_cut]), np.sort(shuffled[n_cut:])
    for split in SPLITS:
        if not len(rows[split]):
            raise ValueError(f"The {split} split of {where} has no row.")
    return rows


def describe(name: str) -> tuple[str, str]:
    """Return how to get a data set, and what it is: a file's first paragraph, and the others."""
    text = (resources.files(__package__) / "descr" / f"{name}.rst").read_text(encoding="utf-8")
    how_to_get, descr = text.split("\n\n", 1)
    return " ".join(how_to_get.split()), descr


def make_bunch(
    data: Any, target: Coded, groups: Coded, rows: Rows, descr: str, **more: Any
) -> Bunch:
    """Assemble what a reader returns.

    Parameters
    ----------
    data : object of length n_rows
        The inputs.
    target, groups : tuple
        Codes of labels and of attribute values, each an ndarray of shape (n_rows,), and their
        names.
    rows : dict
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
    pairs = {"target": target[0][rows["train"]], "group": groups[0][rows["train"]]}
    counts = pd.DataFrame(pairs).groupby(list(pairs)).size()  # of those that have rows
    sizes = [f"{target[1][y]:<24} {groups[1][a]:<28} {n:>7}" for (y, a), n in counts.items()]
    of_splits = ", ".join(f"{len(rows[split])} {split}" for split in SPLITS)
    head = f"{descr}\nRows: {of_splits}\n\nTraining rows of each group (target, attribute):"
    return Bunch(
        data=data,
        target=target[0],
        target_names=list(target[1]),
        groups=groups[0],
        group_names=list(groups[1]),
        smallest_group=tuple(map(int, counts.idxmin())),
        DESCR="\n".join([head, *sizes, ""]),
        **rows,
        **more,
    )


def image_bunch(
    source: Source, names: Iterable[str], *parts: Any, centre_crop: bool = True, **more: Any
) -> Bunch:
    """Assemble what a reader of image files returns; the rest as in :func:`make_bunch`."""
    files = ImageFiles(source, list(names))
    more |= {"filenames": files.filenames, "centre_crop": centre_crop}
    return make_bunch(files, *parts, **more)
