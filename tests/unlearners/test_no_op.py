import warnings

import numpy as np
import pytest
from conftest import make_net, weights_of
from skorch.callbacks import LRScheduler
from skorch.dataset import ValidSplit

from grmu_sk import FineTuneUnlearner, NoOpUnlearner

FORGET = [40, 41, 50]


@pytest.mark.parametrize("cls", [NoOpUnlearner, FineTuneUnlearner])
def test_no_weight_changes(table, cls):
    """Nor a buffer; fine-tuning is there to show that the comparison can fail."""
    unlearner = cls(make_net(), random_state=0).fit(table.X, table.y, table.a)
    before, scores = weights_of(unlearner), unlearner.predict_proba(table.X)
    unlearner.unlearn(FORGET).unlearn([60])
    same = all(map(np.array_equal, before, weights_of(unlearner)))
    assert same == getattr(cls, "_keeps_weights", False)
    assert np.array_equal(scores, unlearner.predict_proba(table.X)) == same


def test_callbacks_that_follow_training_are_not_confused(table):
    schedule = LRScheduler("CosineAnnealingLR", T_max=3)
    net = make_net(callbacks=[schedule], train_split=ValidSplit(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unlearner = NoOpUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
        before = weights_of(unlearner)
        unlearner.unlearn(FORGET)
    assert all(map(np.array_equal, before, weights_of(unlearner)))
