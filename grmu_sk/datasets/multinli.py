"""MultiNLI: does one sentence follow from another? With negation words as the attribute."""

from __future__ import annotations

import io
import os

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import Bunch

from . import labels
from .sources import Source, find_source

HOW_TO_GET, DESCR = labels.describe("multinli")

METADATA = "metadata_random.csv"
# In this order, which is that of the rows of the metadata.
FEATURE_FILES = (
    "cached_train_bert-base-uncased_128_mnli",
    "cached_dev_bert-base-uncased_128_mnli",
    "cached_dev_bert-base-uncased_128_mnli-mm",
)
LABELS = ("contradiction", "entailment", "neutral")
# where the group-DRO release puts the files
FOLDERS = ("data", "glue_data/MNLI", "multinli/data", "multinli/glue_data/MNLI")
PARTS = ("input_ids", "input_mask", "segment_ids")


def load_multinli(root: str | os.PathLike[str]) -> Bunch:
    """Load MultiNLI [1]_ with the splits and negations of the group-DRO release [2]_.

    Parameters
    ----------
    root : str or Path
        Folder or zip file with ``metadata_random.csv`` (or ``data/metadata_random.csv``) and the
        three files of features that BERT takes, computed in advance.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes.

        data : tensor of shape (n_rows, length, 3), int32
            For each token its number, 1 if it counts (0 for padding), and its segment.
        target : ndarray of shape (n_rows,), int64
            0 for contradiction, 1 for entailment, 2 for neutral.
        target_names : list of str
            Their names.
        groups : ndarray of shape (n_rows,), int64
            1 where the second sentence has a negation word, 0 elsewhere.
        group_names : list of str
            Their names.
        train, validation, test : ndarray, int64
            Row numbers of the splits, ascending.
        smallest_group : tuple of int
            The pair (target, attribute) with the fewest training rows, of those that have any.
        forget_group : tuple of int
            The pair the paper [3]_ forgets, (2, 1): neutral with negation.
        frame : DataFrame
            The metadata, as text.
        DESCR : str
            Description, with the size of every training group.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    OSError
        If a file or folder cannot be read.
    ValueError
        If files are damaged, do not have the same rows or labels, or a split is empty.

    References
    ----------
    .. [1] A. Williams, N. Nangia and S. Bowman. "A Broad-Coverage Challenge Corpus for Sentence
       Understanding through Inference". NAACL 2018.
    .. [2] S. Sagawa, P. W. Koh, T. B. Hashimoto and P. Liang. "Distributionally Robust Neural
       Networks for Group Shifts: On the Importance of Regularization for Worst-Case
       Generalization". ICLR 2020.
    .. [3] T. De Min et al. "Group-robust Machine Unlearning". TMLR 2025.
    """
    source = find_source(root, (METADATA,), HOW_TO_GET, FOLDERS)
    where = source.where(METADATA)
    table = labels.read_csv(source, METADATA, ("gold_label", "sentence2_has_negation", "split"))
    target = labels.encode(table["gold_label"], ("0", "1", "2"), where)
    data = _read_features(find_source(root, FEATURE_FILES, HOW_TO_GET, FOLDERS), target)
    return labels.make_bunch(
        data,
        (target, LABELS),
        (
            labels.encode(table["sentence2_has_negation"], ("0", "1"), where),
            ("no negation", "negation"),
        ),
        labels.rows_of_splits(labels.encode(table["split"], ("0", "1", "2"), where), where),
        DESCR,
        forget_group=(2, 1),
        frame=table.reset_index(drop=True),
    )


class InputFeatures:
    """One row of the official feature files, which are lists of such objects.

    They are pickles that name a class of the program that wrote them. This class stands for that
    one, so that the files can be read without running anything in them.
    """


def _read_features(source: Source, target: NDArray[np.int64]) -> torch.Tensor:
    """Return token numbers, masks and segments of all rows, int32 of shape (n_rows, length, 3)."""
    files = [_read_feature_file(source, name) for name in FEATURE_FILES]
    found = np.array([label for _, part in files for label in part])
    if len(found) != len(target) or (found != target).any():
        raise ValueError(
            f"The files of {source} have {len(found)} rows, {METADATA} has {len(target)}, or their "
            f"labels differ: they are cut short, out of order or of other versions. {HOW_TO_GET}"
        )
    return torch.from_numpy(np.concatenate([features for features, _ in files]))


def _read_feature_file(source: Source, name: str) -> tuple[NDArray[np.int32], list[int]]:
    """Return the token numbers, masks and segments in a file, and its labels."""
    where = source.where(name)
    file = io.BytesIO(source.read(name)) if source.is_zip else source.path / name
    try:
        with torch.serialization.safe_globals([(InputFeatures, "utils_glue.InputFeatures")]):
            rows = torch.load(file, map_location="cpu", weights_only=True)
        parts = [np.array([getattr(row, part) for row in rows], np.int32) for part in PARTS]
        return np.stack(parts, axis=2), [row.label_id for row in rows]
    except Exception as error:  # torch's unpickler has a class of its own for what it refuses
        raise ValueError(
            f"{where} cannot be read: it is damaged, or holds other things than token numbers, "
            f"which are not loaded ({error})."
        ) from error
