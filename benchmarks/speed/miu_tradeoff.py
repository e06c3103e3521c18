"""What MIU's quality costs: average gap against how much faster it is than retraining.

For each seed a net is trained on all rows, and once more without those to forget: RETRAIN +
REWEIGHT, 30 epochs, the gold standard. Then every setting of MIU unlearns from the first net. Its
time is compared with the retraining's (processor time, one thread, same process), and its average
gap with that of the full setting. Validation rows take the place of test rows, which are never
read, and seeds (from 100 on) are not those of any reported table.

    python benchmarks/speed/miu_tradeoff.py --data digits
    python benchmarks/speed/miu_tradeoff.py --data fairface --path .../fairface64.zip --rows 4000
    python benchmarks/speed/miu_tradeoff.py --figure
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import torch
from harness import processor_seconds
from joblib import Parallel, delayed
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import LRScheduler

from grmu_sk import MIUUnlearner, RetrainUnlearner, sample_forget_set
from grmu_sk.benchmark import Problem, get_problem
from grmu_sk.comparison import Split, Splits, evaluate
from grmu_sk.metrics import AVERAGE_GAP_METRICS, average_gap_score

RESULTS = Path(__file__).parents[1] / "results"
FIGURE = Path(__file__).parents[2] / "docs" / "images" / "miu_tradeoff.png"
RETRAIN_EPOCHS = 30
FRESH_SEED = 120  # from which on no setting was chosen
SHOWN = ("max_epochs", "retain_fraction", "mine_lr", "mine_hidden")  # tells the preset "fast"
TRAINING = {
    "lr": 0.05,
    "batch_size": 64,
    "max_epochs": RETRAIN_EPOCHS,
    "optimizer__momentum": 0.9,
    "optimizer__weight_decay": 1e-3,
    "callbacks": [("schedule", LRScheduler("CosineAnnealingLR", T_max=RETRAIN_EPOCHS))],
}
FULL = {
    "max_epochs": 10,
    "forget_epochs": 5,
    "retain_fraction": 1.0,
    "tune_updates": (100, 10),
    "mine_lr": 0.001,
    "mine_hidden": 512,
}
# values of the first five; fewer updates of MINE are larger ones
SCHEDULES = [
    (10, 5, 1.0, (100, 10), 0.001),
    (10, 5, 0.5, (100, 10), 0.001),
    (10, 5, 0.2, (20, 2), 0.005),
    (10, 5, 0.1, (20, 2), 0.005),
    (5, 5, 0.2, (20, 2), 0.005),
    (3, 3, 0.3, (20, 2), 0.005),
    (2, 2, 0.5, (20, 2), 0.005),
    (2, 2, 1.0, (20, 2), 0.005),
]
LEARNING_RATES = (0.005, 0.01, 0.02, 0.05)
# with more of MINE, at the learning rates that were best above
REFINED = [
    (5, 5, 0.15, (20, 5), 0.01),
    (5, 4, 0.15, (40, 2), 0.005),
    (5, 4, 0.15, (40, 2), 0.01),
    (3, 3, 0.3, (40, 5), 0.005),
    (3, 3, 0.3, (40, 5), 0.01),
    (10, 8, 0.05, (20, 2), 0.01),
]
# the best of these between its learning rates, and with a smaller MINE that learns faster
FASTER = [
    ((3, 3, 0.3, (40, 5), 0.01, 512), 0.03),
    ((3, 3, 0.3, (40, 5), 0.01, 512), 0.04),
    ((3, 3, 0.3, (40, 5), 0.02, 128), 0.02),
    ((3, 3, 0.3, (40, 5), 0.02, 128), 0.03),
    ((3, 3, 0.3, (40, 5), 0.02, 128), 0.04),
    ((3, 3, 0.3, (40, 5), 0.02, 512), 0.02),
    ((3, 3, 0.4, (40, 5), 0.02, 128), 0.03),
    (tuple(FULL.values()), 0.03),
]
# for larger nets, where there is time to forget in more epochs at ten times the speed
LONGER = [
    ((5, 5, 0.3, (40, 5), 0.02, 128), 0.02),
    ((5, 5, 0.3, (40, 5), 0.02, 128), 0.015),
    ((5, 5, 0.3, (40, 10), 0.02, 128), 0.02),
    ((5, 5, 0.4, (40, 5), 0.01, 512), 0.02),
    ((4, 4, 0.5, (40, 5), 0.02, 128), 0.02),
    ((3, 3, 0.6, (40, 5), 0.02, 128), 0.02),
]


def settings() -> list[dict[str, Any]]:
    """Return all settings; the first is the full one."""
    grid = [*product(SCHEDULES, LEARNING_RATES), *product(REFINED, LEARNING_RATES[2:])]
    grid += FASTER + LONGER
    return [{**FULL, **dict(zip(FULL, schedule, strict=False)), "lr": lr} for schedule, lr in grid]


def load(problem: Problem, seed: int, n_rows: int | None) -> Splits:
    """Return training and validation rows, the latter in place of test rows too."""
    splits = problem.load(seed)
    train, validation = (
        _some(part, n, seed)
        for part, n in ((splits.train, n_rows), (splits.validation, n_rows and n_rows // 2))
    )
    return Splits(splits.name, train, validation, validation, splits.forget_groups)


def _some(split: Split, n_rows: int | None, seed: int) -> Split:
    if n_rows is None:
        return split
    rows = np.sort(np.random.default_rng(seed).permutation(len(split.y))[:n_rows])
    X = torch.stack([split.X[int(row)] for row in rows]).numpy()
    return Split(X, np.asarray(split.y)[rows], np.asarray(split.groups)[rows])


def one_seed(problem: Problem, seed: int, n_rows: int | None, chosen: list[Any]) -> pd.DataFrame:
    """Return one row for each setting, and one for retraining."""
    torch.set_num_threads(1)
    splits = load(problem, seed, n_rows)
    train = splits.train
    forget = sample_forget_set(
        train.y, train.groups, forget_groups=splits.forget_groups, random_state=seed
    )
    mask = np.isin(np.arange(len(train.y)), forget)
    net = problem.net().set_params(**TRAINING)
    data = train.X, train.y, train.groups
    pretrained = RetrainUnlearner(net, random_state=seed).fit(*data)
    gold = RetrainUnlearner(net, reweight=True, random_state=seed)
    retraining = processor_seconds(lambda: gold.fit(*data, forget=mask))
    gold_scores = evaluate(gold, splits, mask)
    rows = [{"seconds": retraining, "speed_up": 1.0, **gold_scores}]
    for setting in chosen:
        miu = MIUUnlearner(FrozenEstimator(pretrained), random_state=seed, **setting).fit(*data)
        row = dict(setting)
        try:
            row["seconds"] = processor_seconds(lambda miu=miu: miu.unlearn(forget))
        except FloatingPointError:  # it diverged
            rows.append(row)
            continue
        row["speed_up"] = retraining / row["seconds"]
        scores = evaluate(miu, splits, mask)
        gap = average_gap_score(
            {metric: [scores[metric]] for metric in AVERAGE_GAP_METRICS},
            {metric: [gold_scores[metric]] for metric in AVERAGE_GAP_METRICS},
        )
        rows.append({**row, **scores, "AVG_GAP": gap})
    return pd.DataFrame(rows).assign(dataset=problem.name, n_rows=len(train.y), seed=seed)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Return means over seeds, in points, by setting."""
    names = [*FULL, "lr"]
    runs = results.dropna(subset=["AVG_GAP"])
    if "mine_hidden" not in runs:  # of before there was a choice
        runs = runs.assign(mine_hidden=FULL["mine_hidden"])
    groups = runs.astype({"tune_updates": str}).groupby(["dataset", *names], sort=False)
    table = groups[["speed_up", "AVG_GAP", *AVERAGE_GAP_METRICS]].mean()
    table[["AVG_GAP", *AVERAGE_GAP_METRICS]] *= 100
    table["speed_up"] = groups["speed_up"].median()
    table["sd"] = 100 * groups["AVG_GAP"].std(ddof=0)
    table["seeds"] = groups["seed"].nunique()
    return table.round(2)


