"""Membership inference on per-sample losses (MIA efficacy)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..groups import codes_of
from ..validation import check_option, label_column, to_numbers

# The smallest normal float32 number, for every dtype: losses of float32 and float64 compare.
_SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)
# What the rounding of half-precision softmax outputs can add up to.
_SUM_TOLERANCE = 0.01

# The coding matters: on a tie a forest answers with the smaller number, here non-member.
_NONMEMBER, _MEMBER = 0, 1
_PAPER_TREES = (20, 50, 100)


def per_sample_cross_entropy(
    y_true: ArrayLike, proba: ArrayLike, *, classes: ArrayLike
) -> NDArray[np.float64]:
    r"""Cross-entropy loss of every row.

    .. math::

        \ell_i = -\log \max\bigl(p_{i, y_i}, \varepsilon\bigr), \qquad
        \varepsilon = 2^{-126} \approx 1.2 \cdot 10^{-38}

    The logarithm is taken in float64. The clipping, the same for every dtype of ``proba``, keeps
    the loss of a row that the model is certainly wrong about finite: at most 87.3. Probabilities
    in double precision, as ``predict_proba`` of an unlearner gives them, keep the losses of rows
    apart that the model is sure about.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels, any hashable values.
    proba : array-like of shape (n_samples, n_classes)
        Predicted probabilities (not logits).
    classes : array-like of shape (n_classes,)
        The label of each column of ``proba``: the ``classes_`` of the estimator.

    Returns
    -------
    ndarray of shape (n_samples,)
        Losses in nats, in float64.

    Raises
    ------
    ValueError
        If shapes do not fit, a label is not in ``classes``, or the rows of ``proba`` are not
        probability distributions.

    See Also
    --------
    membership_inference_efficacy : The attack that uses these losses.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> from grmu_sk.metrics import per_sample_cross_entropy
    >>> losses = per_sample_cross_entropy(["b", "a"], [[0.5, 0.5], [1.0, 0.0]], classes=["a", "b"])
    >>> losses.round(4).tolist()
    [0.6931, 0.0]
    """
    labels, columns = label_column(y_true, name="y_true"), label_column(classes, name="classes")
    probabilities = check_probabilities(proba, len(labels), len(columns), name="proba")
    return losses_of(probabilities, codes_of(labels, columns, "y_true"))


def losses_of(
    probabilities: NDArray[np.float64], positions: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the cross-entropy of rows that were checked: ``positions`` are columns."""
    of_true_label = probabilities[np.arange(len(positions)), positions]
    # adding 0.0 turns the -0.0 of a certain row into 0.0
    return -np.log(np.clip(of_true_label, _SMALLEST_PROBABILITY, 1.0)) + 0.0


def check_probabilities(
    proba: ArrayLike, n_rows: int, n_classes: int, *, name: str
) -> NDArray[np.float64]:
    """Check predicted probabilities.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_classes)
        Probabilities.
    n_rows : int
        Number of labels.
    n_classes : int
        Number of classes.
    name : str
        What to call the argument in error messages.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        The probabilities in float64.

    Raises
    ------
    ValueError
        If the shape is wrong or a row is not a probability distribution.
    """
    probabilities = to_numbers(proba, name)
    if probabilities.shape != (n_rows, n_classes):
        raise ValueError(
            f"{name} must have shape ({n_rows}, {n_classes}); got {probabilities.shape}."
        )
    sums = probabilities @ np.ones(n_classes)  # ten times as fast as summing short rows
    if np.isnan(sums).any():
        raise ValueError(f"{name} holds NaN: did training diverge?")
    out_of_range = np.min(probabilities) < 0 or np.max(probabilities) > 1 + _SUM_TOLERANCE
    if out_of_range or np.abs(sums - 1).max() > _SUM_TOLERANCE:
        raise ValueError(f"The rows of {name} must be probabilities that sum to one, not logits.")
    return probabilities


