"""UCI Adult: census records and whether an income exceeds 50,000 dollars a year."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import Bunch

from ..metrics.inputs import check_option
from ..randomness import RandomState
from . import labels
from .sources import Source, find_source

__all__ = ["load_adult"]

HOW_TO_GET, DESCR = labels.describe("adult")

FILES = ("adult.data", "adult.test")
NUMBERS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status"),
    *("occupation", "relationship", "race", "sex", "capital-gain", "capital-loss"),
    *("hours-per-week", "native-country", "income"),
)
NAMES = {
    "income": ("<=50K", ">50K"),
    "sex": ("Female", "Male"),
    "race": ("Amer-Indian-Eskimo", "Asian-Pac-Islander", "Black", "Other", "White"),
}
Attribute = Literal["sex", "race"]


def load_adult(
    root: str | os.PathLike[str],
    *,
    attribute: Attribute | Sequence[Attribute] = "sex",
    missing: Literal["category", "drop"] = "category",
    drop_columns: Sequence[str] = (),
    validation_size: float = 0.1,
    random_state: RandomState = 0,
) -> Bunch:
    """Load UCI Adult [1]_ from its official files.

    Parameters
    ----------
    root : str or Path
        Folder or zip file with ``adult.data`` and ``adult.test``.
    attribute : {"sex", "race"} or a sequence of both, default="sex"
        Protected attribute; of both, the intersection.
    missing : {"category", "drop"}, default="category"
        Whether a missing value ("?") is a category of its own, or its row is left out.
    drop_columns : sequence of str, default=()
        Columns that are not to be features, the protected attribute for instance.
    validation_size : float, default=0.1
        Share of ``adult.data`` that becomes validation rows.
    random_state : int, RandomState instance or None, default=0
        Seed of that cut.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes. Rows are in the order of the files:
        ``adult.data``, then ``adult.test``.

        data : ndarray of shape (n_rows, n_features), float32
            Standardised numbers and one-hot categories, fitted on the training rows. A category
            they do not have is a row of zeros.
        target : ndarray of shape (n_rows,), int64
            0 for at most 50,000 dollars a year, 1 for more.
        target_names : list of str
            The labels as in the files.
        groups : ndarray of shape (n_rows,), int64
            Codes of the protected attribute.
        group_names : list of str
            Their names; of an intersection, "Female, Black".
        train, validation, test : ndarray, int64
            Row numbers of the splits, ascending.
        smallest_group : tuple of int
            The pair (target, attribute) with the fewest training rows, of those that have any.
        frame : DataFrame
            The files as they are, numbers as integers, the trailing dot of the test labels
            removed.
        feature_names : list of str
            Columns of ``data``.
        DESCR : str
            Description, with the size of every training group.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    OSError
        If a file or folder cannot be read.
    ValueError
        If a line has too few or too many fields or an unknown value, or a column to drop is
        unknown.

    References
    ----------
    .. [1] B. Becker and R. Kohavi. "Adult". UCI Machine Learning Repository, 1996.
       https://doi.org/10.24432/C5XW20
    """
    attributes = (attribute,) if isinstance(attribute, str) else tuple(attribute)
    for name in attributes:
        check_option(name, ("sex", "race"), name="attribute")
    check_option(missing, ("category", "drop"), name="missing")
    labels.require_columns(COLUMNS[:-1], drop_columns, "Adult")
    source = find_source(root, FILES, HOW_TO_GET, ("adult", "Adult"))
    tables = [_read(source, name, missing) for name in FILES]
    frame = pd.concat(tables, ignore_index=True)
    rows = labels.rows_of_splits(
        np.repeat([0, 2], [len(table) for table in tables]),
        source.where(FILES[0]),
        cut={"validation": validation_size},
        random_state=random_state,
    )
    data, feature_names = _features(frame, rows["train"], drop_columns)
    codes = {column: labels.encode(frame[column], NAMES[column], str(source)) for column in NAMES}
    groups, group_names = np.zeros(len(frame), dtype=np.int64), [""]
    for name in attributes:
        groups, group_names = labels.combine(groups, group_names, codes[name], NAMES[name])
    return labels.make_bunch(
        data,
        (codes["income"], NAMES["income"]),
        (groups, group_names),
        rows,
        DESCR.format(
            attribute=" x ".join(attributes),
            missing="a category of their own" if missing == "category" else "left out",
        ),
        frame=frame,
        feature_names=feature_names,
    )


def _read(source: Source, name: str, missing: str) -> pd.DataFrame:
    """Read one file: no header, a comment at the top of the test file, blanks after commas."""
    lines = enumerate(labels.read_text(source, name).splitlines(), start=1)
    records = [
        (number, [field.strip() for field in line.split(",")])
        for number, line in lines
        if line.strip() and not line.startswith("|")
    ]
    table, where = labels.table_of(records, COLUMNS, source, name), source.where(name)
    if missing == "drop":
        table = table[~(table == "?").any(axis=1)].copy()
    table["income"] = table["income"].str.removesuffix(".")
    for column, names in NAMES.items():  # here the line is known
        labels.encode(table[column], names, where)
    for column in NUMBERS:
        table[column] = labels.integers(table[column], where)
    return table


def _features(
    frame: pd.DataFrame, train: NDArray[np.int64], drop_columns: Sequence[str]
) -> tuple[NDArray[np.float32], list[str]]:
    kept = [column for column in COLUMNS[:-1] if column not in drop_columns]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoder = ColumnTransformer(
        [
            ("numbers", StandardScaler(), [column for column in kept if column in NUMBERS]),
            ("categories", one_hot, [column for column in kept if column not in NUMBERS]),
        ],
        verbose_feature_names_out=False,
    )
    encoder.fit(frame.iloc[train])
    data = np.ascontiguousarray(encoder.transform(frame), dtype=np.float32)
    return data, [str(name) for name in encoder.get_feature_names_out()]
