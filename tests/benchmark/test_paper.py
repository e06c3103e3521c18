from grmu_sk.benchmark.paper import METHODS, paper_values, table_layout
from grmu_sk.metrics import AVERAGE_GAP_METRICS
from grmu_sk.results import AVERAGE_GAP, GOLD, MODEL, PRETRAIN, RETRAIN, Row


def test_printed_average_gaps_follow_from_printed_deltas():
    for number in (1, 2, 3):
        table = paper_values(number)
        deltas = table.dropna(subset="delta_vs_gold").groupby(MODEL)["delta_vs_gold"].mean()
        printed = table[table["metric"] == AVERAGE_GAP].set_index(MODEL)["mean"]
        assert len(deltas) == len(printed) == 8
        # deltas are rounded to 0.05, and so is the gap; their mean cannot be further off than both
        assert (100 - deltas - printed).abs().max() <= 0.1 + 1e-9
    table.loc[:, "mean"] = 0.0
    assert (paper_values(3)["mean"] > 0).all(), "callers cannot change them"


def test_layouts():
    for number, dataset, forget, ratio in [
        (1, "celeba", "group", 0.5),
        (8, "waterbirds", "group", 0.1),
        (14, "fairface", "groups-9", 0.5),
        (16, "multinli", "group", 0.5),
    ]:
        layout = table_layout(number)
        assert (layout.datasets, layout.forget, layout.ratio) == ((dataset,), forget, ratio)
        assert (layout.metrics, layout.rows[0]) == (AVERAGE_GAP_METRICS, PRETRAIN)
        assert (Row("group_dro", False) in layout.rows) == (number <= 3)
    rows = (Row("miu", False, "no_calibration"), Row("miu", False))
    rows += (Row("miu", False, "no_retaining"), Row("miu", True))
    layout = table_layout(4)
    assert (layout.is_ablation, layout.rows, layout.metrics) == (True, rows, ("UA", "GA"))
    assert layout.datasets == ("celeba", "waterbirds", "fairface")
    fairness = table_layout(18)
    assert (fairness.is_fairness, fairness.metrics) == (True, ("DP", "EP", "EO", "WG"))
    assert fairness.rows == (PRETRAIN, RETRAIN, GOLD, Row("miu", True))
    assert METHODS == ("group_dro", "l1_sparse", "salun", "scrub", "miu")
