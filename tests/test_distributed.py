"""Several processes give what one gives, and fail together."""

import pickle
import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import parallel_cases
import pytest
from conftest import FORKED
from skorch import NeuralNetClassifier
from skorch.hf import AccelerateMixin

from grmu_sk import MIUUnlearner
from grmu_sk.nets import MLP

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes have found out."""
    folder = tmp_path_factory.mktemp("processes")
    processes = [FORKED.Process(target=parallel_cases.main, args=(rank, folder)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0], "see what they printed"
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]


def distance(one, other):
    """The largest difference in weights, predictions and losses."""
    assert one.keys() == other.keys()
    return max(np.abs(one[part] - other[part]).max() for part in one)


def test_two_processes_give_what_one_gives(both, tmp_path):
    first, second = both
    cases = parallel_cases.cases(tmp_path)
    distances = {
        name: distance(first[name], parallel_cases.outcome(case)) for name, case in cases.items()
    }
    assert {name: d for name, d in distances.items() if not d <= TOLERANCE} == {}
    # the two hold the same bits, also where what they hold is not what one process would
    known = cases | parallel_cases.OWN_CASES
    assert [name for name in known if distance(first[name], second[name])] == []


def test_all_processes_learn_of_a_failure_and_go_on(both):
    different = "DistributedError.*not doing the same.*process 0: was to.*process 1: was to"
    in_second = "DistributedError.*process 1: "
    expected = {
        **dict.fromkeys(["other labels", "other inputs", "fewer rows"], [different] * 2),
        "other rows to forget": [different] * 2,
        "a bad request in one": [in_second + "IndexError", "IndexError.*101"],
        "a ledger": ["ValueError.*cannot carry out requests of a ledger"] * 2,
        "a broken disk in first reads": [in_second + "OSError: the disk", "OSError: the disk"],
        "a broken disk in training": [in_second + "OSError: the disk", "OSError: the disk"],
        "NaN": ["FloatingPointError.*in phase 'tune', epoch 1"] * 2,
        "the other ends": ["DistributedError.*has lost the others"],
    }
    attempts = [found["failures"] for found in both]
    assert attempts[0]["in the end"] == attempts[1]["in the end"]
    for name, messages in expected.items():
        for found, message in zip(attempts, messages, strict=False):
            text, is_unchanged = found[name]
            assert re.search(message, text) and is_unchanged, (name, text)


def test_in_one_process_nothing_changes():
    case = partial(parallel_cases.forgetful, MIUUnlearner)
    assert distance(parallel_cases.outcome(case, True), parallel_cases.outcome(case)) == 0


def test_accelerate_wraps_modules_and_is_refused(table):
    class AcceleratedNet(AccelerateMixin, NeuralNetClassifier):
        pass

    net = AcceleratedNet(MLP, module__n_features=4, accelerator=SimpleNamespace(print=print))
    with pytest.raises(TypeError, match=r"use grmu_sk\.distributed\.ParallelMixin"):
        MIUUnlearner(net).fit(table.X, table.y, table.a)
