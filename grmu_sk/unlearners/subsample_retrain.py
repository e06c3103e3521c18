"""Retraining from scratch on equally many rows of every group."""

from __future__ import annotations

import torch
from skorch import NeuralNet

from ..base import Request
from ..rows import Rows
from ..training import Phase
from ._from_scratch import FromScratchUnlearner

__all__ = ["SubsampleRetrainUnlearner"]


class SubsampleRetrainUnlearner(FromScratchUnlearner):
    r"""Retrain from scratch on equally many of the remaining rows of every group.

    Forgetting is exact: a net with new random weights is trained, with the recipe of ``fit``, on
    remaining rows alone. Of every group :math:`g = (y, a)` as many rows are drawn, without
    replacement and once per request, as the smallest group has,

    .. math:: n = \min_g |\{i \in D_r : g_i = g\}|,

    and each row drawn is seen once an epoch. This simple balancing (SUBG in [1]_) competes with
    far more involved methods on the worst group, at a fraction of the cost: an epoch has only
    :math:`n` rows a group. The price is the rows left out; with a very small group hardly
    anything is left to train on.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. New weights are those that its
        parameters give: see :doc:`/guide/faq`.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retrain"``), over all runs.

    See Also
    --------
    RetrainUnlearner : Retrain on all that remains, by default so that groups keep their shares.
    GroupDROUnlearner : Retrain for the worst group.

    Notes
    -----
    Groups without any remaining row take no part. ``fit`` itself trains on all rows.

    The net's ``max_epochs`` and learning rate are those of ``fit``, so that there are fewer
    updates in all; in [1]_ both are chosen for each method on validation rows.

    References
    ----------
    .. [1] Idrissi, Arjovsky, Pezeshki and Lopez-Paz, "Simple data balancing achieves competitive
       worst-group-accuracy", CLeaR 2022.

    Examples
    --------
    >>> from grmu_sk import SubsampleRetrainUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> balanced = SubsampleRetrainUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> balanced.history_[-1, "phase"], len(balanced.remaining_idx_)
    ('retrain', 198)
    """

    method_name = "subsample_retrain"
    _needs_groups = True

    def _phase(self, net: NeuralNet, request: Request) -> Phase:
        groups = request.data.g[request.data.positions(request.retain)]
        return Phase("retrain", _equally_many(request.retain, groups))


def _equally_many(rows: Rows, groups: torch.Tensor) -> Rows:
    """Draw, of each group, as many rows as the smallest has."""
    present, sizes = groups.unique(return_counts=True)
    shuffled = torch.randperm(len(rows))
    first = [shuffled[groups[shuffled] == g][: int(sizes.min())] for g in present]
    return rows[torch.cat(first).sort().values.numpy()]
