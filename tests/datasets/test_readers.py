"""Each reader of images on a tiny tree in the official layout, from a folder and from a zip file.

Then on damaged ones: every error names the place, what was expected, and how to get the data.
"""

import csv
import shutil
import warnings

import numpy as np
import official_trees as trees
import pytest
from PIL import Image

from grmu_sk.datasets import load_celeba, load_fairface, load_image_table, load_waterbirds

SPLITS = ("train", "validation", "test")
BIRDS = f"waterbirds/{trees.WATERBIRDS_FOLDER}"
FACES = ("fairface/fairface_label_train.csv", "fairface/fairface_label_val.csv")


def load_table(data, **changes):
    parameters = {"target": "animal", "groups": "sex", "split": "part"} | changes
    return load_image_table(data / "table/labels.csv", data / "table/images", **parameters)


READERS = {
    "fairface": lambda data: load_fairface(data / "fairface"),
    "celeba": lambda data: load_celeba(data / "celeba"),
    "waterbirds": lambda data: load_waterbirds(data / "waterbirds"),
    "table": load_table,
}
LABELS = {
    "fairface": FACES[1],
    "celeba": "celeba/celeba/list_attr_celeba.txt",
    "waterbirds": f"{BIRDS}/metadata.csv",
    "table": "table/labels.csv",
}
IMAGES = {
    "fairface": "fairface/train/3.jpg",
    "celeba": "celeba/celeba/img_align_celeba/000003.jpg",
    "waterbirds": f"{BIRDS}/001.Bird_0/Bird_0001.jpg",
    "table": "table/images/pet_3.png",
}
PAGES = {
    "fairface": "github.com/joojs/fairface",
    "celeba": "mmlab.ie.cuhk.edu.hk/projects/CelebA",
    "waterbirds": "github.com/kohpangwei/group_DRO",
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    trees.fairface_tree(root / "fairface", n_each=1)
    trees.celeba_tree(root / "celeba", n_each=2)
    trees.waterbirds_tree(root / "waterbirds", n_each=2)
    trees.image_table_tree(root / "table")
    return root


@pytest.fixture
def data(originals, tmp_path):
    return shutil.copytree(originals, tmp_path / "data")


def read_rows(*paths):
    found = []
    for path in paths:
        with open(path, newline="") as file:
            found += csv.DictReader(file)
    return found


def pixels(path):
    return np.array(Image.open(path)).transpose(2, 0, 1)


def names_of(bunch, key):
    names = bunch["target_names" if key == "target" else "group_names"]
    return [names[code] for code in bunch[key]]


@pytest.mark.parametrize("name", READERS)
def test_what_every_reader_of_images_promises(originals, name):
    bunch = READERS[name](originals)
    n_rows = len(bunch.data)
    for key in ("target", "groups"):
        assert (bunch[key].shape, bunch[key].dtype) == ((n_rows,), np.int64)
        assert len(names_of(bunch, key)) == n_rows and bunch[key].min() >= 0
    rows = np.concatenate([bunch[split] for split in SPLITS])
    np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))
    for split in SPLITS:
        assert (np.diff(bunch[split]) > 0).all()
        assert f"{len(bunch[split])} {split}" in bunch.DESCR
    pairs = list(zip(bunch.target[bunch.train], bunch.groups[bunch.train], strict=True))
    assert pairs.count(bunch.smallest_group) == min(map(pairs.count, pairs))
    assert len(bunch.frame) == len(bunch.filenames) == n_rows
    assert bunch.data.filenames == bunch.filenames
    assert bunch.centre_crop == (name != "celeba")
    assert "{" not in bunch.DESCR


def same_bunches(one, other):
    assert set(one) == set(other)
    for key in set(one) - {"data", "frame"}:
        np.testing.assert_array_equal(one[key], other[key])
    assert one.frame.equals(other.frame)
    for row in range(0, len(one.data), 7):
        assert one.data[row].equal(other.data[row])


# FairFace ------------------------------------------------------------------------------------


