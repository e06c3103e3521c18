"""The paper's tables: what each shows, and the numbers printed in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from ..metrics import AVERAGE_GAP_METRICS
from ..utils.arguments import check_types

TABLE_NUMBERS = range(1, 19)
AVERAGE_GAP = "AVG_GAP"
GAP_METRICS = AVERAGE_GAP_METRICS
FAIRNESS_TABLE = 18
#: Methods of the paper that change the trained model instead of training a new one.
APPROXIMATE = ("l1_sparse", "salun", "scrub", "miu")
_RENAMED = {"retrain_gdro": "group_dro"}
_VARIANTS = {  # (retaining, unlearning, calibration)
    (1, 1, 1): "",
    (0, 1, 1): "no_retaining",
    (1, 0, 1): "no_unlearning",
    (1, 1, 0): "no_calibration",
}
_DATASETS = {
    "celeba": "CelebA",
    "waterbirds": "Waterbirds",
    "fairface": "FairFace",
    "multinli": "MultiNLI",
}


class Model(NamedTuple):
    """One row of a table: a method with or without REWEIGHT, and what was switched off.

    Parameters
    ----------
    method : str
        Name in the registry, or ``"pretrain"``, ``"gold_reseeded"``.
    reweight : int
        1 with REWEIGHT, 0 without.
    variant : str, default=""
        Such as ``"no_calibration"`` or ``"lam=0.1"``; empty for the method as it is.
    """

    method: str
    reweight: int
    variant: str = ""

    @property
    def label(self) -> str:
        """Name for people."""
        name = f"{self.method} + reweight" if self.reweight else self.method
        return f"{name}, {self.variant.replace('_', ' ')}" if self.variant else name


PRETRAIN = Model("pretrain", 0)
GOLD = Model("retrain", 1)
RESEEDED_GOLD = Model("gold_reseeded", 1)


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
    models : tuple of Model
        Its rows.
    is_ablation : bool
        Whether the rows are MIU with parts switched off.
    has_std, has_delta : bool
        Whether standard deviations or deltas are printed.
    """

    number: int
    datasets: tuple[str, ...]
    forget: str
    ratio: float
    metrics: tuple[str, ...]
    models: tuple[Model, ...]
    is_ablation: bool
    has_std: bool
    has_delta: bool

    @property
    def is_fairness(self) -> bool:
        """Whether deltas are signed and against the pretrained model."""
        return self.number == FAIRNESS_TABLE

    def caption(self, datasets: tuple[str, ...] | None = None) -> str:
        """Return a title of our own wording.

        Parameters
        ----------
        datasets : tuple of str or None, default=None
            Data sets shown; None for the paper's.

        Returns
        -------
        str
            One line.
        """
        names = ", ".join(_DATASETS.get(name, name) for name in datasets or self.datasets)
        what = "Unlearning"
        if self.is_ablation:
            what = "Ablation of MIU"
        elif self.is_fairness:
            what = "Fairness after unlearning"
        source = {"group": "one group", "groups-9": "9 groups", "groups-25": "25 groups"}
        return (
            f"Table {self.number}. {what}: {names}, {self.ratio:.0%} of "
            f"{source.get(self.forget, self.forget)} forgotten."
        )


@cache
def _all_values() -> pd.DataFrame:
    with (files("grmu_sk.benchmark") / "data" / "paper_tables.csv").open(encoding="utf-8") as file:
        printed = pd.read_csv(file)
    parts = printed[["retaining", "unlearning", "calibration"]].fillna(1).astype(int)
    groups = printed["n_forget_groups"]
    return pd.DataFrame(
        {
            "table": printed["table"],
            "dataset": printed["dataset"].astype(object),
            "forget": ["group" if n == 1 else f"groups-{n}" for n in groups],
            "ratio": printed["unlearning_ratio"],
            "method": printed["method"].replace(_RENAMED).astype(object),
            "reweight": printed["reweight"],
            "variant": [_VARIANTS[key] for key in parts.itertuples(index=False, name=None)],
            "metric": printed["metric"].replace("avg_gap", AVERAGE_GAP).astype(object),
            "mean": printed["mean"],
            "std": printed["std"],
            "delta_vs_gold": printed["delta_vs_gold"],
            "delta_vs_pretrain": printed["delta_vs_pretrain"],
        }
    )


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
    >>> from grmu_sk.benchmark.paper import paper_values
    >>> table = paper_values(1).set_index(["method", "reweight", "metric"])
    >>> table.loc[("miu", 1, "AVG_GAP"), "mean"].item()
    99.0
    """
    check_types(paper_values, locals())
    values = _all_values()
    if number is None:
        return values.copy()
    check_table_number(number)
    return values[values["table"] == number].reset_index(drop=True)


def check_table_number(number: int) -> None:
    """Refuse a number that no table of the paper has.

    Parameters
    ----------
    number : int
        The number.

    Raises
    ------
    ValueError
        If there is no such table.
    """
    if number not in TABLE_NUMBERS:
        raise ValueError(
            f"The paper has no Table {number}: choose one from {TABLE_NUMBERS[0]} to "
            f"{TABLE_NUMBERS[-1]}."
        )


@cache
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
    rows = values[["method", "reweight", "variant"]].drop_duplicates()
    metrics = [name for name in values["metric"].unique() if name != AVERAGE_GAP]
    return Layout(
        number=number,
        datasets=tuple(values["dataset"].unique()),
        forget=values["forget"].iloc[0],
        ratio=float(values["ratio"].iloc[0]),
        metrics=tuple(metrics),
        models=tuple(Model(m, int(r), v) for m, r, v in rows.itertuples(index=False)),
        is_ablation=bool((values["variant"] != "").any()),
        has_std=bool(values["std"].notna().any()),
        has_delta=bool(values[["delta_vs_gold", "delta_vs_pretrain"]].notna().any(axis=None)),
    )
