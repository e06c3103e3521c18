import numpy as np
import pandas as pd
import pytest

from grmu_sk.metrics import (
    AVERAGE_GAP_METRICS,
    average_gap_score,
    metric_deltas,
    tug_of_war_score,
)

pytestmark = pytest.mark.quick

GOLD = {"RA": 0.9, "UA": 0.5, "TA": 0.8, "MIA": 0.2, "EO": 0.1, "GA": 0.6}
VALUES = {"RA": 0.8, "UA": 0.7, "TA": 0.8, "MIA": 0.5, "EO": 0.1, "GA": 0.6}

# Mean deltas to the gold standard and average gap, in percent, as published (tables 1-3).
PUBLISHED = {
    "CelebA MIU": ([0.3, 3.5, 0.2, 1.3, 0.5, 0.4], 99.0),
    "CelebA SCRUB": ([0.3, 3.8, 0.2, 1.5, 0.7, 1.7], 98.6),
    "CelebA SalUn": ([0.2, 8.2, 0.2, 2.0, 3.4, 9.8], 96.1),
    "Waterbirds SCRUB": ([0.2, 11.9, 0.6, 9.5, 3.4, 7.3], 94.5),
    "FairFace MIU": ([1.9, 2.3, 0.5, 0.3, 1.5, 1.2], 98.7),
}


def test_hand_computed():
    # deltas 0.1, 0.2, 0, 0.3, 0, 0
    assert average_gap_score(VALUES, GOLD) == pytest.approx(1 - 0.6 / 6)
    assert metric_deltas(VALUES, GOLD) == pytest.approx(
        {"RA": 0.1, "UA": 0.2, "TA": 0.0, "MIA": 0.3, "EO": 0.0, "GA": 0.0}
    )
    assert tug_of_war_score(VALUES, GOLD) == pytest.approx(0.9 * 0.8 * 1.0)
    assert average_gap_score({**VALUES, "WG": np.nan}, GOLD) == average_gap_score(VALUES, GOLD)
    assert average_gap_score(VALUES, GOLD, metrics="RA") == pytest.approx(0.9)
    assert average_gap_score(GOLD, GOLD) == tug_of_war_score(GOLD, GOLD) == 1.0


@pytest.mark.parametrize("row", PUBLISHED)
def test_published_rows(row):
    deltas, average_gap = PUBLISHED[row]
    gold = dict.fromkeys(AVERAGE_GAP_METRICS, 0.5)
    # each seed misses by the mean delta, on alternating sides
    values = {
        metric: 0.5 + np.array([1, -1, 1]) * delta / 100
        for metric, delta in zip(AVERAGE_GAP_METRICS, deltas, strict=True)
    }
    gold = {metric: [value] * 3 for metric, value in gold.items()}
    assert 100 * average_gap_score(values, gold) == pytest.approx(average_gap, abs=0.1)


def test_seeds_on_opposite_sides_do_not_cancel():
    values, gold = {"GA": [0.4, 0.6]}, {"GA": [0.5, 0.5]}
    assert metric_deltas(values, gold)["GA"] == pytest.approx(0.1)
    assert average_gap_score(values, gold, metrics=["GA"]) == pytest.approx(0.9)
    of_means = average_gap_score({"GA": 0.5}, {"GA": 0.5}, metrics=["GA"])
    assert of_means == 1.0


def test_tug_of_war_multiplies_within_a_seed():
    values = {"RA": [1.0, 0.5], "UA": [0.5, 1.0], "TA": [1.0, 1.0]}
    gold = {metric: [1.0, 1.0] for metric in values}
    # (1 * 0.5 + 0.5 * 1) / 2 = 0.5; the product of mean closeness would be 0.75 * 0.75
    assert tug_of_war_score(values, gold) == 0.5


def test_frames_equal_mappings():
    rng = np.random.default_rng(0)
    values = pd.DataFrame(rng.random((4, 6)), columns=list(AVERAGE_GAP_METRICS))
    gold = pd.DataFrame(rng.random((4, 6)), columns=list(AVERAGE_GAP_METRICS))
    by_hand = 1 - np.abs(values.to_numpy() - gold.to_numpy()).mean()
    assert average_gap_score(values, gold) == pytest.approx(by_hand)
    assert average_gap_score(values.to_dict("list"), gold) == pytest.approx(by_hand)


def test_frames_are_matched_by_seed():
    values = pd.DataFrame({"GA": [0.1, 0.9]}, index=[3, 8])
    gold = pd.DataFrame({"GA": [0.9, 0.1]}, index=[8, 3])
    assert average_gap_score(values, gold, metrics=None) == 1.0
    with pytest.raises(ValueError, match=r"same seeds: their indexes are \[3, 8\] and \[3, 9\]"):
        average_gap_score(values, gold.set_axis([3, 9]), metrics=None)
    with pytest.raises(ValueError, match="same seeds"):
        average_gap_score(values, gold.set_axis([3, 3]), metrics=None)


@pytest.mark.parametrize("score", [average_gap_score, tug_of_war_score, metric_deltas])
@pytest.mark.parametrize(
    ("values", "gold", "message"),
    [
        ({"RA": 0.5}, {"UA": 0.5}, r"values lacks the metrics \['UA'\]; it has \['RA'\]"),
        ({"RA": 0.5, "UA": 0.5}, {"RA": 0.5}, r"gold lacks the metrics \['UA'\]"),
        ({"RA": [0.5, 0.6]}, {"RA": 0.5}, "differ in their number of seeds"),
        (
            {"RA": [0.5, 0.6], "UA": 0.1},
            {"RA": [0.5, 0.6], "UA": 0.1},
            "differ in their number of seeds: .*2, .*1",
        ),
        (
            {"RA": [0.5, np.nan]},
            {"RA": [0.5, 0.5]},
            r"values\['RA'\] must hold fractions .* nan",
        ),
        ({"RA": 0.5}, {"RA": np.nan}, r"gold\['RA'\] must hold fractions"),
        ({"RA": 96.2}, {"RA": 0.96}, r"fractions in \[0, 1\], got \[96.2\]. Divide percentages"),
        ({"RA": -0.1}, {"RA": 0.96}, r"fractions in \[0, 1\]"),
        ({"RA": []}, {"RA": []}, r"a number or one number a seed, got an array of shape \(0,\)"),
        ({"RA": [[0.5]]}, {"RA": 0.5}, r"got an array of shape \(1, 1\)"),
        ({}, {}, "no metrics to compare"),
    ],
)
def test_errors(score, values, gold, message):
    with pytest.raises(ValueError, match=message):
        score(values, gold, metrics=None)
