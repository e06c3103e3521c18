"""How each method is run: the settings of the reference code, one for all, or one's own."""

from __future__ import annotations

import inspect
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from ..comparison import goes_on, unlearner_class
from ..results import GOLD, PRETRAIN, RESEEDED_GOLD, Row
from ..unlearners import all_unlearners
from .problems import DEFINITIONS
from .recipes import SCHEDULES, WarmUpSchedule

OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
NEEDED = ("lr", "batch_size", "epochs")
# said by the comparison, or under another name
NOT_SETTINGS = {
    "estimator",
    "random_state",
    "store_data",
    "keep_forgotten",
    "reweight",
    "max_epochs",
}


@dataclass(frozen=True)
class Setting:
    """How one net is trained, or one method run.

    Parameters
    ----------
    lr : float
        Learning rate.
    batch_size : int
        Rows of a batch.
    epochs : int
        Epochs of the training or unlearning.
    optimizer : {"sgd", "adamw"}, default="sgd"
        Which.
    momentum : float, default=0.9
        Of SGD.
    weight_decay : float, default=0
        Of the optimizer.
    warmup_epochs : int, default=0
        See ``WarmUpSchedule``.
    schedule : {"cosine", "constant"}, default="cosine"
        The learning rate over the epochs.
    augment : bool, default=False
        Whether rows are read under training transforms.
    parameters : dict
        Of the method's constructor.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    lr: float
    batch_size: int
    epochs: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_epochs: int = 0
    schedule: str = "cosine"
    augment: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {list(known)}, got {getattr(self, name)!r}."
                )
        least = {"lr": 0, "batch_size": 1, "epochs": 1, "warmup_epochs": 0}
        for name, smallest in {**least, "momentum": 0, "weight_decay": 0}.items():
            if not smallest <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be at least {smallest}, got {value!r}.")

    def net(self) -> dict[str, Any]:
        """Return the net's parameters, for ``net.set_params(**setting.net())``.

        Of a net that is trained already, ``fresh_net(trained, **setting.net())`` makes one to
        start from.
        """
        schedule = WarmUpSchedule(self.warmup_epochs, self.schedule, self.epochs)
        return {
            "optimizer": OPTIMIZERS[self.optimizer],
            "optimizer__weight_decay": self.weight_decay,
            **({"optimizer__momentum": self.momentum} if self.optimizer == "sgd" else {}),
            "lr": self.lr,
            "batch_size": self.batch_size,
            "max_epochs": self.epochs,
            "callbacks": [("schedule", schedule)],
        }


RECIPE = tuple(entry.name for entry in fields(Setting) if entry.name != "parameters")


class Preset:
    """Settings by problem, from a table such as a TOML file.

    For each problem and network there are two tables, ``training`` (pretraining, retraining, group
    DRO and whatever else trains from scratch) and ``unlearning`` (all other methods), for all
    forget sets and ratios; for one forget set and ratio a table such as ``group-0.5`` takes the
    place of ``unlearning``. A method that trains from scratch on a budget of epochs has those of
    ``unlearning``::

        ["fairface/small_cnn".training]
        lr = 0.05
        batch_size = 64
        epochs = 20
        warmup_epochs = 2

        ["fairface/small_cnn".unlearning]
        lr = 0.01
        batch_size = 64
        epochs = 10
        forget_epochs = 5

        ["fairface/small_cnn".unlearning.miu]
        lam = 1.0

    An entry is one of :class:`Setting`'s (``lr``, ``batch_size`` and ``epochs`` are needed), or a
    parameter of a method's constructor, which applies to the methods that have it. A table inside,
    named like a method (``miu``) or one with REWEIGHT (``"miu + reweight"``), is for that one
    only; where there are no entries for all, only what is named is there.

    Parameters
    ----------
    name : str
        What messages call the preset.
    table : dict
        The settings, as a TOML file holds them. Under ``any.unlearning`` stands what problems with
        tables of their own fall back to.

    Raises
    ------
    ValueError
        If an entry is unknown, missing or out of range; the message says where.
    """

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self.name = name
        self._table = table
        keys = [f"{name}/{net}" for name, found in DEFINITIONS.items() for net in found["nets"]]
        for key, sections in table.items():
            if key not in (*keys, "any"):
                raise ValueError(f"There is no problem [{key!r}]; there are {', '.join(keys)}.")
            for section, entries in sections.items():
                if section not in ("training", "unlearning") and "-" not in section:
                    raise ValueError(f"[{key!r}] may have no table {section!r}.")
                _check_section(f"[{key!r}.{section}]", entries)

    def setting(self, key: str, row: Row, forget: str = "", ratio: float = 0) -> Setting:
        """Return how a row of the table is made.

        Parameters
        ----------
        key : str
            Problem and network, such as ``"celeba/resnet18"``; a problem knows its own.
        row : Row
            Method, with or without REWEIGHT.
        forget : str, default=""
            Name of the forget set.
        ratio : float, default=0
            Share of its groups that is forgotten.

        Returns
        -------
        Setting
            The setting.

        Raises
        ------
        ValueError
            If the preset has none for this combination; the message names what there is.
        """
        known = _parameters_of(row.method)
        if row.reweight and "reweight" not in known:
            raise ValueError(f"{row.method} has no choice of REWEIGHT: ask for reweight=False.")
        sections = self._table.get(key, {})
        cell = f"{forget}-{ratio:g}" if f"{forget}-{ratio:g}" in sections else "unlearning"
        section = cell if goes_on(row) else "training"
        fallback = self._table.get("any", {}).get("unlearning", {}) if section in sections else {}
        entries = _merged(sections.get(section, {}), row) or _merged(fallback, row)
        if not entries:
            raise ValueError(
                f"The preset {self.name!r} has no setting of {row.label} in {key}.{section} (for "
                f"{forget}, ratio {ratio:g}), but the tables {list(sections)}, and problems "
                f"{list(self._table)}. Use 'shared', or a TOML file of your own."
            )
        if section == "training" and known.get("max_epochs") is not None:
            # training from scratch, but on the budget of the other methods
            budget = _merged(sections.get(cell, {}), row)
            entries["epochs"] = budget.get("epochs", entries["epochs"])
        recipe = {name: value for name, value in entries.items() if name in RECIPE}
        named = {**entries, "max_epochs": entries["epochs"], "reweight": row.reweight}
        is_none = known.get("max_epochs", 0) is None
        parameters = {
            name: value
            for name, value in (named | row.parameters).items()
            if name in known and not (name == "max_epochs" and is_none)
        }
        return Setting(**recipe, parameters=parameters)


def _merged(section: Mapping[str, Any], row: Row) -> dict[str, Any]:
    """Return a row's entries; none if the section has neither entries for all nor its own."""
    common, own = _split(section)
    row = GOLD if row == RESEEDED_GOLD else row
    return common | own.get(row.label, own.get(row.method, {}) if common else {})


