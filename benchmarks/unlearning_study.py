"""Compare all methods where nets memorise rows: closeness to gold, per row, damage, cost.

For each seed the net is trained on all rows, then retrained with REWEIGHT without the rows to
forget: once as the gold standard, once more as the ceiling (a second gold), and as oracles for the
distance of single rows. Every method starts from the same trained net and is used with its
defaults, with REWEIGHT where it can, beside doing nothing, fine-tuning and retraining for a fifth
of the epochs, and AsUnseenUnlearner with a reference net of three epochs, for its two epochs and
for half of the net's. Rows that the net's train_split holds out are drawn from the training rows;
the attack's non-members are the validation rows. One thread; costs are processor time of
``unlearn`` over that of the gold standard's training. With ``--tuned`` each method first tries
its defaults and the settings of its ``search_grid`` (four, learning rates in units of the net's
own) on other rows and seeds, and takes what has the best average gap.

    python benchmarks/unlearning_study.py --data faces --seeds 10 --out docs/results/study
    python benchmarks/unlearning_study.py --data adult --path .../adult --seeds 10 --out ...
    python benchmarks/unlearning_study.py --data faces --tuned --seeds 10 --out docs/results/study
    python benchmarks/unlearning_study.py --data faces --attack --seeds 1 --out docs/results/study
    python benchmarks/unlearning_study.py --figure --out docs/results/study
    python benchmarks/unlearning_study.py --data faces --table --out docs/results/study
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from local_data import LOADERS
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import ParameterGrid
from skorch.dataset import ValidSplit
from tqdm import tqdm

from grmu_sk import (
    AsUnseenUnlearner,
    BudgetRetrainUnlearner,
    FineTuneUnlearner,
    RetrainUnlearner,
    sample_forget_set,
)
from grmu_sk.audit import ReferenceModels, audit_unlearning
from grmu_sk.comparison import Split
from grmu_sk.metrics import (
    AVERAGE_GAP_METRICS,
    average_gap_score,
    damage_to_other_groups,
    log_odds_of_label,
    row_distance_score,
)
from grmu_sk.metrics.evaluate import evaluate_model
from grmu_sk.unlearners import all_unlearners

N_ORACLES = 3
#: Settings are chosen with these seeds; tables use those from 10 on.
SEARCH_SEEDS = (100, 101)
#: Methods that train from new weights and have lines of their own.
EXACT_OR_CHEAPER_BELOW = ("retrain", "budget_retrain", "subsample_retrain", "sisa", "group_dro")
DRAWN = {"faces": "embedded faces: rows are memorised", "adult": "census incomes: hardly"}
#: What is named in the figure; the others are pale.
LABELS = {
    "as_unseen": "as unseen",
    "miu": "MIU",
    "fine_tune": "fine-tune",
    "fine_tune, a fifth": "fine-tune, short",
    "budget_retrain, a fifth": "retrain, short",
    "retrain": "retrain plainly",
    "bad_teacher": "bad teacher",
    "shrink_perturb": "shrink and perturb",
}
#: How the documentation's table names its lines, where not as the file of results.
LINES = {
    "gold": "gold standard",
    "second gold": "second gold (ceiling)",
    "retrain": "retrain, no REWEIGHT",
    "no_op": "doing nothing",
    "fine_tune": "fine-tune",
    "fine_tune, a fifth": "fine-tune, a fifth of the epochs",
    "budget_retrain, a fifth": "retrain in a fifth of the epochs",
    "miu": "MIU",
    "as_unseen": "**as unseen**",
    "as_unseen, short reference": "as unseen, short reference",
    "as_unseen, half": "as unseen, short reference, half of the epochs",
}
#: What the documentation shows of a request beside the two main ones.
NEAREST = (
    *("as_unseen", "as_unseen, short reference", "as_unseen, half", "shrink_perturb"),
    *("boundary_expand", "l1_sparse"),
    *("fine_tune", "miu", "fine_tune, a fifth", "budget_retrain, a fifth"),
)
ATTACKED = ("no_op", "fine_tune, a fifth", "miu", "scrub", "as_unseen")


def methods(net: Any, seed: int) -> dict[str, Any]:
    """Return the methods, by the name of their line."""
    fifth = {"max_epochs": max(1, round(0.2 * net.max_epochs))}
    found = {}
    for name, method in all_unlearners():
        if name in EXACT_OR_CHEAPER_BELOW:
            continue
        can = "reweight" in method._get_param_names()
        found[name] = method(net, random_state=seed, **({"reweight": True} if can else {}))
    short = {"reweight": True, "random_state": seed, "reference_epochs": 3}
    half = {"max_epochs": max(1, round(0.5 * net.max_epochs))}
    found["as_unseen, short reference"] = AsUnseenUnlearner(net, **short)
    found["as_unseen, half"] = AsUnseenUnlearner(net, **short, **half)
    found["fine_tune, a fifth"] = FineTuneUnlearner(net, reweight=True, random_state=seed, **fifth)
    found["budget_retrain, a fifth"] = BudgetRetrainUnlearner(
        net, reweight=True, random_state=seed, **fifth
    )
    return found


def request(load: Any, path: Path | None, seed: int, ratio: float) -> tuple[Any, ...]:
    """Return data, an untrained net, and the rows to forget, as numbers and as a mask."""
    splits, net = load(path, seed)
    train = splits.train
    net.set_params(train_split=ValidSplit(0.15, stratified=True, random_state=0))
    rows = sample_forget_set(
        train.y, train.groups, forget_groups=splits.forget_groups, ratio=ratio, random_state=seed
    )
    return splits, net, rows, np.isin(np.arange(len(train.y)), rows)


def settings_of(name: str, unlearner: Any, net: Any) -> dict[str, Any]:
    """Return the method by default and as in its grid, whose rates are meant for a net's 0.05."""
    found = {}
    for setting in [{}, *ParameterGrid(unlearner.search_grid)]:
        if "lr" in setting:
            setting["lr"] *= net.lr / 0.05
        found[f"{name} {setting}"] = clone(unlearner).set_params(**setting)
    return found


