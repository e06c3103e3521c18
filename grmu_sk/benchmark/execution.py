"""The steps of a comparison, in memory: train, let a method forget, measure."""

from __future__ import annotations

import warnings
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import UndefinedMetricWarning
from torch.utils.data import Dataset, Subset

from ..base import BaseUnlearner
from ..groups import Pair
from ..metrics import SplitPredictions, evaluate_predictions, group_accuracies
from ..unlearners import RetrainUnlearner
from .splits import Split, Splits

__all__ = ["evaluate", "forget_rows", "train_on_all", "warm_up"]

Scores = dict[str, float]

N_WARM_UP_BATCHES = 2


def train_on_all(net: Any, splits: Splits, inputs: Any, seed: int) -> tuple[BaseUnlearner, float]:
    """Train a net on all training rows.

    Parameters
    ----------
    net : NeuralNet
        What is trained; not modified.
    splits : Splits
        The data.
    inputs : array, tensor or Dataset
        Inputs of the training rows, see :meth:`Splits.training_inputs`.
    seed : int
        Of weights and batches.

    Returns
    -------
    unlearner : BaseUnlearner
        Holds the trained net, and no data.
    seconds : float
        What it took.
    """
    unlearner = RetrainUnlearner(net, random_state=seed, store_data=False)
    start = _clock(net)
    unlearner.fit(inputs, splits.train.y, splits.train.groups)
    return unlearner, _clock(net) - start


def forget_rows(
    unlearner: BaseUnlearner, net: Any, splits: Splits, inputs: Any, forget: NDArray[np.bool_]
) -> float:
    """Let an unfitted unlearner forget rows.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Not fitted: around a net to train, or around a trained one. It is fitted here.
    net : NeuralNet
        The net in it, which says where the work is done.
    splits : Splits
        The data.
    inputs : array, tensor or Dataset
        Inputs of the training rows.
    forget : ndarray of bool
        Mask of the training rows to forget.

    Returns
    -------
    float
        Seconds of the unlearning alone; for a method that trains from scratch, of its training.

    Raises
    ------
    FloatingPointError
        If a loss was not finite.
    """
    train = splits.train
    if not unlearner._needs_trained_net:
        start = _clock(net)
        unlearner.fit(inputs, train.y, train.groups, forget=forget)
        return _clock(net) - start
    unlearner.fit(inputs, train.y, train.groups)
    start = _clock(net)
    unlearner.unlearn(np.flatnonzero(forget))
    return _clock(net) - start


def evaluate(
    unlearner: BaseUnlearner,
    splits: Splits,
    forget: NDArray[np.bool_],
    forget_groups: list[Pair] | None = None,
) -> Scores:
    """Compute all metrics of a model from one forward pass a split.

    Parameters
    ----------
    unlearner : BaseUnlearner
        A fitted unlearner.
    splits : Splits
        The data.
    forget : ndarray of bool
        Mask of the training rows that count as forgotten.
    forget_groups : list of tuple or None, default=None
        The groups (y, a) that they come from; None or empty takes those of ``splits``.

    Returns
    -------
    dict of str to float
        Fractions in [0, 1]. What is undefined for want of test rows is left out.
    """
    proba = unlearner.predict_proba(splits.train.X)
    y = splits.train.y
    test = _predictions(unlearner, splits.test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        scores = evaluate_predictions(
            classes=unlearner.classes_,
            remaining=SplitPredictions(y[~forget], proba[~forget]),
            forget=SplitPredictions(y[forget], proba[forget]),
            test=test,
            holdout=_predictions(unlearner, splits.validation),
            forget_groups=forget_groups or splits.forget_groups,
            empty="nan",
            n_jobs=1,
        )
    scores = {name: value for name, value in scores.items() if not np.isnan(value)}
    predicted = unlearner.classes_[np.asarray(test.proba).argmax(axis=1)]
    by_group = group_accuracies(splits.test.y, predicted, groups=splits.test.groups)
    return scores | {f"group_accuracy[{y}, {a}]": acc for (y, a), acc in by_group.items()}


def warm_up(net: Any, splits: Splits) -> None:
    """Let a new process do what is done only once, so that it is not counted.

    Parameters
    ----------
    net : NeuralNet
        What will be trained; not modified.
    splits : Splits
        The data.
    """
    train = splits.train
    size = net.batch_size if net.batch_size > 0 else len(train.y)
    _, of_each_class = np.unique(train.y, return_index=True)
    rows = np.union1d(of_each_class, np.arange(min(N_WARM_UP_BATCHES * size, len(train.y))))
    once = RetrainUnlearner(clone(net).set_params(max_epochs=1, callbacks=[]), store_data=False)
    once.fit(_some(train.X, rows), train.y[rows], train.groups[rows])


def _some(X: Any, rows: NDArray[np.int64]) -> Any:
    return Subset(X, rows.tolist()) if isinstance(X, Dataset) else X[rows]


def _clock(net: Any) -> float:
    """Return seconds: of work on a CPU, whatever else runs there, and of waiting on a GPU."""
    device = torch.device(net.device or "cpu")
    if device.type == "cpu":
        return process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def _predictions(unlearner: BaseUnlearner, split: Split) -> SplitPredictions:
    return SplitPredictions(split.y, unlearner.predict_proba(split.X), split.groups)
