"""Several processes give what one gives, and fail together."""

import json
import os
import pickle
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import parallel_cases
import pytest
import torch
from accelerate import Accelerator
from parallel_cases import AcceleratedNet, net_for

from grmu_sk import MIUUnlearner
from grmu_sk.distributed import Share, all_processes, parallel_class
from grmu_sk.mutual_information import InformationCritic

HERE = Path(__file__).parent
TOLERANCE = 1e-5
# most of the time is spent on starting Python and torch, which takes long on a busy machine
pytestmark = pytest.mark.timeout(600)
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc_per_node=2"],
    "accelerate": [
        "accelerate.commands.launch",
        *(
            "--multi_gpu",
            "--num_processes=2",
            "--num_machines=1",
        ),  # CPUs with Accelerator(cpu=True)
        *("--mixed_precision=no", "--dynamo_backend=no"),
    ],
}


def launch(launcher, program, folder):
    """Run a program in two processes."""
    module, *options = LAUNCHERS[launcher]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    port_option = "--master_port" if launcher == "torchrun" else "--main_process_port"
    command = [sys.executable, "-m", module, *options, f"{port_option}={port}"]
    done = subprocess.run(
        [*command, HERE / program, folder],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-5000:]


def distance(one, other):
    """The largest difference in weights, predictions and losses."""
    assert one.keys() == other.keys()
    return max(np.abs(one[part] - other[part]).max() for part in one)


def test_two_processes_give_what_one_gives(tmp_path):
    launch("torchrun", "parallel_cases.py", tmp_path)
    first, second = (pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in (0, 1))
    alone = {
        name: parallel_cases.outcome(case)
        for name, case in parallel_cases.cases(tmp_path / "alone").items()
    }
    distances = {name: distance(first[name], alone[name]) for name in alone}
    assert len(distances) > 30
    assert {name: d for name, d in distances.items() if not d <= TOLERANCE} == {}

    # the two hold the same bits, also where what they hold is not what one process would
    apart = [
        name
        for name in alone.keys() | parallel_cases.OWN_CASES
        if distance(first[name], second[name])
    ]
    assert apart == []
    # each process normalises its own rows, unless layers are synchronised
    alone_with_batch_norm = parallel_cases.outcome(parallel_cases.OWN_CASES["BatchNorm"])
    assert distance(first["BatchNorm"], alone_with_batch_norm) > 100 * TOLERANCE

    for remains in (first["remains"], second["remains"]):
        assert remains == {
            "before": {"pickled": True, "alive": True},
            "after": {"pickled": False, "alive": False},
            "copy predicts the same": True,
            "held": 0,
        }


def test_information_of_shares_would_be_another(monkeypatch):
    """What averaging the losses of shares comes to: the test above is able to see it."""
    case = partial(parallel_cases.of_method, MIUUnlearner)
    right = parallel_cases.outcome(case)
    of_batch = InformationCritic.forward

    def of_shares(critic, z, labels, other_labels):
        halves = zip(*(part.tensor_split(2) for part in (z, labels, other_labels)), strict=True)
        return sum(of_batch(critic, *half) for half in halves) / 2

    monkeypatch.setattr(InformationCritic, "forward", of_shares)
    assert distance(parallel_cases.outcome(case), right) > 100 * TOLERANCE


def test_all_processes_learn_of_a_failure_and_go_on(tmp_path):
    launch("accelerate", "parallel_failures.py", tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))

    def expect(name, error, message, error_of_second=None, message_of_second=None):
        for result, kind, text in (
            (first[name], error, message),
            (second[name], error_of_second or error, message_of_second or message),
        ):
            assert (result["error"], text in result["message"]) == (kind, True), (name, result)
            assert result["unchanged"], (name, result)

    expect("gradient accumulation", "ValueError", "gradient_accumulation_steps=1")
    expect("unsupported type", "ValueError", "distributed type FSDP")
    expect("a ledger", "ValueError", "cannot carry out requests of a ledger")
    different = "DistributedError", "The processes are not doing the same"
    for name in ("other labels", "other inputs", "fewer rows", "other rows to forget"):
        expect(name, *different)
    expect(
        "bad request in one",
        *("DistributedError", "it failed in process 1: IndexError"),
        *("IndexError", "101"),
    )
    for place in ("first reads", "training"):
        expect(
            f"broken disk in {place}",
            *("DistributedError", "it failed in process 1: OSError: the disk is broken"),
            *("OSError", "the disk is broken"),
        )
        assert second[f"broken disk in {place}"]["reads left"] == 0
    expect("NaN", "FloatingPointError", "in phase 'tune', epoch 1")
    assert first["in the end"] == second["in the end"]
    ended = first["the other ends"]
    assert ended["error"] == "DistributedError" and "has lost the others" in ended["message"]
    assert ended["unchanged"]


# in one process ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator(cpu=True)


def test_accelerator_of_one_process_changes_nothing(accelerator):
    case = partial(parallel_cases.of_method, MIUUnlearner)
    assert distance(parallel_cases.outcome(case, accelerator), parallel_cases.outcome(case)) == 0
    assert parallel_cases.remains(accelerator)["held"] == 0


def test_pickle_of_a_net_that_took_part(accelerator):
    net = parallel_class(AcceleratedNet)(**net_for(accelerator).get_params(deep=False))
    copy = pickle.loads(pickle.dumps(net.initialize()))
    assert type(copy) is type(net) is parallel_class(type(net))
    assert isinstance(copy, AcceleratedNet)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distributed_type": "DEEPSPEED"}, "distributed type DEEPSPEED.*data-parallel"),
        ({"gradient_accumulation_steps": 4}, "accumulates gradients over 4 batches"),
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


@pytest.mark.parametrize("n_rows", [1, 3, 4, 5, 32])
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
    share = Share(8, SimpleNamespace(rank=0, count=2))
    for returned, message in (
        (torch.zeros(()), r"Tensor of shape \(\) for 4 rows"),
        ((torch.zeros(4, 2), torch.zeros(3)), r"Tensor of shape \(3,\)"),
        ({"logits": torch.zeros(4)}, "dict"),
    ):
        share_of_one = Share(8, SimpleNamespace(rank=0, count=2, gather=lambda part: [part, part]))
        assert share_of_one.join((torch.zeros(4, 2), None))[0].shape == (8, 2)
        with pytest.raises(TypeError, match=message):
            share_of_one.join(returned)
    assert share.sizes == [4, 4]
