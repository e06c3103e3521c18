"""The problems of the benchmark: a data set, its groups, and a network for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from skorch import NeuralNet, NeuralNetClassifier
from torch import nn

from ..bert import BertClassifier
from ..groups import Pair
from ..nets import MLP
from ..utils.arguments import check_types
from ._loading import ImageLoader, TableLoader, TextLoader, adult_columns, load_digits_problem
from ._networks import ChannelsLastCNN
from .forget_sets import product_pairs
from .splits import Splits

__all__ = ["Problem", "get_problem", "problem_names"]


@dataclass(frozen=True)
class Problem:
    """What is compared on: data, a network, and where forget sets come from.

    It can be pickled and sent to other processes: data are read by ``load``.

    Parameters
    ----------
    name : str
        What results call it.
    load : callable
        ``load(seed) -> Splits``. The seed is that of the cut into training and validation rows,
        where a data set has no official one. ``Splits.forget_groups`` is the group of the forget
        set ``"group"``.
    net : callable
        ``net() -> NeuralNet``, uninitialised, without ``train_split``. How it is trained is said by
        a :class:`~grmu_sk.benchmark.settings.Setting`.
    forget_sets : mapping of str to list of tuple
        The groups (y, a) that each kind of forget set is drawn from: ``"group"`` (one group),
        ``"groups-9"`` and ``"groups-25"`` (all combinations of some labels and attribute values),
        ``"pairs-2"`` and ``"pairs-4"`` (exactly these groups, as in the paper's figures) and
        ``"random"`` (empty: all rows).
    net_name : str, default=""
        Which network it is: settings depend on it.
    """

    name: str
    load: Callable[[int], Splits]
    net: Callable[[], NeuralNet]
    forget_sets: Mapping[str, list[Pair]]
    net_name: str = ""

    @property
    def key(self) -> str:
        """Name of problem and network, by which a preset finds its setting."""
        return f"{self.name}/{self.net_name}"

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
        check_types(Problem.pairs, locals())
        if forget not in self.forget_sets:
            raise ValueError(
                f"{self.name} has no forget set {forget!r}; it has "
                f"{', '.join(map(repr, self.forget_sets))}."
            )
        return self.forget_sets[forget]


@dataclass(frozen=True)
class _Definition:
    """What a name of a problem stands for."""

    reader: str  # a function of grmu_sk.datasets
    n_classes: int
    group: Pair
    nets: tuple[str, ...]  # the first is the default
    options: tuple[str, ...]
    reader_options: dict[str, Any] = field(default_factory=dict)
    more_forget_sets: dict[str, list[Pair]] = field(default_factory=dict)
    has_official_split: bool = False
    has_equal_sizes: bool = False
    centre_crop: bool = True

    @property
    def forget_sets(self) -> dict[str, list[Pair]]:
        return {"group": [self.group], **self.more_forget_sets, "random": []}


IMAGE_OPTIONS = ("net", "image_size", "weights", "augment", "cache_dir", "device", "num_workers")
TEXT_OPTIONS = ("net", "weights", "device", "num_workers")
TABLE_OPTIONS = ("net", "device")
IMAGE_NETS = ("resnet18", "small_cnn")

# the paper's splits 0 to 4; its forget sets of 9 and 25 groups are their first 3 and all 5
FAIRFACE_GROUPS: list[Pair] = [
    ("20-29", "Black"),
    ("50-59", "Latino_Hispanic"),
    ("3-9", "White"),
    ("more than 70", "East Asian"),
    ("30-39", "Middle Eastern"),
]

DEFINITIONS = {
    "celeba": _Definition(
        reader="load_celeba",
        n_classes=2,
        group=("Blond_Hair", "Male"),
        nets=IMAGE_NETS,
        options=IMAGE_OPTIONS,
        reader_options={"target": "Blond_Hair"},
        more_forget_sets={
            "pairs-2": [("Blond_Hair", "Male"), ("not Blond_Hair", "not Male")],
        },
        has_official_split=True,
        has_equal_sizes=True,
    ),
    "celeba_attractive": _Definition(
        reader="load_celeba",
        n_classes=2,
        group=("Attractive", "Male"),
        nets=IMAGE_NETS,
        options=IMAGE_OPTIONS,
        reader_options={"target": "Attractive"},
        has_official_split=True,
        has_equal_sizes=True,
    ),
    "waterbirds": _Definition(
        reader="load_waterbirds",
        n_classes=2,
        group=("waterbird", "land"),
        nets=IMAGE_NETS,
        options=IMAGE_OPTIONS,
        more_forget_sets={"pairs-2": [("waterbird", "land"), ("landbird", "land")]},
        has_official_split=True,
    ),
    "fairface": _Definition(
        reader="load_fairface",
        n_classes=9,
        group=FAIRFACE_GROUPS[0],
        nets=IMAGE_NETS,
        options=IMAGE_OPTIONS,
        more_forget_sets={
            "groups-9": product_pairs(FAIRFACE_GROUPS[:3]),
            "groups-25": product_pairs(FAIRFACE_GROUPS),
            "pairs-4": [
                ("20-29", "Black"),
                ("more than 70", "Middle Eastern"),
                ("30-39", "Southeast Asian"),
                ("60-69", "White"),
            ],
        },
        has_equal_sizes=True,
    ),
    "multinli": _Definition(
        reader="load_multinli",
        n_classes=3,
        group=("neutral", "negation"),
        nets=("bert",),
        options=TEXT_OPTIONS,
        has_official_split=True,
    ),
    "adult_sex": _Definition(
        reader="load_adult",
        n_classes=2,
        group=(">50K", "Female"),
        nets=("mlp",),
        options=TABLE_OPTIONS,
        reader_options={"attribute": "sex"},
    ),
    # not the smallest group: >50K and Other has about twenty rows, and metrics would jump
    "adult_race": _Definition(
        reader="load_adult",
        n_classes=2,
        group=(">50K", "Black"),
        nets=("mlp",),
        options=TABLE_OPTIONS,
        reader_options={"attribute": "race"},
    ),
    "digits": _Definition(
        reader="load_digits_on_backgrounds",
        n_classes=2,
        group=("even", "orange"),
        nets=("small_cnn",),
        options=TABLE_OPTIONS,
    ),
}

DEFAULT_IMAGE_SIZE = {"resnet18": 224, "small_cnn": 32}
DEFAULT_WEIGHTS = {"resnet18": "imagenet", "bert": "bert-base-uncased"}
#: The value of ``weights`` that asks for random ones.
NO_WEIGHTS = "none"
MLP_HIDDEN = (64, 64)


def problem_names() -> list[str]:
    """Return the names that :func:`get_problem` knows.

    Returns
    -------
    list of str
        Names.
    """
    return list(DEFINITIONS)


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
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> from grmu_sk.benchmark.problem import get_problem
    >>> problem = get_problem("digits")
    >>> problem.forget_sets
    {'group': [('even', 'orange')], 'random': []}
    >>> len(problem.load(0).train.y)
    1437
    """
    check_types(get_problem, locals())
    if name not in DEFINITIONS:
        raise ValueError(f"There is no problem {name!r}; there are {', '.join(DEFINITIONS)}.")
    definition = DEFINITIONS[name]
    _check_options(name, definition, options)
    net_name = options.get("net") or definition.nets[0]
    root = _check_root(name, definition, data_root)
    if net_name == "mlp":
        load, module, params = _table_problem(name, definition, root)
    elif net_name == "bert":
        load, module, params = _text_problem(name, definition, root, options)
    elif name == "digits":
        load, module, params = load_digits_problem, ChannelsLastCNN, {}
    else:
        load, module, params = _image_problem(name, definition, root, net_name, options)
    net = partial(
        _new_net,
        module,
        {"n_classes": definition.n_classes, **params},
        _check_device(options.get("device")),
        _check_workers(options.get("num_workers")),
    )
    return Problem(name, load, net, definition.forget_sets, net_name)


def _check_options(name: str, definition: _Definition, options: Mapping[str, Any]) -> None:
    known = {*IMAGE_OPTIONS, *TEXT_OPTIONS, *TABLE_OPTIONS}
    for option, value in options.items():
        if option not in known:
            raise ValueError(
                f"There is no option {option!r}; {name} takes {', '.join(definition.options)}."
            )
        if option not in definition.options and value is not None:
            raise ValueError(
                f"The option {option!r} does not apply to {name}, which takes "
                f"{', '.join(definition.options)}."
            )
    net = options.get("net")
    if net is not None and net not in definition.nets:
        raise ValueError(f"net for {name} must be one of {definition.nets}, got {net!r}.")


def _check_root(
    name: str, definition: _Definition, data_root: str | os.PathLike[str] | None
) -> Path | None:
    if name == "digits":
        if data_root is not None:
            raise ValueError("The digits come with the package: leave data_root out.")
        return None
    if data_root is None:
        raise ValueError(
            f"{name} needs data_root, the folder or zip file with its official files; "
            f"grmu_sk.datasets.{definition.reader} says which, and how to get them."
        )
    root = Path(data_root)
    if not root.exists():
        raise FileNotFoundError(
            f"There is nothing at {root}. data_root must be the folder or zip file with the files "
            f"of {name}; grmu_sk.datasets.{definition.reader} says which, and how to get them."
        )
    return root


def _check_device(device: str | None) -> str:
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"device must be a device of torch, got {device!r}.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("device='cuda' was asked for, and there is none: use device='cpu'.")
    return str(device)


def _check_workers(num_workers: int | None) -> int:
    if num_workers is None:
        return 0
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise ValueError(f"num_workers must be a whole number from 0, got {num_workers!r}.")
    return num_workers


def _check_image_size(image_size: int | None, net_name: str) -> int:
    if image_size is None:
        return DEFAULT_IMAGE_SIZE[net_name]
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 8:
        raise ValueError(f"image_size must be at least 8 pixels, got {image_size!r}.")
    return image_size


def _image_problem(
    name: str,
    definition: _Definition,
    root: Path | None,
    net_name: str,
    options: Mapping[str, Any],
) -> tuple[Callable[[int], Splits], Any, dict[str, Any]]:
    augment, cache_dir = options.get("augment"), options.get("cache_dir")
    load = ImageLoader(
        name=name,
        reader=definition.reader,
        reader_options=definition.reader_options,
        is_seeded=not definition.has_official_split,
        root=root,
        group=definition.group,
        image_size=_check_image_size(options.get("image_size"), net_name),
        augment=True if augment is None else bool(augment),
        cache_dir=None if cache_dir is None else Path(cache_dir),
        has_equal_sizes=definition.has_equal_sizes,
    )
    if net_name == "small_cnn":
        if options.get("weights") not in (None, NO_WEIGHTS):
            raise ValueError("There are no trained weights for small_cnn: leave weights out.")
        return load, ChannelsLastCNN, {"width": 8, "depth": 4}
    from ..resnet import ResNet18  # takes seconds that tables and small nets need not wait for

    return load, ResNet18, {"weights": _check_weights(options.get("weights"), net_name)}


def _text_problem(
    name: str, definition: _Definition, root: Path | None, options: Mapping[str, Any]
) -> tuple[Callable[[int], Splits], Any, dict[str, Any]]:
    load = TextLoader(name, definition.reader, root, definition.group)
    return load, BertClassifier, {"weights": _check_weights(options.get("weights"), "bert")}


def _table_problem(
    name: str, definition: _Definition, root: Path | None
) -> tuple[Callable[[int], Splits], Any, dict[str, Any]]:
    columns = adult_columns(definition.reader, root)
    load = TableLoader(
        name, definition.reader, definition.reader_options, root, definition.group, columns
    )
    return load, MLP, {"n_features": len(columns), "hidden": MLP_HIDDEN}


def _check_weights(weights: str | os.PathLike[str] | None, net_name: str) -> str | None:
    """Return what the network's constructor takes: None for random weights."""
    default = DEFAULT_WEIGHTS[net_name]
    if weights is None or weights == default:
        return default
    if weights == NO_WEIGHTS:
        return None
    path = Path(weights)
    if path.exists():
        return str(path.absolute())
    if net_name == "bert" and isinstance(weights, str):
        return weights  # a name of the hub
    raise FileNotFoundError(
        f"There is no file of weights at {path}. weights must be {default!r}, '{NO_WEIGHTS}' or "
        "the path of a file."
    )


def _new_net(
    module: Any, module_params: Mapping[str, Any], device: str, num_workers: int
) -> NeuralNet:
    """Return the uninitialised net; a setting says how it is trained."""
    return NeuralNetClassifier(
        module,
        **{f"module__{param}": value for param, value in module_params.items()},
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        train_split=None,
        verbose=0,
        device=device,
        iterator_train__num_workers=num_workers,
        iterator_valid__num_workers=num_workers,
    )
