"""Who takes part in a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.frozen import FrozenEstimator

from ..base import BaseUnlearner
from ..unlearners import all_unlearners
from ..utils.arguments import check_types

RESEED = 1_000_003  # added to the seed of the second gold model
#: What methods are compared with.
EXACT = ("pretrain", "retrain", "gold_reseeded", "group_dro")


@dataclass(frozen=True)
class Candidate:
    """One line of the table.

    Parameters
    ----------
    method : str
        Name in tables and files.
    reweight : bool
        Whether REWEIGHT is on.
    unlearner : type
        Its class.
    parameters : dict
        What differs from the class's defaults.
    seed_shift : int
        Added to the seed, for a second run that differs by nothing but chance.
    """

    method: str
    reweight: bool
    unlearner: type[BaseUnlearner]
    parameters: dict[str, Any] = field(default_factory=dict)
    seed_shift: int = 0

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{self.method} + reweight" if self.reweight else self.method

    def build(self, net: Any, pretrained: Any, seed: int) -> BaseUnlearner:
        """Return the unlearner, starting from the pretrained net if the method needs one."""
        check_types(Candidate.build, locals())
        needs_it = self.unlearner._needs_trained_net and self.unlearner._accepts_trained_net
        known = self.unlearner._get_param_names()
        switch = {"reweight": self.reweight} if "reweight" in known else {}
        return self.unlearner(
            FrozenEstimator(pretrained) if needs_it else net,
            random_state=seed + self.seed_shift,
            **{**switch, **self.parameters},
        )


def candidates_for(
    names: Iterable[str], parameters: Mapping[str, dict[str, Any]] | None = None
) -> list[Candidate]:
    """Return the lines of a table: what every comparison needs, and the methods asked for.

    Parameters
    ----------
    names : iterable of str
        Names of the registry (:func:`grmu_sk.utils.all_unlearners`). Each method takes part
        without and with REWEIGHT if it has that choice.
    parameters : mapping of str to dict or None, default=None
        Parameters of methods, by name, where they are not the class's defaults.

    Returns
    -------
    list of Candidate
        First retraining, the gold standard (retraining with REWEIGHT) and the gold standard with
        another seed, then the methods.

    Raises
    ------
    ValueError
        If a name is unknown.
    """
    check_types(candidates_for, locals())
    registry = dict(all_unlearners())
    unknown = sorted(set(names) - set(registry))
    if unknown:
        raise ValueError(f"Unknown methods {unknown}; there are: {', '.join(registry)}.")
    gold = registry["retrain"]
    lines = [
        Candidate("retrain", False, gold),
        Candidate("retrain", True, gold),
        Candidate("gold_reseeded", True, gold, seed_shift=RESEED),
    ]
    chosen = parameters or {}
    for name in dict.fromkeys(names):
        if name == "retrain":
            continue
        unlearner, setting = registry[name], chosen.get(name, {})
        has_choice = "reweight" in unlearner._get_param_names()
        switches = (False, True) if has_choice else (False,)
        lines += [Candidate(name, on, unlearner, setting) for on in switches]
    return lines


def method_order(method: str) -> tuple[int, str]:
    """Return where a method stands in a table: exact ones first, in the paper's order.

    Parameters
    ----------
    method : str
        Name in the results.

    Returns
    -------
    tuple of (int, str)
        To sort by.
    """
    exact = EXACT.index(method) if method in EXACT else len(EXACT)
    return exact, method
