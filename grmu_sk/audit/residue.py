"""Look for what should have been forgotten: in objects, files, archives, databases and folders."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from skorch import NeuralNet
from torch import nn

from ..base import BaseUnlearner
from ..utils._files import temporaries
from ..utils.arguments import check_types, to_array
from ._containers import OPENERS
from ._folders import scan_path
from ._object_walk import ObjectWalk
from ._row_search import row_patterns
from ._row_values import RowValues, numeric_rows, row_forms
from ._sampler_search import SamplerWeights
from ._scanner import CHUNK, Scanner, Wanted
from ._segment_search import Copy, weight_copies
from .residue_scan import ResidueScan

__all__ = ["scan_residue"]

_SHORTEST_TEXT = 8


def scan_residue(
    path_or_object: Any,
    rows: Any,
    original: Any = None,
    *,
    mean: ArrayLike | None = None,
    std: ArrayLike | None = None,
    remaining: Any = None,
    forget_idx: ArrayLike | None = None,
    n_rows: int | None = None,
    chunk_size: int = CHUNK,
) -> ResidueScan:
    r"""Look for forgotten rows, original weights, teachers and telling sampler weights.

    Every byte of a file, or all that an object leads to in memory, is compared with the forgotten
    rows as they may be stored: as whole or floating point numbers of any precision and byte order,
    row by row or column by column, as given, scaled from [0, 255] to [0, 1], or normalised,
    :math:`(x - \mu) / \sigma`; and as text. Compressed streams, archives, pickles, databases and
    base64 are looked into. Nothing in a file is executed: pickles are read instruction by
    instruction, without carrying any out, and nothing is unpacked to disk.

    Parameters
    ----------
    path_or_object : str, path-like or object
        A file, a folder, or anything in memory: an unlearner, a net, bytes. A text is a path.
    rows : array-like, DataFrame or tensor of shape (n_forgotten, ...), list of str or bytes, None
        The forgotten rows as they were given to ``fit``. None looks for weights alone.
    original : unlearner, net, module, state dict, list of arrays, default=None
        The weights before unlearning.
    mean, std : array-like, default=None
        What the pipeline subtracts from a row and divides it by.
    remaining : array-like, DataFrame or tensor of shape (n_remaining, ...), default=None
        Rows that may be there: a forgotten row equal to one of them cannot be told from it.
        Default: those that an unlearner in memory holds.
    forget_idx : array-like of shape (n_forgotten,), default=None
        The rows' numbers in ``fit``, for the findings and for sampler weights. Default: those of
        an unlearner in memory, if there are as many.
    n_rows : int, default=None
        How many rows ``fit`` was given, for sampler weights. Default: known of an unlearner.
    chunk_size : int, default=8388608
        Bytes of a file that are in memory at once.

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
        If rows are not numbers, texts or bytes, or other arguments do not fit them.

    Warns
    -----
    UserWarning
        If there is nothing to look for.

    See Also
    --------
    AcceptanceGate : Takes the result as one of its conditions.

    Notes
    -----
    A row is not searched for where a match might be chance: if it holds less than 40 bits of
    information (few values, all equal, or only zeros and ones) in that encoding. If that is so in
    every encoding, ``not_searched`` names it. Of rows with more than 256 values, the 256 in a row
    that tell most are looked for. Original weights count if a whole tensor is there, in one of
    several encodings; tensors of fewer than four distinct values do not count, since other nets
    have them too. A method that keeps some weights by its own definition (the first layers of
    CF-k) will have them found.

    Sampler weights are reported if they are weights of all rows of ``fit`` and single out the
    forgotten ones: zero there and nowhere else, or all above or below those of the others. A
    teacher copy is a second module with parameters of the shapes of ``net_`` in an unlearner.

    Rows in columns are found if the first and the last of their values lie within one chunk.
    Parquet, HDF5 and compressed images are not opened, and named in ``not_searched``. What the
    caller's own Dataset or memory map holds is found too, if the object leads to it.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.audit import scan_residue
    >>> rows = np.random.default_rng(0).normal(size=(2, 5))
    >>> cache = {"batch": rows.astype("float32")[::-1]}
    >>> for finding in scan_residue(cache, rows):
    ...     print(finding)
    dict['batch']: 2 forgotten rows as float32 (0, 1)
    >>> scan_residue({"batch": rows + 1}, rows)
    []
    """
    check_types(scan_residue, locals())
    is_path = isinstance(path_or_object, str | os.PathLike)
    unlearner = path_or_object if isinstance(path_or_object, BaseUnlearner) else None
    known_rows, known_n = _known_of(unlearner)
    if forget_idx is not None:
        known_rows = to_array(forget_idx, "forget_idx")
        if known_rows.ndim != 1 or (len(known_rows) and known_rows.dtype.kind not in "iu"):
            raise ValueError(
                "forget_idx must be one whole number a row, got an array of shape "
                f"{known_rows.shape} and dtype {known_rows.dtype}."
            )
    for name, value in (("rows", rows), ("remaining", remaining)):
        if issparse(value):
            raise TypeError(f"{name} is a sparse matrix: pass {name}.toarray().")
        is_one = not hasattr(value, "__len__") or getattr(value, "shape", None) == ()
        if value is not None and is_one:
            raise ValueError(f"{name} must be several rows, got {value!r}.")
    if remaining is None and unlearner is not None and rows is not None:
        remaining = _held_rows(unlearner, known_rows, len(rows))
    wanted, notes = _wanted(
        rows,
        {} if original is None else _weights_of(original),
        mean,
        std,
        remaining,
        known_rows,
        known_n if n_rows is None else n_rows,
        is_required=forget_idx is not None,
    )
    if chunk_size < 1 << 10:
        raise ValueError(f"chunk_size must be at least 1024 bytes, got {chunk_size!r}.")
    scanner = Scanner(wanted, OPENERS, chunk_size)
    for note in notes:
        scanner.note(note)
    if is_path:
        path = Path(path_or_object)
        scan_path(scanner, path)
        if path.is_file():  # a save that was killed may have left a model beside it
            for left in temporaries(Path(os.path.realpath(path))):
                scan_path(scanner, left)
    else:
        walk = ObjectWalk(scanner)
        walk.walk(path_or_object, type(path_or_object).__name__)
        if unlearner is not None:
            _find_teachers(scanner, walk, unlearner)
    _note_what_was_given_up(scanner)
    return scanner.result()


# what is looked for ------------------------------------------------------------------------------


def _wanted(
    rows: Any,
    weights: Mapping[str, NDArray[Any]],
    mean: Any,
    std: Any,
    remaining: Any,
    numbers: NDArray[np.int64] | None,
    n_rows: int | None,
    is_required: bool,
) -> tuple[Wanted, list[str]]:
    forms: list[RowValues] = []
    copies = weight_copies(weights)
    notes: list[str] = []
    n_wanted = 0 if rows is None else len(rows)
    names = np.arange(n_wanted) if numbers is None or len(numbers) != n_wanted else numbers
    if numbers is not None and len(numbers) != n_wanted and is_required:
        raise ValueError(f"forget_idx names {len(numbers)} rows, but rows has {n_wanted}.")
    if n_wanted and isinstance(rows, list | tuple) and isinstance(rows[0], str | bytes):
        copies += _text_copies(rows)
        is_searched = np.isin(np.arange(n_wanted), [copy.name for copy in copies])
        notes += _unsearched(names[~is_searched], "they are shorter than 8 characters")
    elif n_wanted:
        array = numeric_rows(rows)
        is_duplicate = _is_among(array, remaining)
        notes += _unsearched(names[is_duplicate], "equal rows remain, and may be there")
        forms = row_forms(array[~is_duplicate], mean, std) if not is_duplicate.all() else []
        names = names[~is_duplicate]
        searched = {int(row) for pattern in row_patterns(forms) for row in pattern.rows}
        is_searched = np.isin(np.arange(len(names)), list(searched))
        reason = "they hold too little information to tell a match from chance"
        notes += _unsearched(names[~is_searched], reason)
    if not copies and not any(len(pattern.rows) for pattern in row_patterns(forms)):
        warnings.warn(
            "There is nothing to look for: no row and no weight can be told from chance.",
            UserWarning,
            stacklevel=4,
        )
    sampler = None
    if numbers is not None and n_rows is not None:
        sampler = SamplerWeights(np.asarray(numbers, dtype=np.int64), int(n_rows))
    return Wanted(forms, np.asarray(names, dtype=np.int64), copies, sampler), notes


def _unsearched(rows: NDArray[np.int64], reason: str) -> list[str]:
    if not len(rows):
        return []
    listed = ", ".join(str(row) for row in rows[:5].tolist()) + (", ..." if len(rows) > 5 else "")
    return [f"{len(rows)} rows ({listed}): not searched for, since {reason}"]


def _text_copies(rows: Sequence[Any]) -> list[Copy]:
    copies = []
    for number, row in enumerate(rows):
        if not isinstance(row, str | bytes):
            raise ValueError(f"rows must all be text or all be bytes; row {number} is {row!r}.")
        forms = {"bytes": row} if isinstance(row, bytes) else _written(row)
        for encoding, content in forms.items():
            if len(content) >= _SHORTEST_TEXT and len(set(content)) > 3:
                copies.append(Copy(number, encoding, content))
    return copies


def _written(text: str) -> dict[str, bytes]:
    forms = {"text": text.encode()}
    escaped = text.encode("ascii", "backslashreplace")
    if escaped != forms["text"]:
        forms |= {"escaped text": escaped, "UTF-16": text.encode("utf-16-le")}
    return forms


def _is_among(rows: NDArray[Any], others: Any) -> NDArray[np.bool_]:
    """Mark rows that also occur among others, to single precision."""
    if others is None or not len(others):
        return np.zeros(len(rows), dtype=bool)
    known = numeric_rows(others, "remaining")
    if known.shape[1:] != rows.shape[1:]:
        raise ValueError(
            f"remaining has rows of shape {known.shape[1:]}, but rows are of {rows.shape[1:]}."
        )
    with np.errstate(over="ignore"):
        keys = [row.tobytes() for row in rows.astype(np.float32)]
        wanted = set(keys)  # one row at a time: the others may be many
        present = {key for row in known if (key := row.astype(np.float32).tobytes()) in wanted}
    return np.array([key in present for key in keys])


def _weights_of(original: Any) -> dict[str, NDArray[Any]]:
    """Return weights by name, wherever they come from."""
    if isinstance(original, BaseUnlearner):
        original = original.net_
    if isinstance(original, NeuralNet):
        original = original.module_
    if isinstance(original, nn.Module):
        original = original.state_dict()
    if isinstance(original, np.ndarray | torch.Tensor):
        original = [original]
    if isinstance(original, Sequence) and not isinstance(original, str | bytes):
        original = {f"tensor {number}": value for number, value in enumerate(original)}
    if not isinstance(original, Mapping):
        raise ValueError(
            "original must be a fitted unlearner, a net, a module, a state dict or a list of "
            f"arrays, got a {type(original).__name__}."
        )
    weights = {}
    for name, value in original.items():
        weights[str(name)] = to_array(value, f"original[{name!r}]")
    return weights


# what is known of an unlearner -------------------------------------------------------------------


def _known_of(unlearner: BaseUnlearner | None) -> tuple[NDArray[np.int64] | None, int | None]:
    if unlearner is None or not hasattr(unlearner, "forget_idx_"):
        return None, None
    n_rows = len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)
    return unlearner.forget_idx_, n_rows


def _held_rows(unlearner: BaseUnlearner, numbers: NDArray[np.int64] | None, n_wanted: int) -> Any:
    """Return the rows that an unlearner holds, other than those that are looked for."""
    data = getattr(unlearner, "_data", None)
    if data is None or data.is_lazy or numbers is None or len(numbers) != n_wanted:
        return None
    held = unlearner.training_rows("remaining")
    if not isinstance(held.X, np.ndarray | torch.Tensor | pd.DataFrame):
        return None
    return numeric_rows(held.X)[~np.isin(held.rows, numbers)]


def _find_teachers(scanner: Scanner, walk: ObjectWalk, unlearner: BaseUnlearner) -> None:
    """Report modules of the shapes of the unlearner's own that are neither it nor its recipe."""
    net = getattr(unlearner, "net_", None)
    if net is None:
        return
    own: set[int] = set()
    recipes = [net.module_, net.module, getattr(unlearner.estimator, "module", None)]
    for module in recipes:
        if isinstance(module, nn.Module):
            own |= {id(part) for part in module.modules()}
    shapes = _shapes(getattr(net.module_, "_orig_mod", net.module_))
    for place, module in walk.modules:
        if shapes and id(module) not in own and _shapes(module) == shapes:
            scanner.add("teacher copy", place, f"a {type(module).__name__} beside net_")


def _shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in module.parameters()]


def _note_what_was_given_up(scanner: Scanner) -> None:
    given_up = scanner.wanted.numbers[sorted(scanner.scattered.gave_up)]
    reason = "their values occur too often (rows next to each other were)"
    for note in _unsearched(given_up, f"stored by column {reason}"):
        scanner.note(note)
