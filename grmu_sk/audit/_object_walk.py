"""Go through everything an object leads to in memory, and search it."""

from __future__ import annotations

import array
import functools
import gc
import io
import mmap
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from ._scanner import Scanner

_ATOMS = (bool, int, float, complex, type(None), types.ModuleType, types.CodeType, range, slice)
_LONGEST_KEY = 40
# Attributes of the classes of these packages are theirs, and the same in every program.
_FOREIGN = {
    "builtins",
    "numpy",
    "pandas",
    "scipy",
    "skorch",
    "sklearn",
    "torch",
    *sys.stdlib_module_names,
}

Step = tuple[str, Any]


class ObjectWalk:
    """Visits every object that a root leads to, once.

    Attributes, slots, items, closures, default arguments, what bound methods and partial functions
    hold, caches of functions, generators, buffers, and the whole memory behind a view.

    Parameters
    ----------
    scanner : Scanner
        Takes what is found.
    """

    def __init__(self, scanner: Scanner) -> None:
        self.scanner = scanner
        self.seen: dict[int, Any] = {}  # keeps objects alive, so that no id is used twice
        #: Every module met, by where.
        self.modules: list[tuple[str, nn.Module]] = []

    def walk(self, root: Any, name: str) -> None:
        """Search all that ``root`` leads to.

        Parameters
        ----------
        root : object
            Where to begin.
        name : str
            What findings call it.
        """
        pending: deque[Step] = deque([(name, root)])
        while pending:
            place, found = pending.popleft()
            if isinstance(found, _ATOMS) or id(found) in self.seen:
                continue
            self.seen[id(found)] = found
            self._search(place, found)
            pending.extend(self._led_to(place, found))

    # searching -----------------------------------------------------------------------------------

    def _search(self, place: str, found: Any) -> None:
        if isinstance(found, np.ndarray):
            self._search_array(place, found)
        elif isinstance(found, torch.Tensor):
            self._search_tensor(place, found)
        elif isinstance(found, str):
            if len(found) > 8:
                self.scanner.scan_bytes(place, found.encode(errors="replace"))
        elif isinstance(found, bytes | bytearray):
            if len(found) > 8:
                self.scanner.scan_bytes(place, bytes(found))
        elif isinstance(found, memoryview | mmap.mmap | array.array):
            self._search_buffer(place, found)
        elif isinstance(found, io.BytesIO):
            self.scanner.scan_bytes(place, found.getvalue())
        elif isinstance(found, io.StringIO):
            self.scanner.scan_bytes(place, found.getvalue().encode(errors="replace"))
        elif isinstance(found, Mapping):
            self._search_numbers(place, found.values())
        elif isinstance(found, list | tuple | deque):
            self._search_numbers(place, found)
        elif isinstance(found, nn.Module):
            self.modules.append((place, found))

    def _search_array(self, place: str, found: NDArray[Any]) -> None:
        if found.dtype.kind == "O":
            self._search_numbers(place, found.ravel().tolist())
        elif found.dtype.kind in "US":
            self.scanner.scan_bytes(place, "\n".join(map(str, found.ravel().tolist())).encode())
        else:
            self.scanner.search_array(place, found)

    def _search_tensor(self, place: str, found: torch.Tensor) -> None:
        if found.is_meta:
            return
        if found.layout != torch.strided:
            for part in ("values", "crow_indices", "indices"):
                with_values = found.detach().coalesce() if found.is_sparse else found.detach()
                if part == "values":
                    self._search_tensor(f"{place}.values()", with_values.values())
            return
        memory = torch.empty(0, dtype=torch.uint8, device=found.device)
        memory.set_(found.untyped_storage())
        self.scanner.search_array(f"{place} (storage)", memory.cpu().numpy())
        plain = found.detach().cpu()
        if plain.dtype == torch.bfloat16:
            plain = plain.view(torch.int16)
        if not plain.is_complex() and not plain.is_quantized:
            self.scanner.search_array(place, plain.resolve_neg().numpy())

    def _search_buffer(self, place: str, found: Any) -> None:
        try:
            raw = np.frombuffer(found, np.uint8)
        except (BufferError, TypeError, ValueError) as error:
            self.scanner.note(f"{place}: memory that cannot be read ({error})")
            return
        self.scanner.search_array(place, raw)

    def _search_numbers(self, place: str, found: Any) -> None:
        numbers = [float(item) for item in list(found) if _is_number(item)]
        if len(numbers) > 1:
            self.scanner.search_array(place, np.array(numbers))

    # where to go next ----------------------------------------------------------------------------

    def _led_to(self, place: str, found: Any) -> Iterator[Step]:
        if isinstance(found, str | bytes | bytearray):
            return
        if isinstance(found, type):
            yield from _class_attributes(place, found)
            return
        if isinstance(found, weakref.ReferenceType):
            return
        if not isinstance(found, type) and _is_users_class(type(found)):
            yield f"type({place})", type(found)
        yield from self._parts(place, found)

    def _parts(self, place: str, found: Any) -> Iterator[Step]:
        if isinstance(found, np.ndarray):
            yield f"{place}.base", found.base
            if found.dtype.kind == "O":
                yield from _items(place, enumerate(found.ravel().tolist()))
        elif isinstance(found, torch.Tensor):
            if found.is_leaf:
                yield f"{place}.grad", found.grad
            yield from _attributes(place, found)
        elif isinstance(found, nn.Module):  # by the names users know
            yield from ((f"{place}.{name}", value) for name, value in found.named_parameters())
            yield from ((f"{place}.{name}", value) for name, value in found.named_buffers())
            yield from _attributes(place, found)
        elif isinstance(found, Mapping):
            for key, value in list(found.items()):
                yield f"{place} (key)", key
                yield f"{place}[{_short(key)}]", value
            yield from _attributes(place, found)
        elif isinstance(found, list | tuple | deque):
            yield from _items(place, enumerate(list(found)))
            yield from _attributes(place, found)
        elif isinstance(found, set | frozenset):
            yield from ((f"{place} (item)", item) for item in list(found))
        elif isinstance(found, pd.DataFrame | pd.Series | pd.Index):
            yield f"{place}.to_numpy()", found.to_numpy()
            yield from _referents(place, found)
        elif isinstance(found, types.FunctionType):
            yield from _function_parts(place, found)
        elif isinstance(found, types.MethodType):
            yield f"{place}.__self__", found.__self__
            yield f"{place}.__func__", found.__func__
        elif isinstance(found, functools.partial):
            yield f"{place}.func", found.func
            yield f"{place}.args", found.args
            yield f"{place}.keywords", found.keywords
        elif isinstance(found, types.GeneratorType):
            frame = found.gi_frame
            yield f"{place} (variables)", {} if frame is None else dict(frame.f_locals)
        else:
            yield from _attributes(place, found)
            if not hasattr(found, "__dict__"):
                yield from _referents(place, found)