def test_fairface(originals):
    root = originals / "fairface"
    bunch = load_fairface(root)
    rows = read_rows(*(originals / name for name in FACES))
    kept = [row for row in rows if row["service_test"] == "True"]
    assert len(kept) < len(rows)
    assert bunch.filenames == [row["file"] for row in kept]
    assert names_of(bunch, "target") == [row["age"] for row in kept]
    assert names_of(bunch, "groups") == [row["race"] for row in kept]
    y, a = bunch.forget_group
    assert (bunch.target_names[y], bunch.group_names[a]) == ("20-29", "Black")
    np.testing.assert_array_equal(bunch.data[70], pixels(root / kept[70]["file"]))
    for split, folder in zip(SPLITS, ("train", "train", "val"), strict=True):
        assert all(bunch.filenames[row].startswith(f"{folder}/") for row in bunch[split])
    assert len(bunch.validation) == round(0.1 * 63)
    same, other = (load_fairface(root, random_state=seed) for seed in (0, 1))
    np.testing.assert_array_equal(bunch.validation, same.validation)
    assert not np.array_equal(bunch.validation, other.validation)
    whole = load_fairface(root, service_test_only=False)
    assert whole.filenames == [row["file"] for row in rows]
    other = load_fairface(root, target="gender", attribute="age")
    assert other.target_names == ["Female", "Male"] and other.forget_group is None
    assert other.group_names == list(trees.FAIRFACE_AGES)


def test_fairface_repairs_spreadsheet_damage_with_one_warning(data, tmp_path):
    rows, intact = read_rows(*(data / name for name in FACES)), load_fairface(data / "fairface")
    damaged = trees.fairface_tree(tmp_path / "damaged", n_each=1, damaged=True)
    before = (damaged / "fairface_label_train.csv").read_bytes()
    assert b"03-Sep" in before and b"TRUE" in before
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bunch = load_fairface(damaged)
    (warning,) = caught
    assert warning.filename == __file__
    n_damaged = len(rows) + sum(row["age"] in ("3-9", "10-19") for row in rows)
    assert str(warning.message).startswith(f"{n_damaged} labels of ")
    n_children = sum(row["age"] == "3-9" for row in rows)
    assert f"'03-Sep' -> '3-9' ({n_children})" in str(warning.message)
    same_bunches(bunch, intact)
    assert (damaged / "fairface_label_train.csv").read_bytes() == before


# CelebA --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["Blond_Hair", "Attractive"])
def test_celeba(originals, target):
    folder = originals / "celeba" / "celeba"
    bunch = load_celeba(originals / "celeba", target=target)
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    names = lines[1].split()
    table = np.array([line.split()[1:] for line in lines[2:]], dtype=int)
    np.testing.assert_array_equal(bunch.target, table[:, names.index(target)] == 1)
    np.testing.assert_array_equal(bunch.groups, table[:, names.index("Male")] == 1)
    assert bunch.target_names == [f"not {target}", target]
    assert bunch.group_names == ["not Male", "Male"]
    assert bunch.forget_group == (1, 1)
    assert [len(bunch[split]) for split in SPLITS] == [32, 16, 16]
    partition = (folder / "list_eval_partition.txt").read_text().split()
    np.testing.assert_array_equal(bunch.frame["split"], np.array(partition[1::2], dtype=int))
    np.testing.assert_array_equal(bunch.data[6], pixels(folder / "img_align_celeba/000007.jpg"))


def test_wherever_the_files_are(data, tmp_path):
    for name in ("fairface", "celeba", "waterbirds"):  # below any folder of a zip file
        archive = trees.zip_tree(data / name, tmp_path / f"{name}.zip", "some/where/")
        load = {"fairface": load_fairface, "celeba": load_celeba, "waterbirds": load_waterbirds}
        same_bunches(load[name](archive), READERS[name](data))
    same_bunches(load_waterbirds(data / BIRDS), load_waterbirds(data / "waterbirds"))
    # as downloaded: label files by themselves, images in a zip file
    flat = trees.zip_tree(data / "fairface", tmp_path / "flat.zip")
    (tmp_path / "labels").mkdir()
    for name in FACES:
        shutil.copy(data / name, tmp_path / "labels")
    same_bunches(load_fairface(tmp_path / "labels", images=flat), load_fairface(flat))
    zipped, expected = tmp_path / "zipped", load_celeba(data / "celeba")
    trees.celeba_tree(zipped, n_each=2, zipped=True)
    assert not (zipped / "celeba" / "img_align_celeba").exists()
    same_bunches(load_celeba(zipped), expected)
    same_bunches(load_celeba(zipped / "celeba"), expected)
    apart = load_celeba(zipped, images=data / "celeba" / "celeba" / "img_align_celeba")
    assert apart.filenames[0] == "000001.jpg"
    assert apart.data[5].equal(expected.data[5])
    path = zipped / "celeba" / "list_eval_partition.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    same_bunches(load_celeba(zipped), expected)


