"""CF-k: let the last k layers forget by training them on what remains."""

from __future__ import annotations

from ._last_layers import LastLayersUnlearner

__all__ = ["CFkUnlearner"]


class CFkUnlearner(LastLayersUnlearner):
    r"""Catastrophic forgetting in the last k layers.

    A net that goes on training without some rows slowly forgets them. CF-k [1]_ does that to the
    last k layers and freezes all others,

    .. math:: \min_{\theta_{last}} \; E_{i \in D_r}\,[\ell(f_\theta(x_i), y_i)],

    starting from the trained weights, with :math:`\ell` the net's criterion and :math:`D_r` the
    remaining rows, drawn by REWEIGHT if ``reweight=True``. With k as large as the number of layers
    it is plain fine-tuning.

    Frozen means to the last bit: neither weight decay nor momentum moves a frozen weight, and
    frozen BatchNorm layers use their running statistics and leave them alone. Dropout in frozen
    layers stays on while training. The result is the last epoch's.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs.

    See Also
    --------
    EUkUnlearner : Draws these layers anew first.
    RetrainUnlearner : Exact: trains all layers from new weights.

    Notes
    -----
    Approximate: what the frozen layers learned from the forgotten rows stays in them, unchanged.

    The paper presents k as a trade-off and the authors' code makes every user choose it; the
    default is the cheapest choice.

    References
    ----------
    .. [1] Goel et al., "Towards Adversarial Evaluations for Inexact Machine Unlearning",
       arXiv:2201.06640, 2022.

    Examples
    --------
    >>> from grmu_sk import CFkUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = CFkUnlearner(random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-2:, ("epoch", "phase")]
    [(9, 'retain'), (10, 'retain')]
    """

    method_name = "cf_k"
    search_grid = {"k": [1, 2, 3, 4]}
    _keeps_weights = True
