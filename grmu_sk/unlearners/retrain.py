"""Retraining from scratch: exact, with fewer epochs, or on equally many rows of every group."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from skorch import NeuralNet

from ..base import BaseUnlearner, Request
from ..classifiers import AnyClassifierUnlearner
from ..net_copies import fresh_net
from ..parameters import one_of, parameter
from ..rows import Rows
from ..training import Phase
from .approximate import RetainingUnlearner

__all__ = ["BudgetRetrainUnlearner", "RetrainUnlearner", "SubsampleRetrainUnlearner"]


class FromScratchUnlearner(BaseUnlearner):
    """Base class of methods that train a net with new weights, with the recipe of ``fit``."""

    _needs_trained_net = False
    _needs_fresh_weights = True

    @abstractmethod
    def _phase(self, net: NeuralNet | None, request: Request) -> Phase:
        """Return the one phase that trains the new net, or the rows and weights of a classifier."""

    def _unlearn(self, request: Request) -> NeuralNet:
        net = request.net = fresh_net(request.net, weights_from=None)
        return request.trained([self._phase(net, request)], net.max_epochs)


class FromScratchOfAnyKind(FromScratchUnlearner, AnyClassifierUnlearner):
    """Base class of those that fit any classifier to the rows and with the weights of the phase."""

    def _refit(self, request: Request) -> Any:
        phase = self._phase(None, request)
        return self._fitted_to(request.data, phase.rows, phase.weights, phase.name)


class RetrainUnlearner(FromScratchOfAnyKind):
    r"""Retrain from scratch on what remains; with REWEIGHT, the gold standard.

    Forgetting is exact: a net with new random weights is trained, with the recipe of ``fit``, on
    the remaining rows :math:`D_r` alone. With ``reweight=True`` [1]_ they are drawn with
    replacement so that groups :math:`g = (y, a)` keep the mix of the training data :math:`D`,

    .. math::

        \min_\theta \; E_{i \sim P}\,[\ell(f_\theta(x_i), y_i)], \qquad
        P(x_i) \propto \frac{|\{j \in D : g_j = g_i\}|}{|\{j \in D_r : g_j = g_i\}|},

    as many draws an epoch as there are remaining rows. With ``reweight=False`` each remaining row
    is seen once an epoch, and the group that asked for deletion most is seen less than before.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. New weights are those that its
        parameters give: see :doc:`/guide/faq`.
    reweight : bool or "uniform", default=True
        Whether to sample by REWEIGHT; needs ``groups``.
        ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retrain"``), over all runs.

    See Also
    --------
    MIUUnlearner : Approximate, without retraining.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import RetrainUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> gold = RetrainUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> gold.forget_idx_.tolist(), len(gold.remaining_idx_)
    ([3, 7], 198)
    """

    method_name = "retrain"

    reweight: bool | str = parameter(True, "boolean", one_of("uniform"))

    def _phase(self, net: NeuralNet | None, request: Request) -> Phase:
        weights = request.retain_weights(self.reweight)
        return Phase("retrain", request.retain, weights=weights)


class BudgetRetrainUnlearner(RetainingUnlearner):
    r"""Retrain from scratch on what remains, in as few epochs as an approximate method gets.

    The control of every comparison. An approximate method gives up the guarantee of having
    forgotten to save time; here the time is saved by training less. A net with new random weights
    is trained on the remaining rows :math:`D_r` alone, for ``max_epochs`` epochs,

    .. math:: \min_\theta \; E_{i \sim P}\,[\ell(f_\theta(x_i), y_i)],

    with :math:`\ell` the net's criterion and P uniform on :math:`D_r`, or REWEIGHT's [1]_.
    Forgetting is exact whatever the number of epochs. Where an approximate method is no closer to
    the gold standard (:class:`RetrainUnlearner` with all its epochs) than this one, it gains
    nothing.

    Optimizer and learning-rate schedule are the net's own, built anew; a schedule whose ``T_max``
    is the net's ``max_epochs`` ends with ``max_epochs`` of this class instead.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net. New weights are those that its
        parameters give: see :doc:`/guide/faq`.
    max_epochs : int, default=10
        Epochs of an unlearning run; the default is that of the approximate methods.
    reweight : bool or "uniform", default=False
        Whether to sample by REWEIGHT; needs ``groups``.
        ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retrain"``), over all runs.

    See Also
    --------
    RetrainUnlearner : Retrain with all epochs of ``fit``.

    Notes
    -----
    Equal epochs are not quite equal cost: many approximate methods also pass over the rows to
    forget, or run a second net.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import BudgetRetrainUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> cheap = BudgetRetrainUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> cheap.history_[:, "phase"].count("fit"), cheap.history_[:, "phase"].count("retrain")
    (20, 10)
    """

    method_name = "budget_retrain"
    search_grid = {"lr": [0.025, 0.05, 0.1, 0.2]}
    _needs_trained_net = False
    _needs_fresh_weights = True

    def _unlearn(self, request: Request) -> NeuralNet:
        request.net = fresh_net(request.net, weights_from=None)
        return super()._unlearn(request)

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        return [Phase("retrain", request.retain, weights=weights)]


class SubsampleRetrainUnlearner(FromScratchOfAnyKind):
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

    def _phase(self, net: NeuralNet | None, request: Request) -> Phase:
        groups = request.data.g[request.data.positions(request.retain)]
        return Phase("retrain", _equally_many(request.retain, groups))


def _equally_many(rows: Rows, groups: torch.Tensor) -> Rows:
    """Draw, of each group, as many rows as the smallest has."""
    present, sizes = groups.unique(return_counts=True)
    shuffled = torch.randperm(len(rows))
    first = [shuffled[groups[shuffled] == g][: int(sizes.min())] for g in present]
    return rows[torch.cat(first).sort().values.numpy()]
