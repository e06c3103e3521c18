import csv
import sys

import numpy as np
import official_trees as trees
import pytest
import torch

from grmu_sk.datasets import load_multinli

SPLITS = ("train", "validation", "test")
MNLI = "glue_data/MNLI"
FEATURES = "cached_train_bert-base-uncased_128_mnli"


def read_metadata(root):
    with open(root / "data" / "metadata_random.csv", newline="") as file:
        return list(csv.DictReader(file))


class WordTokenizer:
    """Numbers words by their length; otherwise as the tokenizers of transformers."""

    n_calls = 0

    def __call__(self, first, second, *, truncation, padding, max_length, **returned):
        assert (truncation, padding, *returned.values()) == (True, "max_length", True, True)
        self.n_calls += 1
        words = [[*a.split(), *b.split()] for a, b in zip(first, second, strict=True)]
        pads = [[0] * (max_length - len(row)) for row in words]
        pairs = list(zip(words, pads, strict=True))
        return {
            "input_ids": [[len(word) for word in row] + pad for row, pad in pairs],
            "attention_mask": [[1] * len(row) + pad for row, pad in pairs],
            "token_type_ids": [
                [int(k >= len(a.split())) for k in range(max_length)] for a in first
            ],
        }


def test_features_computed_in_advance(tmp_path):
    root = trees.multinli_tree(tmp_path / "multinli")
    rows = read_metadata(root)
    bunch = load_multinli(root)
    labels = [int(row["gold_label"]) for row in rows]
    np.testing.assert_array_equal(bunch.target, labels)
    np.testing.assert_array_equal(
        bunch.groups, [int(row["sentence2_has_negation"]) for row in rows]
    )
    for code, split in enumerate(SPLITS):
        expected = [n for n, row in enumerate(rows) if int(row["split"]) == code]
        np.testing.assert_array_equal(bunch[split], expected)
    assert bunch.target_names == ["contradiction", "entailment", "neutral"]
    assert (bunch.group_names, bunch.forget_group) == (["no negation", "negation"], (2, 1))
    assert bunch.data.dtype == torch.int32
    np.testing.assert_array_equal(bunch.data, trees.multinli_features(labels))
    zipped = load_multinli(trees.zip_tree(root, tmp_path / "zipped.zip", "some/where/"))
    assert torch.equal(zipped.data, bunch.data)
    assert "utils_glue" not in sys.modules


def test_sentences(tmp_path, monkeypatch):
    monkeypatch.setattr("grmu_sk.datasets.multinli.TOKENIZED_AT_ONCE", 16)
    root, tokenizer = trees.multinli_tree(tmp_path, inputs="sentences"), WordTokenizer()
    bunch = load_multinli(root, tokenizer=tokenizer, max_length=9)
    assert tokenizer.n_calls == 3, "in parts"
    assert bunch.data.shape == (36, 9, 3)
    for row, negation in enumerate(bunch.groups):
        assert bunch.frame["sentence1"][row] == f"sentence {row}, number one"
        assert ("never" in bunch.frame["sentence2"][row]) == bool(negation)
        words = f"sentence {row}, number one {'never ' * negation}sentence {row} two".split()
        expected = [len(word) for word in words] + [0] * (9 - len(words))
        assert bunch.data[row, :, 0].tolist() == expected
        assert bunch.data[row, :, 1].tolist() == [int(number > 0) for number in expected]
        assert bunch.data[row, :, 2].tolist() == [0] * 4 + [1] * 5
    np.testing.assert_array_equal(
        bunch.target, [int(row["gold_label"]) for row in read_metadata(root)]
    )


def test_features_that_are_not_those_of_the_metadata(tmp_path):
    root = trees.multinli_tree(tmp_path)
    labels = np.array([int(row["gold_label"]) for row in read_metadata(root)][:31])
    features, other = trees.multinli_features(labels), labels.copy()
    other[4] = (labels[4] + 1) % 3
    for given, message in [
        ((features, other), r"have 1 other labels than metadata_random.csv"),
        ((features[1:], labels[1:]), "have 35 rows than metadata_random.csv, which has 36"),
    ]:
        trees.save_features(root / MNLI / FEATURES, *given)
        with pytest.raises(ValueError, match=message):
            load_multinli(root)
    torch.save([1, 2], root / MNLI / FEATURES)
    with pytest.raises(ValueError, match=f"{FEATURES} cannot be read"):
        load_multinli(root)
    (root / MNLI / FEATURES).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {FEATURES} in .*github.com/kohpangwei"):
        load_multinli(root)


def test_files_of_sentences_that_are_cut_or_out_of_order(tmp_path):
    root = trees.multinli_tree(tmp_path, inputs="sentences")
    last = root / "data" / "multinli_1.0_dev_mismatched.jsonl"
    lines = last.read_bytes().splitlines(keepends=True)
    last.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"have 35 rows than"):
        load_multinli(root, tokenizer=WordTokenizer())
    last.write_bytes(b"".join(lines))
    path = root / "data" / "multinli_1.0_train.jsonl"
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=r"other labels than"):
        load_multinli(root, tokenizer=WordTokenizer())