def fit_membership_attack(
    member_losses: ArrayLike,
    nonmember_losses: ArrayLike,
    *,
    random_state: int | np.random.RandomState | None = 0,
) -> Callable[[ArrayLike], NDArray[np.bool_]]:
    """Learn the attack "balanced" of :func:`membership_inference_efficacy`.

    Parameters
    ----------
    member_losses : array-like of shape (n_members,)
        Losses of the remaining training rows, see :func:`per_sample_cross_entropy`.
    nonmember_losses : array-like of shape (n_nonmembers,)
        Losses of held-out rows.
    random_state : int, RandomState instance or None, default=0
        Seed of the forest.

    Returns
    -------
    callable
        ``is_member(losses)`` tells of each loss whether the forest takes its row for a member. The
        share of forgotten rows that it does not is the metric's value.

    Raises
    ------
    ValueError
        If losses are empty, not one-dimensional, NaN or infinite.

    See Also
    --------
    membership_inference_efficacy : The metric, with a description of the forest.
    grmu_sk.plotting.LossDistributionDisplay : What it takes for members' losses, as a figure.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.metrics import fit_membership_attack
    >>> is_member = fit_membership_attack(np.linspace(0, 1, 50), np.linspace(2, 3, 50))
    >>> is_member([0.5, 2.5])
    array([ True, False])
    """
    from sklearn.ensemble import RandomForestClassifier

    losses, membership = _labelled_losses(member_losses, nonmember_losses)
    forest = RandomForestClassifier(
        n_estimators=100,
        class_weight="balanced",
        min_samples_leaf=math.ceil(len(losses) ** (2 / 3)),
        random_state=random_state,
    )
    forest.fit(losses[:, np.newaxis], membership)
    return partial(_is_member, forest)


def _is_member(forest: Any, losses: ArrayLike) -> NDArray[np.bool_]:
    return forest.predict(_loss_column(losses, "losses")[:, np.newaxis]) == _MEMBER


