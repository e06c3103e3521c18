"""A method's parameters, declared once: a default and the values that are allowed.

The constructor, the checks and the inherited part of the documentation follow from that::

    class Fading(ApproximateUnlearner):
        '''Forget slowly; a section describes ``speed``, and no parameter of the base class.'''

        speed: float = parameter(0.5, POSITIVE)
"""

from __future__ import annotations

import re
from dataclasses import Field, dataclass, field
from inspect import cleandoc, get_annotations
from numbers import Integral, Real
from typing import Any, dataclass_transform

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

__all__ = ["Interval", "Options", "WithParameters", "one_of", "parameter"]

# optimizers compute in single precision
LEARNING_RATE = Interval(Real, 0, float(np.finfo(np.float32).max), closed="both")
COUNT = Interval(Integral, 1, None, closed="left")
NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
POSITIVE = Interval(Real, 0, None, closed="neither")
SHARE = Interval(Real, 0, 1, closed="right")


def one_of(*words: str) -> StrOptions:
    """Allow these words."""
    return StrOptions(set(words))


def parameter(default: Any, *allowed: Any, kw_only: bool = True) -> Any:
    """Declare a parameter of a method.

    Parameters
    ----------
    default : object
        What it is if it is not given.
    *allowed : objects
        What scikit-learn's parameter constraints allow: an interval, "boolean", a type, None.
        Nothing means that the value is not checked.
    kw_only : bool, default=True
        Whether it must be given by name.

    Returns
    -------
    Field
        For the body of the class.
    """
    return field(default=default, kw_only=kw_only, metadata={"allowed": allowed})


@dataclass_transform(kw_only_default=True, field_specifiers=(parameter,))
class WithParameters:
    """Make constructor, constraints and documentation of each subclass from its declarations."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__annotations__ = {  # any other annotation is of an attribute
            name: kind
            for name, kind in get_annotations(cls).items()
            if isinstance(vars(cls).get(name), Field)
        }
        # who adds none keeps the constructor of the base class, which may be written by hand
        is_new = bool(cls.__annotations__) or len(cls.__bases__) > 1
        made = dataclass(cls, kw_only=True, eq=False, repr=False, init=is_new)
        fields = made.__dataclass_fields__  # type: ignore[attr-defined]
        constraints = {  # what scikit-learn's ``_validate_params`` reads
            name: list(declared.metadata["allowed"])
            for name, declared in fields.items()
            if declared.metadata.get("allowed")
        }
        cls._parameter_constraints = constraints  # type: ignore[attr-defined]
        if cls.__doc__:
            cls.__doc__ = _with_inherited_entries(cls)


def _with_inherited_entries(cls: type) -> str:
    """Return a class's docstring, with the parameters and attributes that its bases describe."""
    docs = [cleandoc(c.__doc__) for c in cls.__mro__ if issubclass(c, WithParameters) and c.__doc__]
    start, *sections = re.split(r"\n\n(?=[A-Z][A-Za-z ]+\n-{3,}\n)", docs[0])
    kept = [section for section in sections if not section.startswith(("Parameters", "Attributes"))]
    merged = [_merged(title, docs) for title in ("Parameters", "Attributes")]
    return "\n\n".join([start, *filter(None, merged), *kept])


def _merged(title: str, docs: list[str]) -> str:
    """Return a section with each entry as the most derived class has it, ``estimator`` first."""
    entries: dict[str, str] = {}
    for doc in docs:
        found = re.search(
            rf"(?:\A|\n){title}\n-+\n(.*?)(?=\n\n[A-Z][A-Za-z ]+\n-{{3,}}|\Z)", doc, re.S
        )
        for entry in re.split(r"\n(?=\S)", found[1]) if found else ():
            entries.setdefault(entry.partition(" :")[0], entry)
    ordered = sorted(entries.items(), key=lambda item: item[0] != "estimator")
    return "\n".join([title, "-" * len(title), *(entry for _, entry in ordered)]) if entries else ""
