"""Rows of one's own: a CSV or Parquet file, arrays in .npz, images that a table lists, a function.

All commands read through :func:`read_rows`, so that a source means the same to each of them.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from .images import ImageFiles, ImageRows
from .labels import require_column
from .transforms import EvaluationTransform

NAMES = ("X", "y", "groups", "sample_weight", "sample_id", "forget", "split")
TABLES = (".csv", ".parquet")
# what NumPy raises for a damaged or forged file; a header may claim any size
UNREADABLE = (ValueError, ArithmeticError, MemoryError, SyntaxError, zlib.error)
# Later versions of pandas read every digit by default.
EXACTLY: Any = {"float_precision": "round_trip"} if pd.__version__ < "3" else {}
IN_CSV: Any = {"skipinitialspace": True}  # of "39, Private" the space belongs to the comma
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "")


@dataclass(frozen=True)
class Columns:
    """What the columns of a table stand for.

    Parameters
    ----------
    target : str or None, default=None
        Labels.
    groups : tuple of str, default=()
        Protected attributes; of several, their intersection.
    sample_id : str or None, default=None
        A name of each row.
    forget : str or None, default=None
        Which rows are to be forgotten: 1/0, true/false or yes/no.
    split : str or None, default=None
        "train", "validation" or "test".
    image : str or None, default=None
        Files of images, relative to the table's folder. They are the inputs then.
    image_size : int, default=64
        Side that images are brought to, in pixels.
    """

    target: str | None = None
    groups: tuple[str, ...] = ()
    sample_id: str | None = None
    forget: str | None = None
    split: str | None = None
    image: str | None = None
    image_size: int = 64

    @property
    def special(self) -> list[str]:
        """The columns that are no features."""
        named = (self.target, *self.groups, self.sample_id, self.forget, self.split, self.image)
        return list(dict.fromkeys(name for name in named if name is not None))


def read_rows(
    source: str | Path | Callable[[], Any],
    columns: Columns | None = None,
    features: Iterable[str] | None = None,
) -> Bunch:
    """Read rows.

    Parameters
    ----------
    source : str, Path or callable
        A .csv or .parquet file; a folder with one such file and the images it lists; a .npz file
        of arrays called X, y, groups, sample_weight, sample_id, forget, split; or
        ``"module:function"`` or a function, whose result is a mapping with these names. Nothing in
        files is executed; a module of that name is.
    columns : Columns or None, default=None
        What the columns of a table stand for.
    features : iterable of str or None, default=None
        Columns that are inputs; a protected attribute may be one. None means all others.

    Returns
    -------
    Bunch
        With X and y, and groups, sample_weight, sample_id, forget (a mask) and split (text) or
        None. X of a table is a DataFrame; images are one array, normalised. Labels, groups and ids
        of a table are text; several groups are a DataFrame.

    Raises
    ------
    ValueError
        If the source cannot be read, a column or array is missing, or a value says nothing.
    OSError
        If there is no such file.
    """
    columns = columns or Columns()
    path = Path("" if callable(source) else source)
    if callable(source):
        found = source()
    elif path.is_dir() or path.suffix.lower() in TABLES:
        found = _from_table(path, columns, features)
    elif path.suffix.lower() == ".npz":
        found = load_arrays(path, NAMES)
    else:
        found = import_object(str(source))()
    if missing := [name for name in ("X", "y") if found.get(name) is None]:
        raise ValueError(f"{source} has no {' and no '.join(missing)}.")
    rows = Bunch(**{name: found.get(name) for name in NAMES})
    lengths = {name: len(part) for name, part in rows.items() if part is not None}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"What {source} holds differs in length: {lengths}.")
    return rows


def _from_table(path: Path, columns: Columns, features: Iterable[str] | None) -> dict[str, Any]:
    if path.is_dir():
        tables = [file for file in path.iterdir() if file.suffix.lower() in TABLES]
        if len(tables) != 1:
            raise ValueError(f"{path} holds {len(tables)} tables (.csv or .parquet): name one.")
        return _from_table(tables[0], columns, features)
    if columns.target is None:
        raise ValueError(f"Say which column of {path} holds the labels: target, or --target.")
    typed, text = _read_table(path, columns.special)
    if columns.image is None:
        names = typed.columns.drop(columns.special) if features is None else list(features)
        for name in names:
            require_column(name, typed.columns, path)
        X: Any = typed[names]
    else:
        X = _images(path.parent, text[columns.image], columns)
    return {
        "X": X,
        "y": text[columns.target].to_numpy(dtype=object),
        "groups": _groups(text, columns.groups),
        "sample_id": None if columns.sample_id is None else text[columns.sample_id].tolist(),
        "forget": None if columns.forget is None else _mask(text[columns.forget], path),
        "split": None if columns.split is None else text[columns.split].str.lower().to_numpy(),
    }


def _read_table(path: Path, special: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the columns as pandas reads them, and the special ones as they are written."""
    try:
        if path.suffix.lower() == ".csv":
            typed = pd.read_csv(path, **IN_CSV, **EXACTLY)
        else:
            typed = pd.read_parquet(path)
        for name in special:
            require_column(name, typed.columns, path)
        if path.suffix.lower() == ".csv":
            # an id may be 007, a group NA (Namibia), a label True
            how = {"usecols": special, "dtype": str, "keep_default_na": False}
            return typed, pd.read_csv(path, **how, **IN_CSV)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as a table: {error}") from error
    there = typed[special].astype(object)
    return typed, there.where(there.notna(), "").astype(str)


def _groups(frame: pd.DataFrame, names: tuple[str, ...]) -> Any:
    if len(names) == 1:
        return frame[names[0]].to_numpy(dtype=object)
    return frame[list(names)] if names else None


def _mask(column: pd.Series, path: Path) -> Any:
    text = column.str.strip().str.lower()
    if unknown := sorted(set(text) - {*YES, *NO}):
        raise ValueError(
            f"{column.name!r} of {path} says {unknown[0]!r}: it must say of each row whether it is "
            "to be forgotten, by 1/0, true/false or yes/no."
        )
    return text.isin(YES).to_numpy()


def _images(folder: Path, names: pd.Series, columns: Columns) -> Any:
    rows = ImageRows(ImageFiles(folder, names.tolist()), EvaluationTransform(columns.image_size))
    return np.asarray(rows.batch(np.arange(len(rows))))


def load_arrays(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Read some arrays of a NumPy .npz file; nothing in it is executed.

    Parameters
    ----------
    path : Path
        The file.
    names : iterable of str
        The arrays, as far as they are there.

    Returns
    -------
    dict
        Arrays by name.

    Raises
    ------
    ValueError
        If it is no such file, or an array holds objects.
    """
    try:
        # opened here, since NumPy leaves a damaged file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: content[name] for name in names if name in content}
    except (*UNREADABLE, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a .npz file of plain arrays: {error}") from error


def import_object(name: str) -> Any:
    """Return what ``module:name`` or ``module.name`` means, also of the working directory.

    Parameters
    ----------
    name : str
        Where to import it from.

    Returns
    -------
    object
        What was found.

    Raises
    ------
    ValueError
        If it cannot be imported.
    """
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if not module or not attribute.isidentifier():
        raise ValueError(
            f"{name!r} is neither a .csv, .parquet or .npz file, nor a folder, nor of the form "
            "module:name."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} cannot be imported: {error}") from error
