"""How each method is run: the settings of the reference code, one for all, or one's own."""

from __future__ import annotations

import csv
import os
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from skorch.callbacks import LRScheduler

from ..unlearners import all_unlearners
from ..utils.arguments import check_types
from .problem import DEFINITIONS, Problem
from .recipes import SCHEDULES, WarmUpSchedule

__all__ = ["Preset", "ReferencePreset", "Setting", "TablePreset", "get_preset"]

#: Methods that train a new net: their settings are those of training.
TRAINING_METHODS = ("pretrain", "retrain", "group_dro")
ANY = "any"


@dataclass(frozen=True)
class Setting:
    """How one net is trained, or one method run.

    Parameters
    ----------
    net : dict
        Parameters of the net, for ``net.set_params(**setting.net)``: optimizer, learning rate,
        batch size, epochs, and ``callbacks`` as a list of pairs (name, callback). Of a net that
        is trained already, ``fresh_net(trained, **setting.net)`` makes one to start from.
    unlearner : dict
        Parameters of the method's constructor, ``reweight`` included where it has one.
    augment : bool
        Whether rows are read under training transforms.
    """

    net: dict[str, Any]
    unlearner: dict[str, Any] = field(default_factory=dict)
    augment: bool = False


@dataclass(frozen=True)
class _Recipe:
    """What a run's settings are made from."""

    lr: float
    batch_size: int
    epochs: int
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_epochs: int = 0
    schedule: str = "cosine"
    augment: bool = False

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {tuple(OPTIMIZERS)}: {self.optimizer!r}.")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {SCHEDULES}, got {self.schedule!r}.")
        if not isinstance(self.augment, bool):
            raise ValueError(f"augment must be true or false, got {self.augment!r}.")
        for name in ("batch_size", "epochs", "warmup_epochs"):
            value, least = getattr(self, name), 0 if name == "warmup_epochs" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number from {least}, got {value!r}.")
        for name in ("lr", "momentum", "weight_decay"):
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not 0 <= value < 1e6
            ):
                raise ValueError(f"{name} must be a number from 0, got {value!r}.")

    def net(self) -> dict[str, Any]:
        """Return the net's parameters."""
        optimizer: dict[str, Any] = {
            "optimizer": OPTIMIZERS[self.optimizer],
            "optimizer__weight_decay": self.weight_decay,
        }
        if self.optimizer == "sgd":
            optimizer["optimizer__momentum"] = self.momentum
        return {
            **optimizer,
            "lr": self.lr,
            "batch_size": self.batch_size,
            "max_epochs": self.epochs,
            "callbacks": self._schedule(),
        }

    def _schedule(self) -> list[tuple[str, Any]]:
        if self.warmup_epochs:
            return [("schedule", WarmUpSchedule(self.warmup_epochs, self.schedule, self.epochs))]
        if self.schedule == "constant":
            return []
        return [("schedule", LRScheduler("CosineAnnealingLR", T_max=self.epochs))]


OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}
RECIPE_NAMES = tuple(_Recipe.__dataclass_fields__)
# what a constructor calls the entries of a recipe that it has a parameter for
RECIPE_PARAMETERS = {"lr": "lr", "batch_size": "batch_size", "epochs": "max_epochs"}


class Preset(ABC):
    """Where the settings of a comparison come from."""

    #: What results call it.
    name: str

    @abstractmethod
    def training(
        self, problem: Problem | str, *, method: str = "retrain", reweight: bool = False
    ) -> Setting:
        """Return how a net is trained from scratch.

        Parameters
        ----------
        problem : Problem or str
            The problem, or its name: then with its default network, or ``"name/network"``.
        method : {"retrain", "pretrain", "group_dro"}, default="retrain"
            Which training.
        reweight : bool, default=False
            Whether with REWEIGHT.

        Returns
        -------
        Setting
            The setting.

        Raises
        ------
        ValueError
            If the preset has none for this combination; the message names what there is.
        """

    @abstractmethod
    def unlearning(
        self,
        problem: Problem | str,
        *,
        forget: str,
        ratio: float,
        method: str,
        reweight: bool,
    ) -> Setting:
        """Return how a method unlearns.

        Parameters
        ----------
        problem : Problem or str
            The problem, or its name: then with its default network, or ``"name/network"``.
        forget : str
            Name of the forget set.
        ratio : float
            Share of its groups that is forgotten.
        method : str
            Name of the method (:func:`grmu_sk.utils.all_unlearners`).
        reweight : bool
            Whether with REWEIGHT.

        Returns
        -------
        Setting
            The setting.

        Raises
        ------
        ValueError
            If the preset has none for this combination; the message names what there is.
        """


