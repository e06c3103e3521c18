import numpy as np
import pandas as pd
import pytest
from PIL import Image

from grmu_sk.datasets import Columns, read_rows

FRAME = pd.DataFrame(
    {
        "age": [31.5, np.nan, 47.0],
        "job": ["nurse", "smith", None],
        "income": ["01", "1", "1"],
        "sex": ["NA", "f", "f"],
        "race": ["x", "y", "x"],
        "asked": ["yes", "", "0"],
        "part": ["Train", "test", "train"],
    }
)
COLUMNS = Columns("income", ("sex", "race"), forget="asked", split="part")


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_a_table(tmp_path, kind):
    path = tmp_path / ("people.parquet" if kind == "parquet" else "people.csv")
    FRAME.to_parquet(path) if kind == "parquet" else FRAME.to_csv(path, index=False)
    rows = read_rows(tmp_path if kind == "folder" else path, COLUMNS)
    pd.testing.assert_frame_equal(rows.X, FRAME[["age", "job"]], check_dtype=False)
    assert rows.y.tolist() == ["01", "1", "1"], "labels are text, as written"
    assert rows.groups.to_numpy().tolist() == [["NA", "x"], ["f", "y"], ["f", "x"]]
    assert rows.forget.tolist() == [True, False, False]
    assert rows.split.tolist() == ["train", "test", "train"]
    assert read_rows(path, COLUMNS, features=["sex", "age"]).X.columns.tolist() == ["sex", "age"]


def test_images_that_a_table_lists(tmp_path):
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (20, 10), colour).save(tmp_path / name)
    pd.DataFrame({"file": ["b.png", "a.png"], "y": [0, 1]}).to_csv(tmp_path / "t.csv", index=False)
    rows = read_rows(tmp_path, Columns("y", image="file", image_size=8))
    assert rows.X.shape == (2, 3, 8, 8)
    assert rows.X[0, 2].min() == 1 and rows.X[1, 0].min() == 1, "blue, then red"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns("incme"), "did you mean 'income'"),
        (Columns("income", ("gender",)), "has no column 'gender'"),
        (Columns("income", forget="job"), "'job' .* says 'nurse'"),
        (Columns(), "which column"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, columns, message):
    FRAME.to_csv(tmp_path / "people.csv", index=False)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "people.csv", columns)
    with pytest.raises(ValueError, match="differs in length"):
        read_rows(lambda: {"X": np.ones((3, 1)), "y": [0, 1]})
