"""FairFace: faces with age, gender and race."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..randomness import RandomState
from . import labels
from .sources import find_source, require_all_listed

HOW_TO_GET, DESCR = labels.describe("fairface")

LABEL_FILES = ("fairface_label_train.csv", "fairface_label_val.csv")
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
RACES = (
    *("Black", "Southeast Asian", "Middle Eastern", "Indian"),
    *("Latino_Hispanic", "White", "East Asian"),
)
NAMES = {"age": AGES, "gender": ("Female", "Male"), "race": RACES}
Column = Literal["age", "gender", "race"]


def load_fairface(
    root: str | os.PathLike[str],
    *,
    target: Column = "age",
    attribute: Column = "race",
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
    target : {"age", "gender", "race"}, default="age"
        Column of the target.
    attribute : {"age", "gender", "race"}, default="race"
        Column of the protected attribute.
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
            The label files, one row a row.
        filenames : list of str
            The images, relative to ``root``.
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

    References
    ----------
    .. [1] K. Kärkkäinen and J. Joo. "FairFace: Face Attribute Dataset for Balanced Race, Gender,
       and Age for Bias Measurement and Mitigation". WACV 2021.
    .. [2] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.
    """
    check_columns(target, attribute)
    source = find_source(root, LABEL_FILES, HOW_TO_GET, ("fairface", "FairFace"))
    tables = []
    codes: dict[str, list[NDArray[np.int64]]] = {target: [], attribute: []}
    for name, folder in zip(LABEL_FILES, ("train", "val"), strict=True):
        needed = ("file", target, attribute, "service_test")
        table, where = labels.read_csv(source, name, needed), source.where(name)
        require_all_listed(source, [folder], table["file"], where)
        table = table[labels.encode(table["service_test"], ("False", "True"), where) == 1]
        for column, found in codes.items():
            found.append(labels.encode(table[column], NAMES[column], where))
        tables.append(table)
    frame = pd.concat(tables, ignore_index=True)
    return labels.image_bunch(
        source,
        frame["file"],
        (np.concatenate(codes[target]), NAMES[target]),
        (np.concatenate(codes[attribute]), NAMES[attribute]),
        labels.rows_of_splits(
            np.repeat([0, 2], [len(table) for table in tables]),
            str(root),
            validation_size=validation_size,
            random_state=random_state,
        ),
        DESCR.format(target=target, attribute=attribute),
        forget_group=(3, 0) if (target, attribute) == ("age", "race") else None,
        frame=frame,
    )


def check_columns(target: str, attribute: str) -> None:
    """Refuse what are not two columns, one of them the label and the other the attribute."""
    if target == attribute or not {target, attribute} <= set(NAMES):
        raise ValueError(
            f"target and attribute must be two of {', '.join(NAMES)}; got {target!r} and "
            f"{attribute!r}."
        )
