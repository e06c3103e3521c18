"""``grmu requests``: a ledger of deletion requests from the command line."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .inputs import FILE, ROWS, load_model, takes_columns, takes_model, training_data

PATH = click.Path(dir_okay=False, path_type=Path)


def _with_ledger(command: Callable[..., None]) -> Callable[..., None]:
    """Call a command with what opens the ledger that its arguments name."""

    @click.argument("ledger", type=PATH)
    @click.option("--key-file", type=FILE, help="The key of a ledger that holds hashes of ids.")
    @functools.wraps(command)
    def with_ledger(ledger: Path, key_file: Path | None, **options: Any) -> None:
        from ..audit import DeletionLedger

        opened = functools.partial(DeletionLedger, ledger, key_file=key_file)
        command(opened, **options)

    return with_ledger


@click.group()
def requests() -> None:
    """Keep deletion requests in LEDGER, a file, and let a model forget.

    A request that was added is never lost: if a command is killed, the next 'run' continues.
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
@_with_ledger
@click.argument("ids", nargs=-1)
@click.option("--ids-file", type=FILE, help="A text file with one id a line, in UTF-8.")
@click.option("--reason", default="", help="Why; stored as it is.")
def add(opened: Any, ids: tuple[str, ...], ids_file: Path | None, reason: str) -> None:
    """Write down that the rows with these IDS are to be forgotten.

    The ledger is made if there is none; with --key-file, one that holds hashes in place of ids.
    """
    text = "" if ids_file is None else ids_file.read_text(encoding="utf-8-sig")
    asked = [*ids, *filter(None, map(str.strip, text.splitlines()))]
    if not asked:
        raise click.UsageError("Name at least one id, or --ids-file.")
    number = opened().add(asked, reason=reason)
    nothing = "Nothing new: earlier requests name all of these ids."
    click.echo(nothing if number is None else f"Request {number} received.")


@requests.command()
@_with_ledger
@click.argument("model", type=FILE)
@takes_model
@click.option(
    "--data",
    required=True,
    metavar=ROWS,
    help="The training rows. Those of the forgotten may be missing if there are ids.",
)
@takes_columns
@click.option("--retry-failed", is_flag=True, help="Take on requests that failed, too.")
@click.option("--checkpoint", type=PATH, help="Keeps the state of training, to go on if killed.")
def run(
    opened: Any,
    model: Path,
    brought: Any,
    data: str,
    columns: Any,
    retry_failed: bool,
    checkpoint: Path | None,
) -> None:
    """Let MODEL, a file written by save, forget what waits; replace the file in one step.

    Exit code 1 if a request fails; the model is then as it was, or has forgotten the others.
    """
    import numpy as np

    from ..sample_ids import naming

    ledger, seen = opened(create=False), []

    def rows_of(unlearner: Any) -> Any:
        seen.append((unlearner, unlearner.forget_idx_))
        return training_data(unlearner, data, columns)

    done = ledger.run_file(
        model, **brought, data=rows_of, retry_failed=retry_failed, checkpoint=checkpoint
    )
    click.echo(f"Done: {', '.join(map(str, done))}" if done else "Nothing was waiting.")
    for unlearner, before in seen[:1]:
        gone = np.setdiff1d(unlearner.forget_idx_, before).tolist()
        click.echo(
            f"{model} has forgotten {len(gone)} of its {unlearner._n_rows} rows, by "
            f"{type(unlearner).__name__}: row {naming(gone)}.\n"
            f"Checked: {ledger.path} is as it was written, and the ids named these rows.\n"
            f"Next: 'grmu requests verify {ledger.path} --model {model}' reads the new file; "
            "'grmu report' shows what was done; delete older copies of the model."
        )
    if failed := [str(request.number) for request in ledger.requests("failed")]:
        raise click.ClickException(f"Failed: {', '.join(failed)}. See 'grmu requests status'.")


@requests.command()
@_with_ledger
@click.option("--json", "as_json", is_flag=True, help="Everything that is known, as JSON.")
def status(opened: Any, as_json: bool) -> None:
    """List the requests and how far they got."""
    from dataclasses import asdict

    ledger = opened(create=False)
    found = ledger.requests()
    if as_json:
        click.echo(json.dumps([asdict(request) for request in found], indent=2))
        return
    for request in found:
        words = [f"{request.number:5}  {request.state:8}  {request.received}  {request.n_ids} ids"]
        if request.state == "done":
            words.append(f"by {request.method}, {request.finished}")
        if request.reason:
            words.append(repr(request.reason))
        if request.error is not None:
            words.append(f"error: {request.error}")
        click.echo("  ".join(words))
    click.echo(", ".join(f"{count} {state}" for state, count in ledger.counts().items()))


@requests.command()
@_with_ledger
@click.option("--head", help="Hash of the last entry, as 'verify' printed it earlier.")
@click.option("--model", type=FILE, help="Check that this model has forgotten what is done.")
@takes_model
def verify(opened: Any, head: str | None, model: Path | None, brought: Any) -> None:
    """Check that LEDGER holds what was written into it, and print the hash of its last entry.

    Keep that hash elsewhere: given as --head later it proves that nothing before was changed.
    """
    ledger = opened(create=False)
    ledger.verify(head)
    if model is not None:
        returned = ledger.returned_rows(load_model(model, brought))
        if len(returned):
            raise click.ClickException(
                f"{model} was made with {len(returned)} rows that were forgotten, the first is row "
                f"{returned[0]}: 'grmu requests run' forgets them again."
            )
    click.echo(f"{ledger.path} is as it was written. Last entry: {ledger.head}")
