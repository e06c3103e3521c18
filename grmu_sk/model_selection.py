"""Folds that keep groups and forget set together, and comparisons of unlearners over them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from .groups import GroupEncoder, attribute_of_rows
from .metrics.evaluate import SPLITS_OF, Split, evaluate_model
from .metrics.gap import AVERAGE_GAP, AVERAGE_GAP_METRICS, average_gaps
from .outputs import decision_threshold
from .pipelines import unlearner_of
from .randomness import RandomState, resolve_seed
from .rows import Rows, take_rows
from .validation import about, check_forget_mask, check_targets

__all__ = ["UnlearningStratifiedKFold", "cross_validate_unlearning"]

GOLD = "gold"
#: What can be computed for one model in a fold, in the order of the paper.
FOLD_METRICS = tuple(dict.fromkeys([*AVERAGE_GAP_METRICS, *SPLITS_OF]))


# folds -------------------------------------------------------------------------------------------


class UnlearningStratifiedKFold(BaseCrossValidator):
    r"""K folds that keep the proportions of label, attribute and forget set.

    The rows are sorted by label :math:`y`, then attribute :math:`a`, then whether they are to be
    forgotten, and dealt out to the folds in turn. Of the :math:`m` rows of any stratum
    :math:`(y, a, f)`, of any group :math:`(y, a)` and of any label :math:`y`, each fold's test
    rows therefore hold :math:`\lfloor m/k \rfloor` or :math:`\lceil m/k \rceil`, and the folds
    differ by at most one row in size.

    This also is the rule for strata smaller than ``n_splits``: nothing is merged or dropped. Their
    rows go to different folds, and the group they belong to keeps its proportion all the same.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to shuffle the rows of each stratum first. Without it they are dealt out in the
        order of the data.
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
    [([0, 2, 3, 6, 8, 9], 1), ([1, 4, 5, 7, 10, 11], 1)]
    """

    __metadata_request__split = {"groups": True, "forget": True}

    def __init__(
        self, n_splits: int = 5, *, shuffle: bool = False, random_state: RandomState = None
    ) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, forget: Any = None
    ) -> int:
        """Return the number of folds.

        Parameters
        ----------
        X : object, default=None
            Ignored.
        y : object, default=None
            Ignored.
        groups : object, default=None
            Ignored.
        forget : object, default=None
            Ignored.

        Returns
        -------
        int
            ``n_splits``.
        """
        return self.n_splits

    def split(
        self, X: Any, y: ArrayLike | None = None, groups: Any = None, forget: Any = None
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
            If an argument has the wrong length or kind, there are fewer rows than folds, or
            ``random_state`` is given without ``shuffle``.

        Warns
        -----
        UserWarning
            If a group (y, a), or the rows of it to forget, are fewer than the folds; if there is
            neither ``groups`` nor ``forget``.
        """
        # what is wrong is said now, and not when the first fold is asked for
        n_rows = X.shape[0] if hasattr(X, "shape") else len(X)  # a sparse one has no length
        if y is None:
            raise ValueError(f"{type(self).__name__} needs y, the labels.")
        labels = check_targets(y, n_rows)
        if not 2 <= self.n_splits <= n_rows:
            raise ValueError(
                f"n_splits must lie between 2 and the {n_rows} rows, got {self.n_splits!r}."
            )
        if self.random_state is not None and not self.shuffle:
            raise ValueError(
                "random_state has no effect without shuffle=True. Set shuffle=True or leave "
                "random_state out."
            )
        if groups is None and forget is None:
            warnings.warn(
                f"{type(self).__name__} got neither groups nor forget and keeps the proportions of "
                "y alone. Inside cross_validate both arrive only with metadata routing: "
                "sklearn.config_context(enable_metadata_routing=True) and "
                'params={"groups": a, "forget": mask}.',
                UserWarning,
                stacklevel=2,
            )
        mask = np.zeros(n_rows, dtype=bool) if forget is None else check_forget_mask(forget, n_rows)
        encoder = _silent_encoder(labels, groups)
        group = encoder.transform(labels, groups)
        self._warn_of_small_strata(group, mask, encoder.pairs_)
        return self._folds(2 * group + mask)

    def _warn_of_small_strata(
        self, group: NDArray[np.int64], mask: NDArray[np.bool_], pairs: list[Any]
    ) -> None:
        small = []
        for which, numbers in (("group", group), ("rows to forget of group", group[mask])):
            counts = np.bincount(numbers, minlength=len(pairs))
            small += [
                f"{which} {pairs[g]} ({counts[g]})"
                for g in np.flatnonzero((counts > 0) & (counts < self.n_splits))
            ]
        if small:
            warnings.warn(
                f"Fewer rows than n_splits={self.n_splits}: {', '.join(small)}. Some folds have "
                "none of them among their test rows, so metrics may be undefined there. Use fewer "
                "folds, or merge rare attribute values.",
                UserWarning,
                stacklevel=3,
            )

    def _folds(self, stratum: NDArray[np.int64]) -> Iterator[tuple[Rows, Rows]]:
        n_rows = len(stratum)
        order = np.arange(n_rows)
        if self.shuffle:
            order = check_random_state(self.random_state).permutation(n_rows)
        order = order[np.argsort(stratum[order], kind="stable")]
        return (
            (
                np.sort(np.delete(order, slice(fold, None, self.n_splits))),
                np.sort(order[fold :: self.n_splits]),
            )
            for fold in range(self.n_splits)
        )


