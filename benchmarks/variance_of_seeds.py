"""Tell how much of a method's spread is the data's, the training's and the unlearning's.

Rows and requests are drawn with one seed, the net before the request and the gold standard are
trained with another, and the method works with a third, each nested in the one before. Variance
components are those of the analysis of variance of a balanced nested design,

    E[MS_unlearning] = s_u,   E[MS_training] = s_u + n_u s_t,
    E[MS_data] = s_u + n_u s_t + n_u n_t s_d;

an estimate below zero counts as zero.

    python benchmarks/variance_of_seeds.py --out docs/results/study/faces_variance.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from local_data import faces
from sklearn.frozen import FrozenEstimator
from tqdm import tqdm
from unlearning_study import LINES, markdown, methods, request, scores_of

from grmu_sk import RetrainUnlearner
from grmu_sk.metrics import average_gap_score

METHODS = ("as_unseen", "fine_tune", "fine_tune, a fifth", "miu")
LEVELS = ["data", "training", "unlearning"]


def measure(n_data: int, n_training: int, n_unlearning: int) -> pd.DataFrame:
    """Return the average gap of each method for each triple of seeds."""
    lines = []
    for data in tqdm(range(10, 10 + n_data), unit="draw of rows"):
        splits, net, rows, mask = request(faces, None, data, 0.5)
        train = splits.train
        of_fit = train.X, train.y, train.groups
        for training in range(n_training):
            seed = 1000 * data + 100 * training
            original = RetrainUnlearner(net, reweight=False, random_state=seed).fit(*of_fit)
            gold = RetrainUnlearner(net, random_state=seed).fit(*of_fit, forget=mask)
            gold_scores = scores_of(gold, splits, mask, splits.validation)
            for unlearning in range(n_unlearning):
                again = RetrainUnlearner(net, random_state=seed + 1 + unlearning)
                models = {"second gold": again.fit(*of_fit, forget=mask)}
                of_seed = methods(net, seed + 1 + unlearning)
                for name in METHODS:
                    unlearner = of_seed[name].set_params(estimator=FrozenEstimator(original))
                    models[name] = unlearner.fit(*of_fit).unlearn(rows)
                for name, model in models.items():
                    scores = scores_of(model, splits, mask, splits.validation)
                    gap = average_gap_score(scores, gold_scores)
                    lines.append((name, data, training, unlearning, gap))
    return pd.DataFrame(lines, columns=["method", *LEVELS, "avg_gap"])


def components(found: pd.DataFrame) -> pd.Series:
    """Return the variance components of one method, in squared points."""
    gaps = 100 * found.set_index(LEVELS)["avg_gap"].to_numpy()
    n_data, n_training, n_unlearning = (found[level].nunique() for level in LEVELS)
    gaps = gaps.reshape(n_data, n_training, n_unlearning)
    of_training, of_data = gaps.mean(axis=2), gaps.mean(axis=(1, 2))
    within = gaps.var(axis=2, ddof=1).mean()
    between_trainings = n_unlearning * of_training.var(axis=1, ddof=1).mean()
    between_data = n_unlearning * n_training * np.var(of_data, ddof=1)
    return pd.Series(
        {
            "data": max(0.0, (between_data - between_trainings) / (n_unlearning * n_training)),
            "training": max(0.0, (between_trainings - within) / n_unlearning),
            "unlearning": within,
        }
    )


def table(file: Path) -> str:
    """Return a table of the documentation: deviation of each method and its parts, in percent."""
    found = pd.read_csv(file)
    lines = []
    for name, of_method in found.groupby("method", sort=False):
        parts = components(of_method)
        mean, deviation = 100 * of_method["avg_gap"].mean(), np.sqrt(parts.sum())
        shares = [f"{share:.0f}" for share in 100 * parts / parts.sum()]
        lines.append([LINES.get(name, name), f"{mean:.1f}", f"{deviation:.1f}", *shares])
    return markdown(["method", "avg gap", "deviation", *LEVELS], lines, "---:")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument("--unlearnings", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.draws, options.trainings, options.unlearnings)
    found.to_csv(options.out, index=False, float_format="%.6g")
    print(table(options.out))


if __name__ == "__main__":
    main()
