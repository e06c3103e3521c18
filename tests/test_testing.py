"""The checks of unlearners pass one that is right, and find each of many mistakes."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from grmu_sk import FineTuneUnlearner, testing
from grmu_sk.base import BaseUnlearner
from grmu_sk.rows import map_tensors
from grmu_sk.testing import check_unlearner, parametrize_with_checks
from grmu_sk.training import Phase, fresh_net, train


class Retrain(BaseUnlearner):
    """A third party's method: it trains a new net on the rows that remain."""

    def _unlearn(self, request):
        return self._run(request, fresh_net(request.net, weights_from=None), request.retain)

    def _run(self, request, net, rows):
        return self._train_in(request, net, [Phase("retain", rows)])

    def _train_in(self, request, net, phases):
        return train(
            net,
            request.data,
            phases,
            epochs=2,
            validation=request.validation,
            progress=request.progress,
        )


class OwnLoop(BaseUnlearner):
    """Another, with a loop of its own and a declared look at the rows to forget."""

    _phases_that_read_forgotten = ("setup",)

    def __init__(
        self,
        estimator=None,
        *,
        step=0.01,
        random_state=None,
        store_data=True,
        keep_forgotten=False,
    ):
        super().__init__(
            estimator,
            random_state=random_state,
            store_data=store_data,
            keep_forgotten=keep_forgotten,
        )
        self.step = step

    def _unlearn(self, request):
        net, data = request.net, request.data
        losses = [self._step(net, data, request.forget, -1), self._step(net, data, request.retain)]
        net.history.new_epoch()
        for key, value in {"epoch": 1, "phase": "own", "train_loss": losses[1]}.items():
            net.history.record(key, value)
        return net

    def _step(self, net, data, rows, sign=1):
        X, y, _ = data.__getitems__(data.positions(rows))
        net.module_.eval()
        loss = net.criterion_(net.infer(X), y)
        if not torch.isfinite(loss):
            raise FloatingPointError("the loss is NaN")
        net.module_.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight in filter(lambda weight: weight.requires_grad, net.module_.parameters()):
                weight -= sign * self.step * weight.grad
                weight.grad = None
        return float(loss.detach())


# mistakes ----------------------------------------------------------------------------------------


class TrainsOnForgottenRows(Retrain):
    def _unlearn(self, request):
        return self._run(request, fresh_net(request.net, weights_from=None), request.train)


class ReadsForgottenRowsBesidesTheLoader(Retrain):
    def _unlearn(self, request):
        X = request.data.X
        self.mean_ = np.mean([float(X[row][0].mean()) for row in request.forget])
        return super()._unlearn(request)


class CastsEverything(OwnLoop):
    def _step(self, net, data, rows, sign=1):
        infer, net.infer = net.infer, lambda X: infer(map_tensors(torch.Tensor.float, X))
        loss = super()._step(net, data, rows, sign)
        del net.__dict__["infer"]
        return loss


class IsNotCumulative(Retrain):
    """Goes back to all rows of ``fit`` for the second request."""

    def _unlearn(self, request):
        self.all_ = getattr(self, "all_", request.data)
        net = fresh_net(request.net, weights_from=None)
        phases = [Phase("retain", np.setdiff1d(self.all_.rows, request.forget))]
        return train(net, self.all_, phases, epochs=2)


class ForgetsEarlierRequests(Retrain):
    def unlearn(self, forget, **data):
        super().unlearn(forget, **data)
        self.forget_idx_ = np.asarray(forget)
        return self


class UnlearnsTwice(Retrain):
    """Trains again even if all rows are forgotten already."""

    def unlearn(self, forget, **data):
        super().unlearn(forget, **data)
        if hasattr(self, "seen_") and set(forget) <= self.seen_:
            with torch.no_grad():
                self.net_.module_.head.weight.mul_(0.99)
        self.seen_ = {*getattr(self, "seen_", ()), *forget}
        return self


class KeepsWeights(Retrain):
    def _unlearn(self, request):
        self.original_ = {k: v.clone() for k, v in request.net.module_.state_dict().items()}
        return super()._unlearn(request)


