"""``grmu audit``: membership attacks on an unlearned model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ._audit_inputs import FILE, load_model, load_rows, net_option, training_option


@click.command()
@click.argument("model", type=FILE)
@net_option
@click.option(
    "--original",
    required=True,
    type=FILE,
    help="The saved model before the request, for the power.",
)
@training_option
@click.option(
    "--nonmembers",
    required=True,
    type=FILE,
    help="Held-out rows that no model was trained on: a .npz file with X, y and groups.",
)
@click.option(
    "--models",
    default=16,
    show_default=True,
    type=click.IntRange(4),
    help="How many reference models to train; an even number.",
)
@click.option("--reweight", is_flag=True, help="Train them with REWEIGHT.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps what the reference models answer. Delete it after the audit.",
)
@click.option(
    "--tolerance",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 0.5, max_open=True),
    help="How far from 0.5 an AUC may be.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write the results as JSON, for 'grmu report --attacks'.",
)
@click.option(
    "--decisive",
    is_flag=True,
    help="Write only what decides: the most powerful attack on each group, and every leak.",
)
def audit(
    model: Path,
    net: str | None,
    original: Path,
    training: Path,
    nonmembers: Path,
    models: int,
    reweight: bool,
    cache: Path | None,
    tolerance: float,
    seed: int,
    out: Path | None,
    decisive: bool,
) -> None:
    """Attack the unlearned model in the file MODEL: can it be told who was forgotten.

    Reference models are trained on halves of the rows, the forgotten ones among them; neither they
    nor rows are kept. Every result is shown with the attack's power on the original model.
    """
    import json

    from ..audit import ReferenceModels, audit_unlearning

    unlearner = load_model(model, net)
    rows, n_rows = load_rows(training), len(unlearner.forget_idx_) + len(unlearner.remaining_idx_)
    if len(rows.y) != n_rows:
        raise ValueError(f"{training} has {len(rows.y)} rows, but fit was given {n_rows}.")
    if not len(unlearner.forget_idx_):
        raise ValueError(f"{model} has forgotten no row: there is nothing to attack.")

    def some(which: Any) -> tuple[Any, Any, Any]:
        groups = None if rows.groups is None else rows.groups[which]
        return rows.X[which], rows.y[which], groups

    found = audit_unlearning(
        unlearner,
        load_model(original, net),
        forgotten=some(unlearner.forget_idx_),
        remaining=some(unlearner.remaining_idx_),
        nonmembers=tuple(load_rows(nonmembers)),
        references=ReferenceModels(
            unlearner, models, reweight=reweight, cache=cache, random_state=seed
        ),
        tolerance=tolerance,
        random_state=seed,
    )
    click.echo(str(found))
    if out is not None:
        results = found.decisive if decisive else found.attacks
        content = json.dumps([result.to_dict() for result in results], indent=2)
        out.write_text(content + "\n", encoding="utf-8")
        click.echo(f"Written: {out}", err=True)
