"""What goes wrong in the middle of a phase leaves no trace: each phase of each method.

The fault is put into the middle of the phase's own operations of torch, wherever that is.
"""

import copy
import pickle
from contextlib import contextmanager

import pytest
import torch
from conftest import make_net, make_table, weights_of
from torch.overrides import TorchFunctionMode

from grmu_sk import training
from grmu_sk.unlearners import all_unlearners

SHORT = {
    "max_epochs": 1,
    "forget_epochs": 1,
    "tune_updates": (1, 1),
    "n_shards": 2,
    "n_fisher": 8,
    "fisher_batch_size": 8,
}
FAULTS = {
    "torch's memory": torch.OutOfMemoryError("CUDA out of memory."),
    "memory": MemoryError("no memory left"),
    "Ctrl-C": KeyboardInterrupt(),
}
METHODS = [(name, method) for name, method in all_unlearners() if method._changes_net]
FORGET = [3, 9, 17]
#: Every fault in the method with the most phases, and in the others the one that asks for no order.
TRIED = [("miu", fault) for fault in FAULTS]
TRIED += [(name, "memory") for name, _ in METHODS if name != "miu"]


def bits(unlearner):
    return [weight.tobytes() for weight in weights_of(unlearner)]


class Operations(TorchFunctionMode):
    """Counts the operations of torch inside of a block, and breaks one of them."""

    def __init__(self, fault=None, at=None):
        super().__init__()
        self.fault, self.at = fault, at
        self.count = 0
        self.n_poisoned = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.count += 1
        if self.at is not None and self.count >= self.at:
            if isinstance(self.fault, BaseException):
                self.at = None
                raise self.fault
            if function is torch.nn.functional.linear:
                self.n_poisoned += 1
                return result * float("nan")
        return result


@contextmanager
def watched(monkeypatch, phase_name=None, **fault):
    """Put the fault into the first phase of this name; yield the operations of each phase."""
    original, seen = training._run_phase, {}

    def run(net, data, phase, *rest):
        if phase.name in seen or phase_name not in (None, phase.name):
            return original(net, data, phase, *rest)
        with Operations(**fault) as operations:
            seen[phase.name] = operations
            return original(net, data, phase, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_run_phase", run)
        yield seen


@pytest.fixture(scope="module")
def start():
    """Fitted unlearners, and what an undisturbed request makes of them; one a method."""
    table, made = make_table(48, seed=1), {}

    def get(name, method):
        if name not in made:
            known = {key: value for key, value in SHORT.items() if key in method._get_param_names()}
            net = make_net(module__hidden=(6,), max_epochs=1, batch_size=16)
            fitted = method(net, random_state=0, **known).fit(table.X, table.y, table.a)
            made[name] = fitted, bits(copy.deepcopy(fitted).unlearn(FORGET))
        return made[name]

    return get


def phases_of(unlearner, monkeypatch):
    with watched(monkeypatch) as seen:
        copy.deepcopy(unlearner).unlearn(FORGET)
    assert seen
    return {name: operations.count for name, operations in seen.items()}


@pytest.mark.parametrize(("name", "fault"), TRIED)
def test_fault_in_a_phase_changes_nothing(name, fault, start, monkeypatch):
    fitted, undisturbed = start(name, dict(METHODS)[name])
    for phase, count in phases_of(fitted, monkeypatch).items():
        assert count > 1
        unlearner = copy.deepcopy(fitted)
        before, random_state = pickle.dumps(unlearner), torch.get_rng_state()
        error = FAULTS[fault]
        with (
            watched(monkeypatch, phase, fault=error, at=count // 2) as seen,
            pytest.raises(type(error)) as caught,
        ):
            unlearner.unlearn(FORGET)
        assert caught.value is error and list(seen) == [phase]
        assert pickle.dumps(unlearner) == before
        assert torch.equal(torch.get_rng_state(), random_state)
        # nothing of the broken request is in the way of the next one
        assert bits(unlearner.unlearn(FORGET)) == undisturbed


@pytest.mark.parametrize(("name", "method"), METHODS, ids=dict(METHODS))
def test_nan_in_a_phase_is_found(name, method, start, monkeypatch):
    fitted, _ = start(name, method)
    n_poisoned = 0
    for phase, count in phases_of(fitted, monkeypatch).items():
        unlearner = copy.deepcopy(fitted)
        before = pickle.dumps(unlearner)
        with watched(monkeypatch, phase, fault="NaN", at=1 + count // 4) as seen:
            try:
                unlearner.unlearn(FORGET)
            except FloatingPointError as error:
                assert phase in str(error)
            else:
                # the phase computed nothing with the net from there on
                assert seen[phase].n_poisoned == 0, f"{phase} was poisoned, and nobody noticed"
                continue
        n_poisoned += 1
        assert pickle.dumps(unlearner) == before
    assert n_poisoned, "no phase of the method was tried"


def test_fault_while_fitting_leaves_it_unfitted(monkeypatch):
    table = make_table(48)
    _, method = METHODS[0]
    unlearner = method(make_net(max_epochs=1), random_state=0)
    before = pickle.dumps(unlearner)
    for error in FAULTS.values():
        with watched(monkeypatch, "fit", fault=error, at=20), pytest.raises(type(error)):
            unlearner.fit(table.X, table.y, table.a)
        assert pickle.dumps(unlearner) == before and not hasattr(unlearner, "net_")


def test_control_operations_without_a_fault_change_nothing(start, monkeypatch):
    fitted, undisturbed = start(*METHODS[0])
    with watched(monkeypatch) as seen:
        unlearner = copy.deepcopy(fitted).unlearn(FORGET)
    assert all(operations.count > 1 for operations in seen.values())
    assert bits(unlearner) == undisturbed
    assert bits(fitted) != undisturbed
