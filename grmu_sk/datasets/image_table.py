"""Any images that a CSV file lists, or whose folders say what they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from ..randomness import RandomState
from . import labels
from .sources import IMAGE_ENDINGS, Source, image_names

__all__ = ["load_image_folder", "load_image_table"]


def load_image_table(
    table: str | os.PathLike[str],
    image_folder: str | os.PathLike[str],
    *,
    target: str,
    groups: str | Sequence[str],
    split: str | None = None,
    path: str = "file",
    validation_size: float = 0.1,
    test_size: float = 0.2,
    random_state: RandomState = 0,
) -> Bunch:
    """Load images listed in a CSV file with a header.

    Parameters
    ----------
    table : str or Path
        The CSV file, comma-separated.
    image_folder : str or Path
        Folder or zip file the file names are relative to.
    target : str
        Column of the target. Its distinct values, in order, are the classes.
    groups : str or sequence of str
        Column of the protected attribute; of several, the intersection.
    split : str or None, default=None
        Column with the split of each row: "train", "val" and "test", other usual names of these,
        or 0, 1 and 2. A validation or test split that no row has is cut from the training rows at
        random. None cuts both.
    path : str, default="file"
        Column of the file names.
    validation_size : float, default=0.1
        Share of the training rows for validation, where it is cut.
    test_size : float, default=0.2
        Share of all rows for test, where it is cut.
    random_state : int, RandomState instance or None, default=0
        Seed of the cuts.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes.

        data : ImageFiles of length n_rows
            The images, read when asked for.
        target : ndarray of shape (n_rows,), int64
            Codes of the target.
        target_names : list of str
            Their names, in the order of the codes.
        groups : ndarray of shape (n_rows,), int64
            Codes of the protected attribute.
        group_names : list of str
            Their names, in the order of the codes.
        train, validation, test : ndarray, int64
            Row numbers of the splits, ascending.
        smallest_group : tuple of int
            The pair (target, attribute) with the fewest training rows, of those that have any.
        frame : DataFrame
            The CSV file, as text.
        filenames : list of str
            The images, relative to ``image_folder``.
        centre_crop : bool
            True.
        DESCR : str
            Description, with the size of every training group.

    Raises
    ------
    FileNotFoundError
        If the CSV file, the folder or an image is missing.
    OSError
        If a file or folder cannot be read.
    ValueError
        If the CSV file is damaged, lacks a column or a value, or a split is empty or unknown.
    """
    how_to_get, descr = labels.describe("image_table")
    columns, where = _columns(groups), str(table)
    needed = [path, target, *columns, *([] if split is None else [split])]
    frame = _read_table(table, needed, how_to_get)
    title = f"Images listed in {Path(table).name}"
    return labels.image_bunch(
        Source(image_folder, how_to_get),
        frame[path],
        labels.number_combinations([frame[target]], where),
        labels.number_combinations([frame[column] for column in columns], where),
        _rows(frame, split, where, test_size, validation_size, random_state),
        descr.format(
            title=title,
            line="-" * len(title),
            target=target,
            groups=" x ".join(columns),
            split="cut at random" if split is None else f"column {split}",
        ),
        frame=frame.reset_index(drop=True),
    )


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    attributes: str | os.PathLike[str] | None = None,
    groups: str | Sequence[str] | None = None,
    path: str = "file",
    validation_size: float = 0.1,
    test_size: float = 0.2,
    random_state: RandomState = 0,
) -> Bunch:
    """Load images laid out as for torchvision's ImageFolder: one folder a class.

    The protected attribute is either a second level of folders, ``<class>/<attribute>/<image>``,
    or given in a CSV file. Folders ``train``, ``val`` and ``test`` above the classes are the
    splits; a validation or test split that is not there is cut from the training rows at random.

    Parameters
    ----------
    root : str or Path
        The folder or zip file.
    attributes : str or Path or None, default=None
        CSV file with the protected attribute of each image. None means folders.
    groups : str or sequence of str or None, default=None
        Column of the protected attribute in the CSV file; of several, the intersection.
    path : str, default="file"
        Column of the file names in the CSV file, relative to ``root``.
    validation_size : float, default=0.1
        Share of the training rows for validation, where it is cut.
    test_size : float, default=0.2
        Share of all rows for test, where it is cut.
    random_state : int, RandomState instance or None, default=0
        Seed of the cuts.

    Returns
    -------
    Bunch
        The attributes that :func:`load_image_table` gives; ``frame`` has the columns file, target,
        those of the attribute and, with split folders, split.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or CSV file.
    OSError
        If a file or folder cannot be read.
    ValueError
        If there is no image, an image is at another depth than expected, or has no row in the CSV
        file, or a split is empty.
    """
    if (attributes is None) != (groups is None):
        raise ValueError("attributes (a CSV file) and groups (its columns) go together.")
    how_to_get, descr = labels.describe("image_folder")
    source = Source(root, how_to_get)
    columns, where = ["attribute"] if groups is None else _columns(groups), str(source)
    frame = _read_folders(source, with_attribute=attributes is None)
    if attributes is not None:
        values = _read_table(attributes, [path, *columns], how_to_get)
        frame = _add_attributes(frame, values.set_index(path, append=True)[columns], attributes)
    split = "split" if "split" in frame else None
    title = f"Images in {source.path.name}"
    return labels.image_bunch(
        source,
        frame["file"],
        labels.number_combinations([frame["target"]], where),
        labels.number_combinations([frame[column] for column in columns], where),
        _rows(frame, split, where, test_size, validation_size, random_state),
        descr.format(
            title=title,
            line="-" * len(title),
            target="the folder",
            groups="the second folder" if attributes is None else " x ".join(columns),
            split="cut at random" if split is None else "the first folder",
        ),
        frame=frame,
    )


def _columns(groups: str | Sequence[str]) -> list[str]:
    columns = [groups] if isinstance(groups, str) else list(groups)
    if not columns:
        raise ValueError("groups must name at least one column.")
    return columns


def _read_table(
    table: str | os.PathLike[str], columns: Iterable[str], how_to_get: str
) -> pd.DataFrame:
    path = Path(table).expanduser()
    source = Source(path.parent, how_to_get)
    if not source.has(path.name):
        raise FileNotFoundError(f"There is no {path}. {how_to_get}")
    return labels.read_csv(source, path.name, list(columns))


def _rows(
    frame: pd.DataFrame,
    split: str | None,
    where: str,
    test_size: float,
    validation_size: float,
    random_state: RandomState,
) -> labels.Rows:
    codes = np.zeros(len(frame), dtype=np.int64)  # all rows are for training, until they are cut
    if split is not None:
        codes = labels.encode(frame[split].str.lower(), labels.SPLIT_NAMES, where)
    cut = {"test": test_size, "validation": validation_size}
    why = "Other splits are cut from it."
    return labels.rows_of_splits(codes, where, cut=cut, random_state=random_state, why=why)


def _read_folders(source: Source, *, with_attribute: bool) -> pd.DataFrame:
    """Return a table of the images and what their folders say."""
    names = image_names(source)
    if not names:
        raise ValueError(f"{source} has no image ({', '.join(IMAGE_ENDINGS)}). {source.how_to_get}")
    parts = [PurePosixPath(name).parts for name in names]
    # a folder 0, 1 or 2 is more likely a class
    splits = {name for name in labels.SPLIT_NAMES if not name.isdigit()}
    has_splits = all(part[0].lower() in splits for part in parts)
    levels = ["split"] * has_splits + ["target"] + ["attribute"] * with_attribute
    for name, part in zip(names, parts, strict=True):
        if len(part) != len(levels) + 1:
            raise ValueError(
                f"{source.where(name)} lies {len(part) - 1} folders deep, expected {len(levels)} "
                f"({'/'.join(levels)}/image). {source.how_to_get}"
            )
    frame = pd.DataFrame([part[:-1] for part in parts], columns=levels, dtype=object)
    frame.insert(0, "file", names)
    return frame


def _add_attributes(
    frame: pd.DataFrame, values: pd.DataFrame, table: str | os.PathLike[str]
) -> pd.DataFrame:
    """Add columns to the images, from a table indexed by line and file."""
    lines, files = (values.index.get_level_values(level) for level in (0, 1))
    repeated = np.flatnonzero(files.duplicated())
    if len(repeated):
        line, file = lines[repeated[0]], files[repeated[0]]
        raise ValueError(f"{table}, line {line}: {file} has a row already.")
    without = frame["file"][~frame["file"].isin(files)]
    if len(without):
        raise ValueError(
            f"{table} has no row for {len(without)} of the {len(frame)} images, the first "
            f"being {without.iloc[0]!r} (column {files.name!r} must hold file names relative "
            "to the root)."
        )
    clash = set(values) & set(frame)
    if clash:
        raise ValueError(f"{table}: rename the column {clash.pop()!r}, the folders give one too.")
    taken = values.droplevel(0).loc[frame["file"]].reset_index(drop=True)
    return pd.concat([frame, taken], axis=1)
