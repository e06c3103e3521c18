"""Several processes give what one gives, and fail together."""

import gc
import os
import pickle
import re
import socket
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import parallel_cases
import pytest
import torch
from accelerate import Accelerator
from conftest import make_table, weights_of
from parallel_cases import FORGET, N_ROWS, SHORT, AcceleratedNet, initialised_net, net_for
from sklearn.frozen import FrozenEstimator

from grmu_sk import MIUUnlearner
from grmu_sk.distributed import Share, all_processes, parallel_class
from grmu_sk.mutual_information import InformationCritic

HERE = Path(__file__).parent
TOLERANCE = 1e-5
# most of the time is spent on starting Python and torch, which takes long on a busy machine
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes have found out."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        options = ["--nproc_per_node=2", f"--master_port={free.getsockname()[1]}"]
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *options, parallel_cases.__file__, folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-5000:]
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


def test_information_of_shares_would_be_another(monkeypatch):
    """What averaging the losses of shares comes to: the test above is able to see it."""
    case = partial(parallel_cases.forgetful, MIUUnlearner)
    right = parallel_cases.outcome(case)
    of_batch = InformationCritic.forward

    def of_shares(critic, z, labels, other_labels):
        halves = zip(*(part.tensor_split(2) for part in (z, labels, other_labels)), strict=True)
        return sum(of_batch(critic, *half) for half in halves) / 2

    monkeypatch.setattr(InformationCritic, "forward", of_shares)
    assert distance(parallel_cases.outcome(case), right) > 100 * TOLERANCE


def test_all_processes_learn_of_a_failure_and_go_on(both):
    different = "DistributedError.*not doing the same.*process 0: was to.*process 1: was to"
    in_second = "DistributedError.*process 1: "
    expected = {
        "batches are normalised": ["ValueError: BatchNorm cannot"] * 2,
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


# in one process ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


def test_accelerator_of_one_process_changes_nothing(accelerator):
    case = partial(parallel_cases.forgetful, MIUUnlearner)
    assert distance(parallel_cases.outcome(case, accelerator), parallel_cases.outcome(case)) == 0
    net = parallel_class(AcceleratedNet)(**net_for(accelerator).get_params(deep=False))
    copy = pickle.loads(pickle.dumps(net.initialize()))
    assert type(copy) is type(net) is parallel_class(type(net))


def test_nothing_of_the_original_is_left(accelerator):
    net = initialised_net(accelerator)
    accelerator._models.append(net.module_)  # as if it had been trained with accelerate before
    module, needle = weakref.ref(net.module_), weights_of(SimpleNamespace(net_=net))[0].tobytes()
    table = make_table(N_ROWS)
    unlearner = MIUUnlearner(FrozenEstimator(net), random_state=0, **SHORT)
    unlearner.fit(table.X, table.y, table.a)
    del net
    for is_there in (True, False):
        gc.collect()
        assert (needle in pickle.dumps(unlearner), module() is not None) == (is_there, is_there)
        unlearner.unlearn(FORGET)
    assert not accelerator._models + accelerator._optimizers + accelerator._dataloaders


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distributed_type": "DEEPSPEED"}, "distributed type DEEPSPEED"),
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps=1"),
        ({"scaler": object(), "mixed_precision": "fp16"}, "'fp16' needs losses to be scaled"),
    ],
)
def test_refused_accelerators(accelerator, changes, message):
    plain = {"distributed_type": "NO", "gradient_accumulation_steps": 1, "scaler": None}
    net = net_for(accelerator)
    net.accelerator = SimpleNamespace(**plain, num_processes=1)
    with all_processes(net):
        pass
    net.accelerator = SimpleNamespace(**{**plain, **changes})
    with pytest.raises(ValueError, match=message), all_processes(net):
        pass


@pytest.mark.parametrize("n_rows", [3, 4, 5])
def test_shares_follow_each_other(n_rows):
    shares = [Share(n_rows, SimpleNamespace(rank=rank, count=2)) for rank in (0, 1)]
    rows = torch.arange(n_rows)
    taken = [share.take(rows) for share in shares]
    if n_rows < 4:  # one row alone cannot be normalised
        assert all(torch.equal(part, rows) for part in taken)
    else:
        assert torch.equal(torch.cat(taken), rows)
        assert [len(part) for part in taken] == shares[0].sizes == [-(-n_rows // 2), n_rows // 2]


def test_module_has_to_return_rows():
    share = Share(8, SimpleNamespace(rank=0, count=2, gather=lambda part: [part, part]))
    assert share.join((torch.zeros(4, 2), None))[0].shape == (8, 2)
    for returned in (torch.zeros(()), (torch.zeros(4, 2), torch.zeros(3)), {"a": torch.zeros(4)}):
        with pytest.raises(TypeError, match="first axis are the 4 rows"):
            share.join(returned)