# Waterbirds and any images -------------------------------------------------------------------


def test_waterbirds(originals):
    bunch = load_waterbirds(originals / "waterbirds")
    rows = read_rows(originals / LABELS["waterbirds"])
    for column, key in (("y", "target"), ("place", "groups")):
        np.testing.assert_array_equal(bunch[key], [int(row[column]) for row in rows])
    for code, split in enumerate(SPLITS):
        expected = [n for n, row in enumerate(rows) if int(row["split"]) == code]
        np.testing.assert_array_equal(bunch[split], expected)
    assert bunch.target_names == ["landbird", "waterbird"]
    assert (bunch.group_names, bunch.forget_group) == (["land", "water"], (1, 0))
    assert len({image.shape for image in bunch.data}) > 1  # sizes differ, as in the real data


def test_image_table(originals, tmp_path):
    bunch, rows = load_table(originals), read_rows(originals / LABELS["table"])
    assert (bunch.target_names, bunch.group_names) == (["cat", "dog"], ["f", "m"])
    assert names_of(bunch, "target") == [row["animal"] for row in rows]
    assert [len(bunch[split]) for split in SPLITS] == [24, 8, 8]
    np.testing.assert_array_equal(bunch.data[3], pixels(originals / IMAGES["table"]))
    images = trees.zip_tree(originals / "table" / "images", tmp_path / "images.zip")
    bunch = load_image_table(
        originals / LABELS["table"],
        images,
        target="animal",
        groups=["sex", "age"],
        validation_size=0.25,
    )
    # numbers in the order of numbers, not of text
    assert bunch.group_names == ["f, 9", "f, 10", "m, 9", "m, 10"]
    assert names_of(bunch, "groups") == [f"{row['sex']}, {row['age']}" for row in rows]
    assert [len(bunch[split]) for split in SPLITS] == [24, 8, 8]


# damaged data --------------------------------------------------------------------------------


def edit(path, change):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))


def refused(data, load, error, message, *also):
    """Check that an error says this, and has all of these somewhere in its text."""
    with pytest.raises(error, match=message) as caught:
        READERS.get(load, load)(data)
    for text in also:
        assert text in str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_damaged_label_files(data, name):
    """The label file is cut in two ways, or empty, or missing."""
    path, page = data / LABELS[name], PAGES.get(name, "")
    lines = path.read_text().splitlines(keepends=True)
    separator = " " if name == "celeba" else ","
    path.write_text("".join(lines[:-1]) + lines[-1].rstrip("\n").rpartition(separator)[0].rstrip())
    refused(data, name, ValueError, r"Line \d+ of .* fields", str(path))
    if name in PAGES:
        path.write_text("".join(lines[:-3]))
        refused(data, name, ValueError, "cut short", str(path), page)
    path.write_text(lines[0])
    refused(data, name, ValueError, "has no row|does not begin with the number", str(path))
    path.unlink()
    refused(data, name, FileNotFoundError, path.name, str(data), page)


@pytest.mark.parametrize("name", IMAGES)
def test_broken_and_missing_images(data, name):
    path = data / IMAGES[name]
    path.write_bytes(path.read_bytes()[:200])
    files = READERS[name](data).data
    row = next(n for n, file in enumerate(files.filenames) if path.as_posix().endswith(file))
    message = f"The image of row {row}, .* cannot be decoded"
    refused(data, lambda _: files[row], ValueError, message, str(path))
    path.unlink()
    refused(data, lambda _: files[row], FileNotFoundError, path.name)
    message = r"1 of the \d+ images in .* do not exist"
    refused(data, name, FileNotFoundError, message, str(path), PAGES.get(name, ""))


