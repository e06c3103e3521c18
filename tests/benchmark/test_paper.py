from grmu_sk.benchmark.paper import paper_values
from grmu_sk.results import AVERAGE_GAP, MODEL


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