def get_preset(name: str | os.PathLike[str]) -> Preset:
    """Return a preset by name, or read one from a file.

    Parameters
    ----------
    name : str or Path
        ``"reference"``: the settings of the reference code of [1]_, for its data sets, ratios and
        methods. ``"shared"``: for each problem one setting of training and one of unlearning, the
        same for all methods, with and without REWEIGHT. Or a TOML file, see :class:`Preset`.

    Returns
    -------
    Preset
        The preset.

    Raises
    ------
    OSError
        If it is neither a name nor a file that can be read.
    ValueError
        If the file is not as expected.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.benchmark import get_preset
    >>> from grmu_sk.results import Row
    >>> setting = get_preset("reference").setting("celeba/resnet18", Row("miu", True), "group", 0.5)
    >>> setting.parameters["lam"], setting.parameters["mine_lr"], setting.batch_size
    (10.0, 0.01, 256)
    """
    path: Any = Path(name)
    if name in ("reference", "shared"):
        path = files("grmu_sk.benchmark").joinpath(f"data/{name}_settings.toml")
    try:
        return Preset(Path(name).stem, tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The settings in {path} cannot be used: {error}") from error


@cache
def _parameters_of(method: str) -> dict[str, Any]:
    """Return the constructor's parameters and defaults; pretraining is a ``fit`` without any."""
    parameters = inspect.signature(unlearner_class(Row(method, False))).parameters
    is_fit = method == PRETRAIN.method
    return {} if is_fit else {name: entry.default for name, entry in parameters.items()}


def _check_section(where: str, section: Mapping[str, Any]) -> None:
    """Refuse what nothing would read, what is missing, and values out of range."""
    common, own = _split(section)
    every = {name for method, _ in all_unlearners() for name in _parameters_of(method)}
    checks: list[tuple[str, Any, Any, Any]] = [(where, common, common, every)] if common else []
    for name, entries in own.items():
        known = _parameters_of(name.removesuffix(" + reweight"))
        checks.append((f"{where}, {name}", entries, common | entries, known))
    for place, entries, whole, parameters in checks:
        allowed = {*RECIPE, *parameters} - NOT_SETTINGS
        if unknown := set(entries) - allowed:
            raise ValueError(f"{place} has {unknown}, which are none of {sorted(allowed)}.")
        if missing := set(NEEDED) - set(whole):
            raise ValueError(f"{place} has no {missing}.")
        try:
            Setting(**{name: value for name, value in whole.items() if name in RECIPE})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{place}: {error}") from error


def _split(section: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the entries for all methods, and the tables of single ones."""
    common = {name: value for name, value in section.items() if not isinstance(value, dict)}
    return common, {name: value for name, value in section.items() if name not in common}
