"""Accuracy of the group that asked, against how much of it leaves; ten draws of the data."""

import pandas as pd
from matplotlib import pyplot as plt

from grmu_sk.plotting import model_styles

# made by benchmarks/damage_by_ratio.py
results = pd.read_csv("../results/damage_by_ratio.csv")
LABELS = {0: "retrain", 1: "retrain + reweight"}
STYLES = model_styles(["before", *LABELS.values()])
PANELS = {"GA": "the group that asked", "TA": "all test rows"}

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
for ax, (metric, title) in zip(axes, PANELS.items(), strict=True):
    of_metric = results[results["metric"] == metric]
    before = of_metric.loc[of_metric["method"] == "pretrain", "value"].mean()
    ax.axhline(before, color="0.45", linestyle=":", label="before the request")
    for reweight, label in LABELS.items():
        chosen = (of_metric["method"] == "retrain") & (of_metric["reweight"] == reweight)
        runs = of_metric[chosen].groupby("ratio")["value"]
        mean, std = runs.mean(), runs.std(ddof=0)
        percent = 100 * mean.index
        ax.plot(percent, mean, label=label, **STYLES[label])
        shade = {"color": STYLES[label]["color"], "alpha": 0.15, "linewidth": 0}
        ax.fill_between(percent, mean - std, mean + std, **shade)
    ax.set(title=title, xlabel="share of the group that asks to be forgotten (%)", ylim=(0, 100))
    ax.grid(axis="y", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("test accuracy (%)")
axes[0].legend(loc="lower left", frameon=False)
