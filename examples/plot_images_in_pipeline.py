"""
Images as a table, in a pipeline
================================

Many image classifiers in production are small: images are embedded once, and a scaler and a
classifier work on the table of embeddings. An unlearner is the last step of such a pipeline.
Protected attribute and forget mask reach it by scikit-learn's metadata routing.

Here the embedding is principal components of the pixels; features of a large network, computed
once and kept as a table, work the same way. MIU stands for any unlearner: :doc:`/guide/methods`
says which to choose.
"""

# %%
# The pipeline
# ------------
# ``groups`` and ``forget`` are requested by the unlearner itself: nothing has to be configured but
# the switch for routing.
import numpy as np
import sklearn
from matplotlib import pyplot as plt
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from grmu_sk import MIUUnlearner, RetrainUnlearner, sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.plotting import GroupAccuracyDisplay

data = load_digits_on_backgrounds(random_state=0)
target, background = (
    np.array(data.target_names)[data.target],
    np.array(data.group_names)[data.groups],
)
X, y, a = data.images[data.train], target[data.train], background[data.train]
X_test, y_test, a_test = data.images[data.test], target[data.test], background[data.test]

forget = sample_forget_set(y, a, forget_groups=("even", "orange"), ratio=0.5, random_state=0)
mask = np.zeros(len(y), dtype=bool)
mask[forget] = True


def flatten(images):
    """Return one row of pixels an image."""
    return images.reshape(len(images), -1)


def pipeline(unlearner):
    """Return embedding, scaler and classifier."""
    embedding = PCA(40, random_state=0)
    return make_pipeline(FunctionTransformer(flatten), embedding, StandardScaler(), unlearner)


miu = pipeline(MIUUnlearner(lr=0.02, random_state=0))
with sklearn.config_context(enable_metadata_routing=True):
    miu.fit(X, y, groups=a)
    before = clone(miu).fit(X, y, groups=a)  # for the figure only

# %%
# A request
# ---------
# Row numbers are those of ``fit``. ``unlearn`` is a method of the last step, which keeps its own
# table of embeddings; the pipeline then predicts with the new net.
miu[-1].unlearn(forget)
print(f"{len(miu[-1].forget_idx_)} rows of {miu[-1].forget_groups_} forgotten")

# %%
# Without routing the step's name does the same. ``make_pipeline`` calls it ``miuunlearner``.
same = pipeline(MIUUnlearner(lr=0.02, random_state=0))
same.fit(X, y, miuunlearner__groups=a, miuunlearner__forget=mask)
print("same predictions:", (same.predict(X_test) == miu.predict(X_test)).all())

# %%
# What the earlier steps keep
# ---------------------------
# Means, standard deviations and components were computed from the forgotten rows as well, and
# ``unlearn`` does not touch them. Two ways out: fit the embedding on data that nobody will ask you
# to delete, or refit the whole pipeline without the rows, which is the exact answer.
rest = ~mask
with sklearn.config_context(enable_metadata_routing=True):
    # REWEIGHT needs to know which rows left, so the mask goes to the last step only
    gold = pipeline(RetrainUnlearner(random_state=0))
    gold[:-1].fit(X[rest])
    gold[-1].fit(gold[:-1].transform(X), y, groups=a, forget=mask)
moved = gold[1].components_ * np.sign(
    (gold[1].components_ * miu[1].components_).sum(axis=1, keepdims=True)
)
cosine = (moved * miu[1].components_).sum(axis=1)
print(f"cosine between old and new components, median of 40: {np.median(cosine):.3f}")

# %%
# The first components, fitted without the forgotten rows: background, then strokes.
figure, axes = plt.subplots(1, 8, figsize=(8, 1.4), layout="constrained")
for number, (ax, component) in enumerate(zip(axes, gold[1].components_, strict=False), start=1):
    image = component.reshape(3, 8, 8)
    ax.imshow(0.5 + 0.5 * (image / np.abs(image).max()).transpose(1, 2, 0))
    ax.set_title(f"{number}", fontsize=8)
    ax.set_axis_off()

# %%
# Accuracy of each group; differences are to the pipeline that was refitted.
GroupAccuracyDisplay.from_estimator(
    {"before": before, "refitted + reweight": gold, "miu + reweight": miu},
    X_test,
    y_test,
    a_test,
    gold="refitted + reweight",
)
# sphinx_gallery_thumbnail_number = -1
plt.show()
