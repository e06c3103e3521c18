import json

import numpy as np
import pytest

from grmu_sk.sample_ids import SampleIds


def test_row_numbers_by_default():
    ids = SampleIds(4)
    assert ids.rows_of([3, "1", 1]).tolist() == [1, 3]
    with pytest.raises(ValueError, match="ids are the row numbers 0 to 3"):
        ids.rows_of([4])


def test_dropped_ids_are_not_held():
    ids = SampleIds.from_user(["a", "b", "c"], 3).without(np.array([1]))
    assert ids.texts == ["a", "c"]
    assert ids.rows_of(["c"]).tolist() == [2]
    again = SampleIds.from_plain(json.loads(json.dumps(ids.to_plain())), 3)
    assert (again.texts, again.rows.tolist()) == (ids.texts, [0, 2])