def search_rows(load: Any, path: Path | None, seed: int) -> Any:
    """Return data and net as ``load`` does, half of the validation rows in place of test rows."""
    splits, net = load(path, seed)
    halves = [Split(*(part[half::2] for part in splits.validation)) for half in (0, 1)]
    return replace(splits, test=halves[0], validation=halves[1]), net


def tuned(load: Any, path: Path | None, ratio: float, file: Path, only: Sequence[str] = ()) -> Any:
    """Return what makes the methods in the setting that is best on rows and seeds of the search.

    ``only`` these are searched again, and the others taken from the file.
    """
    tried: dict[str, str] = {}

    def every(net: Any, seed: int) -> dict[str, Any]:
        found = {}
        for name, unlearner in methods(net, seed).items():
            if only and name not in only:
                continue
            of_method = settings_of(name, unlearner, net)
            tried.update(dict.fromkeys(of_method, name))
            found.update(of_method)
        return found

    of_validation = partial(search_rows, load)
    found = pd.concat(
        one_seed(of_validation, path, seed, ratio, again=True, make=every, searching=True)
        for seed in SEARCH_SEEDS
    )
    gaps = found.groupby("method")["avg_gap"].agg(lambda gaps: gaps.mean(skipna=False))
    table = gaps.reindex(list(tried)).rename("avg_gap").rename_axis("setting").reset_index()
    table["method"] = table["setting"].map(tried)
    best = table.fillna(-1).groupby("method")["avg_gap"].idxmax()
    table["chosen"] = table.index.isin(best)
    if only:
        known = pd.read_csv(file)
        table = pd.concat([known[~known["method"].isin(only)], table])
    table.to_csv(file, index=False, float_format="%.6g")
    chosen = set(table.loc[table["chosen"], "setting"])

    def make(net: Any, seed: int) -> dict[str, Any]:
        return {tried[name]: method for name, method in every(net, seed).items() if name in chosen}

    return make


