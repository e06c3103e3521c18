"""
Bring your own trained net
==========================

The net in production was trained long ago, by other code. There are three ways to ``unlearn``, and
none of them trains it again: a fitted skorch net, a skorch checkpoint, and a plain
:class:`torch.nn.Module` with weights.

All three end in :class:`sklearn.frozen.FrozenEstimator`, scikit-learn's way to say "this is
trained already". ``fit`` then only records which rows there are, and which group each belongs to.
MIU stands for any method that goes on from a trained net: :doc:`/guide/methods` says which to
choose.
"""

# %%
# A net somebody trained
# ----------------------
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from grmu_sk import MIUUnlearner, sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds
from grmu_sk.metrics import per_sample_cross_entropy
from grmu_sk.nets import SmallCNN
from grmu_sk.plotting import LossDistributionDisplay

data = load_digits_on_backgrounds(random_state=0)
X, y, a = (data[name][data.train] for name in ("images", "target", "groups"))
X_new, y_new = data.images[data.validation], data.target[data.validation]


def make_net():
    """Return the untrained net; the architecture has to be known, whatever the way."""
    return NeuralNetClassifier(
        SmallCNN,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=0.05,
        max_epochs=15,
        batch_size=64,
        train_split=None,
        verbose=0,
    )


torch.set_num_threads(1)
torch.manual_seed(0)
trained = make_net().fit(X, y)

# %%
# Way 1: the fitted skorch net
# ----------------------------
# ``keep_forgotten`` is for evaluation: it keeps the forgotten rows in the object, which is exactly
# what must not happen in production. It stays off here; the rows we look at later are our own.
unlearner = MIUUnlearner(FrozenEstimator(trained), lr=0.02, max_epochs=10, random_state=0)
unlearner.fit(X, y, a)
same = np.allclose(unlearner.predict_proba(X_new), trained.predict_proba(X_new), atol=1e-6)
print("fit changed nothing:", same)

# %%
# Way 2: a skorch checkpoint
# ---------------------------
# A checkpoint holds weights, not the architecture. Files of weights are read with torch's
# ``weights_only`` loader or as safetensors; never unpickle a checkpoint you did not write.
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "net.safetensors"
    trained.save_params(f_params=file, use_safetensors=True)
    loaded = make_net().initialize()
    loaded.load_params(f_params=file, use_safetensors=True)
from_checkpoint = MIUUnlearner(FrozenEstimator(loaded), random_state=0).fit(X, y, a)
print("same predictions:", (from_checkpoint.predict(X_new) == trained.predict(X_new)).all())

# %%
# Way 3: a plain torch module
# ----------------------------
# Wrap it in a skorch net and copy the weights. The learning rate, optimizer and batch size you
# write here are those that unlearning will use.
module = SmallCNN()
module.load_state_dict(trained.module_.state_dict())

wrapped = make_net().initialize()
wrapped.module_.load_state_dict(module.state_dict())
from_module = MIUUnlearner(FrozenEstimator(wrapped), random_state=0).fit(X, y, a)
print("same predictions:", (from_module.predict(X_new) == trained.predict(X_new)).all())

# %%
# Forget
# ------
# What the net says about the rows that ask, before and after: their losses, beside those of the
# remaining training rows and of rows the net never saw. A trained net is sure of nearly all its
# training rows. Of unseen rows some have a large loss, and so should some of the forgotten ones.
#
# Shaded are the losses that the membership attack of the metric MIA_balanced takes for those of
# members. If it says nearly the same of members and of unseen rows, it proves little.
# See :doc:`/guide/metrics`.
forget = sample_forget_set(y, a, forget_groups=data.smallest_group, ratio=0.5, random_state=0)


def losses(rows):
    """Return the loss of each row under the net as it is now."""
    classes = unlearner.classes_
    return per_sample_cross_entropy(rows[1], unlearner.predict_proba(rows[0]), classes=classes)


rest = np.setdiff1d(np.arange(len(y)), forget)
remaining, asking, unseen = (X[rest], y[rest]), (X[forget], y[forget]), (X_new, y_new)

figure, axes = plt.subplots(2, 1, figsize=(8, 9), layout="constrained", sharex=True)
for ax, moment in zip(axes, ["before", "after"], strict=True):
    if moment == "after":
        unlearner.unlearn(forget)
    of_all = [losses(rows) for rows in (remaining, asking, unseen)]
    LossDistributionDisplay(*of_all).plot(ax=ax)
    ax.set_title(moment)
    large = [f"{100 * np.mean(loss > 0.1):.0f}%" for loss in of_all]
    print(f"{moment}: loss above 0.1 of remaining, forgotten and unseen rows: {', '.join(large)}")
# sphinx_gallery_thumbnail_number = -1
plt.show()

# %%
# The net you brought is untouched and has forgotten nothing: it, its checkpoints and every copy
# of them are yours to delete. The unlearner holds no original weight any more.
print("your net is unchanged:", np.array_equal(trained.predict(X), loaded.predict(X)))
held = unlearner.estimator.estimator.module_.state_dict()
original = trained.module_.state_dict()
print("weights still held:", [name for name in held if torch.equal(held[name], original[name])])
