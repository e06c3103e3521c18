import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score

from grmu_sk.metrics import (
    group_accuracies,
    group_accuracy_score,
    split_accuracy_score,
)

pytestmark = pytest.mark.quick

# group (y, a):     (1,m) (1,m) (1,f) (1,f) (0,m) (0,m) (0,m) (0,f)
Y_TRUE = np.array([1, 1, 1, 1, 0, 0, 0, 0])
Y_PRED = np.array([1, 0, 1, 1, 0, 1, 1, 0])
GROUPS = np.array(["m", "m", "f", "f", "m", "m", "m", "f"])
ACCURACIES = {(0, "f"): 1.0, (0, "m"): 1 / 3, (1, "f"): 1.0, (1, "m"): 0.5}


class TestSplitAccuracy:
    def test_hand_computed(self):
        assert split_accuracy_score(Y_TRUE, Y_PRED) == 5 / 8

    def test_index_and_mask_agree(self):
        mask = np.array([1, 1, 0, 0, 0, 0, 0, 1], dtype=bool)
        by_mask = split_accuracy_score(Y_TRUE, Y_PRED, rows=mask)
        by_index = split_accuracy_score(Y_TRUE, Y_PRED, rows=[7, 0, 1])
        assert by_mask == by_index == 2 / 3

    def test_weights_belong_to_all_rows(self):
        # rows 0 (right, weight 3) and 1 (wrong, weight 1)
        weights = [3, 1, 9, 9, 9, 9, 9, 9]
        assert split_accuracy_score(Y_TRUE, Y_PRED, rows=[0, 1], sample_weight=weights) == 0.75

    def test_agrees_with_sklearn(self):
        rng = np.random.default_rng(0)
        y_true, y_pred, weights = rng.integers(3, size=50), rng.integers(3, size=50), rng.random(50)
        assert split_accuracy_score(y_true, y_pred, sample_weight=weights) == pytest.approx(
            accuracy_score(y_true, y_pred, sample_weight=weights)
        )

    @pytest.mark.parametrize(
        "convert",
        [list, pd.Series, pd.Categorical, torch.as_tensor, lambda y: y.astype(float).tolist()],
    )
    def test_containers(self, convert):
        assert split_accuracy_score(convert(Y_TRUE), convert(Y_PRED)) == 5 / 8

    @pytest.mark.parametrize("rows", [[], np.zeros(8, dtype=bool)])
    def test_empty_split(self, rows):
        with pytest.raises(ValueError, match="split is empty or all its weights are zero"):
            split_accuracy_score(Y_TRUE, Y_PRED, rows=rows)

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([True, False], "rows has length 2, but"),
            ([0, 8], "rows holds row 8, but"),
            ([-1, 2], "negative row number -1"),
            ([1, 1], "rows names row 1 more than once"),
            ([0.0, 1.0], "rows holds float64 values"),
            ([[0, 1]], "rows must be one-dimensional"),
        ],
    )
    def test_bad_rows(self, rows, message):
        with pytest.raises((IndexError, ValueError), match=message):
            split_accuracy_score(Y_TRUE, Y_PRED, rows=rows)

    @pytest.mark.parametrize(
        ("y_true", "y_pred", "message"),
        [
            ([1, 0], [1], "y_true has 2 rows but y_pred has 1"),
            ([], [], "y_true is empty"),
            ("abc", "abc", "y_true must hold one class label a row, got 'abc'"),
            ([1, 0], 1, "y_pred must hold one class label a row, got 1"),
            ([1, None], [1, 0], "y_true has a missing label .* in 1 rows, the first at row 1"),
            (["1", "0"], [1, 0], "mix other labels with strings: '1' against 1"),
            (np.array(["1"]), [1], "mix other labels with strings"),
            ([1, 0], [0.9, 0.2], "y_pred holds fractions: pass class labels"),
            ([1, 0], [[0.9, 0.1], [0.2, 0.8]], "y_pred must hold one class label a row"),
            (np.array(["2020-01-01"], "M8[D]"), [1], "mix dates with other labels"),
            ([1, 0], np.eye(2), r"y_pred must .* got an array of shape \(2, 2\)"),
        ],
    )
    def test_bad_labels(self, y_true, y_pred, message):
        with pytest.raises(ValueError, match=message):
            split_accuracy_score(y_true, y_pred)

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            ([1.0], r"shape \(8,\), one weight for every row; got \(1,\)"),
            ([-1.0] * 8, "finite and not negative"),
            ([np.nan] * 8, "finite and not negative"),
            ([0.0] * 8, "all its weights are zero"),
        ],
    )
    def test_bad_weights(self, weights, message):
        with pytest.raises(ValueError, match=message):
            split_accuracy_score(Y_TRUE, Y_PRED, sample_weight=weights)


