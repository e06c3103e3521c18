"""Per-row fidelity: how far each answer is from that of models that never saw the rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from ..groups import codes_of
from ..validation import label_column

__all__ = ["klom_scores", "log_odds_of_label", "row_distance_score"]


def log_odds_of_label(
    y: ArrayLike, log_proba: ArrayLike, *, classes: ArrayLike
) -> NDArray[np.float64]:
    r"""Log-odds that a model gives to the true label of each row, also called its margin.

    .. math:: m_i = \log p_{i,y_i} - \log \sum_{c \ne y_i} p_{i,c}

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        True labels.
    log_proba : array-like of shape (n_samples, n_classes)
        Logarithms of predicted probabilities, as ``predict_log_proba`` returns them. Logits do as
        well. Logarithms taken of probabilities do not: these round to 1 where a net is sure.
    classes : array-like of shape (n_classes,)
        The label of each column.

    Returns
    -------
    ndarray of shape (n_samples,)
        In nats.

    Raises
    ------
    ValueError
        If shapes do not fit, a label is none of ``classes``, or a value is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.metrics import log_odds_of_label
    >>> log_odds_of_label(["b"], np.log([[0.2, 0.8]]), classes=["a", "b"]).round(4).tolist()
    [1.3863]
    """
    columns = label_column(classes, name="classes")
    true = codes_of(label_column(y, name="y"), columns, "y")
    values = np.array(log_proba, dtype=np.float64)
    expected = (len(true), len(columns))
    if values.shape != expected:
        raise ValueError(f"log_proba has shape {values.shape}, expected {expected}.")
    if np.isnan(values).any():
        raise ValueError("log_proba holds NaN: did training diverge?")
    rows = np.arange(len(true))
    own = values[rows, true]
    values[rows, true] = -np.inf
    margins: NDArray[np.float64] = own - logsumexp(values, axis=1)
    return margins


def row_distance_score(log_odds: ArrayLike, oracles: ArrayLike) -> float:
    r"""Root mean square distance of a model's log-odds to those of oracles, row by row.

    .. math::

        d = \sqrt{\frac{1}{N K} \sum_{i=1}^{N} \sum_{k=1}^{K} (m_i - o_{k,i})^2}

    An oracle is a model that never saw the rows: the gold standard from another seed. Averages
    over rows, such as UA or the average gap, can agree where the rows that are right are others;
    this cannot. Its floor is the distance of one more oracle, not zero: two retrained models
    differ, too.

    Parameters
    ----------
    log_odds : array-like of shape (n_samples,)
        Of the model, see :func:`log_odds_of_label`.
    oracles : array-like of shape (n_oracles, n_samples)
        Of each oracle, on the same rows.

    Returns
    -------
    float
        In nats; 0 or more.

    Raises
    ------
    ValueError
        If shapes do not fit, or a value is not finite.

    See Also
    --------
    klom_scores : Compares the distributions over several models instead.

    Examples
    --------
    >>> from grmu_sk.metrics import row_distance_score
    >>> row_distance_score([1.0, 2.0], [[1.0, 0.0]])
    1.4142135623730951
    """
    model, of_oracles = _checked(np.atleast_2d(np.asarray(log_odds, dtype=float)), oracles)
    if len(model) != 1:
        raise ValueError("log_odds must be those of one model; klom_scores compares several.")
    return float(np.sqrt(np.mean((model - of_oracles) ** 2)))


def klom_scores(
    log_odds: ArrayLike, oracles: ArrayLike, *, n_bins: int = 20, clip: float = 100.0
) -> NDArray[np.float64]:
    r"""KLoM: divergence of the log-odds of unlearned models from those of oracles, for each row.

    The log-odds m of N unlearned models on a row, and o of K oracles, are clipped to
    :math:`\pm` ``clip`` and counted in ``n_bins`` bins of equal width between the smallest and the
    largest of all. With the shares :math:`P_b` and :math:`Q_b` of the bins,

    .. math:: KLoM = \sum_{b : P_b > 0} P_b \log \frac{P_b}{\max(Q_b, 10^{-5})}

    with the bins and limits of its authors [1]_. It is 0 for equal shares and 11.5 at most.

    Parameters
    ----------
    log_odds : array-like of shape (n_models, n_samples)
        Of models that unlearned the same rows from other seeds, see :func:`log_odds_of_label`.
    oracles : array-like of shape (n_oracles, n_samples)
        Of models trained without these rows from other seeds.
    n_bins : int, default=20
        Number of bins.
    clip : float, default=100.0
        Largest absolute value.

    Returns
    -------
    ndarray of shape (n_samples,)
        In nats.

    Raises
    ------
    ValueError
        If shapes do not fit, or a value is not finite.

    See Also
    --------
    row_distance_score : Works with a single model.

    Notes
    -----
    With few models the bins are nearly empty and two sets of oracles are far apart as well: hold
    the result against that of a second set of oracles, of the same size.

    In the code of [1]_ the largest value of all falls out of the last bin, and the shares Q are
    scaled to sum to one again.

    References
    ----------
    .. [1] K. Georgiev, R. Rinberg, S. M. Park, S. Garg, A. Ilyas, A. Madry and S. Neel.
       "Attribute-to-Delete: Machine Unlearning via Datamodel Matching". ICLR 2025.

    Examples
    --------
    >>> from grmu_sk.metrics import klom_scores
    >>> klom_scores([[0.0], [1.0]], [[0.0], [1.0]]).tolist()
    [0.0]
    """
    models, of_oracles = _checked(np.asarray(log_odds, dtype=float), oracles)
    models, of_oracles = (np.clip(part, -clip, clip) for part in (models, of_oracles))
    scores = np.empty(models.shape[1])
    for row, (m, o) in enumerate(zip(models.T, of_oracles.T, strict=True)):
        edges = np.histogram_bin_edges(np.concatenate([m, o]), n_bins)
        p, q = (np.histogram(part, edges)[0] / len(part) for part in (m, o))
        scores[row] = np.sum(p[p > 0] * np.log(p[p > 0] / np.maximum(q[p > 0], 1e-5)))
    return scores


def _checked(
    models: NDArray[np.float64], oracles: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    of_oracles = np.asarray(oracles, dtype=float)
    if models.ndim != 2 or of_oracles.ndim != 2 or models.shape[1] != of_oracles.shape[1]:
        raise ValueError("log_odds and oracles must have a row a model, and the same columns.")
    if not (np.isfinite(models).all() and np.isfinite(of_oracles).all()):
        raise ValueError("log_odds and oracles must be finite.")
    return models, of_oracles
