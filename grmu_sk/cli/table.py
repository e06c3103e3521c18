"""``grmu table``: the paper's tables from results."""

from __future__ import annotations

from pathlib import Path

import click

FORMATS = ("text", "markdown", "latex", "csv")
SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


@click.command()
@click.argument("number", type=click.IntRange(1, 18))
@click.option(
    "--results",
    type=click.Path(exists=True, path_type=Path),
    help="A CSV file of results, or the folder 'grmu bench' wrote results.csv into. Without it, "
    "the paper's own numbers are printed.",
)
@click.option(
    "--dataset",
    help="The data set to show in the layout of this table.  [default: the table's own]",
)
@click.option(
    "--selection",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Gold standard of its best validation epoch, as the paper's, or of its last epoch.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="How to write it.  [default: by the suffix of --out, else text]",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write instead of printing.",
)
def table(
    number: int,
    results: Path | None,
    dataset: str | None,
    selection: str,
    kind: str | None,
    out: Path | None,
) -> None:
    """Build Table NUMBER (1 to 18) of the paper from results.

    The paper's numbers stand below ours where the data set is the same. Tables 1 to 3 compare
    methods on CelebA, Waterbirds and FairFace, half of one group forgotten; 4 and 17 switch off
    parts of MIU; 5 to 13 forget 10%, 50% and 90%; 14 and 15 forget from 9 and 25 groups; 16 is
    MultiNLI; 18 is about fairness. With --dataset the same layout shows any other data set.
    """
    from ..benchmark.results import read_results
    from ..benchmark.tables import make_table

    found = None if results is None else read_results(results)
    built = make_table(number, found, dataset=dataset, selection=selection)
    suffix = "" if out is None else out.suffix.lower()
    chosen = kind or SUFFIXES.get(suffix, "text")
    text = built.render(chosen)
    if out is None:
        click.echo(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")
        click.echo(f"Written: {out}", err=True)
    if chosen == "csv":  # which has no room for them
        click.echo("\n".join(built.notes), err=True)
