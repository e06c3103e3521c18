"""
Fairness before and after a request, with fairlearn
===================================================

An unlearner is a classifier: predictions are labels and attributes are columns, so fairlearn works
on it as on any other. Here its :class:`~fairlearn.metrics.MetricFrame` compares a model before a
deletion request with three models after it.

This example needs fairlearn: ``pip install ".[examples]"`` in a copy of the source.
"""

# %%
# The data
# --------
# Rows of real people: 15,673 photographs of FairFace, each as 96 numbers, which are part of the
# package. The label is gender, as FairFace's annotators saw it; the protected attribute is race.
# Half of the Black women ask to be forgotten.
import numpy as np
import pandas as pd
import torch
from fairlearn.metrics import MetricFrame, selection_rate, true_positive_rate
from matplotlib import pyplot as plt
from sklearn.metrics import accuracy_score
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from skorch.dataset import ValidSplit

from grmu_sk import AsUnseenUnlearner, RetrainUnlearner, sample_forget_set
from grmu_sk.datasets import load_embedded_faces
from grmu_sk.nets import MLP
from grmu_sk.plotting import GroupAccuracyDisplay

data = load_embedded_faces(target="gender", attribute="race")
gender, race = np.array(data.target_names)[data.target], np.array(data.group_names)[data.groups]
X, y, a = data.data[data.train], gender[data.train], race[data.train]
X_test, y_test, a_test = data.data[data.test], gender[data.test], race[data.test]

asking = ("Female", "Black")
forget = sample_forget_set(y, a, forget_groups=asking, ratio=0.5, random_state=0)
print(f"{len(forget)} of {len(y)} rows, all of group {asking}")

# %%
# Four models
# -----------
# Before the request, retrained without the rows, retrained with REWEIGHT (the gold standard), and
# the recommended approximate method, which needs rows that the net holds out (``train_split``).
torch.set_num_threads(1)
net = NeuralNetClassifier(
    MLP,
    module__n_features=X.shape[1],
    module__n_classes=2,
    module__hidden=(256, 256),
    criterion=torch.nn.CrossEntropyLoss,
    optimizer=torch.optim.SGD,
    optimizer__momentum=0.9,
    lr=0.05,
    max_epochs=10,
    callbacks=[LRScheduler("CosineAnnealingLR", T_max=10)],
    batch_size=128,
    train_split=ValidSplit(0.15, stratified=True, random_state=0),
    verbose=0,
)
before = RetrainUnlearner(net, random_state=0).fit(X, y, a)
models = {
    "before": before,
    "retrain": RetrainUnlearner(net, reweight=False, random_state=0).fit(X, y, a).unlearn(forget),
    "retrain + reweight": RetrainUnlearner(net, random_state=0).fit(X, y, a).unlearn(forget),
    "as_unseen + reweight": AsUnseenUnlearner(net, reweight=True, random_state=0)
    .fit(X, y, a)
    .unlearn(forget),
}

# %%
# What fairlearn says
# -------------------
# fairlearn reads groups as attributes alone. Its true-positive rate of an attribute is this
# package's accuracy of the group ("Female", attribute).
attribute = pd.Series(a_test, name="race")
positive = {"pos_label": "Female"}
rates = {
    "accuracy": accuracy_score,
    "selection rate": lambda y_true, y_pred: selection_rate(y_true, y_pred, **positive),
    "true-positive rate": lambda y_true, y_pred: true_positive_rate(y_true, y_pred, **positive),
}
frames = {
    name: MetricFrame(
        metrics=rates, y_true=y_test, y_pred=model.predict(X_test), sensitive_features=attribute
    )
    for name, model in models.items()
}
rate = pd.DataFrame({name: frame.by_group["true-positive rate"] for name, frame in frames.items()})
print((100 * rate).round(1).to_string())
for name, frame in frames.items():
    largest = frame.difference()
    print(f"{name}: largest difference in true-positive rate {largest['true-positive rate']:.3f}")

# %%
# What each group experiences
# ---------------------------
# The number of test rows stands beside each group. One run is one run: repeat it with several
# seeds before you conclude anything from a difference of a few points.
GroupAccuracyDisplay.from_estimator(models, X_test, y_test, a_test, gold="retrain + reweight")
# sphinx_gallery_thumbnail_number = -1
plt.show()
