"""The contract that every registered method keeps. A new method is tested without an edit here."""

import pickle

import numpy as np
import pytest
from conftest import make_net, make_table, same_weights

from grmu_sk import FineTuneUnlearner
from grmu_sk.nets import SmallCNN
from grmu_sk.persistence import load, save
from grmu_sk.unlearners import all_unlearners
from grmu_sk.utils.estimator_checks import parametrize_with_checks

METHODS = [pytest.param(cls, id=name) for name, cls in all_unlearners()]
SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2)}
FIRST = [40, 41, 50]

every_method = pytest.mark.parametrize("method", METHODS)


def make(method, net=None, **kwargs):
    """The method with few epochs, whatever its parameters are called."""
    known = method._get_param_names()
    short = {name: value for name, value in SHORT.items() if name in known}
    return method(make_net() if net is None else net, random_state=0, **{**short, **kwargs})


@parametrize_with_checks([make(cls) for _, cls in all_unlearners()])
def test_unlearner_check(unlearner, check):
    check(unlearner)


# what is promised of the package's own methods alone ---------------------------------------------


@every_method
def test_history_names_the_epochs_of_fit(method, table):
    history = make(method).fit(table.X, table.y, table.a).history_
    assert history[:, ("epoch", "phase")] == [(1, "fit"), (2, "fit"), (3, "fit")]


@every_method
def test_file_round_trip(method, table, tmp_path):
    unlearner = make(method).fit(table.X, table.y, table.a).unlearn(FIRST)
    save(unlearner, tmp_path / "model.grmu")
    loaded = load(tmp_path / "model.grmu", make_net())
    assert same_weights(unlearner, loaded)


@every_method
def test_nan_loss_names_the_place(method, table):
    unlearner = make(method).fit(table.X, table.y, table.a)
    before = pickle.dumps(unlearner)
    held = unlearner._data.X.copy()
    unlearner._data.X[:] = np.nan
    if method._changes_net:
        with pytest.raises(FloatingPointError, match=r"in phase '\w+', epoch \d+, batch \d+"):
            unlearner.unlearn(FIRST)
    unlearner._data.X[:] = held
    assert pickle.dumps(unlearner) == before


@every_method
def test_whole_group_leaves_reweight_nothing_to_sample(method, table):
    if "reweight" not in method._get_param_names():
        return
    group = np.flatnonzero((table.y == 1) & (table.a == 0))
    unlearner = make(method, reweight=True).fit(table.X, table.y, table.a)
    before = pickle.dumps(unlearner)
    with pytest.raises(ValueError, match=r"nothing to sample for the group\(s\) \[\(1, 0\)\]"):
        unlearner.unlearn(group)
    assert pickle.dumps(unlearner) == before
    make(method, reweight=False).fit(table.X, table.y, table.a).unlearn(group)


EMPTY = {
    "list": [],
    "set": set(),
    "row numbers": np.array([], dtype=np.int64),
    "mask": np.zeros(160, dtype=bool),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_a_request_of_no_rows_changes_nothing(kind, table):
    unlearner = make(FineTuneUnlearner).fit(table.X, table.y, table.a)
    before = pickle.dumps(unlearner)
    with pytest.warns(UserWarning, match="forget is empty"):
        unlearner.unlearn(EMPTY[kind])
    assert pickle.dumps(unlearner) == before


def test_numbers_of_another_kind_are_refused_even_if_there_are_none(table):
    unlearner = make(FineTuneUnlearner).fit(table.X, table.y, table.a)
    with pytest.raises(ValueError, match="row numbers must be integers"):
        unlearner.unlearn(np.array([], dtype=complex))


@every_method
def test_images_and_batch_norm(method, image_net):
    table = make_table(n_rows=96, images=True)
    unlearner = make(method, image_net).fit(table.X, table.y, table.a).unlearn([40, 41])
    assert unlearner.score(table.X, table.y) > 0.5


@every_method
def test_default_net_of_images_is_convolutional(method):
    images = make_table(n_rows=80, images=True)
    unlearner = make(method).set_params(estimator=None).fit(images.X, images.y, images.a)
    assert any(isinstance(layer, SmallCNN) for layer in unlearner.net_.module_.modules())
