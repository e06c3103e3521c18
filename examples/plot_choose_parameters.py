"""
Choosing parameters without looking at the test rows
====================================================

Learning rate, calibration weight and number of epochs decide how good an approximate method is.
They have to be chosen on rows that are neither test rows nor the rows the result is reported on.
With scikit-learn that is a grid search over folds of the training rows, scored by the average gap
to a gold standard that is retrained in every fold.

Three leaks to avoid, and what prevents each here:

- choosing on test rows: the search only ever sees training rows;
- forgetting other rows than meant: ``forget`` is a mask, which is cut with the folds; row numbers
  would point to other rows inside a fold, and are refused;
- folds without rows to forget: :class:`~grmu_sk.model_selection.UnlearningStratifiedKFold` spreads
  every group and the forget set evenly.
"""

# %%
# The search
# ----------
# ``keep_forgotten=True`` lets the scorer look at the forgotten rows of each fold. It is for
# evaluation, and does not belong into the final model.
import numpy as np
import pandas as pd
import sklearn
from matplotlib import pyplot as plt
from sklearn.model_selection import GridSearchCV

from grmu_sk import MIUUnlearner, RetrainUnlearner, sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.metrics import group_accuracy_score
from grmu_sk.model_selection import UnlearningStratifiedKFold
from grmu_sk.scorers import avg_gap_scorer, ga_scorer

data = load_digits_on_backgrounds(random_state=0)
X = data.images.reshape(len(data.images), -1)  # a table trains fast; images work the same way
X, y, a = X[data.train], data.target[data.train], data.groups[data.train]
forget = sample_forget_set(y, a, forget_groups=data.smallest_group, ratio=0.5, random_state=0)
mask = np.zeros(len(y), dtype=bool)
mask[forget] = True

search = GridSearchCV(
    MIUUnlearner(random_state=0, keep_forgotten=True),
    {"lr": [0.003, 0.01, 0.03], "lam": [1.0, 10.0]},
    scoring={"avg_gap": avg_gap_scorer(RetrainUnlearner(random_state=0)), "ga": ga_scorer},
    refit=False,
    cv=UnlearningStratifiedKFold(n_splits=3, shuffle=True, random_state=0),
)
with sklearn.config_context(enable_metadata_routing=True):
    search.fit(X, y, groups=a, forget=mask)

results = pd.DataFrame(search.cv_results_)
scores = results[["param_lr", "param_lam", "mean_test_avg_gap", "std_test_avg_gap", "mean_test_ga"]]
print(scores.round(3).to_string(index=False))

# %%
# Is the chosen setting better than chance?
# -----------------------------------------
# The gold standard with another seed shows how close two retrainings come. No setting should be
# expected above that line, and differences smaller than the bars mean nothing.
reseeded = GridSearchCV(
    RetrainUnlearner(keep_forgotten=True),
    {"random_state": [1, 2]},
    scoring={"avg_gap": avg_gap_scorer(RetrainUnlearner(random_state=0))},
    refit=False,
    cv=search.cv,
)
with sklearn.config_context(enable_metadata_routing=True):
    reseeded.fit(X, y, groups=a, forget=mask)
ceiling = reseeded.cv_results_["mean_test_avg_gap"].mean()

# %%
# The final model
# ---------------
# The chosen setting is fitted on all training rows, without ``keep_forgotten``. Only now are test
# rows read, once.
best = results["mean_test_avg_gap"].idxmax()
final = MIUUnlearner(random_state=0, **results.loc[best, "params"]).fit(X, y, a, forget=mask)
X_test = data.images[data.test].reshape(len(data.test), -1)
test_ga = group_accuracy_score(
    data.target[data.test],
    final.predict(X_test),
    groups=data.groups[data.test],
    forget_groups=final.forget_groups_,
)
print(f"chosen: {results.loc[best, 'params']}")
print(f"accuracy of the group that asked, on test rows: {test_ga:.3f}")

# %%
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
for (lam, rows), marker, fill in zip(
    results.groupby("param_lam"), "os", ["#0072B2", "white"], strict=True
):
    ax.errorbar(
        rows["param_lr"].astype(float),
        100 * rows["mean_test_avg_gap"],
        yerr=100 * rows["std_test_avg_gap"],
        marker=marker,
        color="#0072B2",
        markerfacecolor=fill,
        capsize=3,
        label=f"lam={lam:g}",
    )
ax.axhline(100 * ceiling, color="black", linestyle="--", label="gold standard, other seeds")
ax.set(
    xscale="log",
    xlabel="learning rate of the unlearning run",
    ylabel="average gap on validation folds\n(100 = gold standard)",
)
ax.set_xticks([0.003, 0.01, 0.03], ["0.003", "0.01", "0.03"])
ax.minorticks_off()
ax.grid(axis="y", color="0.9")
ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=3, frameon=False)
# sphinx_gallery_thumbnail_number = -1
plt.show()
