"""Accuracy of the group that asked, against how much of it leaves; five draws of the data."""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.metrics import accuracy_score

from grmu_sk import RetrainUnlearner, sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.metrics import group_accuracy_score
from grmu_sk.plotting import model_styles

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
SEEDS = range(5)
LABELS = {False: "retrain", True: "retrain + REWEIGHT"}
STYLES = model_styles(["before", *LABELS.values()])


def scores(reweight, ratio, seed):
    """Return accuracy of the group and of all test rows after honest retraining."""
    data = load_digits_on_backgrounds(random_state=seed)
    table = data.images.reshape(len(data.images), -1)
    (X, y, a), test = (
        [v[rows] for v in (table, data.target, data.groups)] for rows in (data.train, data.test)
    )
    mask = np.zeros(len(y), dtype=bool)
    if ratio:
        pair = data.smallest_group
        mask[sample_forget_set(y, a, forget_groups=pair, ratio=ratio, random_state=seed)] = True
    model = RetrainUnlearner(reweight=reweight, random_state=seed).fit(X, y, a, forget=mask)
    predicted = model.predict(test[0])
    group = group_accuracy_score(
        test[1], predicted, groups=test[2], forget_groups=data.smallest_group
    )
    return 100 * group, 100 * accuracy_score(test[1], predicted)


before = np.array([scores(True, 0, seed) for seed in SEEDS])
after = {
    reweight: np.array([[scores(reweight, ratio, seed) for seed in SEEDS] for ratio in RATIOS])
    for reweight in LABELS
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", sharey=True)
for number, (ax, title) in enumerate(
    zip(axes, ["the group that asked", "all test rows"], strict=True)
):
    ax.axhline(before[:, number].mean(), color="0.45", linestyle=":", label="before the request")
    for reweight, label in LABELS.items():
        runs = after[reweight][:, :, number]
        mean, std = runs.mean(axis=1), runs.std(axis=1)
        percent = [100 * ratio for ratio in RATIOS]
        ax.plot(percent, mean, label=label, **STYLES[label])
        shade = {"color": STYLES[label]["color"], "alpha": 0.15, "linewidth": 0}
        ax.fill_between(percent, mean - std, mean + std, **shade)
    ax.set(title=title, xlabel="share of the group that asks to be forgotten (%)", ylim=(0, 100))
    ax.grid(axis="y", color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("test accuracy (%)")
axes[0].legend(loc="lower left", frameon=False)
