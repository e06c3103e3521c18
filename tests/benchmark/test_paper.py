import numpy as np
import pytest

from grmu_sk.benchmark.paper import (
    AVERAGE_GAP,
    GAP_METRICS,
    GOLD,
    PRETRAIN,
    TABLE_NUMBERS,
    Model,
    paper_values,
    table_layout,
)
from grmu_sk.unlearners import all_unlearners

MODEL = ["method", "reweight", "variant"]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_printed_average_gaps_follow_from_printed_deltas(number):
    table = paper_values(number)
    approximate = table[table["delta_vs_gold"].notna()]
    assert set(approximate["metric"]) == set(GAP_METRICS)
    recomputed = 100 - approximate.groupby(MODEL)["delta_vs_gold"].mean()
    printed = table[table["metric"] == AVERAGE_GAP].set_index(MODEL)["mean"]
    assert len(recomputed) == len(printed) == 8
    # deltas are rounded to 0.05, and so is the gap; their mean cannot be further off than both
    assert (recomputed - printed).abs().max() <= 0.1 + 1e-9
    # negative control: the means alone do not give the printed gap
    means = table.pivot_table(values="mean", index=MODEL, columns="metric")
    gold = means.loc[tuple(GOLD), list(GAP_METRICS)]
    naive = 100 - (means.loc[printed.index, list(GAP_METRICS)] - gold).abs().mean(axis=1)
    assert (naive - printed).abs().max() > 0.5


def test_short_tables_repeat_the_long_ones():
    n_shared = 0
    for short, long in ((1, 6), (2, 9), (3, 12)):
        keys = [*MODEL, "metric"]
        both = (
            paper_values(short)
            .set_index(keys)[["mean"]]
            .join(paper_values(long).set_index(keys)["mean"].rename("long"), how="inner")
        )
        n_shared += len(both)
        np.testing.assert_array_equal(both["mean"], both["long"])
    assert n_shared == 222


def test_there_are_eighteen_tables():
    assert list(TABLE_NUMBERS) == sorted(paper_values()["table"].unique()) == list(range(1, 19))


@pytest.mark.parametrize(
    ("number", "dataset", "forget", "ratio"),
    [
        (1, "celeba", "group", 0.5),
        (2, "waterbirds", "group", 0.5),
        (3, "fairface", "group", 0.5),
        (5, "celeba", "group", 0.1),
        (7, "celeba", "group", 0.9),
        (8, "waterbirds", "group", 0.1),
        (13, "fairface", "group", 0.9),
        (14, "fairface", "groups-9", 0.5),
        (15, "fairface", "groups-25", 0.5),
        (16, "multinli", "group", 0.5),
    ],
)
def test_layout_of_comparisons(number, dataset, forget, ratio):
    layout = table_layout(number)
    assert (layout.datasets, layout.forget, layout.ratio) == ((dataset,), forget, ratio)
    assert layout.metrics == GAP_METRICS
    assert layout.models[0] == PRETRAIN
    assert (Model("group_dro", 0) in layout.models) == (number <= 3)
    assert layout.has_std == (number >= 5)
    assert layout.has_delta == (number <= 3)
    assert [model.method for model in layout.models[-4:]] == ["l1_sparse", "salun", "scrub", "miu"]


@pytest.mark.parametrize("number", [4, 17])
def test_layout_of_ablations(number):
    layout = table_layout(number)
    assert layout.is_ablation
    assert layout.datasets == ("celeba", "waterbirds", "fairface")
    assert layout.metrics == (("UA", "GA") if number == 4 else GAP_METRICS)
    assert layout.models == (
        Model("miu", 0, "no_calibration"),
        Model("miu", 0),
        Model("miu", 0, "no_retaining"),
        Model("miu", 1),
    )


def test_layout_of_the_fairness_table():
    layout = table_layout(18)
    assert layout.is_fairness
    assert layout.metrics == ("DP", "EP", "EO", "WG")
    assert layout.models == (PRETRAIN, Model("retrain", 0), GOLD, Model("miu", 1))


def test_methods_have_the_names_of_the_registry():
    names = set(paper_values()["method"]) - {"pretrain"}
    assert names <= {name for name, _ in all_unlearners()}


def test_callers_cannot_change_the_paper():
    for mine in (paper_values(1), paper_values()):
        mine.loc[:, "mean"] = 0.0
    assert paper_values(1)["mean"].iloc[0] == 96.2


@pytest.mark.parametrize("number", [0, 19, -1])
def test_unknown_table(number):
    for function in (paper_values, table_layout):
        with pytest.raises(ValueError, match="choose one from 1 to 18"):
            function(number)
