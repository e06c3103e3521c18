"""What goes wrong in the middle of a phase leaves no trace: each phase of each method.

The fault is put into the middle of the phase's own operations of torch, wherever that is.
"""

import copy
import pickle
from contextlib import contextmanager

import pytest
import torch
from conftest import EVERY_METHOD, make_net, make_table, weights_of
from torch.overrides import TorchFunctionMode

from grmu_sk import training
from grmu_sk.unlearners import all_unlearners

FORGET = [3, 9, 17]
SHORT = {"max_epochs": 1, "forget_epochs": 1, "tune_updates": (1, 1), "n_shards": 2}
SHORT |= {"n_fisher": 8, "fisher_batch_size": 8}
FAULTS = {
    "torch's memory": torch.OutOfMemoryError("CUDA out of memory."),
    "memory": MemoryError("no memory left"),
    "Ctrl-C": KeyboardInterrupt(),
}
METHODS = {name: method for name, method in all_unlearners() if method._changes_net}
#: Those with phases or operations of their own; ``make test-all`` tries the others as well.
OWN = ("bad_teacher", "boundary_expand", "group_dro", "influence", "miu", "salun", "sisa", "ssd")
TRIED = [name for name in METHODS if EVERY_METHOD or name in OWN]


def bits(unlearner):
    return [weight.tobytes() for weight in weights_of(unlearner)]


class Operations(TorchFunctionMode):
    """Counts the operations of torch inside of a block, and breaks one of them."""

    def __init__(self, fault=None, at=None):
        super().__init__()
        self.fault, self.at = fault, at
        self.count = self.n_poisoned = 0

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
    """A fitted unlearner, what an undisturbed request makes of it, and operations by phase."""
    table, made = make_table(48, seed=1), {}

    def get(name):
        if name not in made:
            method = METHODS[name]
            known = {key: value for key, value in SHORT.items() if key in method._get_param_names()}
            net = make_net(module__hidden=(6,), max_epochs=1, batch_size=16)
            fitted = method(net, random_state=0, **known).fit(table.X, table.y, table.a)
            with watched(pytest.MonkeyPatch()) as seen:
                watched_one = copy.deepcopy(fitted).unlearn(FORGET)
            undisturbed = bits(copy.deepcopy(fitted).unlearn(FORGET))
            assert bits(watched_one) == undisturbed != bits(fitted), "watching changes nothing"
            counts = {phase: operations.count for phase, operations in seen.items()}
            assert counts and min(counts.values()) > 1
            made[name] = fitted, undisturbed, counts
        return made[name]

    return get


@pytest.mark.parametrize(
    ("name", "fault"),
    [*(("miu", fault) for fault in FAULTS), *((name, "memory") for name in TRIED if name != "miu")],
)
def test_fault_in_a_phase_changes_nothing(name, fault, start, monkeypatch):
    fitted, undisturbed, counts = start(name)
    error = FAULTS[fault]
    for phase, count in counts.items():
        unlearner = copy.deepcopy(fitted)
        before, random_state = pickle.dumps(unlearner), torch.get_rng_state()
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


@pytest.mark.parametrize("name", TRIED)
def test_nan_in_a_phase_is_found(name, start, monkeypatch):
    fitted, _, counts = start(name)
    n_found = 0
    for phase, count in counts.items():
        unlearner = copy.deepcopy(fitted)
        before = pickle.dumps(unlearner)
        with watched(monkeypatch, phase, fault="NaN", at=1 + count // 4) as seen:
            try:
                unlearner.unlearn(FORGET)
            except FloatingPointError as error:
                assert phase in str(error) and pickle.dumps(unlearner) == before
                n_found += 1
            else:  # the phase computed nothing with the net from there on
                assert seen[phase].n_poisoned == 0, f"{phase} was poisoned, and nobody noticed"
    assert n_found, "no phase of the method was tried"


def test_fault_while_fitting_leaves_it_unfitted(monkeypatch):
    table, unlearner = make_table(48), METHODS["miu"](make_net(max_epochs=1), random_state=0)
    before = pickle.dumps(unlearner)
    with watched(monkeypatch, "fit", fault=FAULTS["memory"], at=20), pytest.raises(MemoryError):
        unlearner.fit(table.X, table.y, table.a)
    assert pickle.dumps(unlearner) == before and not hasattr(unlearner, "net_")
