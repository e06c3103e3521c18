"""What an acceptance gate decided, and why."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["GateCheck", "GateResult"]

Status = Literal["failed", "inconclusive", "passed"]
ORDER: tuple[Status, ...] = ("failed", "inconclusive", "passed")


@dataclass(frozen=True)
class GateCheck:
    """One condition.

    Attributes
    ----------
    name : str
        What was checked.
    status : {"failed", "inconclusive", "passed"}
        How it went.
    detail : str
        The figures, or what is missing.

    Examples
    --------
    >>> from grmu_sk.audit import GateCheck
    >>> print(GateCheck("Test accuracy", "passed", "fell by 0.4 points, 2 are allowed"))
    passed        Test accuracy: fell by 0.4 points, 2 are allowed
    """

    name: str
    status: Status
    detail: str

    def __str__(self) -> str:
        return f"{self.status:13} {self.name}: {self.detail}"

    def to_dict(self) -> dict[str, str]:
        """Return the fields.

        Returns
        -------
        dict
            By name.
        """
        return asdict(self)


@dataclass(frozen=True)
class GateResult:
    """The outcome of all conditions.

    Attributes
    ----------
    checks : list of GateCheck
        Failed ones first, then those that could not be decided.
    passed : bool
        Whether the model may be used.
    action : {"checked", "accepted", "kept", "retrained"}
        What was done about it.

    Examples
    --------
    >>> from grmu_sk.audit import GateResult
    >>> GateResult([], passed=True).action
    'checked'
    """

    checks: list[GateCheck]
    passed: bool
    action: Literal["checked", "accepted", "kept", "retrained"] = "checked"
    #: Of the model that was replaced by one trained anew.
    first_attempt: list[GateCheck] = field(default_factory=list)

    def __str__(self) -> str:
        title = f"{'Passed' if self.passed else 'Not passed'} ({self.action})"
        return "\n".join([title, *(f"  {check}" for check in self.checks)])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values.

        Returns
        -------
        dict
            By name.
        """
        return {
            "passed": self.passed,
            "action": self.action,
            "checks": [check.to_dict() for check in self.checks],
            "first_attempt": [check.to_dict() for check in self.first_attempt],
        }
