"""What an unlearner tells about the rows it was fitted to."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net
from sklearn.exceptions import NotFittedError
from torch.utils.data import TensorDataset

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


@pytest.mark.parametrize("kind", ["tensor", "memory map", "dataset"])
def test_kinds_of_inputs(table, tmp_path, kind):
    np.save(tmp_path / "X.npy", table.X)
    X = {
        "tensor": torch.as_tensor(table.X),
        "memory map": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "dataset": TensorDataset(torch.as_tensor(table.X), torch.ones(table.n)),
    }[kind]
    unlearner = make().fit(X, table.y, table.a).unlearn(FORGET)
    for which, rows in ROWS.items():
        found = unlearner.training_rows(which)
        np.testing.assert_array_equal(found.groups, table.a[rows])
        assert found.sample_weight is None
        if kind == "tensor":
            assert isinstance(found.X, torch.Tensor)
        elif which == "all":
            assert found.X is X
        else:
            assert isinstance(found.X, torch.utils.data.Dataset), "nothing is read yet"
        expected = unlearner.predict_proba(table.X[rows])
        np.testing.assert_allclose(unlearner.predict_proba(found.X), expected, rtol=1e-6)


def test_without_rows(table):
    with pytest.raises(NotFittedError):
        make().training_rows()
    unlearner = make(store_data=False).fit(table.X, table.y, table.a)
    with pytest.raises(ValueError, match="not held"):
        unlearner.training_rows()
    assert unlearner.attributes_ is not None
    assert make().fit(table.X, table.y).attributes_ is None
