"""Group-robust machine unlearning with a scikit-learn interface."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .checkpoint import CheckpointError, UnlearningCheckpoint
from .groups import sample_forget_set
from .mutual_information import MINE
from .reweight import ReweightSampler
from .unlearners import *  # noqa: F403
from .unlearners import __all__ as _unlearners

if TYPE_CHECKING:
    from . import (
        audit,
        datasets,
        metrics,
        model_selection,
        nets,
        persistence,
        plotting,
        scorers,
        utils,
    )

__version__ = version("grmu_sk")
# imported when first asked for, as in scikit-learn: some need what is slow to import
_submodules = [
    "audit",
    "datasets",
    "metrics",
    "model_selection",
    "nets",
    "persistence",
    "plotting",
    "scorers",
    "utils",
]
__all__ = [
    "MINE",
    "CheckpointError",
    "ReweightSampler",
    "UnlearningCheckpoint",
    "audit",
    "datasets",
    "metrics",
    "model_selection",
    "nets",
    "persistence",
    "plotting",
    "sample_forget_set",
    "scorers",
    "utils",
    *_unlearners,
]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _submodules:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
