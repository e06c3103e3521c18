"""The steps themselves are in test_closed_forms."""

import numpy as np
import pytest
from conftest import fitted

from grmu_sk import BadTeacherUnlearner

FORGET = [40, 41, 50, 60, 61]


@pytest.mark.parametrize(
    ("share", "reweight"), [(0.3, False), (1e-9, False), (1.0, False), (1.0, True)]
)
def test_each_row_to_forget_is_seen_once_an_epoch(table, row_spy, share, reweight):
    params = {"retain_share": share, "reweight": reweight, "batch_size": 1000, "max_epochs": 3}
    unlearner = fitted(BadTeacherUnlearner, table, **params)
    row_spy.clear()
    unlearner.unlearn(FORGET)
    epochs = np.split(row_spy.drawn("teach"), 3)
    for rows in epochs:
        kept = rows[~np.isin(rows, FORGET)]
        assert len(kept) == max(1, round(share * (table.n - len(FORGET))))
        assert (len(set(kept)) < len(kept)) == reweight, "drawn by REWEIGHT with replacement"
        assert sorted(rows[np.isin(rows, FORGET)]) == FORGET
    if share == 0.3:
        assert set(epochs[0]) != set(epochs[1]), "each epoch draws its own"


def test_batches_are_mixed(table, row_spy):
    forget = np.arange(80, 130)
    fitted(BadTeacherUnlearner, table, batch_size=40, max_epochs=1).unlearn(forget)
    first = row_spy.drawn("teach")[:40]
    assert 0 < np.isin(first, forget).sum() < len(first)
