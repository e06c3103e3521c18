"""Each reader on a tiny tree in the official layout, read from a folder and from a zip file."""

import csv
import warnings

import numpy as np
import official_trees as trees
import pytest
from PIL import Image

from grmu_sk.datasets import (
    load_celeba,
    load_fairface,
    load_image_folder,
    load_image_table,
    load_waterbirds,
)
from grmu_sk.groups import sample_forget_set

SPLITS = ("train", "validation", "test")


def check_bunch(bunch):
    """What every reader of images promises."""
    n_rows = len(bunch.data)
    for key, names in (("target", "target_names"), ("groups", "group_names")):
        assert bunch[key].shape == (n_rows,)
        assert bunch[key].dtype == np.int64
        assert bunch[key].min() >= 0
        assert bunch[key].max() < len(bunch[names])
    rows = np.concatenate([bunch[split] for split in SPLITS])
    np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))
    for split in SPLITS:
        assert (np.diff(bunch[split]) > 0).all()
        assert f"{len(bunch[split])} {split}" in bunch.DESCR
    pairs = list(zip(bunch.target[bunch.train], bunch.groups[bunch.train], strict=True))
    assert bunch.smallest_group in pairs
    assert pairs.count(bunch.smallest_group) == min(map(pairs.count, pairs))
    assert len(bunch.frame) == len(bunch.filenames) == n_rows
    assert bunch.data.filenames == bunch.filenames
    assert isinstance(bunch.centre_crop, bool)
    assert "{" not in bunch.DESCR
    forget = sample_forget_set(
        bunch.target[bunch.train],
        bunch.groups[bunch.train],
        forget_groups=bunch.smallest_group,
        ratio=1.0,
        random_state=0,
    )
    assert len(forget) == pairs.count(bunch.smallest_group)


def same_bunches(one, other):
    assert set(one) == set(other)
    for key in set(one) - {"data", "frame"}:
        np.testing.assert_array_equal(one[key], other[key])
    assert one.frame.equals(other.frame)
    for row in range(len(one.data)):
        assert one.data[row].equal(other.data[row])


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def pixels(path):
    return np.array(Image.open(path)).transpose(2, 0, 1)


# FairFace ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fairface(tmp_path_factory):
    return trees.fairface_tree(tmp_path_factory.mktemp("fairface"))


def test_fairface(fairface):
    bunch = load_fairface(fairface)
    check_bunch(bunch)
    assert (len(bunch.target_names), len(bunch.group_names)) == (9, 7)
    y, a = bunch.forget_group
    assert (bunch.target_names[y], bunch.group_names[a]) == ("20-29", "Black")
    assert bunch.forget_group == (3, 0)
    rows = read_rows(fairface / "fairface_label_train.csv")
    rows += read_rows(fairface / "fairface_label_val.csv")
    kept = [row for row in rows if row["service_test"] == "True"]
    assert len(kept) < len(rows)
    assert bunch.filenames == [row["file"] for row in kept]
    assert [bunch.target_names[code] for code in bunch.target] == [row["age"] for row in kept]
    assert [bunch.group_names[code] for code in bunch.groups] == [row["race"] for row in kept]
    np.testing.assert_array_equal(bunch.data[70], pixels(fairface / kept[70]["file"]))


def test_fairface_test_rows_are_the_validation_file(fairface):
    bunch = load_fairface(fairface)
    assert all(bunch.filenames[row].startswith("val/") for row in bunch.test)
    for split in ("train", "validation"):
        assert all(bunch.filenames[row].startswith("train/") for row in bunch[split])
    assert len(bunch.validation) == round(0.1 * 126)


