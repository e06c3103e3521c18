"""The four groups of the built-in data, and which rows ask to be forgotten."""

import numpy as np
from matplotlib import pyplot as plt

from grmu_sk import sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds

data = load_digits_on_backgrounds(random_state=0)
y, a = data.target[data.train], data.groups[data.train]
forget = sample_forget_set(y, a, forget_groups=data.smallest_group, random_state=0)

figure = plt.figure(figsize=(9, 5.2), layout="constrained")
panels = figure.subfigures(2, 2, wspace=0.04, hspace=0.06)
for label in (0, 1):
    for attribute in (0, 1):
        rows = np.flatnonzero((y == label) & (a == attribute))
        asking = np.intersect1d(rows, forget)
        shown = np.sort(np.r_[np.setdiff1d(rows, asking)[:9], asking[:9]])[:18]
        panel = panels[label, attribute]
        name = f"{data.target_names[label]}, {data.group_names[attribute]}: {len(rows)} rows"
        if len(asking):
            name += f", {len(asking)} ask to be forgotten"
            panel.set_facecolor("#FBF6D0")
        panel.suptitle(name, fontsize=10, weight="bold" if len(asking) else "normal")
        if not len(asking):
            shown = rows[:18]
        for ax, row in zip(panel.subplots(3, 6).flat, shown, strict=True):
            ax.imshow(data.images[row].transpose(1, 2, 0))
            ax.set_axis_off()
            if row in asking:
                ax.plot([0, 7], [0, 7], color="black", linewidth=2)
                ax.plot([0, 7], [7, 0], color="black", linewidth=2)
