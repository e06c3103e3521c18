"""Any images that a CSV file lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..randomness import RandomState
from . import labels
from .sources import Source

__all__ = ["load_image_table"]


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
        Column with the split of each row: "train", "val" or "validation", and "test", or
        0, 1 and 2. A validation or test split that no row has is cut from the training rows at
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
    columns = [groups] if isinstance(groups, str) else list(groups)
    file, where = Path(table).expanduser().absolute(), str(table)
    source = Source(file.parent, how_to_get)
    needed = [path, target, *columns, *([] if split is None else [split])]
    frame = labels.read_csv(source, file.name, needed)
    codes = np.zeros(len(frame), dtype=np.int64)  # all rows are for training, until they are cut
    if split is not None:
        codes = labels.encode(frame[split].str.lower(), labels.SPLIT_NAMES, where)
    title = f"Images listed in {file.name}"
    return labels.image_bunch(
        Source(image_folder, how_to_get),
        frame[path],
        labels.number_combinations([frame[target]], where),
        labels.number_combinations([frame[column] for column in columns], where),
        labels.rows_of_splits(
            codes,
            where,
            cut={"test": test_size, "validation": validation_size},
            random_state=random_state,
            why="Other splits are cut from it.",
        ),
        descr.format(
            title=title,
            line="-" * len(title),
            target=target,
            groups=" x ".join(columns),
            split="cut at random" if split is None else f"column {split}",
        ),
        frame=frame.reset_index(drop=True),
    )
