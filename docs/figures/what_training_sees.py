"""How many rows of each group an epoch shows: before, after the request, and with REWEIGHT."""

import numpy as np
from matplotlib import pyplot as plt

from grmu_sk import ReweightSampler, sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.plotting import model_styles

data = load_digits_on_backgrounds(random_state=0)
y, a = data.target[data.train], data.groups[data.train]
forget = sample_forget_set(y, a, forget_groups=data.smallest_group, random_state=0)
rest = np.setdiff1d(np.arange(len(y)), forget)
weight = ReweightSampler().fit(y, groups=a).transform(y[rest], groups=a[rest])

group = 2 * y + a
asked = 2 * data.smallest_group[0] + data.smallest_group[1]
shares = {
    "before": np.bincount(group)[asked] / len(y),
    "retrain": np.bincount(group[rest])[asked] / len(rest),
    "retrain +\nREWEIGHT": np.bincount(group[rest], weights=weight)[asked],
}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
looks = model_styles(["before", "retrain", "retrain + reweight"])
colors = [look["color"] for look in looks.values()]
bars = left.bar(list(shares), [100 * s for s in shares.values()], color=colors)
left.bar_label(bars, fmt="%.1f%%", padding=2)
left.set(ylabel="share of what training sees (%)", ylim=(0, 4.2), title="the group that asked")

names = [f"{y}, {a}" for y in data.target_names for a in data.group_names]
one_of_each = [np.flatnonzero(group[rest] == g)[0] for g in range(4)]
bars = right.barh(names, len(rest) * weight[one_of_each], color=colors[-1])
right.bar_label(bars, fmt="%.2f", padding=3)
right.axvline(1, color="0.45", linestyle=":")
right.set(xlabel="times an epoch draws a row, on average", xlim=(0, 2.4), title="REWEIGHT")
right.invert_yaxis()
for ax in (left, right):
    ax.spines[["top", "right"]].set_visible(False)
