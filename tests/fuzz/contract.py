"""What a call may do: succeed, or refuse with an error that is documented or names an argument."""

import inspect
import linecache
import re
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from numpydoc.docscrape import NumpyDocString
from sklearn.exceptions import NotFittedError

#: Errors that need no mention in a docstring if their message names an argument.
PLAIN_ERRORS = (TypeError, ValueError, NotFittedError)


class BrokenContract(AssertionError):
    """A call did what no docstring says."""


@cache
def documented_errors(function) -> frozenset[str]:
    """Return the names of the errors in a docstring's section Raises."""
    text = inspect.getdoc(function) or ""
    if inspect.ismethod(function) and inspect.isclass(getattr(function, "__self__", None)):
        text = inspect.getdoc(function.__func__) or ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        entries = NumpyDocString(text)["Raises"]
    return frozenset(
        name.strip() for entry in entries for name in (entry.type or entry.name).split(",")
    )


@cache
def documented_warnings(function) -> frozenset[str]:
    entries = NumpyDocString(inspect.getdoc(function) or "")["Warns"]
    return frozenset((entry.type or entry.name).strip() for entry in entries)


def _names(error) -> set[str]:
    return {cls.__name__ for cls in type(error).__mro__}


def _raised_on_purpose(error) -> bool:
    """Tell whether a ``raise`` of this package, scikit-learn or skorch made the error."""
    if getattr(error, "is_on_purpose", False):
        return True
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    last = frames[-1]
    ours = any(f"/{name}/" in last.filename for name in ("grmu_sk", "sklearn", "skorch", "click"))
    line = linecache.getline(last.filename, last.lineno).strip()
    return ours and (line.startswith("raise") or "check_is_fitted" in line)


def _names_an_argument(error, names) -> bool:
    message = str(error)
    return any(re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", message) for name in names)


@dataclass
class Call:
    """A call with drawn arguments.

    Attributes
    ----------
    function : callable
        What is called.
    kwargs : dict
        With which arguments.
    positional : tuple of str
        Names of arguments that can be passed by position only.
    documents : tuple of callable
        Whose docstrings count; by default that of the function.
    subject : object
        What has to be as it was if the call fails; None if there is nothing.
    check : callable
        Raises AssertionError if the result is impossible.
    names : tuple of str
        What the error may name in place of an argument.
    draws : bool
        Whether it may draw from torch's global random numbers, as modules do for their weights.
    """

    function: Any
    kwargs: dict[str, Any]
    positional: tuple[str, ...] = ()
    documents: tuple[Any, ...] = ()
    subject: Any = None
    check: Any = None
    names: tuple[str, ...] = ()
    draws: bool = False


@dataclass
class Tally:
    """How calls ended, by target."""

    accepted: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    errors: Counter = field(default_factory=Counter)

    def add(self, target: str, outcome: str) -> None:
        if outcome == "accepted":
            self.accepted[target] += 1
        else:
            self.refused[target] += 1
            self.errors[outcome] += 1

    @property
    def total(self) -> int:
        return self.accepted.total() + self.refused.total()


def argument_names(call: Call) -> set[str]:
    names = set(call.kwargs) | set(call.names)
    for document in (call.function, *call.documents):
        try:
            names |= set(inspect.signature(document).parameters)
        except (TypeError, ValueError):
            continue
    return names - {"self", "cls", "args", "kwargs"}


def fingerprint(value, depth=0):
    """Describe an object so that two descriptions are equal only if nothing has changed."""
    if isinstance(value, torch.Tensor):
        # a meta tensor has no values
        data = value.detach().cpu().numpy().tobytes() if value.device.type == "cpu" else b""
        return (str(value.dtype), tuple(value.shape), data)
    if isinstance(value, np.ndarray):
        content = repr(value.tolist()) if value.dtype == object else value.tobytes()
        return (value.dtype.str, value.shape, content)
    if isinstance(value, str | bytes | int | float | bool | None | complex):
        return repr(value)
    if depth > 9:
        return repr(type(value))
    if isinstance(value, dict):
        return [(repr(key), fingerprint(item, depth + 1)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [fingerprint(item, depth + 1) for item in value]
    if isinstance(value, type) or inspect.isroutine(value):
        return repr(value)
    if hasattr(value, "__dict__"):
        state = dict(vars(value))
        if isinstance(value, torch.nn.Module):
            state.pop("training")  # predicting leaves a net in evaluation mode
        return (type(value).__name__, fingerprint(state, depth + 1))
    return repr(type(value))


def _random_state():
    return torch.get_rng_state().numpy().tobytes()


def outcome_of(call: Call) -> str:
    """Make the call; return "accepted" or the name of the error, or raise BrokenContract."""
    documents = (*(call.documents or (call.function,)),)
    before = fingerprint(call.subject)
    given = {name: fingerprint(v) for name, v in call.kwargs.items() if type(v) is np.ndarray}
    random_before = _random_state()
    kwargs = dict(call.kwargs)
    args = [kwargs.pop(name) for name in call.positional]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)
            warnings.filterwarnings("error", message="The given NumPy array is not writable")
            result = call.function(*args, **kwargs)
    except Exception as error:
        _judge(error, call, documents)
        if fingerprint(call.subject) != before:
            raise BrokenContract(f"an error ({error!r}) left the object changed") from error
        outcome = type(error).__name__
    else:
        if call.check is not None:
            call.check(result)
        outcome = "accepted"
    for name, seen in given.items():
        if fingerprint(call.kwargs[name]) != seen:
            raise BrokenContract(f"the caller's {name} was changed")
    if not call.draws and _random_state() != random_before:
        raise BrokenContract("the caller's random numbers were used up")
    return outcome


def _judge(error, call, documents) -> None:
    if isinstance(error, BrokenContract):
        raise error
    names = _names(error)
    is_documented = any(names & documented_errors(document) for document in documents)
    if isinstance(error, Warning):
        is_documented = any(names & documented_warnings(document) for document in documents)
    named = _names_an_argument(error, argument_names(call))
    if is_documented and (_raised_on_purpose(error) or named or isinstance(error, OSError)):
        return
    if isinstance(error, PLAIN_ERRORS) and not isinstance(error, Warning) and named:
        return
    raise BrokenContract(
        f"{type(error).__name__} is "
        + ("documented, but its message names no argument" if is_documented else "not documented")
        + f": {str(error)[:300]!r}"
    ) from error
