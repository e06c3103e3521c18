"""Any images that a CSV file lists, with their labels and attributes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sklearn.utils import Bunch

from ..utils._random import RandomState
from ..utils.arguments import check_types
from ._source import open_source
from ._splits import make_bunch, rows_by_name
from ._tables import number_combinations, number_values, read_csv
from .image_files import ImageFiles

__all__ = ["load_image_table"]

DESCR = """\
Images listed in {table}
{line}

Target: {target}. Protected attribute: {groups}. Splits: {split}.
"""


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
    check_types(load_image_table, locals())
    columns = [groups] if isinstance(groups, str) else list(groups)
    if not columns:
        raise ValueError("groups must name at least one column.")
    table = Path(table).expanduser()
    how = "Give a CSV file that has a header, and the folder its file names are relative to."
    source = open_source(table.parent, how)
    if not source.has(table.name):
        raise FileNotFoundError(f"There is no {table}. {how}")
    needed = [path, target, *columns, *([] if split is None else [split])]
    frame = read_csv(source, table.name, list(dict.fromkeys(needed)), how)
    target_codes, target_names = number_values(frame[target], str(table))
    group_codes, group_names = number_combinations([frame[c] for c in columns], str(table))
    rows = rows_by_name(
        None if split is None else frame[split].tolist(),
        len(frame),
        str(table),
        validation_size=validation_size,
        test_size=test_size,
        random_state=random_state,
    )
    files = ImageFiles._from_source(
        open_source(image_folder, how), frame[path], labels=str(table), how_to_get=how
    )
    return make_bunch(
        data=files,
        target=target_codes,
        target_names=target_names,
        groups=group_codes,
        group_names=group_names,
        rows=rows,
        descr=DESCR.format(
            table=table.name,
            line="-" * len(f"Images listed in {table.name}"),
            target=target,
            groups=" x ".join(columns),
            split="cut at random" if split is None else f"column {split}",
        ),
        frame=frame.reset_index(drop=True),
        filenames=files.filenames,
        centre_crop=True,
    )
