import numpy as np
import pytest
import torch
from conftest import make_net, make_table, weights_of
from scipy.special import log_softmax, softmax

from grmu_sk import SCRUBUnlearner
from grmu_sk.nets import MLP
from grmu_sk.training import Batch, fresh_net
from grmu_sk.unlearners._distillation import frozen_teacher, softened_divergence

FORGET = [40, 41, 50, 60, 61]
SHORT = {"max_epochs": 3, "forget_epochs": 2, "random_state": 0}


def run(table, net=None, **kwargs):
    unlearner = SCRUBUnlearner(make_net() if net is None else net, **{**SHORT, **kwargs})
    return unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)


def linear_net(n_classes, **kwargs):
    """Softmax regression and plain gradient descent: gradients are known in closed form."""
    sizes = {"module__hidden": (), "module__n_classes": n_classes}
    return make_net(MLP, **sizes, optimizer__momentum=0.0, **kwargs)


@pytest.mark.parametrize("n_classes", [2, 7])
@pytest.mark.parametrize(
    ("alpha", "gamma", "temperature"), [(0.001, 0.99, 4.0), (0.5, 0.2, 1.0), (2.0, 0.05, 2.5)]
)
def test_weights_against_numpy(n_classes, alpha, gamma, temperature):
    """Whole-batch gradient descent, worked out by hand."""
    table = make_table(300, n_classes)
    constants = {"alpha": alpha, "gamma": gamma, "temperature": temperature}
    unlearner = SCRUBUnlearner(linear_net(n_classes), **SHORT, **constants, lr=0.1)
    unlearner.set_params(batch_size=1000, retain_batch_size=None)
    unlearner.fit(table.X, table.y, table.a)
    W, b = (w.astype(np.float64) for w in weights_of(unlearner))
    original = W.copy(), b.copy()

    def move(X, gradient_of_logits):
        nonlocal W, b
        W = W - 0.1 * gradient_of_logits.T @ X / len(X)
        b = b - 0.1 * gradient_of_logits.mean(axis=0)

    def gradient_of_distance(X):
        now, before = (softmax((X @ V.T + c) / temperature, axis=1) for V, c in [(W, b), original])
        return temperature * (now - before)

    retain = np.setdiff1d(np.arange(table.n), FORGET)
    X_f, X_r, truth = table.X[FORGET], table.X[retain], np.eye(n_classes)[table.y[retain]]
    for epoch in (1, 2, 3):
        if epoch <= 2:
            move(X_f, -gradient_of_distance(X_f))
        error = softmax(X_r @ W.T + b, axis=1) - truth
        move(X_r, alpha * gradient_of_distance(X_r) + gamma * error)

    unlearner.unlearn(FORGET)
    for actual, expected, start in zip(weights_of(unlearner), (W, b), original, strict=True):
        assert not np.allclose(expected, start, atol=1e-4), "the run must have moved"
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("forget_epochs", "expected"), [(0, 0), (2, 2), (9, 3)])
def test_forget_epochs(table, forget_epochs, expected):
    phases = [row["phase"] for row in run(table, forget_epochs=forget_epochs).history_]
    assert phases.count("forget") == expected
    assert phases.count("retain") == 3


def test_forget_loss_is_the_distance_in_nats(table):
    """Student and teacher agree at first, so nothing is far and nothing moves."""
    unlearner = run(table, max_epochs=1)
    first = next(row for row in unlearner.history_ if row["phase"] == "forget")
    assert first["train_loss"] == pytest.approx(0, abs=1e-5)
    last = [row for row in run(table).history_ if row["phase"] == "forget"][-1]
    assert last["train_loss"] < -1e-4


def test_batch_sizes(table):
    def batches(**kwargs):
        history = run(table, **kwargs).history_
        return {row["phase"]: row["train_batch_count"] for row in history}

    n_retain = table.n - len(FORGET)
    assert batches() == {"fit": 5, "forget": 1, "retain": -(-n_retain // 128)}
    assert batches(batch_size=2) == {"fit": 5, "forget": 3, "retain": -(-n_retain // 128)}
    assert batches(batch_size=2, retain_batch_size=None)["retain"] == -(-n_retain // 2)
    assert batches(retain_batch_size=10)["retain"] == -(-n_retain // 10)


def test_teacher_is_in_eval_mode_and_stays_as_it_was(image_net, monkeypatch):
    monkeypatch.setattr("grmu_sk.rows.TrainingRows.is_augmented", True)
    teachers = []

    def spy(net, data, rows):
        teachers.append((net, [value.clone() for value in net.module_.state_dict().values()]))
        return frozen_teacher(net, data, rows)

    monkeypatch.setattr("grmu_sk.unlearners.scrub.frozen_teacher", spy)
    run(make_table(n_rows=96, images=True), image_net)
    (teacher, before), *others = teachers
    assert not others
    assert not teacher.module_.training
    assert all(map(torch.equal, before, teacher.module_.state_dict().values()))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_against_numpy(temperature):
    teacher, student = np.random.default_rng(0).normal(size=(2, 6, 5)) * 3
    p = log_softmax(teacher / temperature, axis=1)
    q = log_softmax(student / temperature, axis=1)
    expected = (np.exp(p) * (p - q)).sum(axis=1).mean()
    scores = [torch.log_softmax(torch.from_numpy(s), dim=1) for s in (teacher, student)]
    assert softened_divergence(*scores, temperature).item() == pytest.approx(expected)
    backwards = softened_divergence(scores[1], scores[0], temperature).item()
    assert backwards != pytest.approx(expected, rel=1e-3), "the direction must matter"


def test_teacher_does_not_answer_for_rows_it_was_not_asked_about(table):
    unlearner = run(table)
    data = unlearner._data
    teacher = frozen_teacher(fresh_net(unlearner.net_), data, np.array([1, 5]))
    batch = Batch(None, None, None, data.positions(np.array([5, 6])), None, None)
    answers = teacher(batch)
    expected = unlearner.predict_log_proba(table.X[[5]])[0]
    np.testing.assert_allclose(answers[0], expected, rtol=1e-5)
    assert answers[1].isnan().all()


class HalfPrecision(MLP):
    """Its outputs are what autocast would give."""

    def forward(self, X):
        return super().forward(X).bfloat16()


def test_distance_of_low_precision_outputs_is_in_single_precision(table, monkeypatch):
    dtypes = set()

    def spy(teacher, student, temperature):
        value = softened_divergence(teacher, student, temperature)
        dtypes.update({teacher.dtype, student.dtype, value.dtype})
        return value

    monkeypatch.setattr("grmu_sk.unlearners.scrub.softened_divergence", spy)
    run(table, make_net(HalfPrecision, module__n_features=4))
    assert dtypes == {torch.float32}
