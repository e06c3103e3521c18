"""Where commands get the training data from, which a saved model does not hold."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._audit_inputs import load_arrays

if TYPE_CHECKING:
    from ..base import BaseUnlearner

__all__ = ["DataSource", "import_object"]

NAMES = ("X", "y", "groups", "sample_weight", "sample_id")


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


class DataSource:
    """The data that a model was fitted to, in the order of ``fit``.

    Parameters
    ----------
    source : str
        A .npz file of arrays called X, y, groups, sample_weight, sample_id; a .csv file; or
        ``module:function``, whose result is a mapping with these names or a tuple (X, y, groups).
    target : str or None
        Column of a .csv file with the labels.
    groups : sequence of str
        Its columns with protected attributes.
    sample_id : str or None
        Its column with the ids.
    """

    def __init__(
        self, source: str, target: str | None, groups: Sequence[str], sample_id: str | None
    ) -> None:
        self.source = source
        self.target = target
        self.groups = list(groups)
        self.sample_id = sample_id

    def __call__(self, unlearner: BaseUnlearner) -> dict[str, Any]:
        """Return the data, in the order of ``fit``.

        Parameters
        ----------
        unlearner : BaseUnlearner
            Whose data it is.

        Returns
        -------
        dict
            X, y, groups, sample_weight.

        Raises
        ------
        ValueError
            If something is missing, or rows that remain are not there.
        """
        found = self._read(unlearner)
        ids = found.pop("sample_id", None)
        if ids is not None and not unlearner._sample_ids.are_row_numbers:
            where = _positions(unlearner, ids, self.source)
            found = {name: _taken(value, where) for name, value in found.items()}
        return found

    def _read(self, unlearner: BaseUnlearner) -> dict[str, Any]:
        suffix = Path(self.source).suffix.lower()
        if suffix == ".npz":
            found = load_arrays(Path(self.source), NAMES)
        elif suffix == ".csv":
            found = self._read_csv(unlearner)
        else:
            found = _named(import_object(self.source)())
        missing = [name for name in ("X", "y") if found.get(name) is None]
        if missing:
            raise ValueError(f"{self.source} has no {' and no '.join(missing)}.")
        return {name: value for name, value in found.items() if value is not None}

    def _read_csv(self, unlearner: BaseUnlearner) -> dict[str, Any]:
        import pandas as pd

        if self.target is None:
            raise ValueError(f"Say which column of {self.source} holds the labels: --target NAME.")
        special = [self.target, *self.groups]
        special += [] if self.sample_id is None else [self.sample_id]
        # read as they are written: an id may be 007, a group NA (Namibia), a label True
        as_text: Any = dict.fromkeys(special, str)
        exactly: Any = {"keep_default_na": False, "float_precision": "round_trip"}
        frame = pd.read_csv(self.source, dtype=as_text, **exactly)
        missing = [name for name in special if name not in frame]
        if missing:
            raise ValueError(f"{self.source} has no column {missing[0]!r}: {', '.join(frame)}.")
        X: Any = frame.drop(columns=special)
        names = getattr(unlearner, "feature_names_in_", None)
        if names is None:
            X = X.to_numpy()
        elif set(names) <= set(frame):
            X = frame[list(names)]  # a protected attribute may be a feature as well
            also = [name for name in special if name in X]
            X = X.astype(dict.fromkeys(also, float))
        known = [] if unlearner.attributes_ is None else unlearner.attributes_.tolist()
        groups = {}
        for place, name in enumerate(self.groups):
            tuples = [value for value in known if isinstance(value, tuple) and place < len(value)]
            values = known if len(self.groups) == 1 else [value[place] for value in tuples]
            groups[name] = _as_fitted(frame[name], values)
        return {
            "X": X,
            "y": _as_fitted(frame[self.target], unlearner.classes_.tolist()),
            "groups": pd.DataFrame(groups) if groups else None,
            "sample_id": None if self.sample_id is None else frame[self.sample_id].tolist(),
        }


def _as_fitted(column: Any, known: Any) -> Any:
    """Return text as the labels or attribute values that ``fit`` was given.

    A text that is none of these stays one, and is refused where it is compared.
    """
    import pandas as pd

    values = {str(value): value for value in known}
    by_text = {text: _value_of(text, values) for text in column.unique()}
    return pd.Series([by_text[text] for text in column]).to_numpy()


def _value_of(text: str, values: dict[str, Any]) -> Any:
    if text in values:
        return values[text]
    for written, value in values.items():
        try:  # 1.0 or 01 for the number 1
            is_same = not isinstance(value, str) and float(written) == float(text)
        except ValueError:  # true for the truth value
            is_same = isinstance(value, bool) and written.lower() == text.lower()
        if is_same:
            return value
    return text


def _named(found: Any) -> dict[str, Any]:
    if isinstance(found, Mapping):
        return {name: found[name] for name in NAMES if name in found}
    if isinstance(found, tuple) and 2 <= len(found) <= 3:
        return dict(zip(NAMES, found, strict=False))
    raise ValueError(
        "The function must return a mapping with X, y, groups (or a tuple of these), got a "
        f"{type(found).__name__}."
    )


def _positions(unlearner: BaseUnlearner, ids: Any, source: str) -> Any:
    """Return where each row of ``fit`` lies; for one that was forgotten, anywhere.

    Rows of people who were forgotten need not be there any more, and the order may be another.
    """
    from ..sample_ids import id_texts, naming

    position = {text: where for where, text in enumerate(id_texts(ids, "sample_id"))}
    known = unlearner._sample_ids
    where = np.zeros(known.n_rows, dtype=np.int64)  # never read for forgotten rows
    remaining = np.isin(known.rows, unlearner.remaining_idx_)
    missing = []
    for row, text, remains in zip(known.rows, known.texts, remaining, strict=True):
        if text in position:
            where[row] = position[text]
        elif remains:
            missing.append(text)
    if missing:
        raise ValueError(
            f"{source} has no rows for the ids {naming(missing)}, which the model has not "
            "forgotten. They are needed to forget them, and to keep what is not forgotten."
        )
    return where


def _taken(value: Any, where: Any) -> Any:
    from torch.utils.data import Dataset, Subset

    if isinstance(value, Dataset):
        return Subset(value, where.tolist())
    if hasattr(value, "iloc"):
        return value.iloc[where]
    return value[where] if hasattr(value, "shape") else np.asarray(value)[where]
