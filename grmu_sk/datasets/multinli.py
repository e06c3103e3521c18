"""MultiNLI: does one sentence follow from another? With negation words as the attribute."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils import Bunch

from . import labels
from .pretrained import load_tokenizer
from .sources import Source, find_source

__all__ = ["load_multinli"]

HOW_TO_GET, DESCR = labels.describe("multinli")

METADATA = "metadata_random.csv"
# In this order, which is that of the rows of the metadata.
FEATURE_FILES = (
    "cached_train_bert-base-uncased_128_mnli",
    "cached_dev_bert-base-uncased_128_mnli",
    "cached_dev_bert-base-uncased_128_mnli-mm",
)
SENTENCE_FILES = (
    "multinli_1.0_train.jsonl",
    "multinli_1.0_dev_matched.jsonl",
    "multinli_1.0_dev_mismatched.jsonl",
)
SENTENCES = ["sentence1", "sentence2"]
LABELS = ("contradiction", "entailment", "neutral")
# Where the group-DRO release, and the corpus, put the files.
FOLDERS = (
    *("data", "glue_data/MNLI", "multinli_1.0", "data/multinli_1.0"),
    *("multinli/data", "multinli/glue_data/MNLI"),
)
PARTS = ("input_ids", "input_mask", "segment_ids")
TOKENIZED_AT_ONCE = 1000


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
        either the three files of features, or the three files of sentences.
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
    source = find_source(root, (METADATA,), HOW_TO_GET, FOLDERS)
    where = source.where(METADATA)
    table = labels.read_csv(source, METADATA, ("gold_label", "sentence2_has_negation", "split"))
    target = labels.encode(table["gold_label"], ("0", "1", "2"), where)
    if tokenizer is None:
        data = _read_features(find_source(root, FEATURE_FILES, HOW_TO_GET, FOLDERS), target)
    else:
        source = find_source(root, SENTENCE_FILES, HOW_TO_GET, FOLDERS)
        table = _with_sentences(source, table, target)
        if isinstance(tokenizer, str | os.PathLike):
            tokenizer = load_tokenizer(tokenizer)
        first, second = (table[name].tolist() for name in SENTENCES)
        data = tokenize(tokenizer, first, second, max_length)
    return labels.make_bunch(
        data,
        (target, LABELS),
        (
            labels.encode(table["sentence2_has_negation"], ("0", "1"), where),
            ("no negation", "negation"),
        ),
        labels.rows_of_splits(labels.encode(table["split"], ("0", "1", "2"), where), where),
        DESCR.format(
            inputs="features computed in advance" if tokenizer is None else "sentences, tokenized"
        ),
        forget_group=(2, 1),
        frame=table.reset_index(drop=True),
    )


def _require_same_rows(found: list[Any], target: NDArray[np.int64], where: str) -> None:
    """Refuse labels that are not those of the metadata."""
    if len(found) != len(target) or (differ := np.asarray(found) != target).any():
        about = (
            f"{len(found)} rows" if len(found) != len(target) else f"{differ.sum()} other labels"
        )
        raise ValueError(
            f"The files of {where} have {about} than {METADATA}, which has {len(target)}: they are "
            f"cut short, out of order or of different versions. {HOW_TO_GET}"
        )


# features computed in advance --------------------------------------------------------------------


class InputFeatures:
    """One row of the official feature files, which are lists of such objects.

    They are pickles that name a class of the program that wrote them. This class stands for that
    one, so that the files can be read without running anything in them.
    """


def _read_features(source: Source, target: NDArray[np.int64]) -> torch.Tensor:
    """Return token numbers, masks and segments of all rows, int32 of shape (n_rows, length, 3)."""
    files = [_read_feature_file(source, name) for name in FEATURE_FILES]
    _require_same_rows([label for _, part in files for label in part], target, str(source))
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


# sentences ---------------------------------------------------------------------------------------


def _with_sentences(source: Source, table: pd.DataFrame, target: NDArray[np.int64]) -> pd.DataFrame:
    """Add the sentences, which the metadata address by number."""
    rows = []
    for name in SENTENCE_FILES:
        for line in source.read(name).splitlines():
            row = json.loads(line)
            rows.append([row["sentence1"], row["sentence2"], row["gold_label"]])
    # the first column, without a name, counts the rows of all files, with those left out
    numbers = labels.integers(table.iloc[:, 0].rename("row number"), METADATA)
    first, second, gold = zip(*(rows[n] for n in numbers if n < len(rows)), strict=True)
    codes = [LABELS.index(label) if label in LABELS else -1 for label in gold]
    _require_same_rows(codes, target, str(source))
    return table.assign(sentence1=first, sentence2=second)


def tokenize(tokenizer: Any, first: list[str], second: list[str], length: int) -> torch.Tensor:
    """Turn pairs of sentences into token numbers.

    Parameters
    ----------
    tokenizer : callable
        A tokenizer of ``transformers``.
    first, second : list of str
        The sentences.
    length : int
        Tokens a row; longer pairs lose tokens at the end of the longer sentence, shorter ones are
        padded.

    Returns
    -------
    tensor of shape (n_rows, length, 3), int32
        Token number, mask (0 for padding), segment (0 or 1).
    """
    whole = torch.empty((len(first), length, len(PARTS)), dtype=torch.int32)
    keys = ("input_ids", "attention_mask", "token_type_ids")
    options = {"truncation": True, "padding": "max_length", "max_length": length}
    options |= {"return_attention_mask": True, "return_token_type_ids": True}
    for start in range(0, len(first), TOKENIZED_AT_ONCE):
        part = slice(start, start + TOKENIZED_AT_ONCE)
        encoded = tokenizer(first[part], second[part], **options)
        numbers = np.stack([np.asarray(encoded[key], dtype=np.int32) for key in keys], axis=2)
        whole[part] = torch.from_numpy(numbers)
    return whole
