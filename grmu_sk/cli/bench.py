"""``grmu bench``, ``grmu table`` and ``grmu figure``: the paper's protocol on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

PLACE, AT_LEAST_ONE = click.Path(path_type=Path), click.IntRange(1)
EPOCH = click.Choice(["best", "last"])
SHOWN: dict[str, Any] = {"context_settings": {"show_default": True}}


class Several(click.ParamType):
    """Values of a type, with commas between them."""

    name = "list"

    def __init__(self, of: Any = str) -> None:
        self.of = click.types.convert_type(of)

    def convert(self, value: Any, param: Any, ctx: Any) -> list[Any]:
        """Return the values."""
        parts = value if isinstance(value, list) else value.split(",")
        return [self.of(part.strip(), param, ctx) for part in parts]


RESULTS = click.option(
    "--results",
    type=click.Path(exists=True, path_type=Path),
    help="A CSV file of results, or the folder that 'grmu bench' wrote them into. Without it, the "
    "paper's own numbers are shown, as far as it states them.",
)
SELECTION = click.option(
    "--selection", type=EPOCH, default="best", help="Epoch kept of the gold standard."
)


@click.command(**SHOWN)
@click.option(
    "--dataset",
    required=True,
    help="celeba, celeba_attractive, waterbirds, fairface, multinli, adult_sex, adult_race or "
    "digits.",
)
@click.option("--data-root", type=PLACE, help="Folder or zip file with the official files.")
@click.option(
    "--forget",
    default="group",
    type=Several(),
    help="Where the rows to forget are drawn from: group, groups-9, groups-25, pairs-2, pairs-4 or "
    "random, as far as the data set has them.",
)
@click.option(
    "--ratios",
    default="0.5",
    type=Several(click.FloatRange(0, 1, min_open=True)),
    help="Shares of those rows: --ratios 0.1,0.5,0.9.",
)
@click.option("--methods", default="paper", type=Several(), help="'all', 'paper', or miu,scrub...")
@click.option("--seeds", default=3, type=AT_LEAST_ONE, help="How many, from 0.")
@click.option("--preset", default="shared", help="Settings: shared, reference, or a TOML file.")
@click.option(
    "--selection",
    default="best",
    type=Several(EPOCH),
    help="Epoch kept of what is trained from scratch: the best on validation rows, as in the "
    "paper, or the last. best,last: both come from one training.",
)
@click.option("--ablations", is_flag=True, help="Run MIU without each of its terms as well.")
@click.option(
    "--lambdas",
    type=Several(click.FloatRange(0)),
    help="Run it with these weights of its calibration as well: --lambdas 0.1,1,10.",
)
@click.option("--net", help="resnet18, small_cnn, mlp or bert.  [default: the data set's]")
@click.option("--image-size", type=click.IntRange(8), help="Side of the images in pixels.")
@click.option("--weights", help="What to start from: 'imagenet', 'none', or a local file.")
@click.option("--cache-dir", type=PLACE, help="For decoded images.  [default: 'cache' in --out]")
@click.option("--jobs", type=AT_LEAST_ONE, help="At the same time.  [default: one a GPU or core]")
@click.option("--threads", default=1, type=AT_LEAST_ONE, help="Of a job.")
@click.option(
    "--backend",
    default="loky",
    type=click.Choice(["loky", "dask", "sequential"]),
    help="Processes of this machine, a Dask cluster, or this process alone.",
)
@click.option("--scheduler", help="Address of the Dask scheduler: tcp://host:8786.")
@click.option("--devices", type=Several(), help="GPUs, once for each job at a time, or cpu.")
@click.option("--dry-run", is_flag=True, help="Only list the jobs and what is done of them.")
@click.option("--out", required=True, type=PLACE, help="Folder for results.csv and its sources.")
@click.pass_context
def bench(ctx: click.Context, out: Path, dry_run: bool, **options: Any) -> None:
    """Run the paper's protocol: pretrain, retrain, unlearn and measure.

    The jobs of a run are kept one by one in --out. After an interruption the same command continues
    where it stopped: what was trained is not trained again, what failed is. Other commands may use
    the same folder afterwards, for other ratios or methods.

    Tables and figures are made from the results by 'grmu table' and 'grmu figure'.

    Exit codes: 0 done, 1 some jobs failed, 2 bad usage, 130 interrupted.
    """
    from ..benchmark.jobs import read_record, run_jobs

    # a list of jobs needs no images
    jobs = _jobs(options, None if dry_run else options["cache_dir"] or out / "cache")
    if dry_run:
        states = [(read_record(out, job.name) or {}).get("status", "to do") for job in jobs]
        for job, state in zip(jobs, states, strict=True):
            click.echo(f"{state:8}{job.label}")
        click.echo(f"{len(jobs)} jobs, {states.count('done')} of them done.")
        return
    how = {name: options[name] for name in ("backend", "scheduler", "threads", "devices")}
    report = run_jobs(jobs, out, n_jobs=options["jobs"], **how)
    click.echo(
        f"{report.n_done} jobs done now, {report.n_found} before, {len(report.failed)} failed. "
        f"Written to {out}: results.csv"
    )
    for label, reason in report.failed.items():
        click.echo(f"Failed: {label}: {reason}", err=True)
    ctx.exit(1 if report.failed else 0)


def _jobs(options: dict[str, Any], cache_dir: Path | None) -> list[Any]:
    from ..benchmark.plan import make_jobs, make_rows
    from ..benchmark.problems import get_problem
    from ..benchmark.settings import get_preset

    how = {name: options[name] for name in ("net", "image_size", "weights")}
    how["cache_dir"] = cache_dir  # images are decoded once, into a folder that all processes map
    weights = options["lambdas"] or ()
    try:
        return make_jobs(
            get_problem(options["dataset"], options["data_root"], **how),
            get_preset(options["preset"]),
            make_rows(options["methods"], ablations=options["ablations"], weights=weights),
            forget=options["forget"],
            ratios=options["ratios"],
            seeds=range(options["seeds"]),
            selections=options["selection"],
        )
    except (ValueError, FileNotFoundError) as error:
        raise click.UsageError(str(error)) from error


@click.command(**SHOWN)
@click.argument("number", type=click.IntRange(1, 18))
@RESULTS
@click.option("--dataset", help="To show in the layout of this table.  [default: its own]")
@SELECTION
@click.option("--format", default="text", type=click.Choice(["text", "markdown", "latex", "csv"]))
def table(
    number: int, results: Path | None, dataset: str | None, selection: str, format: str
) -> None:
    """Build Table NUMBER (1 to 18) of the paper from results.

    The paper's numbers stand below ours where the data set is the same. Tables 1 to 3 compare
    methods on CelebA, Waterbirds and FairFace, half of one group forgotten; 4 and 17 switch off
    parts of MIU; 5 to 13 forget 10%, 50% and 90%; 14 and 15 forget from 9 and 25 groups; 16 is
    MultiNLI; 18 is about fairness. With --dataset the same layout shows any other data set.
    """
    from ..benchmark import make_table, read_results

    found = None if results is None else read_results(results)
    built = make_table(number, found, dataset=dataset, selection=selection)
    click.echo(built.render(format))
    if format == "csv":  # which has no room for them
        click.echo("\n".join(built.notes), err=True)


@click.command(**SHOWN)
@click.argument("number", type=click.IntRange(2, 8))
@RESULTS
@click.option("--dataset", required=True, help="The data set to show.")
@SELECTION
@click.option("--methods", type=Several(), help="To show.  [default: those of the paper]")
@click.option("--out", default=Path("."), type=PLACE, help="Folder for the two files.")
def figure(number: int, results: Path | None, out: Path, **options: Any) -> None:
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
    from ..benchmark import make_figure, read_results

    found = None if results is None else read_results(results)
    built = make_figure(number, found, **options)
    files = built.save(out)
    click.echo("\n".join([built.caption, *built.notes]))
    click.echo(f"Written: {', '.join(map(str, files))}", err=True)
