import hashlib

import numpy as np

from grmu_sk.datasets import load_embedded_faces


def test_rows_splits_and_labels():
    faces = load_embedded_faces()
    assert faces.data.shape == (23658, 96)
    assert faces.data.dtype == np.float32
    splits = (faces.train, faces.validation, faces.test)
    assert [len(rows) for rows in splits] == [15673, 2985, 5000]
    assert len(np.unique(np.concatenate(splits))) == 23658
    assert faces.target_names[:3] == ["0-2", "3-9", "10-19"]
    assert (faces.target_names[3], faces.group_names[0]) == ("20-29", "Black")
    assert ((faces.target == 3) & (faces.groups == 0)).sum() == 1174
    own = faces.data[np.concatenate([faces.train, faces.validation])]
    # variance one before columns were clipped at four standard deviations
    assert np.abs(own.mean(0)).max() < 0.02
    assert 0.9 < own.std(0).min() < own.std(0).max() < 1.02


def test_the_table_is_the_published_one_whatever_columns_are_asked_for():
    faces, other = load_embedded_faces(), load_embedded_faces(target="gender", attribute="age")
    np.testing.assert_array_equal(faces.data, other.data)
    np.testing.assert_array_equal(faces.target, other.groups)
    assert other.forget_group is None
    digest = hashlib.sha256(np.round(faces.data * 32).astype(np.int8).tobytes()).hexdigest()
    assert digest.startswith("7ae1260b3aee")
    assert "CC BY 4.0" in faces.DESCR


def test_another_seed_cuts_other_validation_rows_and_the_same_test_rows():
    faces, other = load_embedded_faces(), load_embedded_faces(random_state=1)
    assert set(faces.validation) != set(other.validation)
    np.testing.assert_array_equal(faces.test, other.test)
