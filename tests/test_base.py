"""What an unlearner tells about the rows it was fitted to."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_net
from sklearn.exceptions import NotFittedError

from grmu_sk import FineTuneUnlearner

pytestmark = pytest.mark.quick

FORGET = [40, 41, 50]
ROWS = {
    "all": np.arange(160),
    "forgotten": np.array(FORGET),
    "remaining": np.setdiff1d(np.arange(160), FORGET),
}


def make(**kwargs):
    return FineTuneUnlearner(
        make_net(), **{"max_epochs": 1, "random_state": 0, "keep_forgotten": True, **kwargs}
    )


@pytest.mark.parametrize("keep", [True, False])
def test_rows_come_back_in_the_users_terms(table, keep):
    y = np.array(["no", "yes"])[table.y]
    groups = pd.DataFrame({"sex": np.array(["f", "m"])[table.a], "old": np.arange(table.n) % 2})
    frame = pd.DataFrame(table.X, columns=list("abcd"))
    weight = np.random.default_rng(0).random(table.n).astype(np.float32)
    unlearner = make(keep_forgotten=keep).fit(frame, y, groups, sample_weight=weight)
    unlearner.unlearn(FORGET)
    for which, rows in ROWS.items():
        if not keep and which != "remaining":
            with pytest.raises(ValueError, match=r"has dropped .* keep_forgotten=True"):
                unlearner.training_rows(which)
            continue
        found = unlearner.training_rows(which)
        np.testing.assert_array_equal(found.rows, rows)
        pd.testing.assert_frame_equal(found.X, frame.iloc[rows])
        np.testing.assert_array_equal(found.y, y[rows])
        assert sorted({group[0] for group in unlearner.attributes_}) == ["f", "m"]
        assert found.groups.tolist() == list(groups.iloc[rows].itertuples(index=False, name=None))
        np.testing.assert_array_equal(found.sample_weight, weight[rows])
        unlearner.predict(found.X)  # without a warning about column names


def test_without_rows(table):
    with pytest.raises(NotFittedError):
        make().training_rows()
    unlearner = make(store_data=False).fit(table.X, table.y, table.a)
    with pytest.raises(ValueError, match="not held"):
        unlearner.training_rows()
    assert unlearner.attributes_ is not None
    assert make().fit(table.X, table.y).attributes_ is None
