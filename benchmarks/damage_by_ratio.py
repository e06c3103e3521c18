"""Accuracy of the group that asked against the share of it that leaves, on the built-in digits.

python benchmarks/damage_by_ratio.py docs/results/damage_by_ratio.csv
"""

import sys
from functools import partial

import pandas as pd
import torch
from local_data import digits
from tqdm import tqdm

from grmu_sk.comparison import compare
from grmu_sk.results import GOLD, RETRAIN

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)


def load(seed):
    return digits(None, seed)[0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    net = digits(None, 0)[1]
    run = partial(compare, net, load, [RETRAIN, GOLD], seeds=range(10))
    found = pd.concat([run(ratio=ratio) for ratio in tqdm(RATIOS)])
    found[found["metric"].isin(["GA", "TA"])].to_csv(sys.argv[1], index=False, float_format="%.4f")
