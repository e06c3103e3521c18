"""``grmu preflight``: look at a deletion request before it is carried out."""

from __future__ import annotations

from pathlib import Path

import click

from ._audit_inputs import (
    FILE,
    load_model,
    load_row_numbers,
    load_rows,
    net_option,
    training_option,
)


@click.command()
@click.argument("model", type=FILE)
@net_option
@training_option
@click.option(
    "--forget",
    required=True,
    type=FILE,
    help="Row numbers to forget: a .npy file, or text with one number a line.",
)
@click.option(
    "--min-rows",
    default=30,
    show_default=True,
    type=click.IntRange(0),
    help="A group with fewer rows left is at risk.",
)
@click.option(
    "--min-share",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="So is a group of which a smaller share is left.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def preflight(
    model: Path,
    net: str | None,
    training: Path,
    forget: Path,
    min_rows: int,
    min_share: float,
    as_json: bool,
) -> None:
    """Say what forgetting rows would do to groups, and what methods would cost.

    MODEL is a saved model. Nothing is changed in it.
    """
    import json

    from ..audit import preflight as look

    unlearner = load_model(model, net)
    rows = load_rows(training)
    found = look(
        unlearner,
        load_row_numbers(forget),
        X=rows.X,
        y=rows.y,
        groups=rows.groups,
        min_rows=min_rows,
        min_share=min_share,
    )
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))
