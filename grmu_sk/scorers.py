"""Scorers of unlearners for scikit-learn's model selection.

They are what ``cross_validate``, ``cross_val_score``, ``GridSearchCV`` and
``permutation_test_score`` take as ``scoring``. The unlearner may be the last step of a pipeline or
the best estimator of a search; the rows to forget are those its ``fit`` was given in ``forget``.

As everywhere in scikit-learn, greater is better: EO, DP and EP are gaps, so their scorers return
them with a minus sign.

============================= ============ =====================================
Scorer                        Needs groups Needs of the unlearner
============================= ============ =====================================
``ta_scorer``                 no           nothing
``wg_scorer``                 yes          nothing
``ga_scorer``                 yes          forgotten rows, ``groups`` in ``fit``
``eo_scorer``                 yes          forgotten rows, ``groups`` in ``fit``
``dp_scorer``                 yes          forgotten rows, ``groups`` in ``fit``
``ep_scorer``                 yes          forgotten rows, ``groups`` in ``fit``
``ra_scorer``                 no           ``store_data=True`` (the default)
``ua_scorer``                 no           ``keep_forgotten=True``
``mia_scorer``                no           ``keep_forgotten=True``
``mia_balanced_scorer``       no           ``keep_forgotten=True``
``avg_gap_scorer(gold)``      yes          all of the above
``row_distance_scorer(gold)`` yes          all of the above
============================= ============ =====================================
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.metadata_routing import UNUSED

from .base import BaseUnlearner
from .groups import attribute_column, attribute_of_rows, count_unknown, is_in
from .metrics import AVERAGE_GAP_METRICS, SplitPredictions, average_gap_score, evaluate_predictions
from .metrics.evaluate import OF_FORGOTTEN_GROUPS, OF_GROUPS, SPLITS_OF
from .metrics.fidelity import log_odds_of_label, row_distance_score
from .pipelines import inputs_of_unlearner, unlearner_of
from .randomness import resolve_seed
from .validation import about, label_column, to_array

__all__ = [
    "UnlearningScorer",
    "avg_gap_scorer",
    "dp_scorer",
    "eo_scorer",
    "ep_scorer",
    "ga_scorer",
    "mia_balanced_scorer",
    "mia_scorer",
    "ra_scorer",
    "row_distance_scorer",
    "ta_scorer",
    "ua_scorer",
    "wg_scorer",
]


@dataclass(frozen=True)
class ScoredRows:
    """A fitted unlearner with the rows it is scored on, as the unlearner gets them."""

    unlearner: BaseUnlearner
    X: Any
    y: Any
    groups: Any = None

    def scores(self, metrics: Iterable[str]) -> dict[str, float]:
        """Return metrics; the rows are the test rows and, for the attack, non-members."""
        unlearner, splits = self.unlearner, dict[str, Any]()
        needed = {split for metric in metrics for split in SPLITS_OF[metric]}
        of_groups = not set(OF_FORGOTTEN_GROUPS).isdisjoint(metrics)
        name = type(unlearner).__name__
        if (of_groups or "forget" in needed) and len(unlearner.forget_idx_) == 0:
            raise ValueError(
                f"This score is about forgotten rows, and {name} has forgotten none: the training "
                "rows of every fold must hold some, see UnlearningStratifiedKFold."
            )
        if of_groups and unlearner.attributes_ is None:
            raise ValueError(f"This score needs groups, and {name} was fitted without them.")
        kinds: dict[str, Any] = {"remaining": "remaining", "forget": "forgotten"}
        for split in needed & kinds.keys():
            rows = unlearner.training_rows(kinds[split])
            splits[split] = SplitPredictions(rows.y, unlearner.predict_proba(rows.X))
        if not needed.isdisjoint({"test", "holdout"}):
            splits["test"] = splits["holdout"] = self._predictions()
        return evaluate_predictions(
            classes=unlearner.classes_,
            **splits,
            forget_groups=unlearner.forget_groups_,
            metrics=metrics,
            threshold=unlearner._threshold,
        )

    def _predictions(self) -> SplitPredictions:
        """Predict the rows, without those of groups that ``fit`` has not seen."""
        y, proba = label_column(self.y, name="y"), self.unlearner.predict_proba(self.X)
        if self.groups is None:
            return SplitPredictions(y, proba)
        attribute = attribute_of_rows(self.groups, len(y), "y")
        known = ~is_in(attribute, count_unknown(attribute, self.unlearner.attributes_))
        return SplitPredictions(y[known], proba[known], attribute[known])


# the scorer --------------------------------------------------------------------------------------


class UnlearningScorer(BaseEstimator):
    """A scorer that knows what was forgotten.

    Not constructed directly: use the ready-made ones of this module, :func:`avg_gap_scorer` or
    :func:`row_distance_scorer`.

    Parameters
    ----------
    name : str
        What it is called.
    function : callable
        ``function(scored_rows) -> float``, greater is better.
    uses_groups : bool, default=True
        Whether the protected attribute of the scored rows is needed.

    See Also
    --------
    sklearn.metrics.make_scorer : Makes scorers of metrics that need predictions only.

    Notes
    -----
    With metadata routing, ``groups`` is requested unless :meth:`set_score_request` says otherwise,
    which changes the scorer itself. To leave the ready-made one of the module alone, change a
    :func:`~sklearn.base.clone` of it.

    Examples
    --------
    >>> from sklearn import config_context
    >>> from sklearn.base import clone
    >>> from grmu_sk.scorers import ga_scorer
    >>> with config_context(enable_metadata_routing=True):
    ...     own = clone(ga_scorer).set_score_request(groups="attribute")
    >>> own, own.get_metadata_routing(), ga_scorer.get_metadata_routing()
    (ga_scorer, {'score': {'groups': 'attribute'}}, {'score': {'groups': True}})
    """

    __metadata_request__score = {"estimator": UNUSED, "groups": True}

    def __init__(
        self, name: str, function: Callable[[ScoredRows], float], uses_groups: bool = True
    ) -> None:
        self.name = name
        self.function = function
        self.uses_groups = uses_groups

    def __call__(self, estimator: Any, X: Any, y: ArrayLike, *, groups: Any = None) -> float:
        """Score a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            A fitted unlearner, a pipeline that ends with one, or a fitted search over either.
        X : array-like of length n_samples
            Test inputs.
        y : array-like of shape (n_samples,)
            True labels.
        groups : array-like of shape (n_samples,) or (n_samples, n_attributes), default=None
            Protected attribute of each row.

        Returns
        -------
        float
            The score, greater is better.

        Raises
        ------
        TypeError
            If there is no unlearner in the estimator.
        ValueError
            If groups are needed and missing, nothing was forgotten, or the unlearner does not hold
            the rows the score is about.
        """
        unlearner = unlearner_of(estimator)
        if self.uses_groups and groups is None:
            raise ValueError(
                f"{self} needs groups, which model selection hands over with metadata routing "
                "only: sklearn.config_context(enable_metadata_routing=True)."
            )
        X = inputs_of_unlearner(estimator, X)
        groups = groups if self.uses_groups else None
        return self.function(ScoredRows(unlearner, X, y, groups))

    score = __call__  # by its signature scikit-learn routes metadata

    def _accept_sample_weight(self) -> bool:
        return False  # asked by GridSearchCV and multi-metric scoring where routing is off

    def __repr__(self) -> str:
        return self.name


def _value_of(scored: ScoredRows, *, metric: str, sign: int) -> float:
    return sign * scored.scores([metric])[metric]


def _scorer_of(metric: str, sign: int = 1) -> UnlearningScorer:
    function = partial(_value_of, metric=metric, sign=sign)
    return UnlearningScorer(f"{metric.lower()}_scorer", function, metric in OF_GROUPS)


#: RA: accuracy on the training rows that remain. Good when near the gold standard's.
ra_scorer = _scorer_of("RA")
#: UA: accuracy on the forgotten rows. Neither large nor small is good: near the gold standard is.
ua_scorer = _scorer_of("UA")
#: TA: accuracy on the rows of the call (in cross-validation, the test rows of the fold).
ta_scorer = _scorer_of("TA")
#: WG: accuracy of the worst group (y, a).
wg_scorer = _scorer_of("WG")
#: GA: accuracy on the groups (y, a) that rows were forgotten from.
ga_scorer = _scorer_of("GA")
#: Minus EO, the equalized odds gap.
eo_scorer = _scorer_of("EO", sign=-1)
#: Minus DP, the demographic parity gap.
dp_scorer = _scorer_of("DP", sign=-1)
#: Minus EP, the equal opportunity gap.
ep_scorer = _scorer_of("EP", sign=-1)
#: MIA: share of forgotten rows that the paper's attack takes for rows never trained on. Members are
#: the remaining rows. Non-members are the rows of the call, since a fold has no other unseen rows:
#: where the same rows choose a hyper-parameter, do not report the value.
mia_scorer = _scorer_of("MIA")
#: The same with the balanced attack, which is near 0.5 where losses tell nothing.
mia_balanced_scorer = _scorer_of("MIA_balanced")


# the average gap ---------------------------------------------------------------------------------


def avg_gap_scorer(gold: Any) -> UnlearningScorer:
    r"""Make a scorer of the average gap to a gold standard.

    In each fold a clone of ``gold`` learns the training rows the scored unlearner was given and
    forgets the same rows. With :math:`v_m` the metric :math:`m` of the scored unlearner and
    :math:`v^\star_m` that of the gold standard, the score is

    .. math::

        1 - \frac{1}{6} \sum_m \left| v_m - v^\star_m \right|, \qquad
        m \in \{RA, UA, TA, MIA, EO, GA\}.

    The gold standard is trained at most once for the same data, rows to forget, seed and
    parameters; in a search all candidates of a fold share it. What is remembered are its metrics
    alone, in this process: no row and no weight.

    The scored unlearner must be constructed with ``keep_forgotten=True``, since the gold standard
    and two of the metrics need the forgotten rows. In a pipeline the gold standard gets the rows
    as the earlier steps of the scored pipeline put them out, whatever its own are.

    Parameters
    ----------
    gold : BaseUnlearner or Pipeline
        What is trained for comparison, usually ``RetrainUnlearner(net, random_state=0)``; of a
        pipeline, its last step. Not modified. With ``random_state=None`` one seed is drawn here
        and used for every fold.

    Returns
    -------
    UnlearningScorer
        The scorer: a fraction in [0, 1], where 1 means no difference.

    Raises
    ------
    TypeError
        If there is no unlearner in ``gold``.

    See Also
    --------
    grmu_sk.metrics.average_gap_score : The formula by itself.
    grmu_sk.model_selection.cross_validate_unlearning : Compares several unlearners in one call.

    Notes
    -----
    The attack's non-members are the test rows of the fold, see ``mia_scorer``.

    With several processes (``n_jobs``) each process trains its own gold standards.
    ``return_train_score=True`` trains further ones, for scores that mean nothing: rows that were
    trained on are no test rows.

    References
    ----------
    .. [1] T. De Min et al., "Group-robust Machine Unlearning", TMLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk import FineTuneUnlearner, RetrainUnlearner
    >>> from grmu_sk.scorers import avg_gap_scorer
    >>> rng = np.random.default_rng(0)
    >>> y, a = rng.integers(2, size=(2, 200))
    >>> X = rng.normal(size=(200, 3)) + np.c_[y, a, y + a]
    >>> unlearner = FineTuneUnlearner(random_state=0, keep_forgotten=True)
    >>> unlearner = unlearner.fit(X[:150], y[:150], a[:150]).unlearn([3, 7])
    >>> scorer = avg_gap_scorer(RetrainUnlearner(random_state=0))
    >>> bool(0 < scorer(unlearner, X[150:], y[150:], groups=a[150:]) <= 1)
    True
    """
    return _scorer_against(gold, "avg_gap_scorer", _average_gap)


def row_distance_scorer(gold: Any) -> UnlearningScorer:
    r"""Make a scorer of the distance of single forgotten rows to a gold standard.

    With :math:`m_i` the log-odds of the label of the forgotten row i under the scored unlearner and
    :math:`m^\star_i` those under the gold standard, the score is

    .. math:: -\sqrt{\frac{1}{N} \sum_{i=1}^{N} (m_i - m^\star_i)^2}.

    The average gap can be met by the right numbers on the wrong rows; this cannot. Hold it against
    that of a second gold standard: two retrained models differ, too. Gold standards are trained and
    remembered as :func:`avg_gap_scorer` says, with a number for each forgotten row.

    Parameters
    ----------
    gold : BaseUnlearner or Pipeline
        What is trained for comparison, see :func:`avg_gap_scorer`.

    Returns
    -------
    UnlearningScorer
        The scorer: 0 or less, in nats.

    Raises
    ------
    TypeError
        If there is no unlearner in ``gold``.

    See Also
    --------
    grmu_sk.metrics.row_distance_score : The formula by itself, with several oracles.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk import FineTuneUnlearner, RetrainUnlearner
    >>> from grmu_sk.scorers import row_distance_scorer
    >>> rng = np.random.default_rng(0)
    >>> y, a = rng.integers(2, size=(2, 200))
    >>> X = rng.normal(size=(200, 3)) + np.c_[y, a, y + a]
    >>> unlearner = FineTuneUnlearner(random_state=0, keep_forgotten=True)
    >>> unlearner = unlearner.fit(X[:150], y[:150], a[:150]).unlearn([3, 7])
    >>> scorer = row_distance_scorer(RetrainUnlearner(random_state=0))
    >>> bool(scorer(unlearner, X[150:], y[150:], groups=a[150:]) < 0)
    True
    """
    return _scorer_against(gold, "row_distance_scorer", _row_distance)


class _Answers(NamedTuple):
    """What is compared with the gold standard, and remembered of it."""

    metrics: dict[str, float]
    log_odds: NDArray[np.float64]


def _average_gap(model: _Answers, gold: _Answers) -> float:
    return average_gap_score(model.metrics, gold.metrics)


def _row_distance(model: _Answers, gold: _Answers) -> float:
    return -row_distance_score(model.log_odds, gold.log_odds[None])


def _scorer_against(gold: Any, name: str, score: Any) -> UnlearningScorer:
    with about("gold"):
        unlearner = unlearner_of(gold, fitted=False)
    seed = resolve_seed(unlearner.random_state)
    own = clone(unlearner).set_params(random_state=seed, store_data=True, keep_forgotten=True)
    # the token stands for the gold standard, which never changes: copies and pickles share it
    function = partial(_compare, gold=own, token=uuid.uuid4().hex, score=score)
    return UnlearningScorer(name, function)


#: Answers of gold standards, by scorer and data. A worker process unpickles a scorer anew for each
#: task, so what it learns must live outside of it.
_gold_answers: dict[tuple[str, str], _Answers] = {}


def _compare(scored: ScoredRows, *, gold: BaseUnlearner, token: str, score: Any) -> float:
    unlearner, data = scored.unlearner, scored.unlearner.training_rows("all")
    of_fit = data.X, data.y, data.groups, data.sample_weight, unlearner.forget_idx_
    of_call = scored.X, to_array(scored.y, "y"), attribute_column(scored.groups)
    key = token, joblib.hash([*of_fit, *of_call])
    if key not in _gold_answers:
        # some methods take no weights at all
        weights = {} if data.sample_weight is None else {"sample_weight": data.sample_weight}
        forget = np.isin(data.rows, unlearner.forget_idx_)
        trained = clone(gold).fit(data.X, data.y, data.groups, forget=forget, **weights)
        _gold_answers[key] = _answers(replace(scored, unlearner=trained))
    result: float = score(_answers(scored), _gold_answers[key])
    return result


def _answers(scored: ScoredRows) -> _Answers:
    metrics = scored.scores(AVERAGE_GAP_METRICS)
    unlearner, rows = scored.unlearner, scored.unlearner.training_rows("forgotten")
    logs = unlearner.predict_log_proba(rows.X)
    return _Answers(metrics, log_odds_of_label(rows.y, logs, classes=unlearner.classes_))
