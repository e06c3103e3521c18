"""``grmu gate``: decide whether an unlearned model may be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ._audit_inputs import FILE

NOT_PASSED = 3


class _Tolerance(click.ParamType):
    """A fraction, or 'none' to leave the condition out."""

    name = "fraction"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value is None or isinstance(value, float):
            return value
        if str(value).lower() == "none":
            return None
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a fraction nor 'none'", param, ctx)


def _tolerance(name: str, default: str, help_text: str) -> Any:
    return click.option(name, type=_Tolerance(), default=default, show_default=True, help=help_text)


@click.command()
@click.argument("evidence", type=FILE)
@_tolerance("--test-accuracy", "0.02", "How far the test accuracy may fall, or 'none'.")
@_tolerance("--worst-group", "0.05", "How far the accuracy of the worst group may fall.")
@_tolerance("--forgotten-groups", "0.05", "How far that of the groups of the request may fall.")
@_tolerance("--eo", "0.05", "How far the equalized odds gap may grow.")
@click.option(
    "--leakage/--no-leakage", default=True, help="Whether attacks must have found nothing."
)
@click.option(
    "--residue/--no-residue", default=True, help="Whether a scan must have found nothing."
)
@click.option(
    "--compare-to",
    type=click.Choice(["before", "gold"]),
    default="before",
    show_default=True,
    help="The reference.",
)
@click.option(
    "--rule",
    type=click.Choice(["point", "interval"]),
    default="point",
    show_default=True,
    help="Compare the value, or the unfavourable end of its interval.",
)
@click.option("--allow-inconclusive", is_flag=True, help="Let pass what could not be decided.")
@click.pass_context
def gate(ctx: click.Context, evidence: Path, **conditions: Any) -> None:
    """Decide on the EVIDENCE that 'grmu report' wrote (its .json).

    Exit codes: 0 passed, 3 not passed, 1 failure, 2 bad usage.
    """
    from ..audit import (
        AcceptanceGate,
        AttackResult,
        Finding,
        ModelScores,
        ResidueScan,
        read_evidence,
    )

    content = read_evidence(evidence)
    try:
        scores = {
            name: None if found is None else ModelScores.from_dict(found)
            for name, found in content["scores"].items()
        }
        attacks = [AttackResult.from_dict(found) for found in content["attacks"]]
        residue = None
        if (found := content["residue"]) is not None:
            findings = [
                Finding(**{**item, "rows": tuple(item["rows"]), "tensors": tuple(item["tensors"])})
                for item in found["findings"]
            ]
            counts = {name: found[name] for name in ("not_searched", "n_places", "n_bytes")}
            residue = ResidueScan(findings, **counts)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{evidence} is incomplete or damaged: {error!r}.") from error
    result = AcceptanceGate(**conditions).decide(**scores, attacks=attacks, residue=residue)
    click.echo(str(result))
    if not result.passed:
        ctx.exit(NOT_PASSED)
