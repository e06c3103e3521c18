"""The files of MultiNLI: token numbers computed in advance, or sentences."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ._source import Folder, Source

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
PARTS = ("input_ids", "input_mask", "segment_ids")
TOKENIZED_AT_ONCE = 1000


class InputFeatures:
    """One row of the official feature files, which are lists of such objects.

    They are pickles that name a class of the program that wrote them. This class stands for that
    one, so that the files can be read without running anything in them.
    """

    input_ids: list[int]
    input_mask: list[int]
    segment_ids: list[int]
    label_id: int


ORIGINAL_CLASS = "utils_glue.InputFeatures"


def read_features(source: Source, names: list[str]) -> tuple[torch.Tensor, list[Any]]:
    """Read token numbers, masks and segments of all rows.

    Parameters
    ----------
    source : Source
        Where the files are.
    names : list of str
        The files. Each holds a list of the official objects, a tensor of shape (n, length, 3), or
        a dict of such a tensor, ``features``, and of ``labels``.

    Returns
    -------
    features : tensor of shape (n_rows, length, 3), int32
        All files, one after the other.
    labels : list
        For each file its labels, an ndarray, or None if it has none.
    """
    read = [_read_feature_file(source, name) for name in names]
    lengths = {features.shape[1] for features, _ in read}
    if len(lengths) > 1:
        raise ValueError(
            f"The files {', '.join(names)} in {source} hold sequences of different lengths: "
            f"{sorted(lengths)}."
        )
    return torch.cat([features for features, _ in read]), [labels for _, labels in read]


def _read_feature_file(source: Source, name: str) -> tuple[torch.Tensor, Any]:
    where = source.where(name)
    try:
        with torch.serialization.safe_globals([(InputFeatures, ORIGINAL_CLASS)]):
            content = torch.load(_open(source, name), map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # torch's unpickler has a class of its own for what it refuses
        raise ValueError(
            f"{where} cannot be read: {error}. It is damaged, or holds other things than tensors "
            "and token numbers, which are not loaded."
        ) from error
    if isinstance(content, list):
        return _stack(content, where)
    labels = None
    if isinstance(content, dict):
        if set(content) != {"features", "labels"}:
            raise ValueError(
                f"{where} holds a dict of {sorted(content)}, expected features and labels."
            )
        content, labels = content["features"], np.asarray(content["labels"], dtype=np.int64)
    if not torch.is_tensor(content) or content.ndim != 3 or content.shape[2] != len(PARTS):
        found = tuple(content.shape) if torch.is_tensor(content) else type(content).__name__
        raise ValueError(f"{where} holds {found}, expected a tensor of shape (n, length, 3).")
    if labels is not None and labels.shape != (len(content),):
        raise ValueError(f"{where} has {len(content)} rows but labels of shape {labels.shape}.")
    return content.to(torch.int32), labels


def _open(source: Source, name: str) -> Any:
    return source.path / name if isinstance(source, Folder) else io.BytesIO(source.read(name))


def _stack(rows: list[Any], where: str) -> tuple[torch.Tensor, NDArray[np.int64]]:
    try:
        parts = [np.array([getattr(row, part) for row in rows], dtype=np.int32) for part in PARTS]
        labels = np.array([row.label_id for row in rows], dtype=np.int64)
    except (AttributeError, ValueError, TypeError) as error:
        raise ValueError(
            f"{where} does not hold rows with {', '.join(PARTS)} and label_id of equal length: "
            f"{error}."
        ) from error
    return torch.from_numpy(np.stack(parts, axis=2)), labels


def read_sentences(source: Source, names: list[str]) -> list[tuple[str, str, str]]:
    """Read first sentence, second sentence and label of all rows.

    Parameters
    ----------
    source : Source
        Where the files are.
    names : list of str
        The files, one JSON object a line.

    Returns
    -------
    list of tuple
        All files, one after the other.
    """
    rows = []
    for name in names:
        for number, line in enumerate(source.read(name).splitlines(), start=1):
            try:
                row = json.loads(line)
                rows.append((row["sentence1"], row["sentence2"], row["gold_label"]))
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Line {number} of {source.where(name)} is not an object with sentence1, "
                    f"sentence2 and gold_label ({error}). The file may be cut short."
                ) from error
    return rows


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
    with tqdm(total=len(first), desc="tokenizing", unit="pair", disable=None) as progress:
        for start in range(0, len(first), TOKENIZED_AT_ONCE):
            part = slice(start, start + TOKENIZED_AT_ONCE)
            encoded = tokenizer(
                first[part],
                second[part],
                truncation=True,
                padding="max_length",
                max_length=length,
                return_attention_mask=True,
                return_token_type_ids=True,
            )
            numbers = np.stack([np.asarray(encoded[key], dtype=np.int32) for key in keys], axis=2)
            whole[part] = torch.from_numpy(numbers)
            progress.update(len(numbers))
    return whole
