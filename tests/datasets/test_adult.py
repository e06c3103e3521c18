import numpy as np
import official_trees as trees
import pandas as pd
import pytest

from grmu_sk.datasets import load_adult
from grmu_sk.datasets.adult import COLUMNS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return trees.adult_tree(tmp_path_factory.mktemp("adult"))


@pytest.fixture(scope="module")
def raw(root):
    """The files, read in another way."""
    options = {"names": list(COLUMNS), "sep": r",\s*", "engine": "python", "comment": "|"}
    tables = [pd.read_csv(root / name, **options) for name in ("adult.data", "adult.test")]
    return pd.concat(tables, ignore_index=True)


def test_rows_labels_and_attribute_are_those_of_the_files(root, raw, tmp_path):
    bunch = load_adult(root)
    assert len(raw) == len(bunch.data) == 120 + 40
    np.testing.assert_array_equal(bunch.target, raw["income"].str.startswith(">"))
    np.testing.assert_array_equal(bunch.groups, raw["sex"] == "Male")
    assert (bunch.target_names, bunch.group_names) == (["<=50K", ">50K"], ["Female", "Male"])
    pd.testing.assert_frame_equal(
        bunch.frame.drop(columns="income"), raw.drop(columns="income"), check_dtype=False
    )
    assert set(bunch.frame["income"]) == {"<=50K", ">50K"}  # no dots
    np.testing.assert_array_equal(bunch.test, np.arange(120, 160))
    rest = np.concatenate([bunch.train, bunch.validation])
    np.testing.assert_array_equal(np.sort(rest), np.arange(120))
    assert len(bunch.validation) == 12
    zipped = trees.zip_tree(root, tmp_path / "nested.zip", "adult/")
    np.testing.assert_array_equal(load_adult(zipped).data, bunch.data)
    assert not np.array_equal(bunch.validation, load_adult(root, random_state=1).validation)


def test_features_are_fitted_on_training_rows_alone(root):
    bunch = load_adult(root)
    assert bunch.data.dtype == np.float32
    assert "income" not in " ".join(bunch.feature_names)
    ages = bunch.data[:, bunch.feature_names.index("age")]
    years = bunch.frame["age"].to_numpy(dtype=float)
    train = years[bunch.train]
    np.testing.assert_allclose(ages, (years - train.mean()) / train.std(), rtol=1e-5, atol=1e-6)
    assert abs(years.mean() - train.mean()) > 1e-3  # all rows would give other numbers
    found = bunch.data[:, bunch.feature_names.index("workclass_?")]
    np.testing.assert_array_equal(found, bunch.frame["workclass"] == "?")
    by_race = load_adult(root, attribute="race")
    names = [by_race.group_names[code] for code in by_race.groups]
    assert names == by_race.frame["race"].tolist()
