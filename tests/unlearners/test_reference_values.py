"""Stored results of every method on a tiny fixed problem, so that a change of numbers is noticed.

The values are what the code computed when they were stored, in float64 on one thread; that they are
*right* is what the other tests are for. After a deliberate change: ``make reference-values``.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import make_net, make_table
from test_common import make

from grmu_sk.nets import MLP
from grmu_sk.unlearners import all_unlearners

pytestmark = pytest.mark.quick

STORED = Path(__file__).parent / "reference_values.json"


class Double(MLP):
    def __init__(self):
        super().__init__(4, 3, hidden=(6,))
        self.double()


def compute(method):
    """Class probabilities of five rows after two requests."""
    table = make_table(n_rows=90, n_classes=3)
    unlearner = make(method, make_net(Double, lr=0.02))
    unlearner.fit(table.X, table.y, table.a).unlearn([40, 41, 50]).unlearn([60])
    return unlearner.predict_proba(table.X[:5])


@pytest.mark.parametrize(("name", "method"), all_unlearners())
def test_numbers_are_those_stored(name, method):
    stored = json.loads(STORED.read_text())
    assert name in stored, "a new method: run make reference-values and look at the difference"
    # other builds of torch sum in another order
    np.testing.assert_allclose(compute(method), stored[name], rtol=1e-6, atol=1e-9)


def test_every_method_has_numbers_of_its_own():
    stored = json.loads(STORED.read_text())
    assert set(stored) == {name for name, _ in all_unlearners()}
    distinct = {tuple(np.ravel(values)) for values in stored.values()}
    assert len(distinct) == len(stored)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    values = {name: compute(method).tolist() for name, method in all_unlearners()}
    STORED.write_text(json.dumps(values, indent=1) + "\n")