@pytest.mark.parametrize(
    ("name", "line", "old", "new", "message"),
    [
        ("fairface", 0, "race", "other", "has no column 'race'. Its columns are: .*'other'"),
        ("fairface", 2, "0-2", "0-3", "line 3: age is '0-3', expected one of '0-2'"),
        ("fairface", 2, "True", "maybe", "line 3: service_test is 'maybe'"),
        ("waterbirds", 3, ",0,", ",7,", "line 4: split is '7', expected one of 0, 1, 2"),
        ("celeba", 4, " 1", " 2", "line 5: Male is '2', expected one of '-1', '1'"),
        ("table", 2, ",f,", ",,", "line 3: sex is '', expected a value"),
        ("table", 2, "train", "trian", "line 3: part is 'trian', expected one of 'train'"),
    ],
)
def test_unknown_column_or_value(data, name, line, old, new, message):
    def change(lines):
        assert old in lines[line]
        lines[line] = lines[line].replace(old, new, 1)
        return lines

    edit(data / LABELS[name], change)
    refused(data, name, ValueError, message)


def test_empty_splits_and_files_that_do_not_belong_together(data):
    path = data / FACES[1]
    text = path.read_text()
    for name in FACES:  # it is not needed where it is not used
        edit(data / name, lambda lines: [lines[0].replace("service_test", "x"), *lines[1:]])
    assert len(load_fairface(data / "fairface", service_test_only=False).data) == 2 * 70
    refused(data, "fairface", ValueError, "has no column 'service_test'")
    edit(data / FACES[0], lambda lines: [lines[0].replace(",x", ",service_test"), *lines[1:]])
    path.write_text(text.replace("True", "False"))
    refused(data, "fairface", ValueError, "The test split of .*service_test_only=False keeps all")
    path.write_bytes(text.encode().replace(b"Latino", b"Latin\xf3"))
    refused(data, "fairface", ValueError, "is not UTF-8 text")
    path = data / "celeba" / "celeba" / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(" 1\n", " 0\n"))
    refused(data, "celeba", ValueError, "The validation split of .*list_eval_partition.txt has")
    edit(path, lambda lines: lines[1:])
    refused(data, "celeba", ValueError, "has 63 rows, .* has 64; 1 images have no split, 000001")


@pytest.mark.parametrize(
    ("load", "folder", "parameters", "message"),
    [
        (load_celeba, "celeba", {"target": "Blonde"}, "'Blonde'. Its columns are: 'At"),
        (load_fairface, "fairface", {"target": "hair"}, "target must be one of .*'age'"),
        (load_fairface, "fairface", {"target": "race"}, "are both 'race'"),
        (load_fairface, "fairface", {"validation_size": 0}, r"must lie in \(0, 1\)"),
        (load_fairface, "fairface", {"validation_size": 0.001}, "cuts 0 from the 63 t"),
        (load_table, "", {"groups": []}, "at least one column"),
    ],
)
def test_parameters(originals, load, folder, parameters, message):
    refused(originals, lambda data: load(data / folder, **parameters), ValueError, message)


def test_archives_that_are_cut_or_damaged_or_not_there(data, tmp_path):
    for content in (b"", b"PK\x03\x04 and no more"):
        (tmp_path / "half.zip").write_bytes(content)
        with pytest.raises(ValueError, match=r"half.zip is not a whole zip file"):
            load_fairface(tmp_path / "half.zip")
    archive = trees.zip_tree(data / "fairface", tmp_path / "faces.zip")
    image = (data / IMAGES["fairface"]).read_bytes()
    whole = archive.read_bytes()
    assert whole.count(image) == 1
    archive.write_bytes(whole.replace(image, image[:-9] + bytes(9)))
    files = load_fairface(archive).data
    row = files.filenames.index("train/3.jpg")
    message = rf"row {row}, train/3.jpg in .*faces.zip, cannot be deco"
    refused(data, lambda _: files[row], ValueError, message)
    for name, page in PAGES.items():
        refused(tmp_path / "none", name, FileNotFoundError, "folder or a zip file", page)