def _short(key: Any) -> str:
    text = repr(key) if isinstance(key, str | int | float | bytes | tuple) else type(key).__name__
    return text if len(text) <= _LONGEST_KEY else text[:_LONGEST_KEY] + "..."


def _is_number(item: Any) -> bool:
    if isinstance(item, torch.Tensor):
        return item.ndim == 0 and not (item.is_meta or item.is_complex())
    if isinstance(item, int | float | np.floating | np.integer):
        return abs(float(item)) < 1e300
    return False


def _items(place: str, items: Any) -> Iterator[Step]:
    for key, value in items:
        yield f"{place}[{key}]", value


def _attributes(place: str, found: Any) -> Iterator[Step]:
    for name, value in list(getattr(found, "__dict__", {}).items()):
        yield f"{place}.{name}", value
    for cls in type(found).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            mangled = name
            if name.startswith("__") and not name.endswith("__"):
                mangled = f"_{cls.__name__.lstrip('_')}{name}"
            descriptor = cls.__dict__.get(mangled)
            if isinstance(descriptor, types.MemberDescriptorType):
                try:
                    yield f"{place}.{name}", descriptor.__get__(found, type(found))
                except AttributeError:  # never set
                    continue


def _referents(place: str, found: Any) -> Iterator[Step]:
    """Yield what only the garbage collector knows, such as the cache of a function."""
    for value in gc.get_referents(found):
        if not isinstance(value, type | types.ModuleType):
            yield f"{place} (held)", value


def _function_parts(place: str, function: types.FunctionType) -> Iterator[Step]:
    """Yield what a function remembers: all but the globals of its module."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"{place} (closure {name})", cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield f"{place}.__defaults__", function.__defaults__
    yield f"{place}.__kwdefaults__", function.__kwdefaults__
    yield from _attributes(place, function)


def _is_users_class(cls: type) -> bool:
    return cls.__module__.partition(".")[0] not in _FOREIGN


def _class_attributes(place: str, cls: type) -> Iterator[Step]:
    for part in cls.__mro__:
        if _is_users_class(part):
            for name, value in list(vars(part).items()):
                if not isinstance(value, type | property):
                    yield f"{place}.{name}", value
