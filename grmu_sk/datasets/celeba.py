"""CelebA: portraits of celebrities with forty attributes."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..utils.arguments import check_types
from ._source import Source, find_source, open_source, require_all_listed
from ._splits import make_bunch, rows_by_code
from ._tables import integers, read_text, require_columns, require_rows
from .image_files import ImageFiles

__all__ = ["load_celeba"]

ATTRIBUTE_FILE = "list_attr_celeba.txt"
PARTITION_FILE = "list_eval_partition.txt"
IMAGE_FOLDER = "img_align_celeba"

HOW_TO_GET = (
    "CelebA (Liu et al., ICCV 2015) is offered at "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html: list_attr_celeba.txt, "
    "list_eval_partition.txt and img_align_celeba.zip, in one folder. torchvision.datasets.CelebA "
    "lays them out like that, below a folder celeba."
)

DESCR = """\
CelebA
------

Portraits of celebrities, aligned to the eyes, 178 x 218 pixels. Target: {target}. Protected
attribute: {attribute}. The official partition into training, validation and test rows.
"""


def load_celeba(
    root: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | None = None,
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
    images : str or Path or None, default=None
        Folder or zip file with the images, where they are elsewhere.
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
    check_types(load_celeba, locals())
    source = find_source(
        root, (ATTRIBUTE_FILE, PARTITION_FILE), HOW_TO_GET, subfolders=("celeba", "CelebA")
    )
    where = source.where(ATTRIBUTE_FILE)
    names, values = _read_attributes(source)
    require_columns(list(values.columns), (target, attribute), where)
    if target == attribute:
        raise ValueError(f"target and attribute are both {target!r}.")
    splits = _read_partition(source, names)
    rows = rows_by_code(splits)
    require_rows(rows, source.where(PARTITION_FILE), f"Its codes are 0, 1 and 2. {HOW_TO_GET}")
    files = _find_images(source, images, names)
    frame = pd.concat([pd.DataFrame({"file": names, "split": splits}), values], axis=1)
    return make_bunch(
        data=files,
        target=values[target].to_numpy(),
        target_names=(f"not {target}", target),
        groups=values[attribute].to_numpy(),
        group_names=(f"not {attribute}", attribute),
        rows=rows,
        descr=DESCR.format(target=target, attribute=attribute),
        forget_group=(1, 1),
        frame=frame,
        filenames=files.filenames,
        centre_crop=False,
    )


def _read_attributes(source: Source) -> tuple[list[str], pd.DataFrame]:
    """Read the number of images, the names of the attributes, and a line for each image."""
    where = source.where(ATTRIBUTE_FILE)
    lines = read_text(source, ATTRIBUTE_FILE).splitlines()
    if len(lines) < 2 or not lines[0].strip().isdigit():
        raise ValueError(
            f"{where} does not begin with the number of images and a line of attribute names. "
            f"{HOW_TO_GET}"
        )
    n_images, attributes = int(lines[0]), lines[1].split()
    table = _split_lines(lines[2:], 3, 1 + len(attributes), where)
    if len(table) != n_images:
        raise ValueError(
            f"{where} announces {n_images} images in its first line but has {len(table)} rows: it "
            f"is cut short. {HOW_TO_GET}"
        )
    values = np.array([row[1:] for row in table], dtype=object)
    signs = pd.DataFrame(values, columns=attributes).apply(lambda column: column.map(SIGNS))
    if signs.isna().any(axis=None):
        row = int(signs.isna().any(axis=1).idxmax())
        raise ValueError(f"{where}, row {row}: an attribute is neither 1 nor -1.")
    return [row[0] for row in table], signs.astype(np.int64)


SIGNS = {"1": 1, "-1": 0}


def _read_partition(source: Source, names: list[str]) -> NDArray[np.int64]:
    where = source.where(PARTITION_FILE)
    table = _split_lines(read_text(source, PARTITION_FILE).splitlines(), 1, 2, where)
    partition = dict(table)
    missing = [name for name in names if name not in partition]
    if missing or len(table) != len(names):
        example = f", {missing[0]} for one" if missing else ""
        raise ValueError(
            f"{where} has {len(table)} rows, {ATTRIBUTE_FILE} has {len(names)}; "
            f"{len(missing)} images have no split{example}. One of the files is cut short or "
            f"belongs to another version. {HOW_TO_GET}"
        )
    codes = pd.Series([partition[name] for name in names], name="split")
    codes.index = codes.index + 1
    return integers(codes, where, allowed=(0, 1, 2))


def _split_lines(lines: list[str], first: int, n_fields: int, where: str) -> list[list[str]]:
    table = []
    for number, line in enumerate(lines, start=first):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != n_fields:
            raise ValueError(
                f"Line {number} of {where} has {len(fields)} fields, expected {n_fields}. The file "
                f"may be cut short. {HOW_TO_GET}"
            )
        table.append(fields)
    return table


def _find_images(
    source: Source, images: str | os.PathLike[str] | None, names: list[str]
) -> ImageFiles:
    """Find the images in the given place, or in a folder or zip file beside the label files."""
    place = open_source(images, HOW_TO_GET) if images is not None else source
    archive = f"{IMAGE_FOLDER}.zip"
    if images is None and not source.has(f"{IMAGE_FOLDER}/{names[0]}") and source.has(archive):
        place = open_source(source.path / archive, HOW_TO_GET)
    # the official zip file has the folder inside; a folder given by the user may be the folder
    prefix = "" if place is not source and place.has(names[0]) else f"{IMAGE_FOLDER}/"
    paths = [prefix + name for name in names]
    where = source.where(ATTRIBUTE_FILE)
    require_all_listed(place, [prefix.rstrip("/")], paths, where, HOW_TO_GET)
    return ImageFiles._from_source(
        place,
        paths,
        labels=where,
        how_to_get=HOW_TO_GET,
    )
