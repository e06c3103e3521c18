"""Stable names of training rows: whom a deletion request means, whatever the rows' order.

Everything else speaks of row numbers of ``fit``. A request speaks of a customer number, and
arrives as a number, as text or from a file; so two ids are the same if they are written the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import numpy as np
from sklearn.utils import check_consistent_length

from .rows import Rows

__all__ = ["SampleIds", "id_texts"]

#: So many ids are named in a message.
N_NAMED = 5


def id_texts(ids: Any, name: str = "ids") -> list[str]:
    """Return ids as they are written, which is what they are compared by.

    Parameters
    ----------
    ids : iterable of int, str or UUID
        The ids.
    name : str, default="ids"
        What messages call them.

    Returns
    -------
    list of str
        A text for each id, in the same order.

    Raises
    ------
    TypeError
        If it is no list of ids, or an id is of another type (a float, say: 3.0 or 3?).
    ValueError
        If an id is empty, or text that is no valid Unicode.

    Examples
    --------
    >>> from grmu_sk.sample_ids import id_texts
    >>> id_texts([7, "b-12"])
    ['7', 'b-12']
    """
    is_list = isinstance(ids, Iterable) and getattr(ids, "ndim", 1) == 1
    if isinstance(ids, str | bytes) or not is_list:
        raise TypeError(f"{name} must be a list of ids, one for each row, got {ids!r}.")
    values = ids.tolist() if hasattr(ids, "tolist") else ids
    return [_text(value, f"{name}[{place}]") for place, value in enumerate(values)]


def _text(value: Any, name: str) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or not isinstance(value, int | str | UUID):
        raise TypeError(
            f"{name} is {value!r}, a {type(value).__name__}, and no whole number, text or UUID."
        )
    text = str(value)
    if not text:
        raise ValueError(f"{name} is empty text, which names nobody.")
    text.encode()  # an error of its own if it is no valid Unicode
    return text


def naming(texts: Iterable[Any]) -> str:
    """Return some of the names, for a message."""
    named = list(texts)
    more = f" and {len(named) - N_NAMED} more" if len(named) > N_NAMED else ""
    return ", ".join(map(repr, named[:N_NAMED])) + more


class SampleIds:
    """Which row of ``fit`` has which id. Never changed in place.

    Parameters
    ----------
    n_rows : int
        Rows given to ``fit``.
    texts : list of str or None, default=None
        Ids, distinct, as :func:`id_texts` gives them; None means the row numbers.
    rows : ndarray or None, default=None
        Row number of each, ascending. None means all rows.

    Examples
    --------
    >>> from grmu_sk.sample_ids import SampleIds
    >>> SampleIds.from_user(["ann", "bob", "eve"], 3).rows_of(["eve", "ann"])
    array([0, 2])
    """

    def __init__(
        self, n_rows: int, texts: list[str] | None = None, rows: Rows | None = None
    ) -> None:
        self.n_rows = n_rows
        self._texts = texts
        #: Row numbers of those whose id is known, ascending.
        self.rows = np.arange(n_rows) if rows is None else rows

    @classmethod
    def from_user(cls, sample_id: Any, n_rows: int) -> SampleIds:
        """Check what was given to ``fit``.

        Parameters
        ----------
        sample_id : array-like of shape (n_rows,)
            An id for each row.
        n_rows : int
            Rows given to ``fit``.

        Returns
        -------
        SampleIds
            The ids.

        Raises
        ------
        TypeError
            If an id is not of a type that :func:`id_texts` takes.
        ValueError
            If there is not one for each row, or two rows have the same.
        """
        texts = id_texts(sample_id, "sample_id")
        check_consistent_length(range(n_rows), texts)
        if repeated := [text for text, count in Counter(texts).items() if count > 1]:
            raise ValueError(
                f"sample_id has the same id more than once: {naming(repeated)}. Where a person has "
                "several rows, number them (ann/1, ann/2) and name them all in a request."
            )
        return cls(n_rows, texts)

    @property
    def texts(self) -> list[str]:
        """Ids of :attr:`rows`."""
        return list(map(str, range(self.n_rows))) if self._texts is None else self._texts

    def rows_of(self, ids: Any) -> Rows:
        """Return the row numbers of these ids.

        Parameters
        ----------
        ids : iterable of ids
            Ids; one that is named twice counts once.

        Returns
        -------
        ndarray
            Row numbers, ascending.

        Raises
        ------
        TypeError
            If an id is not of a type that :func:`id_texts` takes.
        ValueError
            If there is no row with such an id.
        """
        asked = id_texts(ids)
        index = self.index()
        unknown = [text for text in asked if text not in index]
        if unknown:
            raise ValueError(f"{naming(unknown)}: {self.why_unknown()}")
        return np.unique(np.array([index[text] for text in asked], dtype=np.int64))

    def index(self) -> dict[str, int]:
        """Return the row number of each id."""
        return dict(zip(self.texts, self.rows.tolist(), strict=True))

    def why_unknown(self) -> str:
        """Return what there is to say about an id that no row has."""
        if self._texts is None:
            return f"no row of fit has this id: ids are the row numbers 0 to {self.n_rows - 1}."
        n_dropped = self.n_rows - len(self.rows)
        dropped = f" The ids of {n_dropped} forgotten rows were dropped." if n_dropped else ""
        return f"no row of fit has this id.{dropped}"

    def without(self, rows: Rows) -> SampleIds:
        """Return a copy that does not know the ids of these rows.

        Parameters
        ----------
        rows : ndarray
            Row numbers of ``fit``.

        Returns
        -------
        SampleIds
            The copy.
        """
        stays = np.flatnonzero(~np.isin(self.rows, rows))
        return SampleIds(self.n_rows, [self.texts[place] for place in stays], self.rows[stays])

    def to_plain(self) -> dict[str, Any]:
        """Return the ids as JSON can hold them."""
        return {"rows": self.rows.tolist(), "texts": self.texts}

    @classmethod
    def from_plain(cls, held: dict[str, Any], n_rows: int) -> SampleIds:
        """Return what :meth:`to_plain` returned, of so many rows of ``fit``."""
        return cls(n_rows, held["texts"], np.array(held["rows"], dtype=np.int64))