class TestGroupAccuracy:
    def test_hand_computed(self):
        assert group_accuracy_score(Y_TRUE, Y_PRED, groups=GROUPS, forget_groups=(1, "m")) == 0.5

    def test_pairs_are_pooled(self):
        # (1, m) has 1 of 2 right and (0, m) 1 of 3: 2 of 5, not the mean of 1/2 and 1/3
        score = group_accuracy_score(
            Y_TRUE, Y_PRED, groups=GROUPS, forget_groups=[(1, "m"), (0, "m")]
        )
        assert score == 2 / 5

    def test_pairs_are_not_their_product(self):
        # (1, m) 1 of 2 and (0, f) 1 of 1; the product of the lists would be all rows, 5 of 8
        score = group_accuracy_score(
            Y_TRUE, Y_PRED, groups=GROUPS, forget_groups=[(1, "m"), (0, "f")]
        )
        assert score == 2 / 3

    def test_no_rows_raises_or_gives_nan(self):
        with pytest.raises(ValueError, match=r'forget_groups=\[\(1, .x.\)\].*Pass empty="nan"'):
            group_accuracy_score(Y_TRUE, Y_PRED, groups=GROUPS, forget_groups=(1, "x"))
        with pytest.warns(UndefinedMetricWarning, match="No rows") as record:
            score = group_accuracy_score(
                Y_TRUE, Y_PRED, groups=GROUPS, forget_groups=(1, "x"), empty="nan"
            )
        assert np.isnan(score)
        assert record[0].filename == __file__

    def test_absent_pair_among_others_warns(self):
        with pytest.warns(UserWarning, match=r"groups without rows: \[\(2, 'm'\)\]"):
            score = group_accuracy_score(
                Y_TRUE, Y_PRED, groups=GROUPS, forget_groups=[(1, "m"), (2, "m")]
            )
        assert score == 0.5

    def test_errors(self):
        with pytest.raises(ValueError, match="groups has 3 rows but y_true has 8"):
            group_accuracy_score(Y_TRUE, Y_PRED, groups=GROUPS[:3], forget_groups=(1, "m"))
        with pytest.raises(ValueError, match=r"empty must be one of .*'nan', 'raise'.*got 'zero'"):
            group_accuracy_score(
                Y_TRUE, Y_PRED, groups=GROUPS, forget_groups=(1, "m"), empty="zero"
            )
        with pytest.raises(ValueError, match="forget_groups must be one or more pairs"):
            group_accuracy_score(Y_TRUE, Y_PRED, groups=GROUPS, forget_groups=[])


class TestGroupAccuracies:
    def test_hand_computed(self):
        accuracies = group_accuracies(Y_TRUE, Y_PRED, groups=GROUPS)
        assert accuracies.to_dict() == ACCURACIES
        assert accuracies.index.names == ["y", "a"]
        assert accuracies[(0, "m")] == 1 / 3

    @pytest.mark.parametrize("convert", [list, pd.Series, pd.Categorical])
    def test_containers(self, convert):
        accuracies = group_accuracies(Y_TRUE, Y_PRED, groups=convert(GROUPS))
        assert accuracies.to_dict() == ACCURACIES

    def test_pairs_that_do_not_occur_are_left_out(self):
        accuracies = group_accuracies([0, 1], [0, 0], groups=["m", "f"])
        assert accuracies.to_dict() == {(0, "m"): 1.0, (1, "f"): 0.0}

    def test_weighted_mean_of_groups_is_the_accuracy(self):
        rng = np.random.default_rng(1)
        y_true, y_pred, a = rng.integers(4, size=(3, 200))
        accuracies = group_accuracies(y_true, y_pred, groups=a)
        sizes = pd.Series(list(zip(y_true, a, strict=True))).value_counts()
        pooled = sum(accuracies[pair] * size for pair, size in sizes.items()) / 200
        assert pooled == pytest.approx(accuracy_score(y_true, y_pred))

    def test_group_without_weight(self):
        with pytest.raises(ValueError, match=r"weight zero in the groups \[\(0, 'f'\)\]"):
            group_accuracies(Y_TRUE, Y_PRED, groups=GROUPS, sample_weight=[1] * 7 + [0])
