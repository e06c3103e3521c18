"""The rows handed in are those of ``fit``: their order, labels and groups, and those of a net."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net, make_table
from sklearn.frozen import FrozenEstimator
from torch.utils.data import TensorDataset

from grmu_sk import FineTuneUnlearner, NoOpUnlearner
from grmu_sk.audit import build_evidence, measure
from grmu_sk.persistence import load, save
from grmu_sk.scorers import eo_scorer, wg_scorer

FORGET = [40, 41, 50]


def make(**kwargs):
    return FineTuneUnlearner(make_net(), **{"max_epochs": 1, "random_state": 0, **kwargs})


# data that is handed in again ---------------------------------------------------------------------


def flipped(table):
    table.y[7], table.a[:] = 1 - table.y[7], table.a[::-1]


def two_swapped(table):
    table.X[[3, 5]] = table.X[[5, 3]]


def as_images(X):
    images = TensorDataset(torch.from_numpy(X.copy()))
    images.is_augmented = False
    return images


KINDS = {"array": lambda X: X, "frame": pd.DataFrame, "dataset": as_images}


@pytest.mark.parametrize(
    ("kind", "change", "differ"),
    [("array", flipped, "y and groups"), *((kind, two_swapped, "X") for kind in KINDS)],
)
def test_other_data_is_refused(table, tmp_path, kind, change, differ):
    as_kind = KINDS[kind]
    unlearner = make(store_data=False).fit(as_kind(table.X.copy()), table.y, table.a)
    save(unlearner, tmp_path / "model")
    unlearner = load(tmp_path / "model", make_net())
    # rows forgotten before do not count
    for request in (FORGET, [60]):
        other = make_table()
        change(other)
        with pytest.raises(ValueError, match=rf"that order: {differ}( \(a sample\))? differ"):
            unlearner.unlearn([61], X=as_kind(other.X), y=other.y, groups=other.a)
        X = as_kind(table.X.copy())
        unlearner.unlearn(request, X=X, y=table.y, groups=table.a)
    assert unlearner.forget_idx_.tolist() == [*FORGET, 60]
    if change is not two_swapped:
        with pytest.raises(ValueError, match="not what fit was given"):
            build_evidence(unlearner, training=(1 - table.y, 1 - table.a))


def test_rows_forgotten_earlier_may_hold_anything(table):
    undisturbed = make(store_data=False).fit(table.X, table.y, table.a)
    unlearner = make(store_data=False).fit(table.X, table.y, table.a)
    for one in (unlearner, undisturbed):
        one.unlearn(FORGET, X=table.X, y=table.y, groups=table.a)
    before = dict(unlearner._known_digests())
    undisturbed.unlearn([60], X=table.X, y=table.y, groups=table.a)
    X, y, a = table.X.copy(), table.y.astype(object), table.a.astype(object)
    X[FORGET], y[FORGET], a[FORGET] = np.nan, None, None
    unlearner.unlearn([60], X=X, y=y.tolist(), groups=a.tolist())
    assert unlearner._known_digests() == undisturbed._known_digests() != before
    # digests tell of remaining rows only
    other = make_table()
    other.X[[*FORGET, 60]] = 9
    one = make().fit(other.X, other.y, other.a)
    assert one._known_digests()["X"] != before["X"]
    assert one.unlearn([*FORGET, 60])._known_digests() == unlearner._known_digests()
    np.testing.assert_array_equal(unlearner.predict_proba(X[:9]), undisturbed.predict_proba(X[:9]))


# labels and groups of test rows -------------------------------------------------------------------


@pytest.fixture
def measured():
    """A model with test rows, three of which are of a group that it has not seen."""
    table = make_table(320)
    unlearner = make().fit(table.X[:200], table.y[:200], table.a[:200]).unlearn(FORGET)
    X, y, a = table.X[200:], table.y[200:], table.a[200:].astype(object)
    wrong = np.flatnonzero(unlearner.predict(X) != y)[:3]
    a[wrong] = "unknown"
    return unlearner, X, y, a, a != "unknown"


def test_groups_that_fit_has_not_seen_are_named_and_do_not_decide(measured):
    unlearner, X, y, a, known = measured
    known_rows = (X[known], y[known], a[known].astype(int))
    expected = measure(unlearner, *known_rows, n_bootstrap=5)
    with pytest.warns(UserWarning, match=r"has not seen.*\{'unknown': 3\}.*do not count"):
        scores = measure(unlearner, X, y, a, n_bootstrap=5)
    assert scores.left_out == {"unknown": 3} and scores.n_rows == len(y) - 3
    assert {n: s.value for n, s in scores.metrics.items()} == {
        n: s.value for n, s in expected.metrics.items()
    }
    for scorer in (eo_scorer, wg_scorer):
        with pytest.warns(UserWarning, match=r"\{'unknown': 3\}"):
            found = scorer(unlearner, X, y, groups=a)
        assert found == scorer(unlearner, *known_rows[:2], groups=known_rows[2])


@pytest.mark.parametrize("use", [measure, lambda u, X, y, a: eo_scorer(u, X, y, groups=a)])
def test_labels_that_fit_has_not_seen_are_refused(measured, use):
    unlearner, X, y, _, _ = measured
    for wrong in (y + 5, [None] * 120):
        with pytest.raises(ValueError, match=r"mix |not there when fitting|missing label"):
            use(unlearner, X, wrong, np.zeros(120, dtype=int))


# the classes of a trained net ---------------------------------------------------------------------

ORDER = np.array(["cat", "dog", "ant"])


@pytest.fixture
def trained():
    """A net trained on cat=0, dog=1, ant=2, which skorch knows as 0, 1, 2."""
    table = make_table(300, n_classes=3)
    table.X[np.arange(table.n), table.y] += 6
    return make_net(module__n_classes=3, max_epochs=10).fit(table.X, table.y), table


def given_order(net):
    return net.set_params(classes=ORDER.tolist())


def inferred_order(net):
    net.classes_inferred_ = ORDER
    return net


def of_an_unlearner(net):
    table = make_table(300, n_classes=3)
    return NoOpUnlearner(FrozenEstimator(given_order(net))).fit(table.X, ORDER[table.y], table.a)


@pytest.mark.parametrize("say", [given_order, inferred_order, of_an_unlearner])
def test_the_order_of_a_trained_nets_classes_is_kept(trained, tmp_path, say):
    net, table = trained
    names = ORDER[table.y]
    unlearner = FineTuneUnlearner(FrozenEstimator(say(net)), max_epochs=1, random_state=0)
    unlearner.fit(table.X, names, table.a)
    assert unlearner.score(table.X, names) > 0.9 and unlearner.classes_.tolist() == ORDER.tolist()
    unlearner.unlearn(FORGET)
    save(unlearner, tmp_path / "model")
    loaded = load(tmp_path / "model", make_net(module__n_classes=3))
    again = unlearner.fit(table.X, names, table.a)
    assert min(one.score(table.X, names) for one in (loaded, again)) > 0.9


def test_an_order_that_cannot_be_told_is_asked_for(trained):
    net, table = trained
    frozen = FrozenEstimator(net)
    with pytest.raises(ValueError, match=r"knows the classes \[0, 1, 2\].*set net.classes"):
        NoOpUnlearner(frozen).fit(table.X, ORDER[table.y], table.a)
    del net.classes_inferred_
    with pytest.warns(UserWarning, match=r"less than the \d+\.\d% of guessing.*set net.classes"):
        NoOpUnlearner(frozen).fit(table.X, ORDER[table.y], table.a)
    NoOpUnlearner(frozen).fit(table.X, table.y, table.a)
