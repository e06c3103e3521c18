"""``grmu report``: the evidence about an unlearned model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ._audit_inputs import FILE, load_model, load_rows, net_option


@click.command()
@click.argument("model", type=FILE)
@net_option
@click.option("--test", type=FILE, help="Test rows: a .npz file with X, y and groups.")
@click.option(
    "--training",
    type=FILE,
    help="The training rows as they were given to fit, for the group mix, RA, UA and the scan.",
)
@click.option(
    "--before",
    type=FILE,
    help="The model before the request: saved, or the .json of an earlier report on it.",
)
@click.option(
    "--gold", type=FILE, help="RETRAIN + REWEIGHT: saved, or the .json of a report on it."
)
@click.option("--attacks", type=FILE, help="Attack results: a JSON list of AttackResult.to_dict().")
@click.option(
    "--scan",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder to scan for residue; needs --training. May be given several times.",
)
@click.option("--title", default="Unlearning report", show_default=True, help="Title of the page.")
@click.option("--request-id", default="", help="What the request is called.")
@click.option("--received", default="", help="When it was received.")
@click.option("--reason", default="", help="Why the rows had to be deleted.")
@click.option(
    "--bootstrap",
    default=500,
    show_default=True,
    type=click.IntRange(2),
    help="How many samples of the test rows the intervals are from.",
)
@click.option(
    "--out",
    default=Path("report.html"),
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page; the JSON goes beside it.",
)
def report(
    model: Path,
    net: str | None,
    test: Path | None,
    training: Path | None,
    before: Path | None,
    gold: Path | None,
    attacks: Path | None,
    scan: tuple[Path, ...],
    title: str,
    request_id: str,
    received: str,
    reason: str,
    bootstrap: int,
    out: Path,
) -> None:
    """Write what is known about the unlearned model in the file MODEL.

    One HTML page that needs no network, and the same as JSON, which 'grmu gate' decides on. What
    was not given is not measured, and the report says so. It is empirical evidence and not a
    certificate.
    """
    import json

    from ..audit import AttackResult, model_hash, write_report

    unlearner = load_model(model, net)
    rows = None if test is None else load_rows(test)
    if rows is not None and rows.groups is None:
        raise click.BadParameter(f"{test} lacks the array groups", param_hint="--test")
    if scan and training is None:
        raise click.UsageError("--scan needs --training: the rows to look for.")
    found: dict[str, Any] = {"title": title, "request_id": request_id, "received": received}
    found |= {"reason": reason, "n_bootstrap": bootstrap}
    if before is not None:
        found["before"] = _reference(before, net)
        if before.suffix != ".json":
            found["hash_before"] = model_hash(found["before"])
    if gold is not None:
        found["gold"] = _reference(gold, net)
    if attacks is not None:
        try:
            listed = json.loads(attacks.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{attacks} is not JSON: {error}") from error
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise ValueError(f"{attacks} is not a JSON list of attack results.")
        found["attacks"] = [AttackResult.from_dict(item) for item in listed]
    if training is not None:
        found |= _from_training(unlearner, training, scan, found.get("before"))
    test_rows: Any = rows or (None, None, None)
    evidence = write_report(unlearner, out, *test_rows, **found)
    for check in evidence["gate"]["checks"]:
        click.echo(f"{check['status']:13} {check['name']}: {check['detail']}")
    click.echo(f"Written: {out} and {out.with_suffix('.json').name}", err=True)


def _reference(path: Path, net: str | None) -> Any:
    from ..audit import ModelScores, read_evidence

    if path.suffix != ".json":
        return load_model(path, net)
    scores = read_evidence(path)["scores"]["after"]
    if scores is None:
        raise ValueError(f"{path} has no scores: that report was written without test rows.")
    return ModelScores.from_dict(scores)


def _from_training(
    unlearner: Any, path: Path, scan: tuple[Path, ...], before: Any
) -> dict[str, Any]:
    from ..audit import ModelScores, ResidueScan, scan_residue

    rows, gone, rest = load_rows(path), unlearner.forget_idx_, unlearner.remaining_idx_
    if len(rows.y) != len(gone) + len(rest):
        raise ValueError(
            f"{path} has {len(rows.y)} rows, but fit was given {len(gone) + len(rest)}."
        )
    found: dict[str, Any] = {
        "training": (rows.y, rows.groups),
        "remaining": (rows.X[rest], rows.y[rest]),
    }
    if len(gone):
        found["forgotten"] = (rows.X[gone], rows.y[gone])
    if scan and len(gone):
        original = None if isinstance(before, ModelScores) else before
        scans = [
            scan_residue(
                place,
                rows.X[gone],
                original,
                remaining=rows.X[rest],
                forget_idx=gone,
                n_rows=len(rows.y),
            )
            for place in scan
        ]
        found["residue"] = ResidueScan(
            [finding for part in scans for finding in part],
            not_searched=dict.fromkeys(line for part in scans for line in part.not_searched),
            n_places=sum(part.n_places for part in scans),
            n_bytes=sum(part.n_bytes for part in scans),
        )
    return found
