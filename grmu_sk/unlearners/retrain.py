"""Retraining from scratch: exact unlearning."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet

from ..base import Request, check_reweight
from ..training import Phase
from ..utils._random import RandomState
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
        trains nothing. None gives a small default net. Its ``module`` must be a class or a
        function: weights of a module *instance* could not be drawn anew.
    reweight : bool or "uniform", default=True
        Whether to sample by REWEIGHT; needs ``groups``.
        ``"uniform"`` draws all remaining rows with replacement and equal
        probability, the control that tells the effect of reweighting from that of replacement.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and draws. The caller's random state is never touched.
    store_data : bool, default=True
        Whether to keep a reference to the training rows, for ``unlearn``. With False they must be
        given to ``unlearn`` again. Forgotten rows are dropped in either case.
    keep_forgotten : bool, default=False
        Whether to keep forgotten rows in the object. For evaluation only: the object and its
        pickle then contain the data that was to be forgotten.

    Attributes
    ----------
    net_ : skorch net
        The net that predicts.
    classes_ : ndarray of shape (n_classes,)
        Target labels.
    forget_idx_, remaining_idx_ : ndarray
        Row numbers of ``fit`` that are forgotten, and that remain.
    forget_groups_ : list of tuple
        The pairs (y, attribute) of forgotten rows.
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retrain"``), over all runs.
    seed_ : int
        The seed used.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame.

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

    def __init__(
        self,
        estimator: Any = None,
        *,
        reweight: bool | str = True,
        random_state: RandomState = None,
        store_data: bool = True,
        keep_forgotten: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            random_state=random_state,
            store_data=store_data,
            keep_forgotten=keep_forgotten,
        )
        self.reweight = reweight

    @property
    def _needs_groups(self) -> bool:  # type: ignore[override]
        return bool(self.reweight) and self.reweight != "uniform"

    def _check_parameters(self) -> None:
        check_reweight(self.reweight)

    def _phase(self, net: NeuralNet, request: Request) -> Phase:
        weights = request.retain_weights(self.reweight)
        return Phase("retrain", request.retain, weights=weights)
