"""``grmu demo``: the built-in comparison."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from skorch import NeuralNet

    from ..comparison import Splits

MOST_GROUPS = 20  # in the figure of groups
SEARCH_SEEDS = 100  # the first seed of a search; reported seeds count from 0


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    default="faces",
    type=click.Choice(["faces", "digits"]),
    help="Embedded photographs, which the net learns by heart, or small pictures of digits.",
)
@click.option("--seeds", default=3, type=click.IntRange(1), help="How many seeds to run.")
@click.option(
    "--methods",
    default="miu,as_unseen",
    help="Which methods take part, separated by commas, or 'all'.",
)
@click.option(
    "--search",
    default=0,
    type=click.IntRange(0),
    help="First choose each method's parameters from its own grid, by the average gap on "
    "validation rows over so many other seeds.",
)
@click.option(
    "--jobs",
    default=os.cpu_count(),
    show_default="number of cores",
    type=click.IntRange(1),
    help="How many processes to use.",
)
@click.option(
    "--ratio",
    default=0.5,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the group that is to be forgotten.",
)
@click.option(
    "--out",
    default=Path("results/demo"),
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results.csv, table.txt, group_accuracy.png and method_comparison.png.",
)
def demo(
    data: str, seeds: int, methods: str, search: int, jobs: int, ratio: float, out: Path
) -> None:
    """Compare unlearning methods on real data.

    Half of one group asks to be forgotten: of the faces Black people between 20 and 29, of the
    digits the smallest group. PRETRAIN is the model before, so doing nothing; RETRAIN a new one
    without those rows, RETRAIN with reweight the gold standard. 'gold_reseeded' is the gold
    standard trained once more with another seed: how far apart two honest answers are, hence the
    most any method can be expected to reach. The average gap says how close a method comes to the
    gold standard over all metrics (100 is perfect), 'row dist' how far its answers on single
    forgotten rows are from the gold standard's, 'damage' what a group lost that nobody asked about,
    'epochs' what the run cost, as a multiple of one epoch of training.
    """
    import torch

    from ..comparison import compare, rows_for, settings_of, tune
    from ..results import format_table
    from ..unlearners import all_unlearners

    load = partial(_load, data)
    torch.set_num_threads(1)  # for nets this small more threads only wait for each other
    names = [name.strip() for name in methods.split(",")]
    if methods == "all":
        names = [name for name, _ in all_unlearners()]
    try:
        rows = rows_for(names)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--methods") from error
    out.mkdir(parents=True, exist_ok=True)
    first = load(0)
    net = _net(data, first)
    how: dict[str, Any] = {"ratio": ratio, "n_jobs": jobs}
    if search:
        other_seeds = range(SEARCH_SEEDS, SEARCH_SEEDS + search)
        with _bar(search * (1 + sum(len(settings_of(row)) for row in rows))) as bar:
            rows, report = tune(
                net, load, rows, seeds=other_seeds, on_step=lambda _: bar.update(), **how
            )
        report.to_csv(out / "search.csv", index=False, float_format="%.4f")
        click.echo(f"Average gaps on validation rows of {search} other seeds:")
        click.echo(report[report["setting"] != {}].round(1).to_string(index=False) + "\n")
    with _bar(seeds * (1 + len(rows))) as bar:
        results = compare(
            net, load, rows, seeds=range(seeds), on_step=lambda _: bar.update(), **how
        )
    table = format_table(results)
    click.echo(table)
    results.to_csv(out / "results.csv", index=False, float_format="%.4f")
    (out / "table.txt").write_text(table + "\n", encoding="utf-8")
    _draw(out, results, first.forget_groups)
    written = ["results.csv", "table.txt", "group_accuracy.png", "method_comparison.png"]
    click.echo(f"\nWritten to {out}: {', '.join(written)}")


def _bar(n_steps: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=n_steps, unit="run", disable=None)


def _load(data: str, seed: int) -> Splits:
    from .. import datasets
    from ..comparison import Splits

    name = {"faces": "embedded_faces", "digits": "digits_on_backgrounds"}[data]
    return Splits.from_bunch(name, getattr(datasets, f"load_{name}")(random_state=seed))


def _net(data: str, splits: Splits) -> NeuralNet:
    """Return the net that is trained: for faces one that learns its rows by heart."""
    from skorch.dataset import ValidSplit

    from ..nets import default_net

    net = default_net(splits.train.X, n_classes=len(set(splits.train.y.tolist())))
    if data == "digits":
        return net
    return net.set_params(
        module__hidden=(256, 256),
        optimizer__weight_decay=0,
        lr=0.1,
        batch_size=128,
        train_split=ValidSplit(0.15, stratified=True, random_state=0),
    )


def _draw(out: Path, results: Any, forget_groups: Sequence[Any]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from ..plotting import GroupAccuracyDisplay, MethodComparisonDisplay

    groups = results["metric"][results["metric"].str.startswith("group_accuracy[")]
    if groups.nunique() > MOST_GROUPS:  # then those that share the label of the forgotten ones
        alike = tuple(f"group_accuracy[{y}, " for y, _ in forget_groups)
        results = results.drop(groups.index[~groups.str.startswith(alike)])
    of_groups = GroupAccuracyDisplay.from_results(results, forget_groups=forget_groups)
    of_groups.figure_.savefig(out / "group_accuracy.png", dpi=150)
    of_methods = MethodComparisonDisplay.from_results(results)
    of_methods.figure_.savefig(out / "method_comparison.png", dpi=150)
