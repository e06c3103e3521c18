"""``grmu figure``: the paper's figures from results."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("number", type=click.IntRange(2, 8))
@click.option(
    "--results",
    type=click.Path(exists=True, path_type=Path),
    help="A CSV file of results, or the folder 'grmu bench' wrote results.csv into. Without it, "
    "the paper's numbers are drawn (Figures 3, 4, 5, 6, 8).",
)
@click.option(
    "--dataset",
    help="The data set to show.  [default: all that there are results of]",
)
@click.option(
    "--selection",
    type=click.Choice(["best", "last"]),
    default="best",
    show_default=True,
    help="Gold standard of its best validation epoch, as the paper's, or of its last epoch.",
)
@click.option(
    "--methods",
    help="Approximate methods to show, separated by commas.  [default: those of the paper]",
)
@click.option(
    "--forget",
    help="Forget set of Figures 2 and 7.  [default: the exact pairs, pairs-2 or pairs-4]",
)
@click.option(
    "--mark",
    "marked",
    multiple=True,
    metavar="Y,A",
    help="A group (label,attribute) to mark as forgotten from in Figures 2 and 7; repeatable.  "
    "[default: those of the forget set, where it is known]",
)
@click.option(
    "--out",
    default=Path("."),
    show_default="here",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for figure_NUMBER_DATASET.png and .svg.",
)
def figure(
    number: int,
    results: Path | None,
    dataset: str | None,
    selection: str,
    methods: str | None,
    forget: str | None,
    marked: tuple[str, ...],
    out: Path,
) -> None:
    """Build Figure NUMBER (2 to 8) of the paper from results, as PNG and SVG.

    2 and 7 show the accuracy of each group before and after exact pairs of groups were forgotten
    from, by retraining (2) and by approximate unlearning (7); 3, 4 and 5 show exact unlearning,
    the average gap and single metrics against the unlearning ratio; 6 shows several groups
    forgotten from; 8 the weight of MIU's calibration. The paper's numbers have panels of their
    own where its tables or text state them. The caption says where the choice of content is not
    the paper's.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from ..benchmark.figures import figure_datasets, make_figure
    from ..benchmark.results import read_results

    found = None if results is None else read_results(results)
    datasets = [dataset] if dataset is not None else figure_datasets(number, found, forget=forget)
    if not datasets:
        raise click.UsageError(
            f"The paper's tables hold no numbers of Figure {number}: name your --results."
        )
    for name in datasets:
        built = make_figure(
            number,
            found,
            dataset=name,
            selection=selection,
            methods=_split(methods),
            forget=forget,
            forget_groups=[_pair(text) for text in marked] or None,
        )
        files = built.save(out)
        plt.close(built.figure)
        click.echo("\n".join([built.caption, *built.notes]))
        click.echo(f"Written: {', '.join(map(str, files))}", err=True)


def _split(methods: str | None) -> list[str] | None:
    if methods is None:
        return None
    return [name.strip() for name in methods.split(",") if name.strip()]


def _pair(text: str) -> tuple[str, str]:
    y, comma, a = text.partition(",")
    if not comma:
        raise click.BadParameter(
            f"{text!r} is no group: write label,attribute.", param_hint="--mark"
        )
    return y.strip(), a.strip()
