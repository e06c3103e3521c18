"""The steps themselves are in test_closed_forms."""

import numpy as np
import pytest
import torch
from conftest import fitted, make_net, make_table, state_of
from softmax_regression import losses_of

from grmu_sk import SCRUBUnlearner
from grmu_sk.net_copies import fresh_net
from grmu_sk.nets import MLP
from grmu_sk.training import Batch
from grmu_sk.unlearners import scrub
from grmu_sk.unlearners._distillation import frozen_teacher

FORGET = [40, 41, 50, 60, 61]


def run(table, net=None, **kwargs):
    params = {"max_epochs": 3, "forget_epochs": 2, **kwargs}
    return fitted(SCRUBUnlearner, table, net, **params).unlearn(FORGET)


@pytest.mark.parametrize(("forget_epochs", "expected"), [(0, 0), (2, 2), (9, 3)])
def test_forget_phase(table, forget_epochs, expected):
    """Student and teacher agree at first; then minus their distance is minimised."""
    unlearner = run(table, forget_epochs=forget_epochs)
    losses = losses_of(unlearner, "forget")
    assert len(losses) == expected and len(losses_of(unlearner, "retain")) == 3
    if expected:
        assert losses[0] == pytest.approx(0, abs=1e-5) and losses[-1] < -1e-4


@pytest.mark.parametrize(
    ("sizes", "forget", "retain"),
    [({}, 1, 2), ({"batch_size": 2, "retain_batch_size": None}, 3, 78), ({"batch_size": 2}, 3, 2)],
)
def test_batch_sizes(table, sizes, forget, retain):
    history = run(table, max_epochs=1, **sizes).history_
    batches = {row["phase"]: row["train_batch_count"] for row in history}
    assert batches == {"fit": 5, "forget": forget, "retain": retain}


def test_teacher_is_in_eval_mode_and_stays_as_it_was(image_net, spy, monkeypatch):
    monkeypatch.setattr("grmu_sk.rows.TrainingRows.is_augmented", True)
    teachers = spy(scrub, "frozen_teacher", lambda _, net, *rest: (net, state_of(net)))
    run(make_table(n_rows=96, images=True), image_net)
    ((teacher, before),) = teachers
    assert not teacher.module_.training
    assert all(map(torch.equal, before.values(), state_of(teacher).values()))


def test_teacher_does_not_answer_for_rows_it_was_not_asked_about(table):
    unlearner = run(table)
    data = unlearner._data
    teacher = frozen_teacher(fresh_net(unlearner.net_), data, np.array([1, 5]))
    answers = teacher(Batch(None, None, None, data.positions(np.array([5, 6])), None, None))
    expected = unlearner.predict_log_proba(table.X[[5]])[0]
    np.testing.assert_allclose(answers[0], expected, rtol=1e-5)
    assert answers[1].isnan().all()


class HalfPrecision(MLP):
    """Its outputs are what autocast would give."""

    def forward(self, X):
        return super().forward(X).bfloat16()


def test_distance_of_low_precision_outputs_is_in_single_precision(table, spy):
    seen = spy(scrub, "softened_divergence", lambda *tensors: {t.dtype for t in tensors[:3]})
    run(table, make_net(HalfPrecision, module__n_features=4))
    assert set.union(*seen) == {torch.float32}
