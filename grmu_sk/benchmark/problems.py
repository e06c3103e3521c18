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


@dataclass(frozen=True)
class _Net:
    """What a name of a network stands for."""

    module: type[nn.Module]
    parameters: dict[str, Any]
    weights: str = NO_WEIGHTS  # where it starts from, if nothing else is asked for
    image_size: int = 0

    @property
    def options(self) -> tuple[str, ...]:
        """Those of :func:`get_problem` that apply to data with this net,."""
        images = ("image_size", "weights", "augment", "cache_dir", "num_workers")
        more = images if self.image_size else ("weights", "num_workers")
        return ("net", "device", *(more if self.module is not MLP else ()))


NETS = {
    "resnet18": _Net(ResNet18, {}, "imagenet", 224),
    "small_cnn": _Net(ChannelsLastCNN, {"width": 8, "depth": 4}, image_size=32),
    "bert": _Net(BertClassifier, {}, "bert-base-uncased"),
    "mlp": _Net(MLP, {"hidden": (64, 64)}),
}


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
    def key(self) -> str:
        """Name of problem and network, by which a preset finds its setting."""
        return f"{self.name}/{self.net_name}"

    @property
    def forget_sets(self) -> dict[str, list[Pair]]:
        """The groups (y, a) that each kind of forget set is drawn from; of all rows if empty."""
        found: dict[str, list[Pair]] = {}
        for name, groups in DEFINITIONS[self.name]["forget_sets"].items():
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
            raise ValueError(
                f"{self.name} has no forget set {forget!r}; it has "
                f"{', '.join(map(repr, self.forget_sets))}."
            )
        return self.forget_sets[forget]

    def identity(self) -> dict[str, Any]:
        """Return what decides the outcome, as plain values: not where data lie or a net runs."""
        path, weights = Path(self.weights), self.weights
        if path.is_file():  # which may lie elsewhere next time
            weights = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        return {
            "name": self.name,
            "net": self.net_name,
            "image_size": self.image_size,
            "weights": weights,
            "augment": self.augment,
        }

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
        definition = DEFINITIONS[self.name]
        seeded = {} if definition.get("has_official_split") else {"random_state": seed}
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
        definition = DEFINITIONS[self.name]
        where = () if self.root is None else (self.root,)
        options |= definition.get("reader_options", {})
        return getattr(datasets, definition["reader"])(*where, **options)

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
        if DEFINITIONS[self.name].get("has_equal_sizes"):  # one array holds all, undistorted
            n_bytes = len(images) * int(np.prod(images.pixels(0).shape))
            if self.cache_dir is not None or n_bytes <= MOST_BYTES_IN_MEMORY:
                images = datasets.decode_images(images, self._cached("full"))
        return datasets.ImageRows(images, datasets.TrainingTransform(self.image_size), bunch.train)

    def _cached(self, size: str) -> Path | None:
        data_set = DEFINITIONS[self.name]["reader"].removeprefix("load_")
        return None if self.cache_dir is None else self.cache_dir / f"{data_set}-{size}.npy"

    def net(self) -> NeuralNet:
        """Return the uninitialised net; a setting says how it is trained."""
        kind, definition = NETS[self.net_name], DEFINITIONS[self.name]
        parameters = {"n_classes": definition["n_classes"], **kind.parameters}
        if self.root is None:  # the digits are small
            parameters = {"n_classes": definition["n_classes"]}
        if kind.weights != NO_WEIGHTS:
            parameters["weights"] = None if self.weights == NO_WEIGHTS else self.weights
        if self.net_name == "mlp":
            parameters["n_features"] = len(_columns(self))
        return NeuralNetClassifier(
            kind.module,
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


def options_of(name: str) -> tuple[str, ...]:
    """Return the options of :func:`get_problem` that apply to a problem."""
    definition = DEFINITIONS[name]
    return tuple(definition.get("options", NETS[definition["nets"][0]].options))


def get_problem(
    name: str, data_root: str | os.PathLike[str] | None = None, **options: Any
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
    **options : dict
        Those that apply to the problem:

        - ``net`` : ``"resnet18"``, ``"small_cnn"``, ``"bert"`` or ``"mlp"``; each problem has a
          default.
        - ``image_size`` : side of the square images in pixels; 224 for ``"resnet18"`` as in the
          paper, 32 for ``"small_cnn"``.
        - ``weights`` : where ``"resnet18"`` and ``"bert"`` start from: ``"imagenet"`` or a name of
          the Hugging Face hub (downloaded once), a local file or folder, or ``"none"`` for random
          ones.
        - ``augment`` : whether random crops and flips of the training images are offered to
          settings that ask for them (default True).
        - ``cache_dir`` : folder for decoded images, which are then memory-mapped by all
          processes; without one, each call of ``load`` decodes them anew.
        - ``device`` : default ``"cuda"`` if there is one, else ``"cpu"``.
        - ``num_workers`` : processes that read batches (default 0).

    Returns
    -------
    Problem
        The problem. Data are read when its ``load`` is called.

    Raises
    ------
    ValueError
        If the name, an option or a value is unknown, or ``data_root`` is missing.
    FileNotFoundError
        If there is nothing at ``data_root`` or at ``weights``.

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
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in options_of(name):
            raise ValueError(
                f"The option {option!r} does not apply to {name}, which takes "
                f"{', '.join(options_of(name))}."
            )
    nets = tuple(DEFINITIONS[name]["nets"])
    net_name = given.get("net", nets[0])
    if net_name not in nets:
        raise ValueError(f"net for {name} must be one of {nets}, got {net_name!r}.")
    size = given.get("image_size", 0 if name == "digits" else NETS[net_name].image_size)
    for option, value, least in (
        ("image_size", size, 8 if size else 0),
        ("num_workers", given.get("num_workers", 0), 0),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{option} must be a whole number from {least}, got {value!r}.")
    device = given.get("device", "cuda" if torch.cuda.is_available() else "cpu")
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' was asked for, and there is none: use device='cpu'.")
    return Problem(
        name,
        _checked_root(name, data_root),
        net_name,
        size,
        _checked_weights(given.get("weights"), net_name),
        bool(given.get("augment", True)),
        Path(given["cache_dir"]).absolute() if "cache_dir" in given else None,
        str(device),
        given.get("num_workers", 0),
    )


def _checked_root(name: str, data_root: str | os.PathLike[str] | None) -> Path | None:
    reader = f"grmu_sk.datasets.{DEFINITIONS[name]['reader']} says which, and how to get them."
    if name == "digits":
        if data_root is not None:
            raise ValueError("The digits come with the package: leave data_root out.")
        return None
    if data_root is None:
        raise ValueError(
            f"{name} needs data_root, the folder or zip file with its official files; {reader}"
        )
    if not Path(data_root).exists():
        raise FileNotFoundError(
            f"There is nothing at {data_root}. data_root must be the folder or zip file with the "
            f"files of {name}; {reader}"
        )
    return Path(data_root).absolute()


def _checked_weights(weights: str | os.PathLike[str] | None, net_name: str) -> str:
    default = NETS[net_name].weights
    if weights is None or weights in (default, NO_WEIGHTS):
        return str(weights or default)
    if default == NO_WEIGHTS:
        raise ValueError(f"There are no trained weights for {net_name}: leave weights out.")
    path = Path(weights)
    if path.exists():
        return str(path.absolute())
    if net_name == "bert" and isinstance(weights, str):
        return weights  # a name of the hub
    raise FileNotFoundError(
        f"There is no file of weights at {path}. weights must be {default!r}, '{NO_WEIGHTS}' or "
        "the path of a file."
    )
