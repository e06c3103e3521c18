"""The problems of the benchmark: a data set, its groups, and a network for it."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from .. import datasets
from ..comparison import Split, Splits
from ..groups import Pair
from ..nets import MLP
from .nets import BertClassifier, ChannelsLastCNN, ResNet18

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
    cache_dir : Path or None, default=None
        Folder for decoded images.
    """

    name: str
    root: Path | None
    net_name: str
    image_size: int = 0
    weights: str = NO_WEIGHTS
    cache_dir: Path | None = None

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
        names = ("name", "net_name", "image_size")
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
        if not self.image_size:
            return bunch.data.__getitem__, None
        size, crop, images = self.image_size, bunch.centre_crop, bunch.data
        transform: Any = datasets.EvaluationTransform(size, centre_crop=crop)
        whole = resized = images
        if self.cache_dir is not None:
            # decoded images have been through the transform, save for the scaling of pixels
            cache, transform = self._cached(f"{size}"), None
            resized = datasets.decode_images(images, cache, size=size, centre_crop=crop)
            if self._definition.get("has_equal_sizes"):  # one array holds all, undistorted
                whole = datasets.decode_images(images, self._cached("full"))

        def take(rows: Any) -> Any:
            chosen = datasets.ImageRows(resized, transform, rows)
            is_small = len(images) * 12 * size**2 <= MOST_BYTES_IN_MEMORY
            # without a folder for them images are only decoded where they are needed
            return chosen.precompute() if is_small and self.cache_dir else chosen

        return take, datasets.ImageRows(whole, datasets.TrainingTransform(size), bunch.train)

    def _cached(self, size: str) -> Path:
        assert self.cache_dir is not None
        return self.cache_dir / f"{self._definition['reader'].removeprefix('load_')}-{size}.npy"

    def net(self) -> NeuralNet:
        """Return the uninitialised net; a setting says how it is trained."""
        module, sizes, default = NETS[self.net_name]
        # the digits are small, and so is their net
        parameters = {**(sizes if self.root else {}), "n_classes": self._definition["n_classes"]}
        if default != NO_WEIGHTS:
            parameters["weights"] = None if self.weights == NO_WEIGHTS else self.weights
        if self.net_name == "mlp":
            parameters["n_features"] = _n_features(self)
        return NeuralNetClassifier(
            module,
            **{f"module__{name}": value for name, value in parameters.items()},
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.SGD,
            train_split=None,
            verbose=0,
        )


@cache
def _n_features(problem: Problem) -> int:
    """Return the number of columns of a table, which is the same with every seed."""
    return problem._read().data.shape[1]


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
    cache_dir: str | os.PathLike[str] | None = None,
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
    cache_dir : str or Path or None, default=None
        Folder for decoded images, which are then memory-mapped by all processes; without one,
        images are decoded whenever they are needed.

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
        None if cache_dir is None else Path(cache_dir).absolute(),
    )


def _checked_root(name: str, data_root: str | os.PathLike[str] | None) -> Path | None:
    if name == "digits":
        return None
    if data_root is None or not Path(data_root).exists():
        reader = f"grmu_sk.datasets.{DEFINITIONS[name]['reader']}"
        raise FileNotFoundError(
            f"There is nothing at {data_root}. data_root (--data-root) is the folder or zip file "
            f"with the official files of {name}; {reader} says which, and how to get them."
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
