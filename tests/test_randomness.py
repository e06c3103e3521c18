"""Randomness is global in Python, NumPy and torch; no thread may notice."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from conftest import make_net, make_table

from grmu_sk import RetrainUnlearner
from grmu_sk.audit import model_hash


def test_results_in_threads_are_those_of_one_after_another():
    table = make_table(24)

    def forgotten(seed):
        unlearner = RetrainUnlearner(make_net(max_epochs=1), random_state=seed)
        return model_hash(unlearner.fit(table.X, table.y, table.a).unlearn([seed]))

    def states():
        return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()

    expected, before = [forgotten(seed) for seed in range(8)], states()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(forgotten, range(8))) == expected
    finally:
        sys.setswitchinterval(interval)
    assert states() == before