def one_seed(
    load: Any,
    path: Path | None,
    seed: int,
    ratio: float,
    *,
    only: Sequence[str] = (),
    again: bool = False,
    make: Any = methods,
    searching: bool = False,
) -> pd.DataFrame:
    """Return a line for each model of a seed; ``only`` some methods beside the gold standard.

    ``again`` measures methods of a seed whose exact models are in the table already.
    """
    splits, net, rows, mask = request(load, path, seed, ratio)
    train, test, validation = splits.train, splits.test, splits.validation

    def trained(seed: int, **kwargs: Any) -> RetrainUnlearner:
        unlearner = RetrainUnlearner(net, reweight="forget" in kwargs, random_state=seed)
        return unlearner.fit(train.X, train.y, train.groups, **kwargs)

    pretrained = trained(seed)
    start = time.process_time()
    gold = trained(seed, forget=mask)
    seconds = time.process_time() - start
    oracles = [trained(seed + 10_000 * (k + 2), forget=mask) for k in range(N_ORACLES)]
    of_oracles = np.array([_log_odds(model, train, mask) for model in oracles])
    gold_scores = scores_of(gold, splits, mask, validation)
    gold_labels = gold.predict(test.X)
    lines = []

    def add(name: str, model: Any, cost: float) -> None:
        scores = scores_of(model, splits, mask, validation)
        damage = damage_to_other_groups(
            test.y,
            model.predict(test.X),
            gold_labels,
            groups=test.groups,
            forget_groups=splits.forget_groups,
        )
        lines.append(
            {
                "seed": seed,
                "method": name,
                **{metric: scores[metric] for metric in AVERAGE_GAP_METRICS},
                "avg_gap": average_gap_score(scores, gold_scores),
                "row_distance": row_distance_score(_log_odds(model, train, mask), of_oracles),
                "damage": damage.loss,
                "cost": cost / seconds,
            }
        )

    chosen = make(net, seed)
    if only:
        chosen = {name: chosen[name] for name in only}
    add("gold", gold, seconds)
    if not again:
        add("second gold", trained(seed + 10_000, forget=mask), seconds)
        plain = RetrainUnlearner(net, reweight=False, random_state=seed)
        add("retrain", plain.fit(train.X, train.y, train.groups, forget=mask), seconds)
    # a grid may hold more layers than the net has
    unusable = (FloatingPointError, ValueError) if searching else FloatingPointError
    for name, unlearner in tqdm(chosen.items(), disable=not searching, unit="setting", miniters=10):
        unlearner.set_params(estimator=FrozenEstimator(pretrained))
        try:
            unlearner.fit(train.X, train.y, train.groups)
            start = time.process_time()
            unlearner.unlearn(rows)
        except unusable:
            lines.append({"seed": seed, "method": name})
            continue
        add(name, unlearner, time.process_time() - start)
    return pd.DataFrame(lines)


def attacks(load: Any, path: Path | None, seed: int, ratio: float) -> pd.DataFrame:
    """Attack models by LiRA and RMIA, with 16 reference models."""
    splits, net, rows, mask = request(load, path, seed, ratio)
    train, unseen = splits.train, splits.validation
    kinds = {
        "forgotten": (train.X[mask], train.y[mask], train.groups[mask]),
        "remaining": (train.X[~mask], train.y[~mask], train.groups[~mask]),
        "nonmembers": (unseen.X, unseen.y, unseen.groups),
    }
    original = RetrainUnlearner(net, random_state=seed).fit(train.X, train.y, train.groups)
    references = ReferenceModels(original, 16, random_state=seed).fit(**kinds)
    gold = RetrainUnlearner(net, reweight=True, random_state=seed + 10_000)
    models = {"second gold": gold.fit(train.X, train.y, train.groups, forget=mask)}
    chosen = methods(net, seed)
    for name in ATTACKED:
        unlearner = chosen[name].set_params(estimator=FrozenEstimator(original))
        models[name] = unlearner.fit(train.X, train.y, train.groups).unlearn(rows)
    found = []
    for name, model in models.items():
        audit = audit_unlearning(model, original, **kinds, references=references, random_state=seed)
        of_all = audit.to_frame().query("group == 'all'")
        found.append(of_all.assign(seed=seed, method=name))
    return pd.concat(found)


