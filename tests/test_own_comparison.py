"""grmu compare: one's own table or images, with a net or any classifier."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import make_table
from PIL import Image

from grmu_sk.cli import main
from grmu_sk.datasets import Columns, read_rows
from grmu_sk.own_comparison import preparation, prepared, split_rows

pytestmark = pytest.mark.usefixtures("quick_attack")


@pytest.fixture
def people(tmp_path, monkeypatch):
    """A table in the working directory, with a missing number and a text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("grmu_sk.cli.compare._draw", lambda *_: None)  # as the demo's test has it
    table = make_table(300)
    frame = pd.DataFrame(table.X[:, :3], columns=["age", "hours", "debt"])
    frame["job"] = np.where(table.X[:, 3] > 0, "smith", "nurse")
    frame["income"] = np.where(table.y, "high", "low")
    frame["sex"] = np.where(table.a, "f", "m")
    frame.loc[5, "age"] = np.nan
    group = np.flatnonzero((table.y == 1) & (table.a == 1))
    frame["asked"] = np.isin(np.arange(300), group[:12]).astype(int)
    frame.to_csv("people.csv", index=False)
    return frame


def compare(*arguments, code=0, data="people.csv"):
    given = ["compare", "--data", data, "--seeds", "1", "--jobs", "1", *arguments]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == code, result.output
    return result.output


TABLE = ["--target", "income", "--group-column", "sex"]
ASKED = [*TABLE, "--forget-column", "asked"]
LOGISTIC = ["--estimator", "sklearn.linear_model.LogisticRegression"]


def test_a_classifier_on_a_table_goes_on_where_it_was(people):
    out = compare(*ASKED, *LOGISTIC, "--out", "mine")
    assert "Features, is missing: age." in out and "12 rows" in out
    assert "Recommended" in out and "subsample_retrain" in out
    results = pd.read_csv("mine/results.csv")
    costs = results[(results["method"] == "pretrain") & (results["metric"] == "retrainings")]
    assert costs["value"].tolist() == [0], "doing nothing costs nothing"
    Path("mine/results.csv").unlink()
    (lost, *_) = Path("mine/finished").glob("*subsample*")
    lost.unlink()
    compare(*ASKED, *LOGISTIC, "--out", "mine")
    again = pd.read_csv("mine/results.csv")
    is_kept = ~results["metric"].isin(["seconds", "retrainings"]) | (results["method"] == "sisa")
    pd.testing.assert_frame_equal(again[is_kept], results[is_kept])


def test_all_methods_are_those_that_take_the_model(people):
    (Path("mine.py")).write_text(
        "from sklearn.ensemble import HistGradientBoostingClassifier as Trees\n"
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import OrdinalEncoder\n"
        "def model():\n    options = {'handle_unknown': 'use_encoded_value', 'unknown_value': -1}\n"
        "    return make_pipeline(OrdinalEncoder(**options), Trees(max_iter=3))\n"
    )
    out = compare(*ASKED, "--estimator", "mine:model", "--methods", "all", "--out", "mine")
    assert "no_op" in out and "sisa" in out and "group_dro" not in out, "which needs a net"
    assert "Features" not in out, "a Pipeline prepares them as it likes"
    results = pd.read_csv("mine/results.csv")
    of_group = ((people["income"] == "high") & (people["sex"] == "f")).sum()
    assert 12 / of_group < results["ratio"].unique().item() < 1, "of the group's training rows"


def test_rows_are_cut_by_group_and_rows_to_forget_are_training_rows(people):
    rows = read_rows("people.csv", Columns("income", ("sex",), forget="asked"))
    one, other = (split_rows(rows, "people", seed) for seed in (0, 1))
    assert one.forget.sum() == 12 and one.forget_groups == [("high", "f")]
    assert not one.train.X.index.equals(other.train.X.index)
    free = people[people["asked"] == 0].groupby(["income", "sex"]).size()
    test = pd.Series(list(zip(one.test.y, one.test.groups, strict=True))).value_counts()
    for pair, n_rows in free.items():
        assert abs(test[pair] - n_rows / 5) <= 1
    _, in_numbers, _ = prepared(None, rows)
    splits = in_numbers(one)
    assert splits.train.X.dtype == np.float32 and not np.isnan(splits.train.X).any()
    np.testing.assert_allclose(splits.train.X[:, :3].mean(axis=0), 0, atol=1e-5)
    by_hand = preparation(rows.X).fit(one.train.X).transform(one.test.X)
    np.testing.assert_allclose(splits.test.X, by_hand, rtol=1e-5, atol=1e-6)


