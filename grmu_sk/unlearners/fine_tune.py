"""Fine-tuning: continue training on the remaining rows."""

from __future__ import annotations

from .approximate import RetainingUnlearner

__all__ = ["FineTuneUnlearner"]


class FineTuneUnlearner(RetainingUnlearner):
    r"""Continue training on the remaining rows, with no term that makes the net forget the others.

    Each epoch is one pass over the remaining rows :math:`D_r` with the net's own criterion
    :math:`\ell`,

    .. math:: L = \frac{1}{|D_r|} \sum_{i \in D_r} \ell(f(x_i), y_i).

    Rows to forget are never read. This is the simplest baseline [1]_, and with
    ``reweight=True`` the control that tells what REWEIGHT alone does, without any forgetting.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs.

    See Also
    --------
    L1SparseUnlearner : The same with a penalty that makes the weights sparse.
    RetrainUnlearner : Exact, starting from new weights.

    Notes
    -----
    Approximate, and weakly so: nothing pushes the net away from what it has learned, so a row is
    forgotten only as far as the other rows overwrite it.

    References
    ----------
    .. [1] Golatkar, Achille and Soatto, "Eternal Sunshine of the Spotless Net: Selective
       Forgetting in Deep Networks", CVPR 2020.
    .. [2] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk import FineTuneUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = FineTuneUnlearner(max_epochs=2, random_state=0).fit(X, y, a).unlearn([3, 7])
    >>> unlearner.history_[-3:, "phase"]
    ['fit', 'retain', 'retain']
    """

    method_name = "fine_tune"
    search_grid = {"lr": [0.005, 0.01, 0.02, 0.05]}
