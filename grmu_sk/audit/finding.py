"""One thing that a residue scan found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..utils.arguments import check_types

__all__ = ["Finding"]

Kind = Literal["forgotten row", "original weights", "teacher copy", "sampler weights"]


@dataclass(frozen=True)
class Finding:
    """Something that should have been forgotten, and where it still is.

    Attributes
    ----------
    kind : {"forgotten row", "original weights", "teacher copy", "sampler weights"}
        What it is.
    place : str
        Where: a file, with ``!`` before what is inside of an archive, or the path of attributes
        and items that leads to it.
    encoding : str
        How it is written there: ``"float32"``, ``"normalised float32, by column"``, ``"text"``.
    rows : tuple of int
        Which rows, as numbers of ``fit`` if those were given to the scan, else as positions in
        ``rows``. Empty for weights.
    tensors : tuple of str
        Which original tensors. Empty for rows.
    offset : int or None
        Where in the place the first one begins, in bytes.

    Examples
    --------
    >>> from grmu_sk.audit import Finding
    >>> print(Finding("forgotten row", "cache.npz!X.npy", "float32", rows=(3, 7)))
    cache.npz!X.npy: 2 forgotten rows as float32 (3, 7)
    """

    kind: Kind
    place: str
    encoding: str
    rows: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    offset: int | None = None

    def __post_init__(self) -> None:
        check_types(Finding.__init__, vars(self))
        for name in ("rows", "tensors"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def __str__(self) -> str:
        names = self.rows or self.tensors
        listed = ", ".join(str(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
        if self.kind == "forgotten row":
            what = f"{len(self.rows)} forgotten row{'s' if len(self.rows) != 1 else ''}"
        else:
            what = self.kind
        return f"{self.place}: {what} as {self.encoding}" + (f" ({listed})" if listed else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values.

        Returns
        -------
        dict
            By field name.
        """
        return {**asdict(self), "rows": list(self.rows), "tensors": list(self.tensors)}
