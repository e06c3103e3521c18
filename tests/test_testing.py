"""The checks of unlearners pass one that is right, and find each of many mistakes."""

import copy
import importlib.util
import pickle
import re
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from grmu_sk import FineTuneUnlearner, testing
from grmu_sk.base import BaseUnlearner
from grmu_sk.net_copies import fresh_net
from grmu_sk.rows import map_tensors
from grmu_sk.testing import check_unlearner, parametrize_with_checks
from grmu_sk.training import Phase, train


class Retrain(BaseUnlearner):
    """A third party's method: it trains a new net on the rows that remain."""

    def _unlearn(self, request):
        self._spoil(request)
        return self._train_in(request, [Phase("retain", request.retain)])

    def _spoil(self, request):
        """Where most mistakes below are made."""

    def _train_in(self, request, phases):
        net, given = fresh_net(request.net, weights_from=None), {"progress": request.progress}
        return train(net, request.data, phases, epochs=2, validation=request.validation, **given)


# mistakes ----------------------------------------------------------------------------------------


class IgnoresTheSeed(Retrain):
    def _spoil(self, request):
        torch.manual_seed(0)


class TrainsOnForgottenRows(Retrain):
    def _unlearn(self, request):
        return self._train_in(request, [Phase("retain", request.train)])


class CastsEverything(Retrain):
    def _train_in(self, request, phases):
        data = copy.copy(request.data)
        data.cast = lambda X: map_tensors(torch.Tensor.float, X)
        return super()._train_in(replace(request, data=data), phases)


class IsNotCumulative(Retrain):
    """Goes back to all rows of ``fit`` for the second request."""

    def _unlearn(self, request):
        self.all_ = getattr(self, "all_", request.data)
        net = fresh_net(request.net, weights_from=None)
        phases = [Phase("retain", np.setdiff1d(self.all_.rows, request.forget))]
        return train(net, self.all_, phases, epochs=2)


class KeepsWeightsInAFunction(Retrain):
    """Nothing of it is in the pickle."""

    def _spoil(self, request):
        teacher = fresh_net(request.net).module_
        self._teacher = lambda X: teacher(X)

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "_teacher"}


class DoesNotUnlearn(Retrain):
    def _unlearn(self, request):
        return request.net

    def _warn_if_nothing_changed(self, *args):
        pass


class KeepsRowsInAnObject(Retrain):
    def _spoil(self, request):
        self.rows_ = request.data.X.astype(np.float64)

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "rows_"}


class StoresDataAgainstOrders(Retrain):
    def fit(self, X, *args, **kwargs):
        self.train_ = np.array(X)
        return super().fit(X, *args, **kwargs)


class IsNotDeterministic(Retrain):
    def _unlearn(self, request):
        net = super()._unlearn(request)
        with torch.no_grad():
            noise = np.random.default_rng().normal(size=tuple(net.module_.head.weight.shape))
            net.module_.head.weight += torch.as_tensor(noise, dtype=torch.float32)
        return net


class WritesIntoX(Retrain):
    def fit(self, X, *args, **kwargs):
        super().fit(X, *args, **kwargs)
        X -= X.mean(axis=0)
        return self


class CountsBesideTheNet(Retrain):
    def _unlearn(self, request):
        seen = []

        def loss(batch):
            seen.append(len(batch.y))
            return batch.criterion() / len(seen)

        return self._train_in(request, [Phase("retain", request.retain, loss=loss)])


class MarksBeforeItIsDone(Retrain):
    def unlearn(self, forget, **data):
        self.asked_ = np.asarray(forget)
        return super().unlearn(forget, **data)


class AcceptsNaN(Retrain):
    def _train_in(self, request, phases):
        try:
            return super()._train_in(request, phases)
        except FloatingPointError:
            return fresh_net(request.net, weights_from=None)


class TakesMasksForRowNumbers(Retrain):
    def unlearn(self, forget, **data):
        return super().unlearn(np.unique(np.asarray(forget).astype(int)), **data)


