"""Damaged data: every error names the place, what was expected, and how to get the data."""

import shutil

import official_trees as trees
import pytest

from grmu_sk.datasets import (
    load_celeba,
    load_fairface,
    load_image_folder,
    load_image_table,
    load_waterbirds,
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    trees.fairface_tree(root / "fairface", n_each=1)
    trees.celeba_tree(root / "celeba", n_each=1)
    trees.waterbirds_tree(root / "waterbirds", n_each=1)
    trees.image_table_tree(root / "table", n_each=1)
    trees.image_folder_tree(root / "folder" / "pets", attribute_folders=False)
    return root


@pytest.fixture
def data(originals, tmp_path):
    shutil.copytree(originals, tmp_path / "data")
    return tmp_path / "data"


def edit(path, change):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))


def replace_in_line(number, old, new):
    def change(lines):
        assert old in lines[number]
        lines[number] = lines[number].replace(old, new, 1)
        return lines

    return change


def load_table(data, **changes):
    parameters = {"target": "animal", "groups": "sex", "split": "part"} | changes
    folder = data / "table"
    return load_image_table(folder / "labels.csv", folder / "images", **parameters)


def load_folder(data, **changes):
    parameters = {"attributes": data / "folder" / "attributes.csv", "groups": "sex"} | changes
    return load_image_folder(data / "folder" / "pets", **parameters)


READERS = {
    "fairface": lambda data: load_fairface(data / "fairface"),
    "celeba": lambda data: load_celeba(data / "celeba"),
    "waterbirds": lambda data: load_waterbirds(data / "waterbirds"),
    "table": load_table,
    "folder": load_folder,
}
LABELS = {
    "fairface": "fairface/fairface_label_val.csv",
    "celeba": "celeba/celeba/list_attr_celeba.txt",
    "waterbirds": f"waterbirds/{trees.WATERBIRDS_FOLDER}/metadata.csv",
    "table": "table/labels.csv",
    "folder": "folder/attributes.csv",
}
IMAGES = {
    "fairface": "fairface/train/3.jpg",
    "celeba": "celeba/celeba/img_align_celeba/000003.jpg",
    "waterbirds": f"waterbirds/{trees.WATERBIRDS_FOLDER}/001.Bird_0/Bird_0001.jpg",
    "table": "table/images/pet_3.png",
}
PAGES = {
    "fairface": "github.com/joojs/fairface",
    "celeba": "mmlab.ie.cuhk.edu.hk/projects/CelebA",
    "waterbirds": "github.com/kohpangwei/group_DRO",
}


def refused(data, load, error, message, *also):
    """Check that an error says this, and has all of these somewhere in its text."""
    with pytest.raises(error, match=message) as caught:
        load(data) if isinstance(load, type(lambda: 0)) else READERS[load](data)
    for text in also:
        assert text in str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_damaged_label_files(data, name):
    """Each is read when whole; then its label file is missing, cut in two ways, or empty."""
    READERS[name](data)
    path, page = data / LABELS[name], PAGES.get(name, "")
    lines = path.read_text().splitlines(keepends=True)
    separator = " " if name == "celeba" else ","
    path.write_text("".join(lines[:-1]) + lines[-1].rstrip("\n").rpartition(separator)[0].rstrip())
    refused(data, name, ValueError, r"Line \d+ of .* fields", str(path))
    if name in PAGES:
        path.write_text("".join(lines[:-3]))
        refused(data, name, ValueError, "cut short", str(path), page)
    if name != "celeba":
        path.write_text(lines[0])
        refused(data, name, ValueError, "has no row", str(path))
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
    message = r"1 of the \d+ images in .* do not exist"
    refused(data, name, FileNotFoundError, message, str(path), PAGES.get(name, ""))


@pytest.mark.parametrize("name", PAGES)
def test_missing_root(tmp_path, name):
    refused(tmp_path, name, FileNotFoundError, "folder or a zip file", PAGES[name])


def test_label_file_that_is_not_text(data):
    path = data / LABELS["fairface"]
    path.write_bytes(path.read_bytes().replace(b"Latino", b"Latin\xf3"))
    refused(data, "fairface", ValueError, "is not UTF-8 text")