class KeepsWeightsInAFunction(Retrain):
    """Nothing of it is in the pickle."""

    def _unlearn(self, request):
        teacher = fresh_net(request.net).module_
        self._teacher = lambda X: teacher(X)
        return super()._unlearn(request)

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "_teacher"}


class KeepsWeightsInItsClass(Retrain):
    cache = {}

    def _unlearn(self, request):
        self.cache["net"] = fresh_net(request.net)
        return super()._unlearn(request)


class DoesNotUnlearn(Retrain):
    def _unlearn(self, request):
        return request.net

    def _warn_if_nothing_changed(self, *args):
        pass


class KeepsRows(Retrain):
    def _unlearn(self, request):
        self.rows_ = request.data.X[:]
        return super()._unlearn(request)


class KeepsAView(Retrain):
    """The first column, and with it the whole array."""

    def _unlearn(self, request):
        self.scale_ = request.data.X[:, 0] if not request.data.is_lazy else None
        return super()._unlearn(request)

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "scale_"}


class KeepsRowsAsDoubles(Retrain):
    def _unlearn(self, request):
        if not request.data.is_lazy:
            self.rows_ = request.data.X.astype(np.float64)
        return super()._unlearn(request)


class StoresDataAgainstOrders(Retrain):
    def fit(self, X, y, groups=None, *, forget=None, sample_weight=None):
        super().fit(X, y, groups, forget=forget, sample_weight=sample_weight)
        self.train_ = np.array(X)
        return self


class IsNotDeterministic(Retrain):
    def _unlearn(self, request):
        net = super()._unlearn(request)
        with torch.no_grad():
            noise = np.random.default_rng().normal(size=tuple(net.module_.head.weight.shape))
            net.module_.head.weight += torch.as_tensor(noise, dtype=torch.float32)
        return net


class IgnoresTheSeed(Retrain):
    def _unlearn(self, request):
        torch.manual_seed(0)
        return super()._unlearn(request)


class SeedsTheCaller(Retrain):
    def fit(self, X, y, groups=None, *, forget=None, sample_weight=None):
        torch.manual_seed(self.random_state or 0)
        return super().fit(X, y, groups, forget=forget, sample_weight=sample_weight)


class PredictsWithDropout(Retrain):
    def predict_log_proba(self, X):
        noise = np.random.default_rng().normal(scale=1e-3, size=(len(X), 1))
        return super().predict_log_proba(X) * (1 + noise)


class MutatesEstimator(Retrain):
    def _unlearn(self, request):
        self.estimator.set_params(max_epochs=1)
        return super()._unlearn(request)


class TrainsTheFrozenNet(Retrain):
    def _unlearn(self, request):
        net = getattr(self.estimator, "estimator", None)
        if net is not None:
            net.module_.head.bias.data.add_(1)
        return super()._unlearn(request)


class SetsItsParameters(Retrain):
    def fit(self, X, y, groups=None, *, forget=None, sample_weight=None):
        super().fit(X, y, groups, forget=forget, sample_weight=sample_weight)
        self.random_state = self.seed_ + 1
        return self


class WritesIntoX(Retrain):
    def fit(self, X, y, groups=None, *, forget=None, sample_weight=None):
        super().fit(X, y, groups, forget=forget, sample_weight=sample_weight)
        X -= X.mean(axis=0)
        return self


class IsHalfFinishedOnError(Retrain):
    """Trains the net that predicts, instead of a copy of it."""

    def _unlearn(self, request):
        train(self.net_, request.data, [Phase("retain", request.retain)], epochs=2)
        return fresh_net(self.net_)


class SwallowsCtrlC(Retrain):
    def _unlearn(self, request):
        try:
            return super()._unlearn(request)
        except KeyboardInterrupt:
            return request.net


class CountsBesideTheNet(Retrain):
    def _run(self, request, net, rows):
        seen = []

        def loss(batch):
            seen.append(len(batch.y))
            return batch.criterion() / len(seen)

        return self._train_in(request, net, [Phase("retain", rows, loss=loss)])


