"""Label files: read as text, with errors that name file, line and what was expected."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ._source import Source

__all__ = [
    "encode",
    "integers",
    "number_combinations",
    "number_values",
    "read_csv",
    "read_text",
    "require_columns",
    "require_rows",
]


def read_text(source: Source, name: str) -> str:
    """Return a file as text, whatever program put a byte-order mark before it."""
    raw = source.read(name)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{source.where(name)} is not UTF-8 text (byte {error.start} is "
            f"{raw[error.start]:#04x}). Save it as UTF-8, or get it again."
        ) from None


def read_csv(source: Source, name: str, columns: Sequence[str], how_to_get: str) -> pd.DataFrame:
    """Read a comma-separated file with a header, all values as text.

    Parameters
    ----------
    source : Source
        Where the file is.
    name : str
        The file.
    columns : sequence of str
        Columns that are needed.
    how_to_get : str
        Where the data come from, for error messages.

    Returns
    -------
    DataFrame
        One row a line, indexed by line number in the file (the header is line 1).

    Raises
    ------
    ValueError
        If a column is missing, a line has too few or too many fields, or there is no line.
    """
    where = source.where(name)
    reader = csv.reader(io.StringIO(read_text(source, name), newline=""))
    header = [field.strip() for field in next(_records(reader, where), [])]
    require_columns(header, columns, where)
    rows, lines = [], []
    for fields in _records(reader, where):
        if not fields:
            continue
        if len(fields) != len(header):
            raise ValueError(
                f"Line {reader.line_num} of {where} has {len(fields)} fields, its header has "
                f"{len(header)} ({', '.join(header)}). The file may be cut short or damaged. "
                f"{how_to_get}"
            )
        rows.append([field.strip() for field in fields])
        lines.append(reader.line_num)
    if not rows:
        raise ValueError(f"{where} has a header but no row. {how_to_get}")
    return pd.DataFrame(rows, columns=header, index=pd.Index(lines, name="line"), dtype=object)


def _records(reader: Any, where: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise ValueError(f"Line {reader.line_num} of {where} cannot be read: {error}.") from error


def require_columns(there: Sequence[str], needed: Sequence[str], where: str) -> None:
    """Raise ValueError if a column is not there, and say which are."""
    for column in needed:
        if column not in there:
            raise ValueError(
                f"{where} has no column {column!r}. Its columns are: "
                f"{', '.join(map(repr, there)) or 'none'}."
            )


def encode(
    values: pd.Series, names: Sequence[str], where: str, aliases: Mapping[str, str] | None = None
) -> NDArray[np.int64]:
    """Return the position of each value in ``names``.

    Raises
    ------
    ValueError
        If a value is not among the names; says which, how often, and on which line first.
    """
    positions = {name: code for code, name in enumerate(names)}
    positions |= {alias: positions[name] for alias, name in (aliases or {}).items()}
    codes = values.map(positions)
    unknown = codes.isna()
    if unknown.any():
        first = unknown.idxmax()
        raise ValueError(
            f"{where}, line {first}: {values.name} is {values[first]!r}, expected one of "
            f"{', '.join(map(repr, names))}. {int(unknown.sum())} rows have such a value."
        )
    return codes.to_numpy(dtype=np.int64)


def integers(
    values: pd.Series, where: str, allowed: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Turn text into whole numbers.

    Raises
    ------
    ValueError
        If a value is not a whole number, or not an allowed one; says which and where.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    bad = numbers.isna() | (numbers % 1 != 0)
    expected = "a whole number"
    if allowed is not None:
        bad |= ~numbers.isin(allowed)
        expected = "one of " + ", ".join(map(str, allowed))
    if bad.any():
        first = bad.idxmax()
        raise ValueError(
            f"{where}, line {first}: {values.name} is {values[first]!r}, expected {expected}."
        )
    return numbers.to_numpy(dtype=np.int64)


def require_rows(rows: Mapping[str, NDArray[np.int64]], where: str, why: str) -> None:
    """Raise ValueError if a split has no row."""
    for split, numbers in rows.items():
        if len(numbers) == 0:
            raise ValueError(f"The {split} split of {where} has no row. {why}")


def number_values(values: pd.Series, where: str) -> tuple[NDArray[np.int64], list[str]]:
    """Number the distinct values of a column in order: as numbers if they all are, else as text.

    Raises
    ------
    ValueError
        If a value is missing; says on which line first.
    """
    empty = values == ""
    if empty.any():
        raise ValueError(
            f"{where}, line {empty.idxmax()}: {values.name} is empty. {int(empty.sum())} rows have "
            "no value there; give them one (their own category, for instance) or leave them out."
        )
    distinct = pd.Series(values.unique())
    numbers = pd.to_numeric(distinct, errors="coerce")
    order = (distinct if numbers.isna().any() else numbers).argsort(kind="stable")
    names = [str(name) for name in distinct.iloc[order]]
    return encode(values, names, where), names


def number_combinations(
    columns: Sequence[pd.Series], where: str
) -> tuple[NDArray[np.int64], list[str]]:
    """Number the combinations of columns' values, the last column running fastest."""
    codes, names = number_values(columns[0], where)
    for column in columns[1:]:
        more, more_names = number_values(column, where)
        codes = codes * len(more_names) + more
        names = [f"{name}, {other}" for name in names for other in more_names]
    return codes, names
