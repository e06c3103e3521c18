"""What the code of the group-robust unlearning paper does, written down a second time.

An independent implementation in plain torch and NumPy, made from a description of that code's
behaviour and from nothing of this package. Where the code departs from the paper, this follows the
code. Everything drawn at random comes from a :class:`Tape`, so that a run of the package and a run
of this see the same batches and the same marginal groups.

The nets have ``features`` (everything before the last linear layer) and ``head`` (that layer).
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional as F


@dataclass
class Tape:
    """What a run drew, to be used up in the same order."""

    batches: dict = field(default_factory=dict)  # phase -> list of row numbers
    drawn: list = field(default_factory=list)  # marginal groups

    def one_pass(self, phase, rows, batch_size, replacement=False):
        """Yield the batches of one epoch over these rows; the last may be short."""
        seen = []
        for start in range(0, len(rows), batch_size):
            assert self.batches.get(phase), f"no batch left for '{phase}'"
            batch = torch.as_tensor(self.batches[phase].pop(0))
            assert len(batch) == min(batch_size, len(rows) - start), f"another size in '{phase}'"
            seen += batch.tolist()
            assert replacement or len(set(seen)) == len(seen), f"'{phase}' saw a row twice"
            yield batch
        assert set(seen) <= set(np.asarray(rows).tolist()), f"'{phase}' saw other rows"

    def draw(self, n):
        values = self.drawn.pop(0)
        assert len(values) == n
        return values


@dataclass
class Problem:
    """A trained net, the data, and what is to be forgotten."""

    net: torch.nn.Module
    X: torch.Tensor
    y: torch.Tensor
    g: torch.Tensor
    n_groups: int
    forget: np.ndarray

    @property
    def retain(self):
        return np.setdiff1d(np.arange(len(self.y)), self.forget)


@dataclass
class Recipe:
    """SGD with momentum, decay on all parameters, cosine over the run or a constant rate."""

    lr: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 32
    epochs: int = 3
    cosine: bool = True
    reweight: bool = False

    def optimizer(self, net):
        sgd = torch.optim.SGD(
            net.parameters(), self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=self.epochs)
        return sgd, rate if self.cosine else torch.optim.lr_scheduler.ConstantLR(sgd, factor=1.0)


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


# MIU ---------------------------------------------------------------------------------------------


class LogMeanExp(torch.autograd.Function):
    """log mean exp, whose gradient is divided by the moving average and not by the mean."""

    @staticmethod
    def forward(ctx, scores, average):
        ctx.save_for_backward(scores, average)
        return scores.exp().mean().log()

    @staticmethod
    def backward(ctx, grad):
        scores, average = ctx.saved_tensors
        return grad * scores.exp() / (average + 1e-18) / len(scores), None


class Estimator:
    """MINE: the statistics network on (z, one-hot g), its optimiser and its moving average."""

    def __init__(self, weights, n_groups, lr, momentum=0.9, rate=0.01):
        hidden, width = weights[0].shape
        first, last = torch.nn.Linear(width, hidden), torch.nn.Linear(hidden, 1)
        self.network = torch.nn.Sequential(first, torch.nn.ReLU(), last).to(weights[0].dtype)
        with torch.no_grad():
            for parameter, value in zip(self.network.parameters(), weights, strict=True):
                parameter.copy_(value)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr, momentum=momentum)
        self.n_groups, self.rate, self.average = n_groups, rate, None

    def scores(self, z, groups):
        one_hot = F.one_hot(groups, self.n_groups).to(z.dtype)
        return self.network(torch.cat([z, one_hot], dim=1))

    def __call__(self, z, groups, others):
        joint, marginal = self.scores(z, groups), self.scores(z, others)
        mean = marginal.detach().exp().mean()
        # on every call, in whatever phase, and never reset
        self.average = (
            mean if self.average is None else self.rate * mean + (1 - self.rate) * self.average
        )
        return joint.mean() - LogMeanExp.apply(marginal, self.average)


def miu(problem, tape, recipe, estimators, *, lam=1.0, forget_epochs=2):
    """Unlearn; return the net and by phase the values of all steps.

    Of tune they are M of both estimators, of forget M, of retain cross-entropy, M, M of the
    original and the whole loss.
    """
    net, original = copy.deepcopy(problem.net).train(), copy.deepcopy(problem.net).train()
    unlearned, of_original = estimators
    optimizer, rate = recipe.optimizer(net)
    log = {"tune": [], "forget": [], "retain": []}
    X, y, g = problem.X, problem.y, problem.g
    for epoch in range(recipe.epochs):
        n_updates = 101 if epoch == 0 else 11
        while n_updates:
            for rows in tape.one_pass("tune", range(len(y)), recipe.batch_size):
                with torch.no_grad():
                    z = net.features(X[rows])  # in train mode: BatchNorm's statistics follow
                others = tape.draw(len(rows))
                values = [
                    -step(estimator.optimizer, -estimator(z, g[rows], others))
                    for estimator in (unlearned, of_original)  # both on the features of one net
                ]
                log["tune"].append(values)
                n_updates -= 1
                if not n_updates:
                    break
        if epoch < forget_epochs:
            for rows in tape.one_pass("forget", problem.forget, recipe.batch_size):
                value = unlearned(net.features(X[rows]), g[rows], tape.draw(len(rows)))
                log["forget"].append(step(optimizer, value))
        for rows in tape.one_pass("retain", problem.retain, recipe.batch_size, recipe.reweight):
            z = net.features(X[rows])
            cross_entropy = F.cross_entropy(net.head(z), y[rows])
            with torch.no_grad():
                z_original = original.features(X[rows])  # in train mode too
            others = tape.draw(len(rows))
            now = unlearned(z, g[rows], others)
            before = of_original(z_original, g[rows], others).detach()
            total = cross_entropy + lam * (now - before) ** 2
            log["retain"].append([v.item() for v in (cross_entropy, now, before, total)])
            step(optimizer, total)
        rate.step()
    return net, log
