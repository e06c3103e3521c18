"""What one attack says about one set of rows, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..utils.arguments import check_types
from .attack_result import Verdict

__all__ = ["Interval", "LeakageFinding", "judge_forgotten", "judge_remaining"]

#: With fewer rows than this on either side a bootstrap says too little about its own error.
FEWEST_ROWS = 10


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval; NaN where it is not known.

    Attributes
    ----------
    value, low, high : float
        The value, and the ends of the interval.
    """

    value: float
    low: float = math.nan
    high: float = math.nan

    def __post_init__(self) -> None:
        check_types(Interval.__init__, vars(self), allow_nan=True)

    @property
    def is_known(self) -> bool:
        """Whether there is an interval."""
        return not (math.isnan(self.low) or math.isnan(self.high))

    def __str__(self) -> str:
        if not self.is_known:
            return f"{self.value:.3f} [-, -]"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class LeakageFinding:
    """One attack on the rows of one group.

    Attributes
    ----------
    attack : str
        Such as ``"RMIA"``.
    rows : {"forgotten", "remaining"}
        Which rows were attacked.
    group : str
        ``"all"``, or a group (y, a) as text.
    n_rows : int
        How many rows were attacked.
    n_nonmembers : float
        How many equally weighted non-members say as much as those they were compared with.
    auc : Interval
        On the unlearned model: how often one of the rows scores above a matched non-member. 0.5
        is chance; a value far below tells the rows apart as well.
    power : Interval
        The same on the original model.
    change : Interval
        ``auc`` less ``power``, on the same samples.
    confidence : float
        Level of the intervals; that of groups is corrected for their number.
    verdict : {"leak", "no leak found", "inconclusive"}
        What follows.
    reason : str
        Why.
    tpr, power_tpr : dict of float to float
        On the unlearned and the original model, the share of the rows above a threshold that so
        many non-members exceed; NaN where there are too few of them.
    """

    attack: str
    rows: Literal["forgotten", "remaining"]
    group: str
    n_rows: int
    n_nonmembers: float
    auc: Interval
    power: Interval
    change: Interval
    confidence: float
    verdict: Verdict
    reason: str
    tpr: dict[float, float] = field(default_factory=dict)
    power_tpr: dict[float, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(LeakageFinding.__init__, vars(self))

    def to_row(self) -> dict[str, Any]:
        """Return everything as columns of a table.

        Returns
        -------
        dict
            By name; an interval becomes three columns.
        """
        row: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if isinstance(getattr(self, name), Interval):
                row[name] = value["value"]
                row |= {f"{name}_{end}": value[end] for end in ("low", "high")}
            elif isinstance(value, dict):
                row |= {f"{name}_at_{100 * fpr:g}%": share for fpr, share in value.items()}
            else:
                row[name] = value
        return row


def judge_forgotten(auc: Interval, power: Interval, tolerance: float) -> tuple[Verdict, str]:
    """Say whether the model still gives away, or gives away anew, who was forgotten.

    A leak is a leak whatever the attack does elsewhere. That none was found means something only
    if the attack finds the rows in the original model, and so clearly that doing nothing would
    have been called a leak.

    Parameters
    ----------
    auc, power : Interval
        On the unlearned and on the original model.
    tolerance : float
        How far from 0.5 the AUC may be.

    Returns
    -------
    verdict, reason : str
        What follows, and why.
    """
    if not auc.is_known:
        return "inconclusive", f"fewer than {FEWEST_ROWS} rows on one side"
    if auc.low > 0.5 + tolerance:
        return "leak", "the rows still look trained on"
    if auc.high < 0.5 - tolerance:
        return "leak", "the rows look less familiar than rows never seen: forgotten too much"
    if not power.low > 0.5 + tolerance:
        return "inconclusive", "the attack has no power on the original model"
    if auc.low >= 0.5 - tolerance and auc.high <= 0.5 + tolerance:
        return "no leak found", "like rows never seen, within the tolerance"
    return "inconclusive", "the interval is too wide: more rows are needed"


def judge_remaining(change: Interval, power: Interval, tolerance: float) -> tuple[Verdict, str]:
    """Say whether those who stay are more exposed than they were.

    They are trained on before and after, so being recognised is no news; being recognised more
    easily is. Less is no harm.

    Parameters
    ----------
    change : Interval
        AUC on the unlearned model less that on the original one.
    power : Interval
        AUC on the original model.
    tolerance : float
        By how much the AUC may rise.

    Returns
    -------
    verdict, reason : str
        What follows, and why.
    """
    if not change.is_known:
        return "inconclusive", f"fewer than {FEWEST_ROWS} rows on one side"
    if change.low > tolerance:
        return "leak", "the rows that stay are more exposed than before"
    if not power.low > 0.5:
        return "inconclusive", "the attack has no power on the original model"
    if change.high <= tolerance:
        return "no leak found", "not more exposed than before, within the tolerance"
    return "inconclusive", "the interval is too wide: more rows are needed"
