"""FairFace: faces with age, gender and race."""

from __future__ import annotations

import os
import warnings
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..utils._random import RandomState
from ..utils.arguments import check_types
from ._source import Source, find_source, open_source, require_all_listed
from ._splits import cut_validation, make_bunch
from ._tables import encode, read_csv, require_rows
from .image_files import ImageFiles

__all__ = ["load_fairface"]

LABEL_FILES = ("fairface_label_train.csv", "fairface_label_val.csv")
IMAGE_FOLDERS = ("train", "val")
AGES = (
    "0-2",
    "3-9",
    "10-19",
    "20-29",
    "30-39",
    "40-49",
    "50-59",
    "60-69",
    "more than 70",
)
GENDERS = ("Female", "Male")
RACES = (
    "Black",
    "Southeast Asian",
    "Middle Eastern",
    "Indian",
    "Latino_Hispanic",
    "White",
    "East Asian",
)
NAMES = {"age": AGES, "gender": GENDERS, "race": RACES}
Column = Literal["age", "gender", "race"]

# What spreadsheet programs make of age ranges they take for dates: day first, or month first.
DAMAGED_AGES = {
    **dict.fromkeys(("03-Sep", "3-Sep", "Sep-03", "09-Mar", "9-Mar", "Mar-09"), "3-9"),
    **dict.fromkeys(("Oct-19", "19-Oct", "10/19", "Oct-2019"), "10-19"),
}

HOW_TO_GET = (
    "FairFace (Kärkkäinen and Joo, WACV 2021) is linked from https://github.com/joojs/fairface: "
    "two label files (fairface_label_train.csv, fairface_label_val.csv) and a zip file of images "
    "with the folders train and val. Put the label files beside the folders, or beside the zip "
    "file and name that with images=..."
)

DESCR = """\
FairFace
--------

Photographs of faces, balanced over seven races, with age, gender and race as people judged them.
Target: {target}. Protected attribute: {attribute}. Rows of the label file for training are cut at
random into training and validation rows; the label file for validation is the test set.
Rows whose service_test is not True: {filtered}.
"""


def load_fairface(
    root: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
    target: Column = "age",
    attribute: Column = "race",
    service_test_only: bool = True,
    validation_size: float = 0.1,
    random_state: RandomState = 0,
) -> Bunch:
    """Load FairFace [1]_ from its official layout, a folder or a zip file.

    By default as in the paper [2]_: target age (9 classes), protected attribute race (7 values),
    only rows whose ``service_test`` is true, 90 % of the training file for training and 10 % for
    validation, cut at random, and the validation file for test.

    Parameters
    ----------
    root : str or Path
        Folder or zip file with ``fairface_label_train.csv`` and ``fairface_label_val.csv``, and
        the folders ``train`` and ``val``. A zip file is read without extracting it.
    images : str or Path or None, default=None
        Folder or zip file with ``train`` and ``val``, where they are not beside the label files.
    target : {"age", "gender", "race"}, default="age"
        Column of the target.
    attribute : {"age", "gender", "race"}, default="race"
        Column of the protected attribute.
    service_test_only : bool, default=True
        Keep only rows whose ``service_test`` is true, in both files, as the paper's experiments
        do; otherwise all rows.
    validation_size : float, default=0.1
        Share of the training file that becomes validation rows.
    random_state : int, RandomState instance or None, default=0
        Seed of that cut.

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
        forget_group : tuple of int or None
            The pair the paper forgets, 20-29 and Black; None for other columns.
        frame : DataFrame
            The label files, repaired, one row a row.
        filenames : list of str
            The images, relative to ``root`` or ``images``.
        centre_crop : bool
            True: the paper evaluates on a centre crop.
        DESCR : str
            Description, with the size of every training group.

    Raises
    ------
    FileNotFoundError
        If a label file or an image is missing.
    OSError
        If a file or folder cannot be read.
    ValueError
        If a label file is damaged, has an unknown value or lacks a column, or a split is empty.

    Warns
    -----
    UserWarning
        If labels were damaged by a spreadsheet program ("3-9" became "03-Sep", "10-19" became
        "Oct-19", "True" became "TRUE"). They are repaired; the files are left as they are.

    References
    ----------
    .. [1] K. Kärkkäinen and J. Joo. "FairFace: Face Attribute Dataset for Balanced Race, Gender,
       and Age for Bias Measurement and Mitigation". WACV 2021.
    .. [2] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.
    """
    check_types(load_fairface, locals())
    _check_columns(target, attribute)
    source = find_source(root, LABEL_FILES, HOW_TO_GET, subfolders=("fairface", "FairFace"))
    place = source if images is None else open_source(images, HOW_TO_GET)
    tables = _read_labels(source, place, (target, attribute), service_test_only)
    frame = pd.concat(tables.values(), ignore_index=True)
    codes = {
        column: np.concatenate(
            [encode(table[column], NAMES[column], source.where(n)) for n, table in tables.items()]
        )
        for column in (target, attribute)
    }
    rows = _cut([len(table) for table in tables.values()], validation_size, random_state, root)
    files = ImageFiles._from_source(
        place,
        frame["file"],
        labels=" and ".join(LABEL_FILES),
        how_to_get=HOW_TO_GET,
    )
    is_the_papers = (target, attribute) == ("age", "race")
    return make_bunch(
        data=files,
        target=codes[target],
        target_names=NAMES[target],
        groups=codes[attribute],
        group_names=NAMES[attribute],
        rows=rows,
        descr=DESCR.format(
            target=target,
            attribute=attribute,
            filtered="left out" if service_test_only else "kept",
        ),
        forget_group=(AGES.index("20-29"), RACES.index("Black")) if is_the_papers else None,
        frame=frame,
        filenames=files.filenames,
        centre_crop=True,
    )


