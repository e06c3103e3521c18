"""Retraining from scratch: exact unlearning."""

from __future__ import annotations

from skorch import NeuralNet

from ..base import Request
from ..parameters import one_of, parameter
from ..training import Phase
from ._from_scratch import FromScratchUnlearner

__all__ = ["RetrainUnlearner"]


class RetrainUnlearner(FromScratchUnlearner):
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

    def _phase(self, net: NeuralNet, request: Request) -> Phase:
        weights = request.retain_weights(self.reweight)
        return Phase("retrain", request.retain, weights=weights)
