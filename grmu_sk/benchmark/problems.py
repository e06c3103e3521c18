"""The problems of the benchmark: a data set, its groups, and a network for it."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils import Bunch
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from .. import datasets
from ..comparison import Split, Splits
from ..groups import Pair
from ..nets import MLP
from .nets import BertClassifier, ChannelsLastCNN, ResNet18

__all__ = ["Problem", "get_problem", "problem_names"]

DEFINITIONS = tomllib.loads(
    files("grmu_sk.benchmark").joinpath("data/problems.toml").read_text(encoding="utf-8")
)
# More than this is read when needed, instead of being held in memory.
MOST_BYTES_IN_MEMORY = 2**30
#: The value of ``weights`` that asks for random ones.
NO_WEIGHTS = "none"


#: Of each network its module, its sizes, and where it starts from.
NETS: dict[str, tuple[type[nn.Module], dict[str, Any], str]] = {
    "resnet18": (ResNet18, {}, "imagenet"),
    "small_cnn": (ChannelsLastCNN, {"width": 8, "depth": 4}, NO_WEIGHTS),
    "bert": (BertClassifier, {}, "bert-base-uncased"),
    "mlp": (MLP, {"hidden": (64, 64)}, NO_WEIGHTS),
}
IMAGE_SIZES = {"resnet18": 224, "small_cnn": 32}


@dataclass(frozen=True)
class Problem:
    """What is compared on: data, a network, and where forget sets come from.

    Made by :func:`get_problem`. It can be sent to other processes: data are read by ``load``.

    Parameters
    ----------
    name : str
        What results call it.
    root : Path or None
        Folder or file with the data.
    net_name : str
        Which network it is: settings depend on it.
    image_size : int, default=0
        Side of the square images in pixels.
    weights : str, default="none"
        Where the network starts from.
    augment : bool, default=True
        Whether training transforms are offered.
    cache_dir : Path or None, default=None
        Folder for decoded images.
    device : str, default="cpu"
        Where the network runs.
    num_workers : int, default=0
        Processes that read batches.
    """

    name: str
    root: Path | None
    net_name: str
    image_size: int = 0
    weights: str = NO_WEIGHTS
    augment: bool = True
    cache_dir: Path | None = None
    device: str = "cpu"
    num_workers: int = 0

    @property
    def _definition(self) -> dict[str, Any]:
        return DEFINITIONS[self.name]

    @property
    def key(self) -> str:
        """Name of problem and network, by which a preset finds its setting."""
        return f"{self.name}/{self.net_name}"

    @property
    def forget_sets(self) -> dict[str, list[Pair]]:
        """The groups (y, a) that each kind of forget set is drawn from; of all rows if empty."""
        found: dict[str, list[Pair]] = {}
        for name, groups in self._definition["forget_sets"].items():
            is_product = isinstance(groups, dict)
            pairs = product(groups["labels"], groups["attributes"]) if is_product else groups
            found[name] = [(y, a) for y, a in pairs]
        return {**found, "random": []}

    def pairs(self, forget: str) -> list[Pair]:
        """Return the groups of a forget set.

        Parameters
        ----------
        forget : str
            Its name.

        Returns
        -------
        list of tuple
            The pairs (y, a).

        Raises
        ------
        ValueError
            If the problem has no such forget set.
        """
        if forget not in self.forget_sets:
            known = ", ".join(self.forget_sets)
            raise ValueError(f"{self.name} has no forget set {forget!r}; it has {known}.")
        return self.forget_sets[forget]

    def identity(self) -> dict[str, Any]:
        """Return what decides the outcome, as plain values: not where data lie or a net runs."""
        weights, path = self.weights, Path(self.weights)
        if path.is_file():  # which may lie elsewhere next time
            weights = hashlib.sha256(path.read_bytes()).hexdigest()
        names = ("name", "net_name", "image_size", "augment")
        return {**{name: getattr(self, name) for name in names}, "weights": weights}

    def load(self, seed: int) -> Splits:
        """Read the data of one run.

        Parameters
        ----------
        seed : int
            Of the cut into training and validation rows, where a data set has no official one.

        Returns
        -------
        Splits
            The data; ``forget_groups`` is the group of the forget set ``"group"``.
        """
        seeded = {} if self._definition.get("has_official_split") else {"random_state": seed}
        bunch = self._read(**seeded)
        if self.root is None:
            return Splits.from_bunch(self.name, bunch)
        y = np.asarray(bunch.target_names)[bunch.target]
        a = np.asarray(bunch.group_names)[bunch.groups]
        inputs, augmented = self._inputs(bunch)
        train, validation, test = (
            Split(inputs(bunch[part]), y[bunch[part]], a[bunch[part]])
            for part in ("train", "validation", "test")
        )
        return Splits(self.name, train, validation, test, self.forget_sets["group"], augmented)

    def _read(self, **options: Any) -> Bunch:
        where = () if self.root is None else (self.root,)
        options |= self._definition.get("reader_options", {})
        return getattr(datasets, self._definition["reader"])(*where, **options)

    def _inputs(self, bunch: Bunch) -> tuple[Any, Any]:
        """Return how the inputs of some rows are taken, and those of training under transforms."""
        if self.image_size:
            return self._evaluated(bunch), self._augmented(bunch) if self.augment else None
        data = bunch.data
        if self.net_name == "mlp":
            # a category that no training row of a seed has would otherwise have no column, and
            # the network another size
            table = pd.DataFrame(data, columns=bunch.feature_names)
            data = table.reindex(columns=list(_columns(self)), fill_value=0).to_numpy(np.float32)
        return data.__getitem__, None

    def _evaluated(self, bunch: Bunch) -> Callable[[Any], Any]:
        """Return what takes photographs, cut and resized as in the paper."""
        size, crop, images = self.image_size, bunch.centre_crop, bunch.data
        n_bytes = len(images) * 3 * size**2
        transform: Any = datasets.EvaluationTransform(size, centre_crop=crop)
        if self.cache_dir is not None or n_bytes <= MOST_BYTES_IN_MEMORY:
            # decoded images have been through the transform, save for the scaling of pixels
            cache, transform = self._cached(f"{size}"), None
            images = datasets.decode_images(images, cache, size=size, centre_crop=crop)

        def take(rows: Any) -> Any:
            chosen = datasets.ImageRows(images, transform, rows)
            return chosen if 4 * n_bytes > MOST_BYTES_IN_MEMORY else chosen.precompute()

        return take

    def _augmented(self, bunch: Bunch) -> datasets.ImageRows:
        """Return the photographs of training, of which random parts are taken."""
        images = bunch.data
        if self._definition.get("has_equal_sizes"):  # one array holds all, undistorted
            n_bytes = len(images) * int(np.prod(images.pixels(0).shape))
            if self.cache_dir is not None or n_bytes <= MOST_BYTES_IN_MEMORY:
                images = datasets.decode_images(images, self._cached("full"))
        return datasets.ImageRows(images, datasets.TrainingTransform(self.image_size), bunch.train)

    def _cached(self, size: str) -> Path | None:
        data_set = self._definition["reader"].removeprefix("load_")
        return None if self.cache_dir is None else self.cache_dir / f"{data_set}-{size}.npy"

    def net(self) -> NeuralNet:
        """Return the uninitialised net; a setting says how it is trained."""
        module, sizes, default = NETS[self.net_name]
        # the digits are small, and so is their net
        parameters = {**(sizes if self.root else {}), "n_classes": self._definition["n_classes"]}
        if default != NO_WEIGHTS:
            parameters["weights"] = None if self.weights == NO_WEIGHTS else self.weights
        if self.net_name == "mlp":
            parameters["n_features"] = len(_columns(self))
        return NeuralNetClassifier(
            module,
            **{f"module__{name}": value for name, value in parameters.items()},
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.SGD,
            train_split=None,
            verbose=0,
            device=self.device,
            iterator_train__num_workers=self.num_workers,
            iterator_valid__num_workers=self.num_workers,
        )


@cache
def _columns(problem: Problem) -> tuple[str, ...]:
    """Return a column for each number and each category that occurs in the files."""
    frame = problem._read().frame.drop(columns="income")
    texts = [name for name in frame if frame[name].dtype.kind not in "iuf"]
    numbers = [name for name in frame if name not in texts]
    return (*numbers, *(f"{n}_{value}" for n in texts for value in sorted(frame[n].unique())))


def problem_names() -> list[str]:
    """Return the names that :func:`get_problem` knows.

    Returns
    -------
    list of str
        Names.
    """
    return list(DEFINITIONS)


def get_problem(
    name: str,
    data_root: str | os.PathLike[str] | None = None,
    *,
    net: str | None = None,
    image_size: int | None = None,
    weights: str | os.PathLike[str] | None = None,
    augment: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
    device: str | None = None,
    num_workers: int = 0,
) -> Problem:
    """Return a problem of the benchmark.

    Parameters
    ----------
    name : str
        One of :func:`problem_names`: the paper's ``"celeba"`` (blond hair, sex),
        ``"waterbirds"``, ``"fairface"`` (age, race) and ``"multinli"``; its second split of
        CelebA, ``"celeba_attractive"``; UCI Adult with two attributes, ``"adult_sex"`` and
        ``"adult_race"``; and the built-in ``"digits"``.
    data_root : str or Path or None, default=None
        Folder or file with the data, in their official layout; not needed for ``"digits"``.
    net : {"resnet18", "small_cnn", "bert", "mlp"} or None, default=None
        Which of those that the problem has; None for its default.
    image_size : int or None, default=None
        Side of the square images in pixels; None for 224 with ``"resnet18"`` as in the paper, and
        32 with ``"small_cnn"``.
    weights : str or Path or None, default=None
        Where ``"resnet18"`` and ``"bert"`` start from: ``"imagenet"`` or a name of the Hugging
        Face hub (downloaded once), a local file or folder, or ``"none"`` for random ones.
    augment : bool, default=True
        Whether random crops and flips of the training images are offered to settings that ask for
        them.
    cache_dir : str or Path or None, default=None
        Folder for decoded images, which are then memory-mapped by all processes; without one,
        each call of ``load`` decodes them anew.
    device : str or None, default=None
        Where the network runs; None for ``"cuda"`` if there is one, else ``"cpu"``.
    num_workers : int, default=0
        Processes that read batches.

    Returns
    -------
    Problem
        The problem. Data are read when its ``load`` is called.

    Raises
    ------
    ValueError
        If the name or the network is unknown, or weights are given to a network without any.
    FileNotFoundError
        If there is nothing at ``data_root``.

    Examples
    --------
    >>> from grmu_sk.benchmark import get_problem
    >>> problem = get_problem("digits")
    >>> problem.forget_sets
    {'group': [('even', 'orange')], 'random': []}
    >>> len(problem.load(0).train.y)
    1437
    """
    if name not in DEFINITIONS:
        raise ValueError(f"There is no problem {name!r}; there are {', '.join(DEFINITIONS)}.")
    nets = DEFINITIONS[name]["nets"]
    net_name = net or nets[0]
    if net_name not in nets:
        raise ValueError(f"net for {name} must be one of {nets}, got {net_name!r}.")
    has_images = name != "digits" and net_name in IMAGE_SIZES
    return Problem(
        name,
        _checked_root(name, data_root),
        net_name,
        (image_size or IMAGE_SIZES[net_name]) if has_images else 0,
        _checked_weights(weights, net_name),
        augment,
        None if cache_dir is None else Path(cache_dir).absolute(),
        device or ("cuda" if torch.cuda.is_available() else "cpu"),
        num_workers,
    )


def _checked_root(name: str, data_root: str | os.PathLike[str] | None) -> Path | None:
    if name == "digits":
        return None
    if data_root is None or not Path(data_root).exists():
        reader = f"grmu_sk.datasets.{DEFINITIONS[name]['reader']}"
        raise FileNotFoundError(
            f"There is nothing at {data_root}: data_root must be the folder or zip file with the "
            f"official files of {name}; {reader} says which, and how to get them."
        )
    return Path(data_root).absolute()


def _checked_weights(weights: str | os.PathLike[str] | None, net_name: str) -> str:
    default = NETS[net_name][2]
    if weights is None or weights in (default, NO_WEIGHTS):
        return str(weights or default)
    if default == NO_WEIGHTS:
        raise ValueError(f"There are no trained weights for {net_name}: leave weights out.")
    # what is no file is a name of the hub, for BERT
    return str(Path(weights).absolute()) if Path(weights).exists() else str(weights)