def _labelled_losses(
    member_losses: ArrayLike, nonmember_losses: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    member = _loss_column(member_losses, "member_losses")
    nonmember = _loss_column(nonmember_losses, "nonmember_losses")
    membership = np.repeat([_MEMBER, _NONMEMBER], [len(member), len(nonmember)])
    return np.concatenate([member, nonmember]), membership


def membership_inference_efficacy(
    member_losses: ArrayLike,
    nonmember_losses: ArrayLike,
    forget_losses: ArrayLike,
    *,
    attack: Literal["paper", "balanced"] = "paper",
    random_state: int | np.random.RandomState | None = 0,
) -> float:
    r"""Share of the forgotten rows that an attack takes for rows never trained on: MIA.

    A random forest :math:`m` learns from the loss of a row whether the row was trained on. Its
    members are the remaining training rows, its non-members held-out rows (validation, not test).
    On the forgotten rows :math:`D_f` (Eq. 10 of [1]_),

    .. math::

        \mathrm{MIA} = \frac{1}{|D_f|} \sum_{i \in D_f} [m(\ell_i) = \text{non-member}].

    A well-forgotten row looks like a non-member, but the value to aim at is that of the gold
    standard and not 1.

    Parameters
    ----------
    member_losses : array-like of shape (n_members,)
        Losses of the remaining training rows, see :func:`per_sample_cross_entropy`.
    nonmember_losses : array-like of shape (n_nonmembers,)
        Losses of held-out rows.
    forget_losses : array-like of shape (n_forget,)
        Losses of the forgotten rows.
    attack : {"paper", "balanced"}, default="paper"
        - "paper": six forests of {20, 50, 100} trees by {"gini", "entropy"}, other settings at
          scikit-learn's defaults; the *largest* of the six values. Members outnumber non-members,
          which pushes the value down; the maximum pushes it up. Comparable with published tables
          only.
        - "balanced": one forest of 100 trees with ``class_weight="balanced"`` and leaves of at
          least :math:`\lceil n^{2/3} \rceil` of the :math:`n` losses it learns from; no
          maximum. When members and non-members have the same losses the value is near 0.5.
    random_state : int, RandomState instance or None, default=0
        Seed of each forest.

    Returns
    -------
    float
        A fraction in [0, 1].

    Raises
    ------
    ValueError
        If losses are empty, not one-dimensional, NaN or infinite, or ``attack`` is unknown.

    See Also
    --------
    per_sample_cross_entropy : The losses to attack.
    fit_membership_attack : The attack "balanced" itself.

    Notes
    -----
    Fully grown trees memorise a single feature: each training loss sits in a leaf of its own, and
    a new row gets the class of its nearest neighbour, mostly member. With 4000 members and 500
    non-members of equal distribution, ``class_weight="balanced"`` alone then calls 20% instead of
    50% of new rows non-members. A leaf of :math:`n^{2/3}` losses averages that noise out and still
    leaves :math:`n^{1/3}` steps along the loss axis. Over ten such draws it calls 49% of new rows
    non-members, or 44% with scikit-learn 1.6, whose forests draw their rows differently: compare
    values of one version only.

    The six forests of "paper" need not be grown. A fully grown tree on a single feature cuts
    midway between every two neighbouring losses of different class, whatever the order of the cuts,
    so "gini" and "entropy" predict the same; and with one seed the forest of 20 trees is the
    beginning of those of 50 and 100. So 100 lists of cuts are read off the sorted losses, of the
    rows that scikit-learn's forest draws, and the largest value is that of all six.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.
    .. [2] Jia et al., "Model Sparsity Can Simplify Machine Unlearning", NeurIPS 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.metrics import membership_inference_efficacy
    >>> trained, held_out = np.linspace(0, 1, 50), np.linspace(2, 3, 50)
    >>> membership_inference_efficacy(trained, held_out, [0.5, 2.5, 2.7, 2.9])
    0.75
    """
    check_option(attack, ("paper", "balanced"), name="attack")
    forget = _loss_column(forget_losses, "forget_losses")
    if attack == "balanced":
        is_member = fit_membership_attack(
            member_losses, nonmember_losses, random_state=random_state
        )
        return float(np.mean(~is_member(forget)))
    losses, membership = _labelled_losses(member_losses, nonmember_losses)
    votes, shares = np.zeros((2, len(forget))), []
    for n_trees, (cuts, leaves) in enumerate(_grown_trees(losses, membership, random_state), 1):
        votes += leaves[:, np.searchsorted(cuts, forget.astype(np.float32))]
        if n_trees in _PAPER_TREES:
            shares.append(float(np.mean((votes / n_trees).argmax(axis=0) == _NONMEMBER)))
    return max(shares)


def _grown_trees(losses: Any, membership: Any, random_state: Any) -> Iterator[tuple[Any, Any]]:
    """Yield where each tree of the forest cuts, and the share of either class in its leaves."""
    from sklearn.ensemble import RandomForestClassifier

    # on a constant a forest grows nothing, but draws the rows of each tree as it always does
    forest = RandomForestClassifier(max(_PAPER_TREES), random_state=random_state)
    forest.fit(np.zeros((len(losses), 1)), membership)
    losses, least = losses.astype(np.float32), _least_distance()
    order = np.argsort(losses)
    losses, membership, place = losses[order], membership[order], np.argsort(order)
    for rows in forest.estimators_samples_:
        times = np.bincount(place[rows], minlength=len(losses))
        drawn = np.flatnonzero(times)
        values, times = losses[drawn], times[drawn]
        start = np.flatnonzero(np.r_[True, values[1:] > values[:-1] + least])
        of_members = np.add.reduceat(times * membership[drawn], start)
        of_all = np.add.reduceat(times, start)
        below, above = (values[row].astype(np.float64) for row in (start[1:] - 1, start[1:]))
        yield (below + above) / 2, np.stack([of_all - of_members, of_members]) / of_all


@cache
def _least_distance() -> np.float32:
    """Return from where on trees cut between two values; scikit-learn 1.8 has changed it."""
    from sklearn.tree import DecisionTreeClassifier

    cuts = DecisionTreeClassifier().fit([[0.0], [5e-8]], [0, 1]).get_depth()
    return np.float32(0 if cuts else 1e-7)


def _loss_column(losses: ArrayLike, name: str) -> NDArray[np.float64]:
    column = to_numbers(losses, name)
    if column.ndim != 1 or len(column) == 0:
        raise ValueError(f"{name} must be 1-D, one loss a row, not empty; got {column.shape}.")
    if not np.isfinite(column).all():
        raise ValueError(f"{name} holds NaN or infinite values: did training diverge?")
    largest = np.finfo(np.float32).max  # in which forests compute
    return column.clip(-largest, largest)
