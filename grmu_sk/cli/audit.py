"""``grmu audit``, ``gate``, ``preflight`` and ``report``: about one model, from saved files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from .inputs import (
    FILE,
    ROWS,
    TRAINING,
    forget_rows,
    load_model,
    rows_for,
    rows_of_fit,
    takes_columns,
    takes_model,
)

NOT_PASSED = 3


def _made(ctx: click.Context, parameter: click.Parameter, out: Path | None) -> Path | None:
    """Make the folder of a file to write, so that one that cannot be is known before the work."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    return out


OUT: Any = {"type": click.Path(dir_okay=False, path_type=Path), "callback": _made}
PLACE = click.Path(exists=True, path_type=Path)
BELOW_HALF = click.FloatRange(0, 0.5, max_open=True)
SAMPLES = click.IntRange(2)
KIND = click.Choice(["html", "json", "card", "reply", "record"])
DEFAULT = click.core.ParameterSource.DEFAULT
REFERENCE = click.Choice(["before", "gold"])
SHOWN: Any = {"context_settings": {"show_default": True}}


@click.command(**SHOWN)
@click.argument("model", type=FILE)
@takes_model
@click.option("--original", required=True, type=FILE, help="The saved model before the request.")
@click.option("--training", required=True, metavar=ROWS, help=TRAINING)
@click.option("--nonmembers", required=True, metavar=ROWS, help="Rows no model was trained on.")
@takes_columns
@click.option(
    "--cache", type=click.Path(file_okay=False), help="Keeps answers of the models; delete it then."
)
@click.option("--models", default=16, type=click.IntRange(4), help="Reference models to train.")
@click.option("--reweight", is_flag=True, help="Train them with REWEIGHT.")
@click.option("--tolerance", default=0.1, type=BELOW_HALF, help="How far from 0.5 an AUC may be.")
@click.option("--seed", default=0, type=click.IntRange(0), help="Seed.")
@click.option("--out", **OUT, help="Where to write JSON for 'grmu report --attacks'.")
@click.option("--decisive", is_flag=True, help="Write the strongest attacks and leaks only.")
def audit(
    model: Path,
    brought: Any,
    original: Path,
    training: str,
    nonmembers: str,
    columns: Any,
    models: int,
    seed: int,
    out: Path | None,
    decisive: bool,
    tolerance: float,
    **references: Any,
) -> None:
    """Attack a saved, unlearned MODEL, to see whether forgotten rows can be identified.

    Reference models are trained on halves of the rows, the forgotten ones among them; neither they
    nor rows are kept. Every result is shown with the attack's power on the original model.
    """
    from ..audit import ReferenceModels, audit_unlearning
    from ..audit.scores import as_json

    unlearner = load_model(model, brought)
    rows = rows_of_fit(unlearner, training, columns)
    if not len(unlearner.forget_idx_):
        raise ValueError(f"{model} has forgotten no row: there is nothing to attack.")
    found = audit_unlearning(
        unlearner,
        load_model(original, brought),
        forgotten=rows.some(unlearner.forget_idx_),
        remaining=rows.some(unlearner.remaining_idx_),
        nonmembers=rows_for(unlearner, nonmembers, columns),
        references=ReferenceModels(unlearner, models, random_state=seed, **references),
        tolerance=tolerance,
        random_state=seed,
    )
    click.echo(str(found))
    if out is not None:
        results = [as_json(result) for result in (found.decisive if decisive else found)]
        out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        click.echo(f"Written: {out}", err=True)


@click.command(**SHOWN)
@click.argument("model", type=FILE)
@takes_model
@click.option("--training", required=True, metavar=ROWS, help=TRAINING)
@takes_columns
@click.option(
    "--forget",
    "request",
    required=True,
    type=FILE,
    help="Text with an id on each line, or a row number if fit was given no ids; or .npy.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def preflight(
    model: Path, brought: Any, training: str, columns: Any, request: Path, as_json: bool
) -> None:
    """Say what forgetting rows would do to groups, and what methods would cost.

    MODEL is a saved model. Nothing is changed in it.
    """
    from .. import audit

    unlearner = load_model(model, brought)
    rows = rows_of_fit(unlearner, training, columns, everybody=False)._asdict()
    found = audit.preflight(unlearner, forget_rows(unlearner, request), **rows)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))


