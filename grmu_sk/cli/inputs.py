"""What commands are given: a model and its net, tables of rows, row numbers, training data."""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click

# what NumPy raises for a damaged or forged file; a header may claim any size
UNREADABLE = (ValueError, ArithmeticError, MemoryError, SyntaxError, zlib.error)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
NET = click.option(
    "--net",
    metavar="MODULE:NAME",
    help="Where to import the unfitted net from, or a function that returns it; it is your own "
    "code and runs. Not needed for the default net.",
)
TRAINING = "The training rows as they were given to fit: a .npz file with X, y and groups."
NAMES = ("X", "y", "groups", "sample_weight", "sample_id")


class LabelledRows(NamedTuple):
    """Inputs, labels and protected attribute."""

    X: Any
    y: Any
    groups: Any

    def some(self, rows: Any) -> LabelledRows:
        """Return these rows."""
        return LabelledRows(*(None if part is None else part[rows] for part in self))


def load_rows(path: Path, unlearner: Any = None) -> LabelledRows:
    """Read a NumPy .npz file with the arrays X, y and groups; nothing in it is executed.

    Parameters
    ----------
    path : Path
        The file.
    unlearner : BaseUnlearner or None, default=None
        Whose training rows these are.

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
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"The arrays of {path} differ in length: {lengths}.")
    if unlearner is not None:
        n_rows = len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)
        if lengths["y"] != n_rows:
            raise ValueError(f"{path} has {lengths['y']} rows, but fit was given {n_rows}.")
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
    import numpy as np

    try:
        # opened here, since NumPy leaves a damaged file open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {name: content[name] for name in names if name in content}
    except (*UNREADABLE, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a .npz file of plain arrays: {error}") from error


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
            with path.open("rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        words = path.read_text(encoding="utf-8").split()
        return np.array([int(word) for word in words], dtype=np.int64)
    except UNREADABLE as error:
        raise ValueError(f"{path} does not hold row numbers: {error}") from error


def load_model(path: Path, net: str | None) -> Any:
    """Read a model that ``save`` wrote.

    Parameters
    ----------
    path : Path
        The file.
    net : str or None
        What :func:`load_net` takes.

    Returns
    -------
    BaseUnlearner
        The model.

    Raises
    ------
    ValueError
        If the file cannot be loaded, or the net not imported.
    """
    from ..persistence import load

    return load(path, load_net(net))


def load_net(name: str | None) -> Any:
    """Return the net that ``--net`` names, or that the function it names returns.

    Parameters
    ----------
    name : str or None
        ``"module:name"``.

    Returns
    -------
    NeuralNet or None
        None if there is no name.

    Raises
    ------
    ValueError
        If it cannot be imported.
    """
    from skorch import NeuralNet

    found = None if name is None else import_object(name)
    return found() if callable(found) and not isinstance(found, NeuralNet) else found


def import_object(name: str) -> Any:
    """Return what ``module:name`` means; modules in the working directory are found, too."""
    module, _, attribute = name.partition(":")
    if not module or not attribute.isidentifier():
        raise ValueError(f"{name!r} is neither a .npz or .csv file nor of the form module:name.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} cannot be imported: {error}") from error


# training data, which a saved model does not hold -------------------------------------------------


def training_data(
    unlearner: Any, source: str, target: str | None, groups: Sequence[str], sample_id: str | None
) -> dict[str, Any]:
    """Return the data that a model was fitted to, in the order of ``fit``.

    Parameters
    ----------
    unlearner : BaseUnlearner
        Whose data it is.
    source : str
        A .npz file of arrays called X, y, groups, sample_weight, sample_id; a .csv file; or
        ``module:function``, whose result is a mapping with these names.
    target : str or None
        Column of a .csv file with the labels.
    groups : sequence of str
        Its columns with protected attributes.
    sample_id : str or None
        Its column with the ids.

    Returns
    -------
    dict
        X, y, groups, sample_weight.

    Raises
    ------
    ValueError
        If something is missing, or rows that remain are not there.
    """
    suffix = Path(source).suffix.lower()
    if suffix == ".npz":
        found = load_arrays(Path(source), NAMES)
    elif suffix == ".csv":
        found = _read_csv(unlearner, source, target, list(groups), sample_id)
    else:
        found = import_object(source)()
    if missing := [name for name in ("X", "y") if found.get(name) is None]:
        raise ValueError(f"{source} has no {' and no '.join(missing)}.")
    found = {name: found[name] for name in NAMES if found.get(name) is not None}
    ids = found.pop("sample_id", None)
    if ids is None or unlearner._sample_ids.are_row_numbers:
        return found
    from ..rows import take_rows

    where = _positions(unlearner, ids, source)
    return {name: take_rows(value, where) for name, value in found.items()}


def _read_csv(
    unlearner: Any, source: str, target: str | None, groups: list[str], sample_id: str | None
) -> dict[str, Any]:
    import pandas as pd

    if target is None:
        raise ValueError(f"Say which column of {source} holds the labels: --target NAME.")
    special = [target, *groups, *([] if sample_id is None else [sample_id])]
    # read as they are written: an id may be 007, a group NA (Namibia), a label True
    exactly: Any = {"keep_default_na": False, "float_precision": "round_trip"}
    frame = pd.read_csv(source, dtype=dict.fromkeys(special, str), **exactly)
    if missing := [name for name in special if name not in frame]:
        raise ValueError(f"{source} has no column {missing[0]!r}: {', '.join(frame)}.")
    X: Any = frame.drop(columns=special)
    names = getattr(unlearner, "feature_names_in_", None)
    if names is None:
        X = X.to_numpy()
    elif set(names) <= set(frame):  # a protected attribute may be a feature as well
        X = frame[list(names)].astype({name: float for name in special if name in names})
    known = [] if unlearner.attributes_ is None else unlearner.attributes_.tolist()
    values = {}
    for place, name in enumerate(groups):
        tuples = [value for value in known if isinstance(value, tuple) and place < len(value)]
        of_column = known if len(groups) == 1 else [value[place] for value in tuples]
        values[name] = _as_fitted(frame[name], of_column)
    return {
        "X": X,
        "y": _as_fitted(frame[target], unlearner.classes_.tolist()),
        "groups": pd.DataFrame(values) if groups else None,
        "sample_id": None if sample_id is None else frame[sample_id].tolist(),
    }


def _as_fitted(column: Any, known: Iterable[Any]) -> Any:
    """Return text as the labels or attribute values that ``fit`` was given.

    A text that is none of these stays one, and is refused where it is compared.
    """
    import pandas as pd

    def same(text: str, value: Any) -> bool:
        try:  # 1.0 or 01 for the number 1, true for the truth value
            return not isinstance(value, str) and float(str(value)) == float(text)
        except ValueError:
            return isinstance(value, bool) and str(value).lower() == text.lower()

    exact = {str(value): value for value in known}
    meant = {
        text: exact.get(text, next((v for v in exact.values() if same(text, v)), text))
        for text in column.unique()
    }
    return pd.Series([meant[text] for text in column]).to_numpy()


def _positions(unlearner: Any, ids: Any, source: str) -> Any:
    """Return where each row of ``fit`` lies; for one that was forgotten, anywhere.

    Rows of people who were forgotten need not be there any more, and the order may be another.
    """
    import numpy as np

    from ..sample_ids import id_texts, naming

    position = {text: where for where, text in enumerate(id_texts(ids, "sample_id"))}
    known = unlearner._sample_ids
    remaining = np.isin(known.rows, unlearner.remaining_idx_)
    named = zip(known.texts, remaining, strict=True)
    if missing := [text for text, stays in named if stays and text not in position]:
        raise ValueError(f"{source} has no rows for the ids {naming(missing)}, which remain.")
    where = np.zeros(known.n_rows, dtype=np.int64)  # never read for forgotten rows
    where[known.rows] = [position.get(text, 0) for text in known.texts]
    return where
