import sys

import numpy as np
import official_trees as trees
import pandas as pd
import pytest
import torch

from grmu_sk.datasets import load_multinli

SPLITS = ("train", "validation", "test")
MNLI = "glue_data/MNLI"
FEATURES = "cached_train_bert-base-uncased_128_mnli"


def test_features_computed_in_advance(tmp_path):
    root = trees.multinli_tree(tmp_path / "multinli")
    rows, bunch = pd.read_csv(root / "data" / "metadata_random.csv"), load_multinli(root)
    np.testing.assert_array_equal(bunch.target, rows["gold_label"])
    np.testing.assert_array_equal(bunch.groups, rows["sentence2_has_negation"])
    for code, split in enumerate(SPLITS):
        np.testing.assert_array_equal(bunch[split], np.flatnonzero(rows["split"] == code))
    assert bunch.target_names == ["contradiction", "entailment", "neutral"]
    assert (bunch.group_names, bunch.forget_group) == (["no negation", "negation"], (2, 1))
    assert bunch.data.dtype == torch.int32
    np.testing.assert_array_equal(bunch.data, trees.multinli_features(bunch.target))
    zipped = load_multinli(trees.zip_tree(root, tmp_path / "zipped.zip", "some/where/"))
    assert torch.equal(zipped.data, bunch.data)
    assert "utils_glue" not in sys.modules


def test_features_that_are_not_those_of_the_metadata(tmp_path):
    root = trees.multinli_tree(tmp_path)
    labels = load_multinli(root).target[:31]
    features, other = trees.multinli_features(labels), labels.copy()
    other[4] = (labels[4] + 1) % 3
    for given, message in [
        ((features, other), r"labels differ"),
        ((features[1:], labels[1:]), "have 35 rows, metadata_random.csv has 36"),
    ]:
        trees.save_features(root / MNLI / FEATURES, *given)
        with pytest.raises(ValueError, match=message):
            load_multinli(root)
