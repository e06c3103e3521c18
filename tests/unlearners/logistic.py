"""Logistic regression in float64, and gradients of its loss by hand."""

import numpy as np
import torch
from skorch import NeuralNetBinaryClassifier
from torch import nn

FORGET = [40, 41, 50, 60, 61]
REST = np.setdiff1d(np.arange(160), FORGET)


class OneLogit(nn.Module):
    """Five weights."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, X):
        return self.linear(X)


def logistic_net(**kwargs):
    defaults = {"optimizer": torch.optim.SGD, "train_split": None, "verbose": 0}
    return NeuralNetBinaryClassifier(OneLogit, **{**defaults, "lr": 0.5, **kwargs})


def in_float64(table):
    table.X = table.X.astype(float)
    return table


def flat(unlearner):
    return np.concatenate([p.detach().numpy().ravel() for p in unlearner.net_.module_.parameters()])


def gradients(w, table):
    """Of each row's loss."""
    design = np.c_[table.X, np.ones(table.n)]
    return (1 / (1 + np.exp(-design @ w)) - table.y)[:, None] * design


def reweight_probabilities(table):
    group = 2 * table.y + table.a
    weight = np.bincount(group)[group[REST]] / np.bincount(group[REST])[group[REST]]
    return weight / weight.sum()
