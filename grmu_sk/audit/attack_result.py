"""What a membership attack found, as the evidence bundle and the acceptance gate read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from ..utils.arguments import about, check_types

__all__ = ["AttackResult", "Verdict"]

Verdict = Literal["leak", "no leak found", "inconclusive"]


@dataclass(frozen=True)
class AttackResult:
    """The result of one attack on one group.

    Attributes
    ----------
    name : str
        What the attack is called, with its statistic: ``"RMIA AUC"``.
    group : str
        Whose rows were attacked: ``"all"``, or a group (y, a) as text.
    value : float
        The attack's statistic on the unlearned model.
    low, high : float
        Ends of its confidence interval; NaN if there is none.
    power : float
        The same statistic on the original model, which did train on the rows. An attack that
        finds nothing there proves nothing here. NaN if it was not measured.
    verdict : {"leak", "no leak found", "inconclusive"}
        What follows from it. An attack without power is inconclusive.

    Raises
    ------
    ValueError
        If the verdict is none of the three, or says "no leak found" without a measured power.

    Examples
    --------
    >>> from grmu_sk.audit import AttackResult
    >>> AttackResult("RMIA AUC", "all", 0.51, 0.46, 0.56, 0.83, "no leak found").power
    0.83
    """

    name: str
    group: str
    value: float
    low: float
    high: float
    power: float
    verdict: Verdict

    def __post_init__(self) -> None:
        check_types(AttackResult.__init__, vars(self), allow_nan=True)
        if self.verdict == "no leak found" and math.isnan(self.power):
            raise ValueError(
                f"The attack {self.name!r} says 'no leak found', but its power was not measured "
                "(NaN): attack the original model too, or say 'inconclusive'."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; NaN becomes None.

        Returns
        -------
        dict
            By field name.
        """
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` returned.

        Parameters
        ----------
        fields : mapping
            By field name.

        Returns
        -------
        AttackResult
            The result.

        Raises
        ------
        TypeError
            If a field is not of its kind.
        ValueError
            If a field is missing, unknown or not a number where one is needed.
        """
        check_types(cls.from_dict, locals())
        names = list(cls.__dataclass_fields__)
        if not all(isinstance(name, str) for name in fields) or sorted(fields) != sorted(names):
            raise ValueError(f"An attack result has the fields {names}, got {list(fields)}.")
        values = dict(fields)
        for name in ("value", "low", "high", "power"):
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, int | float | None):
                raise ValueError(f"{name} of an attack result must be a number, got {value!r}.")
            values[name] = math.nan if value is None else float(value)
        with about("fields"):
            return cls(**values)
