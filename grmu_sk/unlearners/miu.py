"""MIU: minimise the mutual information between features and group on the forget set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from skorch import NeuralNet

from ..base import Request
from ..loading import cut_up
from ..mutual_information import MARGINALS, InformationCritic, draw_marginal
from ..net_copies import fresh_net, same_weights
from ..outputs import FeatureTap, find_feature_layer
from ..parameters import COUNT, LEARNING_RATE, NOT_NEGATIVE, SHARE, Interval, one_of, parameter
from ..rows import Rows, TrainingRows
from ..training import Batch, Phase, batch_norm_frozen, forward
from .approximate import RetainingUnlearner

__all__ = ["MIUUnlearner"]

# So much of the original's features is kept beside inputs that are too large to be in memory.
BYTES_OF_FEATURES = 2**27
#: The fewest rows to forget in a batch, and the most steps on them in an epoch.
FEWEST_IN_BATCH, MOST_FORGET_STEPS = 16, 30


class MIUUnlearner(RetainingUnlearner):
    r"""Reduce what the net's features tell about the group of the rows to forget (MIU).

    Let z be the features of a row (what enters the net's last linear layer), g its group (y, a),
    and M(z; g) the lower bound on their mutual information that MINE gives
    (:class:`~grmu_sk.mutual_information.InformationCritic`). Each epoch [1]_

    1. *tune*: maximises M over MINE's own small network on the training rows;
    2. *forget* (first ``forget_epochs`` epochs): minimises over the net's weights, on the rows to
       forget,

       .. math:: L_u = M(z; g)

    3. *retain*: minimises on the remaining rows, sampled by REWEIGHT,

       .. math::

           L_r = \ell(f(x), y) + \lambda\,\bigl(M(z; g) - M(z_o; g)\bigr)^2

       with :math:`\ell` the net's criterion and :math:`z_o` the features of the net as it was
       before the request. The second term calibrates: what the features tell about groups on the
       rest should stay what it was.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    forget_epochs : int, default=5
        The forget phase runs in the first so many of them.
    forget_batch_size : int, "auto" or None, default="auto"
        Rows a batch in the forget phase; None means the net's, as in the paper. A forget set is
        often not much larger than that, and the phase would have few steps. ``"auto"`` means 16, or
        as many more as leave 30 steps an epoch: a large forget set in small batches takes so many
        that the net loses what it knows, and its loss may overflow.
    lam : float, default=1.0
        Weight :math:`\lambda` of calibration.
    calibrate_every : int, default=4
        Calibration is added to every fourth batch, say, with four times its weight; in the paper to
        each. MINE is often larger than the head of the net, so that each batch would cost more
        than twice that of fine-tuning.
    reweight : bool or "uniform", default=True
        Whether the retain phase samples by REWEIGHT.
        ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.
    retaining : bool, default=True
        Whether the retain phase trains with the net's criterion (ablation switch).
    unlearning : bool, default=True
        Whether there is a forget phase (ablation switch).
    calibration : bool, default=True
        Whether the retain phase calibrates (ablation switch).
    marginal : {"uniform", "train", "permute"}, default="uniform"
        Where the groups that are independent of z come from, in all three phases: every group
        equally often (as in the paper's algorithm), in the proportions of the training data, or
        the batch's own in another order. Forget sets usually hold a single group, and then
        ``"permute"`` pairs every z with its own group: M can tell nothing about groups.
    estimators : {"shared", "separate", "reference"}, default="shared"
        One MINE network for both terms of calibration, tuned on the net being changed
        (Eq. 6 of the paper); or one each, tuned on its own net; or one each, both tuned on the
        net being changed (the authors' code). Compared on validation rows, ``"shared"`` had the
        best average gap on the built-in data (94.2 against 92.9 and 93.0) and tied with the
        others on UCI Adult and FairFace, where they lay within 0.5 points of each other.
    tune_updates : tuple of int, default=(100, 10)
        Updates of MINE in the first epoch, and in each later one.
    tune_mode : {"eval", "train"}, default="eval"
        Mode of the net while MINE is tuned. In ``"train"`` mode BatchNorm's statistics would be
        updated by rows to forget, in every epoch.
    original_mode : {"eval", "train"}, default="eval"
        Mode of the original net in calibration.
    moving_average_rate : float, default=0.01
        Rate of the moving average that corrects MINE's gradient.
    mine_lr : float, default=0.001
        Learning rate of MINE (SGD). With it MINE learns little more than how frequent the groups
        are; at 0.005 results were no better, and with ``lam=10`` the loss overflowed.
    mine_momentum : float, default=0.9
        Momentum of MINE.
    mine_hidden : int, default=512
        Hidden units of MINE.
    reference : bool, default=False
        Do as the authors' code does where it differs from the paper: ``estimators="reference"``,
        ``tune_updates=(101, 11)``, ``tune_mode="train"``, ``original_mode="train"``; with the
        net's batches and calibration on each. These six parameters are then ignored.
    feature_layer : str or None, default=None
        Dotted name of the layer whose output is z; None takes the input of the last linear layer.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"tune"``, ``"forget"``, ``"retain"``), over
        all runs. ``train_loss`` is -M in ``"tune"`` and M in ``"forget"``, in nats.

    See Also
    --------
    RetrainUnlearner : Exact, and the gold standard MIU is measured against.
    grmu_sk.MINE : The estimator of mutual information by itself.

    Notes
    -----
    Approximate: nothing guarantees that the result equals a net that never saw the rows.

    The second request of the same object calibrates against the net the first one left, since no
    original weight is kept.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.
    .. [2] Belghazi et al., "Mutual Information Neural Estimation", ICML 2018.

    Examples
    --------
    >>> from grmu_sk import MIUUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = MIUUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-3:, "phase"]
    ['retain', 'tune', 'retain']
    """

    method_name = "miu"
    search_grid = {"lr": [0.01, 0.02], "mine_lr": [0.003, 0.01]}
    #: What ``reference=True`` sets.
    REFERENCE: ClassVar[dict[str, Any]] = {
        "estimators": "reference",
        "forget_batch_size": None,
        "calibrate_every": 1,
        "tune_updates": (101, 11),
        "tune_mode": "train",
        "original_mode": "train",
    }
    _phases_that_read_forgotten = ("setup", "tune", "forget")
    _needs_groups = True

    forget_epochs: int = parameter(5, Interval(Integral, 0, None, closed="left"))
    forget_batch_size: int | str | None = parameter("auto", COUNT, one_of("auto"), None)
    lam: float = parameter(1.0, NOT_NEGATIVE)
    calibrate_every: int = parameter(4, COUNT)
    reweight: bool | str = parameter(True, "boolean", one_of("uniform"))
    retaining: bool = parameter(True, "boolean")
    unlearning: bool = parameter(True, "boolean")
    calibration: bool = parameter(True, "boolean")
    marginal: str = parameter("uniform", one_of(*MARGINALS))
    estimators: str = parameter("shared", one_of("shared", "separate", "reference"))
    tune_updates: tuple[int, int] = parameter((100, 10), tuple, list)
    tune_mode: str = parameter("eval", one_of("eval", "train"))
    original_mode: str = parameter("eval", one_of("eval", "train"))
    moving_average_rate: float = parameter(0.01, SHARE)
    mine_lr: float = parameter(0.001, LEARNING_RATE)
    mine_momentum: float = parameter(0.9, Interval(Real, 0, 1, closed="left"))
    mine_hidden: int = parameter(512, COUNT)
    reference: bool = parameter(False, "boolean")
    feature_layer: str | None = parameter(None, str, None)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if len(self.tune_updates) != 2 or min(self.tune_updates) < 0:
            raise ValueError(
                "tune_updates must be two numbers, for the first epoch and for later ones, got "
                f"{self.tune_updates!r}."
            )

    def _check_net(self, net: NeuralNet, data: TrainingRows) -> None:
        super()._check_net(net, data)
        find_feature_layer(net, data.fetch_rows(data.rows[:2]), self.feature_layer)

    def _phases(self, request: Request) -> list[Phase]:
        decided = self.REFERENCE if self.reference else {}
        options = SimpleNamespace(**{**self.get_params(deep=False), **decided})
        information = _Information(options, request)
        phases = []
        if self.unlearning or self.calibration:
            tune = Phase("tune", request.train, work=information.tune, state=information.learned())
            phases.append(tune)
        if self.unlearning:
            forget = Phase("forget", request.forget, loss=information.forget_loss)
            size = options.forget_batch_size
            if size == "auto":
                size = max(FEWEST_IN_BATCH, math.ceil(len(request.forget) / MOST_FORGET_STEPS))
            forget.batch_size, forget.last_epoch = size, self.forget_epochs
            phases.append(forget)
        if self.retaining or self.calibration:
            weights = request.retain_weights(self.reweight)
            loss = information.retain_loss
            phases.append(Phase("retain", request.retain, loss=loss, weights=weights))
        return phases


def _with_graph(loss: torch.Tensor) -> torch.Tensor:
    """Let a loss be differentiated even if every layer it depends on is frozen."""
    return loss if loss.requires_grad else loss.requires_grad_()


class _Information:
    """M(z; g) of the net being changed and of the original one, during one request."""

    def __init__(self, miu: SimpleNamespace, request: Request) -> None:
        self.miu, self.request = miu, request
        self.n_retain_steps = 0  # of this epoch
        self.net, self.data = request.net, request.data
        sample = self.data.fetch_rows(request.train[:2])
        layer = find_feature_layer(self.net, sample, miu.feature_layer)
        self.original = fresh_net(self.net)
        self.taps = {net: FeatureTap(net, *layer) for net in (self.net, self.original)}
        self.tap = self.taps[self.net]
        counts = torch.from_numpy(request.group_counts).double()
        self.train_mix = counts / counts.sum()

        self.net.evaluation_step((sample, None))
        z = self.tap.read()
        self.critic = self._new_critic(z)
        shared = miu.estimators == "shared"
        self.original_critic = self.critic if shared else self._new_critic(z)
        self.optimizers = [
            torch.optim.SGD(critic.parameters(), lr=miu.mine_lr, momentum=miu.mine_momentum)
            for critic in ([self.critic] if shared else [self.critic, self.original_critic])
        ]
        # where nothing varies between epochs the original's features are computed once
        varies = self.data.is_augmented or miu.original_mode == "train"
        needed = miu.calibration or miu.estimators == "separate"
        n_bytes = len(self.data) * z[0].numel() * z.element_size()
        fits = not self.data.is_lazy or n_bytes <= BYTES_OF_FEATURES
        keeps = needed and not varies and fits
        self.original_features = self._features(self.original, self.data.rows) if keeps else None

    def _new_critic(self, z: torch.Tensor) -> InformationCritic:
        critic = InformationCritic(
            z.shape[1],
            self.request.n_groups,
            self.miu.mine_hidden,
            moving_average_rate=self.miu.moving_average_rate,
        )
        return critic.to(z.device, z.dtype).requires_grad_(False)  # it learns in "tune" only

    def learned(self) -> list[Any]:
        """Return what changes during the request, beside the net."""
        critics = list(dict.fromkeys([self.critic, self.original_critic]))
        # in train mode the running statistics of the original net follow the batches, too
        moving = [self.original.module_] if self.miu.original_mode == "train" else []
        return [*critics, *self.optimizers, *moving]

    # tune --------------------------------------------------------------------------------------

    def tune(self, epoch: int) -> Iterator[float]:
        """Maximise M over the critics and yield each update's loss."""
        self.n_retain_steps = 0
        n_updates = self.miu.tune_updates[epoch > 1]
        if n_updates == 0:
            return
        batches = list(islice(self._tuning_batches(), n_updates))
        features = self._tuning_features(self.net, batches)
        if self.miu.estimators == "shared":
            sources = [(self.critic, features)]
        elif self.miu.estimators == "separate":
            of_original = self._tuning_features(self.original, batches)
            sources = [(self.critic, features), (self.original_critic, of_original)]
        else:
            sources = [(self.critic, features), (self.original_critic, features)]
        for critic, _ in sources:
            critic.requires_grad_()
        for number, rows in enumerate(batches):
            yield self._tune_once(sources, number, rows)
        for critic, _ in sources:
            critic.requires_grad_(False)

    def _tune_once(self, sources: list[Any], number: int, rows: Rows) -> float:
        groups = self.data.g[self.data.positions(rows)].to(self.net.device)
        others = self._other_groups(groups)
        # what two critics share is computed once: a second pass in train mode would move
        # BatchNorm's statistics once more
        z = {read: read(number) for read in dict.fromkeys(read for _, read in sources)}
        total = 0.0
        for (critic, read), optimizer in zip(sources, self.optimizers, strict=True):
            optimizer.zero_grad()
            loss = -critic(z[read], groups, others)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / len(sources)

    def _tuning_batches(self) -> Iterator[Rows]:
        """Yield shuffled batches of the training rows, starting over for ever."""
        train = self.request.train
        while True:
            for part in cut_up(torch.randperm(len(train)), self.net.batch_size):
                yield train[part.numpy()]

    def _tuning_features(self, net: Any, batches: list[Rows]) -> Any:
        """Return a function from a batch's number to its features.

        Features do not change while only the critic learns, so every row goes through the net at
        most once, except in train mode, where they depend on the batch. Before its first step
        the net is the original, whose features may be there already.
        """
        if self.miu.tune_mode == "train":
            return lambda number: self._features_of_batch(
                net, self.data.fetch_rows(batches[number]), len(batches[number]), training=True
            )
        stored = self.original_features
        if stored is not None and (net is self.original or same_weights(net, self.original)):
            return lambda number: stored[self.data.positions(batches[number]).to(stored.device)]
        drawn = np.unique(np.concatenate(batches))
        features = self._features(net, drawn)
        return lambda number: features[torch.from_numpy(np.searchsorted(drawn, batches[number]))]

    def _features(self, net: NeuralNet, rows: Rows) -> torch.Tensor:
        tap = self.taps[net]
        return forward(net, self.data, lambda output: tap.read(), rows)

    def _features_of_batch(
        self, net: NeuralNet, X: Any, n_rows: int, *, training: bool
    ) -> torch.Tensor:
        """Return the features of one batch, which train mode makes depend on each other."""
        with batch_norm_frozen(net) if n_rows == 1 else nullcontext():
            net.evaluation_step((X, None), training=training)
        return self.taps[net].read().detach()

    # losses ------------------------------------------------------------------------------------

    def forget_loss(self, batch: Batch) -> torch.Tensor:
        """Return M on rows to forget."""
        return _with_graph(self.critic(self.tap.read(), batch.g, self._other_groups(batch.g)))

    def retain_loss(self, batch: Batch) -> torch.Tensor:
        """Return the criterion and the calibration term on remaining rows."""
        z = self.tap.read()
        loss = batch.criterion() if self.miu.retaining else z.new_zeros(())
        step, self.n_retain_steps = self.n_retain_steps, self.n_retain_steps + 1
        every = self.miu.calibrate_every
        if not self.miu.calibration or step % every:
            return _with_graph(loss)
        others = self._other_groups(batch.g)
        now = self.critic(z, batch.g, others)
        with torch.no_grad():
            before = self.original_critic(self._original_features(batch), batch.g, others)
        return _with_graph(loss + every * self.miu.lam * (now - before) ** 2)

    def _original_features(self, batch: Batch) -> torch.Tensor:
        if self.original_features is not None:
            return self.original_features[batch.positions.to(self.original_features.device)]
        training = self.miu.original_mode == "train"
        return self._features_of_batch(self.original, batch.X, len(batch.g), training=training)

    def _other_groups(self, groups: torch.Tensor) -> torch.Tensor:
        return draw_marginal(groups, self.miu.marginal, self.request.n_groups, self.train_mix)
