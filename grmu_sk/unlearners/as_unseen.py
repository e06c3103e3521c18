"""Let the net answer on forgotten rows as it answers on rows it has never seen."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Subset

from ..base import Request
from ..loading import split_for_validation
from ..net_copies import fresh_net
from ..outputs import log_probabilities
from ..parameters import COUNT, NOT_NEGATIVE, POSITIVE, parameter
from ..rows import Rows, TrainingRows
from ..training import Batch, Phase, batch_norm_frozen, forward, train, validation_batches
from .approximate import RetainingUnlearner

__all__ = ["AsUnseenUnlearner"]

#: Held-out rows that are looked at, at most, and the fewest that speak for a class.
MOST_HELD_OUT, FEWEST_HELD_OUT = 2000, 60
ROWS_AT_ONCE = 256
#: Steps after which the net is asked about held-out rows again.
UPDATE_EVERY = 50
#: Epochs of the reference net, as a share of the net's.
REFERENCE_SHARE = 0.3
#: The fewest rows to forget in a batch, and how often each is seen in a run.
FEWEST_IN_BATCH, TIMES_SEEN = 32, 15


class AsUnseenUnlearner(RetainingUnlearner):
    r"""Teach the net the answers it would give on the forgotten rows, had it never seen them.

    A net that was trained without a row treats it as any other row that it has not seen, and such
    rows can be looked at. First a reference net T is trained from new weights for
    ``reference_epochs`` on the remaining rows. Neither T nor the retrained net has seen a
    forgotten row or a held-out one, so for both nets these are rows of one kind. Let
    :math:`F^T_g` be the distribution of T's losses on held-out rows of group g, and
    :math:`F_g` that of the net being changed, as it is now. A forgotten row x of group g
    with loss :math:`\ell_T(x)` under T should have the loss

    .. math:: \ell(x) = F_g^{-1}\bigl(F^T_g(\ell_T(x))\bigr)

    that rows which are as hard have under this net. So its class gets the probability
    :math:`e^{-\ell(x)}`, and the other classes share the rest as under T. With q these targets,
    each step minimises

    .. math:: L = \frac{1}{|B|} \sum_{B} \ell(f(x), y)
              + \alpha \, \frac{1}{|F|} \sum_{F} KL\bigl(q(x) \,\|\, p(x)\bigr)

    over a batch B of remaining rows and a batch F of rows to forget. To save time the second term
    is formed beside every ``forget_every``-th batch only, with as many times its weight, and
    :math:`F_g` is looked up again every 50 steps. The learning rate falls from ``lr`` to zero
    along a half cosine, in place of the net's own schedule.

    Held-out rows are those that the net's ``train_split`` keeps for validation: of ``fit``, or of
    the user's own, whose groups are not known. Where there are fewer than 60 of a group, those of
    its class stand for it, and all where there are fewer than 60 of these. Where there are none,
    :math:`\ell(x) = \ell_T(x)`.

    Parameters
    ----------
    max_epochs : int, default=2
        Epochs of an unlearning run, beside those of T.
    lr : float or None, default=None
        Learning rate at the first step; None means ``lr_share`` of the net's.
    lr_share : float, default=0.4
        What ``lr=None`` stands for, as a share of the rate the net is trained with.
    alpha : float, default=0.1
        Weight :math:`\alpha` of the forgotten rows.
    forget_batch_size : int or None, default=None
        Rows to forget in each batch of them. None means 32, or as many more as a large request
        needs for each row to be seen 15 times in a run; :math:`\alpha` then grows with the square
        root of their number.
    forget_every : int, default=2
        Batches of remaining rows for each batch of rows to forget.
    reference_epochs : int or None, default=None
        Epochs that T is trained for, at the net's own rate, falling to zero; None means three
        tenths of the net's. T has to tell easy rows of the smallest group from hard ones; where it
        cannot yet, the whole group is harmed. Half as many do where groups are large.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs. ``train_loss`` is
        the mean of L in ``"retain"``.

    See Also
    --------
    FineTuneUnlearner : The same without the second term.
    BadTeacherUnlearner : Teaches the answers of a net that knows nothing.
    RetrainUnlearner : Exact, by training again without the rows.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows. The
    method is this package's own; the page on measurements of the documentation compares it with
    the others.

    It is made for nets that have memorised their rows. Elsewhere there is less to gain, and T
    matters more: a T that has not learned the smallest group yet takes the whole group for hard,
    and what pushes the forgotten rows there pushes the others of the group as well.

    Without held-out rows T, which is less sure of itself than a net that was trained to the end,
    sets the scale of the losses: forgotten rows then keep their label more often than under
    retraining.

    Examples
    --------
    >>> from grmu_sk import AsUnseenUnlearner
    >>> from grmu_sk.datasets import load_embedded_faces
    >>> faces = load_embedded_faces()
    >>> X, y, a = (faces[name][faces.train[:1000]] for name in ("data", "target", "groups"))
    >>> unlearner = AsUnseenUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-3:, "phase"]
    ['fit', 'retain', 'retain']
    """

    method_name = "as_unseen"
    search_grid = {"lr_share": [0.2, 0.4], "alpha": [0.1, 0.3]}
    _phases_that_read_forgotten = ("setup", "retain")
    _needs_fresh_weights = True

    max_epochs: int = parameter(2, COUNT)
    lr_share: float = parameter(0.4, POSITIVE)
    alpha: float = parameter(0.1, NOT_NEGATIVE)
    forget_batch_size: int | None = parameter(None, COUNT, None)
    forget_every: int = parameter(2, COUNT)
    reference_epochs: int | None = parameter(None, COUNT, None)

    def _net_parameters(self) -> dict[str, object]:
        share = {} if self.lr is not None else {"lr": self.lr_share * self.net_.lr}
        return {**super()._net_parameters(), **share}

    def _unlearn(self, request: Request) -> NeuralNet:
        data = request.data
        if self._n_requests == 0:  # all rows of fit are there, to be split as they were then
            self._held_out_idx = _rows_held_out(request.net, data)
        if len(self._held_out_idx):
            held_out = np.intersect1d(self._held_out_idx, np.setdiff1d(data.rows, request.forget))
            request = replace(
                request,
                retain=np.setdiff1d(data.rows, np.union1d(held_out, request.forget)),
                validation=Subset(data, data.positions(held_out).tolist())
                if len(held_out)
                else None,
            )
        return super()._unlearn(request)

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        phase = Phase("reference", request.retain, weights=weights)
        reference = fresh_net(request.net, weights_from=None, lr=self.net_.lr)
        epochs = self.reference_epochs or max(1, round(REFERENCE_SHARE * self.net_.max_epochs))
        _let_rate_fall(reference, epochs, len(request.retain))
        train(reference, request.data, [phase], epochs=epochs, validation=request.validation)
        unseen = _Unseen(request, reference)
        _let_rate_fall(request.net, self.max_epochs, len(request.retain))
        n_rows, alpha = self._forget_batch(request)

        def loss(batch: Batch) -> torch.Tensor:
            step, unseen.n_steps = unseen.n_steps, unseen.n_steps + 1
            if step % UPDATE_EVERY == 0:
                unseen.update()
            if step % self.forget_every:
                return batch.criterion()
            return batch.criterion() + alpha * self.forget_every * unseen.divergence(n_rows)

        return [replace(phase, name="retain", loss=loss, state=[unseen])]

    def _forget_batch(self, request: Request) -> tuple[int, float]:
        """Return how many rows to forget a batch holds, and their weight."""
        if self.forget_batch_size is not None:
            return self.forget_batch_size, self.alpha
        n_steps = _n_steps(request.net, self.max_epochs, len(request.retain))
        n_rows = math.ceil(TIMES_SEEN * len(request.forget) * self.forget_every / n_steps)
        n_rows = max(FEWEST_IN_BATCH, min(n_rows, len(request.forget)))
        # a mean over more rows is less noisy by this root, and bears as much more weight
        return n_rows, self.alpha * math.sqrt(n_rows / FEWEST_IN_BATCH)


class _Unseen:
    """What a net would say of rows to forget, had it never seen them."""

    def __init__(self, request: Request, reference: NeuralNet) -> None:
        self.net, self.data = request.net, request.data
        self.forget = self.data.positions(request.forget)
        answers = forward(
            reference,
            self.data,
            lambda output: log_probabilities(reference, output),
            request.forget,
        )
        self.y = self.data.y[self.forget].long().to(answers.device)
        self.losses = _losses(answers, self.y)
        others = answers.scatter(1, self.y[:, None], -torch.inf)
        self.share_of_others = others.softmax(1)
        self.g = self.data.g[self.forget].to(answers.device)
        self.held_out = _held_out(request)
        self.of_reference = self._losses_by_group(reference)
        self.n_steps = 0
        self.queue = self.forget[:0]
        self.targets = torch.empty_like(answers)

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from step to step."""
        return {"n_steps": self.n_steps, "queue": self.queue, "targets": self.targets}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.n_steps, self.queue = state["n_steps"], state["queue"]
        self.targets = state["targets"].to(self.targets.device)

    def update(self) -> None:
        """Ask the net, as it is now, about held-out rows, and set the targets by its answers."""
        losses = self.losses.clone()
        for g, now in self._losses_by_group(self.net).items():
            rows = self.g == g
            losses[rows] = _moved(losses[rows], self.of_reference[g], now)
        self.net._set_training(True)
        # a probability of one would leave nothing to share, and make the divergence infinite
        given = (-losses).exp().clamp(1e-6, 1 - 1e-6)[:, None]
        self.targets = ((1 - given) * self.share_of_others).scatter(1, self.y[:, None], given)

    def divergence(self, n_rows: int) -> torch.Tensor:
        """Return KL(target || net), as a mean over the next rows to forget."""
        while len(self.queue) < min(n_rows, len(self.forget)):
            self.queue = torch.cat([self.queue, torch.randperm(len(self.forget))])
        now, self.queue = self.queue[:n_rows], self.queue[n_rows:]
        X, _, _ = self.data.__getitems__(self.forget[now])  # type: ignore[arg-type]
        with batch_norm_frozen(self.net) if len(now) == 1 else nullcontext():
            answers = log_probabilities(self.net, self.net.infer(X))
        target = self.targets[now.to(self.targets.device)]
        return torch.nn.functional.kl_div(answers, target, reduction="batchmean")

    def _losses_by_group(self, net: NeuralNet) -> dict[int, torch.Tensor]:
        """Return a net's losses on the rows that each group to forget is held against, sorted."""
        if self.held_out is None:
            return {}
        batches = self.held_out.batches
        answers = [log_probabilities(net, net.evaluation_step((X, None))) for X in batches]
        losses = _losses(torch.cat(answers).to(self.y.device), self.held_out.y.to(self.y.device))
        return {
            g: losses[rows.to(losses.device)].sort().values
            for g, rows in self.held_out.like.items()
        }


