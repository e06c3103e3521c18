import numpy as np
import official_trees as trees
import pandas as pd
import pytest

from grmu_sk.datasets import load_adult

COLUMNS = [
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status"),
    *("occupation", "relationship", "race", "sex", "capital-gain", "capital-loss"),
    *("hours-per-week", "native-country", "income"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return trees.adult_tree(tmp_path_factory.mktemp("adult"))


@pytest.fixture(scope="module")
def raw(root):
    """The files, read in another way."""
    options = {"names": COLUMNS, "sep": r",\s*", "engine": "python", "comment": "|"}
    tables = [pd.read_csv(root / name, **options) for name in ("adult.data", "adult.test")]
    return pd.concat(tables, ignore_index=True)


def test_rows_labels_and_attribute_are_those_of_the_files(root, raw, tmp_path):
    bunch = load_adult(root)
    assert len(raw) == len(bunch.data) == 120 + 40
    np.testing.assert_array_equal(bunch.target, raw["income"].str.startswith(">"))
    np.testing.assert_array_equal(bunch.groups, raw["sex"] == "Male")
    assert (bunch.target_names, bunch.group_names) == (["<=50K", ">50K"], ["Female", "Male"])
    pd.testing.assert_frame_equal(bunch.frame[COLUMNS[:-1]], raw[COLUMNS[:-1]], check_dtype=False)
    assert set(bunch.frame["income"]) == {"<=50K", ">50K"}  # no dots
    np.testing.assert_array_equal(bunch.test, np.arange(120, 160))
    rest = np.concatenate([bunch.train, bunch.validation])
    np.testing.assert_array_equal(np.sort(rest), np.arange(120))
    assert len(bunch.validation) == 12
    zipped = trees.zip_tree(root, tmp_path / "nested.zip", "adult/")
    np.testing.assert_array_equal(load_adult(zipped).data, bunch.data)
    assert not np.array_equal(bunch.validation, load_adult(root, random_state=1).validation)


def test_features_are_fitted_on_training_rows_alone(root, tmp_path):
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
    # a category without training rows is a row of zeros
    for name in ("adult.data", "adult.test"):
        text = (root / name).read_text()
        text = text if name == "adult.data" else text.replace("Private", "Without-pay")
        (tmp_path / name).write_text(text)
    bunch = load_adult(tmp_path)
    columns = [n for n, name in enumerate(bunch.feature_names) if name.startswith("workclass")]
    is_unknown = (bunch.frame["workclass"] == "Without-pay").to_numpy()
    assert is_unknown.any()
    np.testing.assert_array_equal(bunch.data[:, columns].sum(axis=1), ~is_unknown)


def test_options(root, raw):
    both = load_adult(root, attribute=("sex", "race"))
    names = [both.group_names[code] for code in both.groups]
    assert names == (raw["sex"] + ", " + raw["race"]).tolist() and len(both.group_names) == 10
    part, kept = load_adult(root, missing="drop"), ~(raw == "?").any(axis=1)
    assert part.frame["fnlwgt"].tolist() == raw["fnlwgt"][kept].tolist()
    assert "workclass_?" in both.feature_names and "?" not in " ".join(part.feature_names)
    dropped = load_adult(root, drop_columns=["sex", "fnlwgt", "relationship"])
    starts = {name.partition("_")[0] for name in dropped.feature_names}
    assert starts == {*COLUMNS[:-1]} - {"sex", "fnlwgt", "relationship"}
    np.testing.assert_array_equal(dropped.groups, load_adult(root).groups)
    for wrong in ({"attribute": "age"}, {"missing": "mean"}, {"drop_columns": ["sexe"]}):
        with pytest.raises(ValueError, match=r"must be one of|no column \['sexe'\]"):
            load_adult(root, **wrong)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", <=50K\n", "\n", r"Line 1 of .*adult.data has 14 fields instead of 15"),
        (", 9, ", ", nine, ", "line 1: education-num is 'nine', expected a whole number"),
    ],
)
def test_damaged_files(tmp_path, old, new, message):
    path = trees.adult_tree(tmp_path) / "adult.data"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        load_adult(tmp_path)
    assert str(path) in str(caught.value)
