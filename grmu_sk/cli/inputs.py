"""What commands are given: a model and its net, rows, and which of them to forget.

Every command takes rows in the same way, see :func:`grmu_sk.datasets.read_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
ROWS = "FILE|FOLDER|MODULE:FUNCTION"
NET = click.option(
    "--net",
    "--estimator",
    "net",
    metavar="MODULE:NAME",
    help="Where to import the unfitted net or classifier from, or a function that returns it; it "
    "is your own code and runs. Not needed for the default net, nor for a saved classifier.",
)
TRUST = "A type in a saved classifier that may be built; repeatable. What refuses it names it."
TRAINING = "The training rows, as they were given to fit."
_COLUMNS = (
    click.option("--target", help="Column of a table with the labels."),
    click.option(
        "--group-column",
        "groups",
        multiple=True,
        help="Its column with a protected attribute; repeatable.",
    ),
    click.option("--id-column", "sample_id", help="Its column with ids; rows may be in any order."),
    click.option("--image-column", "image", help="Its column with files of images, the inputs."),
    click.option("--image-size", default=64, type=click.IntRange(1), help="Their size, in pixels."),
)


def takes_columns(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command say what the columns of tables stand for; it gets them as ``columns``.

    An option is called like its field of :class:`grmu_sk.datasets.Columns`.
    """

    @wraps(command)
    def with_columns(*arguments: Any, **options: Any) -> None:
        from ..datasets import Columns

        named = {f.name: options.pop(f.name) for f in fields(Columns) if f.name in options}
        command(*arguments, columns=Columns(**named), **options)

    for option in reversed(_COLUMNS):
        with_columns = option(with_columns)
    return with_columns


