"""Waterbirds: birds of water and land, cut out and put before water and land."""

from __future__ import annotations

import os

from sklearn.utils import Bunch

from ..utils.arguments import check_types
from .images import ImageFiles
from .labels import integers, make_bunch, read_csv, rows_of_splits
from .sources import find_source, require_all_listed

__all__ = ["load_waterbirds"]

LABEL_FILE = "metadata.csv"
FOLDER = "waterbird_complete95_forest2water2"

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
    source = find_source(root, (LABEL_FILE,), HOW_TO_GET, (FOLDER,))
    where = source.where(LABEL_FILE)
    table = read_csv(source, LABEL_FILE, ("img_filename", "y", "split", "place"))
    require_all_listed(source, [""], table["img_filename"], where)
    files = ImageFiles(source, table["img_filename"])
    return make_bunch(
        data=files,
        target=integers(table["y"], where, below=2),
        target_names=("landbird", "waterbird"),
        groups=integers(table["place"], where, below=2),
        group_names=("land", "water"),
        rows=rows_of_splits(integers(table["split"], where, below=3), where),
        descr=DESCR,
        forget_group=(1, 0),
        frame=table.reset_index(drop=True),
        filenames=files.filenames,
        centre_crop=True,
    )
