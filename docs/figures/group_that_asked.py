"""Accuracy of the group that asked on three data sets, read from the files of results."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from grmu_sk.plotting import model_styles

RESULTS = Path("../results")
STYLES = model_styles(["before", "retrain", "retrain + reweight"])


def of_study(data):
    """Return the accuracies of ten seeds under each model."""
    table = pd.read_csv(RESULTS / f"study/{data}_0.5.csv").pivot_table("GA", "seed", "method")
    return 100 * table[["no_op", "retrain", "gold"]]


def of_digits():
    """Return the same of the built-in data."""
    table = pd.read_csv(RESULTS / "all_methods/results.csv").query("metric == 'GA'")
    table = table.pivot_table("value", "seed", ["method", "reweight"])
    return table[[("pretrain", 0), ("retrain", 0), ("retrain", 1)]]


data_sets = {"digits": of_digits(), "census incomes": of_study("adult"), "faces": of_study("faces")}
figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for number, (name, style) in enumerate(STYLES.items()):
    mean = [table.iloc[:, number].mean() for table in data_sets.values()]
    error = [table.iloc[:, number].sem() for table in data_sets.values()]
    place = [position + 0.2 * (number - 1) for position in range(len(data_sets))]
    ax.errorbar(place, mean, error, capsize=3, label=name, **style | {"linestyle": "none"})
ax.set_xticks(range(len(data_sets)), list(data_sets))
ax.set(ylabel="accuracy of the\ngroup that asked (%)", ylim=(0, 100), xlim=(-0.5, 2.5))
ax.grid(axis="y", color="0.9")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(loc="upper right", frameon=False)
