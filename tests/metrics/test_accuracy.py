import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score

from grmu_sk.metrics import group_accuracies, group_accuracy_score, split_accuracy_score

pytestmark = pytest.mark.quick

# group (y, a):     (1,m) (1,m) (1,f) (1,f) (0,m) (0,m) (0,m) (0,f)
Y_TRUE = np.array([1, 1, 1, 1, 0, 0, 0, 0])
Y_PRED = np.array([1, 0, 1, 1, 0, 1, 1, 0])
GROUPS = np.array(["m", "m", "f", "f", "m", "m", "m", "f"])
ACCURACIES = {(0, "f"): 1.0, (0, "m"): 1 / 3, (1, "f"): 1.0, (1, "m"): 0.5}


def ga(forget_groups, groups=GROUPS, **options):
    return group_accuracy_score(
        Y_TRUE, Y_PRED, groups=groups, forget_groups=forget_groups, **options
    )


@pytest.mark.parametrize("convert", [list, pd.Categorical, torch.as_tensor])
def test_accuracy_of_a_split(convert):
    labels = convert(Y_TRUE), convert(Y_PRED)
    assert split_accuracy_score(*labels) == 5 / 8
    assert split_accuracy_score(*labels, sample_weight=[3, 1, 0, 0, 0, 0, 0, 0]) == 0.75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_pred": [1]}, "y_true has 8 rows but y_pred has 1"),
        ({"y_true": [1, None] * 4}, "y_true has a missing label"),
        ({"y_true": ["1", "0"] * 4}, "mix texts with other labels: '1' against 1"),
        ({"y_pred": [0.9, 0.2] * 4}, "y_pred holds fractions: pass class labels"),
        ({"y_pred": np.full((8, 2), 0.5)}, "y_pred must hold one class label a row"),
        ({"sample_weight": [1.0]}, r"shape \(8,\), got \(1,\)"),
        ({"sample_weight": [-1.0] * 8}, "finite and not negative"),
    ],
)
def test_what_is_no_split_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        split_accuracy_score(**{"y_true": Y_TRUE, "y_pred": Y_PRED, **change})


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ((1, "m"), 1 / 2),
        # pooled: 1 of 2 and 1 of 3 right, and not the mean of 1/2 and 1/3
        ([(1, "m"), (0, "m")], 2 / 5),
        # 1 of 2 and 1 of 1; the product of the lists would be all rows, 5 of 8
        ([(1, "m"), (0, "f")], 2 / 3),
    ],
)
def test_accuracy_of_the_forgotten_groups(pairs, expected):
    assert ga(pairs) == expected


def test_groups_without_rows():
    with pytest.raises(ValueError, match=r'forget_groups=\[\(1, .x.\)\].*Pass empty="nan"'):
        ga((1, "x"))
    with pytest.warns(UndefinedMetricWarning, match="No rows"):
        assert np.isnan(ga((1, "x"), empty="nan"))
    with pytest.warns(UserWarning, match=r"groups without rows: \[\(2, 'm'\)\]"):
        assert ga([(1, "m"), (2, "m")]) == 0.5
    with pytest.raises(ValueError, match="groups has 3 rows but y_true has 8"):
        ga((1, "m"), groups=GROUPS[:3])
    with pytest.raises(ValueError, match=r"weight zero in the groups \[\(0, 'f'\)\]"):
        group_accuracies(Y_TRUE, Y_PRED, groups=GROUPS, sample_weight=[1] * 7 + [0])


def test_accuracy_of_every_group():
    accuracies = group_accuracies(Y_TRUE, Y_PRED, groups=pd.Categorical(GROUPS))
    assert accuracies.to_dict() == ACCURACIES
    assert accuracies.index.names == ["y", "a"]
    several = group_accuracies(Y_TRUE, Y_PRED, groups=[[value, 1] for value in GROUPS])
    assert several.to_dict() == {(y, (a, 1)): value for (y, a), value in ACCURACIES.items()}
    y_true, y_pred, a = np.random.default_rng(1).integers(4, size=(3, 200))
    accuracies = group_accuracies(y_true, y_pred, groups=a)
    sizes = pd.Series(list(zip(y_true, a, strict=True))).value_counts()
    pooled = sum(accuracies[pair] * size for pair, size in sizes.items()) / 200
    assert pooled == pytest.approx(accuracy_score(y_true, y_pred))
