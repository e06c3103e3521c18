import numpy as np
import pytest
from conftest import make_net
from skorch import NeuralNetBinaryClassifier

from grmu_sk.outputs import decision_threshold, predicted_columns, predicted_labels

CLASSES = np.array(["no", "yes"])
PROBA = np.array([[0.9, 0.1], [0.5, 0.5], [0.4, 0.6], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("threshold", "labels"),
    [
        (None, ["no", "no", "yes", "yes"]),
        (0.5, ["no", "no", "yes", "yes"]),
        (0.6, ["no", "no", "no", "yes"]),
        (0.05, ["yes"] * 4),
    ],
)
def test_two_classes(threshold, labels):
    assert predicted_labels(PROBA, CLASSES, threshold).tolist() == labels
    columns = predicted_columns(PROBA, CLASSES, threshold)
    assert CLASSES[columns].tolist() == labels


def test_three_classes():
    proba, classes = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]]), np.array([3, 5, 9])
    assert predicted_labels(proba, classes).tolist() == [5, 3]
    with pytest.raises(ValueError, match=r"two classes, and there are 3: \[3, 5, 9\]"):
        predicted_labels(proba, classes, 0.5)


def test_threshold_of_a_net():
    assert decision_threshold(make_net()) is None
    net = NeuralNetBinaryClassifier(make_net().module, threshold=0.7)
    assert decision_threshold(net) == 0.7
