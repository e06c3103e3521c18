"""All methods on the built-in data: closeness to the gold standard, and what is forgotten."""

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from grmu_sk.plotting import model_styles
from grmu_sk.results import read_results, summarize

results = read_results("../results/all_methods")  # made by benchmarks/tuned_comparison.py
scores = summarize(results)
gap, kept = (scores.xs(metric, level="metric") for metric in ("AVG_GAP", "UA"))
controls = ["pretrain", "retrain", "gold_reseeded", "no_op"]
methods = gap["mean"].drop(controls, level="method").groupby("method").max().sort_values()
names = [*methods.index, "retrain"]

figure, axes = plt.subplots(
    1, 2, figsize=(8, 1.5 + 0.3 * len(names)), layout="constrained", sharey=True
)
panels = [
    ("average gap (100 = gold standard)", gap, ("gold_reseeded", 1)),
    ("UA: accuracy on forgotten rows (%)", kept, ("retrain", 1)),
]
for ax, (label, of_metric, aim) in zip(axes, panels, strict=True):
    for place, name in enumerate(names):
        lines = of_metric.xs(name, level="method")
        for reweight, (mean, std, _) in lines.iterrows():
            if (name, reweight) == ("retrain", 1):
                continue  # the gold standard itself
            label_of = f"{name} + reweight" if reweight else name
            style = model_styles([label_of])[label_of] | {"linestyle": "none", "elinewidth": 1}
            beside = 0.15 if len(lines) == 2 else 0
            ax.errorbar(mean, place + (beside if reweight else -beside), xerr=std, **style)
    mean, std, _ = of_metric.loc[aim]
    ax.axvspan(mean - std, mean + std, color="0.88", zorder=0)
    ax.axvline(mean, color="black", linewidth=1, zorder=1)
    nothing = of_metric.loc[("no_op", 0), "mean"]
    ax.axvline(nothing, color="0.45", linestyle=":", zorder=1)
    sides = ("left", "right") if mean > nothing else ("right", "left")
    for text, where, side in zip(
        ("a gold standard", "doing nothing"), (mean, nothing), sides, strict=True
    ):
        at = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        ax.annotate(text, (where, 1), xytext=(0, 3), ha=side, fontsize="small", **at)
    ax.set_xlim(right=min(ax.get_xlim()[1], 103))
    ax.set_xlabel(label)
    ax.grid(axis="x", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
looks = {"with REWEIGHT": "0.25", "without": "white"}
dots = [
    Line2D([], [], label=name, marker="o", linestyle="none", color="0.25", markerfacecolor=fill)
    for name, fill in looks.items()
]
figure.legend(handles=dots, loc="outside lower center", ncols=2, frameon=False)
axes[0].set_yticks(np.arange(len(names)), names)
axes[0].set_ylim(-0.7, len(names) - 0.3)