class ReturnsNothing(Retrain):
    def unlearn(self, forget, **data):
        super().unlearn(forget, **data)


class KeepsMomentum(Retrain):
    def _adopt(self, net):
        super()._adopt(net)
        self.net_.optimizer_ = net.optimizer_


class TrainsTheGivenModule(Retrain):
    def _unlearn(self, request):
        module = self.estimator.module
        module = module() if isinstance(module, types.FunctionType) else module
        if isinstance(module, torch.nn.Module):
            module.head.weight.data.mul_(0.5)
        return super()._unlearn(request)


class ChangesFrozenLayers(Retrain):
    def _train_in(self, request, phases):
        net = super()._train_in(request, phases)
        for weight in net.module_.parameters():
            weight.data.add_(1)
        return net


CALLERS = "check_what_is_the_callers_is_not_modified"
READ = "check_rows_are_read_where_declared"
ROWS, WEIGHTS = "check_no_trace_of_forgotten_rows", "check_no_trace_of_original_weights"
FOUND_BY = [
    (ReturnsNothing, "check_unlearn", "does not return the object itself"),
    (WritesIntoX, CALLERS, "changed X"),
    (IsNotDeterministic, "check_same_result", "same random_state differ"),
    (IgnoresTheSeed, "check_same_result", "makes no difference"),
    (TakesMasksForRowNumbers, "check_ways_to_ask_agree", "forgets other rows"),
    (CastsEverything, "check_extra_inputs", "with a mask give other predictions"),
    (IsNotCumulative, READ, "rows that were forgotten before"),
    (TrainsOnForgottenRows, READ, "phase(s) ['retain']"),
    (KeepsRowsInAnObject, ROWS, "row 40 is still in the object"),
    (KeepsWeightsInAFunction, WEIGHTS, "still in the object"),
    (DoesNotUnlearn, WEIGHTS, "still in the pickle"),
    (KeepsMomentum, WEIGHTS, "state of training"),
    (StoresDataAgainstOrders, "check_unstored_data", "store_data=False stores rows"),
    (MarksBeforeItIsDone, "check_refusals", "the request [160] changed the object"),
    (AcceptsNaN, "check_refusals", "FloatingPointError not raised"),
    (CountsBesideTheNet, "check_interruption", "gives other weights"),
    (TrainsTheGivenModule, "check_given_modules", "that was passed as module"),
    (ChangesFrozenLayers, "check_given_modules", "a frozen layer was changed"),
]


@parametrize_with_checks([Retrain()])
def test_a_third_partys_unlearner_passes(unlearner, check):
    check(unlearner)


@pytest.mark.parametrize(
    ("broken", "check", "message"), FOUND_BY, ids=[row[0].__name__ for row in FOUND_BY]
)
def test_each_mistake_is_found(broken, check, message):
    # the same check has nothing against the method without the mistake, see above
    with pytest.raises(AssertionError, match=f"^{broken.__name__}: .*{re.escape(message)}"):
        getattr(testing, check)(broken())


# how they are run --------------------------------------------------------------------------------


def test_all_checks_are_run_and_the_instance_is_not_modified():
    unlearner = FineTuneUnlearner(max_epochs=1, random_state=3)
    before = pickle.dumps(unlearner)
    pairs = parametrize_with_checks([unlearner]).args[1]
    assert all(one is unlearner for one, _ in pairs)
    written = {name for name in dir(testing) if name.startswith("check_")}
    assert {check.__name__ for _, check in pairs} == written - {"check_unlearner"}
    with pytest.raises(AssertionError, match="does not return the object itself"):
        check_unlearner(ReturnsNothing())
    assert pickle.dumps(unlearner) == before


def test_without_pytest(monkeypatch):
    """A package that is used has no pytest."""
    monkeypatch.setitem(sys.modules, "pytest", None)
    spec = importlib.util.find_spec("grmu_sk.testing")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