def _silent_encoder(labels: NDArray[Any], groups: Any) -> GroupEncoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the unlearner says it, if at all
        return GroupEncoder().fit(labels, groups)


# comparison --------------------------------------------------------------------------------------


def cross_validate_unlearning(
    unlearners: Mapping[str, Any] | Sequence[Any],
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
    ``forget`` marks. Each model is run once over the training rows and once over the test rows,
    and all metrics come from these predictions. With :math:`v_{m}` the metrics of an unlearner in
    a fold and :math:`v^\star_{m}` those of the gold standard in the same fold,

    .. math::

        \mathrm{AVG\_GAP} = 1 - \frac{1}{6} \sum_{m} \left| v_{m} - v^\star_{m} \right|,
        \qquad m \in \{RA, UA, TA, MIA, EO, GA\}.

    Parameters
    ----------
    unlearners : mapping of str to estimator, or sequence of estimators
        Unlearners, or pipelines or searches around one; not modified. The names of a sequence are
        those of the methods, such as ``"miu"``.
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
        If names collide, a metric is unknown, lengths differ, ``forget`` is no mask, or the
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
    ...     [FineTuneUnlearner(net)], X, y, a, forget, gold=RetrainUnlearner(net), cv=2,
    ...     metrics=["GA", "AVG_GAP"], random_state=0,
    ... )
    >>> list(table.columns)
    ['fold', 'method', 'metric', 'value']
    >>> table.pivot_table(index="method", columns="metric", values="value").shape
    (2, 2)
    """
    named = _named(unlearners, gold)
    wanted = _wanted_metrics(metrics, gold)
    with about("X"):
        labels = check_targets(y, len(X))
    mask = check_forget_mask(forget, len(X))
    if groups is None:
        raise ValueError("groups is None: the protected attribute of each row is needed.")
    rows = Split(X, labels, attribute_of_rows(groups, len(labels), "y"))
    seed = None if random_state is None else resolve_seed(random_state)
    needed = [*wanted, *AVERAGE_GAP_METRICS] if AVERAGE_GAP in wanted else wanted
    needed = [name for name in FOLD_METRICS if name in needed]
    with about("cv"):
        folds = list(_split(cv, rows, mask, seed))
    for number, (train, _) in enumerate(folds):
        if not mask[train].any():
            raise ValueError(
                f"The training rows of fold {number} hold no row to forget. Use "
                "cv=UnlearningStratifiedKFold(...) and mark at least two rows."
            )
    found = Parallel(n_jobs=n_jobs)(
        delayed(_evaluate)(
            name, estimator, _part(rows, train), _part(rows, test), mask[train], needed, seed
        )
        for train, test in folds
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


def _named(unlearners: Mapping[str, Any] | Sequence[Any], gold: Any) -> dict[str, Any]:
    """Return all estimators by name, the gold standard first."""
    pairs = [] if gold is None else [(GOLD, gold)]
    if isinstance(unlearners, Mapping):
        pairs += unlearners.items()
    else:
        pairs += [(unlearner_of(one, fitted=False).method_name, one) for one in unlearners]
    named = dict(pairs)
    if len(named) < len(pairs) or (gold is None and GOLD in named):
        raise ValueError(
            f"Several unlearners have the same name: {[name for name, _ in pairs]}. Give them "
            'names: cross_validate_unlearning({"first": ..., "second": ...}, ...). '
            f"{GOLD!r} is that of the gold standard."
        )
    if not named.keys() - {GOLD}:
        raise ValueError("There are no unlearners to compare.")
    for estimator in named.values():
        unlearner_of(estimator, fitted=False)
    return named


def _wanted_metrics(metrics: Iterable[str] | None, gold: Any) -> list[str]:
    allowed = FOLD_METRICS if gold is None else (*FOLD_METRICS, AVERAGE_GAP)
    names = allowed if metrics is None else (metrics,) if isinstance(metrics, str) else metrics
    wanted = list(dict.fromkeys(names))
    if not wanted or set(wanted) - set(allowed):
        raise ValueError(
            f"metrics must be some of {allowed}, got {wanted}. {AVERAGE_GAP} compares with a gold "
            "standard: pass gold=RetrainUnlearner(net)."
        )
    return wanted


def _split(
    cv: Any, rows: Split, mask: NDArray[np.bool_], seed: int | None
) -> Iterable[tuple[Rows, Rows]]:
    if isinstance(cv, int | np.integer):
        cv = UnlearningStratifiedKFold(int(cv), shuffle=True, random_state=seed)
    if isinstance(cv, UnlearningStratifiedKFold):
        return cv.split(rows.y, rows.y, rows.groups, mask)
    if hasattr(cv, "split"):
        return cv.split(np.zeros(len(rows.y)), rows.y)
    return cv


def _part(rows: Split, numbers: Rows) -> Split:
    return Split(take_rows(rows.X, numbers), rows.y[numbers], rows.groups[numbers])


def _evaluate(
    name: str,
    estimator: Any,
    train: Split,
    test: Split,
    mask: NDArray[np.bool_],
    metrics: list[str],
    seed: int | None,
) -> dict[str, float]:
    """Train and score one model; all scores are NaN if a loss was not finite."""
    model = clone(estimator)
    unlearner = unlearner_of(model, fitted=False)
    if seed is not None and unlearner.random_state is None:
        unlearner.set_params(random_state=seed)
    try:
        with config_context(enable_metadata_routing=True):
            model.fit(train.X, train.y, groups=train.groups, forget=mask)
    except FloatingPointError as error:
        if name == GOLD:
            raise
        warnings.warn(f"{name} has NaN in one fold: {error}", FitFailedWarning, stacklevel=2)
        return dict.fromkeys(metrics, np.nan)
    forget_groups = set(zip(train.y[mask].tolist(), train.groups[mask].tolist(), strict=True))
    return evaluate_model(
        model,
        train=train,
        test=test,
        holdout=test,
        forget=mask,
        forget_groups=sorted(forget_groups, key=str),
        threshold=decision_threshold(unlearner_of(model).net_),
        metrics=metrics,
        empty="nan",
    )
