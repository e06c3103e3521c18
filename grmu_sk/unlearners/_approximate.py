"""What the approximate methods share: they go on training the net they are given."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import LRScheduler

from ..base import BaseUnlearner, Request, check_reweight
from ..training import Phase, train
from ..utils._random import RandomState
from ..utils.arguments import LARGEST


class ApproximateUnlearner(BaseUnlearner):
    """Base class of methods that change the trained net in a few epochs.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None
        What to train and to unlearn from.
    max_epochs : int
        Epochs of an unlearning run.
    lr : float or None
        Learning rate of an unlearning run; None means the net's.
    batch_size : int or None
        Rows a batch of an unlearning run; None means the net's.
    reweight : bool or "uniform"
        Sample the remaining rows by REWEIGHT, or uniformly with replacement.
    feature_layer : str or None
        Dotted name of the layer whose output is the features.
    random_state : int, RandomState instance or None
        Seed.
    store_data : bool
        Keep the training rows for ``unlearn``.
    keep_forgotten : bool
        Keep forgotten rows as well.
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        max_epochs: int = 10,
        lr: float | None = None,
        batch_size: int | None = None,
        reweight: bool | str = False,
        feature_layer: str | None = None,
        random_state: RandomState = None,
        store_data: bool = True,
        keep_forgotten: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            feature_layer=feature_layer,
            random_state=random_state,
            store_data=store_data,
            keep_forgotten=keep_forgotten,
        )
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.reweight = reweight

    @property
    def _needs_groups(self) -> bool:  # type: ignore[override]
        return bool(self.reweight) and self.reweight != "uniform"

    @abstractmethod
    def _phases(self, request: Request) -> list[Phase]:
        """Return the phases of one epoch, in order."""

    def _net_parameters(self) -> dict[str, Any]:
        given = {"lr": self.lr, "batch_size": self.batch_size}
        return {name: value for name, value in given.items() if value is not None}

    def _check_parameters(self) -> None:
        check_reweight(self.reweight)
        if self.max_epochs < 1:
            raise ValueError(f"max_epochs must be at least 1, got {self.max_epochs!r}.")
        if self.lr is not None and not 0 <= self.lr <= LARGEST:
            raise ValueError(f"lr must be finite and not negative, got {self.lr!r}.")
        if self.batch_size is not None and self.batch_size < 1 and self.batch_size != -1:
            raise ValueError(
                f"batch_size must be at least 1, or -1 for all rows, got {self.batch_size!r}."
            )

    def _unlearn(self, request: Request) -> NeuralNet:
        _fit_schedule(request.net, self.max_epochs)
        return train(
            request.net,
            request.data,
            self._phases(request),
            epochs=self.max_epochs,
            validation=request.validation,
            progress=request.progress,
        )


def _fit_schedule(net: NeuralNet, epochs: int) -> None:
    """Let a schedule that was made to end with training end with unlearning instead."""
    for _, callback in net.callbacks_:
        if isinstance(callback, LRScheduler) and callback.kwargs.get("T_max") == net.max_epochs:
            callback.T_max = epochs
