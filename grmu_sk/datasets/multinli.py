"""MultiNLI: does one sentence follow from another? With negation words as the attribute."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..bert import load_tokenizer
from ..utils.arguments import check_types
from ._mnli import FEATURE_FILES, SENTENCE_FILES, read_features, read_sentences, tokenize
from ._source import Source, open_source
from ._splits import make_bunch, rows_by_code
from ._tables import integers, read_csv, require_rows

__all__ = ["load_multinli"]

METADATA = "metadata_random.csv"
COLUMNS = ("gold_label", "sentence2_has_negation", "split")
SENTENCES = ("sentence1", "sentence2")
LABELS = ("contradiction", "entailment", "neutral")
NEGATIONS = ("no negation", "negation")
# Where the group-DRO release, and the corpus, put the files.
FOLDERS = (
    "",
    "data",
    "glue_data/MNLI",
    "multinli_1.0",
    "data/multinli_1.0",
    "multinli/data",
    "multinli/glue_data/MNLI",
)

HOW_TO_GET = (
    "The metadata and the features of BERT are part of the group-DRO release (Sagawa et al., ICLR "
    "2020), https://github.com/kohpangwei/group_DRO: data/metadata_random.csv and three files "
    "cached_... in glue_data/MNLI. The sentences are MultiNLI 1.0 (Williams et al., NAACL 2018), "
    "https://cims.nyu.edu/~sbowman/multinli: three files multinli_1.0_....jsonl."
)

DESCR = """\
MultiNLI
--------

Pairs of sentences. Target: whether the second contradicts the first, follows from it, or neither.
Protected attribute: whether the second has a negation word (nobody, no, never, nothing). The
random splits of the group-DRO release. Inputs: {inputs}.
"""


def load_multinli(
    root: str | os.PathLike[str],
    *,
    tokenizer: Any = None,
    max_length: int = 128,
) -> Bunch:
    """Load MultiNLI [1]_ with the splits and negations of the group-DRO release [2]_.

    Parameters
    ----------
    root : str or Path
        Folder or zip file with ``metadata_random.csv`` (or ``data/metadata_random.csv``) and
        either the three files of features, or the three files of sentences, or columns
        ``sentence1`` and ``sentence2`` in the metadata.
    tokenizer : tokenizer, str, Path or None, default=None
        None reads the features computed in advance. Otherwise sentences are read and turned into
        token numbers by this tokenizer of ``transformers``, or by the one in this folder or of
        this name.
    max_length : int, default=128
        Tokens a row, where sentences are read.

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
            The metadata, as text, with the sentences if they were read.
        DESCR : str
            Description, with the size of every training group.

    Raises
    ------
    FileNotFoundError
        If a file is missing, or the tokenizer is.
    OSError
        If a file or folder cannot be read.
    ImportError
        If a tokenizer is named and ``transformers`` is not installed.
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
    check_types(load_multinli, locals())
    source = open_source(root, HOW_TO_GET)
    name = _find(source, (METADATA,))[0]
    where = source.where(name)
    table = read_csv(source, name, COLUMNS, HOW_TO_GET)
    rows = rows_by_code(integers(table["split"], where, allowed=(0, 1, 2)))
    require_rows(rows, where, f"Its codes are 0, 1 and 2. {HOW_TO_GET}")
    target = integers(table["gold_label"], where, allowed=(0, 1, 2))
    if tokenizer is None:
        data = _cached_features(source, target)
    else:
        table = _with_sentences(source, table, target)
        tokens = (
            load_tokenizer(tokenizer) if isinstance(tokenizer, str | os.PathLike) else tokenizer
        )
        data = tokenize(
            tokens, table["sentence1"].tolist(), table["sentence2"].tolist(), max_length
        )
    return make_bunch(
        data=data,
        target=target,
        target_names=LABELS,
        groups=integers(table["sentence2_has_negation"], where, allowed=(0, 1)),
        group_names=NEGATIONS,
        rows=rows,
        descr=DESCR.format(
            inputs="features computed in advance" if tokenizer is None else "sentences, tokenized"
        ),
        forget_group=(2, 1),
        frame=table.reset_index(drop=True),
    )


def _find(source: Source, names: tuple[str, ...]) -> list[str]:
    """Return where files of these names are, all in one of the usual folders."""
    places = [[str(PurePosixPath(folder, name)) for name in names] for folder in FOLDERS]
    best = max(places, key=lambda place: sum(map(source.has, place)))
    missing = [name for name in best if not source.has(name)]
    if missing:
        raise FileNotFoundError(
            f"There is no {' and no '.join(missing)} in {source}, nor in its folders "
            f"{', '.join(FOLDERS[1:])}. {HOW_TO_GET}"
        )
    return best


def _cached_features(source: Source, target: NDArray[np.int64]) -> torch.Tensor:
    names = _find(source, FEATURE_FILES)
    features, labels = read_features(source, names)
    if len(features) != len(target):
        raise ValueError(
            f"{METADATA} has {len(target)} rows, the files of features in {source} have "
            f"{len(features)} together ({', '.join(FEATURE_FILES)}). One of them is cut short, or "
            f"belongs to another version. {HOW_TO_GET}"
        )
    if all(part is not None for part in labels):
        _require_same_labels(np.concatenate(labels), target, str(source))
    return features


def _require_same_labels(found: NDArray[Any], target: NDArray[np.int64], where: str) -> None:
    differ = np.flatnonzero(found != target)
    if len(differ):
        row = differ[0]
        raise ValueError(
            f"{len(differ)} of the {len(target)} labels in {METADATA} and in the other files of "
            f"{where} differ, the first in row {row}: {target[row]} and {found[row]}. The files "
            "are out of order or belong to different versions."
        )


def _with_sentences(source: Source, table: pd.DataFrame, target: NDArray[np.int64]) -> pd.DataFrame:
    """Add the sentences, which the metadata may have, or address by number."""
    if all(column in table for column in SENTENCES):
        return table
    names = _find(source, SENTENCE_FILES)
    sentences = read_sentences(source, names)
    # the first column, without a name, counts the rows of all files, with those left out
    numbers = integers(table.iloc[:, 0].rename("row number"), METADATA)
    if np.max(numbers) >= len(sentences):
        raise ValueError(
            f"{METADATA} speaks of row {np.max(numbers)}, the files of sentences in {source} have "
            f"{len(sentences)} rows together ({', '.join(SENTENCE_FILES)}). {HOW_TO_GET}"
        )
    codes = {label: code for code, label in enumerate(LABELS)}
    chosen = [sentences[number] for number in numbers]
    found = np.array([codes.get(label, -1) for _, _, label in chosen])
    _require_same_labels(found, target, str(source))
    return table.assign(
        sentence1=[first for first, _, _ in chosen],
        sentence2=[second for _, second, _ in chosen],
    )
