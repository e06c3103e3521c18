"""The built-in table of embedded photographs: FairFace through a network trained on ImageNet."""

from __future__ import annotations

from importlib import resources

import numpy as np
from sklearn.utils import Bunch

from ..randomness import RandomState
from . import labels
from .fairface import NAMES, Column, check_columns

_, DESCR = labels.describe("embedded_faces")
STEPS = 32  # the file holds whole numbers, in steps of 1/32 of a standard deviation


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
    check_columns(target, attribute)
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
        DESCR.format(target=target, attribute=attribute),
        forget_group=(3, 0) if (target, attribute) == ("age", "race") else None,
    )
