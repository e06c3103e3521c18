"""The unlearning methods, one to a file, and the registry of all that are installed."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

_METHODS = {  # a name, and the file it is loaded from when first asked for
    "AsUnseenUnlearner": "as_unseen",
    "BadTeacherUnlearner": "bad_teacher",
    "BoundaryExpandUnlearner": "boundary",
    "BoundaryShrinkUnlearner": "boundary",
    "BudgetRetrainUnlearner": "retrain",
    "CFkUnlearner": "last_layers",
    "EUkUnlearner": "last_layers",
    "FineTuneUnlearner": "fine_tune",
    "GradientAscentUnlearner": "gradient_ascent",
    "GroupDROUnlearner": "group_dro",
    "InfluenceUnlearner": "influence",
    "L1SparseUnlearner": "l1_sparse",
    "MIUUnlearner": "miu",
    "NegGradPlusUnlearner": "neg_grad_plus",
    "NoOpUnlearner": "no_op",
    "RandomLabelUnlearner": "random_label",
    "RetrainUnlearner": "retrain",
    "SCRUBUnlearner": "scrub",
    "SISAUnlearner": "sisa",
    "SSDUnlearner": "ssd",
    "SalUnUnlearner": "salun",
    "ShrinkPerturbUnlearner": "shrink_perturb",
    "SubsampleRetrainUnlearner": "retrain",
}
__all__ = [*_METHODS, "all_unlearners"]


def __getattr__(name: str) -> Any:
    if name in _METHODS:
        return getattr(import_module(f"{__name__}.{_METHODS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def all_unlearners() -> list[tuple[str, type[Any]]]:
    """Return every unlearning method, of this package and of others that registered theirs.

    Another package registers a class by an entry point of the group ``grmu_sk.unlearners``.

    Returns
    -------
    list of (str, class)
        Name and class, sorted by name. The name is the short one of tables and the command line,
        such as ``"miu"``.

    Raises
    ------
    ValueError
        If two classes have the same name.

    Examples
    --------
    >>> from grmu_sk.unlearners import all_unlearners
    >>> dict(all_unlearners())["miu"].__name__
    'MIUUnlearner'
    """
    classes = [__getattr__(name) for name in _METHODS]
    classes += [point.load() for point in entry_points(group=__name__)]
    by_name: dict[str, type[Any]] = {}
    for cls in classes:
        if by_name.setdefault(cls.method_name, cls) is not cls:
            raise ValueError(
                f"{cls!r} and {by_name[cls.method_name]!r} are both called {cls.method_name!r}: "
                "uninstall one of the packages they come from."
            )
    return sorted(by_name.items())
