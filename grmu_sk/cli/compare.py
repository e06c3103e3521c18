"""``grmu compare`` and ``grmu demo``: all methods on one's own rows, or on built-in ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial, reduce
from pathlib import Path
from textwrap import fill
from typing import Any

import click

from .inputs import NET, ROWS, load_estimator, takes_columns

MOST_GROUPS = 20  # in the figure of groups
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)
AT_LEAST_ONE = click.IntRange(1)
WRITTEN = (
    "results.csv",
    "table.txt",
    "summary.txt",
    "group_accuracy.png",
    "method_comparison.png",
)


def _compares(methods: str, seeds: int, folder: str) -> Callable[..., Any]:
    """Give a command the options of a comparison, with these defaults."""
    options = (
        click.option(
            "--methods",
            default=methods,
            help="Which methods take part: their names with commas, 'all' or 'recommended'.",
        ),
        click.option("--seeds", default=seeds, type=AT_LEAST_ONE, help="How many seeds to run."),
        click.option("--ratio", default=0.5, type=SHARE, help="Share of the group to forget."),
        click.option(
            "--jobs",
            "n_jobs",
            default=os.cpu_count(),
            show_default="number of cores",
            type=AT_LEAST_ONE,
            help="How many processes to use.",
        ),
        click.option(
            "--out",
            default=Path("results", folder),
            type=click.Path(file_okay=False, path_type=Path),
            help=f"Folder for {', '.join(WRITTEN)}.",
        ),
    )
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


@click.command(context_settings={"show_default": True})
@click.option("--data", required=True, metavar=ROWS, help="The rows: a table, say.")
@takes_columns
@click.option("--forget-column", "forget", help="Column that says which rows are to be forgotten.")
@click.option(
    "--forget-group",
    help="Or the group that asks, label and attributes with commas: '>50K,Female'.",
)
@click.option("--split-column", "split", help="With train, validation or test; else drawn by seed.")
@NET
@click.option("--scheduler", help="Address of a Dask scheduler that has the jobs done.")
@_compares("recommended", 5, "comparison")
def compare(
    data: str,
    columns: Any,
    forget_group: str | None,
    net: str | None,
    out: Path,
    **how: Any,
) -> None:
    """Compare methods on your own rows and model, with gold, ceiling and doing nothing beside them.

    Of a table, the columns that are not named here are the features, and how they are prepared is
    printed. A run that was killed goes on where it was, with the same command. The columns of the
    table that is printed are explained by 'grmu demo --help'.
    """
    from ..datasets import read_rows
    from ..own_comparison import prepared, split_rows

    if (columns.forget is None) == (forget_group is None):
        raise click.UsageError("Say who is to be forgotten: --forget-column or --forget-group.")
    rows = read_rows(data, columns)
    group = None if forget_group is None else forget_group.split(",")
    model, prepare, steps = prepared(load_estimator(net), rows)

    def load(seed: int) -> Any:
        return prepare(split_rows(rows, Path(data).stem, seed, group))

    first = load(0)
    click.echo(_about(rows, steps, first))
    if model is None:
        model = _default_net(first)
    run(model, load, first.forget_groups, out, folder=out / "finished", **how)


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    default="faces",
    type=click.Choice(["faces", "digits"]),
    help="Embedded photographs, which the net memorises, or small pictures of digits.",
)
@_compares("miu,as_unseen", 3, "demo")
def demo(data: str, out: Path, **how: Any) -> None:
    """Compare unlearning methods on real data.

    Half of one group asks to be forgotten: of the faces Black people between 20 and 29, of the
    digits the smallest group. PRETRAIN is the model before, so doing nothing; RETRAIN a new one
    without those rows, RETRAIN with reweight the gold standard. 'gold_reseeded' is the gold
    standard trained once more with another seed: how far apart two retrainings are, hence the
    most any method can be expected to reach. The average gap says how close a method comes to the
    gold standard over all metrics (100 is perfect), 'row dist' how far its answers on single
    forgotten rows are from the gold standard's, 'damage' what a group lost that nobody asked about,
    'retrains' what the run cost, as a multiple of the gold standard's training.
    """
    load = partial(_built_in, data)
    first = load(0)
    net = _default_net(first, memorises=data == "faces")
    run(net, load, first.forget_groups, out, **how)


def _names(methods: str, model: Any) -> list[str]:
    """Return names of methods that can take this model."""
    from ..classifiers import is_plain_classifier
    from ..unlearners import all_unlearners

    can = dict(all_unlearners())
    if is_plain_classifier(model):
        can = {name: cls for name, cls in can.items() if cls._takes_any}
    asked = [name.strip() for name in methods.split(",")]
    if methods == "all":
        return list(can)
    if methods == "recommended":
        asked = ["budget_retrain", "fine_tune", "as_unseen", "sisa", "subsample_retrain"]
        return [name for name in asked if name in can][:3]
    if unknown := [name for name in asked if name not in can]:
        raise click.BadParameter(
            f"{unknown[0]!r} is none of those that take this model: {', '.join(can)}.",
            param_hint="--methods",
        )
    return asked


def run(
    net: Any,
    load: Callable[[int], Any],
    forget_groups: Sequence[Any],
    out: Path,
    *,
    methods: str,
    seeds: int,
    scheduler: str | None = None,
    **how: Any,
) -> None:
    """Compare methods, show the table and what it says, and write both with figures.

    Parameters
    ----------
    net : skorch net, torch module or classifier
        What is trained.
    load : callable
        ``load(seed) -> Splits``.
    forget_groups : sequence of tuple
        The groups (y, a) that rows are forgotten from.
    out : Path
        Folder to write to.
    methods : str
        The methods, with commas, "all" or "recommended".
    seeds : int
        How many runs.
    scheduler : str or None, default=None
        Address of a Dask scheduler.
    **how : dict
        Of :func:`grmu_sk.comparison.compare`: ``ratio``, ``n_jobs`` and ``folder``.
    """
    import torch
    from tqdm import tqdm

    from ..comparison import compare, rows_for
    from ..results import describe_results, format_table

    torch.set_num_threads(1)  # for nets this small more threads only wait for each other
    rows = rows_for(_names(methods, net))
    out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be is known before the work
    where: Any = nullcontext()
    if scheduler is not None:
        from ..benchmark.jobs import on_cluster

        where, how["n_jobs"] = on_cluster(scheduler), -1
    how["seeds"] = range(seeds)
    with where, tqdm(total=seeds * (1 + len(rows)), unit="run", disable=None) as bar:
        results = compare(net, load, rows, on_step=lambda _: bar.update(), **how)
    table, words = format_table(results), fill(describe_results(results, forget_groups), 100)
    click.echo(f"{table}\n\n{words}")
    results.to_csv(out / "results.csv", index=False, float_format="%.4f")
    (out / "table.txt").write_text(table + "\n", encoding="utf-8")
    (out / "summary.txt").write_text(words + "\n", encoding="utf-8")
    _draw(out, results, forget_groups)
    click.echo(f"\nWritten to {out}: {', '.join(WRITTEN)}")


def _about(rows: Any, steps: Any, splits: Any) -> str:
    """Say what was read, and how it is prepared."""
    sizes = [len(part.y) for part in (splits.train, splits.validation, splits.test)]
    lines = [
        f"{len(rows.y)} rows; of the first seed {sizes[0]} for training, {sizes[1]} for "
        f"validation and {sizes[2]} for test."
    ]
    if rows.forget is not None:
        lines.append(f"To be forgotten: {int(rows.forget.sum())} rows.")
    if steps is not None:
        for name, _, chosen in steps.transformers:
            if chosen:
                lines.append(f"Features, {name}: {', '.join(map(str, chosen))}.")
        if not hasattr(splits.train.X, "iloc"):
            lines.append(f"A net is given {splits.train.X.shape[1]} numbers for each row.")
        if n_missing := int(rows.X.isna().any(axis=1).sum()):
            lines.append(
                f"{n_missing} rows lack a value: a missing number is filled by the median, a "
                "missing text has no column."
            )
    return "\n".join(lines) + "\n"


def _built_in(data: str, seed: int) -> Any:
    from .. import datasets
    from ..comparison import Splits

    name = {"faces": "embedded_faces", "digits": "digits_on_backgrounds"}[data]
    return Splits.from_bunch(name, getattr(datasets, f"load_{name}")(random_state=seed))


def _default_net(splits: Any, memorises: bool = False) -> Any:
    """Return the net that is trained if none is named, or one that memorises its rows."""
    from skorch.dataset import ValidSplit

    from ..nets import default_net

    net = default_net(splits.train.X, n_classes=len(set(splits.train.y.tolist())))
    if not memorises:
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