def ranks(results: pd.DataFrame, n_bootstrap: int = 2000) -> pd.DataFrame:
    """Return the methods' ranks by mean average gap, with 95 % intervals over seeds, paired.

    Seeds are drawn with replacement, the same for all methods; a run that was not finite counts as
    the worst of its seed.
    """
    gaps = results.pivot_table("avg_gap", "seed", "method", dropna=False).fillna(-1.0)
    gaps = gaps.drop(columns=list(LINES)[:4])
    drawn = np.random.default_rng(0).integers(len(gaps), size=(n_bootstrap, len(gaps)))
    means = [gaps.mean().to_numpy(), *gaps.to_numpy()[drawn].mean(axis=1)]
    found = rankdata(-np.array(means), axis=1)
    low, high = np.quantile(found[1:], (0.025, 0.975), axis=0)
    return pd.DataFrame({"rank": found[0], "low": low, "high": high}, index=gaps.columns)


def table(file: Path, shown: Sequence[str] = ()) -> str:
    """Return a table of the documentation: exact models first, then methods by average gap.

    ``shown`` names the methods to show; all are ranked.
    """
    results = pd.read_csv(file)
    if "auc" in results:
        return _attack_table(results)
    percent = [*AVERAGE_GAP_METRICS, "avg_gap", "damage"]
    results[percent] *= 100
    groups = results.groupby("method", sort=False)
    mean, error, there = groups.mean(), groups.sem(), groups["avg_gap"].agg(["size", "count"])
    first = list(LINES)[:4]
    rank = ranks(results)
    order = [name for name in rank.sort_values("rank").index if not shown or name in shown]
    titles = [*AVERAGE_GAP_METRICS, "avg gap", "rank", "row distance", "damage", "cost"]
    lines = []
    for method in [*first, *order]:
        of, spread = mean.loc[method], error.loc[method]
        cells = [f"{of[metric]:.1f}" for metric in AVERAGE_GAP_METRICS]
        cells.append(f"{of['avg_gap']:.1f} ±{spread['avg_gap']:.1f}")
        ranked = "{rank:.0f} [{low:.0f}, {high:.0f}]"
        cells.append(ranked.format(**rank.loc[method]) if method in rank.index else "")
        cells.append(f"{of['row_distance']:.2f} ±{spread['row_distance']:.2f}")
        cells += [f"{of['damage']:.1f}", f"{of['cost']:.2f}"]
        n_runs, n_finite = there.loc[method]
        lost = f" ({n_runs - n_finite} of {n_runs} not finite)" if 0 < n_finite < n_runs else ""
        cells = cells if n_finite else ["loss not finite", *[""] * 10]
        lines.append([LINES.get(method, method.replace("_", " ")) + lost, *cells])
    return markdown(["method", *titles], lines, "---:")


def _attack_table(results: pd.DataFrame) -> str:
    asked = results[results["rows"] == "forgotten"]
    lines = [
        [LINES.get(method, method), *(f"{a:.2f} [{b:.2f}, {c:.2f}]" for a, b, c in values)]
        for method, values in (
            (method, of[["auc", "auc_low", "auc_high"]].to_numpy())
            for method, of in asked.groupby("method", sort=False)
        )
    ]
    return markdown(["model", *asked["attack"].unique()], lines, "---")


