"""``grmu demo``: the built-in comparison."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

# chosen on validation rows, with other seeds: benchmarks/choose_miu_defaults.py
DEMO_PARAMETERS = {"miu": {"lr": 0.01, "mine_lr": 0.01}}
SEARCH_SEEDS = 100  # the first seed of a search; reported seeds count from 0


@click.command()
@click.option(
    "--seeds", default=5, show_default=True, type=click.IntRange(1), help="How many seeds to run."
)
@click.option(
    "--methods",
    default="miu",
    show_default=True,
    help="Which methods take part, separated by commas, or 'all'.",
)
@click.option(
    "--search",
    type=click.IntRange(0),
    help="First choose each method's parameters from its own grid, by the average gap on "
    "validation rows over so many other seeds.  [default: 0 for --methods miu, else 3]",
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
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the smallest group that is to be forgotten.",
)
@click.option(
    "--out",
    default=Path("results/demo"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for results.csv, table.txt, group_accuracy.png and method_comparison.png.",
)
def demo(seeds: int, methods: str, search: int | None, jobs: int, ratio: float, out: Path) -> None:
    """Compare unlearning methods on real digit images.

    Half of the smallest group asks to be forgotten. PRETRAIN is the model before, RETRAIN a new
    one without those rows, RETRAIN with reweight the gold standard. 'gold_reseeded' is the gold
    standard trained once more with another seed: how far apart two honest answers are, hence the
    most any method can be expected to reach. The average gap says how close a method comes to
    the gold standard over all metrics (100 is perfect), 'epochs' what the run cost, as a multiple
    of one epoch of training.
    """
    import torch

    from ..comparison import Splits, compare, rows_for, settings_of, tune
    from ..datasets import load_digits_on_backgrounds
    from ..default_net import default_net
    from ..results import format_table

    def load(seed: int) -> Splits:
        return Splits.from_bunch(
            "digits_on_backgrounds", load_digits_on_backgrounds(random_state=seed)
        )

    torch.set_num_threads(1)  # for nets this small more threads only wait for each other
    out.mkdir(parents=True, exist_ok=True)
    names = _method_names(methods)
    n_search = search if search is not None else (0 if names == ["miu"] else 3)
    first = load(0)
    net = default_net(first.train.X, n_classes=2)
    rows = rows_for(names, {} if n_search else DEMO_PARAMETERS)
    if n_search:
        searched = range(SEARCH_SEEDS, SEARCH_SEEDS + n_search)
        n_steps = n_search * (1 + sum(len(settings_of(row)) for row in rows))
        with _progress(n_steps, "search") as on_step:
            rows, report = tune(
                net, load, rows, seeds=searched, ratio=ratio, n_jobs=jobs, on_step=on_step
            )
        report.to_csv(out / "search.csv", index=False, float_format="%.4f")
        click.echo(_search_report(report, n_search))
    with _progress(seeds * (1 + len(rows)), "compare") as on_step:
        results = compare(
            net,
            load,
            rows,
            ratio=ratio,
            seeds=range(seeds),
            n_jobs=jobs,
            on_step=on_step,
        )
    table = format_table(results)
    click.echo(table)
    _write(out, results, table, first.forget_groups)


@contextmanager
def _progress(n_steps: int, title: str) -> Iterator[Callable[[str], None]]:
    from tqdm import tqdm

    with tqdm(total=n_steps, desc=title, unit="run", disable=None, file=sys.stderr) as bar:

        def on_step(label: str) -> None:
            bar.set_postfix_str(label)
            bar.update()

        yield on_step


def _search_report(report: Any, n_seeds: int) -> str:
    lines = [
        f"Search: the setting with the best average gap on validation rows over {n_seeds} seeds, "
        f"{report['seconds'].sum():.0f} s of unlearning in all. '*' marks the choice."
    ]
    for row in report[report["setting"] != {}].itertuples():
        setting = ", ".join(f"{name}={value}" for name, value in row.setting.items())
        name = f"{row.method}{' + reweight' if row.reweight else ''}"
        mark = "*" if row.chosen else " "
        lines.append(f"  {mark} {name:32} {setting:40} {row.avg_gap:6.1f}")
    return "\n".join(lines) + "\n"


def _method_names(methods: str) -> list[str]:
    from ..unlearners import all_unlearners

    names = [name for name, _ in all_unlearners()]
    chosen = names if methods == "all" else [name.strip() for name in methods.split(",")]
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise click.BadParameter(
            f"unknown {unknown}; there are: {', '.join(names)}", param_hint="--methods"
        )
    return chosen


def _write(out: Path, results: Any, table: str, forget_groups: Sequence[Any]) -> None:
    results.to_csv(out / "results.csv", index=False, float_format="%.4f")
    (out / "table.txt").write_text(table + "\n", encoding="utf-8")
    import matplotlib

    matplotlib.use("Agg")
    from ..plotting import GroupAccuracyDisplay, MethodComparisonDisplay

    figures: dict[str, Any] = {
        "group_accuracy.png": GroupAccuracyDisplay.from_results(
            results, forget_groups=forget_groups
        ),
        "method_comparison.png": MethodComparisonDisplay.from_results(results),
    }
    for name, display in figures.items():
        display.figure_.savefig(out / name, dpi=150)
    click.echo(f"\nWritten to {out}: {', '.join(['results.csv', 'table.txt', *figures])}")