def _check_columns(target: str, attribute: str) -> None:
    for name, column in (("target", target), ("attribute", attribute)):
        if column not in NAMES:
            raise ValueError(f"{name} must be one of {', '.join(NAMES)}, got {column!r}.")
    if target == attribute:
        raise ValueError(f"target and attribute are both {target!r}.")


def _read_labels(
    source: Source, place: Source, columns: tuple[str, str], service_test_only: bool
) -> dict[str, pd.DataFrame]:
    needed = ("file", *columns, *(("service_test",) if service_test_only else ()))
    tables = {name: read_csv(source, name, needed, HOW_TO_GET) for name in LABEL_FILES}
    for name, folder in zip(LABEL_FILES, IMAGE_FOLDERS, strict=True):
        require_all_listed(place, [folder], tables[name]["file"], source.where(name), HOW_TO_GET)
    _repair(tables)
    if not service_test_only:
        return tables
    return {name: table[_service_test(table, source.where(name))] for name, table in tables.items()}


def _repair(tables: dict[str, pd.DataFrame]) -> None:
    """Undo what a spreadsheet program did to the labels, in place, and warn once."""
    repairs: dict[str, int] = {}
    for table in tables.values():
        for column, mended in _mended_columns(table).items():
            changed = table[column] != mended
            for pair in zip(table[column][changed], mended[changed], strict=True):
                change = "{!r} -> {!r}".format(*pair)
                repairs[change] = repairs.get(change, 0) + 1
            table[column] = mended
    if repairs:
        listed = ", ".join(f"{change} ({count})" for change, count in sorted(repairs.items()))
        warnings.warn(
            f"{sum(repairs.values())} labels of {' and '.join(tables)} were damaged by a "
            f"spreadsheet program and have been repaired in memory: {listed}.",
            UserWarning,
            stacklevel=4,
        )


def _mended_columns(table: pd.DataFrame) -> dict[str, pd.Series]:
    mended = {}
    if "age" in table:
        mended["age"] = table["age"].replace(DAMAGED_AGES)
    if "service_test" in table:
        booleans = {"true": "True", "false": "False"}
        lowered = table["service_test"].str.lower().map(booleans)
        mended["service_test"] = lowered.fillna(table["service_test"])
    return mended


def _service_test(table: pd.DataFrame, where: str) -> NDArray[np.bool_]:
    return encode(table["service_test"], ("False", "True"), where).astype(bool)


def _cut(
    sizes: list[int], validation_size: float, random_state: RandomState, root: object
) -> dict[str, NDArray[np.int64]]:
    n_train, n_test = sizes
    everything = {"train": np.arange(n_train), "test": n_train + np.arange(n_test)}
    require_rows(
        everything,
        str(root),
        "No row of its label file has service_test True; service_test_only=False keeps all rows.",
    )
    train, validation = cut_validation(
        everything["train"], validation_size, random_state, str(root)
    )
    return {"train": train, "validation": validation, "test": everything["test"]}
