"""The result of a leakage audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from ..utils.arguments import check_types
from .attack_result import AttackResult, Verdict
from .leakage_finding import LeakageFinding

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..plotting import LeakageDisplay

__all__ = ["LeakageAudit"]

_Line = tuple[str, ...]
_HEADER: _Line = ("attack", "rows", "group", "n", "power (original)", "unlearned", "verdict")


@dataclass(frozen=True)
class LeakageAudit:
    """What attacks found, with their power and the budget they had.

    Iterating over it gives its :attr:`attacks`, so that it can be passed on as it is:
    ``build_evidence(..., attacks=audit)``, ``AcceptanceGate().decide(..., attacks=audit)``.

    Attributes
    ----------
    findings : list of LeakageFinding
        One for each attack, kind of rows and group.
    n_models : int
        How many reference models the attacks had.
    reweight : bool
        Whether they were trained with REWEIGHT.
    tolerance : float
        How far from 0.5 the AUC may be.
    confidence : float
        Level of the intervals.
    n_bootstrap : int
        How many samples they are from.
    notes : list of str
        What could not be attacked or resolved.

    See Also
    --------
    audit_unlearning : Makes it.

    Examples
    --------
    >>> from grmu_sk.audit import LeakageAudit
    >>> audit = LeakageAudit([], n_models=16)
    >>> audit.verdict, list(audit)
    ('inconclusive', [])
    """

    findings: list[LeakageFinding]
    n_models: int
    reweight: bool = False
    tolerance: float = 0.1
    confidence: float = 0.95
    n_bootstrap: int = 0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_types(LeakageAudit.__init__, vars(self))

    @property
    def attacks(self) -> list[AttackResult]:
        """All findings as an evidence report and an acceptance gate read them."""
        return [self._result(finding) for finding in self.findings]

    @property
    def decisive(self) -> list[AttackResult]:
        """The findings that decide: for each kind of rows and group the most powerful attack.

        A weak attack that finds nothing beside it is no reason to doubt. Power is measured on the
        original model, so that the choice does not depend on what was found; and any leak is in
        this list, whichever attack found it.
        """
        strongest: dict[tuple[str, str], LeakageFinding] = {}
        for finding in self.findings:
            place = finding.rows, finding.group
            best = strongest.get(place)
            if best is None or finding.power.value > best.power.value:
                strongest[place] = finding
        chosen = list(strongest.values())
        return [
            self._result(finding)
            for finding in self.findings
            if finding.verdict == "leak" or any(finding is best for best in chosen)
        ]

    @property
    def verdict(self) -> Verdict:
        """The worst verdict that is decisive; "inconclusive" if there is none."""
        verdicts = {result.verdict for result in self.decisive}
        if "leak" in verdicts:
            return "leak"
        return "no leak found" if verdicts == {"no leak found"} else "inconclusive"

    def _result(self, finding: LeakageFinding) -> AttackResult:
        return AttackResult(
            name=f"{finding.attack} AUC of {finding.rows} rows ({self.n_models} reference models)",
            group=finding.group,
            value=finding.auc.value,
            low=finding.auc.low,
            high=finding.auc.high,
            power=finding.power.value,
            verdict=finding.verdict,
        )

    def worst_group(
        self, attack: str, rows: Literal["forgotten", "remaining"] = "forgotten"
    ) -> LeakageFinding | None:
        """Return what an attack found on the group that it tells apart best.

        Parameters
        ----------
        attack : str
            Such as ``"RMIA"``.
        rows : {"forgotten", "remaining"}, default="forgotten"
            Which rows. Of remaining ones the worst are those whose AUC has risen most.

        Returns
        -------
        LeakageFinding or None
            Of the group, or of all rows if they are of one group; None if the attack was not run.
            Its interval allows for its having been picked.

        Raises
        ------
        TypeError
            If an argument is of another kind.
        ValueError
            If ``rows`` is something else.
        """
        check_types(LeakageAudit.worst_group, locals())
        found = [item for item in self.findings if (item.attack, item.rows) == (attack, rows)]
        of_groups = [item for item in found if item.group != "all"] or found
        known = [item for item in of_groups if item.auc.is_known] or of_groups

        def badness(item: LeakageFinding) -> float:
            return item.change.value if rows == "remaining" else abs(item.auc.value - 0.5)

        return max(known, key=badness, default=None)

    def to_frame(self) -> pd.DataFrame:
        """Return all findings as a table.

        Returns
        -------
        DataFrame
            One row a finding; the columns are the fields of :class:`LeakageFinding`, an interval
            being three of them, and ``n_models``.
        """
        return pd.DataFrame([finding.to_row() for finding in self.findings]).assign(
            n_models=self.n_models
        )

    def plot(
        self, *, rows: Literal["forgotten", "remaining"] = "forgotten", ax: Axes | None = None
    ) -> LeakageDisplay:
        """Draw the AUC before and after, with intervals, by attack and group.

        Parameters
        ----------
        rows : {"forgotten", "remaining"}, default="forgotten"
            Which rows.
        ax : matplotlib Axes or None, default=None
            Where to; None makes a figure.

        Returns
        -------
        LeakageDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If ``ax`` is no place to draw.
        ValueError
            If there is nothing about such rows.
        """
        from ..plotting import LeakageDisplay

        return LeakageDisplay.from_audit(self, rows=rows, ax=ax)

    def __iter__(self) -> Iterator[AttackResult]:
        return iter(self.attacks)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        kind = "with REWEIGHT" if self.reweight else "without REWEIGHT"
        title = (
            f"Leakage audit: {self.verdict}. {self.n_models} reference models {kind}; AUC with "
            f"{100 * self.confidence:g}% intervals; tolerance {self.tolerance:g}"
        )
        table = [_HEADER, *map(_line, self.findings)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in table
        ]
        return "\n".join([title, *lines, *(f"Note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, to be kept beside an evidence report.

        Returns
        -------
        dict
            With the settings, ``notes``, and ``findings`` as rows of :meth:`to_frame`; what is
            not known is None.
        """
        frame = self.to_frame().astype(object)
        rows = frame.where(frame.notna(), None).to_dict("records")
        settings = ("n_models", "reweight", "tolerance", "confidence", "n_bootstrap", "notes")
        return (
            {"verdict": self.verdict}
            | {name: getattr(self, name) for name in settings}
            | {"findings": rows}
        )


def _line(finding: LeakageFinding) -> _Line:
    return (
        finding.attack,
        finding.rows,
        finding.group,
        str(finding.n_rows),
        str(finding.power),
        str(finding.auc),
        f"{finding.verdict}: {finding.reason}",
    )
