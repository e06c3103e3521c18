"""Waterbirds: birds of water and land, cut out and put before water and land."""

from __future__ import annotations

import os

import pandas as pd
from sklearn.utils import Bunch

from ..utils.arguments import check_types
from ._source import find_source, require_all_listed
from ._splits import make_bunch, rows_by_code
from ._tables import integers, read_csv, require_rows
from .image_files import ImageFiles

__all__ = ["load_waterbirds"]

LABEL_FILE = "metadata.csv"
FOLDER = "waterbird_complete95_forest2water2"
COLUMNS = ("img_filename", "y", "split", "place")
BIRDS = ("landbird", "waterbird")
PLACES = ("land", "water")

HOW_TO_GET = (
    "Waterbirds (Sagawa et al., ICLR 2020) is linked from "
    "https://github.com/kohpangwei/group_DRO as waterbird_complete95_forest2water2.tar.gz; extract "
    "it and give the folder with metadata.csv, or the one above it."
)

DESCR = """\
Waterbirds
----------

Photographs of birds, cut out and pasted before scenes of land or water. Target: landbird or
waterbird. Protected attribute: the place. In training rows most birds are where they belong. The
official splits.
"""


def load_waterbirds(root: str | os.PathLike[str]) -> Bunch:
    """Load Waterbirds [1]_ from its official layout.

    Parameters
    ----------
    root : str or Path
        Folder or zip file with ``metadata.csv`` and the folders of images, or a folder that holds
        the folder ``waterbird_complete95_forest2water2``.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes.

        data : ImageFiles of length n_rows
            The images, read when asked for. They differ in size.
        target : ndarray of shape (n_rows,), int64
            0 for a landbird, 1 for a waterbird.
        target_names : list of str
            Their names.
        groups : ndarray of shape (n_rows,), int64
            The place: 0 for land, 1 for water.
        group_names : list of str
            Their names.
        train, validation, test : ndarray, int64
            Row numbers of the official splits, ascending.
        smallest_group : tuple of int
            The pair (target, attribute) with the fewest training rows, of those that have any.
        forget_group : tuple of int
            The pair the paper [2]_ forgets, (1, 0): waterbirds on land.
        frame : DataFrame
            ``metadata.csv``, as text.
        filenames : list of str
            The images, relative to ``root``.
        centre_crop : bool
            True: the paper evaluates on a centre crop.
        DESCR : str
            Description, with the size of every training group.

    Raises
    ------
    FileNotFoundError
        If ``metadata.csv`` or an image is missing.
    OSError
        If a file or folder cannot be read.
    ValueError
        If ``metadata.csv`` is damaged or lacks a column, or a split is empty.

    References
    ----------
    .. [1] S. Sagawa, P. W. Koh, T. B. Hashimoto and P. Liang. "Distributionally Robust Neural
       Networks for Group Shifts: On the Importance of Regularization for Worst-Case
       Generalization". ICLR 2020.
    .. [2] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.
    """
    check_types(load_waterbirds, locals())
    source = find_source(root, (LABEL_FILE,), HOW_TO_GET, subfolders=(FOLDER,))
    where = source.where(LABEL_FILE)
    table = read_csv(source, LABEL_FILE, COLUMNS, HOW_TO_GET)
    rows = rows_by_code(integers(table["split"], where, allowed=(0, 1, 2)))
    require_rows(rows, where, f"Its codes are 0, 1 and 2. {HOW_TO_GET}")
    require_all_listed(source, [""], table["img_filename"], where, HOW_TO_GET)
    files = ImageFiles._from_source(
        source, table["img_filename"], labels=LABEL_FILE, how_to_get=HOW_TO_GET
    )
    frame: pd.DataFrame = table.reset_index(drop=True)
    return make_bunch(
        data=files,
        target=integers(table["y"], where, allowed=(0, 1)),
        target_names=BIRDS,
        groups=integers(table["place"], where, allowed=(0, 1)),
        group_names=PLACES,
        rows=rows,
        descr=DESCR,
        forget_group=(1, 0),
        frame=frame,
        filenames=files.filenames,
        centre_crop=True,
    )
