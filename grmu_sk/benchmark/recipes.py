"""How networks are trained in the benchmark: the learning rate over time, and the best epoch."""

from __future__ import annotations

import copy
import math
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from skorch import NeuralNet
from skorch.callbacks import Callback

from ..base import BaseUnlearner
from ..net_copies import fresh_net, input_dtype
from ..outputs import log_probabilities
from ..rows import InputRows
from ..training import forward

__all__ = ["BestEpoch", "WarmUpSchedule"]

SCHEDULES = ("cosine", "constant")


class WarmUpSchedule(Callback):
    r"""Linear warm-up in every step, then cosine annealing or a constant rate in every epoch.

    The recipe of [1]_ for training. With base rate :math:`\eta`, :math:`w` epochs of warm-up of
    :math:`b` batches each, and :math:`E` epochs in all, batch :math:`i` (from 0) of epoch
    :math:`e` (from 1) is trained with

    .. math::

        \eta_{e, i} = \begin{cases}
            \eta \, \dfrac{(e - 1) b + i}{w b} & e \le w \\[1ex]
            \dfrac{\eta}{2} \left(1 + \cos \dfrac{\pi (e - w - 1)}{E - w}\right) & e > w,
        \end{cases}

    so that the very first step has rate 0, epoch :math:`w + 1` has the base rate, and the last
    epoch a small remainder (0.3 % for 30 epochs with 2 of warm-up).

    Parameters
    ----------
    warmup_epochs : int, default=2
        Epochs of warm-up, w; 0 for none.
    schedule : {"cosine", "constant"}, default="cosine"
        What follows.
    epochs : int or None, default=None
        E, all epochs; None takes the net's ``max_epochs``.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.benchmark.recipes import WarmUpSchedule
    >>> schedule = WarmUpSchedule(warmup_epochs=2, epochs=30)
    >>> [round(schedule.factor(epoch, 0, n_batches=10, epochs=30), 3) for epoch in (1, 2, 3, 30)]
    [0.0, 0.5, 1.0, 0.003]
    """

    # an epoch of several phases is one epoch
    once_per_epoch = True

    def __init__(
        self, warmup_epochs: int = 2, schedule: str = "cosine", epochs: int | None = None
    ) -> None:
        self.warmup_epochs = warmup_epochs
        self.schedule = schedule
        self.epochs = epochs

    def factor(self, epoch: int, batch: int, n_batches: int, epochs: int) -> float:
        """Return the share of the base rate in one step.

        Parameters
        ----------
        epoch : int
            Number of the epoch, from 1.
        batch : int
            Number of the batch in it, from 0.
        n_batches : int
            Batches an epoch.
        epochs : int
            Epochs in all.

        Returns
        -------
        float
            Between 0 and 1.
        """
        if epoch <= self.warmup_epochs:
            return ((epoch - 1) * n_batches + batch) / (self.warmup_epochs * n_batches)
        if self.schedule == "constant":
            return 1.0
        n_annealed = max(epochs - self.warmup_epochs, 1)
        done = min(epoch - self.warmup_epochs - 1, n_annealed)
        return (1 + math.cos(math.pi * done / n_annealed)) / 2

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Check the schedule and remember the base rates."""
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.schedule!r}.")
        self.base_rates_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_epoch_begin(
        self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Count the epoch's batches."""
        size = net.get_params_for("iterator_train").get("batch_size", net.batch_size)
        self.n_batches_ = 1 if size == -1 else max(math.ceil(len(dataset_train) / size), 1)
        self.batch_ = 0

    def on_batch_begin(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Set the rate of the step to come."""
        if not training:
            return
        epochs = net.max_epochs if self.epochs is None else self.epochs
        epoch = net.history[-1, "epoch"]
        factor = self.factor(epoch, self.batch_, self.n_batches_, epochs)
        self._set_rates(net, factor)
        self.batch_ += 1

    def on_train_end(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Put the base rates back, so that a next run does not take the last ones for them."""
        self._set_rates(net, 1.0)

    def _set_rates(self, net: NeuralNet, factor: float) -> None:
        for group, rate in zip(net.optimizer_.param_groups, self.base_rates_, strict=True):
            group["lr"] = factor * rate


class BestEpoch:
    """Keeps the epoch that does best on validation rows, of one training run.

    After each epoch the net predicts the validation rows, in eval mode and in one pass; the weights
    of the epoch with the highest accuracy so far (of equals, the first) are kept here, not in the
    net. The net itself goes on to its last epoch, so one run yields both models: what was trained,
    and :meth:`best_of` it. The draws of training are not touched.

    Hand :attr:`callback` to the net. It holds a weak reference to this object; its copies in files
    or other processes hold none.

    Parameters
    ----------
    X : array, tensor or Dataset of length n_samples
        Validation inputs.
    y : array-like of shape (n_samples,)
        Their labels.
    classes : array-like of shape (n_classes,)
        The labels in ascending order: which one each output of the net stands for. An unlearner
        calls it ``classes_``, and it is ``np.unique(y_train)``.

    Attributes
    ----------
    curve : list of float
        Validation accuracy after each epoch of the latest run, in [0, 1].
    kept_epoch : int or None
        The best epoch, from 1; None before any.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk import RetrainUnlearner
    >>> from grmu_sk.benchmark.recipes import BestEpoch
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> from grmu_sk.nets import default_net
    >>> data = load_digits_on_backgrounds()
    >>> train, validation = data.train[:200], data.validation
    >>> y = data.target
    >>> best = BestEpoch(data.data[validation], y[validation], np.unique(y[train]))
    >>> net = default_net(data.data[train], n_classes=2)
    >>> net = net.set_params(max_epochs=5, callbacks=[("best_epoch", best.callback)])
    >>> last = RetrainUnlearner(net, reweight=False, random_state=0).fit(data.data[train], y[train])
    >>> model = best.best_of(last)
    >>> len(best.curve), best.kept_epoch == 1 + int(np.argmax(best.curve))
    (5, True)
    >>> model.score(data.data[validation], y[validation]) == max(best.curve)
    True
    """

    def __init__(self, X: Any, y: ArrayLike, classes: ArrayLike) -> None:
        self.X, self.y, self.classes = X, np.asarray(y), np.asarray(classes)
        self.clear()

    @property
    def callback(self) -> KeepBestEpoch:
        """What to put among a net's callbacks."""
        return KeepBestEpoch(weakref.ref(self))

    def clear(self) -> None:
        """Begin a new record: an earlier run may have seen rows that are forgotten now."""
        self.curve: list[float] = []
        self.kept_epoch: int | None = None
        self._weights: dict[str, torch.Tensor] | None = None

    def measure(self, net: NeuralNet) -> None:
        """Measure an epoch and, if it is the best so far, keep the weights."""
        rows = InputRows(self.X, *input_dtype(net))
        predicted = forward(net, rows, lambda out: log_probabilities(net, out).argmax(dim=1))
        accuracy = float((self.classes[predicted.cpu().numpy()] == self.y).mean())
        if not self.curve or accuracy > max(self.curve):
            self.kept_epoch = len(self.curve) + 1
            state = net.module_.state_dict()
            self._weights = {n: v.detach().to("cpu", copy=True) for n, v in state.items()}
        self.curve.append(accuracy)
        net.history.record("validation_accuracy", accuracy)

    def best_of(self, unlearner: BaseUnlearner) -> BaseUnlearner:
        """Return a copy of a trained unlearner that has the weights of the best epoch.

        Parameters
        ----------
        unlearner : BaseUnlearner
            Fitted with this callback; it is not changed.

        Returns
        -------
        BaseUnlearner
            The same rows and parameters, other weights.

        Raises
        ------
        ValueError
            If no epoch was seen: this was not among the callbacks of the net that was trained.
        """
        if self._weights is None:
            raise ValueError("No epoch was recorded: its callback was not among the net's.")
        best = copy.copy(unlearner)
        best.net_ = fresh_net(unlearner.net_)
        best.net_.module_.load_state_dict(self._weights)
        best.net_.history = best.history_
        return best


class KeepBestEpoch(Callback):
    """Tells a :class:`BestEpoch` about each epoch; made by :attr:`BestEpoch.callback`.

    Parameters
    ----------
    record_of : weakref.ref or None, default=None
        Where to keep the best epoch. With None, or when nobody holds it any more, nothing is done.
    """

    # an epoch of several phases is one epoch
    once_per_epoch = True

    def __init__(self, record_of: weakref.ref[BestEpoch] | None = None) -> None:
        self.record_of = record_of

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Begin a new record."""
        if record := self.record_of and self.record_of():
            record.clear()

    def on_epoch_end(
        self, net: NeuralNet, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Measure the epoch."""
        if record := self.record_of and self.record_of():
            record.measure(net)

    def __deepcopy__(self, memo: dict[int, Any]) -> KeepBestEpoch:
        return KeepBestEpoch(self.record_of)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "record_of": None}
