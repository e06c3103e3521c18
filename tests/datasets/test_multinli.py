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

    def __init__(self):
        self.n_calls = 0

    def __call__(self, first, second, *, truncation, padding, max_length, **returned):
        assert truncation is True
        assert padding == "max_length"
        assert all(returned.values())
        self.n_calls += 1
        keys = ("input_ids", "attention_mask", "token_type_ids")
        encoded = {key: [] for key in keys}
        for one, two in zip(first, second, strict=True):
            words = [*one.split(), *two.split()][:max_length]
            pad = [0] * (max_length - len(words))
            n_first = len(one.split())
            encoded["input_ids"].append([len(word) for word in words] + pad)
            encoded["attention_mask"].append([1] * len(words) + pad)
            encoded["token_type_ids"].append([int(k >= n_first) for k in range(max_length)])
        return encoded


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
    assert bunch.group_names == ["no negation", "negation"]
    assert bunch.forget_group == (2, 1)
    assert bunch.data.dtype == torch.int32
    np.testing.assert_array_equal(bunch.data, trees.multinli_features(labels))
    for name, prefix in (("flat", ""), ("nested", "some/where/")):
        zipped = load_multinli(trees.zip_tree(root, tmp_path / f"{name}.zip", prefix))
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


def test_what_a_pickle_would_run_is_not_run(tmp_path):
    root = trees.multinli_tree(tmp_path)

    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath("touched").touch, ())

    torch.save([Malicious()], root / MNLI / FEATURES)
    with pytest.raises(ValueError, match="cannot be read"):
        load_multinli(root)
    assert not (tmp_path / "touched").exists()
    torch.load(root / MNLI / FEATURES, weights_only=False)  # it would indeed have been run
    assert (tmp_path / "touched").exists()


def test_features_that_are_not_those_of_the_metadata(tmp_path):
    root = trees.multinli_tree(tmp_path)
    labels = np.array([int(row["gold_label"]) for row in read_metadata(root)][:31])
    features, other = trees.multinli_features(labels), labels.copy()
    other[4] = (labels[4] + 1) % 3
    for given, message in [
        ((features, other), r"1 of the 36 labels .* differ, the first in row 4: "),
        ((features[1:], labels[1:]), "has 36 rows, the files of features in .* have 35 together"),
        ((features[:, 1:], labels), r"different lengths: \[7, 8\]"),
    ]:
        trees.save_features(root / MNLI / FEATURES, *given)
        with pytest.raises(ValueError, match=message):
            load_multinli(root)
    torch.save([1, 2], root / MNLI / FEATURES)
    with pytest.raises(ValueError, match=rf"{root}.* does not hold rows with input_ids"):
        load_multinli(root)


def test_missing_and_cut_files(tmp_path):
    root = trees.multinli_tree(tmp_path / "features")
    content = (root / MNLI / FEATURES).read_bytes()
    (root / MNLI / FEATURES).write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"{FEATURES} cannot be read: .* damaged"):
        load_multinli(root)
    (root / MNLI / FEATURES).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {FEATURES} in .*github.com/kohpangwei"):
        load_multinli(root)
    with pytest.raises(FileNotFoundError, match=r"multinli_1.0_train.jsonl.*sbowman/multinli"):
        load_multinli(root, tokenizer=WordTokenizer())
    (root / "data" / "metadata_random.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no metadata_random.csv"):
        load_multinli(root)


def test_files_of_sentences_that_are_cut_or_out_of_order(tmp_path, monkeypatch):
    root = trees.multinli_tree(tmp_path, inputs="sentences")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'grmu_sk\[text\]'"):
        load_multinli(root, tokenizer="bert-base-uncased")
    last = root / "data" / "multinli_1.0_dev_mismatched.jsonl"
    lines = last.read_bytes().splitlines(keepends=True)
    last.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"speaks of row 38, .* have 38 rows together"):
        load_multinli(root, tokenizer=WordTokenizer())
    last.write_bytes(b"".join(lines)[:-20])
    with pytest.raises(ValueError, match=r"Line 3 of .* is not an object with sentence1"):
        load_multinli(root, tokenizer=WordTokenizer())
    last.write_bytes(b"".join(lines))
    path = root / "data" / "multinli_1.0_train.jsonl"
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=r"labels in metadata_random.csv and .* differ"):
        load_multinli(root, tokenizer=WordTokenizer())
