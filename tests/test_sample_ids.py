import json

import numpy as np
import pytest

from grmu_sk import FineTuneUnlearner
from grmu_sk.persistence import PersistenceError, load, save
from grmu_sk.sample_ids import SampleIds


def test_row_numbers_by_default():
    ids = SampleIds.from_user(None, 4)
    assert ids.are_row_numbers
    assert ids.rows_of([3, "1", 1]).tolist() == [1, 3]
    assert ids.without(np.array([1])).rows_of([1]).tolist() == [1], "numbers are no secret"
    assert ids.to_json() is None
    with pytest.raises(ValueError, match="ids are the row numbers 0 to 3"):
        ids.rows_of([4])


def test_dropped_ids_are_not_held():
    ids = SampleIds.from_user(["a", "b", "c"], 3).without(np.array([1]))
    assert ids.texts == ["a", "c"]
    assert ids.rows_of(["c"]).tolist() == [2]
    assert ids.of_rows(np.array([0, 1])) == ["a"]
    assert "b" not in json.loads(ids.to_json())["ids"]
    again = SampleIds.from_json(ids.to_json(), 3)
    assert (again.texts, again.rows.tolist()) == (ids.texts, [0, 2])


def test_messages_name_a_few_ids():
    with pytest.raises(ValueError, match="'a', 'b', 'c', 'd', 'e' and 2 more"):
        SampleIds.from_user(["x", "y"], 2).rows_of("abcdefg"[i] for i in range(7))


@pytest.mark.parametrize(
    "document",
    [
        '{"rows": [0, 0], "ids": ["a", "b"]}',
        '{"rows": [1, 0], "ids": ["a", "b"]}',
        '{"rows": [0, 999999], "ids": ["a", "b"]}',
        '{"rows": [0, -1], "ids": ["a", "b"]}',
        '{"rows": [0, true], "ids": ["a", "b"]}',
        '{"rows": [0], "ids": ["a", "b"]}',
        '{"rows": [0, 1], "ids": ["a", "a"]}',
        '{"rows": [0, 1], "ids": ["a", 3]}',
        '{"rows": [0, 1], "ids": [[], {}]}',
        '{"rows": [0, 1]}',
        "[]",
        "nonsense",
    ],
)
def test_forged_ids_in_a_file(document, table, net, tmp_path, monkeypatch):
    ids = [f"p{row}" for row in range(table.n)]
    unlearner = FineTuneUnlearner(net, random_state=0)
    unlearner.fit(table.X, table.y, table.a, sample_id=ids)
    save(unlearner, tmp_path / "model")
    assert load(tmp_path / "model", net)._sample_ids.texts == ids
    with monkeypatch.context() as patched:
        patched.setattr(SampleIds, "to_json", lambda self: document)
        save(unlearner, tmp_path / "model")
    with pytest.raises(PersistenceError, match="model"):
        load(tmp_path / "model", net)
