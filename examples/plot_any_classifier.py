"""
REWEIGHT for any classifier
===========================

Not every model is a neural net. Retraining with REWEIGHT works for all of them: let every group of
the remaining rows count as much as it did before the request, and fit as usual. There are two ways:
draw rows (:class:`~grmu_sk.resampling.ReweightResampler`, a step for pipelines of
imbalanced-learn) or weight them (:class:`~grmu_sk.ReweightSampler`).

This example needs imbalanced-learn: ``pip install ".[examples]"`` in a copy of the source.
"""

# %%
# A support vector classifier on the digits, as a table of pixels. Half of the smallest group asks
# to be forgotten; we look at five draws of the data, since one says little.
from collections import Counter

import numpy as np
import pandas as pd
import sklearn
from imblearn.pipeline import make_pipeline
from matplotlib import pyplot as plt
from sklearn.svm import SVC

from grmu_sk import ReweightSampler, sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.metrics import group_accuracies
from grmu_sk.plotting import model_styles
from grmu_sk.resampling import ReweightResampler


def load(seed):
    """Return training rows and test rows: pixels, labels and backgrounds."""
    data = load_digits_on_backgrounds(random_state=seed)
    pixels = data.images.reshape(len(data.images), -1)
    y = np.array(data.target_names)[data.target]
    a = np.array(data.group_names)[data.groups]
    return tuple((pixels[rows], y[rows], a[rows]) for rows in (data.train, data.test))


# %%
# Drawing
# -------
# The resampler is told how large the groups were before the request. ``groups`` reach it by
# metadata routing; with routing off imbalanced-learn drops them silently.
def retrain_on_draws(X, y, a, rest, seed):
    """Fit a pipeline that draws the remaining rows by REWEIGHT."""
    before = Counter(zip(y.tolist(), a.tolist(), strict=True))
    model = make_pipeline(ReweightResampler(before, random_state=seed), SVC())
    with sklearn.config_context(enable_metadata_routing=True):
        return model.fit(X[rest], y[rest], groups=a[rest])


# %%
# Weighting
# ---------
# Most classifiers of scikit-learn take ``sample_weight``. Nothing is drawn, hence nothing is left
# out by chance. That matters for classifiers that memorise rows: put
# ``HistGradientBoostingClassifier`` in place of ``SVC``, and drawing hurts the other small group.
def retrain_with_weights(X, y, a, rest):
    """Fit with weights of REWEIGHT, whose mean is one."""
    weight = ReweightSampler().fit(y, groups=a).transform(y[rest], groups=a[rest])
    return SVC().fit(X[rest], y[rest], sample_weight=len(rest) * weight)


# %%
# Five draws of the data
# ----------------------
accuracy = {"before": [], "retrain": [], "drawn by REWEIGHT": [], "weighted by REWEIGHT": []}
for seed in range(5):
    (X, y, a), (X_test, y_test, a_test) = load(seed)
    forget = sample_forget_set(y, a, forget_groups=("even", "orange"), random_state=seed)
    rest = np.setdiff1d(np.arange(len(y)), forget)
    models = [
        SVC().fit(X, y),
        SVC().fit(X[rest], y[rest]),
        retrain_on_draws(X, y, a, rest, seed),
        retrain_with_weights(X, y, a, rest),
    ]
    for name, model in zip(accuracy, models, strict=True):
        accuracy[name].append(group_accuracies(y_test, model.predict(X_test), groups=a_test))

runs = {name: pd.concat(values, axis=1) for name, values in accuracy.items()}
mean = 100 * pd.DataFrame({name: values.mean(axis=1) for name, values in runs.items()})
spread = 100 * pd.DataFrame({name: values.std(axis=1, ddof=0) for name, values in runs.items()})
mean.index = spread.index = [f"{label}, {colour}" for label, colour in mean.index]
print(mean.round(1).to_string())

# %%
# Accuracy of each group on test rows, mean and standard deviation. Retraining without the rows
# costs their group most of its accuracy; with REWEIGHT it is near what it was with this classifier.
styles = model_styles(["before", "retrain", "retrain + reweight"])  # as in all figures
colors = [*(style["color"] for style in styles.values()), "0.75"]
figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
mean.plot.bar(yerr=spread, capsize=2, rot=0, color=colors, ax=ax)
ax.set(ylabel="test accuracy (%)", ylim=(0, 105))
ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=4, frameon=False)
ax.spines[["top", "right"]].set_visible(False)
# sphinx_gallery_thumbnail_number = -1
plt.show()
