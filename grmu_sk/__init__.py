"""Group-robust machine unlearning with a scikit-learn interface."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any

from . import unlearners

__version__ = version("grmu_sk")
# loaded when first asked for: torch alone takes two seconds
_MODULES = (
    "audit",
    "datasets",
    "metrics",
    "model_selection",
    "nets",
    "persistence",
    "plotting",
    "scorers",
)
_NAMES = {
    "CheckpointError": "checkpoint",
    "MINE": "mutual_information",
    "ReweightSampler": "reweight",
    "UnlearningCheckpoint": "checkpoint",
    "sample_forget_set": "groups",
    **dict.fromkeys(unlearners.__all__, "unlearners"),
}
__all__ = [*_MODULES, *_NAMES, "unlearners"]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
