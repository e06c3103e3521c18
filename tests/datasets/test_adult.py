import numpy as np
import official_trees as trees
import pandas as pd
import pytest

from grmu_sk.datasets import load_adult

COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return trees.adult_tree(tmp_path_factory.mktemp("adult"))


def raw(root):
    """The files, read in another way."""
    options = {"names": COLUMNS, "sep": r",\s*", "engine": "python", "comment": "|"}
    tables = [pd.read_csv(root / name, **options) for name in ("adult.data", "adult.test")]
    return pd.concat(tables, ignore_index=True)


def test_rows_labels_and_attribute_are_those_of_the_files(root):
    bunch = load_adult(root)
    expected = raw(root)
    assert len(expected) == len(bunch.data) == 120 + 40
    np.testing.assert_array_equal(bunch.target, expected["income"].str.startswith(">"))
    np.testing.assert_array_equal(bunch.groups, expected["sex"] == "Male")
    assert bunch.target_names == ["<=50K", ">50K"]
    assert bunch.group_names == ["Female", "Male"]
    assert list(bunch.frame.columns) == COLUMNS
    for column in COLUMNS[:-1]:
        assert bunch.frame[column].tolist() == expected[column].tolist()
    assert set(bunch.frame["income"]) == {"<=50K", ">50K"}  # no dots
    np.testing.assert_array_equal(bunch.test, np.arange(120, 160))
    np.testing.assert_array_equal(
        np.sort(np.concatenate([bunch.train, bunch.validation])), np.arange(120)
    )
    assert len(bunch.validation) == 12


def test_validation_rows_depend_on_the_seed(root):
    one, same, other = (load_adult(root, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.validation, same.validation)
    np.testing.assert_array_equal(one.data, same.data)
    assert not np.array_equal(one.validation, other.validation)


def test_features_are_fitted_on_training_rows_alone(root):
    bunch = load_adult(root)
    assert bunch.data.dtype == np.float32
    assert bunch.data.shape[1] == len(bunch.feature_names)
    assert "income" not in " ".join(bunch.feature_names)
    ages = bunch.data[:, bunch.feature_names.index("age")]
    years = bunch.frame["age"].to_numpy(dtype=float)
    train = years[bunch.train]
    np.testing.assert_allclose(ages, (years - train.mean()) / train.std(), rtol=1e-5, atol=1e-6)
    assert abs(years.mean() - train.mean()) > 1e-3  # all rows would give other numbers
    for name in ("workclass_?", "education_Bachelors", "race_Black", "sex_Male"):
        column, _, value = name.partition("_")
        found = bunch.data[:, bunch.feature_names.index(name)]
        np.testing.assert_array_equal(found, bunch.frame[column] == value)
    # a column of zeros stands for a number that is the same everywhere
    assert not bunch.data[:, bunch.feature_names.index("capital-loss")].any()


def test_a_category_without_training_rows_is_a_row_of_zeros(root, tmp_path):
    for name in ("adult.data", "adult.test"):
        text = (root / name).read_text()
        if name == "adult.test":
            text = text.replace("Private", "Without-pay")
        (tmp_path / name).write_text(text)
    bunch = load_adult(tmp_path)
    columns = [n for n, name in enumerate(bunch.feature_names) if name.startswith("workclass")]
    unknown = (bunch.frame["workclass"] == "Without-pay").to_numpy()
    assert unknown.any()
    assert not bunch.data[unknown][:, columns].any()
    assert (bunch.data[~unknown][:, columns].sum(axis=1) == 1).all()


def test_intersection_of_the_attributes(root):
    bunch = load_adult(root, attribute=("sex", "race"))
    assert len(bunch.group_names) == 10
    assert bunch.group_names[2] == "Female, Black"
    names = [bunch.group_names[code] for code in bunch.groups]
    expected = raw(root)
    assert names == (expected["sex"] + ", " + expected["race"]).tolist()
    assert load_adult(root, attribute="race").group_names == list(trees.ADULT_RACES)


def test_missing_values_can_be_left_out(root):
    whole, part = load_adult(root), load_adult(root, missing="drop")
    expected = raw(root)
    kept = ~(expected == "?").any(axis=1)
    assert 0 < kept.sum() < len(kept)
    assert part.frame["fnlwgt"].tolist() == expected["fnlwgt"][kept].tolist()
    assert "workclass_?" in whole.feature_names
    assert not any("?" in name for name in part.feature_names)
    assert len(part.test) == kept[120:].sum()


def test_columns_can_be_left_out(root):
    bunch = load_adult(root, drop_columns=["sex", "fnlwgt", "relationship"])
    assert not any(
        name.startswith(("sex", "fnlwgt", "relationship")) for name in bunch.feature_names
    )
    np.testing.assert_array_equal(bunch.groups, load_adult(root).groups)
    assert "sex" in bunch.frame


def test_from_a_zip_file_or_a_folder_below(root, tmp_path):
    expected = load_adult(root)
    for prefix in ("", "adult/"):
        archive = trees.zip_tree(root, tmp_path / "adult.zip", prefix)
        np.testing.assert_array_equal(load_adult(archive).data, expected.data)
    trees.adult_tree(tmp_path / "adult")
    np.testing.assert_array_equal(load_adult(tmp_path).data, expected.data)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"attribute": "age"}, ValueError, "attribute must be one of .*'sex'.*, got 'age'"),
        ({"attribute": ()}, ValueError, "must name each attribute once"),
        ({"attribute": ("sex", "sex")}, ValueError, "must name each attribute once"),
        ({"missing": "mean"}, ValueError, "missing must be one of .*, got 'mean'"),
        ({"drop_columns": ["sexe"]}, ValueError, "Adult has no column 'sexe'"),
        ({"drop_columns": COLUMNS[:-1]}, ValueError, "leaves no column"),
        ({"validation_size": 1}, ValueError, r"validation_size must lie in \(0, 1\), got 1"),
    ],
)
def test_parameters_out_of_range(root, parameters, error, message):
    with pytest.raises(error, match=message):
        load_adult(root, **parameters)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", <=50K\n", "\n", r"Line 1 of .*adult.data has 14 fields, expected 15"),
        (", <=50K\n", ", 50K\n", "line 1: income is '50K', expected one of '<=50K', '>50K'"),
        (", Female,", ", F,", "line 1: sex is 'F', expected one of 'Female', 'Male'"),
        (", 9, ", ", nine, ", "line 1: education-num is 'nine', expected a whole number"),
    ],
)
def test_damaged_files(root, tmp_path, old, new, message):
    trees.adult_tree(tmp_path)
    path = tmp_path / "adult.data"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        load_adult(tmp_path)
    assert str(path) in str(caught.value)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="UCI Machine Learning Repository"):
        load_adult(tmp_path / "nowhere")
    trees.adult_tree(tmp_path)
    (tmp_path / "adult.test").write_text("|1x3 Cross validator\n")
    with pytest.raises(ValueError, match=r"adult.test has no row"):
        load_adult(tmp_path)
    (tmp_path / "adult.test").unlink()
    with pytest.raises(FileNotFoundError, match=r"no adult.test in .*Expected there: adult.data"):
        load_adult(tmp_path)