def get_preset(name: str | os.PathLike[str]) -> Preset:
    """Return a preset by name, or read one from a file.

    Parameters
    ----------
    name : str or Path
        ``"reference"``: the settings of the reference code of [1]_, for its data sets, ratios and
        methods. ``"shared"``: for each problem one setting of training and one of unlearning, the
        same for all methods, with and without REWEIGHT. Or a TOML file, see
        :class:`TablePreset`.

    Returns
    -------
    Preset
        The preset.

    Raises
    ------
    FileNotFoundError
        If it is neither a name nor a file.
    OSError
        If a file cannot be read.
    ValueError
        If the file is not as expected.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.benchmark.settings import get_preset
    >>> setting = get_preset("reference").unlearning(
    ...     "celeba", forget="group", ratio=0.5, method="miu", reweight=True
    ... )
    >>> setting.unlearner["lam"], setting.unlearner["mine_lr"], setting.net["batch_size"]
    (10.0, 0.01, 256)
    """
    check_types(get_preset, locals())
    if name == "reference":
        return ReferencePreset()
    if name == "shared":
        data = files("grmu_sk.benchmark").joinpath("data/shared_settings.toml")
        return TablePreset("shared", tomllib.loads(data.read_text(encoding="utf-8")))
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no preset {os.fspath(name)!r}. Presets are 'reference', 'shared', or the "
            "path of a TOML file."
        )
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return TablePreset(path.stem, table)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The settings in {path} cannot be used: {error}") from error


# the reference code's settings ---------------------------------------------------------------

# the reference code's names, where they differ
REFERENCE_METHODS = {
    "boundary_expand": "boundary_exp",
    "boundary_shrink": "boundary_sh",
    "fine_tune": "ft",
    "gradient_ascent": "ga",
    "group_dro": "retrain_gdro",
    "influence": "iu",
    "random_label": "rl",
}
REFERENCE_SCHEDULES = {"const": "constant", "cosine": "cosine"}
REFERENCE_PARAMETERS = {
    "retain_batch_size": ("retain_batch_size", int),
    "forgetting_epochs": ("forget_epochs", int),
    "dro_lr": ("eta", float),
    "mine_lr": ("mine_lr", float),
    "lambda_mi": ("lam", float),
    "mine_hidden": ("mine_hidden", int),
    "mine_momentum": ("mine_momentum", float),
    "mine_ema_alpha": ("moving_average_rate", float),
    "l1_penalty": ("l1_penalty", float),
    "alpha_scrub": ("alpha", float),
    "gamma_scrub": ("gamma", float),
    "temperature_scrub": ("temperature", float),
    "saliency_threshold": ("threshold", float),
    "ssd_dampening_constant": ("dampening_constant", float),
    "ssd_selection_weighting": ("selection_weighting", float),
    "alpha_hessian": ("alpha", float),
}


