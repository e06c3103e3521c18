"""Softmax regression by hand, in NumPy and float64: what methods are checked against."""

from dataclasses import dataclass

import numpy as np
import torch
from conftest import make_net
from scipy.special import log_softmax


def linear_net(**kwargs):
    """The same model as a net: full batches and plain SGD, so that each pass is one known step."""
    kwargs = {"module__hidden": (), "batch_size": -1, "lr": 0.1, **kwargs}
    if kwargs.get("optimizer", torch.optim.SGD) is torch.optim.SGD:
        kwargs.setdefault("optimizer__momentum", 0.0)
    return make_net(**kwargs)


@dataclass
class Part:
    """Some rows, with a weight each."""

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, table, rows, weight=None):
        weight = np.ones(table.n) if weight is None else weight
        return cls(
            np.c_[table.X, np.ones(table.n)][rows].astype(float), table.y[rows], weight[rows]
        )


class SoftmaxRegression:
    """The weights of a linear net, as a matrix of shape (classes, features + 1)."""

    def __init__(self, net):
        weight, bias = (p.detach().numpy() for p in net.module_.head.parameters())
        self.theta = np.c_[weight, bias].astype(float)

    def log_probabilities(self, X, temperature=1.0):
        return log_softmax(X @ self.theta.T / temperature, axis=1)

    def targets(self, part):
        """The true labels, as probabilities."""
        return np.eye(len(self.theta))[part.y]

    def loss(self, part, targets=None):
        """Mean cross-entropy."""
        targets = self.targets(part) if targets is None else targets
        losses = -(targets * self.log_probabilities(part.X)).sum(axis=1)
        return np.average(losses, weights=part.weight)

    def gradient(self, part, targets=None, temperature=1.0):
        """Gradient of the mean cross-entropy."""
        targets = self.targets(part) if targets is None else targets
        error = np.exp(self.log_probabilities(part.X, temperature)) - targets
        error *= (part.weight / part.weight.sum())[:, None] / temperature
        return error.T @ part.X

    def descend(self, gradient, lr=0.1):
        self.theta = self.theta - lr * gradient

    def assert_is(self, net):
        np.testing.assert_allclose(SoftmaxRegression(net).theta, self.theta, rtol=1e-4, atol=1e-6)


def losses_of(unlearner, phase):
    return [row["train_loss"] for row in unlearner.history_ if row["phase"] == phase]
