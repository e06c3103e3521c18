"""All or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unchanged_on_error(subject: Any) -> Iterator[None]:
    """Take back every change to an object if anything goes wrong, Ctrl-C included.

    A shallow copy is enough where attributes are always replaced, never changed in place.
    """
    before = dict(subject.__dict__)
    try:
        yield
    except BaseException:
        subject.__dict__.clear()
        subject.__dict__.update(before)
        raise
