"""The result of a residue scan: the findings, and what could not be looked into."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from ..utils.arguments import check_types
from .finding import Finding

__all__ = ["ResidueScan"]


class ResidueScan(list[Finding]):
    """A list of findings, empty when nothing was found.

    Parameters
    ----------
    findings : iterable of Finding, default=()
        What was found.
    not_searched : iterable of str, default=()
        What could not be looked into, and why; rows that cannot be told from others count too.
    n_places : int, default=0
        How many files, archive members, attributes and cells were searched.
    n_bytes : int, default=0
        How many bytes that were.

    Attributes
    ----------
    not_searched : list of str
        As given.
    n_places, n_bytes : int
        As given.

    Examples
    --------
    >>> from grmu_sk.audit import ResidueScan
    >>> ResidueScan(not_searched=["a.zip!b: encrypted"]).verdict
    'inconclusive'
    """

    def __init__(
        self,
        findings: Iterable[Finding] = (),
        *,
        not_searched: Iterable[str] = (),
        n_places: int = 0,
        n_bytes: int = 0,
    ) -> None:
        check_types(ResidueScan.__init__, locals())
        super().__init__(findings)
        for finding in self:
            if not isinstance(finding, Finding):
                raise TypeError(f"findings must be an iterable of Finding, got {finding!r} in it.")
        self.not_searched = list(not_searched)
        self.n_places = n_places
        self.n_bytes = n_bytes

    @property
    def verdict(self) -> Literal["residue", "clean", "inconclusive"]:
        """What follows: an empty list says "clean" only if everything could be looked into."""
        if self:
            return "residue"
        return "inconclusive" if self.not_searched else "clean"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values.

        Returns
        -------
        dict
            With ``verdict``, ``findings``, ``not_searched``, ``n_places`` and ``n_bytes``.
        """
        return {
            "verdict": self.verdict,
            "findings": [finding.to_dict() for finding in self],
            "not_searched": list(self.not_searched),
            "n_places": self.n_places,
            "n_bytes": self.n_bytes,
        }
