"""``grmu bench``: the paper's protocol on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ._multi_value import MultiValueCommand

EXIT_INTERRUPTED = 130


@click.command(cls=MultiValueCommand)
@click.option(
    "--dataset",
    required=True,
    help="celeba, celeba_attractive, waterbirds, fairface, multinli, adult_sex, adult_race or "
    "digits.",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path),
    help="Folder or zip file with the data in their official layout; none for digits.",
)
@click.option(
    "--forget",
    multiple=True,
    default=("group",),
    show_default=True,
    help="Where the rows to forget are drawn from: group, groups-9, groups-25, pairs-2, pairs-4 or "
    "random, as far as the data set has them. Several are possible.",
)
@click.option(
    "--ratios",
    multiple=True,
    default=(0.5,),
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Shares of those rows: --ratios 0.1 0.5 0.9.",
)
@click.option(
    "--methods",
    multiple=True,
    default=("paper",),
    show_default=True,
    help="'all', 'paper', or names, separated by spaces or commas. Retraining, the gold standard "
    "and its second seed always take part.",
)
@click.option(
    "--seeds", default=3, show_default=True, type=click.IntRange(1), help="How many, from 0."
)
@click.option(
    "--preset",
    default="shared",
    show_default=True,
    help="Settings: 'shared' (one for all methods), 'reference' (the reference code's), or a TOML "
    "file.",
)
@click.option(
    "--selection",
    multiple=True,
    default=("best",),
    show_default=True,
    type=click.Choice(["best", "last"]),
    help="Which epoch is kept of what is trained from scratch: the best on validation rows, as in "
    "the paper, or the last. Both come from one training.",
)
@click.option("--ablations", is_flag=True, help="Run MIU without each of its terms as well.")
@click.option(
    "--lambdas",
    multiple=True,
    type=click.FloatRange(0),
    help="Run MIU with these weights of its calibration as well: --lambdas 0.1 1 10.",
)
@click.option("--net", help="resnet18, small_cnn, mlp or bert.  [default: the data set's]")
@click.option("--image-size", type=click.IntRange(8), help="Side of the images in pixels.")
@click.option("--weights", help="What to start from: 'imagenet', 'none', or a local file.")
@click.option("--augment/--no-augment", default=None, help="Allow random crops and flips.")
@click.option(
    "--cache-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for decoded images.  [default: 'cache' in --out]",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="How many jobs at the same time.  [default: one for each GPU, or for each core]",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="Of a job.")
@click.option(
    "--backend",
    default="loky",
    show_default=True,
    type=click.Choice(["loky", "dask", "sequential"]),
    help="Processes of this machine, a Dask cluster, or this process alone.",
)
@click.option("--scheduler", help="Address of the Dask scheduler: tcp://host:8786.")
@click.option("--devices", multiple=True, help="GPUs to use: --devices cuda:0 cuda:2, or cpu.")
@click.option(
    "--jobs-per-device",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="How many jobs may share a GPU.",
)
@click.option("--retry-failed", is_flag=True, help="Try again what failed in an earlier run.")
@click.option("--dry-run", is_flag=True, help="Only list the jobs and what is done of them.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results.csv and everything it is made from.",
)
@click.pass_context
def bench(ctx: click.Context, **options: Any) -> None:
    """Run the paper's protocol: pretrain, retrain, unlearn and measure.

    The jobs of a run are kept one by one in --out. Interrupt it, or lose the machine, and the same
    command goes on where it stopped; what was trained is not trained again. Other commands may use
    the same folder, for other ratios or methods, at the same time if you like.

    Tables and figures are made from the results by 'grmu table' and 'grmu figure'.

    Exit codes: 0 done, 1 some jobs failed, 2 bad usage, 130 interrupted.
    """
    from ..benchmark.plan import make_plan
    from ..benchmark.store import Store

    problem, preset, lines = _what_to_run(options)
    try:
        store = Store(options["out"])
        plan = make_plan(
            problem,
            preset,
            store,
            lines,
            forget=_unique(options["forget"]),
            ratios=_unique(options["ratios"]),
            seeds=range(options["seeds"]),
            selections=_unique(options["selection"]),
        )
        for reason in plan.left_out:
            click.echo(f"Left out: {reason}", err=True)
        if options["dry_run"]:
            _list_jobs(plan, store)
            return
        report = _run(plan, store, options)
    except KeyboardInterrupt:
        click.echo("Interrupted. The same command goes on where this one stopped.", err=True)
        ctx.exit(EXIT_INTERRUPTED)
    click.echo(
        f"{report.n_done} jobs done now, {report.n_found} before, {len(report.failed)} failed. "
        f"Written to {options['out']}: results.csv"
    )
    for label, reason in report.failed.items():
        click.echo(f"Failed: {label}: {reason}", err=True)
    if report.failed:
        click.echo("To try them again, add --retry-failed.", err=True)
        ctx.exit(1)


def _what_to_run(options: dict[str, Any]) -> tuple[Any, Any, Any]:
    from ..benchmark.plan import lines_for
    from ..benchmark.problem import get_problem
    from ..benchmark.settings import get_preset

    named = {
        name: options[name]
        for name in ("net", "image_size", "weights", "augment")
        if options[name] is not None
    }
    names = [name for entry in options["methods"] for name in entry.split(",") if name]
    try:
        problem = _with_cache(get_problem, options, named)
        for name in options["forget"]:
            problem.pairs(name)
        preset = get_preset(options["preset"])
        lines = lines_for(
            names[0] if len(names) == 1 else names,
            ablations=options["ablations"],
            lambdas=_unique(options["lambdas"]),
        )
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error
    return problem, preset, lines


def _with_cache(get_problem: Any, options: dict[str, Any], named: dict[str, Any]) -> Any:
    """Return the problem; images are decoded once into a folder that all processes map."""
    from ..benchmark.problem import DEFINITIONS

    name = options["dataset"]
    definition = DEFINITIONS.get(name)
    if options["cache_dir"] is not None:
        named["cache_dir"] = options["cache_dir"]
    elif definition is not None and "cache_dir" in definition.options:
        named["cache_dir"] = options["out"] / "cache"
    return get_problem(name, options["data_root"], **named)


def _run(plan: Any, store: Any, options: dict[str, Any]) -> Any:
    from concurrent.futures.process import BrokenProcessPool

    from ..benchmark.runner import run_plan

    try:
        return run_plan(
            plan,
            store,
            backend=options["backend"],
            n_jobs=options["jobs"],
            scheduler=options["scheduler"],
            threads=options["threads"],
            devices=options["devices"] or None,
            jobs_per_device=options["jobs_per_device"],
            retry_failed=options["retry_failed"],
        )
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    except BrokenProcessPool as error:
        raise click.ClickException(
            "A worker process was killed, for want of memory perhaps. What is done is kept: run "
            "the same command again, with a smaller --jobs if it happens again."
        ) from error


def _list_jobs(plan: Any, store: Any) -> None:
    n_done = 0
    for job in plan.jobs:
        record = store.read(job)
        n_done += record is not None
        click.echo(f"{'to do' if record is None else record['status']:8}{job.label}")
    click.echo(f"{len(plan.jobs)} jobs, {n_done} of them done.")


def _unique(values: Any) -> list[Any]:
    return list(dict.fromkeys(values))
