"""Retraining from scratch in the few epochs an approximate method gets."""

from __future__ import annotations

from skorch import NeuralNet

from ..base import Request
from ..training import Phase, fresh_net
from .approximate import RetainingUnlearner

__all__ = ["BudgetRetrainUnlearner"]


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
