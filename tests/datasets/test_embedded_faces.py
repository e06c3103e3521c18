import hashlib

import numpy as np

from grmu_sk.datasets import load_embedded_faces


def test_the_table_is_the_published_one_whatever_columns_and_seed_are_asked_for():
    faces = load_embedded_faces()
    splits = (faces.train, faces.validation, faces.test)
    assert [len(rows) for rows in splits] == [15673, 2985, 5000]
    assert len(np.unique(np.concatenate(splits))) == len(faces.data) == 23658
    assert (faces.target_names[3], faces.group_names[0]) == ("20-29", "Black")
    assert ((faces.target == 3) & (faces.groups == 0)).sum() == 1174
    digest = hashlib.sha256(np.round(faces.data * 32).astype(np.int8).tobytes()).hexdigest()
    assert digest.startswith("7ae1260b3aee") and "CC BY 4.0" in faces.DESCR
    other = load_embedded_faces(target="gender", attribute="age", random_state=1)
    np.testing.assert_array_equal(faces.data, other.data)
    np.testing.assert_array_equal(faces.target, other.groups)
    assert set(faces.validation) != set(other.validation)
    np.testing.assert_array_equal(faces.test, other.test)