def takes_model(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command say what a saved model needs; it gets that as ``brought``, for ``load``."""

    @NET
    @click.option("--trust", "trusted", multiple=True, metavar="TYPE", help=TRUST)
    @wraps(command)
    def with_model(*arguments: Any, net: str | None, trusted: Any, **options: Any) -> None:
        brought = {"estimator": load_estimator(net), "trusted": trusted}
        command(*arguments, brought=brought, **options)

    return with_model


def rows_for(unlearner: Any, source: str, columns: Any) -> Any:
    """Read rows that a model did not see in ``fit``, in its terms.

    Parameters
    ----------
    unlearner : BaseUnlearner
        The model.
    source : str
        Where the rows are.
    columns : Columns
        What the columns of a table stand for.

    Returns
    -------
    Split
        The rows.
    """
    return _as_split(_read(unlearner, source, columns))


def rows_of_fit(unlearner: Any, source: str, columns: Any, everybody: bool = True) -> Any:
    """Read the rows of ``fit``, in that order.

    Parameters
    ----------
    unlearner : BaseUnlearner
        The model.
    source : str
        Where the rows are.
    columns : Columns
        What the columns of a table stand for.
    everybody : bool, default=True
        Whether the rows that were forgotten are needed, too; else others may stand for them.

    Returns
    -------
    Split
        The rows.

    Raises
    ------
    ValueError
        If there are not as many, or one is missing.
    """
    found, n_rows = training_data(unlearner, source, columns, everybody), unlearner._n_rows
    if len(found["y"]) != n_rows:
        raise ValueError(f"{source} has {len(found['y'])} rows, but fit was given {n_rows}.")
    return _as_split(found)


def _as_split(found: dict[str, Any]) -> Any:
    from ..metrics.evaluate import Split

    return Split(found["X"], found["y"], found.get("groups"))


def training_data(
    unlearner: Any, source: str, columns: Any, everybody: bool = False
) -> dict[str, Any]:
    """Return what a model was fitted to, by the arguments of ``fit`` and in their order.

    Parameters
    ----------
    unlearner : BaseUnlearner
        The model.
    source : str
        Where the rows are.
    columns : Columns
        What the columns of a table stand for.
    everybody : bool, default=False
        Whether the rows that were forgotten are needed, too.

    Returns
    -------
    dict
        X and y, and groups and sample_weight if there are any.

    Raises
    ------
    ValueError
        If something is missing, or rows that are needed are not there.
    """
    found = _read(unlearner, source, columns)
    ids = found.pop("sample_id", None)
    if ids is None or unlearner._given_ids is None:
        return found
    from ..rows import take_rows

    needed = range(unlearner._n_rows) if everybody else unlearner.remaining_idx_.tolist()
    where = _positions(unlearner._given_ids, ids, source, needed)
    return {name: take_rows(value, where) for name, value in found.items()}


def _read(unlearner: Any, source: str, columns: Any) -> dict[str, Any]:
    from ..datasets.own_data import read_rows

    names = getattr(unlearner, "feature_names_in_", None)
    found = read_rows(source, columns, None if columns.image else names)
    names_of_fit = ("X", "y", "groups", "sample_weight", "sample_id")
    rows = {name: found[name] for name in names_of_fit if found[name] is not None}
    if columns.target is None:
        return rows  # no table: what there is has the types that fit was given
    import pandas as pd

    rows["y"] = _as_fitted(pd.Series(rows["y"]), unlearner.classes_.tolist()).to_numpy()
    if columns.groups and unlearner.attributes_ is not None:
        values = unlearner.attributes_.tolist()
        tuples = [value if isinstance(value, tuple) else (value,) for value in values]
        known = dict(zip(columns.groups, zip(*tuples, strict=True), strict=False))
        frame = pd.DataFrame(rows["groups"], columns=list(columns.groups))
        rows["groups"] = frame.apply(lambda column: _as_fitted(column, known.get(column.name, ())))
    if names is None and columns.image is None:
        rows["X"] = rows["X"].to_numpy()
    return rows


def _as_fitted(column: Any, known: Iterable[Any]) -> Any:
    """Return text as the labels or attribute values that ``fit`` was given.

    A text that is none of these stays one, and is refused where it is compared.
    """
    exact = {str(value): value for value in known}
    alike = {_plain(text): value for text, value in exact.items() if not isinstance(value, str)}
    meant = {text: exact.get(text, alike.get(_plain(text), text)) for text in column.unique()}
    return column.map(meant)


def _plain(text: str) -> float | str:
    try:  # 1.0 or 01 for the number 1, true for the truth value
        return float(text)
    except ValueError:
        return text.lower()


def _positions(known: Any, ids: Any, source: str, needed: Iterable[int]) -> Any:
    """Return where each row of ``fit`` lies, whatever the order; for one not needed, anywhere."""
    import numpy as np

    from ..sample_ids import id_texts, naming

    position = {text: where for where, text in enumerate(id_texts(ids, "sample_id"))}
    name = dict(zip(known.rows.tolist(), known.texts, strict=True))
    lacking = [row for row in needed if name.get(row, "") not in position]
    if lacking:
        missing = naming(name.get(row, f"(dropped) of row {row}") for row in lacking)
        raise ValueError(f"{source} has no rows for the ids {missing}, which are needed here.")
    return np.array([position.get(name.get(row, ""), 0) for row in range(known.n_rows)])


def forget_rows(unlearner: Any, path: Path) -> Any:
    """Read which rows are to be forgotten: a .npy file, or text with one on each line.

    Parameters
    ----------
    unlearner : BaseUnlearner
        The model. If ``fit`` was given ids, lines of text are ids.
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

    from ..datasets.own_data import UNREADABLE

    try:
        if path.suffix == ".npy":
            with path.open("rb") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        text = path.read_text(encoding="utf-8-sig")
        if unlearner._given_ids is None:
            return np.array([int(word) for word in text.split()], dtype=np.int64)
        return unlearner._given_ids.rows_of(list(filter(None, map(str.strip, text.split("\n")))))
    except UNREADABLE as error:
        raise ValueError(f"{path} does not say which rows: {error}") from error


def load_model(path: Path, brought: dict[str, Any]) -> Any:
    """Read a model that ``save`` wrote.

    Parameters
    ----------
    path : Path
        The file.
    brought : dict
        What :func:`takes_model` found.

    Returns
    -------
    BaseUnlearner
        The model.
    """
    from ..persistence import load

    return load(path, **brought)


def load_estimator(name: str | None) -> Any:
    """Return the net or classifier that a name means, or that the class or function of it returns.

    Parameters
    ----------
    name : str or None
        ``"module:name"``.

    Returns
    -------
    estimator or None
        None if there is no name.

    Raises
    ------
    ValueError
        If it cannot be imported.
    """
    from ..datasets.own_data import import_object

    found = None if name is None else import_object(name)
    is_made = hasattr(found, "fit") or hasattr(found, "state_dict")
    return found() if isinstance(found, type) or not (found is None or is_made) else found
