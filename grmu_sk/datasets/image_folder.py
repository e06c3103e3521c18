"""Any images whose folders say what they are, as torchvision's ImageFolder reads them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd
from sklearn.utils import Bunch

from ..utils._random import RandomState
from ..utils.arguments import check_types
from ._source import IMAGE_ENDINGS, Source, image_names, open_source
from ._splits import SPLIT_NAMES, make_bunch, rows_by_name
from ._tables import number_combinations, number_values, read_csv
from .image_files import ImageFiles

__all__ = ["load_image_folder"]

FOLDER_SPLITS = {
    name for names in SPLIT_NAMES.values() for name in names if not name.isdigit()
}  # a folder 0, 1 or 2 is more likely a class

HOW = (
    "Expected <class>/<attribute>/<image>, or <class>/<image> and a CSV file of attributes; with "
    "folders train, val and test above them or not."
)

DESCR = """\
Images in {root}
{line}

Target: the folder. Protected attribute: {groups}. Splits: {split}.
"""


def load_image_folder(
    root: str | os.PathLike[str],
    *,
    attributes: str | os.PathLike[str] | None = None,
    groups: str | Sequence[str] | None = None,
    path: str = "file",
    validation_size: float = 0.1,
    test_size: float = 0.2,
    random_state: RandomState = 0,
) -> Bunch:
    """Load images laid out as for torchvision's ImageFolder: one folder a class.

    The protected attribute is either a second level of folders, ``<class>/<attribute>/<image>``,
    or given in a CSV file. Folders ``train``, ``val`` and ``test`` above the classes are the
    splits; a validation or test split that is not there is cut from the training rows at random.

    Parameters
    ----------
    root : str or Path
        The folder or zip file.
    attributes : str or Path or None, default=None
        CSV file with the protected attribute of each image. None means folders.
    groups : str or sequence of str or None, default=None
        Column of the protected attribute in the CSV file; of several, the intersection.
    path : str, default="file"
        Column of the file names in the CSV file, relative to ``root``.
    validation_size : float, default=0.1
        Share of the training rows for validation, where it is cut.
    test_size : float, default=0.2
        Share of all rows for test, where it is cut.
    random_state : int, RandomState instance or None, default=0
        Seed of the cuts.

    Returns
    -------
    Bunch
        The attributes that :func:`load_image_table` gives; ``frame`` has the columns file, target,
        those of the attribute and, with split folders, split.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or CSV file.
    OSError
        If a file or folder cannot be read.
    ValueError
        If there is no image, an image is at another depth than expected, or has no row in the CSV
        file, or a split is empty.
    """
    check_types(load_image_folder, locals())
    if (attributes is None) != (groups is None):
        raise ValueError("attributes (a CSV file) and groups (its columns) go together.")
    source = open_source(root, HOW)
    frame = _read_folders(source, with_attribute=attributes is None)
    columns = ["attribute"]
    if attributes is not None and groups is not None:
        columns = [groups] if isinstance(groups, str) else list(groups)
        if not columns:
            raise ValueError("groups must name at least one column.")
        frame = _add_attributes(frame, Path(attributes).expanduser(), path, columns)
    target_codes, target_names = number_values(frame["target"], str(source))
    group_codes, group_names = number_combinations([frame[c] for c in columns], str(source))
    has_splits = "split" in frame
    rows = rows_by_name(
        frame["split"].tolist() if has_splits else None,
        len(frame),
        str(source),
        validation_size=validation_size,
        test_size=test_size,
        random_state=random_state,
    )
    files = ImageFiles._from_source(source, frame["file"], labels=str(source), how_to_get=HOW)
    return make_bunch(
        data=files,
        target=target_codes,
        target_names=target_names,
        groups=group_codes,
        group_names=group_names,
        rows=rows,
        descr=DESCR.format(
            root=source.path.name,
            line="-" * len(f"Images in {source.path.name}"),
            groups=" x ".join(columns) if attributes is not None else "the second folder",
            split="the first folder" if has_splits else "cut at random",
        ),
        frame=frame,
        filenames=files.filenames,
        centre_crop=True,
    )


def _read_folders(source: Source, *, with_attribute: bool) -> pd.DataFrame:
    """Return a table of the images and what their folders say."""
    names = image_names(source, "")
    if not names:
        raise ValueError(f"{source} has no image ({', '.join(IMAGE_ENDINGS)}). {HOW}")
    parts = [PurePosixPath(name).parts for name in names]
    has_splits = all(part[0].lower() in FOLDER_SPLITS for part in parts)
    levels = ["split"] * has_splits + ["target"] + ["attribute"] * with_attribute
    for name, part in zip(names, parts, strict=True):
        if len(part) != len(levels) + 1:
            raise ValueError(
                f"{source.where(name)} lies {len(part) - 1} folders deep, expected {len(levels)} "
                f"({'/'.join(levels)}/image). {HOW}"
            )
    frame = pd.DataFrame([part[:-1] for part in parts], columns=levels, dtype=object)
    frame.insert(0, "file", names)
    return frame


def _add_attributes(
    frame: pd.DataFrame, table: Path, path: str, columns: list[str]
) -> pd.DataFrame:
    source = open_source(table.parent, HOW)
    if not source.has(table.name):
        raise FileNotFoundError(f"There is no {table}, which should have the attributes.")
    values = read_csv(source, table.name, [path, *columns], HOW)
    repeated = values[path].duplicated()
    if repeated.any():
        line = repeated.idxmax()
        raise ValueError(f"{table}, line {line}: {values[path][line]} has a row already.")
    values = values.set_index(path)[columns]
    without = ~frame["file"].isin(values.index)
    if without.any():
        raise ValueError(
            f"{table} has no row for {int(without.sum())} of the {len(frame)} images, the first "
            f"being {frame['file'][without.idxmax()]!r} (column {path!r} must hold file names "
            "relative to the root)."
        )
    taken = values.loc[frame["file"]].reset_index(drop=True)
    clash = set(taken.columns) & set(frame.columns)
    if clash:
        raise ValueError(f"{table}: rename the column {clash.pop()!r}, the folders give one too.")
    return pd.concat([frame, taken], axis=1)
