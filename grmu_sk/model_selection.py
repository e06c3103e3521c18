"""Folds that keep groups and forget set together, and comparisons of unlearners over them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import StratifiedKFold, check_cv
from sklearn.utils.validation import _num_samples

from .groups import attribute_of_rows
from .metrics.evaluate import SPLITS_OF
from .metrics.gap import AVERAGE_GAP, AVERAGE_GAP_METRICS, average_gaps
from .pipelines import inputs_of_unlearner, unlearner_of
from .randomness import RandomState, resolve_seed
from .rows import Rows, take_rows
from .scorers import ScoredRows
from .validation import check_forget_mask, check_targets

__all__ = ["UnlearningStratifiedKFold", "cross_validate_unlearning"]

GOLD = "gold"
#: What can be computed for one model in a fold, in the order of the paper.
FOLD_METRICS = tuple(dict.fromkeys([*AVERAGE_GAP_METRICS, *SPLITS_OF]))


# folds -------------------------------------------------------------------------------------------


class UnlearningStratifiedKFold(StratifiedKFold):
    r"""K folds that keep the proportions of label, attribute and forget set.

    The rows are sorted by label :math:`y`, then attribute :math:`a`, then whether they are to be
    forgotten, and spread over the folds as :class:`~sklearn.model_selection.StratifiedKFold` does.
    Of the :math:`m` rows of any stratum
    :math:`(y, a, f)`, of any group :math:`(y, a)` and of any label :math:`y`, each fold's test
    rows therefore hold :math:`\lfloor m/k \rfloor` or :math:`\lceil m/k \rceil`, and the folds
    differ by at most one row in size.

    This also is the rule for strata smaller than ``n_splits``: nothing is merged or dropped. Their
    rows go to different folds, and the group they belong to keeps its proportion all the same. A
    metric that is undefined for want of them says so.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle the rows of each stratum first.
    random_state : int, RandomState instance or None, default=None
        Seed of the shuffling.

    See Also
    --------
    sklearn.model_selection.StratifiedKFold : Keeps the proportions of the label alone.
    cross_validate_unlearning : Compares unlearners on such folds.

    Notes
    -----
    With metadata routing, ``groups`` and ``forget`` are requested by default, so that
    ``cross_validate(..., cv=UnlearningStratifiedKFold(), params={"groups": a, "forget": mask})``
    needs no further settings. Without routing scikit-learn cannot hand them over.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.model_selection import UnlearningStratifiedKFold
    >>> y, a = np.repeat([0, 1], 6), np.tile([0, 0, 1], 4)
    >>> forget = np.arange(12) < 2
    >>> folds = UnlearningStratifiedKFold(n_splits=2).split(y, y, a, forget)
    >>> [(test.tolist(), int(forget[train].sum())) for train, test in folds]
    [([0, 2, 3, 6, 7, 8], 1), ([1, 4, 5, 9, 10, 11], 1)]
    """

    __metadata_request__split = {"groups": True, "forget": True}

    def get_n_splits(self, *args: Any, **metadata: Any) -> int:
        """Return the number of folds.

        Parameters
        ----------
        *args, **metadata : object
            Ignored, as in all of scikit-learn's splitters.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

    def split(
        self, X: Any, y: ArrayLike, groups: Any = None, forget: Any = None
    ) -> Iterator[tuple[Rows, Rows]]:
        """Yield the row numbers of each fold.

        Parameters
        ----------
        X : array-like of length n_samples
            Only its length counts.
        y : array-like of shape (n_samples,)
            Labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Protected attribute of each row.
        forget : bool array-like of shape (n_samples,), default=None
            Mask of the rows to forget.

        Yields
        ------
        train : ndarray
            Row numbers of the training rows, ascending.
        test : ndarray
            Row numbers of the test rows, ascending.

        Raises
        ------
        ValueError
            If an argument has the wrong length or kind, or there are fewer rows than folds.

        Warns
        -----
        UserWarning
            If there is neither ``groups`` nor ``forget``.
        """
        # what is wrong is said now, and not when the first fold is asked for
        labels = check_targets(y, _num_samples(X))
        n_rows = len(labels)
        if groups is None and forget is None:
            warnings.warn(
                f"{type(self).__name__} got neither groups nor forget and keeps the proportions of "
                "y alone: inside cross_validate both arrive only with metadata routing.",
                UserWarning,
                stacklevel=2,
            )
        mask = check_forget_mask(forget, n_rows)
        attribute = np.zeros(n_rows) if groups is None else attribute_of_rows(groups, n_rows, "y")
        rows = pd.DataFrame({"y": labels, "group": attribute}).apply(lambda c: pd.factorize(c)[0])
        group = rows.groupby(["y", "group"]).ngroup().to_numpy()
        return iter(self._folds(2 * group + mask))

    def _folds(self, stratum: NDArray[np.int64]) -> list[tuple[Rows, Rows]]:
        # in this order the parts of a group, and the groups of a label, are side by side, so that
        # their sums are spread evenly too
        order = np.argsort(stratum, kind="stable")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of small strata
            folds = list(super().split(order, stratum[order]))
        return [(np.sort(order[train]), np.sort(order[test])) for train, test in folds]


