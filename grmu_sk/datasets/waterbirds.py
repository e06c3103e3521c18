"""Waterbirds: birds of water and land, cut out and put before water and land."""

from __future__ import annotations

import os

from sklearn.utils import Bunch

from .labels import describe, encode, image_bunch, read_csv, rows_of_splits
from .sources import find_source, require_all_listed

HOW_TO_GET, DESCR = describe("waterbirds")

LABEL_FILE = "metadata.csv"
FOLDER = "waterbird_complete95_forest2water2"


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
    source = find_source(root, (LABEL_FILE,), HOW_TO_GET, (FOLDER,))
    where = source.where(LABEL_FILE)
    table = read_csv(source, LABEL_FILE, ("img_filename", "y", "split", "place"))
    require_all_listed(source, [""], table["img_filename"], where)
    return image_bunch(
        source,
        table["img_filename"],
        (encode(table["y"], ("0", "1"), where), ("landbird", "waterbird")),
        (encode(table["place"], ("0", "1"), where), ("land", "water")),
        rows_of_splits(encode(table["split"], ("0", "1", "2"), where), where),
        DESCR,
        forget_group=(1, 0),
        frame=table.reset_index(drop=True),
    )
