"""No unlearning: a control."""

from __future__ import annotations

from typing import Any

from skorch import NeuralNet

from ..base import Request
from ..classifiers import AnyClassifierUnlearner
from ..training import Phase

__all__ = ["NoOpUnlearner"]


class NoOpUnlearner(AnyClassifierUnlearner):
    r"""Do nothing: the net stays as it was trained, :math:`\theta' = \theta`.

    A control, not a method: **what the net has learned from the rows is not forgotten.** It shows
    what a metric says when no unlearning takes place (the original net of a comparison), and a
    membership attack that finds nothing even here has proved nothing. Everything around the
    weights is as with the other methods: the rows are dropped from the object, the request is
    recorded, and later requests add up.

    Attributes
    ----------
    history_ : skorch.history.History
        A row for each epoch of ``"fit"``, and one with phase ``"none"`` and ``train_loss`` 0 for
        each request.

    See Also
    --------
    RetrainUnlearner : The other end: exact unlearning.

    Notes
    -----
    No row is read and no random number drawn in a request.

    Examples
    --------
    >>> from grmu_sk import NoOpUnlearner
    >>> from grmu_sk.datasets import load_digits_on_backgrounds
    >>> data = load_digits_on_backgrounds()
    >>> X, y, a = (data[name][data.train[:200]] for name in ("images", "target", "groups"))
    >>> unlearner = NoOpUnlearner(random_state=0).fit(X, y, a)
    >>> before = unlearner.predict(X)
    >>> unlearner.unlearn([3, 7]).forget_idx_.tolist()
    [3, 7]
    >>> bool((unlearner.predict(X) == before).all())
    True
    """

    method_name = "no_op"
    _changes_net = False
    _keeps_weights = True

    def _unlearn(self, request: Request) -> NeuralNet:
        return request.trained([Phase("none", request.retain, work=lambda epoch: [0.0])], 1)

    def _refit(self, request: Request) -> Any:
        return self.estimator_