class ReferencePreset(Preset):
    """The settings of the reference code, for every combination that it has a file for.

    They were searched by its authors, by data set, ratio and method; a file with and one without
    REWEIGHT may differ in more than that. Methods it has no file for run with its fallback
    values. ``reference=True`` is set where a method has that switch.

    Not taken over: bfloat16 in the forward pass, and training transforms in MIU's tuning where the
    rest of a run does without.

    References
    ----------
    T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.
    """

    name = "reference"

    def __init__(self) -> None:
        text = files("grmu_sk.benchmark").joinpath("data/reference_settings.csv")
        lines = text.read_text(encoding="utf-8").splitlines()
        self._rows = list(csv.DictReader(lines))

    def training(
        self, problem: Problem | str, *, method: str = "retrain", reweight: bool = False
    ) -> Setting:
        """Return how a net is trained from scratch.

        Parameters
        ----------
        problem : Problem or str
            The problem, or its name: then with its default network, or ``"name/network"``.
        method : {"retrain", "pretrain", "group_dro"}, default="retrain"
            Which training.
        reweight : bool, default=False
            Whether with REWEIGHT.

        Returns
        -------
        Setting
            The setting.

        Raises
        ------
        ValueError
            If the reference code has no such file.
        """
        check_types(Preset.training, locals())
        _require_training_method(method)
        row = self._find(_key(problem), ANY, ANY, method, reweight)
        return _reference_setting(row, method, reweight)

    def unlearning(
        self,
        problem: Problem | str,
        *,
        forget: str,
        ratio: float,
        method: str,
        reweight: bool,
    ) -> Setting:
        """Return how a method unlearns.

        Parameters
        ----------
        problem : Problem or str
            The problem, or its name: then with its default network, or ``"name/network"``.
        forget : str
            Name of the forget set.
        ratio : float
            Share of its groups that is forgotten.
        method : str
            Name of the method.
        reweight : bool
            Whether with REWEIGHT.

        Returns
        -------
        Setting
            The setting.

        Raises
        ------
        ValueError
            If the reference code has no such file.
        """
        check_types(Preset.unlearning, locals())
        if method in TRAINING_METHODS:
            return self.training(problem, method=method, reweight=reweight)
        row = self._find(_key(problem), forget, f"{ratio:g}", method, reweight)
        return _reference_setting(row, method, reweight)

    def _find(
        self, key: str, forget: str, ratio: str, method: str, reweight: bool
    ) -> dict[str, str]:
        dataset, model = key.split("/")
        theirs = REFERENCE_METHODS.get(method, method)
        rows = [row for row in self._rows if (row["dataset"], row["model"]) == (dataset, model)]
        if not rows:
            there = dict.fromkeys(f"{row['dataset']}/{row['model']}" for row in self._rows)
            raise ValueError(
                f"The reference settings have none for {key}; they are for "
                f"{', '.join(name for name in there if not name.startswith(ANY))}. Use the preset "
                "'shared', or a TOML file of your own."
            )
        cells = [row for row in rows if (row["forget"], row["ratio"]) == (forget, ratio)]
        if not cells:
            known = dict.fromkeys((row["forget"], row["ratio"]) for row in rows)
            listed = ", ".join(f"{name} at {share}" for name, share in known if name != ANY)
            raise ValueError(
                f"The reference settings for {key} have no forget set {forget!r} with ratio "
                f"{ratio}; they have {listed}. Use the preset 'shared', or a TOML file of your own."
            )
        fallback = [row for row in self._rows if row["dataset"] == ANY]
        for row in (*cells, *([] if forget == ANY else fallback)):
            if row["method"] == theirs and row["reweight"] == str(int(reweight)):
                return row
        ours = {theirs: name for name, theirs in REFERENCE_METHODS.items()}
        listed = ", ".join(
            f"{ours.get(row['method'], row['method'])}{' + reweight' * int(row['reweight'])}"
            for row in (*cells, *([] if forget == ANY else fallback))
        )
        raise ValueError(
            f"The reference settings for {key} have none for {method}{' + reweight' * reweight}; "
            f"they have {listed}. Use the preset 'shared', or a TOML file of your own."
        )


def _reference_setting(row: Mapping[str, str], method: str, reweight: bool) -> Setting:
    recipe = _Recipe(
        lr=float(row["lr"]),
        batch_size=int(row["batch_size"]),
        epochs=int(row["epochs"]),
        optimizer=row["optimizer"],
        momentum=float(row["momentum"] or 0),
        weight_decay=float(row["weight_decay"]),
        warmup_epochs=int(row["warmup_epochs"]),
        schedule=REFERENCE_SCHEDULES[row["scheduler"]],
        augment=row["use_train_aug"] == "1",
    )
    parameters = {
        ours: number(row[theirs])
        for theirs, (ours, number) in REFERENCE_PARAMETERS.items()
        if row[theirs]
    }
    if "reference" in _parameters_of(method):
        parameters["reference"] = True
    return _setting(recipe, parameters, method, reweight)


