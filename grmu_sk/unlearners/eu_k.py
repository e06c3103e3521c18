"""EU-k: retrain the last k layers from new weights."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet

from ._initial_weights import draw_initial_weights
from ._last_layers import LastLayersUnlearner

__all__ = ["EUkUnlearner"]


class EUkUnlearner(LastLayersUnlearner):
    r"""Exact unlearning of the last k layers.

    EU-k [1]_ freezes all but the last k layers, draws those anew and trains them on the remaining
    rows :math:`D_r`,

    .. math:: \min_{\theta_{last}} \; E_{i \in D_r}\,[\ell(f_\theta(x_i), y_i)],

    with :math:`\ell` the net's criterion and rows drawn by REWEIGHT if ``reweight=True``. The last
    k layers never saw the forgotten rows; the others keep what they learned from them. With k as
    large as the number of layers it is retraining.

    Frozen means to the last bit: neither weight decay nor momentum moves a frozen weight, and
    frozen BatchNorm layers use their running statistics and leave them alone. Dropout in frozen
    layers stays on while training. The result is the last epoch's.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net.
        Its ``module`` is built again, and what comes out (pretrained weights, if it loads some or
        was passed as an object that has some) is where the last layers start.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs.

    See Also
    --------
    CFkUnlearner : Starts from the trained weights of these layers.
    RetrainUnlearner : Exact: trains all layers from new weights.

    Notes
    -----
    Approximate: exact for the last k layers only, given the others.

    The paper presents k as a trade-off and the authors' code makes every user choose it; the
    default is the cheapest choice.

    References
    ----------
    .. [1] Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning",
       arXiv:2201.06640, 2022.

    Examples
    --------
    >>> from grmu_sk import EUkUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = EUkUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-2:, ("epoch", "phase")]
    [(9, 'retain'), (10, 'retain')]
    """

    method_name = "eu_k"
    search_grid = {"k": [1, 2, 3, 4]}
    _keeps_weights = True
    _needs_fresh_weights = True

    def _prepare(self, net: NeuralNet, layers: list[str], X: Any) -> None:
        for path, value in draw_initial_weights(net, layers, X).items():
            layer, _, name = path.rpartition(".")
            # in place, since the optimizer knows these parameters
            getattr(net.module_.get_submodule(layer), name).data = value
