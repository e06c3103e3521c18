"""Look for what should have been forgotten: in objects, files, archives and folders."""

from __future__ import annotations

import os
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from skorch import NeuralNet
from torch import nn
from tqdm import tqdm

from ..base import BaseUnlearner
from ..sample_ids import naming
from ..validation import to_array
from .residue_needles import Kind, Needle, Needles, row_needles, weight_needles
from .residue_places import PART_MARKS, Piece, Places
from .scores import from_json

#: So much of a file is in memory at once, in bytes.
CHUNK = 1 << 23
_PARTS = re.compile("|".join(map(re.escape, PART_MARKS)))


@dataclass(frozen=True)
class Finding:
    """Something that should have been forgotten, and where it still is.

    Attributes
    ----------
    kind : {"forgotten row", "original weights"}
        What it is.
    place : str
        Where: a file, with ``!`` before what is inside of an archive, or the path of attributes
        and items that leads to it.
    encoding : str
        How it is written there: ``"float32"``, ``"normalised float32, by column"``,
        ``"float64, as text"``. If in several ways, one of them.
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
    cache.npz!X.npy: 2 forgotten row(s) as float32 (3, 7)
    """

    kind: Kind
    place: str
    encoding: str
    rows: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    offset: int | None = None

    def __str__(self) -> str:
        what = f"{len(self.rows)} forgotten row(s)" if self.rows else self.kind
        return f"{self.place}: {what} as {self.encoding} ({naming(self.rows or self.tensors)})"


class ResidueScan(list[Finding]):
    """A list of findings, empty when nothing was found.

    Parameters
    ----------
    findings : iterable of Finding, default=()
        What was found.
    not_searched : iterable of str, default=()
        What could not be looked into, and why; rows that cannot be told from others count too.
    n_places : int, default=0
        How many files, archive members, attributes and cells were searched.
    n_bytes : int, default=0
        How many bytes that were.

    Attributes
    ----------
    not_searched : list of str
        As given.
    n_places, n_bytes : int
        As given.

    Examples
    --------
    >>> from grmu_sk.audit import ResidueScan
    >>> ResidueScan(not_searched=["a.zip!b: encrypted"]).verdict
    'inconclusive'
    """

    def __init__(
        self,
        findings: Iterable[Finding] = (),
        *,
        not_searched: Iterable[str] = (),
        n_places: int = 0,
        n_bytes: int = 0,
    ) -> None:
        super().__init__(findings)
        self.not_searched, self.n_places, self.n_bytes = list(not_searched), n_places, n_bytes

    @property
    def verdict(self) -> Literal["residue", "clean", "inconclusive"]:
        """What follows: an empty list says "clean" only if everything could be looked into."""
        if self:
            return "residue"
        return "inconclusive" if self.not_searched else "clean"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values.

        Returns
        -------
        dict
            With ``verdict``, ``findings``, ``not_searched``, ``n_places`` and ``n_bytes``.
        """
        return {
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self],
            **vars(self),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned.

        Parameters
        ----------
        fields : mapping
            By name.

        Returns
        -------
        ResidueScan
            The findings and the rest.
        """
        counts = {name: fields[name] for name in ("not_searched", "n_places", "n_bytes")}
        return cls(from_json(list[Finding], fields["findings"]), **counts)