# settings in tables --------------------------------------------------------------------------


class TablePreset(Preset):
    """Settings by problem, from a table such as a TOML file.

    For each problem and network there are two tables, ``training`` (pretraining, retraining, group
    DRO and whatever else trains from scratch) and ``unlearning`` (all other methods), for all
    forget sets and ratios. A method that trains from scratch on a budget of epochs has those of
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

    An entry is ``lr``, ``batch_size``, ``epochs`` (these three are needed), ``optimizer``
    (``"sgd"`` or ``"adamw"``), ``momentum``, ``weight_decay``, ``warmup_epochs``, ``schedule``
    (``"cosine"`` or ``"constant"``), ``augment``, or a parameter of a method's constructor, which
    applies to the methods that have it. A table inside, named like a method, is for that method
    only.

    Parameters
    ----------
    name : str
        What results call the preset.
    table : dict
        The settings, as a TOML file holds them.

    Raises
    ------
    ValueError
        If an entry is unknown, missing or out of range; the message says where.
    """

    def __init__(self, name: str, table: Mapping[str, Any]) -> None:
        self.name = name
        self._table = table
        for key, sections in table.items():
            _check_sections(key, sections)

    def training(
        self, problem: Problem | str, *, method: str = "retrain", reweight: bool = False
    ) -> Setting:
        """Return how a net is trained from scratch.

        Parameters
        ----------
        problem : Problem or str
            The problem, or its name: then with its default network, or ``"name/network"``.
        method : {"retrain", "pretrain", "group_dro"}, default="retrain"
            Which training.
        reweight : bool, default=False
            Whether with REWEIGHT.

        Returns
        -------
        Setting
            The setting.

        Raises
        ------
        ValueError
            If there is none for the problem.
        """
        check_types(Preset.training, locals())
        _require_training_method(method)
        return self._look_up(_key(problem), "training", method, reweight)

    def unlearning(
        self,
        problem: Problem | str,
        *,
        forget: str,
        ratio: float,
        method: str,
        reweight: bool,
    ) -> Setting:
        """Return how a method unlearns.

        Parameters
        ----------
        problem : Problem or str
            The problem, or its name: then with its default network, or ``"name/network"``.
        forget : str
            Name of the forget set; all have the same setting.
        ratio : float
            Share of its groups that is forgotten; all have the same setting.
        method : str
            Name of the method.
        reweight : bool
            Whether with REWEIGHT.

        Returns
        -------
        Setting
            The setting.

        Raises
        ------
        ValueError
            If there is none for the problem, or no such method.
        """
        check_types(Preset.unlearning, locals())
        section = "training" if _trains_from_scratch(method) else "unlearning"
        return self._look_up(_key(problem), section, method, reweight)

    def _look_up(self, key: str, section: str, method: str, reweight: bool) -> Setting:
        if section not in self._table.get(key, {}):
            there = [name for name, sections in self._table.items() if section in sections]
            raise ValueError(
                f"The preset {self.name!r} has no setting of {section} for {key}; it has some for "
                f'{", ".join(there) or "nothing"}. Add a table ["{key}".{section}] to a TOML '
                "file of your own."
            )
        merged = _merged(self._table[key][section], method)
        if section == "training" and "max_epochs" in _parameters_of(method):
            # training from scratch, but on the budget of the other methods
            budget = self._table[key].get("unlearning", {})
            merged |= {"epochs": _merged(budget, method).get("epochs", merged["epochs"])}
        recipe = {name: value for name, value in merged.items() if name in RECIPE_NAMES}
        known = _parameters_of(method)
        parameters = {name: value for name, value in merged.items() if name in known}
        return _setting(_Recipe(**recipe), parameters, method, reweight)


def _merged(section: Mapping[str, Any], method: str) -> dict[str, Any]:
    common = {name: value for name, value in section.items() if not isinstance(value, Mapping)}
    return {**common, **section.get(method, {})}


