"""What the commands about one model read: a saved model, tables of rows, row numbers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

if TYPE_CHECKING:
    from ..base import BaseUnlearner

# what NumPy raises for a damaged or forged file; a header may claim any size
UNREADABLE = (ValueError, ArithmeticError, MemoryError, SyntaxError, zlib.error)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class LabelledRows(NamedTuple):
    """Inputs, labels and protected attribute."""

    X: Any
    y: Any
    groups: Any


def load_rows(path: Path) -> LabelledRows:
    """Read a NumPy .npz file with the arrays X, y and groups; nothing in it is executed.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    LabelledRows
        Its arrays; ``groups`` is None if there is none.

    Raises
    ------
    ValueError
        If an array is missing, holds objects, or the lengths differ.
    """
    arrays = load_arrays(path, ("X", "y", "groups"))
    if missing := [name for name in ("X", "y") if name not in arrays]:
        raise ValueError(f"{path} lacks the array(s) {missing}; it needs X, y and groups.")
    if any(array.ndim == 0 for array in arrays.values()):
        raise ValueError(f"The arrays of {path} must have one entry a row.")
    if len({len(array) for array in arrays.values()}) > 1:
        lengths = {name: len(array) for name, array in arrays.items()}
        raise ValueError(f"The arrays of {path} differ in length: {lengths}.")
    return LabelledRows(arrays["X"], arrays["y"], arrays.get("groups"))


def load_arrays(path: Path, names: Iterable[str]) -> dict[str, Any]:
    """Read some arrays of a NumPy .npz file; nothing in it is executed.

    Parameters
    ----------
    path : Path
        The file.
    names : iterable of str
        The arrays, as far as they are there.

    Returns
    -------
    dict
        Arrays by name.

    Raises
    ------
    ValueError
        If it is no such file, or an array holds objects.
    """
    import zipfile

    import numpy as np

    try:
        # opened here, since NumPy leaves a damaged file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: content[name] for name in names if name in content}
    except (*UNREADABLE, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(
            f"{path} is not a .npz file of plain arrays ({error}). Write it with "
            "numpy.savez(path, X=X, y=y, groups=groups), without arrays of objects."
        ) from error


def load_row_numbers(path: Path) -> Any:
    """Read row numbers: a .npy file, or text with one number a line.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray
        Row numbers, or a mask.

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    import numpy as np

    try:
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False)
            if not isinstance(found, np.ndarray):
                raise ValueError("it is an archive of arrays")
            return found
        words = path.read_text(encoding="utf-8").split()
        return np.array([int(word) for word in words], dtype=np.int64)
    except UNREADABLE as error:
        raise ValueError(f"{path} does not hold row numbers: {error}") from error


def load_model(path: Path, net: str | None) -> BaseUnlearner:
    """Read a model that ``unlearner.save`` wrote.

    Parameters
    ----------
    path : Path
        The file.
    net : str or None
        ``"module:name"`` of the unfitted net, or of a function that returns it.

    Returns
    -------
    BaseUnlearner
        The model.

    Raises
    ------
    ValueError
        If the file cannot be loaded, or the net not imported.
    """
    from skorch import NeuralNet

    from ..persistence import load
    from ._data_source import import_object

    estimator: Any = None
    if net is not None:
        estimator = import_object(net)
        if not isinstance(estimator, NeuralNet):
            estimator = estimator()
    return load(path, estimator)


def net_option(command: Any) -> Any:
    """Add the option ``--net``."""
    return click.option(
        "--net",
        metavar="MODULE:NAME",
        help="Where to import the unfitted net from, or a function that returns it; it is your "
        "own code and runs. Not needed for the default net.",
    )(command)


def training_option(command: Any) -> Any:
    """Add the option ``--training``."""
    return click.option(
        "--training",
        required=True,
        type=FILE,
        help="The training rows as they were given to fit: a .npz file with X, y and groups.",
    )(command)
