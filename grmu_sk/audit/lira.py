"""LiRA: does the model answer like those trained on the row, or like those never shown it."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..utils.arguments import check_types
from ._signals import check_signals

__all__ = ["lira_scores"]

# Nets that all agree on a row have no spread, and a row that differs would score infinitely.
_SMALLEST_DEVIATION = 1e-6


def lira_scores(
    log_odds: ArrayLike,
    reference_log_odds: ArrayLike,
    is_in: ArrayLike,
    *,
    variance: Literal["shared", "per_row"] = "shared",
    online: bool = True,
) -> NDArray[np.float64]:
    r"""Score each row by a likelihood ratio of Gaussians fitted to reference models.

    With :math:`\phi_i = \log \frac{p(y_i|x_i)}{1 - p(y_i|x_i)}` of the attacked model, and
    :math:`\mu, \sigma` the mean and the standard deviation of the same number over the reference
    models that were trained on row :math:`i` ("in") and over the others ("out"), the score is [1]_

    .. math::

        \log \mathcal{N}(\phi_i; \mu_{in,i}, \sigma_{in}^2)
        - \log \mathcal{N}(\phi_i; \mu_{out,i}, \sigma_{out}^2)

    or, offline, :math:`(\phi_i - \mu_{out,i}) / \sigma_{out}`. The higher it is, the more the
    model looks as if it had been trained on the row.

    Parameters
    ----------
    log_odds : array-like of shape (n_samples,)
        :math:`\phi` of the attacked model.
    reference_log_odds : array-like of shape (n_models, n_samples)
        :math:`\phi` of the reference models.
    is_in : bool array-like of shape (n_models, n_samples)
        Whether the reference model was trained on the row.
    variance : {"shared", "per_row"}, default="shared"
        - "shared": one variance for all rows, of the deviations from each row's own mean. For few
          models, see [1]_.
        - "per_row": the sample variance of each row; needs two models of each kind.
    online : bool, default=True
        Whether models trained on the row are used.

    Returns
    -------
    ndarray of shape (n_samples,)
        Scores; online in nats, offline in standard deviations.

    Raises
    ------
    TypeError
        If an argument is of another kind.
    ValueError
        If shapes do not fit, numbers are not finite, an option is unknown, or a row has too few
        reference models.

    See Also
    --------
    rmia_scores : Needs fewer models for the same power.

    References
    ----------
    .. [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis and F. Tramèr, "Membership Inference
       Attacks From First Principles", IEEE Symposium on Security and Privacy, 2022.

    Examples
    --------
    >>> from grmu_sk.audit import lira_scores
    >>> references = [[2.0, 2.2], [0.0, 0.2], [2.4, 2.6], [0.4, 0.6]]
    >>> is_in = [[True, True], [False, False], [True, True], [False, False]]
    >>> lira_scores([2.2, 0.4], references, is_in).round(1).tolist()
    [25.0, -25.0]
    """
    check_types(lira_scores, locals())
    at_least = 1 if variance == "shared" else 2
    target, references, inside = check_signals(
        log_odds, reference_log_odds, is_in, n_in=at_least if online else 0, n_out=at_least
    )
    out_mean, out_deviation = _gaussian(references, ~inside, variance)
    z_out = (target - out_mean) / out_deviation
    if not online:
        return z_out
    in_mean, in_deviation = _gaussian(references, inside, variance)
    z_in = (target - in_mean) / in_deviation
    return (z_out**2 - z_in**2) / 2 + np.log(out_deviation / in_deviation)


def _gaussian(
    references: NDArray[np.float64], used: NDArray[np.bool_], variance: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each row over the models that are used for it."""
    counts = used.sum(axis=0)
    mean = np.where(used, references, 0.0).sum(axis=0) / counts
    squares = np.where(used, (references - mean) ** 2, 0.0).sum(axis=0)
    freedom = counts - 1
    if variance == "shared":
        if not freedom.any():
            raise ValueError(
                "No row has two reference models of the same kind, so their spread is unknown. "
                "Train more reference models."
            )
        squares, freedom = np.full(len(mean), squares.sum()), np.full(len(mean), freedom.sum())
    return mean, np.maximum(np.sqrt(squares / freedom), _SMALLEST_DEVIATION)