def _losses(answers: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return -answers.gather(1, y[:, None])[:, 0]


def _moved(losses: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return the losses that lie as far up in ``after`` as these do in ``before``, both sorted."""
    ranks = (np.arange(len(before)) + 0.5) / len(before)
    given, old, new = (part.double().cpu().numpy() for part in (losses, before, after))
    return torch.from_numpy(np.interp(np.interp(given, old, ranks), ranks, new)).to(losses)


def _rows_held_out(net: NeuralNet, data: TrainingRows) -> Rows:
    """Return the rows of ``fit`` that the net's ``train_split`` kept from training."""
    once, again = (split_for_validation(net, data, data.rows)[0] for _ in range(2))
    if not np.array_equal(once, again):
        raise ValueError(
            "The net's train_split divides the rows in another way each time, so that nobody can "
            "tell on which of them the net was trained. Give it a random_state."
        )
    return np.setdiff1d(data.rows, once)


class _HeldOut(NamedTuple):
    """Inputs and labels of held-out rows, and which of them each group is held against."""

    batches: list[Any]
    y: torch.Tensor
    like: dict[int, torch.Tensor]


def _held_out(request: Request) -> _HeldOut | None:
    """Return held-out rows that are as much like the rows to forget as there are enough of.

    Of the group; else of the class; else all. Groups of a validation set of the user's own are not
    known.
    """
    data, validation = request.data, request.validation
    if validation is None:
        return None
    drawn = torch.randperm(len(validation))[:MOST_HELD_OUT]
    if isinstance(validation, Subset) and validation.dataset is data:
        drawn = torch.as_tensor(validation.indices)[drawn]
        g = data.g[drawn]
        # past the net's loader, which several processes share and a batch of which is soon over
        read = [data.__getitems__(part)[:2] for part in drawn.split(ROWS_AT_ONCE)]
    else:
        g = torch.full_like(drawn, -1)
        some = Subset(validation, drawn.tolist())
        read = list(validation_batches(request.net, data, some))
    y = torch.cat([labels for _, labels in read]).long().cpu()
    like = {}
    where = data.positions(request.forget)
    for group, c in torch.stack([data.g[where], data.y[where].long()]).unique(dim=1).T.tolist():
        choices = (g == group, y == c, torch.ones_like(y, dtype=torch.bool))
        like[group] = next((some for some in choices if some.sum() >= FEWEST_HELD_OUT), choices[-1])
    return _HeldOut([X for X, _ in read], y, like)


def _let_rate_fall(net: NeuralNet, epochs: int, n_rows: int) -> None:
    """Let the learning rate fall to zero along a half cosine, in place of the net's schedule."""
    n_steps = _n_steps(net, epochs, n_rows)
    schedule = LRScheduler(
        LambdaLR,
        lr_lambda=lambda step: (1 + math.cos(math.pi * min(step / n_steps, 1))) / 2,
        step_every="batch",
    )
    others = [(name, one) for name, one in net.callbacks_ if not isinstance(one, LRScheduler)]
    net.callbacks_ = [*others, ("rate_falls", schedule.initialize())]


def _n_steps(net: NeuralNet, epochs: int, n_rows: int) -> int:
    return epochs * math.ceil(n_rows / (net.batch_size if net.batch_size > 0 else n_rows))