@pytest.mark.parametrize(
    ("name", "line", "old", "new", "message"),
    [
        ("fairface", 0, "race", "other", "has no column 'race'. Its columns are: .*'other'"),
        ("fairface", 0, "service_test", "other", "has no column 'service_test'"),
        ("waterbirds", 0, "place", "other", "has no column 'place'"),
        ("table", 0, "sex", "other", "has no column 'sex'"),
        ("fairface", 2, "0-2", "0-3", "line 3: age is '0-3', expected one of '0-2'"),
        ("fairface", 2, "True", "maybe", "line 3: service_test is 'maybe'"),
        ("waterbirds", 3, ",1,0,", ",1,7,", "line 4: split is '7', expected one of 0, 1, 2"),
        ("celeba", 4, " 1", " 2", "line 5: Male is '2', expected one of '-1', '1'"),
        ("table", 2, ",f,", ",,", "line 3: sex is '', expected a value"),
        ("table", 2, "train", "trian", "line 3: part is 'trian', expected one of 'train'"),
    ],
)
def test_unknown_column_or_value(data, name, line, old, new, message):
    edit(data / LABELS[name], replace_in_line(line, old, new))
    refused(data, name, ValueError, message)


def test_fairface_needs_no_service_test_where_it_is_not_used(data):
    for path in (data / "fairface").glob("*.csv"):
        edit(path, replace_in_line(0, "service_test", "other"))
    assert len(load_fairface(data / "fairface", service_test_only=False).data) > 0


def test_empty_splits(data):
    path = data / "fairface" / "fairface_label_val.csv"
    path.write_text(path.read_text().replace("True", "False"))
    refused(data, "fairface", ValueError, "The test split of .*service_test_only=False keeps all")
    path = data / "celeba" / "celeba" / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(" 1\n", " 0\n"))
    refused(data, "celeba", ValueError, "The validation split of .*list_eval_partition.txt has")
    edit(path, lambda lines: lines[1:])
    message = "has 47 rows, .* has 48; 1 images have no split, 000001"
    refused(data, "celeba", ValueError, message)


@pytest.mark.parametrize(
    ("load", "folder", "parameters", "error", "message"),
    [
        (load_celeba, "celeba", {"target": "Blonde"}, ValueError, "'Blonde'. Its columns are: 'At"),
        (
            load_fairface,
            "fairface",
            {"target": "hair"},
            ValueError,
            "target must be one of .*'age'",
        ),
        (load_fairface, "fairface", {"target": "race"}, ValueError, "are both 'race'"),
        (load_fairface, "fairface", {"validation_size": 0}, ValueError, r"must lie in \(0, 1\)"),
        (load_fairface, "fairface", {"validation_size": 0.001}, ValueError, "cuts 0 from the 63 t"),
    ],
)
def test_parameters(data, load, folder, parameters, error, message):
    refused(data, lambda data: load(data / folder, **parameters), error, message)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_half_a_zip_file(tmp_path, content):
    (tmp_path / "half.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"half.zip is not a whole zip file"):
        load_fairface(tmp_path / "half.zip")


def test_zip_file_with_a_damaged_member(data, tmp_path):
    archive = trees.zip_tree(data / "fairface", tmp_path / "faces.zip")
    image = (data / IMAGES["fairface"]).read_bytes()
    whole = archive.read_bytes()
    assert whole.count(image) == 1
    archive.write_bytes(whole.replace(image, image[:-9] + bytes(9)))
    files = load_fairface(archive).data
    row = files.filenames.index("train/3.jpg")
    message = rf"row {row}, train/3.jpg in .*faces.zip, cannot be deco"
    refused(data, lambda _: files[row], ValueError, message)


def test_image_folders_and_their_table(data, tmp_path):
    message = r"lies 1 folders deep, expected 2 \(target/attribute/ima"
    refused(data, lambda d: load_image_folder(d / "folder" / "pets"), ValueError, message)
    (tmp_path / "empty").mkdir()
    refused(tmp_path, lambda d: load_image_folder(d / "empty"), ValueError, "has no image")
    for missing in ({"groups": None}, {"attributes": None}):
        refused(data, lambda d, m=missing: load_folder(d, **m), ValueError, "go together")
    for load in (load_table, load_folder):
        refused(data, lambda d, f=load: f(d, groups=[]), ValueError, "at least one column")
    edit(data / LABELS["folder"], lambda lines: lines[:-2])
    refused(data, "folder", ValueError, "has no row for 2 of the 12 images, the first .*dog/")
    edit(data / LABELS["folder"], lambda lines: [*lines, lines[1]])
    refused(data, "folder", ValueError, "line 12: cat/00.png has a row already")
