import numpy as np
import pytest
from conftest import make_net, make_table, weights_of
from scipy.special import softmax

from grmu_sk import BadTeacherUnlearner
from grmu_sk.nets import MLP
from grmu_sk.unlearners import bad_teacher as bad_teacher_module

FORGET = [40, 41, 50, 60, 61]
SHORT = {"max_epochs": 3, "random_state": 0}


@pytest.fixture
def untrained(monkeypatch):
    """The incompetent teachers, as they are made."""
    made = []
    original = bad_teacher_module.fresh_net

    def spy(net, **kwargs):
        new = original(net, **kwargs)
        made.extend([new] if kwargs else [])
        return new

    monkeypatch.setattr(bad_teacher_module, "fresh_net", spy)
    return made


def run(table, net=None, **kwargs):
    unlearner = BadTeacherUnlearner(make_net() if net is None else net, **{**SHORT, **kwargs})
    return unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)


def state_of(net):
    return {name: value.numpy().copy() for name, value in net.module_.state_dict().items()}


@pytest.mark.parametrize(("n_classes", "temperature"), [(2, 1.0), (7, 1.0), (7, 3.0)])
def test_weights_against_numpy(untrained, n_classes, temperature):
    """Whole-batch gradient descent of softmax regression, worked out by hand."""
    table = make_table(300, n_classes)
    sizes = {"module__n_features": 4, "module__hidden": (), "module__n_classes": n_classes}
    net = make_net(MLP, **sizes, optimizer__momentum=0.0, max_epochs=10)
    unlearner = BadTeacherUnlearner(net, **SHORT, temperature=temperature, retain_share=1.0)
    unlearner.set_params(batch_size=1000, lr=0.5).fit(table.X, table.y, table.a)
    W, b = (w.astype(np.float64) for w in weights_of(unlearner))
    start = W.copy()
    unlearner.unlearn(FORGET)

    bad_W, bad_b = state_of(untrained[0]).values()
    is_forgotten = np.isin(np.arange(table.n), FORGET)[:, None]
    teacher = np.where(is_forgotten, table.X @ bad_W.T + bad_b, table.X @ W.T + b) / temperature
    for _ in range(3):
        student = (table.X @ W.T + b) / temperature
        gradient = (softmax(student, axis=1) - softmax(teacher, axis=1)) / temperature
        W = W - 0.5 * gradient.T @ table.X / table.n
        b = b - 0.5 * gradient.mean(axis=0)
    assert not np.allclose(W, start, atol=1e-4), "the run must have moved"
    for actual, expected in zip(weights_of(unlearner), (W, b), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.3, 1.0, 1e-9])
def test_each_row_to_forget_is_seen_once_an_epoch(table, row_spy, share):
    unlearner = BadTeacherUnlearner(make_net(), **SHORT, retain_share=share, batch_size=1000)
    unlearner.fit(table.X, table.y, table.a)
    row_spy.clear()
    unlearner.unlearn(FORGET)
    epochs = [rows for phase, rows in row_spy.seen if phase == "teach"]
    n_remaining = max(1, round(share * (table.n - len(FORGET))))
    assert len(epochs) == 3
    for rows in epochs:
        assert len(rows) == len(set(rows)) == len(FORGET) + n_remaining
        assert set(FORGET) <= set(rows)
    if share == 0.3:
        assert set(epochs[0]) != set(epochs[1]), "each epoch draws its own"


def test_batches_are_mixed(table, row_spy):
    unlearner = BadTeacherUnlearner(make_net(), **SHORT, batch_size=40)
    unlearner.fit(table.X, table.y, table.a)
    row_spy.clear()
    unlearner.unlearn(np.arange(80, 130))
    first = next(rows for phase, rows in row_spy.seen if phase == "teach")
    assert 0 < np.isin(first, np.arange(80, 130)).sum() < len(first)


def test_reweight_restores_the_mix_of_groups(row_spy):
    table = make_table(2000)
    group = table.y * 2 + table.a
    forget = np.flatnonzero(group == 1)[4:]
    share_of_group = {}
    for reweight in (False, True):
        unlearner = BadTeacherUnlearner(make_net(), **SHORT, reweight=reweight, retain_share=1.0)
        unlearner.fit(table.X, table.y, table.a)
        row_spy.clear()
        unlearner.unlearn(forget)
        rows = np.concatenate([rows for phase, rows in row_spy.seen if phase == "teach"])
        assert np.isin(rows, forget).sum() == 3 * len(forget), "not touched by the weights"
        share_of_group[reweight] = np.mean(group[rows[~np.isin(rows, forget)]] == 1)
    assert share_of_group[True] == pytest.approx(np.mean(group == 1), abs=0.02)
    assert share_of_group[False] < 0.5 * share_of_group[True]


def test_untrained_teacher_of_a_class(image_net, untrained):
    table = make_table(n_rows=96, images=True)
    unlearner = run(table, image_net)
    state = state_of(untrained[0])
    assert not any(np.allclose(state[n], w) for n, w in state_of(unlearner.net_).items())
    assert (state["features.1.running_mean"] == 0).all()
    assert not untrained[0].module_.training
