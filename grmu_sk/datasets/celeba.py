"""CelebA: portraits of celebrities with forty attributes."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from . import labels
from .sources import Source, find_source, require_all_listed

HOW_TO_GET, DESCR = labels.describe("celeba")

ATTRIBUTE_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
IMAGE_FOLDER = "img_align_celeba"


def load_celeba(
    root: str | os.PathLike[str],
    *,
    target: str = "Blond_Hair",
    attribute: str = "Male",
) -> Bunch:
    """Load CelebA [1]_ from its official files.

    By default as in the paper's tables [2]_: blond hair by sex. ``target="Attractive"`` gives the
    paper's other task.

    Parameters
    ----------
    root : str or Path
        Folder with ``list_attr_celeba.txt``, ``list_eval_partition.txt`` and the images, in a
        folder ``img_align_celeba`` or in ``img_align_celeba.zip``; or the folder that holds such a
        folder ``celeba``, as torchvision makes it; or a zip file with all of them.
    target : str, default="Blond_Hair"
        Attribute to predict.
    attribute : str, default="Male"
        Protected attribute.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes.

        data : ImageFiles of length n_rows
            The images, read when asked for.
        target : ndarray of shape (n_rows,), int64
            1 where the image has the target attribute, 0 elsewhere.
        target_names : list of str
            ``["not Blond_Hair", "Blond_Hair"]``, and likewise for others.
        groups : ndarray of shape (n_rows,), int64
            1 where the image has the protected attribute, 0 elsewhere.
        group_names : list of str
            ``["not Male", "Male"]``, and likewise for others.
        train, validation, test : ndarray, int64
            Row numbers of the official splits, ascending.
        smallest_group : tuple of int
            The pair (target, attribute) with the fewest training rows, of those that have any.
        forget_group : tuple of int
            The pair the paper forgets, (1, 1): blond, or attractive, and male.
        frame : DataFrame
            All forty attributes as 0 and 1, with columns ``file`` and ``split`` before them.
        filenames : list of str
            The images, relative to where they lie.
        centre_crop : bool
            False: the paper stretches the whole image for evaluation.
        DESCR : str
            Description, with the size of every training group.

    Raises
    ------
    FileNotFoundError
        If a file or an image is missing.
    OSError
        If a file or folder cannot be read.
    ValueError
        If a file is damaged, the two disagree, there is no such attribute, or a split is empty.

    References
    ----------
    .. [1] Z. Liu, P. Luo, X. Wang and X. Tang. "Deep Learning Face Attributes in the Wild". ICCV
       2015.
    .. [2] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.
    """
    files = (ATTRIBUTE_FILE, PARTITION_FILE)
    source = find_source(root, files, HOW_TO_GET, ("celeba", "CelebA"))
    where = source.where(ATTRIBUTE_FILE)
    table = _read_attributes(source)
    for name in (target, attribute):
        labels.require_column(name, table.columns[1:], where)
    names, splits = table["file"].tolist(), _read_partition(source, table["file"])
    values = {
        name: labels.encode(table[name], {"-1": 0, "1": 1}, where) for name in table.columns[1:]
    }
    return labels.image_bunch(
        *_find_images(source, names),
        (values[target], (f"not {target}", target)),
        (values[attribute], (f"not {attribute}", attribute)),
        labels.rows_of_splits(splits, source.where(PARTITION_FILE)),
        DESCR.format(target=target, attribute=attribute),
        forget_group=(1, 1),
        frame=pd.DataFrame({"file": names, "split": splits, **values}),
        centre_crop=False,
    )


def _read_attributes(source: Source) -> pd.DataFrame:
    """Read the number of images, the names of the attributes, and a line for each image."""
    lines, where = _lines(source, ATTRIBUTE_FILE), source.where(ATTRIBUTE_FILE)
    if len(lines) < 2 or lines[0][1] != [str(len(lines) - 2)]:
        raise ValueError(f"{where} does not have the rows its first line says. {HOW_TO_GET}")
    return labels.table_of(lines[2:], ("file", *lines[1][1]), source, ATTRIBUTE_FILE)


def _read_partition(source: Source, names: pd.Series) -> NDArray[np.int64]:
    where, lines = source.where(PARTITION_FILE), _lines(source, PARTITION_FILE)
    table = labels.table_of(lines, ("file", "split"), source, PARTITION_FILE)
    codes = pd.Series(labels.encode(table["split"], ("0", "1", "2"), where), index=table["file"])
    if sorted(codes.index) != sorted(names):
        raise ValueError(f"{where} has other images than {ATTRIBUTE_FILE}. {HOW_TO_GET}")
    return codes.loc[names].to_numpy()


def _lines(source: Source, name: str) -> labels.Records:
    records = labels.read_records(source, name, " ")  # more than one blank may lie between words
    return [(number, list(filter(None, words))) for number, words in records]


def _find_images(source: Source, names: list[str]) -> tuple[Source, list[str]]:
    """Find the images in a folder or zip file beside the label files."""
    place, archive = source, f"{IMAGE_FOLDER}.zip"
    if not source.has(f"{IMAGE_FOLDER}/{names[0]}") and source.has(archive):
        place = Source(source.path / archive, HOW_TO_GET)
    paths = [f"{IMAGE_FOLDER}/{name}" for name in names]  # the zip file has the folder inside
    require_all_listed(place, [IMAGE_FOLDER], paths, source.where(ATTRIBUTE_FILE))
    return place, paths
