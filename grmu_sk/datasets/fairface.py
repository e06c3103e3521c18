"""FairFace: faces with age, gender and race, as images and as a built-in table of features."""

from __future__ import annotations

import os
from importlib import resources
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..randomness import RandomState
from . import labels
from .sources import find_source, require_all_listed

HOW_TO_GET, DESCR = labels.describe("fairface")
_, OF_EMBEDDED = labels.describe("embedded_faces")

LABEL_FILES = ("fairface_label_train.csv", "fairface_label_val.csv")
AGES = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70")
RACES = (
    *("Black", "Southeast Asian", "Middle Eastern", "Indian"),
    *("Latino_Hispanic", "White", "East Asian"),
)
NAMES = {"age": AGES, "gender": ("Female", "Male"), "race": RACES}
Column = Literal["age", "gender", "race"]

STEPS = 32  # the table holds whole numbers, in steps of 1/32 of a standard deviation


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
    _check_columns(target, attribute)
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


def load_embedded_faces(
    *,
    target: Column = "age",
    attribute: Column = "race",
    validation_size: float = 0.16,
    random_state: RandomState = 0,
) -> Bunch:
    """Load 23,658 embedded photographs of faces, in which unlearning matters.

    Each row is a photograph of FairFace [1]_ as 96 numbers. A small network memorises the
    training rows, as large networks do with images, and is right on every third test row:
    what it has forgotten can be seen, and training it takes seconds. The table is part of the
    package; it holds no image and no name. Read ``DESCR``, its datasheet, before using it for
    anything but the comparison of unlearning methods.

    Parameters
    ----------
    target : {"age", "gender", "race"}, default="age"
        Column of the target.
    attribute : {"age", "gender", "race"}, default="race"
        Column of the protected attribute.
    validation_size : float, default=0.16
        Share of FairFace's training rows that becomes validation rows, cut at random.
    random_state : int, RandomState instance or None, default=0
        Seed of the cut.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes.

        data : ndarray of shape (23658, 96), float32
            Columns of variance one over FairFace's training rows, by falling importance.
        target : ndarray of shape (23658,), int64
            Target of each row.
        target_names : list of str
            Names of the targets.
        groups : ndarray of shape (23658,), int64
            Protected attribute of each row.
        group_names : list of str
            Names of the attribute values.
        smallest_group : tuple of int
            The pair (target, attribute) with the fewest training rows.
        forget_group : tuple of int or None
            With the default columns, the pair (20-29, Black), as in the paper [2]_.
        train, validation, test : ndarray, int64
            Row numbers of the splits; the test rows are FairFace's validation rows.
        DESCR : str
            Datasheet, with the size of every training group.

    Raises
    ------
    ValueError
        If ``target`` and ``attribute`` are the same or not columns, or ``validation_size`` leaves
        a split without rows.

    References
    ----------
    .. [1] K. Kärkkäinen and J. Joo. "FairFace: Face Attribute Dataset for Balanced Race, Gender,
       and Age for Bias Measurement and Mitigation". WACV 2021.
    .. [2] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.datasets import load_embedded_faces
    >>> faces = load_embedded_faces()
    >>> faces.data[faces.train].shape
    (15673, 96)
    >>> y, a = faces.forget_group
    >>> faces.target_names[y], faces.group_names[a]
    ('20-29', 'Black')
    """
    _check_columns(target, attribute)
    path = resources.files(__package__) / "data" / "embedded_faces.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as table:
        columns = {name: table[name] for name in ("features", "is_train", target, attribute)}
    return labels.make_bunch(
        columns["features"].astype(np.float32) / STEPS,
        (columns[target].astype(np.int64), NAMES[target]),
        (columns[attribute].astype(np.int64), NAMES[attribute]),
        labels.rows_of_splits(
            np.where(columns["is_train"], 0, 2),
            "the embedded faces",
            validation_size=validation_size,
            random_state=random_state,
        ),
        OF_EMBEDDED.format(target=target, attribute=attribute),
        forget_group=(3, 0) if (target, attribute) == ("age", "race") else None,
    )


def _check_columns(target: str, attribute: str) -> None:
    """Refuse what are not two columns, one of them the label and the other the attribute."""
    if target == attribute or not {target, attribute} <= set(NAMES):
        raise ValueError(
            f"target and attribute must be two of {', '.join(NAMES)}; got {target!r} and "
            f"{attribute!r}."
        )
