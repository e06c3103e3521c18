"""The steps themselves are in test_closed_forms."""

import numpy as np
from conftest import fitted

from grmu_sk import NegGradPlusUnlearner


def pairs_read(row_spy, forget):
    """What is read in turn: a batch of remaining rows, and its partner."""
    batches = [rows for phase, rows in row_spy.seen if phase == "forget_retain"]
    kept = [rows for rows in batches if not set(rows) & set(forget)]
    gone = [rows for rows in batches if set(rows) <= set(forget)]
    assert len(kept) + len(gone) == len(batches), "no batch mixes the two"
    return kept, gone


def test_every_batch_has_a_partner(table, row_spy, monkeypatch):
    monkeypatch.setattr("grmu_sk.rows.BYTES_AT_ONCE", 0)  # one batch at a time
    forget = np.arange(40, 60)
    fitted(NegGradPlusUnlearner, table, max_epochs=20, batch_size=8).unlearn(forget)
    kept, gone = pairs_read(row_spy, forget)
    assert [len(rows) for rows in kept] == [len(rows) for rows in gone] == ([8] * 17 + [4]) * 20
    assert all(len(set(rows)) == len(rows) for rows in gone), "without replacement"
    assert not np.array_equal(np.sort(gone[0]), np.sort(gone[1])), "drawn anew"
    counts = np.bincount(np.concatenate(gone), minlength=60)[forget]
    expected = counts.sum() / len(forget)
    np.testing.assert_allclose(counts, expected, atol=5 * np.sqrt(expected))


def test_few_rows_to_forget_are_all_in_every_pair(table, row_spy):
    fitted(NegGradPlusUnlearner, table, max_epochs=1).unlearn([40, 41, 50])
    _, gone = pairs_read(row_spy, [40, 41, 50])
    assert [sorted(rows) for rows in gone] == [[40, 41, 50]] * 5