class MarksBeforeItIsDone(Retrain):
    def unlearn(self, forget, **data):
        self.asked_ = np.asarray(forget)
        return super().unlearn(forget, **data)


class AcceptsNaN(OwnLoop):
    def _step(self, net, data, rows, sign=1):
        try:
            return super()._step(net, data, rows, sign)
        except FloatingPointError:
            return 0.0


class TakesMasksForRowNumbers(Retrain):
    def unlearn(self, forget, **data):
        return super().unlearn(np.unique(np.asarray(forget).astype(int)), **data)


class ReturnsNothing(Retrain):
    def unlearn(self, forget, **data):
        super().unlearn(forget, **data)


class AcceptsAnyRow(Retrain):
    def unlearn(self, forget, **data):
        rows = np.asarray(forget)
        known = len(self.forget_idx_) + len(self.remaining_idx_)
        return super().unlearn(rows[rows < known] if rows.dtype.kind == "i" else rows, **data)


class PredictsPositions(Retrain):
    def predict(self, X):
        return self.predict_proba(X).argmax(axis=1)


class ReplacesHistory(Retrain):
    def _adopt(self, net):
        super()._adopt(net)
        self.net_.history = self.history_ = net.history


class KeepsMomentum(Retrain):
    def _adopt(self, net):
        super()._adopt(net)
        self.net_.optimizer_ = net.optimizer_


class LeavesAHook(Retrain):
    def _adopt(self, net):
        super()._adopt(net)
        self.net_.module_.head.register_forward_hook(print_nothing)


def print_nothing(*_):
    return None


class WantsNoGroups(Retrain):
    __metadata_request__fit = {"groups": False}


class WarnsAlways(Retrain):
    def _unlearn(self, request):
        request.net.set_params(max_epochs=1)
        np.log(np.zeros(1))
        return super()._unlearn(request)


class LacksAParameter(BaseUnlearner):
    def __init__(self, estimator=None, *, random_state=None, store_data=True):
        super().__init__(estimator, random_state=random_state, store_data=store_data)

    _unlearn = Retrain._unlearn


class CopiesLoseASetting(OwnLoop):
    def fit(self, X, y, groups=None, *, forget=None, sample_weight=None):
        self.momentum = 0.5
        return super().fit(X, y, groups, forget=forget, sample_weight=sample_weight)

    def _unlearn(self, request):
        self.momentum += 0.1
        self.step = self.step * getattr(self, "momentum", 0)
        return super()._unlearn(request)


class DeclaresTooLittle(OwnLoop):
    _phases_that_read_forgotten = ()


class DeclaresToKeepWeights(Retrain):
    _keeps_weights = True


