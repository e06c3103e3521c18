"""The rows of a comparison: training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..groups import Pair


@dataclass(frozen=True)
class Split:
    """Inputs, labels and protected attribute of some rows."""

    X: Any
    y: NDArray[Any]
    groups: NDArray[Any]


@dataclass(frozen=True)
class Splits:
    """A data set cut for a comparison.

    Parameters
    ----------
    name : str
        What tables call the data set.
    train, validation, test : Split
        Disjoint rows. Validation rows are the membership attack's non-members; test rows are only
        ever evaluated.
    forget_groups : list of tuple
        The groups (y, a) the requests come from.
    augmented : Dataset or None, default=None
        Inputs of the training rows as a net is to be trained on them, where a row comes out
        differently each time. None if there is no such choice. What is evaluated is always
        ``train.X``.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    forget_groups: list[Pair]
    augmented: Any = None

    def training_inputs(self, augment: bool) -> Any:
        """Return the inputs of the training rows for training.

        Parameters
        ----------
        augment : bool
            Whether under training transforms.

        Returns
        -------
        array, tensor or Dataset
            ``augmented`` if asked for and there; else ``train.X``.
        """
        return self.augmented if augment and self.augmented is not None else self.train.X

    @classmethod
    def from_bunch(cls, name: str, bunch: Any) -> Splits:
        """Cut a data set of :mod:`grmu_sk.datasets`, with names in place of numbers.

        Parameters
        ----------
        name : str
            What tables call the data set.
        bunch : Bunch
            As returned by a loader, for example
            :func:`~grmu_sk.datasets.load_digits_on_backgrounds`. Its ``data`` must be an array or
            a tensor.

        Returns
        -------
        Splits
            The forget group is the one that the paper forgets, where the data say so; else the
            smallest group of the training rows.
        """
        is_bunch = isinstance(bunch, Bunch)
        missing = [key for key in _NEEDED if not (is_bunch and key in bunch)]
        if missing:
            raise TypeError(
                f"bunch must be what a loader of grmu_sk.datasets returns; it has no {missing}."
            )
        target, groups = (
            _named(bunch.target, bunch.target_names),
            _named(bunch.groups, bunch.group_names),
        )

        def cut(rows: NDArray[Any]) -> Split:
            return Split(bunch.data[rows], target[rows], groups[rows])

        y, a = bunch.get("forget_group") or bunch.smallest_group
        pair = (bunch.target_names[y], bunch.group_names[a])
        return cls(name, cut(bunch.train), cut(bunch.validation), cut(bunch.test), [pair])


_NEEDED = ("target", "target_names", "groups", "group_names", "train", "validation", "test", "data")


def _named(numbers: NDArray[Any], names: list[str]) -> NDArray[Any]:
    return np.asarray(names)[numbers]