SHOWN_RATES = (0.02, 0.03, 0.005, 0.05, 0.01, 0.015)  # in the order of colours
PANELS = [  # file, and whether of the seeds that no setting was chosen on
    ("miu_tradeoff_digits.csv", False),
    ("miu_faster_digits.csv", True),
    ("miu_faster_fairface.csv", False),
    ("miu_faster_fairface.csv", True),
]


def draw(path: Path = FIGURE) -> None:
    """Draw average gap against speed, with standard errors."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(10, 7.2))
    for axis, (file, is_fresh) in zip(axes.flat, PANELS, strict=True):
        results = pd.read_csv(RESULTS / file)
        results = results[(results["seed"] >= FRESH_SEED) == is_fresh]
        _draw_panel(axis, summary(results).reset_index())
        n_seeds = results["seed"].nunique()
        axis.set_title(
            f"{results['dataset'].iloc[0]}, {n_seeds} {'fresh seeds' if is_fresh else 'seeds'}"
        )
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _draw_panel(axis: Any, table: pd.DataFrame) -> None:
    for lr, part in table.groupby("lr"):
        error = part["sd"] / part["seeds"] ** 0.5
        axis.errorbar(
            part["speed_up"],
            part["AVG_GAP"],
            error,
            fmt="o",
            color=f"C{SHOWN_RATES.index(lr)}",
            label=f"lr {lr:g}",
            alpha=0.8,
        )
    is_fast = np.logical_and.reduce([table[name] == MIUUnlearner.FAST[name] for name in SHOWN])
    for _, fast in table[is_fast & (table["lr"] == 0.02)].iterrows():
        place = fast["speed_up"], fast["AVG_GAP"]
        axis.plot(*place, "o", ms=12, mfc="none", mec="0.2")
        axis.annotate("fast", place, (8, 6), textcoords="offset points")
    axis.axvline(10, color="0.6", lw=0.8, ls="--")
    axis.set(xscale="log", xlabel="times faster than RETRAIN + REWEIGHT, 30 epochs")
    axis.set_ylabel("average gap (percent)")
    axis.set_xticks([2, 5, 10, 20, 50], labels=["2", "5", "10", "20", "50"])
    axis.minorticks_off()
    axis.legend()


@click.command()
@click.option("--data", type=click.Choice(["digits", "fairface"]), default="digits")
@click.option("--path", type=click.Path(path_type=Path), help="Where FairFace lies.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder for decoded images.")
@click.option("--rows", type=int, help="Training rows, all by default.")
@click.option("--seeds", type=int, multiple=True, default=range(100, 105), show_default=True)
@click.option("--only", type=int, multiple=True, help="Numbers of settings, all by default.")
@click.option("--jobs", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="CSV to write.")
@click.option("--figure", is_flag=True, help="Only draw what was measured.")
def main(data, path, cache, rows, seeds, only, jobs, out, figure):
    """Measure the settings on one data set, or draw the figure."""
    if figure:
        draw()
        return
    options = {"net": "small_cnn", "cache_dir": cache} if data == "fairface" else {}
    problem = get_problem(data, path, **options)
    chosen = [setting for n, setting in enumerate(settings()) if not only or n in only]
    runs = (delayed(one_seed)(problem, seed, rows, chosen) for seed in seeds)
    results = pd.DataFrame()
    for part in Parallel(n_jobs=jobs, return_as="generator_unordered")(runs):
        results = pd.concat([results, part.round(4)]).sort_values("seed", kind="stable")
        results.to_csv(out or RESULTS / f"miu_tradeoff_{data}.csv", index=False)
    print(summary(results).to_string())


if __name__ == "__main__":
    main()