# comparison --------------------------------------------------------------------------------------


def cross_validate_unlearning(
    unlearners: Mapping[str, Any],
    X: Any,
    y: ArrayLike,
    groups: Any,
    forget: ArrayLike,
    *,
    gold: Any = None,
    cv: Any = 5,
    metrics: Iterable[str] | None = None,
    random_state: RandomState = None,
    n_jobs: int | None = None,
) -> pd.DataFrame:
    r"""Compare unlearners on the same folds against the same gold standard.

    In each fold every unlearner is trained on the training rows and forgets those of them that
    ``forget`` marks; it keeps these for the evaluation. Each model is run once over each row, and
    all metrics come from these predictions. With :math:`v_{m}` the metrics of an unlearner in
    a fold and :math:`v^\star_{m}` those of the gold standard in the same fold,

    .. math::

        \mathrm{AVG\_GAP} = 1 - \frac{1}{6} \sum_{m} \left| v_{m} - v^\star_{m} \right|,
        \qquad m \in \{RA, UA, TA, MIA, EO, GA\}.

    Parameters
    ----------
    unlearners : mapping of str to estimator
        Unlearners, or pipelines or searches around one, by the names to call them; not modified.
    X : array-like, DataFrame, tensor or Dataset of length n_samples
        Inputs.
    y : array-like of shape (n_samples,)
        Labels.
    groups : array-like of shape (n_samples,) or (n_samples, n_attributes)
        Protected attribute of each row.
    forget : bool array-like of shape (n_samples,)
        Mask of the rows to forget. One that falls among the test rows of a fold was never trained
        on there, and is a test row as any other.
    gold : estimator or None, default=None
        The gold standard, usually ``RetrainUnlearner(net)``, trained once in each fold. None leaves
        out ``"AVG_GAP"``.
    cv : int, splitter or iterable of (train, test), default=5
        The folds. A number means :class:`UnlearningStratifiedKFold` with shuffling.
    metrics : iterable of str or None, default=None
        Some of RA, UA, TA, MIA, EO, GA, MIA_balanced, DP, EP, WG, AVG_GAP; None means all.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds if ``cv`` is a number, and of each unlearner whose own ``random_state`` is
        None. Methods with the same seed and net start from the same trained net.
    n_jobs : int or None, default=None
        Number of processes; each trains one model at a time.

    Returns
    -------
    DataFrame
        Columns fold, method, metric, value; a row for each metric of each model. Values are
        fractions in [0, 1], not negated. The gold standard is the method ``"gold"``. NaN marks a
        metric that is undefined in a fold, and all metrics of a model whose training diverged.

    Raises
    ------
    ValueError
        If there is no unlearner, a metric is unknown, lengths differ, ``forget`` is no mask, or the
        training rows of a fold hold no row to forget.
    TypeError
        If an estimator contains no unlearner.

    Warns
    -----
    UndefinedMetricWarning
        If a metric is undefined in a fold.
    FitFailedWarning
        If a loss of an unlearner became NaN or infinite. (If one of the gold standard did, that is
        an error.)

    See Also
    --------
    grmu_sk.scorers : The same metrics for scikit-learn's own model selection.

    Notes
    -----
    The attack's non-members are the test rows of the fold: there are no other rows that were not
    trained on. Do not report the MIA of rows that hyper-parameters were chosen on.

    ``groups`` and ``forget`` reach the unlearner by metadata routing, which is switched on for this
    call alone. An unlearner whose request was changed to an alias does not get them.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from grmu_sk import FineTuneUnlearner, RetrainUnlearner
    >>> from grmu_sk.model_selection import cross_validate_unlearning
    >>> from grmu_sk.nets import MLP
    >>> rng = np.random.default_rng(0)
    >>> y, a = rng.integers(2, size=(2, 60))
    >>> X = rng.normal(size=(60, 2)).astype(np.float32) + np.c_[y, a]
    >>> forget = (y == 1) & (a == 1) & (rng.random(60) < 0.5)
    >>> net = NeuralNetClassifier(
    ...     MLP, module__n_features=2, criterion=nn.CrossEntropyLoss, train_split=None, verbose=0
    ... )
    >>> table = cross_validate_unlearning(
    ...     {"fine_tune": FineTuneUnlearner(net)}, X, y, a, forget, gold=RetrainUnlearner(net),
    ...     cv=2, metrics=["GA", "AVG_GAP"], random_state=0,
    ... )
    >>> list(table.columns)
    ['fold', 'method', 'metric', 'value']
    >>> table.pivot_table(index="method", columns="metric", values="value").shape
    (2, 2)
    """
    named = ({} if gold is None else {GOLD: gold}) | dict(unlearners)
    if not unlearners or GOLD in unlearners:
        raise ValueError(f"Name at least one unlearner, and none {GOLD!r}: got {[*unlearners]}.")
    for estimator in named.values():
        unlearner_of(estimator, fitted=False)
    allowed = FOLD_METRICS if gold is None else (*FOLD_METRICS, AVERAGE_GAP)
    wanted = list(allowed if metrics is None else metrics)
    if set(wanted) - set(allowed):
        raise ValueError(f"metrics must be some of {allowed}, got {wanted}; AVG_GAP needs gold.")
    labels = check_targets(y, len(X))
    mask = check_forget_mask(forget, len(X))
    attribute = attribute_of_rows(groups, len(labels), "y")
    seed = None if random_state is None else resolve_seed(random_state)
    needed = [*wanted, *AVERAGE_GAP_METRICS] if AVERAGE_GAP in wanted else wanted
    needed = [name for name in FOLD_METRICS if name in needed]
    if isinstance(cv, int | np.integer):
        cv = UnlearningStratifiedKFold(int(cv), shuffle=True, random_state=seed)
    extra = (attribute, mask) if isinstance(cv, UnlearningStratifiedKFold) else ()
    folds = list(check_cv(cv).split(labels, labels, *extra))
    for number, (train, _) in enumerate(folds):
        if not mask[train].any():
            told = "use UnlearningStratifiedKFold, and mark at least two rows"
            raise ValueError(f"The training rows of fold {number} hold no row to forget: {told}.")
    columns = X, labels, attribute, mask
    found = Parallel(n_jobs=n_jobs)(
        delayed(_scores)(
            name, estimator, *([take_rows(c, rows) for c in columns] for rows in fold), needed, seed
        )
        for fold in folds
        for name, estimator in named.items()
    )
    places = [(fold, name) for fold in range(len(folds)) for name in named]
    lines = [
        (*place, metric, scores[metric])
        for place, scores in zip(places, found, strict=True)
        for metric in needed
    ]
    table = pd.DataFrame(lines, columns=["fold", "method", "metric", "value"])
    if AVERAGE_GAP in wanted:
        gaps = average_gaps(table, table["method"] == GOLD, ["fold"], ["method"])
        table = pd.concat([table, gaps])
    return table[table["metric"].isin(wanted)].reset_index(drop=True)


def _scores(
    name: str, estimator: Any, train: list[Any], test: list[Any], metrics: list[str], seed: Any
) -> dict[str, float]:
    """Train and score one model; all scores are NaN if a loss was not finite."""
    model = clone(estimator)
    unlearner = unlearner_of(model, fitted=False).set_params(keep_forgotten=True)
    if seed is not None and unlearner.random_state is None:
        unlearner.set_params(random_state=seed)
    X, y, groups, forget = train
    try:
        with config_context(enable_metadata_routing=True):
            model.fit(X, y, groups=groups, forget=forget)
    except FloatingPointError as error:
        if name == GOLD:
            raise
        warnings.warn(f"{name} has NaN in one fold: {error}", FitFailedWarning, stacklevel=2)
        return dict.fromkeys(metrics, np.nan)
    X, y, groups, _ = test
    return ScoredRows(unlearner_of(model), inputs_of_unlearner(model, X), y, groups).scores(metrics)
