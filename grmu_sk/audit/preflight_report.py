"""What a deletion request would do, before it is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

__all__ = ["PreflightReport"]

#: A cost is printed as the range from the prediction over this to the prediction times this.
UNCERTAINTY = 1.5


@dataclass(frozen=True)
class PreflightReport:
    """What a deletion request would do to groups, and what methods would cost.

    Attributes
    ----------
    n_requested, n_present : int
        Rows of the request that are still there, and all rows that are.
    groups : DataFrame
        A row for each group (y, a): rows of ``fit`` (``trained``), still there (``present``), of
        the request, and ``remaining`` after it; ``share_before`` and ``share_after`` of all rows,
        ``share_of_request``, ``skew`` (its share of the request over its share of the rows, 1 for
        a request that is spread evenly) and ``risk``.
    costs : DataFrame
        A row for each method: predicted ``seconds`` (printed as a range), the ``ratio`` to
        retraining, and a ``note`` where it could not be timed.
    recommendation : str
        The short name of a method, with ``+ reweight`` where it has that option; empty if the
        request cannot be carried out at all.
    reasons : list of str
        Why.

    Examples
    --------
    >>> import pandas as pd
    >>> from grmu_sk.audit import PreflightReport
    >>> report = PreflightReport(0, 10, pd.DataFrame(), pd.DataFrame(), "", ["nothing to do"])
    >>> report.reasons
    ['nothing to do']
    """

    n_requested: int
    n_present: int
    groups: pd.DataFrame
    costs: pd.DataFrame
    recommendation: str
    reasons: list[str]

    def to_frame(self) -> pd.DataFrame:
        """Return the groups as a table.

        Returns
        -------
        DataFrame
            A copy of ``groups``.
        """
        return self.groups.copy()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values.

        Returns
        -------
        dict
            By name.
        """
        groups = self.groups.astype({"label": str, "attribute": str})
        return {
            "n_requested": self.n_requested,
            "n_present": self.n_present,
            "groups": _records(groups),
            "costs": _records(self.costs),
            "recommendation": self.recommendation,
            "reasons": list(self.reasons),
        }

    def __str__(self) -> str:
        share = self.n_requested / self.n_present if self.n_present else 0.0
        lines = [
            f"Request: {self.n_requested} of {self.n_present} rows ({share:.1%})",
            "",
            _group_table(self.groups),
        ]
        if len(self.costs):
            lines += ["", "Predicted cost", _cost_table(self.costs)]
        lines += ["", f"Recommended: {self.recommendation or 'none'}"]
        lines += [f"  - {reason}" for reason in self.reasons]
        return "\n".join(lines)


def as_range(seconds: float) -> str:
    """Return a predicted cost as the range that it stands for."""
    return f"{_rounded(seconds / UNCERTAINTY):g} to {_rounded(seconds * UNCERTAINTY):g}"


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    # through object, so that NaN can become None
    plain = table.astype(object).where(table.notna(), None)
    rows = plain.to_dict("records")
    return [{str(key): _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _group_table(groups: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "label": groups["label"].map(str),
            "attribute": groups["attribute"].map(str),
            "rows": groups["present"],
            "requested": groups["requested"],
            "remaining": groups["remaining"],
            "share": groups["share_before"].map("{:.1%}".format),
            "after": groups["share_after"].map("{:.1%}".format),
            "skew": groups["skew"].map("{:.2f}".format),
            "risk": groups["risk"],
        }
    )
    return shown.to_string(index=False)


def _cost_table(costs: pd.DataFrame) -> str:
    shown = pd.DataFrame(
        {
            "method": costs["method"],
            "seconds": costs["seconds"].map(lambda s: "-" if pd.isna(s) else as_range(s)),
            "of retraining": costs["ratio"].map(
                lambda r: "-" if pd.isna(r) else f"{float(f'{r:.2g}'):.0%}"
            ),
            "note": costs["note"],
        }
    )
    return shown.to_string(index=False)
