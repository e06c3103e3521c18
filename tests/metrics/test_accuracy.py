import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import UndefinedMetricWarning

from grmu_sk.metrics import group_accuracies, group_accuracy_score

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
    assert ga(pairs) == ga(pairs, sample_weight=[2.0] * 8) == expected


def test_groups_without_rows():
    with pytest.warns(UndefinedMetricWarning, match=r"No rows .*forget_groups=\[\(1, .x.\)\]"):
        assert np.isnan(ga((1, "x")))
    with pytest.warns(UserWarning, match=r"groups without rows: \[\(2, 'm'\)\]"):
        assert ga([(1, "m"), (2, "m")]) == 0.5
    with pytest.raises(ValueError, match="groups has 3 rows but y_true has 8"):
        ga((1, "m"), groups=GROUPS[:3])
    with pytest.raises(ValueError, match=r"weight zero in the groups \[\(0, 'f'\)\]"):
        group_accuracies(Y_TRUE, Y_PRED, groups=GROUPS, sample_weight=[1] * 7 + [0])


def test_accuracy_of_every_group():
    labels = torch.as_tensor(Y_TRUE), pd.Categorical(Y_PRED)
    accuracies = group_accuracies(*labels, groups=pd.Categorical(GROUPS))
    assert accuracies.to_dict() == ACCURACIES
    assert accuracies.index.names == ["y", "a"]
    several = group_accuracies(Y_TRUE, Y_PRED, groups=[[value, 1] for value in GROUPS])
    assert several.to_dict() == {(y, (a, 1)): value for (y, a), value in ACCURACIES.items()}
    weighted = group_accuracies(Y_TRUE, Y_PRED, groups=GROUPS, sample_weight=[3] + [1] * 7)
    assert weighted.to_dict() == {**ACCURACIES, (1, "m"): 0.75}
