"""UCI Adult: census records and whether an income exceeds 50,000 dollars a year."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import Bunch

from ..randomness import RandomState
from ..validation import about, check_option
from . import labels
from .sources import Source, find_source

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


def load_adult(
    root: str | os.PathLike[str],
    *,
    attribute: Literal["sex", "race"] = "sex",
    validation_size: float = 0.1,
    random_state: RandomState = 0,
) -> Bunch:
    """Load UCI Adult [1]_ from its official files.

    Parameters
    ----------
    root : str or Path
        Folder or zip file with ``adult.data`` and ``adult.test``.
    attribute : {"sex", "race"}, default="sex"
        Protected attribute. For the intersection give ``bunch.frame[["sex", "race"]]`` as groups.
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
            Numbers, standardised by the training rows, and a column of zeros and ones for each
            category of the files, of which a missing value ("?") is one.
        target : ndarray of shape (n_rows,), int64
            0 for at most 50,000 dollars a year, 1 for more.
        target_names : list of str
            The labels as in the files.
        groups : ndarray of shape (n_rows,), int64
            Codes of the protected attribute.
        group_names : list of str
            Their names.
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
        If a line has too few or too many fields, or a value is unknown.

    References
    ----------
    .. [1] B. Becker and R. Kohavi. "Adult". UCI Machine Learning Repository, 1996.
       https://doi.org/10.24432/C5XW20
    """
    check_option(attribute, ("sex", "race"), name="attribute")
    source = find_source(root, FILES, HOW_TO_GET, ("adult", "Adult"))
    tables = [_read(source, name) for name in FILES]
    frame = pd.concat(tables, ignore_index=True)
    rows = labels.rows_of_splits(
        np.repeat([0, 2], [len(table) for table in tables]),
        source.where(FILES[0]),
        validation_size=validation_size,
        random_state=random_state,
    )
    data, feature_names = _features(frame.drop(columns="income"), rows["train"])
    codes = {column: labels.encode(frame[column], NAMES[column], str(source)) for column in NAMES}
    return labels.make_bunch(
        data,
        (codes["income"], NAMES["income"]),
        (codes[attribute], NAMES[attribute]),
        rows,
        DESCR.format(attribute=attribute),
        frame=frame,
        feature_names=feature_names,
    )


def _read(source: Source, name: str) -> pd.DataFrame:
    """Read one file: no header, a comment at the top of the test file, blanks after commas."""
    lines = labels.read_records(source, name)
    records = [(number, fields) for number, fields in lines if not fields[0].startswith("|")]
    table, where = labels.table_of(records, COLUMNS, source, name), source.where(name)
    table["income"] = table["income"].str.removesuffix(".")
    for column, names in NAMES.items():  # here the line is known
        labels.encode(table[column], names, where)
    with about(where):
        return table.astype(dict.fromkeys(NUMBERS, np.int64))


def _features(
    frame: pd.DataFrame, train: NDArray[np.int64]
) -> tuple[NDArray[np.float32], list[str]]:
    texts = [column for column in frame if column not in NUMBERS]
    # those of all rows, so that a net has the same size with every cut
    categories = [sorted(frame[column].unique()) for column in texts]
    encoder = ColumnTransformer(
        [
            ("numbers", StandardScaler(), list(NUMBERS)),
            ("categories", OneHotEncoder(categories=categories, sparse_output=False), texts),
        ],
        verbose_feature_names_out=False,
    )
    encoder.fit(frame.iloc[train])
    data = np.ascontiguousarray(encoder.transform(frame), dtype=np.float32)
    return data, [str(name) for name in encoder.get_feature_names_out()]
