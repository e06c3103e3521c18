"""Small pieces of HTML. Whatever is text becomes text: nothing passes unescaped."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

#: What stands for a number that is not known.
NOT_KNOWN = "\u2013"
# Joiners that some scripts and symbols need.
_HARMLESS = {"\u200c", "\u200d", "\u00ad"}


class Markup(str):
    """HTML that was made here; any other string is text."""


def text(value: Any) -> Markup:
    """Return text as HTML: escaped, with control characters spelled out, in its own direction."""
    if isinstance(value, Markup):
        return value
    shown = "".join(
        f"\\u{{{ord(letter):x}}}" if _is_invisible(letter) else letter for letter in str(value)
    )
    return Markup(f"<bdi>{escape(shown)}</bdi>" if not shown.isascii() else escape(shown))


def _is_invisible(letter: str) -> bool:
    """Tell whether a letter may reorder or hide what stands around it."""
    is_control = unicodedata.category(letter) in ("Cc", "Cf", "Cs")
    return is_control and letter not in _HARMLESS and letter not in "\n\t"


def element(name: str, *content: Any, **attributes: Any) -> Markup:
    """Return one element; ``class_`` stands for ``class``, and ``_`` in a name for ``-``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(content)}</{name}>")


def join(parts: Iterable[Any], between: str = "") -> Markup:
    """Return pieces one after another."""
    return Markup(between.join(text(part) for part in parts))


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    caption: str = "",
    numbers: Iterable[int] = (),
) -> Markup:
    """Return a table; on a narrow screen each row becomes a block with its labels."""
    is_number = set(numbers)

    def cell(column: int, content: Any) -> Markup:
        if column == 0:
            return element("th", content, scope="row")
        kind = "number" if column in is_number else None
        return element("td", content, data_label=header[column] or None, class_=kind)

    head = element(
        "tr",
        *(
            element("th", name, scope="col", class_="number" if column in is_number else None)
            for column, name in enumerate(header)
        ),
    )
    body = [element("tr", *(cell(i, value) for i, value in enumerate(row))) for row in rows]
    parts = [element("caption", caption)] if caption else []
    parts += [element("thead", head), element("tbody", *body)]
    return element("table", *parts, class_="stacked")


def terms(pairs: Iterable[tuple[str, Any]]) -> Markup:
    """Return a list of terms and what stands for them; what is empty is left out."""
    items = [
        join([element("dt", name), element("dd", value)])
        for name, value in pairs
        if str(value) != ""
    ]
    return element("dl", *items)


def percent(value: Any, digits: int = 1) -> str:
    """Return a fraction as percent, and a dash for what is not known."""
    number = to_number(value)
    return NOT_KNOWN if number is None else f"{100 * number:.{digits}f}%"


def to_number(value: Any) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