def markdown(titles: list[str], lines: list[list[str]], rule: str) -> str:
    rows = [titles, ["---", *[rule] * (len(titles) - 1)], *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def draw(folder: Path) -> None:
    """Draw closeness to gold against cost, one panel a data set; the worst and dearest left out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.patheffects import withStroke

    from grmu_sk.plotting import model_styles

    over_lines = {"fontsize": "small", "path_effects": [withStroke(linewidth=3, foreground="w")]}

    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for ax, (name, title) in zip(axes, DRAWN.items(), strict=True):
        table = pd.read_csv(folder / f"{name}_0.5.csv")
        gap = 100 * table.pivot_table("avg_gap", "seed", "method")
        cost = table.groupby("method")["cost"].mean()
        mean, error = gap.mean(), 2 * gap.sem()
        ceiling, nothing = mean["second gold"], mean["no_op"]
        half = error["second gold"]
        ax.axhspan(ceiling - half, ceiling + half, color="0.88", lw=0, zorder=0)
        ax.axhline(nothing, color="0.45", ls=":", zorder=0)
        for text, y in (("a second gold standard", ceiling + half), ("doing nothing", nothing)):
            place = ax.get_yaxis_transform()
            ax.text(0.01, y, text, transform=place, va="bottom", fontsize="small")
        height, lowest = 0.045 * (ceiling - nothing), np.inf  # of a name; none covers another
        methods = mean.drop(["gold", "second gold", "no_op"]).sort_values(ascending=False)
        for method in methods.index:
            name = method.partition(",")[0] + ("" if method == "retrain" else " + reweight")
            style = model_styles([name])[name] | {"linestyle": "none", "elinewidth": 1}
            where = cost[method], mean[method]
            ax.errorbar(*where, error[method], alpha=1 if method in LABELS else 0.35, **style)
            if method in LABELS:
                lowest = min(lowest - height, mean[method])
                at = {"textcoords": "offset points", "xytext": (7, -4), "zorder": 5, **over_lines}
                ax.annotate(LABELS[method], (where[0], lowest), color=style["color"], **at)
        ax.set(xlabel="cost, in retrainings", title=title, xlim=(0, 1.4))
        margin = 0.15 * (ceiling - nothing)
        ax.set_ylim(nothing - margin, ceiling + half + margin)
    axes[0].set_ylabel("closeness to gold (average gap)")
    figure.savefig(folder.parents[1] / "images" / "closeness_and_cost.png", dpi=150)


def scores_of(model: Any, splits: Any, mask: np.ndarray, holdout: Split) -> dict[str, float]:
    return evaluate_model(
        model,
        *(splits.train, splits.test, holdout, mask),
        forget_groups=splits.forget_groups,
        metrics=AVERAGE_GAP_METRICS,
    ).scores


def _log_odds(model: Any, train: Split, mask: np.ndarray) -> np.ndarray:
    return log_odds_of_label(
        train.y[mask], model.predict_log_proba(train.X[mask]), classes=model.classes_
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=LOADERS)
    parser.add_argument("--figure", action="store_true", help="only draw what was measured")
    parser.add_argument("--table", action="store_true", help="only print what was measured")
    parser.add_argument("--short", action="store_true", help="of the methods that come near")
    parser.add_argument("--tuned", action="store_true", help="each method in its best setting")
    parser.add_argument("--attack", action="store_true", help="only attack a few of the models")
    parser.add_argument("--path", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=10)  # settings were chosen on 0 to 9
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument(
        "--only", nargs="*", default=[], help="these methods; in a table that is there, again"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "(?s).*may have forgotten nothing")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.figure:
        return draw(options.out)
    kind = "attacks" if options.attack else f"{options.ratio:g}" + "_tuned" * options.tuned
    file = options.out / f"{options.data}_{kind}.csv"
    if options.table:
        return print(table(file, NEAREST if options.short else ()))
    tables = []
    load = LOADERS[options.data]
    make = methods
    if options.tuned:
        searched = file.with_name(file.stem + "_search.csv")
        of_search = LOADERS.get(f"{options.data}_search", load)
        make = tuned(of_search, options.path, options.ratio, searched, options.only)
    measure = attacks if options.attack else partial(one_seed, only=options.only, make=make)
    again = bool(options.only) and file.exists()
    if again:
        measure = partial(measure, again=True)
        known = pd.read_csv(file)
        tables.append(known[~known["method"].isin(options.only)])
    for seed in tqdm(range(options.first_seed, options.first_seed + options.seeds), unit="seed"):
        found = measure(load, options.path, seed, options.ratio)
        tables.append(found[found["method"].isin(options.only)] if again else found)
        pd.concat(tables).sort_values("seed", kind="stable").to_csv(
            file, index=False, float_format="%.6g"
        )
    found = pd.concat(tables)
    if options.attack:
        return print(found.to_string())
    columns = [*AVERAGE_GAP_METRICS, "avg_gap", "damage"]
    found[columns] *= 100
    shown = [*columns, "row_distance", "cost"]
    print(found.groupby("method", sort=False)[shown].mean().round(2).to_string())
    print(found.groupby("method", sort=False)[["avg_gap", "row_distance"]].sem().round(2))


if __name__ == "__main__":
    main()