READ = "check_forgotten_rows_are_read_where_declared"
FOUND_BY = [
    (LacksAParameter, "check_common_parameters", "does not take ['keep_forgotten']"),
    (ReturnsNothing, "check_unlearn_remembers_rows", "does not return the object itself"),
    (SetsItsParameters, "check_parameters_are_not_modified", "['random_state']"),
    (CopiesLoseASetting, "check_parameters_are_not_modified", "['step']"),
    (MutatesEstimator, "check_estimator_is_not_modified", "passed as estimator"),
    (TrainsTheFrozenNet, "check_estimator_is_not_modified", "inside FrozenEstimator"),
    (WritesIntoX, "check_inputs_are_not_modified", "changed X"),
    (WantsNoGroups, "check_metadata_routing", "does not request groups"),
    (WarnsAlways, "check_no_warning", "divide by zero"),
    (IsNotDeterministic, "check_deterministic", "same random_state differ"),
    (IgnoresTheSeed, "check_deterministic", "makes no difference"),
    (SeedsTheCaller, "check_caller_random_state", "torch: the caller's random state"),
    (PredictsWithDropout, "check_predictions_are_deterministic", "two predictions"),
    (ReplacesHistory, "check_history", "replaced the history"),
    (TakesMasksForRowNumbers, "check_mask_rows_and_fit_agree", "forgets other rows"),
    (CastsEverything, "check_extra_inputs", "with a mask give other predictions"),
    (IsNotCumulative, "check_requests_are_cumulative", "rows that were forgotten before"),
    (ForgetsEarlierRequests, "check_requests_are_cumulative", "lacks rows of one of them"),
    (UnlearnsTwice, "check_requests_are_idempotent", "changed the weights"),
    (TrainsOnForgottenRows, READ, "phase(s) ['retain']"),
    (ReadsForgottenRowsBesidesTheLoader, READ, "phase(s) ['setup']"),
    (DeclaresTooLittle, READ, "phase(s) ['setup']"),
    (DoesNotUnlearn, "check_nothing_changed_is_said", "says nothing"),
    (KeepsRows, "check_no_trace_of_forgotten_rows", "row 40 is still in the pickle"),
    (KeepsRowsAsDoubles, "check_no_trace_of_forgotten_rows", "row 40 is still in the pickle"),
    (KeepsAView, "check_no_trace_of_forgotten_rows", "row 40 is still in the object"),
    (KeepsWeights, "check_no_trace_of_original_weights", "still in the pickle"),
    (KeepsWeightsInAFunction, "check_no_trace_of_original_weights", "still in the object"),
    (KeepsWeightsInItsClass, "check_no_trace_of_original_weights", "still in the object"),
    (DoesNotUnlearn, "check_no_trace_of_original_weights", "still in the pickle"),
    (DeclaresToKeepWeights, "check_no_trace_of_original_weights", "no weight is kept"),
    (KeepsMomentum, "check_training_state_is_dropped", "state of training"),
    (LeavesAHook, "check_training_state_is_dropped", "hooks are left"),
    (StoresDataAgainstOrders, "check_unstored_data", "store_data=False stores rows"),
    (AcceptsAnyRow, "check_bad_requests", "should raise IndexError"),
    (MarksBeforeItIsDone, "check_bad_requests", "the request [160] changed the object"),
    (AcceptsNaN, "check_nan_loss", "does not raise FloatingPointError"),
    (IsHalfFinishedOnError, "check_interruption", "Ctrl-C at read 1 of"),
    (SwallowsCtrlC, "check_interruption", "is swallowed"),
    (CountsBesideTheNet, "check_resumption", "gives other weights"),
    (PredictsPositions, "check_labels_of_any_kind", "other labels"),
]


@parametrize_with_checks([Retrain(), OwnLoop(step=0.02)])
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


def test_all_checks_are_generated_and_importable():
    unlearner = Retrain()
    pairs = list(check_unlearner(unlearner, generate_only=True))
    assert all(one is unlearner for one, _ in pairs)
    names = [check.__name__ for _, check in pairs]
    written = {name for name in dir(testing) if name.startswith("check_")}
    assert sorted(names) == sorted(written - {"check_unlearner"})
    assert len(names) > 38 and all(check.__doc__ for _, check in pairs)


def test_the_first_mistake_is_raised():
    with pytest.raises(AssertionError, match="does not return the object itself"):
        check_unlearner(ReturnsNothing())


@pytest.mark.parametrize("given", [Retrain, LogisticRegression(), None])
def test_what_is_no_unlearner(given):
    with pytest.raises(TypeError, match="take an instance of an unlearner"):
        check_unlearner(given)
    with pytest.raises(TypeError, match="take an instance of an unlearner"):
        parametrize_with_checks([given])


def test_the_instance_is_not_modified():
    unlearner = FineTuneUnlearner(max_epochs=1, random_state=3)
    before = pickle.dumps(clone(unlearner))
    assert check_unlearner(unlearner) is None
    assert pickle.dumps(unlearner) == before


def test_without_pytest():
    """A package that is used has no pytest."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from grmu_sk import NoOpUnlearner\n"
        "from grmu_sk.testing import check_unlearner\n"
        "for unlearner, check in list(check_unlearner(NoOpUnlearner(), generate_only=True))[:5]:\n"
        "    check(unlearner)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
