import numpy as np
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from sklearn.exceptions import UndefinedMetricWarning

from grmu_sk.metrics import demographic_parity_gap, equal_opportunity_gap, equalized_odds_gap

pytestmark = pytest.mark.quick

GAPS = [equalized_odds_gap, demographic_parity_gap, equal_opportunity_gap]

# Predicted positive: y=1: f 4/4, m 1/2; y=0: f 1/4, m 2/2.
Y_TRUE = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
Y_PRED = np.array([1, 1, 1, 1, 1, 0, 1, 0, 0, 0, 1, 1])
GROUPS = np.array(["f"] * 4 + ["m"] * 2 + ["f"] * 4 + ["m"] * 2)
EO = (abs(1 / 4 - 2 / 2) + abs(4 / 4 - 1 / 2)) / 2  # 0.625
DP = abs(5 / 8 - 3 / 4)  # 0.125
EP = abs(4 / 4 - 1 / 2)  # 0.5


@pytest.mark.parametrize(("gap", "expected"), [*zip(GAPS, [EO, DP, EP], strict=True)])
@pytest.mark.parametrize("names", [(0, 1), ((0, "x"), (1, "x"))])
def test_two_labels_by_hand(gap, expected, names):
    y_true, y_pred = ([names[y] for y in column] for column in (Y_TRUE, Y_PRED))
    assert gap(y_true, y_pred, groups=GROUPS) == pytest.approx(expected)
    # a list of both values leaves them as they are
    both = [(names[0], "f"), (names[1], "m")]
    assert gap(y_true, y_pred, groups=GROUPS, forget_groups=both) == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_fairlearn(weighted):
    rng = np.random.default_rng(0)
    y_true, y_pred, a = rng.integers(2, size=(3, 300))
    weights = rng.random(300) if weighted else None
    shared = {"sensitive_features": a, "sample_weight": weights}
    ours = [gap(y_true, y_pred, groups=a, sample_weight=weights) for gap in GAPS]
    theirs = [
        equalized_odds_difference(y_true, y_pred, agg="mean", **shared),
        demographic_parity_difference(y_true, y_pred, **shared),
        equal_opportunity_difference(y_true, y_pred, **shared),
    ]
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"pos_label": 0}, 0.75),  # y=0, predicted 0: f 3/4, m 0/2
        ({"pos_label": 1}, 0.5),
        ({"forget_groups": (0, "m")}, 0.75),  # a forgotten label is the positive one
        ({"forget_groups": (0, "m"), "pos_label": 1}, 0.5),  # the label named wins
    ],
)
def test_positive_label(chosen, expected):
    assert equal_opportunity_gap(Y_TRUE, Y_PRED, groups=GROUPS, **chosen) == expected


# more than two labels or attributes --------------------------------------------------------------


@pytest.mark.parametrize("gap", GAPS)
def test_more_labels_and_attributes_are_reduced_to_two(gap):
    y_true, y_pred, a = np.random.default_rng(3).integers(5, size=(3, 400))
    reduced = gap(y_true == 3, y_pred == 3, groups=a == 1)
    assert gap(y_true, y_pred, groups=a, forget_groups=(3, 1)) == pytest.approx(reduced)
    with pytest.raises(ValueError, match=r"y_true and y_pred hold 5 distinct .* forget_groups"):
        gap(y_true, y_pred, groups=a)
    everybody = [(3, attribute) for attribute in range(5)]
    with pytest.raises(ValueError, match=r"groups hold 5 distinct values, .* must not list all"):
        equalized_odds_gap(y_true, y_pred, groups=a, forget_groups=everybody)


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ["m"] * 12}, r"No rows \(with a weight\) with .*groups"),
        # an unknown label is not a gap of zero
        ({"forget_groups": ("1", "m")}, "No label counts as positive"),
    ],
)
def test_undefined(gap, change, message):
    given = {"groups": GROUPS, **change}
    with pytest.warns(UndefinedMetricWarning, match=message) as record:
        assert np.isnan(gap(Y_TRUE, Y_PRED, **given))
    assert record[0].filename == __file__