def scan_residue(
    path_or_object: Any,
    rows: Any,
    original: Any = None,
    *,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    remaining: Any = None,
    forget_idx: ArrayLike | None = None,
) -> ResidueScan:
    r"""Look for forgotten rows and original weights.

    Every byte of a file, or all that an object leads to in memory, is compared with the forgotten
    rows as they may be stored: as whole or floating point numbers, row by row or column by column,
    as given, scaled between [0, 255] and [0, 1], or normalised, :math:`(x - \mu) / \sigma`.
    Original weights are found as they are, and scaled or shifted. Compressed files and archives
    (gzip, bzip2, xz, zlib, zip, npz, tar) are looked into. Nothing in a file is executed, and
    nothing is unpacked to disk. A long scan shows its progress.

    Parameters
    ----------
    path_or_object : str, path-like or object
        A file, a folder, or anything in memory: an unlearner, a net, bytes. A text is a path.
    rows : array-like, DataFrame or tensor of shape (n_forgotten, ...), or None
        The forgotten rows as they were given to ``fit``; of a table, the columns of numbers. None
        looks for weights alone.
    original : unlearner, net, module or state dict, default=None
        The weights before unlearning. Of a classifier that is no net, what it has learned is not
        looked for, and ``not_searched`` says so.
    mean, std : array-like, default=None
        What the pipeline subtracts from a row and divides it by.
    remaining : array-like, DataFrame or tensor of shape (n_remaining, ...), default=None
        Rows that may be there: a forgotten row equal to one of them cannot be told from it.
    forget_idx : array-like of shape (n_forgotten,), default=None
        The rows' numbers in ``fit``, by which findings then name them.

    Returns
    -------
    ResidueScan
        A list of :class:`Finding`, empty when nothing was found. Its ``not_searched`` says what
        could not be looked into, and its ``verdict`` is then "inconclusive", not "clean".

    Raises
    ------
    FileNotFoundError
        If there is nothing at the path.
    OSError
        If the file that was named cannot be read.
    ValueError
        If rows are not numbers, or other arguments do not fit them.

    Warns
    -----
    UserWarning
        If there is nothing to look for.

    See Also
    --------
    AcceptanceGate : Takes the result as one of its conditions.

    Notes
    -----
    Numbers are looked for as 32 and 64 bit floats, halves (float16, bfloat16), unsigned bytes and
    32 and 64 bit integers, to the last bit; normalised ones as single and as double precision
    computes :math:`(x - \mu) / \sigma`. A row is not searched for where a match might be chance:
    if it holds less than 40 bits of information (few values, all equal, or only zeros and ones) in
    that encoding. If that is so in every encoding, ``not_searched`` names it. Of rows with more
    than 256 values, the 256 in a row that tell most are looked for. Original weights count if a
    whole tensor is there, known by up to eight stretches of it; tensors of fewer than four distinct
    values do not count, since other nets have them too. A method that keeps some weights by its own
    definition (the first layers of CF-k) will have them found.

    In arrays and ``.npy`` files, columns are read as such. Elsewhere rows in columns are found if
    three of their floating point values occur in no other of the rows, and the first and the last
    lie within one chunk. In text (CSV, JSON, logs) numbers are found that were written with all
    their digits. What is encoded otherwise is not found: base64, old pickles of bytes (protocols 0
    to 2), compressed values within a pickle or a database. Parquet, HDF5 and compressed images are
    not opened, and named in ``not_searched``. What the caller's own Dataset or memory map holds is
    found too, if the object leads to it; attributes of classes and globals of modules are not
    looked at.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.audit import scan_residue
    >>> rows = np.random.default_rng(0).normal(size=(2, 5))
    >>> cache = {"batch": rows.astype("float32")[::-1]}
    >>> for finding in scan_residue(cache, rows):
    ...     print(finding)
    dict['batch']: 2 forgotten row(s) as float32 (0, 1)
    >>> scan_residue({"batch": rows + 1}, rows)
    []
    """
    needles: list[Needle] = []
    notes: list[str] = []
    width = 1
    if rows is not None and len(rows):
        rows = _numeric(rows, "rows")
        numbers = np.arange(len(rows)) if forget_idx is None else to_array(forget_idx, "forget_idx")
        if len(numbers) != len(rows):
            raise ValueError(f"forget_idx names {len(numbers)} rows, but rows has {len(rows)}.")
        width, remains = min(256, rows[0].size), _is_among(rows, remaining)
        needles = row_needles(rows[~remains], numbers[~remains].tolist(), mean, std)
        told = [owner for needle in needles for owner in needle.owners]
        notes += _unsearched(numbers[remains], "equal rows remain, and may be there")
        reason = "they hold too little information to tell a match from chance"
        notes += _unsearched(np.setdiff1d(numbers[~remains], told), reason)
    if original is not None:
        if isinstance(original, BaseUnlearner):
            original = original._model
        if hasattr(original, "predict_proba") and not isinstance(original, NeuralNet):
            notes.append("what the original classifier has learned: only weights of nets are")
        else:
            needles += weight_needles(_weights_of(original))
    if not needles:
        warnings.warn("There is nothing to look for that is no chance.", UserWarning, stacklevel=2)
    search = _Search(Needles(needles))
    places = Places(CHUNK, search.needles.overlap, width)
    if isinstance(path_or_object, str | os.PathLike):
        pieces = places.of_path(Path(os.path.realpath(path_or_object, strict=True)))
    else:
        pieces = places.of_object(path_or_object, type(path_or_object).__name__)
    search.all(places, pieces)
    gave_up = np.array(sorted(search.needles.gave_up), dtype=np.int64)
    notes += _unsearched(gave_up, "stored by column their values occur too often")
    notes += dict.fromkeys(places.notes)
    counts = {"n_places": places.n_places, "n_bytes": places.n_bytes}
    return ResidueScan(search.findings(), not_searched=notes, **counts)


def _unsearched(rows: NDArray[np.int64], reason: str) -> list[str]:
    if not len(rows):
        return []
    return [f"{len(rows)} rows ({naming(rows.tolist())}): not searched for, since {reason}"]


