import numpy as np
import pytest
import torch
from conftest import fitted, make_net, make_table
from scipy.special import log_softmax
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split

from grmu_sk import AsUnseenUnlearner
from grmu_sk.unlearners import as_unseen

FORGET = [40, 41, 50, 60, 61]


def held_out_rows(n_rows=60):
    return make_table(n_rows=n_rows, seed=1)


def with_own_set(rows):
    return make_net(train_split=predefined_split(Dataset(rows.X, rows.y)))


def losses_of(net, X, y):
    with torch.no_grad():
        logits = net.module_(torch.as_tensor(X)).double().numpy()
    return -log_softmax(logits, axis=1)[np.arange(len(y)), y]


def moved(losses, before, after):
    """Piecewise linear between (rank + 1/2) / n, flat outside; written out one loss at a time."""
    before, after = np.sort(before), np.sort(after)
    n, result = len(before), []
    for loss in losses:
        if loss <= before[0]:
            rank = 0.0
        elif loss >= before[-1]:
            rank = n - 1.0
        else:
            k = np.flatnonzero(before <= loss)[-1]
            rank = k + (loss - before[k]) / (before[k + 1] - before[k])
        low = min(int(rank), n - 2)
        result.append(after[low] + (rank - low) * (after[low + 1] - after[low]))
    return np.array(result)


@pytest.mark.parametrize("n_held_out", [160, 20])  # enough of each class, or all stand for it
def test_targets_have_the_losses_of_rows_that_are_as_hard(table, spy, n_held_out):
    rows = held_out_rows(n_held_out)
    unlearner = fitted(AsUnseenUnlearner, table, net=with_own_set(rows), max_epochs=1)
    original = unlearner.net_
    nets = spy(as_unseen._Unseen, "__init__", lambda _, unseen, request, reference: reference)
    targets = spy(as_unseen._Unseen, "update", lambda _, unseen: unseen.targets.clone())
    unlearner.unlearn(FORGET)
    (reference,) = nets
    y = table.y[FORGET]
    expected = losses_of(reference, table.X[FORGET], y)
    for c in np.unique(y):
        like = rows.y == c if n_held_out == 160 else np.full(n_held_out, True)
        X, labels = rows.X[like], rows.y[like]
        now = losses_of(original, X, labels)
        expected[y == c] = moved(expected[y == c], losses_of(reference, X, labels), now)
    first = targets[0].numpy()
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(first[np.arange(len(y)), y], np.exp(-expected), rtol=1e-4)


def test_without_held_out_rows_the_reference_net_is_believed(table, spy):
    nets = spy(as_unseen._Unseen, "__init__", lambda _, unseen, request, reference: reference)
    targets = spy(as_unseen._Unseen, "update", lambda _, unseen: unseen.targets.clone())
    fitted(AsUnseenUnlearner, table, max_epochs=1).unlearn(FORGET)
    y = table.y[FORGET]
    own = np.exp(-losses_of(nets[0], table.X[FORGET], y))
    np.testing.assert_allclose(targets[-1].numpy()[np.arange(len(y)), y], own, rtol=1e-4)


def test_nothing_is_trained_on_forgotten_or_held_out_rows(table, spy):
    split = ValidSplit(0.25, random_state=0)
    unlearner = fitted(AsUnseenUnlearner, table, net=make_net(train_split=split))
    trained_on = spy(as_unseen, "Phase", lambda phase, *args, **kwargs: phase.rows)
    nets = spy(as_unseen._Unseen, "__init__", lambda _, unseen, request, reference: unseen)
    unlearner.unlearn(FORGET).unlearn([0, 1])
    held_out = unlearner._held_out_idx
    assert len(held_out) == table.n // 4
    for rows, forgotten, unseen in zip(trained_on, (FORGET, [*FORGET, 0, 1]), nets, strict=True):
        np.testing.assert_array_equal(
            rows, np.setdiff1d(np.arange(table.n), np.union1d(held_out, forgotten))
        )
        assert len(unseen.held_out.y) == len(np.setdiff1d(held_out, forgotten))


def test_rows_are_held_against_their_group_where_it_has_enough(spy, monkeypatch):
    monkeypatch.setattr(as_unseen, "FEWEST_HELD_OUT", 20)
    table = make_table(n_rows=240)
    unlearner = fitted(
        AsUnseenUnlearner, table, net=make_net(train_split=ValidSplit(0.3, random_state=0))
    )
    unseen = spy(as_unseen._Unseen, "__init__", lambda _, unseen, request, reference: unseen)
    asked = [np.flatnonzero((table.y == 0) & (table.a == a))[0] for a in (0, 1)]
    unlearner.unlearn(asked)
    held_out = unseen[0].held_out
    left = np.setdiff1d(unlearner._held_out_idx, asked)
    of_class = table.y[left] == 0
    n_of_groups = [(of_class & (table.a[left] == a)).sum() for a in (0, 1)]
    assert n_of_groups[0] >= 20 > n_of_groups[1], "one group has enough, the other has not"
    assert [int(held_out.like[g].sum()) for g in (0, 1)] == [n_of_groups[0], of_class.sum()]
    assert (held_out.y[held_out.like[0]] == 0).all()


def test_a_split_that_changes_is_refused_and_nothing_happens(table):
    class Moody(ValidSplit):
        def __call__(self, dataset, y=None, groups=None):
            self.random_state = np.random.default_rng().integers(2**31)
            return super().__call__(dataset, y, groups)

    net = make_net(train_split=Moody(0.25, random_state=0))
    unlearner = fitted(AsUnseenUnlearner, table, net=net)
    with pytest.raises(ValueError, match="random_state"):
        unlearner.unlearn(FORGET)
    assert len(unlearner.forget_idx_) == 0


def test_a_large_request_is_seen_as_often_as_a_small_one(spy):
    """By larger batches of it, whose weight grows with the square root of their size."""
    table = make_table(n_rows=800, seed=0)
    forget = np.flatnonzero(table.y == 1)[:300]
    unlearner = AsUnseenUnlearner(make_net(batch_size=25), random_state=0, reference_epochs=1)
    read = spy(as_unseen._Unseen, "divergence", lambda _, unseen, n_rows: n_rows)
    batches = spy(AsUnseenUnlearner, "_forget_batch", lambda found, *_: found)
    unlearner.fit(table.X, table.y, table.a).unlearn(forget)
    ((n_rows, alpha),) = batches
    assert len(read) == 20, "two epochs of twenty batches, every other one"
    assert n_rows == 15 * 300 / 20 and set(read) == {n_rows}
    assert alpha == pytest.approx(0.1 * np.sqrt(n_rows / 32))
