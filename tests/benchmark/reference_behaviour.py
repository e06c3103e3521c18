"""What the code of the group-robust unlearning paper does, written down a second time.

An independent implementation in plain torch and NumPy, made from a description of that code's
behaviour and from nothing of this package. Where the code departs from the paper, this follows the
code. Everything drawn at random comes from a :class:`Tape`, so that a run of the package and a run
of this see the same batches, the same marginal groups and the same labels.

The nets have ``features`` (everything before the last linear layer) and ``head`` (that layer).
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from torch.nn import functional as F


class TapeError(AssertionError):
    """What was drawn is not what the reference would have drawn."""


@dataclass
class Tape:
    """What a run drew, to be used again in the same order."""

    batches: dict = field(default_factory=dict)  # phase -> list of row numbers
    drawn: list = field(default_factory=list)  # marginal groups, or random labels

    def rewound(self):
        """Return a copy to consume."""
        return Tape({phase: list(rows) for phase, rows in self.batches.items()}, list(self.drawn))

    def batch(self, phase, size):
        queue = self.batches.get(phase, [])
        if not queue:
            raise TapeError(f"no batch left for '{phase}'")
        if len(queue[0]) != size:
            raise TapeError(f"a batch of '{phase}' has {len(queue[0])} rows, not {size}")
        return torch.as_tensor(queue.pop(0))

    def one_pass(self, phase, rows, batch_size, replacement=False):
        """Yield the batches of one epoch over these rows; the last may be short."""
        seen = []
        for start in range(0, len(rows), batch_size):
            batch = self.batch(phase, min(batch_size, len(rows) - start))
            seen += batch.tolist()
            yield batch
        if not set(seen) <= set(np.asarray(rows).tolist()):
            raise TapeError(f"'{phase}' saw other rows than its own")
        if not replacement and len(set(seen)) < len(seen):
            raise TapeError(f"'{phase}' saw a row twice in an epoch")

    def endless(self, phase, n_rows, batch_size):
        """Yield batches of shuffled rows, starting over with every epoch of the loader."""
        while True:
            seen = []
            for start in range(0, n_rows, batch_size):
                batch = self.batch(phase, min(batch_size, n_rows - start))
                seen += batch.tolist()
                if len(set(seen)) < len(seen):
                    raise TapeError(f"'{phase}' saw a row twice in a pass")
                yield batch

    def draw(self, n):
        if not self.drawn:
            raise TapeError("nothing left that was drawn")
        if len(self.drawn[0]) != n:
            raise TapeError(f"{len(self.drawn[0])} values were drawn, not {n}")
        return self.drawn.pop(0)

    def check_used_up(self):
        left = {phase: len(rows) for phase, rows in self.batches.items() if rows}
        if left or self.drawn:
            raise TapeError(f"left over: batches {left}, {len(self.drawn)} draws")


@dataclass
class Problem:
    """A trained net, the data, and what is to be forgotten."""

    net: torch.nn.Module
    X: torch.Tensor
    y: torch.Tensor
    a: torch.Tensor
    n_classes: int
    n_attributes: int
    forget: np.ndarray

    @property
    def g(self):
        return self.a + self.n_attributes * self.y

    @property
    def n_groups(self):
        return self.n_classes * self.n_attributes

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
        dtype = weights[0].dtype
        self.network = torch.nn.Sequential(
            torch.nn.Linear(width, hidden, dtype=dtype),
            torch.nn.ReLU(),
            torch.nn.Linear(hidden, 1, dtype=dtype),
        )
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


@dataclass
class MIULog:
    """The values of every step."""

    tune: list = field(default_factory=list)  # M of both estimators
    forget: list = field(default_factory=list)  # M
    retain: list = field(default_factory=list)  # (cross-entropy, M, M of the original, total)


def miu(problem, tape, recipe, estimators, *, lam=1.0, forget_epochs=2):
    """Unlearn, and return the net and the log of all steps."""
    net, original = copy.deepcopy(problem.net).train(), copy.deepcopy(problem.net).train()
    unlearned, of_original = estimators
    optimizer, rate = recipe.optimizer(net)
    log = MIULog()
    X, y, g = problem.X, problem.y, problem.g
    for epoch in range(recipe.epochs):
        loader = tape.endless("tune", len(y), recipe.batch_size)
        for _ in range(101 if epoch == 0 else 11):
            rows = next(loader)
            with torch.no_grad():
                z = net.features(X[rows])  # in train mode: BatchNorm's statistics follow
            others = tape.draw(len(rows))
            values = [
                -step(estimator.optimizer, -estimator(z, g[rows], others))
                for estimator in (unlearned, of_original)  # both on the features of one net
            ]
            log.tune.append(values)
        if epoch < forget_epochs:
            for rows in tape.one_pass("forget", problem.forget, recipe.batch_size):
                z = net.features(X[rows])
                value = unlearned(z, g[rows], tape.draw(len(rows)))
                log.forget.append(step(optimizer, value))
        for rows in tape.one_pass("retain", problem.retain, recipe.batch_size, recipe.reweight):
            z = net.features(X[rows])
            cross_entropy = F.cross_entropy(net.head(z), y[rows])
            with torch.no_grad():
                z_original = original.features(X[rows])  # in train mode too
            others = tape.draw(len(rows))
            now = unlearned(z, g[rows], others)
            before = of_original(z_original, g[rows], others).detach()
            total = cross_entropy + lam * (now - before) ** 2
            log.retain.append((cross_entropy.item(), now.item(), before.item(), total.item()))
            step(optimizer, total)
        rate.step()
    return net, log


# the other methods -------------------------------------------------------------------------------


def saliency_mask(problem, batch_size, share=0.5):
    """Return which weights stay trainable, as a list of boolean tensors."""
    net = copy.deepcopy(problem.net).eval()
    total = [torch.zeros_like(parameter) for parameter in net.parameters()]
    for rows in torch.as_tensor(problem.forget).split(batch_size):
        net.zero_grad()
        (-F.cross_entropy(net(problem.X[rows]), problem.y[rows])).backward()
        for so_far, parameter in zip(total, net.parameters(), strict=True):
            so_far += parameter.grad
    size = torch.cat([part.abs().flatten() for part in total])
    mask = torch.zeros(len(size), dtype=torch.bool)
    mask[torch.topk(size, int(share * len(size))).indices] = True
    parts = mask.split([part.numel() for part in total])
    return [flat.view_as(part) for flat, part in zip(parts, total, strict=True)]


def random_labelling(problem, tape, recipe, mask=None):
    """Random labelling, or SalUn with a mask; return the net and the losses of both passes."""
    net = copy.deepcopy(problem.net).train()
    optimizer, rate = recipe.optimizer(net)
    losses = {"forget": [], "retain": []}

    def masked_step(loss):
        optimizer.zero_grad()
        loss.backward()
        if mask is not None:
            for parameter, trainable in zip(net.parameters(), mask, strict=True):
                parameter.grad *= trainable  # decay and momentum act all the same
        optimizer.step()
        return loss.item()

    for _ in range(recipe.epochs):
        for rows in tape.one_pass("forget", problem.forget, recipe.batch_size):
            labels = tape.draw(len(rows))
            loss = F.cross_entropy(net(problem.X[rows]), labels)
            losses["forget"].append(masked_step(loss))
        for rows in tape.one_pass("retain", problem.retain, recipe.batch_size, recipe.reweight):
            loss = F.cross_entropy(net(problem.X[rows]), problem.y[rows])
            losses["retain"].append(masked_step(loss))
        rate.step()
    return net, losses


def scrub(problem, tape, recipe, *, forget_epochs=2, temperature=4.0):
    """Return the net and the losses of both passes."""
    teacher, net = copy.deepcopy(problem.net).eval(), copy.deepcopy(problem.net).train()
    optimizer, rate = recipe.optimizer(net)
    losses = {"forget": [], "retain": []}

    def distance(logits, rows):
        with torch.no_grad():
            target = torch.softmax(teacher(problem.X[rows]) / temperature, dim=1)
        student = torch.log_softmax(logits / temperature, dim=1)
        terms = target * (target.log() - student)
        return terms.sum() * temperature**2 / len(rows)

    for epoch in range(recipe.epochs):
        if epoch < forget_epochs:
            for rows in tape.one_pass("forget", problem.forget, recipe.batch_size):
                losses["forget"].append(step(optimizer, -distance(net(problem.X[rows]), rows)))
        for rows in tape.one_pass("retain", problem.retain, 128, recipe.reweight):
            logits = net(problem.X[rows])
            cross_entropy = F.cross_entropy(logits, problem.y[rows])
            loss = 0.001 * distance(logits, rows) + 0.99 * cross_entropy
            losses["retain"].append(step(optimizer, loss))
        rate.step()
    return net, losses


def l1_sparse(problem, tape, recipe, gamma=5e-4):
    """Return the net and the losses of its passes."""
    net = copy.deepcopy(problem.net).train()
    optimizer, rate = recipe.optimizer(net)
    losses = {"retain": []}
    for epoch in range(recipe.epochs):
        for rows in tape.one_pass("retain", problem.retain, recipe.batch_size, recipe.reweight):
            norm = sum(parameter.abs().sum() for parameter in net.parameters())
            loss = F.cross_entropy(net(problem.X[rows]), problem.y[rows])
            loss = loss + gamma * (1 - epoch / recipe.epochs) * norm
            losses["retain"].append(step(optimizer, loss))
        rate.step()
    return net, losses


def group_dro(problem, tape, recipe, eta):
    """Train ``problem.net``, whose weights are new, on what remains; return it and the losses."""
    net = copy.deepcopy(problem.net).train()
    optimizer, rate = recipe.optimizer(net)
    q = torch.full((problem.n_groups,), 1 / problem.n_groups, dtype=problem.X.dtype)
    losses = {"retrain": []}
    for _ in range(recipe.epochs):
        for rows in tape.one_pass("retrain", problem.retain, recipe.batch_size, replacement=True):
            each = F.cross_entropy(net(problem.X[rows]), problem.y[rows], reduction="none")
            of_group = [each[problem.g[rows] == group] for group in range(problem.n_groups)]
            means = torch.stack([part.mean() if len(part) else each.sum() * 0 for part in of_group])
            q = q * torch.exp(eta * means.detach())
            q = q / q.sum()
            losses["retrain"].append(step(optimizer, (q * means).sum()))
        rate.step()
    return net, losses


# sampling weights --------------------------------------------------------------------------------


def reweight_weights(train_groups, retain_groups):
    """Return the weight of each remaining row, to be drawn with replacement."""
    return np.array(
        [np.sum(train_groups == group) / np.sum(retain_groups == group) for group in retain_groups]
    )


def balanced_weights(retain_groups):
    """Return the weight of each remaining row for group DRO."""
    return np.array([len(retain_groups) / np.sum(retain_groups == g) for g in retain_groups])


# metrics, in percent -----------------------------------------------------------------------------


def accuracy(logits, y):
    return 100.0 * np.mean(np.argmax(logits, axis=1) == y)


def cross_entropies(logits, y):
    """Return the loss of each row, in the precision of the logits."""
    return F.cross_entropy(torch.as_tensor(logits), torch.as_tensor(y), reduction="none")


def membership_inference(retain_losses, validation_losses, forget_losses):
    """Return the largest of six forests' shares of forgotten rows taken for non-members."""
    losses = np.concatenate([retain_losses, validation_losses])[:, None]
    member = np.r_[np.ones(len(retain_losses)), np.zeros(len(validation_losses))]
    shares = []
    for trees in (20, 50, 100):
        for criterion in ("gini", "entropy"):
            forest = RandomForestClassifier(trees, criterion=criterion, random_state=0)
            forest.fit(losses, member)
            shares.append(100.0 * np.mean(forest.predict(forget_losses[:, None]) == 0))
    return max(shares)


def equalized_odds(y, y_pred, a, labels, attributes, n_classes, n_attributes):
    """Return EO: y and a reduced to the forget lists if they are not binary, correctness not."""
    correct = y == y_pred
    if n_classes > 2 or n_attributes > 2:
        y, a = np.isin(y, labels).astype(int), np.isin(a, attributes).astype(int)
    gaps = [
        abs(correct[(y == value) & (a == 0)].mean() - correct[(y == value) & (a == 1)].mean())
        for value in (0, 1)
    ]
    return 100.0 * np.mean(gaps)


def group_accuracy(y, y_pred, a, labels, attributes):
    """Return GA over the product of the two lists."""
    inside = np.isin(y, labels) & np.isin(a, attributes)
    return 100.0 * np.mean((y == y_pred)[inside])
