import pickle
from functools import partial

import numpy as np
import pytest
import torch
from conftest import fitted, make_net, make_table, same_weights

from grmu_sk import SISAUnlearner
from grmu_sk.unlearners import sisa

fitted = partial(fitted, SISAUnlearner)


def members(unlearner):
    """The weights of each shard's module."""
    return [
        [value.numpy().copy() for value in member.state_dict().values()]
        for member in unlearner.net_.module_.members
    ]


def changed(before, after):
    return [
        not all(map(np.array_equal, one, other)) for one, other in zip(before, after, strict=True)
    ]


def rows_of(unlearner, shard, n=None):
    return np.flatnonzero(unlearner.shards_ == shard)[:n]


@pytest.fixture
def trainings(spy, row_spy):
    """(shard, phase, seed, rows read) of each training of a shard."""
    seeds = spy(sisa, "isolated_rng", lambda _, seed, device: (row_spy.clear(), seed)[1])

    def note(result, unlearner, net, data, rows, shard, phase, progress):
        return shard, phase, seeds[-1], row_spy.rows()

    return spy(SISAUnlearner, "_trained_member", note)


def test_each_shard_is_trained_by_itself(table, trainings):
    unlearner = fitted(table)
    assert len(set(unlearner.shards_[:30])) == 5
    assert [(shard, phase) for shard, phase, *_ in trainings] == [(k, "fit") for k in range(5)]
    assert len({seed for _, _, seed, _ in trainings}) == 5
    for (shard, _, seed, read), weights in zip(trainings, members(unlearner), strict=True):
        rows = rows_of(unlearner, shard)
        assert read.tolist() == rows.tolist(), "no row of another shard"
        torch.manual_seed(seed)
        alone = make_net().fit(table.X[rows], table.y[rows]).module_.parameters()
        for ours, theirs in zip(weights, alone, strict=True):
            np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-5, atol=1e-7)


def test_only_shards_that_held_a_row_are_retrained(table, trainings):
    unlearner = fitted(table)
    before = members(unlearner)
    forget = [*rows_of(unlearner, 1, 2), *rows_of(unlearner, 3, 1)]
    rest = {k: sorted(set(rows_of(unlearner, k)) - set(forget)) for k in (1, 3)}
    trainings.clear()
    unlearner.unlearn(forget)
    assert [(shard, phase) for shard, phase, *_ in trainings] == [(1, "retrain"), (3, "retrain")]
    assert {shard: read.tolist() for shard, _, _, read in trainings} == rest
    assert changed(before, members(unlearner)) == [False, True, False, True, False]
    assert np.flatnonzero(unlearner.shards_ == -1).tolist() == sorted(forget)


def test_forgotten_rows_and_other_shards_have_no_influence(table):
    clean = fitted(table)
    forget = [*rows_of(clean, 0, 2), *rows_of(clean, 4, 2)]
    poisoned = make_table()
    poisoned.X[forget] = 50
    dirty = fitted(poisoned)
    assert changed(members(clean), members(dirty)) == [True, False, False, False, True]
    assert same_weights(clean.unlearn(forget), dirty.unlearn(forget))
    more = fitted(table)
    more.unlearn([*forget, *rows_of(more, 1, 10)])
    assert changed(members(clean), members(more)) == [False, True, False, False, False]


def member_probabilities(unlearner, X):
    unlearner.net_.module_.eval()
    with torch.no_grad():
        scores = [m(torch.as_tensor(X)) for m in unlearner.net_.module_.members]
    return np.array([one.double().softmax(1).numpy() for one in scores])


def test_shard_that_lost_all_rows_leaves_the_vote(table, trainings):
    unlearner = fitted(table)
    before = members(unlearner)
    trainings.clear()
    unlearner.unlearn(rows_of(unlearner, 1))
    assert [len(read) for *_, read in trainings] == [0]
    assert changed(before, members(unlearner)) == [False, True, False, False, False]
    assert len(unlearner.history_) == 15, "nothing was trained"
    unlearner = pickle.loads(pickle.dumps(unlearner))
    for request in (rows_of(unlearner, 0, 1), rows_of(unlearner, 2, 1)):
        expected = member_probabilities(unlearner, table.X)[[0, 2, 3, 4]].mean(0)
        np.testing.assert_allclose(unlearner.predict_proba(table.X), expected, rtol=1e-5)
        unlearner.unlearn(request)


@pytest.mark.parametrize("reweight", [False, True])
def test_reweight_keeps_the_mix_of_the_shard(row_spy, reweight):
    table = make_table(400)
    unlearner = fitted(table, make_net(max_epochs=20), n_shards=2, reweight=reweight)
    in_shard, groups = rows_of(unlearner, 1), 2 * table.y + table.a
    forget = in_shard[groups[in_shard] == 0][:-3]
    left = np.setdiff1d(in_shard, forget)
    row_spy.clear()
    unlearner.unlearn(forget)
    drawn = row_spy.drawn("retrain 1")
    assert len(drawn) == 20 * len(left)
    assert (len(set(drawn[: len(left)])) < len(left)) == reweight
    kept = in_shard if reweight else left
    shares, tolerance = np.bincount(groups[kept]) / len(kept), 4 * np.sqrt(0.25 / len(drawn))
    np.testing.assert_allclose(np.bincount(groups[drawn]) / len(drawn), shares, atol=tolerance)
