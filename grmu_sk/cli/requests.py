"""``grmu requests``: a ledger of deletion requests from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from .inputs import FILE, NET, load_net, training_data

PATH = click.Path(dir_okay=False, path_type=Path)


def _ledger_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.argument("ledger", type=PATH),
        click.option(
            "--key-file",
            type=FILE,
            help="File with the key of a ledger that holds keyed hashes of ids.",
        ),
        click.option(
            "--timeout",
            default=30.0,
            show_default=True,
            type=click.FloatRange(0),
            help="Seconds to wait while other processes write into the ledger.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def requests() -> None:
    """Keep deletion requests in LEDGER, a file, and let a model forget.

    A request that was added is never lost: whatever kills a command, the next 'run' carries on.
    """


@requests.command("new-key")
@click.argument("file", type=PATH)
def new_key(file: Path) -> None:
    """Make a key, in a new FILE that only you can read.

    Keep a copy apart from the ledger: without the key its requests cannot be carried out.
    """
    from ..audit import create_key_file

    create_key_file(file)
    click.echo(f"Written: {file}", err=True)


@requests.command()
@_ledger_options
@click.argument("ids", nargs=-1)
@click.option("--ids-file", type=FILE, help="A text file with one id a line, in UTF-8.")
@click.option("--reason", default="", help="Why; stored as it is.")
def add(
    ledger: Path,
    key_file: Path | None,
    timeout: float,
    ids: tuple[str, ...],
    ids_file: Path | None,
    reason: str,
) -> None:
    """Write down that the rows with these IDS are to be forgotten.

    The ledger is made if there is none; with --key-file, one that holds hashes in place of ids.
    """
    from ..audit import DeletionLedger

    asked = list(ids)
    if ids_file is not None:
        lines = ids_file.read_text(encoding="utf-8-sig").splitlines()
        asked += [line.strip() for line in lines if line.strip()]
    if not asked:
        raise click.UsageError("Name at least one id, or --ids-file.")
    number = DeletionLedger(ledger, key_file=key_file, timeout=timeout).add(asked, reason=reason)
    if number is None:
        click.echo("Nothing new: earlier requests name all of these ids.")
    else:
        click.echo(f"Request {number} received.")


@requests.command()
@_ledger_options
@click.argument("model", type=FILE)
@NET
@click.option(
    "--data",
    required=True,
    metavar="FILE|MODULE:FUNCTION",
    help="The training data: a .npz file with X, y, groups, sample_weight, sample_id; a .csv file; "
    "or a function that returns a mapping with these names.",
)
@click.option("--target", help="Column of the .csv file with the labels.")
@click.option(
    "--groups",
    multiple=True,
    help="Column of the .csv file with a protected attribute; repeatable.",
)
@click.option(
    "--sample-id",
    help="Column of the .csv file with the ids. With ids the order of the rows does not matter, "
    "and rows that are forgotten may be missing.",
)
@click.option(
    "--request", "numbers", multiple=True, type=int, help="Only this request; repeatable."
)
@click.option("--retry-failed", is_flag=True, help="Take on requests that failed, too.")
@click.option("--ignore-unknown", is_flag=True, help="Pass over ids that no row has.")
@click.option(
    "--checkpoint",
    type=PATH,
    help="A file in which the state of training is kept after an epoch: if the command is "
    "killed, the next one goes on from there. Deleted when all is done.",
)
@click.option(
    "--checkpoint-every",
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0),
    help="How often at most.",
)
def run(
    ledger: Path,
    key_file: Path | None,
    timeout: float,
    model: Path,
    net: str | None,
    data: str,
    target: str | None,
    groups: tuple[str, ...],
    sample_id: str | None,
    numbers: tuple[int, ...],
    retry_failed: bool,
    ignore_unknown: bool,
    checkpoint: Path | None,
    checkpoint_every: float,
) -> None:
    """Let MODEL, a file written by save, forget what waits; replace the file in one step.

    Exit code 1 if a request fails; the model is then as it was, or has forgotten the others.
    """
    import warnings

    from .. import UnlearningCheckpoint
    from ..audit import DeletionLedger

    book = DeletionLedger(ledger, key_file=key_file, create=False, timeout=timeout)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        done = book.run_file(
            model,
            load_net(net),
            data=partial(
                training_data, source=data, target=target, groups=groups, sample_id=sample_id
            ),
            requests=list(numbers) or None,
            retry_failed=retry_failed,
            unknown="ignore" if ignore_unknown else "raise",
            checkpoint=None
            if checkpoint is None
            else UnlearningCheckpoint(checkpoint, every_seconds=checkpoint_every),
        )
    for warning in caught:
        click.echo(f"Warning: {warning.message}", err=True)
    click.echo(f"Done: {', '.join(map(str, done))}" if done else "Nothing was waiting.")
    failed = [request.number for request in book.requests("failed")]
    if failed:
        raise click.ClickException(
            f"Failed: {', '.join(map(str, failed))}. See 'grmu requests status {ledger}'."
        )


@requests.command()
@_ledger_options
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def status(ledger: Path, key_file: Path | None, timeout: float, as_json: bool) -> None:
    """List the requests and how far they got."""
    from dataclasses import asdict

    from ..audit import DeletionLedger

    book = DeletionLedger(ledger, key_file=key_file, create=False, timeout=timeout)
    found = book.requests()
    if as_json:
        click.echo(json.dumps([asdict(request) for request in found], indent=2))
        return
    for request in found:
        words = [f"{request.number:5}  {request.state:8}  {request.received}  {request.n_ids} ids"]
        if request.finished is not None and request.state == "done":
            words.append(f"by {request.method}, {request.finished}")
        if request.reason:
            words.append(repr(request.reason))
        if request.error is not None:
            words.append(f"error: {request.error}")
        click.echo("  ".join(words))
    click.echo(", ".join(f"{count} {state}" for state, count in book.counts().items()))


@requests.command()
@_ledger_options
@click.option("--head", help="Hash of the last entry, as 'verify' printed it earlier.")
@click.option("--model", type=FILE, help="Check that this model has forgotten what is done.")
@NET
def verify(
    ledger: Path,
    key_file: Path | None,
    timeout: float,
    head: str | None,
    model: Path | None,
    net: str | None,
) -> None:
    """Check that LEDGER holds what was written into it, and print the hash of its last entry.

    Keep that hash elsewhere: given as --head later it proves that nothing before was changed.
    """
    from ..audit import DeletionLedger

    book = DeletionLedger(ledger, key_file=key_file, create=False, timeout=timeout)
    book.verify(head)
    if model is not None:
        from ..persistence import load

        returned = book.returned_rows(load(model, load_net(net)))
        if len(returned):
            raise click.ClickException(
                f"{model} was made with {len(returned)} rows that requests marked as done have "
                f"named, the first is row {returned[0]}: it is an old copy, or was fitted anew. "
                "'grmu requests run' forgets them again."
            )
    click.echo(f"{ledger} is as it was written. Last entry: {book.head}")
