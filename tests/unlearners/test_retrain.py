import numpy as np
import pytest
import torch
from conftest import make_net, weights_of

from grmu_sk import RetrainUnlearner
from grmu_sk.nets import MLP
from grmu_sk.rows import TrainingRows
from grmu_sk.training import Phase, train

FORGET = [40, 41, 50]


@pytest.mark.parametrize("reweight", [False, True])
def test_retraining_is_training_a_new_net_on_the_rest(table, reweight, monkeypatch):
    """Exact: the same as a net that was never shown the forgotten rows."""
    unlearner = RetrainUnlearner(make_net(), reweight=reweight, random_state=0)
    unlearner.fit(table.X, table.y, table.a).unlearn(FORGET)
    rest = np.setdiff1d(np.arange(table.n), FORGET)
    poisoned = table.X.copy()
    poisoned[FORGET] = 1e6
    mask = np.isin(np.arange(table.n), FORGET)
    other = RetrainUnlearner(make_net(), reweight=reweight, random_state=0)
    other.fit(poisoned, table.y, table.a, forget=mask)
    assert all(map(np.array_equal, weights_of(unlearner), weights_of(other)))
    assert unlearner.remaining_idx_.tolist() == rest.tolist()


def test_new_weights_are_drawn(table, monkeypatch):
    """No trained weight is the start of retraining."""
    starts = []
    original = train

    def spy(net, data, phases, **kwargs):
        starts.append([p.detach().clone() for p in net.module_.parameters()])
        return original(net, data, phases, **kwargs)

    monkeypatch.setattr("grmu_sk.unlearners.retrain.train", spy)
    unlearner = RetrainUnlearner(make_net(), random_state=0).fit(table.X, table.y, table.a)
    trained = list(unlearner.net_.module_.parameters())
    unlearner.unlearn(FORGET)
    assert len(starts) == 1
    assert not any(map(torch.equal, starts[0], trained))


def test_reweight_gives_back_the_training_mix(table, row_spy):
    """The rows the loop draws have the groups' shares of all training rows."""
    forget = np.flatnonzero((table.y == 1) & (table.a == 0))[:-2]
    net = make_net(max_epochs=40)
    mask = np.isin(np.arange(table.n), forget)
    RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a, forget=mask)
    drawn = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retrain"])
    in_group = (table.y == 1) & (table.a == 0)
    share = in_group.mean()
    tolerance = 4 * np.sqrt(share * (1 - share) / len(drawn))
    assert in_group[drawn].mean() == pytest.approx(share, abs=tolerance)
    row_spy.clear()
    RetrainUnlearner(net, reweight=False).fit(table.X, table.y, table.a, forget=mask)
    drawn = np.concatenate([rows for phase, rows in row_spy.seen if phase == "retrain"])
    assert in_group[drawn].mean() < share / 2


def test_function_as_module(table):
    net = make_net(lambda: MLP(4, hidden=(16,)))
    RetrainUnlearner(net, random_state=0).fit(table.X, table.y, table.a).unlearn(FORGET)


def test_not_a_net(table):
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(TypeError, match="must be a skorch net"):
        RetrainUnlearner(LogisticRegression()).fit(table.X, table.y, table.a)


def test_rows_keep_their_numbers_over_requests():
    X = np.arange(40, dtype=np.float32).reshape(10, 4)
    zeros = torch.zeros(10, dtype=torch.int64)
    data = TrainingRows(X, zeros, zeros, np.arange(10))
    kept = data.keep(np.array([1, 4, 7, 9])).keep(np.array([4, 9]))
    np.testing.assert_array_equal(kept.fetch_rows(np.array([9, 4])), X[[9, 4]])
    assert kept.X.base is None, "a view would keep the dropped rows alive"


def test_phase_without_rows_is_left_out(table):
    zeros = torch.zeros(table.n, dtype=torch.int64)
    data = TrainingRows(table.X, torch.as_tensor(table.y), zeros, np.arange(table.n))
    net = make_net().initialize()
    train(net, data, [Phase("none", np.array([], dtype=int)), Phase("all", data.rows)], epochs=1)
    assert net.history[:, "phase"] == ["all"]