def test_fairface_cut_depends_on_the_seed_alone(fairface):
    one, same, other = (load_fairface(fairface, random_state=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.validation, same.validation)
    assert not np.array_equal(one.validation, other.validation)
    np.testing.assert_array_equal(one.test, other.test)


def test_fairface_without_the_filter_has_all_rows(fairface):
    bunch = load_fairface(fairface, service_test_only=False)
    check_bunch(bunch)
    assert len(bunch.data) == len(list(fairface.glob("*/*.jpg"))) > 189
    assert (bunch.frame["service_test"] == "False").any()


def test_fairface_other_columns(fairface):
    bunch = load_fairface(fairface, target="gender", attribute="age")
    check_bunch(bunch)
    assert bunch.target_names == ["Female", "Male"]
    assert bunch.group_names == list(trees.FAIRFACE_AGES)
    assert bunch.forget_group is None


def test_fairface_from_zip_files(fairface, tmp_path):
    expected = load_fairface(fairface)
    same_bunches(load_fairface(trees.zip_tree(fairface, tmp_path / "flat.zip")), expected)
    nested = trees.zip_tree(fairface, tmp_path / "nested.zip", "some/fairface/")
    same_bunches(load_fairface(nested), expected)
    # as downloaded: label files by themselves, images in a zip file
    labels = tmp_path / "labels"
    labels.mkdir()
    for path in fairface.glob("*.csv"):
        (labels / path.name).write_bytes(path.read_bytes())
    same_bunches(load_fairface(labels, images=tmp_path / "flat.zip"), expected)


def test_fairface_repairs_spreadsheet_damage_with_one_warning(fairface, tmp_path):
    damaged = trees.fairface_tree(tmp_path, damaged=True)
    before = (damaged / "fairface_label_train.csv").read_bytes()
    assert b"03-Sep" in before
    assert b"TRUE" in before
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bunch = load_fairface(damaged)
    (warning,) = caught
    assert warning.filename == __file__
    rows = read_rows(fairface / "fairface_label_train.csv")
    rows += read_rows(fairface / "fairface_label_val.csv")
    n_damaged = len(rows) + sum(row["age"] in ("3-9", "10-19") for row in rows)
    assert str(warning.message).startswith(f"{n_damaged} labels of ")
    n_babies = sum(row["age"] == "3-9" for row in rows)
    assert f"'03-Sep' -> '3-9' ({n_babies})" in str(warning.message)
    same_bunches(bunch, load_fairface(fairface))
    assert (damaged / "fairface_label_train.csv").read_bytes() == before


# CelebA --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def celeba(tmp_path_factory):
    return trees.celeba_tree(tmp_path_factory.mktemp("celeba"))


@pytest.mark.parametrize("target", ["Blond_Hair", "Attractive"])
def test_celeba(celeba, target):
    bunch = load_celeba(celeba, target=target)
    check_bunch(bunch)
    lines = (celeba / "celeba" / "list_attr_celeba.txt").read_text().splitlines()
    names = lines[1].split()
    table = np.array([line.split()[1:] for line in lines[2:]], dtype=int)
    np.testing.assert_array_equal(bunch.target, table[:, names.index(target)] == 1)
    np.testing.assert_array_equal(bunch.groups, table[:, names.index("Male")] == 1)
    assert bunch.target_names == [f"not {target}", target]
    assert bunch.group_names == ["not Male", "Male"]
    assert bunch.forget_group == (1, 1)
    assert [len(bunch[split]) for split in SPLITS] == [64, 16, 16]
    partition = (celeba / "celeba" / "list_eval_partition.txt").read_text().split()
    np.testing.assert_array_equal(bunch.frame["split"], np.array(partition[1::2], dtype=int))
    assert not bunch.centre_crop
    path = celeba / "celeba" / "img_align_celeba" / "000007.jpg"
    np.testing.assert_array_equal(bunch.data[6], pixels(path))


def test_celeba_wherever_the_images_are(celeba, tmp_path):
    expected = load_celeba(celeba)
    zipped = trees.celeba_tree(tmp_path / "zipped", zipped=True)
    assert not (zipped / "celeba" / "img_align_celeba").exists()
    same_bunches(load_celeba(zipped), expected)
    same_bunches(load_celeba(zipped / "celeba"), expected)
    whole = trees.zip_tree(celeba, tmp_path / "whole.zip")
    same_bunches(load_celeba(whole), expected)
    folder = celeba / "celeba" / "img_align_celeba"
    apart = load_celeba(zipped, images=folder)
    assert apart.filenames[0] == "000001.jpg"
    assert apart.data[5].equal(expected.data[5])


def test_celeba_partition_in_another_order(celeba, tmp_path):
    shuffled = trees.celeba_tree(tmp_path)
    path = shuffled / "celeba" / "list_eval_partition.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    same_bunches(load_celeba(shuffled), load_celeba(celeba))


# Waterbirds ----------------------------------------------------------------------------------


def test_waterbirds(tmp_path):
    root = trees.waterbirds_tree(tmp_path / "birds")
    bunch = load_waterbirds(root)
    check_bunch(bunch)
    rows = read_rows(root / trees.WATERBIRDS_FOLDER / "metadata.csv")
    for column, key in (("y", "target"), ("place", "groups")):
        np.testing.assert_array_equal(bunch[key], [int(row[column]) for row in rows])
    for code, split in enumerate(SPLITS):
        expected = [n for n, row in enumerate(rows) if int(row["split"]) == code]
        np.testing.assert_array_equal(bunch[split], expected)
    assert bunch.target_names == ["landbird", "waterbird"]
    assert bunch.group_names == ["land", "water"]
    assert bunch.forget_group == (1, 0)
    assert len({image.shape for image in bunch.data}) > 1  # sizes differ, as in the real data
    same_bunches(load_waterbirds(root / trees.WATERBIRDS_FOLDER), bunch)
    same_bunches(load_waterbirds(trees.zip_tree(root, tmp_path / "birds.zip")), bunch)


# any images ----------------------------------------------------------------------------------


def test_image_table(tmp_path):
    root = trees.image_table_tree(tmp_path)
    bunch = load_image_table(
        root / "labels.csv", root / "images", target="animal", groups="sex", split="part"
    )
    check_bunch(bunch)
    rows = read_rows(root / "labels.csv")
    assert bunch.target_names == ["cat", "dog"]
    assert bunch.group_names == ["f", "m"]
    assert [bunch.target_names[code] for code in bunch.target] == [row["animal"] for row in rows]
    assert [len(bunch[split]) for split in SPLITS] == [24, 8, 8]
    np.testing.assert_array_equal(bunch.data[3], pixels(root / "images" / "pet_3.png"))


def test_image_table_with_an_intersection_and_without_splits(tmp_path):
    root = trees.image_table_tree(tmp_path)
    images = trees.zip_tree(root / "images", tmp_path / "images.zip")
    bunch = load_image_table(
        root / "labels.csv", images, target="animal", groups=["sex", "age"], validation_size=0.25
    )
    check_bunch(bunch)
    # numbers in the order of numbers, not of text
    assert bunch.group_names == ["f, 9", "f, 10", "m, 9", "m, 10"]
    rows = read_rows(root / "labels.csv")
    names = [bunch.group_names[code] for code in bunch.groups]
    assert names == [f"{row['sex']}, {row['age']}" for row in rows]
    assert [len(bunch[split]) for split in SPLITS] == [24, 8, 8]


def test_image_folder(tmp_path):
    bunch = load_image_folder(trees.image_folder_tree(tmp_path / "pets", n_each=10))
    check_bunch(bunch)
    assert bunch.target_names == ["cat", "dog"]
    assert bunch.group_names == ["f", "m"]
    for name, y, a in zip(bunch.filenames, bunch.target, bunch.groups, strict=True):
        assert name.startswith(f"{bunch.target_names[y]}/{bunch.group_names[a]}/")
    assert [len(bunch[split]) for split in SPLITS] == [29, 3, 8]


def test_image_folder_with_split_folders_and_a_table(tmp_path):
    root = trees.image_folder_tree(
        tmp_path / "pets", splits=("train", "val", "test"), attribute_folders=False
    )
    bunch = load_image_folder(root, attributes=tmp_path / "attributes.csv", groups="sex")
    check_bunch(bunch)
    for split, folder in zip(SPLITS, ("train", "val", "test"), strict=True):
        assert all(bunch.filenames[row].startswith(folder) for row in bunch[split])
    attributes = {row["file"]: row["sex"] for row in read_rows(tmp_path / "attributes.csv")}
    names = [bunch.group_names[code] for code in bunch.groups]
    assert names == [attributes[name] for name in bunch.filenames]
    archive = trees.zip_tree(root, tmp_path / "pets.zip")
    zipped = load_image_folder(archive, attributes=tmp_path / "attributes.csv", groups="sex")
    assert zipped.filenames == bunch.filenames
    np.testing.assert_array_equal(zipped.groups, bunch.groups)


def test_image_folder_cuts_the_splits_that_have_no_folder(tmp_path):
    root = trees.image_folder_tree(tmp_path / "pets", splits=("train", "test"), n_each=5)
    bunch = load_image_folder(root, validation_size=0.2)
    check_bunch(bunch)
    assert [len(bunch[split]) for split in SPLITS] == [16, 4, 20]
    assert all(bunch.filenames[row].startswith("train/") for row in bunch.validation)