@click.command(**SHOWN)
@click.argument("model", type=FILE, metavar="MODEL|EVIDENCE.json")
@takes_model
@click.option("--test", metavar=ROWS, help="Test rows.")
@click.option("--training", metavar=ROWS, help=f"For the group mix, RA, UA and --scan. {TRAINING}")
@takes_columns
@click.option(
    "--before", type=FILE, help="The model before: saved, or the .json of a report on it."
)
@click.option("--gold", type=FILE, help="RETRAIN + REWEIGHT: saved, or the .json of a report.")
@click.option("--attacks", type=FILE, help="What 'grmu audit --out' wrote.")
@click.option("--scan", type=PLACE, help="A file or folder to scan for residue.")
@click.option("--request-id", default="", show_default=False, help="What the request is called.")
@click.option("--received", default="", show_default=False, help="When it was received.")
@click.option("--reason", default="", show_default=False, help="Why the rows had to be deleted.")
@click.option(
    "--bootstrap", "n_bootstrap", default=500, type=SAMPLES, help="Resamples, for intervals."
)
@click.option("--ledger", type=FILE, help="Where 'grmu requests' keeps the --request-id.")
@click.option("--key-file", type=FILE, help="Its key, if it has one.")
@click.option("--format", "kind", default="html", type=KIND, help="What to write, see above.")
@click.option("--out", **OUT, help="Where to: by default report.html, report.json, card.md, ...")
@click.pass_context
def report(
    ctx: click.Context,
    model: Path,
    brought: Any,
    test: str | None,
    training: str | None,
    columns: Any,
    before: Path | None,
    gold: Path | None,
    attacks: Path | None,
    scan: Path | None,
    ledger: Path | None,
    key_file: Path | None,
    kind: Any,
    out: Path | None,
    **found: Any,
) -> None:
    """Write what is known about an unlearned model.

    From a saved MODEL, or from the JSON of an earlier report. html is one page that needs no
    network, with the same as JSON beside it, which 'grmu gate' decides on; json is that alone. In
    Markdown: card is a model card, reply a letter to the person who asked, record is for an
    auditor. What was not given is not measured, and all of them say so. They are empirical
    evidence, no certificate, and not legal advice.
    """
    from .. import audit

    out = out or Path(f"report.{kind}" if kind in ("html", "json") else f"{kind}.md")
    if model.suffix == ".json":
        free = {"model", "kind", "out"}
        if any(ctx.get_parameter_source(n) != DEFAULT for n in ctx.params if n not in free):
            raise click.UsageError("What was written already takes --format and --out only.")
        audit.write_report(audit.read_evidence(model), out, kind=kind)
        click.echo(f"Written: {out}", err=True)
        return
    if key_file is not None and ledger is None:
        raise click.UsageError("--key-file needs --ledger, whose key it is.")
    if scan is not None and training is None:
        raise click.UsageError("--scan needs --training: the rows to look for.")
    unlearner = load_model(model, brought)
    if test is not None:
        found |= rows_for(unlearner, test, columns)._asdict()
    for name, path in (("before", before), ("gold", gold)):
        found[name] = None if path is None else _reference(path, brought)
    if before is not None and before.suffix != ".json":
        found["hash_before"] = audit.model_hash(found["before"])
    if attacks is not None:
        found["attacks"] = _read_attacks(attacks)
    if training is not None:
        known, gone = rows_of_fit(unlearner, training, columns), unlearner.forget_idx_
        found["training"] = known[1:]
        found["remaining"] = known.some(unlearner.remaining_idx_)[:2]
        if len(gone):
            found["forgotten"] = known.some(gone)[:2]
        if scan is not None and len(gone):
            original = None if isinstance(found["before"], audit.ModelScores) else found["before"]
            about: Any = {"remaining": found["remaining"][0], "forget_idx": gone}
            found["residue"] = audit.scan_residue(scan, known.some(gone).X, original, **about)
    if ledger is not None:
        kept = audit.DeletionLedger(ledger, key_file=key_file, create=False).requests()
        asked = [request for request in kept if str(request.number) == found["request_id"]]
        if not asked:
            raise click.BadParameter(f"{ledger} has no such request", param_hint="--request-id")
        found["request"] = asked[0]
    evidence = audit.write_report(unlearner, out, kind=kind, **found)
    for check in evidence["gate"]["checks"]:
        click.echo(f"{check['status']:13} {check['name']}: {check['detail']}")
    click.echo(f"Written: {out}{' and its JSON' if kind == 'html' else ''}", err=True)


def _reference(path: Path, brought: Any) -> Any:
    from ..audit import read_evidence
    from ..audit.evidence import findings_of

    if path.suffix != ".json":
        return load_model(path, brought)
    scores = findings_of(read_evidence(path))["after"]
    if scores is None:
        raise ValueError(f"{path} has no scores: that report was written without test rows.")
    return scores


def _read_attacks(path: Path) -> list[Any]:
    from ..audit import LeakageFinding
    from ..audit.scores import from_json

    try:
        return from_json(list[LeakageFinding], json.loads(path.read_text("utf-8")))
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no list of attacks that was written here: {error}") from error


def _tolerance(name: str, default: float, meaning: str) -> Any:
    return click.option(name, default=default, type=click.FloatRange(0), help=meaning)


@click.command(**SHOWN)
@click.argument("evidence", type=FILE)
@_tolerance("--test-accuracy", 0.02, "How far the test accuracy may fall.")
@_tolerance("--worst-group", 0.05, "How far the accuracy of the worst group may fall.")
@_tolerance("--forgotten-groups", 0.05, "How far that of the groups of the request may fall.")
@_tolerance("--eo", 0.05, "How far the equalized odds gap may grow.")
@click.option("--leakage/--no-leakage", default=True, help="Attacks must have found nothing.")
@click.option("--residue/--no-residue", default=True, help="A scan must have found nothing.")
@click.option("--compare-to", type=REFERENCE, default="before", help="The reference.")
@click.option("--allow-inconclusive", is_flag=True, help="Let pass what could not be decided.")
@click.pass_context
def gate(ctx: click.Context, evidence: Path, **conditions: Any) -> None:
    """Decide on the EVIDENCE that 'grmu report' wrote (its .json).

    Exit codes: 0 passed, 3 not passed, 1 failure, 2 bad usage.
    """
    from ..audit import AcceptanceGate, read_evidence
    from ..audit.evidence import findings_of

    result = AcceptanceGate(**conditions).decide(**findings_of(read_evidence(evidence)))
    click.echo(str(result))
    if not result.passed:
        ctx.exit(NOT_PASSED)
