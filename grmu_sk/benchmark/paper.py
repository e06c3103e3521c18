"""The paper's tables: what each shows, and the numbers printed in it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import pandas as pd

from ..results import AVERAGE_GAP, PRETRAIN, RETRAIN, Row, rows_there

FAIRNESS_TABLE = 18
DATA = files("grmu_sk.benchmark") / "data"
_SHOWN = tomllib.loads((DATA / "paper.toml").read_text(encoding="utf-8"))
#: The method with parts switched off, and with other weights of its calibration.
ABLATION, WEIGHT = _SHOWN["ablation"], _SHOWN["weight"]


@dataclass(frozen=True)
class Layout:
    """What a table of the paper shows.

    Parameters
    ----------
    number : int
        Number of the table in the paper.
    datasets : tuple of str
        Its data sets, one below the other.
    forget : str
        Where the forget set is drawn from: ``"group"``, ``"groups-9"`` or ``"groups-25"``.
    ratio : float
        Share of the group that is forgotten, in (0, 1).
    metrics : tuple of str
        Its columns, without the average gap.
    rows : tuple of Row
        Its rows.
    is_ablation : bool
        Whether the rows are one method with parts switched off.
    """

    number: int
    datasets: tuple[str, ...]
    forget: str
    ratio: float
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    is_ablation: bool

    @property
    def is_fairness(self) -> bool:
        """Whether deltas are signed and against the pretrained model."""
        return self.number == FAIRNESS_TABLE

    def caption(self, datasets: tuple[str, ...]) -> str:
        """Return a title of our own wording, for the data sets shown."""
        names = ", ".join(datasets)
        what = "Fairness after unlearning" if self.is_fairness else "Unlearning"
        if self.is_ablation:
            what = f"Ablation of {ABLATION['method'].upper()}"
        source = "one group" if self.forget == "group" else f"{self.forget.split('-')[1]} groups"
        return f"Table {self.number}. {what}: {names}, {self.ratio:.0%} of {source} forgotten."


@cache
def _all_values() -> pd.DataFrame:
    texts = dict.fromkeys(("dataset", "method", "variant", "metric"), object)
    with (DATA / "paper_tables.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file).fillna({"variant": ""}).astype(texts)


def paper_values(number: int | None = None) -> pd.DataFrame:
    """Return the numbers printed in the paper's tables.

    Parameters
    ----------
    number : int or None, default=None
        Table, 1 to 18; None for all.

    Returns
    -------
    DataFrame
        One row a printed cell: table, dataset, forget, ratio, method, reweight, variant and
        metric as in the results of a benchmark; mean, std, delta_vs_gold and delta_vs_pretrain in
        percentage points, NaN where the paper prints none. ``AVG_GAP`` is the average gap, 100
        for the gold standard.

    Raises
    ------
    ValueError
        If there is no such table.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.benchmark import paper_values
    >>> table = paper_values(1).set_index(["method", "reweight", "metric"])
    >>> table.loc[("miu", 1, "AVG_GAP"), "mean"].item()
    99.0
    """
    values = _all_values()
    if number is None:
        return values.copy()
    if number not in range(1, 19):
        raise ValueError(f"The paper has no Table {number}: choose one from 1 to 18.")
    return values[values["table"] == number].reset_index(drop=True)


#: Methods that the paper compares with retraining.
METHODS = tuple(
    name
    for name in paper_values(1)["method"].unique()
    if name not in (PRETRAIN.method, RETRAIN.method)
)


def table_layout(number: int) -> Layout:
    """Return what a table of the paper shows.

    Parameters
    ----------
    number : int
        Table, 1 to 18.

    Returns
    -------
    Layout
        Its rows and columns.

    Raises
    ------
    ValueError
        If there is no such table.
    """
    values = paper_values(number)
    metrics = [name for name in values["metric"].unique() if name != AVERAGE_GAP]
    return Layout(
        number=number,
        datasets=tuple(values["dataset"].unique()),
        forget=values["forget"].iloc[0],
        ratio=float(values["ratio"].iloc[0]),
        metrics=tuple(metrics),
        rows=tuple(rows_there(values)),
        is_ablation=bool((values["variant"] != "").any()),
    )
