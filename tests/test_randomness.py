"""Randomness is global in Python, NumPy and torch; no thread and no fork may notice."""

import os
import random
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import make_net, make_table

from grmu_sk import RetrainUnlearner
from grmu_sk.audit import model_hash
from grmu_sk.randomness import isolated_rng


def test_results_in_threads_are_those_of_one_after_another():
    table = make_table(24)

    def forgotten(seed):
        unlearner = RetrainUnlearner(make_net(max_epochs=1), random_state=seed)
        return model_hash(unlearner.fit(table.X, table.y, table.a).unlearn([seed]))

    def states():
        return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()

    expected, before = [forgotten(seed) for seed in range(12)], states()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(forgotten, range(12))) == expected
    finally:
        sys.setswitchinterval(interval)
    assert states() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_does_not_wait_for_threads_that_it_does_not_have():
    inside, done = threading.Event(), threading.Event()

    def train():
        with isolated_rng(0):
            inside.set()
            done.wait()

    thread = threading.Thread(target=train)
    thread.start()
    inside.wait()
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        with isolated_rng(1):
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    done.set()
    thread.join()
    assert status == 0
