"""What decides a result is described, so that what trains differently is told apart."""

import json

import numpy as np
import torch

from grmu_sk.fingerprints import describe


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def get_params(self, deep=True):
        return {"factor": self.factor}

    def scale(self, scores):
        return self.factor * scores


def test_descriptions_tell_apart_what_trains_differently():
    def one(x):
        return x + 1

    def other(x):
        return x + 2

    values = [None, 0, False, "0", [0], (0,), {"a": 0}, {1: 0}, {"1": 0}, one, other]
    values += [Scaled(1).scale, Scaled(2).scale, np.zeros(2), np.ones(2), np.zeros((2, 1))]
    described = [json.dumps(describe(value)) for value in values]
    assert len(set(described)) == len(values) and "0x" not in "".join(described)
    assert describe(np.longdouble(1)) != describe(np.longdouble(2)) and describe(np.int8(3)) == 3
    assert describe(torch.ones(2, dtype=torch.bfloat16)) != describe(torch.ones(2))
