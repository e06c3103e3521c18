"""What every registered method keeps. A new method is tested without an edit here."""

import numpy as np
import pytest
import torch
from conftest import EVERY_METHOD, fitted, make_net, make_table, same_weights, state_of, weights_of
from skorch import NeuralNetBinaryClassifier
from torch import nn

from grmu_sk import FineTuneUnlearner
from grmu_sk.base import Request
from grmu_sk.nets import MLP
from grmu_sk.testing import ALL_CHECKS
from grmu_sk.unlearners import all_unlearners

METHODS = dict(all_unlearners())
SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2)}
FIRST = [40, 41, 50]
#: Checks of what the base class and the loop do by themselves. A few methods, of which some have a
#: ``fit`` or a net of their own, stand for all there; ``make test-all`` checks every method.
OF_THE_BASE = """
    check_unlearn check_what_is_the_callers_is_not_modified check_same_result
    check_ways_to_ask_agree check_unstored_data check_given_modules
""".split()  # noqa: SIM905
STAND_FOR_ALL = ("fine_tune", "miu", "sisa")
#: Those with more state than a net while they train.
WITH_STATE = (*STAND_FOR_ALL, "bad_teacher", "boundary_expand", "group_dro", "salun")
RUN_ON = dict.fromkeys(OF_THE_BASE, STAND_FOR_ALL)
RUN_ON |= dict.fromkeys(("check_interruption", "check_refusals"), WITH_STATE)


def make(method, net=None, **kwargs):
    """The method with few epochs, whatever its parameters are called."""
    known = method._get_param_names()
    short = {name: value for name, value in SHORT.items() if name in known}
    return method(make_net() if net is None else net, random_state=0, **{**short, **kwargs})


def has(*names):
    """The names of methods that have these parameters."""
    return [name for name, cls in METHODS.items() if set(names) <= set(cls._get_param_names())]


def contract():
    for name, method in METHODS.items():
        for check in ALL_CHECKS:
            what = check.__name__
            if EVERY_METHOD or name in RUN_ON.get(what, METHODS):
                yield pytest.param(make(method), check, id=f"{name}-{what}")


@pytest.mark.parametrize(("unlearner", "check"), contract())
def test_unlearner_check(unlearner, check):
    check(unlearner)


@pytest.mark.parametrize("name", has("lr", "batch_size"))
def test_learning_rate_and_batch_size_are_of_the_run_only(name, table):
    runs = [
        make(METHODS[name], lr=lr, batch_size=10).fit(table.X, table.y, table.a).unlearn(FIRST)
        for lr in (0.001, 0.01)
    ]
    assert not same_weights(*runs)
    assert runs[0].history_[-1, "train_batch_count"] in (1, 2, 5, 16), "not over batches of 32"
    assert (runs[0].net_.lr, runs[0].net_.batch_size) == (0.05, 32)


#: Others put the weights into a formula, or draw from a shard: see their own tests.
DRAWING = sorted({*has("reweight")} - {"influence", "ssd", "sisa"})


@pytest.mark.parametrize("name", DRAWING)
def test_reweight_draws_as_many_rows_with_replacement(name, table, row_spy, spy):
    """By weights that give a group its share back; "uniform" is the control with equal ones."""
    params = {"max_epochs": 1, "retaining": True, "retain_share": 1.0}
    params = {key: value for key, value in params.items() if name in has(key)}
    asked = spy(Request, "retain_weights", lambda weights, _, reweight: (reweight, weights))
    forget = np.flatnonzero((table.y == 1) & (table.a == 1))[10:]
    n_left = table.n - len(forget)
    for reweight in (False, True, "uniform"):
        unlearner = make(METHODS[name], make_net(max_epochs=1), reweight=reweight, **params)
        needs_groups = reweight is True or name == "miu"  # whose losses need them
        unlearner.fit(table.X, table.y, table.a if needs_groups else None)
        row_spy.clear()
        unlearner.unlearn(forget)
        drawn = row_spy.drawn("retain", "retrain", "forget_retain", "teach")
        drawn = drawn[~np.isin(drawn, forget)]
        assert len(drawn) == n_left
        assert (len(set(drawn)) < n_left) == bool(reweight)
    weights = dict(asked)
    assert weights[False] is None and np.ptp(weights[True]) > 2 / n_left
    np.testing.assert_allclose(weights["uniform"], np.full(n_left, 1 / n_left))


class Probabilities(MLP):
    """Returns probabilities, as NLLLoss nets of skorch do."""

    def forward(self, X):
        return torch.softmax(super().forward(X), dim=1)


@pytest.mark.parametrize("name", METHODS)
def test_probabilities_and_logits_agree(name, table):
    sizes = {"module__n_features": 4, "module__hidden": (16,)}
    found = [
        make(METHODS[name], net).fit(table.X, table.y, table.a).unlearn(FIRST)
        for net in (make_net(Probabilities, criterion=nn.NLLLoss, **sizes), make_net())
    ]
    for one, other in zip(*map(weights_of, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_single_logit(name, table):
    options = {"lr": 0.5, "max_epochs": 8, "train_split": None, "verbose": 0}
    net = NeuralNetBinaryClassifier(MLP, module__n_features=4, module__n_classes=1, **options)
    is_new = "retrain" in name or name == "eu_k"  # and has to learn again
    params = {"lr": 0.01} if name in has("lr") and not is_new else {}
    params |= {"max_epochs": 8} if "retrain" in name and name in has("max_epochs") else {}
    unlearner = make(METHODS[name], net, **params)
    unlearner.fit(table.X, table.y, table.a).unlearn(FIRST)
    assert unlearner.score(table.X, table.y) > 0.6


@pytest.mark.parametrize("name", ["bad_teacher", "boundary_shrink", "miu", "scrub"])
def test_stored_and_repeated_answers_of_the_original_agree(name, table, monkeypatch):
    stored = make(METHODS[name]).fit(table.X, table.y, table.a).unlearn(FIRST)
    monkeypatch.setattr("grmu_sk.rows.TrainingRows.is_augmented", True)
    repeated = make(METHODS[name]).fit(table.X, table.y, table.a).unlearn(FIRST)
    for one, other in zip(weights_of(stored), weights_of(repeated), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["influence", "ssd"])
def test_one_step_leaves_statistics_of_batch_norm(name, image_net):
    images = make_table(n_rows=96, images=True)
    params = {"selection_weighting": 0.1} if name == "ssd" else {}
    unlearner = make(METHODS[name], image_net, **params).fit(images.X, images.y, images.a)
    before = state_of(unlearner.net_)
    after = state_of(unlearner.unlearn([40, 41]).net_)
    same = {key for key, value in before.items() if torch.equal(value, after[key])}
    assert same >= {key for key in before if "running" in key or "tracked" in key} > set()
    assert len(same) < len(before)


def test_each_request_draws_anew_by_the_seed(table, row_spy):
    orders = set()
    for seed in (0, 1):
        unlearner = fitted(FineTuneUnlearner, table, max_epochs=1, random_state=seed)
        for request in ([40], [41]):
            row_spy.clear()
            unlearner.unlearn(request)
            orders.add(tuple(np.argsort(row_spy.drawn("retain")[:50])))
    assert len(orders) == 4
