"""
A method of one's own
=====================

A method is one small class: its parameters, declared once, and its phases with what each
minimises. Everything else (validation, row numbers, seeds, checkpoints, what must not be
remembered) comes from the base class, and ``check_unlearner`` tells whether its promises hold.
"""

# %%
# The method: push the rows to forget towards the uniform prediction, the answer of a net that
# knows nothing about them, and go on training on the rest. With :math:`p_c(x)` the probability of
# class c of C, the forget phase minimises the cross-entropy between the uniform distribution and
# the prediction,
#
# .. math:: L_f = -\frac{1}{C} \sum_c \log p_c(x),
#
# and the retain phase the net's own criterion. Constructor, checks of the parameter and the
# inherited part of the documentation follow from the declaration of ``weight``.
import torch

from grmu_sk.base import Request
from grmu_sk.outputs import log_probabilities
from grmu_sk.parameters import POSITIVE, parameter
from grmu_sk.training import Batch, Phase
from grmu_sk.unlearners.approximate import RetainingUnlearner


class UniformUnlearner(RetainingUnlearner):
    """Push rows to forget towards the uniform prediction.

    Parameters
    ----------
    weight : float, default=1.0
        Weight of the forget phase's loss.
    """

    method_name = "uniform"
    search_grid = {"weight": [0.3, 1.0]}
    _phases_that_read_forgotten = ("forget",)

    weight: float = parameter(1.0, POSITIVE)

    def _phases(self, request: Request) -> list[Phase]:
        def forget_loss(batch: Batch) -> torch.Tensor:
            return -self.weight * log_probabilities(request.net, batch.output).mean()

        return [
            Phase("forget", request.forget, loss=forget_loss),
            Phase("retain", request.retain, weights=request.retain_weights(self.reweight)),
        ]


print(UniformUnlearner.__doc__[:330], "...")

# %%
# Does it keep the promises of every method? Among them: equal seeds give equal bits, requests add
# up, nothing of a forgotten row is left in the object or its files, a fault leaves the object as
# it was. A broken promise raises, and says which.
from grmu_sk.testing import check_unlearner

check_unlearner(UniformUnlearner(max_epochs=2, lr=0.01))
print("All promises hold.")

# %%
# Used like any other.
import numpy as np
from matplotlib import pyplot as plt

from grmu_sk import sample_forget_set
from grmu_sk.datasets import load_digits_on_backgrounds

data = load_digits_on_backgrounds(random_state=0)
X, y, a = (data[name][data.train] for name in ("images", "target", "groups"))
forget = sample_forget_set(y, a, forget_groups=(0, 1), ratio=0.5, random_state=0)

unlearner = UniformUnlearner(lr=0.01, reweight=True, random_state=0).fit(X, y, a)
before = unlearner.predict_proba(X[forget])[np.arange(len(forget)), y[forget]]
unlearner.unlearn(forget)
after = unlearner.predict_proba(X[forget])[np.arange(len(forget)), y[forget]]
print(f"probability of the true label of forgotten rows: {before.mean():.2f} -> {after.mean():.2f}")

figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.hist(
    [before, after],
    bins=np.linspace(0, 1, 11),
    label=["before", "after"],
    color=["0.45", "#D55E00"],
)
ax.set_xlabel("probability of the true label")
ax.set_ylabel("forgotten rows")
ax.legend()
plt.show()
# sphinx_gallery_thumbnail_number = 1

# %%
# A package of yours makes it known to ``all_unlearners()``, ``grmu demo --methods uniform``,
# ``grmu bench`` and ``preflight`` by an entry point in its ``pyproject.toml``::
#
#     [project.entry-points."grmu_sk.unlearners"]
#     uniform = "your_package.uniform:UniformUnlearner"
