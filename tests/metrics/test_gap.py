import numpy as np
import pandas as pd
import pytest

from grmu_sk.metrics import (
    AVERAGE_GAP_METRICS,
    average_gap_score,
    damage_to_other_groups,
    tug_of_war_score,
)
from grmu_sk.metrics.gap import average_gaps

pytestmark = pytest.mark.quick

GOLD = {"RA": 0.9, "UA": 0.5, "TA": 0.8, "MIA": 0.2, "EO": 0.1, "GA": 0.6}
VALUES = {"RA": 0.8, "UA": 0.7, "TA": 0.8, "MIA": 0.5, "EO": 0.1, "GA": 0.6}


def test_hand_computed():
    # deltas 0.1, 0.2, 0, 0.3, 0, 0
    assert average_gap_score(VALUES, GOLD) == pytest.approx(1 - 0.6 / 6)
    assert tug_of_war_score(VALUES, GOLD) == pytest.approx(0.9 * 0.8 * 1.0)
    assert average_gap_score({**VALUES, "WG": np.nan}, GOLD) == average_gap_score(VALUES, GOLD)
    assert average_gap_score(VALUES, GOLD, metrics="RA") == pytest.approx(0.9)
    assert average_gap_score(GOLD, GOLD) == tug_of_war_score(GOLD, GOLD) == 1.0
    values = {"RA": [1.0, 0.5], "UA": [0.5, 1.0], "TA": [1.0, 1.0]}
    gold = {metric: [1.0, 1.0] for metric in values}
    # (1 * 0.5 + 0.5 * 1) / 2 = 0.5, seed by seed; the product of means would be 0.75 * 0.75
    assert tug_of_war_score(values, gold) == 0.5
    # nor do seeds that miss on opposite sides cancel
    both = {metric: [0.4, 0.6] for metric in AVERAGE_GAP_METRICS}
    halves = {metric: [0.5, 0.5] for metric in AVERAGE_GAP_METRICS}
    assert average_gap_score(both, halves) == pytest.approx(0.9)


def test_frames_are_matched_by_seed():
    values = pd.DataFrame({"GA": [0.1, 0.9]}, index=[3, 8])
    gold = pd.DataFrame({"GA": [0.9, 0.1]}, index=[8, 3])
    assert average_gap_score(values, gold, metrics="GA") == 1.0
    assert average_gap_score(values, {"GA": [0.1, 0.9]}, metrics="GA") == 1.0, "in its order"
    for seeds in ([3, 9], [3, 3]):
        with pytest.raises(ValueError, match=r"do not have the same seeds: \[3, 8\] and \[3, "):
            average_gap_score(values, gold.set_axis(seeds), metrics="GA")


def test_tables_agree_with_mappings_and_know_what_is_missing():
    rng = np.random.default_rng(0)
    runs = [(run, name) for run in (0, 1, 2) for name in ("gold", "miu", "scrub")]
    scores = {run: dict(zip(AVERAGE_GAP_METRICS, rng.random(6), strict=True)) for run in runs}
    lines = [(*run, *pair) for run, of_run in scores.items() for pair in of_run.items()]
    table = pd.DataFrame(lines, columns=["run", "method", "metric", "value"])

    def gaps_of(table):
        return average_gaps(table, table["method"] == "gold", ["run"], ["method"])

    gaps = gaps_of(table)
    found = gaps.set_index(["run", "method"])["value"].to_dict()
    assert found == pytest.approx(
        {
            (run, name): average_gap_score(scores[run, name], scores[run, "gold"])
            for run, name in runs
        }
    )
    assert found[0, "gold"] == 1 > found[0, "miu"]
    lost = table["run"].eq(1) & table["method"].eq("gold") & table["metric"].eq("EO")
    lost |= table["run"].eq(2) & table["method"].eq("miu") & table["metric"].eq("GA")
    gaps = gaps_of(table[~lost])
    undefined = gaps[gaps["value"].isna()]
    assert list(zip(undefined["run"], undefined["method"], strict=True)) == [
        *((1, name) for name in ("gold", "miu", "scrub")),
        (2, "miu"),
    ]


def test_damage_is_the_largest_loss_of_a_group_that_nobody_asked_about():
    rng = np.random.default_rng(0)
    y, a = rng.integers(2, size=400), rng.choice(["f", "m", "x"], p=[0.49, 0.49, 0.02], size=400)
    pred, gold = np.where(rng.random((2, 400)) < [[0.6], [0.8]], y, 1 - y)
    pred[(y == 0) & (a == "f")] = 1  # the forgotten group, of which nothing is right any more
    losses = {
        (c, v): np.mean(gold[rows] == c) - np.mean(pred[rows] == c)
        for c in (0, 1)
        for v in ("f", "m", "x")
        if (rows := (y == c) & (a == v)).sum() >= 30 and (c, v) != (0, "f")
    }
    found = damage_to_other_groups(y, pred, gold, groups=a, forget_groups=(0, "f"))
    assert found.group == max(losses, key=losses.get)
    assert found.loss == pytest.approx(max(losses.values()))
    assert found.n_rows == ((y == found.group[0]) & (a == found.group[1])).sum()
    with pytest.raises(ValueError, match="min_rows"):
        damage_to_other_groups(y, pred, gold, groups=a, forget_groups=(0, "f"), min_rows=1000)