def _numeric(rows: Any, name: str) -> NDArray[Any]:
    """Return rows as an array of numbers, whatever they came in."""
    if isinstance(rows, pd.DataFrame):
        rows = rows.select_dtypes(["number", "bool"]).to_numpy()
    array = to_array(rows, name)
    if array.dtype.kind == "O":
        array = array.astype(np.float64)
    if array.dtype.kind not in "biuf" or array.ndim < 2 or (len(array) and not array.size):
        raise ValueError(
            f"{name} must be numbers of shape (n_rows, ...); a single row is {name}[None]."
        )
    return array


def _is_among(rows: NDArray[Any], others: Any) -> NDArray[np.bool_]:
    """Mark rows that also occur among others, to single precision."""
    if others is None or not len(others):
        return np.zeros(len(rows), dtype=bool)
    known = _numeric(others, "remaining")
    if known.shape[1:] != rows.shape[1:]:
        raise ValueError(f"remaining has rows of shape {known.shape[1:]}, not {rows.shape[1:]}.")
    with np.errstate(over="ignore"):
        keys = [row.tobytes() for row in rows.astype(np.float32)]
        wanted = set(keys)  # one row at a time: the others may be many
        present = {key for row in known if (key := row.astype(np.float32).tobytes()) in wanted}
    return np.array([key in present for key in keys])


def _weights_of(original: Any) -> dict[str, NDArray[Any]]:
    """Return weights by name, wherever they come from."""
    if isinstance(original, NeuralNet):
        original = original.module_
    if isinstance(original, nn.Module):
        original = original.state_dict()
    return {str(name): to_array(value, f"original[{name!r}]") for name, value in original.items()}


class _Search:
    """Compares pieces, many small ones at once, with all that is wanted, and keeps what it finds.

    Parameters
    ----------
    needles : Needles
        Rows and weights.
    """

    def __init__(self, needles: Needles) -> None:
        self.needles = needles
        #: How the row or tensor of a kind is written in a place, and where in it.
        self.found: dict[tuple[Kind, str, Any], tuple[str, int]] = {}
        self.parts: dict[Any, dict[int, tuple[float, float]]] = defaultdict(dict)

    def all(self, places: Places, pieces: Iterable[Piece]) -> None:
        """Search all pieces; a long search shows its progress."""
        waiting, n_waiting = [], 0
        with tqdm(unit="B", unit_scale=True, delay=2, disable=None, desc="residue") as bar:
            for piece in pieces:
                waiting.append(piece)
                n_waiting += len(piece.raw)
                if n_waiting >= CHUNK:
                    self._compare(waiting)
                    waiting, n_waiting = [], 0
                    bar.update(places.n_bytes - bar.n)
        self._compare(waiting)

    def _compare(self, pieces: Sequence[Piece]) -> None:
        buffer = np.concatenate([piece.raw for piece in pieces] or [np.empty(0, np.uint8)])
        bounds = np.cumsum([0, *(len(piece.raw) for piece in pieces[:-1])])
        for needle, how, stretch, position, relation in self.needles.find(buffer, bounds):
            which = int(np.searchsorted(bounds, position, "right")) - 1
            piece, owner = pieces[which], needle.owners[stretch]
            origin = int(piece.offset + position - bounds[which] - needle.starts[stretch])
            seen = self.parts[piece.place, id(needle), how, owner, origin]
            seen[stretch] = relation
            if needle.n_parts == 1 or _is_copy(needle, seen):
                encoding = needle.name + how + (piece.how if piece.how != how else "")
                self.found.setdefault((needle.kind, piece.place, owner), (encoding, origin))

    def findings(self) -> list[Finding]:
        """Return what was found; what lies in a place and in a part of it too is told once."""
        together: dict[tuple[Kind, str, str], list[tuple[Any, int]]] = defaultdict(list)
        for (kind, place, owner), (encoding, offset) in self.found.items():
            larger = (place[: at.start()] for at in _PARTS.finditer(place))
            if not any((kind, other, owner) in self.found for other in larger):
                together[kind, place, encoding].append((owner, offset))
        findings = []
        for (kind, place, encoding), told in together.items():
            owners, offsets = zip(*sorted(told), strict=True)
            of_whom = {"rows" if kind == "forgotten row" else "tensors": owners}
            findings.append(Finding(kind, place, encoding, offset=min(offsets), **of_whom))
        return findings


def _is_copy(needle: Needle, parts: Mapping[int, tuple[float, float]]) -> bool:
    """Tell whether all stretches are there, and all scaled and shifted alike."""
    spread = needle.numbers.std()
    scale, shift = np.ptp(list(parts.values()), axis=0)
    size = np.abs(next(iter(parts.values()))) @ (spread, 1)
    return len(parts) == needle.n_parts and bool(scale * spread + shift <= 1e-3 * size)
