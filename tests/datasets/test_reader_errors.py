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


@pytest.mark.parametrize("name", READERS)
def test_the_undamaged_data_are_read(data, name):
    READERS[name](data)


@pytest.mark.parametrize("name", READERS)
def test_missing_label_file(data, name):
    path = data / LABELS[name]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name) as caught:
        READERS[name](data)
    assert str(data) in str(caught.value)
    assert PAGES.get(name, "") in str(caught.value)


@pytest.mark.parametrize("name", PAGES)
def test_missing_root(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="folder or a zip file") as caught:
        READERS[name](tmp_path)
    assert PAGES[name] in str(caught.value)


@pytest.mark.parametrize("name", IMAGES)
def test_missing_image(data, name):
    (data / IMAGES[name]).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of the \d+ images in .* do not exist"
    ) as caught:
        READERS[name](data)
    assert str(data / IMAGES[name]) in str(caught.value)
    assert PAGES.get(name, "") in str(caught.value)


@pytest.mark.parametrize("name", IMAGES)
def test_broken_image_is_named_with_its_row(data, name):
    path = data / IMAGES[name]
    path.write_bytes(path.read_bytes()[:200])
    files = READERS[name](data).data
    row = next(n for n, file in enumerate(files.filenames) if path.as_posix().endswith(file))
    with pytest.raises(ValueError, match=f"The image of row {row}, .* cannot be decoded") as caught:
        files[row]
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["fairface", "celeba", "waterbirds"])
def test_label_file_cut_between_lines(data, name):
    edit(data / LABELS[name], lambda lines: lines[:-3])
    with pytest.raises(ValueError, match="cut short") as caught:
        READERS[name](data)
    assert str(data / LABELS[name]) in str(caught.value)
    assert PAGES[name] in str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_label_file_cut_inside_a_line(data, name):
    separator = " " if name == "celeba" else ","
    edit(
        data / LABELS[name],
        lambda lines: [*lines[:-1], lines[-1].rstrip("\n").rpartition(separator)[0].rstrip()],
    )
    with pytest.raises(ValueError, match=r"Line \d+ of .* fields") as caught:
        READERS[name](data)
    assert str(data / LABELS[name]) in str(caught.value)


@pytest.mark.parametrize("name", ["fairface", "waterbirds", "table", "folder"])
def test_label_file_with_a_header_alone(data, name):
    edit(data / LABELS[name], lambda lines: lines[:1])
    with pytest.raises(ValueError, match="has no row"):
        READERS[name](data)


def test_label_file_that_is_not_text(data):
    path = data / LABELS["fairface"]
    path.write_bytes(path.read_bytes().replace(b"Latino", b"Latin\xf3"))
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        load_fairface(data / "fairface")


@pytest.mark.parametrize(
    ("name", "column"),
    [("fairface", "race"), ("fairface", "service_test"), ("waterbirds", "place"), ("table", "sex")],
)
def test_missing_column(data, name, column):
    edit(data / LABELS[name], replace_in_line(0, column, "other"))
    with pytest.raises(ValueError, match=f"has no column '{column}'. Its columns are: .*'other'"):
        READERS[name](data)


def test_fairface_needs_no_service_test_where_it_is_not_used(data):
    for path in (data / "fairface").glob("*.csv"):
        edit(path, replace_in_line(0, "service_test", "other"))
    assert len(load_fairface(data / "fairface", service_test_only=False).data) > 0


def test_unknown_attribute_of_celeba(data):
    with pytest.raises(ValueError, match=r"no column 'Blonde'. Its columns are: 'Attractive'"):
        load_celeba(data / "celeba", target="Blonde")


@pytest.mark.parametrize(
    ("name", "line", "old", "new", "message"),
    [
        ("fairface", 2, "0-2", "0-3", "line 3: age is '0-3', expected one of '0-2'"),
        ("fairface", 2, "True", "maybe", "line 3: service_test is 'maybe'"),
        ("waterbirds", 3, ",1,0,", ",1,7,", "line 4: split is '7', expected one of 0, 1, 2"),
        ("celeba", 4, " 1", " 2", "line 5: Male is '2', expected one of '-1', '1'"),
        ("table", 2, ",f,", ",,", "line 3: sex is '', expected a value"),
        ("table", 2, "train", "trian", "line 3: part is 'trian', expected one of 'train'"),
    ],
)
def test_unknown_value(data, name, line, old, new, message):
    edit(data / LABELS[name], replace_in_line(line, old, new))
    with pytest.raises(ValueError, match=message):
        READERS[name](data)


def test_fairface_without_any_row_that_passes_the_filter(data):
    path = data / "fairface" / "fairface_label_val.csv"
    path.write_text(path.read_text().replace("True", "False"))
    with pytest.raises(ValueError, match=r"The test split of .*service_test_only=False keeps all"):
        load_fairface(data / "fairface")


def test_empty_official_split(data):
    path = data / "celeba" / "celeba" / "list_eval_partition.txt"
    path.write_text(path.read_text().replace(" 1\n", " 0\n"))
    with pytest.raises(ValueError, match=r"The validation split of .*list_eval_partition.txt has"):
        load_celeba(data / "celeba")


def test_celeba_partition_that_lacks_an_image(data):
    edit(data / "celeba" / "celeba" / "list_eval_partition.txt", lambda lines: lines[1:])
    with pytest.raises(ValueError, match=r"has 47 rows, .* has 48; 1 images have no split, 000001"):
        load_celeba(data / "celeba")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"target": "hair"}, "target must be one of 'age', 'gender', 'race', got 'hair'"),
        ({"target": "race"}, "target and attribute are both 'race'"),
        ({"validation_size": 0}, r"validation_size must lie in \(0, 1\), got 0"),
        ({"validation_size": 0.001}, "cuts 0 from the 63 training rows"),
    ],
)
def test_fairface_parameters(data, parameters, message):
    with pytest.raises(ValueError, match=message):
        load_fairface(data / "fairface", **parameters)


def test_share_of_a_wrong_type(data):
    with pytest.raises(TypeError, match=r"validation_size must be a number, got '0.1'"):
        load_fairface(data / "fairface", validation_size="0.1")


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
    with pytest.raises(ValueError, match=rf"row {row}, train/3.jpg in .*faces.zip, cannot be deco"):
        files[row]


def test_image_folder_that_is_laid_out_otherwise(data):
    with pytest.raises(ValueError, match=r"lies 1 folders deep, expected 2 \(target/attribute/ima"):
        load_image_folder(data / "folder" / "pets")


def test_image_folder_without_images(tmp_path):
    with pytest.raises(ValueError, match="has no image"):
        load_image_folder(tmp_path)


def test_image_folder_and_its_table_disagree(data):
    edit(data / LABELS["folder"], lambda lines: lines[:-2])
    with pytest.raises(ValueError, match=r"has no row for 2 of the 12 images, the first .*dog/"):
        load_folder(data)
    edit(data / LABELS["folder"], lambda lines: [*lines, lines[1]])
    with pytest.raises(ValueError, match=r"line 12: cat/00.png has a row already"):
        load_folder(data)


@pytest.mark.parametrize("parameters", [{"groups": None}, {"attributes": None}])
def test_image_folder_with_half_of_what_it_needs(data, parameters):
    with pytest.raises(ValueError, match="go together"):
        load_folder(data, **parameters)


@pytest.mark.parametrize("load", [load_table, load_folder])
def test_no_column_of_groups(data, load):
    with pytest.raises(ValueError, match="at least one column"):
        load(data, groups=[])