def test_a_split_column(people):
    people["part"] = np.where(np.arange(300) % 3, "Train", "test")
    people[people["asked"] == 0].to_csv("people.csv", index=False)
    rows = read_rows("people.csv", Columns("income", ("sex",), split="part"))
    splits = split_rows(rows, "people", 0, ["high", "f"])
    assert len(splits.test.y) == (rows.split == "test").sum() and len(splits.validation.y) > 20


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"asked": 0}, ASKED, "No row is to be forgotten"),
        ({}, [*TABLE, "--forget-group", "high,x"], "There is no group 'high,x', but: high,f"),
        ({"sex": None}, ASKED, "300 values of groups are missing"),
        ({}, [*ASKED, "--net", "sklearn.linear_model.LinearRegression"], "Any classifier of"),
    ],
)
def test_one_sentence_for_what_does_not_fit(people, change, options, message):
    people.assign(**change).to_csv("people.csv", index=False)
    out = compare(*LOGISTIC, *options, "--out", "mine", code=1)
    assert message in " ".join(out.split()) and "Traceback" not in out
    assert not list(Path().glob("mine/*")), "nothing is written by halves"


@pytest.mark.filterwarnings("default:sisa")
def test_a_method_that_fails_is_named_and_the_others_go_on(people):
    is_high = (people["income"] == "high") & (people["sex"] == "f")
    few = people.assign(income=np.where(is_high & (is_high.cumsum() <= 10), "high", "low"))
    few.to_csv("people.csv", index=False)
    text = Path("people.csv").read_text().replace(",", ", ")
    Path("people.csv").write_text(text)  # as UCI's are
    asked = [*TABLE, "--forget-group", "high,f", "--methods", "sisa,subsample_retrain"]
    out = " ".join(compare(*asked, *LOGISTIC, "--out", "mine").split())
    assert "Warning: sisa has no result with seed 0: ValueError" in out, "a shard has one class"
    assert "Failed, and not judged here: sisa (1 of 1 runs failed), sisa + reweight (1 of" in out
    assert "no average gap" in out, "there are no test rows (high, m)"
    assert "nan" not in out and not list(Path("mine/finished").glob("*sisa*")), "tried again"


def test_small_classes_and_groups(people):
    rare = people.copy()
    rare.loc[:1, "income"] = "rare"
    rare.to_csv("people.csv", index=False)
    assert "['rare'] have fewer than 5 rows" in compare(*ASKED, *LOGISTIC, code=1)
    rare = people.assign(asked=0)
    rare.loc[0, ["income", "sex", "asked"]] = ["high", "x", 1]
    rare.to_csv("people.csv", index=False)
    assert "no test row of the group" in compare(*ASKED, *LOGISTIC, code=1)


def test_a_folder_of_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = []
    for row in range(90):
        y, a = row % 2, row // 2 % 2
        pixels = rng.integers(0, 100, (12, 12, 3), dtype=np.uint8)
        pixels[..., y] += 100
        Image.fromarray(pixels).save(f"{row}.png")
        lines.append((f"{row}.png", "ab"[y], "fm"[a]))
    pd.DataFrame(lines, columns=["file", "kind", "sex"]).to_csv("table.csv", index=False)
    out = compare(
        *("--target", "kind", "--group-column", "sex", "--forget-group", "b,m"),
        *("--image-column", "file", "--image-size", "8", "--methods", "fine_tune"),
        *("--ratio", "0.4", "--out", "mine"),
        data=".",
    )
    assert "fine_tune" in out and set(pd.read_csv("mine/results.csv")["ratio"]) == {0.4}
