"""Fine-tuning: go on training on what remains."""

from __future__ import annotations

from typing import Any

from ..base import Request
from ..training import Phase
from ..utils._random import RandomState
from ._approximate import ApproximateUnlearner

__all__ = ["FineTuneUnlearner"]


class FineTuneUnlearner(ApproximateUnlearner):
    r"""Go on training on the remaining rows, and let the net forget the others by itself.

    Each epoch is one pass over the remaining rows :math:`D_r` with the net's own criterion
    :math:`\ell`,

    .. math:: L = \frac{1}{|D_r|} \sum_{i \in D_r} \ell(f(x_i), y_i).

    Rows to forget are never read. This is the simplest baseline [1]_, and with
    ``reweight=True`` the control that tells what REWEIGHT alone does, without any forgetting.

    The result is the last epoch's. Optimizer and learning-rate schedule are the net's own, built
    anew; a schedule whose ``T_max`` is the net's ``max_epochs`` ends with ``max_epochs`` of this
    class instead.

    Parameters
    ----------
    estimator : skorch net, FrozenEstimator or None, default=None
        The net to train: an unfitted :class:`skorch.NeuralNetClassifier` (or subclass). Wrapped
        in :class:`sklearn.frozen.FrozenEstimator`, a trained net is taken as it is and ``fit``
        trains nothing. None gives a small default net.
    max_epochs : int, default=10
        Epochs of an unlearning run.
    lr : float or None, default=None
        Learning rate of the unlearning run; None means the net's.
    batch_size : int or None, default=None
        Rows a batch of the unlearning run; None means the net's.
    reweight : bool or "uniform", default=False
        Whether the remaining rows are sampled by REWEIGHT [2]_, with replacement, so that groups
        keep the mix of the training data; needs ``groups``. Otherwise each remaining row is seen
        once an epoch.
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
        A row for each epoch and phase (``"fit"``, ``"retain"``), over all runs.
    seed_ : int
        The seed used.
    n_features_in_ : int
        Size of the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Column names, if X was a DataFrame.

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

    def __init__(
        self,
        estimator: Any = None,
        *,
        max_epochs: int = 10,
        lr: float | None = None,
        batch_size: int | None = None,
        reweight: bool | str = False,
        random_state: RandomState = None,
        store_data: bool = True,
        keep_forgotten: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            max_epochs=max_epochs,
            lr=lr,
            batch_size=batch_size,
            reweight=reweight,
            random_state=random_state,
            store_data=store_data,
            keep_forgotten=keep_forgotten,
        )

    def _phases(self, request: Request) -> list[Phase]:
        weights = request.retain_weights(self.reweight)
        return [Phase("retain", request.retain, weights=weights)]
