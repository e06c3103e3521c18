"""Each reader of images on a tiny tree in the official layout, from a folder and from a zip file.

Then on damaged ones: every error names the place, and how to get the data.
"""

import shutil

import numpy as np
import official_trees as trees
import pandas as pd
import pytest
from PIL import Image

from grmu_sk.datasets import load_celeba, load_fairface, load_waterbirds

SPLITS = ("train", "validation", "test")
BIRDS = f"waterbirds/{trees.WATERBIRDS_FOLDER}"
FACES = ("fairface/fairface_label_train.csv", "fairface/fairface_label_val.csv")


LOADERS = {"fairface": load_fairface, "celeba": load_celeba, "waterbirds": load_waterbirds}
READERS = {name: lambda data, name=name: LOADERS[name](data / name) for name in LOADERS}
LABELS = {
    "fairface": FACES[1],
    "celeba": "celeba/celeba/list_attr_celeba.txt",
    "waterbirds": f"{BIRDS}/metadata.csv",
}
PAGES = {"fairface": "joojs/fairface", "celeba": "projects/CelebA", "waterbirds": "group_DRO"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    trees.fairface_tree(root / "fairface", n_each=1)
    trees.celeba_tree(root / "celeba", n_each=2)
    trees.waterbirds_tree(root / "waterbirds", n_each=2)
    return root


@pytest.fixture
def data(originals, tmp_path):
    return shutil.copytree(originals, tmp_path / "data")


def read_rows(*paths):
    return pd.concat(map(pd.read_csv, paths), ignore_index=True)


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
    rows = np.concatenate([bunch[split] for split in SPLITS])
    np.testing.assert_array_equal(np.sort(rows), np.arange(n_rows))
    assert all(f"{len(bunch[split])} {split}" in bunch.DESCR for split in SPLITS)
    pairs = list(zip(bunch.target[bunch.train], bunch.groups[bunch.train], strict=True))
    assert pairs.count(bunch.smallest_group) == min(map(pairs.count, pairs))
    assert len(bunch.frame) == len(bunch.filenames) == n_rows


def same_bunches(one, other):
    assert set(one) == set(other)
    for key in set(one) - {"data", "frame"}:
        np.testing.assert_array_equal(one[key], other[key])
    assert one.frame.equals(other.frame)
    for row in range(0, len(one.data), 7):
        assert one.data[row].equal(other.data[row])


def test_fairface(originals):
    root = originals / "fairface"
    bunch = load_fairface(root)
    rows = read_rows(*(originals / name for name in FACES))
    kept = rows[rows["service_test"]]
    assert bunch.filenames == kept["file"].tolist() != rows["file"].tolist()
    assert names_of(bunch, "target") == kept["age"].tolist()
    assert names_of(bunch, "groups") == kept["race"].tolist()
    y, a = bunch.forget_group
    assert (bunch.target_names[y], bunch.group_names[a]) == ("20-29", "Black")
    np.testing.assert_array_equal(bunch.data[70], pixels(root / kept["file"].iloc[70]))
    for split, folder in zip(SPLITS, ("train", "train", "val"), strict=True):
        assert all(bunch.filenames[row].startswith(f"{folder}/") for row in bunch[split])
    assert len(bunch.validation) == round(0.1 * 63)
    other = load_fairface(root, target="gender", random_state=1)
    assert other.filenames == bunch.filenames and other.forget_group is None
    assert names_of(other, "target") == kept["gender"].tolist()
    assert not np.array_equal(bunch.validation, load_fairface(root, random_state=1).validation)


def test_celeba(originals):
    folder = originals / "celeba" / "celeba"
    bunch = load_celeba(originals / "celeba", target="Attractive")
    table = pd.read_csv(folder / "list_attr_celeba.txt", sep=r"\s+", skiprows=1)
    np.testing.assert_array_equal(bunch.target, table["Attractive"] == 1)
    np.testing.assert_array_equal(bunch.groups, table["Male"] == 1)
    assert bunch.target_names == ["not Attractive", "Attractive"]
    assert (bunch.group_names, bunch.forget_group) == (["not Male", "Male"], (1, 1))
    assert [len(bunch[split]) for split in SPLITS] == [16, 8, 8]
    np.testing.assert_array_equal(bunch.data[6], pixels(folder / "img_align_celeba/000007.jpg"))


def test_wherever_the_files_are(data, tmp_path):
    for name, load in LOADERS.items():  # below any folder of a zip file
        archive = trees.zip_tree(data / name, tmp_path / f"{name}.zip", "some/where/")
        same_bunches(load(archive), load(data / name))
    # as downloaded: images in a zip file beside the label files
    folder = data / "celeba" / "celeba"
    images = (folder / "img_align_celeba").rename(tmp_path / "img_align_celeba")
    trees.zip_tree(images, folder / "img_align_celeba.zip", "img_align_celeba/")
    path = folder / "list_eval_partition.txt"
    path.write_text("\n".join(reversed(path.read_text().splitlines())))
    same_bunches(load_celeba(data / "celeba"), load_celeba(tmp_path / "celeba.zip"))


def test_waterbirds(originals):
    bunch = load_waterbirds(originals / "waterbirds")
    rows = read_rows(originals / LABELS["waterbirds"])
    for column, found in (("y", bunch.target), ("place", bunch.groups)):
        np.testing.assert_array_equal(found, rows[column])
    for code, split in enumerate(SPLITS):
        np.testing.assert_array_equal(bunch[split], np.flatnonzero(rows["split"] == code))
    names = (bunch.target_names, bunch.group_names, bunch.forget_group)
    assert names == (["landbird", "waterbird"], ["land", "water"], (1, 0))


# damaged data --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", READERS)
def test_damaged_label_files(data, name):
    """The label file is cut in two ways, or missing."""
    path, page = data / LABELS[name], PAGES[name]
    lines = path.read_text().splitlines(keepends=True)
    separator = " " if name == "celeba" else ","
    path.write_text("".join(lines[:-1]) + lines[-1].rstrip("\n").rpartition(separator)[0].rstrip())
    with pytest.raises(ValueError, match=rf"Line \d+ of .*{path.name} .* fields"):
        READERS[name](data)
    path.write_text("".join(lines[:-3]))
    with pytest.raises(ValueError, match=rf"{path.name} (does not|has .* cut short).*{page}"):
        READERS[name](data)


def test_broken_and_missing_images_and_archives(data, tmp_path):
    archive, image = tmp_path / "faces.zip", data / "fairface/train/3.jpg"
    whole = trees.zip_tree(data / "fairface", archive).read_bytes()
    archive.write_bytes(whole.replace(image.read_bytes(), image.read_bytes()[:-9] + bytes(9)))
    image.write_bytes(image.read_bytes()[:200])
    for root in (data / "fairface", archive):
        files = load_fairface(root).data
        row = files.filenames.index("train/3.jpg")
        with pytest.raises(ValueError, match=rf"Row {row}, .*train/3.jpg.* cannot be decoded"):
            files[row]
    image.unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the \d+ images .*3.jpg.*joojs/fairface"):
        load_fairface(data / "fairface")


def test_unknown_column_or_value(data):
    for name, line, old, new, message in [
        ("fairface", 2, "0-2", "03-Sep", r"line 3: age is '03-Sep', expected one of \['0-2'"),
        ("fairface", 0, "race", "other", "has no column 'race'"),
        ("celeba", 4, " 1", " 2", "line 5: .* is '2'"),
    ]:
        path = data / LABELS[name]
        lines = path.read_text().splitlines(keepends=True)
        assert old in lines[line]
        lines[line] = lines[line].replace(old, new, 1)
        path.write_text("".join(lines))
        with pytest.raises(ValueError, match=message):
            READERS[name](data)


def test_empty_splits_and_files_that_do_not_belong_together(data):
    path = data / FACES[1]
    path.write_text(path.read_text().replace("True", "False"))
    with pytest.raises(ValueError, match=r"The test split of .* has no row"):
        load_fairface(data / "fairface")
    path = data / "celeba" / "celeba" / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(" 1\n", " 0\n"))
    with pytest.raises(ValueError, match=r"The validation split of .*list_eval_partition.txt"):
        load_celeba(data / "celeba")
    path.write_text(path.read_text().partition("\n")[2])
    with pytest.raises(ValueError, match="has other images than"):
        load_celeba(data / "celeba")