def _check_sections(key: str, sections: Any) -> None:
    problem, _, net = key.partition("/")
    if problem not in DEFINITIONS or net not in DEFINITIONS[problem].nets:
        there = [f"{name}/{net}" for name, d in DEFINITIONS.items() for net in d.nets]
        raise ValueError(f"There is no problem [{key!r}]; there are {', '.join(there)}.")
    if not isinstance(sections, Mapping) or not set(sections) <= {"training", "unlearning"}:
        raise ValueError(f"[{key!r}] may have the tables training and unlearning, nothing else.")
    for name, section in sections.items():
        if not isinstance(section, Mapping):
            raise ValueError(f"[{key!r}].{name} must be a table.")
        _check_section(f"[{key!r}.{name}]", section)


def _check_section(where: str, section: Mapping[str, Any]) -> None:
    methods = dict(all_unlearners())
    of_any = {name for method in methods for name in _parameters_of(method)}
    for name, value in section.items():
        if isinstance(value, Mapping):
            if name not in (*methods, "pretrain"):
                raise ValueError(
                    f"{where} has a table for the method {name!r}; there are {', '.join(methods)}."
                )
            _check_names(f"{where}, {name}", value, _parameters_of(name))
    common = {name: value for name, value in section.items() if not isinstance(value, Mapping)}
    _check_names(where, common, of_any)
    for method in ("", *(name for name in methods if name in section)):
        merged = _merged(section, method)
        recipe = {name: value for name, value in merged.items() if name in RECIPE_NAMES}
        missing = [name for name in ("lr", "batch_size", "epochs") if name not in recipe]
        if missing:
            raise ValueError(f"{where} has no {' and no '.join(missing)}.")
        try:
            _Recipe(**recipe)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def _check_names(where: str, entries: Iterable[str], parameters: Iterable[str]) -> None:
    for name in entries:
        if name not in RECIPE_NAMES and (name not in parameters or name in NOT_SETTINGS):
            raise ValueError(
                f"{where} has the entry {name!r}, which is neither one of "
                f"{', '.join(RECIPE_NAMES)} nor a parameter that a method can be given here."
            )


# what both have in common --------------------------------------------------------------------

# said by the comparison, or under another name
NOT_SETTINGS = (
    "estimator",
    "random_state",
    "store_data",
    "keep_forgotten",
    "reweight",
    "max_epochs",
)


def _key(problem: Problem | str) -> str:
    if isinstance(problem, Problem):
        return problem.key
    if not isinstance(problem, str):
        raise TypeError(f"problem must be a Problem or the name of one, got {problem!r}.")
    name, _, net = problem.partition("/")
    if name not in DEFINITIONS:
        raise ValueError(f"There is no problem {name!r}; there are {', '.join(DEFINITIONS)}.")
    return f"{name}/{net or DEFINITIONS[name].nets[0]}"


def _require_training_method(method: str) -> None:
    if not isinstance(method, str) or method not in TRAINING_METHODS:
        raise ValueError(f"method must be one of {TRAINING_METHODS}, got {method!r}.")


def _class_of(method: str) -> Any:
    methods = dict(all_unlearners())
    if not isinstance(method, str) or method not in methods:
        raise ValueError(f"There is no method {method!r}; there are {', '.join(methods)}.")
    return methods[method]


def _trains_from_scratch(method: str) -> bool:
    if method == "pretrain":
        return True
    unlearner = _class_of(method)
    return not (unlearner._needs_trained_net and unlearner._accepts_trained_net)


def _parameters_of(method: str) -> list[str]:
    """Return the constructor's parameters; pretraining is a ``fit``, whatever the method."""
    return [] if method == "pretrain" else list(_class_of(method)._get_param_names())


def _setting(
    recipe: _Recipe, parameters: Mapping[str, Any], method: str, reweight: bool
) -> Setting:
    """Put what the method's constructor knows there, and the rest into the net."""
    known = _parameters_of(method)
    if reweight and "reweight" not in known:
        raise ValueError(f"{method} has no choice of REWEIGHT: ask for it with reweight=False.")
    unlearner = {
        ours: getattr(recipe, name) for name, ours in RECIPE_PARAMETERS.items() if ours in known
    }
    unlearner |= {name: value for name, value in parameters.items() if name not in RECIPE_NAMES}
    if "reweight" in known:
        unlearner["reweight"] = reweight
    return Setting(recipe.net(), unlearner, recipe.augment)
