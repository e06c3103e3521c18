import numpy as np
import pandas as pd
import pytest
import torch

from grmu_sk.groups import GroupEncoder, attribute_column, check_pairs, in_pairs, sample_forget_set


def test_numbering_is_a_plus_s_times_y():
    y, a = [0, 0, 1, 1, 2, 2], ["f", "m", "f", "m", "f", "m"]
    encoder = GroupEncoder().fit(y, a)
    assert encoder.transform(y, a).tolist() == [0, 1, 2, 3, 4, 5]
    assert encoder.pairs_[3] == (1, "m")
    assert len(encoder.pairs_) == 6

    encoder = GroupEncoder().fit(["a", "b", "c", "a"], [0, 1, 2, 1])
    assert encoder.transform(["c"], [2]).tolist() == [8], "vanished values do not shift numbers"


def test_attributes_in_any_form_and_the_intersection_of_several():
    for form in (pd.Categorical(["f", "m"], ["m", "f"]), pd.DataFrame({"sex": ["f", "m"]})):
        assert attribute_column(form).tolist() == ["f", "m"]
    assert attribute_column(torch.tensor([2, 1])).tolist() == [2, 1]
    assert attribute_column([["f", 1], ["m", 2]]).tolist() == [("f", 1), ("m", 2)]
    frame = pd.DataFrame({"sex": ["f", "m", "f"], "age": [1, 2, 1]})
    assert attribute_column(frame).tolist() == [("f", 1), ("m", 2), ("f", 1)]
    encoder = GroupEncoder().fit([0, 1, 1], frame)
    assert encoder.pairs_[-1] == (1, ("m", 2))
    assert encoder.transform([0, 1, 1], frame).tolist() == [0, 3, 2]


@pytest.mark.parametrize("groups", [[0, np.nan], pd.Series(["a", pd.NA])])
def test_missing_and_unseen_values_are_named(groups):
    with pytest.raises(ValueError, match=r"missing value .* in 1 rows, the first at row 1"):
        attribute_column(groups)
    encoder = GroupEncoder().fit([0, 1, 1], ["f", "m", "f"])
    with pytest.raises(ValueError, match=r"groups has the value 'x' \(row 1\)"):
        encoder.transform([0, 1], ["f", "x"])


def test_warns_when_groups_already_hold_the_label():
    with pytest.warns(UserWarning, match="groups already determines y"):
        GroupEncoder().fit([0, 0, 1, 1], [0, 1, 2, 3])


def test_pairs_are_not_the_product():
    y, a = np.array([0, 0, 1, 1]), np.array(["f", "m", "f", "m"])
    assert in_pairs(y, a, [(0, "f"), (1, "m")]).tolist() == [True, False, False, True]
    assert check_pairs((1, "m")) == check_pairs([(1, "m")]) == [(1, "m")]
    with pytest.raises(ValueError, match="one or more pairs"):
        check_pairs([1, 2])


def test_forget_set_is_drawn_from_the_pool():
    rng = np.random.default_rng(0)
    y, a = rng.integers(3, size=500), rng.integers(2, size=500)
    rows = sample_forget_set(y, a, forget_groups=[(0, 1), (2, 0)], ratio=0.3, random_state=3)
    pool = in_pairs(y, a, [(0, 1), (2, 0)])
    assert len(rows) == len(set(rows)) == int(0.3 * pool.sum())
    assert pool[rows].all()
    assert (np.diff(rows) > 0).all()
