"""Scorers of unlearners for scikit-learn's model selection.

They are what ``cross_validate``, ``cross_val_score``, ``GridSearchCV`` and
``permutation_test_score`` take as ``scoring``. The unlearner may be the last step of a pipeline or
the best estimator of a search; the rows to forget are those its ``fit`` was given in ``forget``.

As everywhere in scikit-learn, greater is better: EO, DP and EP are gaps, so their scorers return
them with a minus sign.

======================== ================== ============ =======================================
Scorer                   Name               Needs groups Needs of the unlearner
======================== ================== ============ =======================================
``ta_scorer``            ``"ta"``           no           nothing
``wg_scorer``            ``"wg"``           yes          nothing
``ga_scorer``            ``"ga"``           yes          forgotten rows, ``groups`` in ``fit``
``eo_scorer``            ``"eo"``           yes          forgotten rows, ``groups`` in ``fit``
``dp_scorer``            ``"dp"``           yes          forgotten rows, ``groups`` in ``fit``
``ep_scorer``            ``"ep"``           yes          forgotten rows, ``groups`` in ``fit``
``ra_scorer``            ``"ra"``           no           ``store_data=True`` (the default)
``ua_scorer``            ``"ua"``           no           forgotten rows, ``keep_forgotten=True``
``mia_scorer``           ``"mia"``          no           forgotten rows, ``keep_forgotten=True``
``mia_balanced_scorer``  ``"mia_balanced"`` no           forgotten rows, ``keep_forgotten=True``
``avg_gap_scorer(gold)``                    yes          all of the above
======================== ================== ============ =======================================
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

import joblib
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import UNCHANGED, MetadataRequest
from sklearn.utils.validation import check_memory

from .base import BaseUnlearner
from .groups import attribute_column, attribute_of_rows, codes_of, count_unknown
from .metrics import (
    SplitPredictions,
    average_gap_score,
    demographic_parity_gap,
    equal_opportunity_gap,
    equalized_odds_gap,
    evaluate_predictions,
    group_accuracy_score,
    membership_inference_efficacy,
    per_sample_cross_entropy,
    split_accuracy_score,
    worst_group_accuracy_score,
)
from .metrics.inputs import is_in, label_column, label_pair, row_weights
from .outputs import decision_threshold
from .pipelines import inputs_of_unlearner, unlearner_of, with_unlearner
from .randomness import resolve_seed
from .rows import InputRows, map_tensors
from .utils.arguments import about, to_array
from .utils.validation import check_inputs

__all__ = [
    "UnlearningScorer",
    "avg_gap_scorer",
    "dp_scorer",
    "eo_scorer",
    "ep_scorer",
    "ga_scorer",
    "get_unlearning_scorer",
    "get_unlearning_scorer_names",
    "mia_balanced_scorer",
    "mia_scorer",
    "ra_scorer",
    "ta_scorer",
    "ua_scorer",
    "wg_scorer",
]


Which = Literal["remaining", "forgotten"]


# what the scorers see ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoredRows:
    """A fitted unlearner with the rows it is scored on, as the unlearner gets them."""

    unlearner: BaseUnlearner
    X: Any
    y: Any
    groups: Any = None
    sample_weight: Any = None
    has_steps: bool = False  # before the unlearner, in a pipeline

    def labels(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return true labels, which ``fit`` has all seen, and predicted ones."""
        y, predicted = label_pair(self.y, self.unlearner.predict(self.X))
        codes_of(y, self.unlearner.classes_, "y")
        return y, predicted

    def score_of_groups(self, metric: Callable[..., float]) -> float:
        """Return a metric over the rows whose groups ``fit`` has seen."""
        y, predicted = self.labels()
        attribute, counts = self.attribute()
        weight = row_weights(self.sample_weight, len(y))[counts]
        return metric(y[counts], predicted[counts], groups=attribute, sample_weight=weight)

    def attribute(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Return the attribute of the rows that count, and which these are."""
        attribute = attribute_of_rows(self.groups, len(to_array(self.y, "y")), "y")
        counts = ~is_in(attribute, count_unknown(attribute, self.unlearner.attributes_))
        return attribute[counts], counts

    def predictions(self) -> SplitPredictions:
        """Return true labels and predicted probabilities."""
        return SplitPredictions(self.y, self.unlearner.predict_proba(self.X))


def _on_training_rows(unlearner: BaseUnlearner, which: Which) -> SplitPredictions:
    rows = unlearner.training_rows(which)
    return SplitPredictions(rows.y, unlearner.predict_proba(rows.X))


def _check_forgot(unlearner: BaseUnlearner, *, in_groups: bool = False) -> None:
    name = type(unlearner).__name__
    if len(unlearner.forget_idx_) == 0:
        raise ValueError(
            f"This score is about forgotten rows, and {name} has forgotten none. Call fit(..., "
            "forget=mask) or unlearn(rows) first. In cross-validation the training rows of every "
            "fold must hold some rows to forget: see "
            "grmu_sk.model_selection.UnlearningStratifiedKFold."
        )
    if in_groups and unlearner.attributes_ is None:
        raise ValueError(
            f"This score needs the protected attribute, and {name} was fitted without groups. "
            "Call fit(X, y, groups=...)."
        )


# one function a kind of metric -------------------------------------------------------------------


def _test_accuracy(scored: ScoredRows) -> float:
    return split_accuracy_score(*scored.labels(), sample_weight=scored.sample_weight)


def _worst_group_accuracy(scored: ScoredRows) -> float:
    return scored.score_of_groups(worst_group_accuracy_score)


def _of_forgotten_groups(scored: ScoredRows, *, metric: Callable[..., float], sign: int) -> float:
    _check_forgot(scored.unlearner, in_groups=True)
    pairs = scored.unlearner.forget_groups_
    return sign * scored.score_of_groups(partial(metric, forget_groups=pairs))


def _accuracy_on_training_rows(scored: ScoredRows, *, which: Which) -> float:
    if which == "forgotten":
        _check_forgot(scored.unlearner)
    rows = scored.unlearner.training_rows(which)
    return split_accuracy_score(rows.y, scored.unlearner.predict(rows.X))


def _membership_inference(scored: ScoredRows, *, attack: Literal["paper", "balanced"]) -> float:
    unlearner = scored.unlearner
    _check_forgot(unlearner)
    forgotten = _on_training_rows(unlearner, "forgotten")
    splits = (_on_training_rows(unlearner, "remaining"), scored.predictions(), forgotten)
    losses = [
        per_sample_cross_entropy(split.y, split.proba, classes=unlearner.classes_)
        for split in splits
    ]
    return membership_inference_efficacy(*losses, attack=attack)


# the scorer --------------------------------------------------------------------------------------


class UnlearningScorer:
    """A scorer that knows what was forgotten.

    Not constructed directly: use the ready-made ones of this module,
    :func:`get_unlearning_scorer` or :func:`avg_gap_scorer`.

    Parameters
    ----------
    name : str
        What it is called.
    function : callable
        ``function(scored_rows) -> float``, greater is better.
    uses_groups : bool, default=True
        Whether the protected attribute of the scored rows is needed.
    uses_weights : bool, default=True
        Whether weights of the scored rows count. Metrics of training rows have no use for them.

    See Also
    --------
    sklearn.metrics.make_scorer : Makes scorers of metrics that need predictions only.

    Notes
    -----
    With metadata routing, ``groups`` is requested unless :meth:`set_score_request` says otherwise;
    ``sample_weight`` has to be requested, as for every scorer of scikit-learn.

    Examples
    --------
    >>> from grmu_sk.scorers import ga_scorer
    >>> ga_scorer
    ga_scorer
    >>> ga_scorer.get_metadata_routing()
    {'score': {'groups': True, 'sample_weight': None}}
    """

    def __init__(
        self,
        name: str,
        function: Callable[[ScoredRows], float],
        *,
        uses_groups: bool = True,
        uses_weights: bool = True,
    ) -> None:
        self.name = name
        self._function = function
        self._uses_groups = uses_groups
        self._uses_weights = uses_weights
        weights = None if uses_weights else False
        self._requests: dict[str, Any] = {"groups": True, "sample_weight": weights}

    def __call__(
        self,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        groups: Any = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
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
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        float
            The score, greater is better.

        Raises
        ------
        TypeError
            If there is no unlearner in the estimator.
        ValueError
            If groups are needed and missing, or lack a group that the metric compares; if weights
            are given and have no meaning, nothing was forgotten, or the unlearner does not hold
            the rows the score is about.
        """
        if not self._uses_weights and sample_weight is not None:
            raise ValueError(
                f"{self} looks at training rows; sample_weight, which belongs to the rows it is "
                "called with, has no meaning here. Leave it out."
            )
        unlearner = unlearner_of(estimator)
        if self._uses_groups and groups is None:
            raise ValueError(
                f"{self} needs groups, the protected attribute of each test row. Model selection "
                "hands it over with metadata routing only: inside "
                "sklearn.config_context(enable_metadata_routing=True), "
                'cross_validate(..., params={"groups": a, "forget": mask}).'
            )
        X = inputs_of_unlearner(estimator, X)
        has_steps = with_unlearner(estimator, unlearner) is not unlearner
        return float(self._function(ScoredRows(unlearner, X, y, groups, sample_weight, has_steps)))

    # metadata routing --------------------------------------------------------------------------

    def set_score_request(
        self, *, groups: bool | str | None = UNCHANGED, sample_weight: bool | str | None = UNCHANGED
    ) -> Self:
        """Set what metadata the scorer asks for, and under which name.

        The scorer itself is changed. To leave the ready-made one of the module alone, take a copy
        from :func:`get_unlearning_scorer`.

        Parameters
        ----------
        groups : bool, str or None, default=UNCHANGED
            True requests it, False ignores it, None raises an error if it is passed, and a string
            is the name under which it is passed.
        sample_weight : bool, str or None, default=UNCHANGED
            The same for sample_weight.

        Returns
        -------
        UnlearningScorer
            The same object.

        Raises
        ------
        RuntimeError
            If metadata routing is not enabled.
        """
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "This method is only available when metadata routing is enabled, by "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        given = {"groups": groups, "sample_weight": sample_weight}
        requests = self._requests | {
            name: alias for name, alias in given.items() if alias != UNCHANGED
        }
        _metadata_request(self.name, requests)  # raises for an alias that is none
        self._requests = requests
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what metadata the scorer asks for.

        Returns
        -------
        MetadataRequest
            The request of ``score``.
        """
        return _metadata_request(self.name, self._requests)

    def _accept_sample_weight(self) -> bool:
        # asked by GridSearchCV and multi-metric scoring where routing is off
        return self._uses_weights

    def __repr__(self) -> str:
        return self.name


def _metadata_request(owner: str, requests: dict[str, Any]) -> MetadataRequest:
    request = MetadataRequest(owner=owner)
    for name, alias in requests.items():
        request.score.add_request(param=name, alias=alias)
    return request


def _about_forgotten_groups(
    name: str, metric: Callable[..., float], sign: int = -1
) -> UnlearningScorer:
    return UnlearningScorer(name, partial(_of_forgotten_groups, metric=metric, sign=sign))


def _about_training_rows(function: Callable[..., float], name: str, **how: str) -> UnlearningScorer:
    return UnlearningScorer(name, partial(function, **how), uses_groups=False, uses_weights=False)


#: RA: accuracy on the training rows that remain. Good when near the gold standard's.
ra_scorer = _about_training_rows(_accuracy_on_training_rows, "ra_scorer", which="remaining")
#: UA: accuracy on the forgotten rows. Neither large nor small is good: near the gold standard is.
ua_scorer = _about_training_rows(_accuracy_on_training_rows, "ua_scorer", which="forgotten")
#: TA: accuracy on the rows of the call (in cross-validation, the test rows of the fold).
ta_scorer = UnlearningScorer("ta_scorer", _test_accuracy, uses_groups=False)
#: WG: accuracy of the worst group (y, a).
wg_scorer = UnlearningScorer("wg_scorer", _worst_group_accuracy)
#: GA: accuracy on the groups (y, a) that rows were forgotten from.
ga_scorer = _about_forgotten_groups("ga_scorer", group_accuracy_score, sign=1)
#: Minus EO, the equalized odds gap.
eo_scorer = _about_forgotten_groups("eo_scorer", equalized_odds_gap)
#: Minus DP, the demographic parity gap.
dp_scorer = _about_forgotten_groups("dp_scorer", demographic_parity_gap)
#: Minus EP, the equal opportunity gap.
ep_scorer = _about_forgotten_groups("ep_scorer", equal_opportunity_gap)
#: MIA: share of forgotten rows that the paper's attack takes for rows never trained on. Members are
#: the remaining rows. Non-members are the rows of the call, since a fold has no other unseen rows:
#: where the same rows choose a hyper-parameter, do not report the value.
mia_scorer = _about_training_rows(_membership_inference, "mia_scorer", attack="paper")
#: The same with the balanced attack, which is near 0.5 where losses tell nothing.
mia_balanced_scorer = _about_training_rows(
    _membership_inference, "mia_balanced_scorer", attack="balanced"
)

_SCORERS = {
    scorer.name.removesuffix("_scorer"): scorer
    for scorer in (
        *(dp_scorer, eo_scorer, ep_scorer, ga_scorer, mia_balanced_scorer, mia_scorer),
        *(ra_scorer, ta_scorer, ua_scorer, wg_scorer),
    )
}


def get_unlearning_scorer_names() -> list[str]:
    """Return the names that :func:`get_unlearning_scorer` knows.

    Returns
    -------
    list of str
        Sorted names.

    Examples
    --------
    >>> from grmu_sk.scorers import get_unlearning_scorer_names
    >>> get_unlearning_scorer_names()
    ['dp', 'eo', 'ep', 'ga', 'mia', 'mia_balanced', 'ra', 'ta', 'ua', 'wg']
    """
    return sorted(_SCORERS)


def get_unlearning_scorer(name: str) -> UnlearningScorer:
    """Return a copy of a ready-made scorer.

    Parameters
    ----------
    name : str
        One of :func:`get_unlearning_scorer_names`.

    Returns
    -------
    UnlearningScorer
        A new object, whose metadata request can be changed without touching that of others.

    Raises
    ------
    ValueError
        If there is no such scorer.

    See Also
    --------
    avg_gap_scorer : The scorer that needs a gold standard, and hence has no name.

    Examples
    --------
    >>> from grmu_sk.scorers import ga_scorer, get_unlearning_scorer
    >>> scorer = get_unlearning_scorer("ga")
    >>> scorer, scorer is ga_scorer
    (ga_scorer, False)
    """
    if name not in _SCORERS:
        raise ValueError(
            f"{name!r} is not the name of an unlearning scorer. Choose from "
            f"{get_unlearning_scorer_names()}; the average gap needs a gold standard: "
            "avg_gap_scorer(gold=RetrainUnlearner(net, random_state=0))."
        )
    return copy.deepcopy(_SCORERS[name])


# the average gap ---------------------------------------------------------------------------------


def avg_gap_scorer(gold: Any, memory: str | joblib.Memory | None = None) -> UnlearningScorer:
    r"""Make a scorer of the average gap to a gold standard.

    In each fold a clone of ``gold`` learns the training rows the scored unlearner was given and
    forgets the same rows. With :math:`v_m` the metric :math:`m` of the scored unlearner and
    :math:`v^\star_m` that of the gold standard, the score is

    .. math::

        1 - \frac{1}{6} \sum_m \left| v_m - v^\star_m \right|, \qquad
        m \in \{RA, UA, TA, MIA, EO, GA\}.

    The gold standard is trained at most once for the same data, rows to forget, seed and
    parameters; in a search all candidates of a fold share it. What is remembered are its metrics
    alone, in this process and, with ``memory``, on disk: no row and no weight.

    The scored unlearner must be constructed with ``keep_forgotten=True``, since the gold standard
    and two of the metrics need the forgotten rows. In a pipeline the gold standard gets the rows
    as the earlier steps of the scored pipeline put them out.

    Parameters
    ----------
    gold : BaseUnlearner or Pipeline
        What is trained for comparison, usually ``RetrainUnlearner(net, random_state=0)``; of a
        pipeline, its last step. Not modified. With ``random_state=None`` one seed is drawn here
        and used for every fold.
    memory : str, joblib.Memory or None, default=None
        Where to keep the metrics of gold standards between sessions and processes. Fix the
        ``random_state`` of ``gold`` then. A change in the code of the net's module is not seen:
        clear the memory after one.

    Returns
    -------
    UnlearningScorer
        The scorer: a fraction in [0, 1], where 1 means no difference.

    Raises
    ------
    TypeError
        If there is no unlearner in ``gold``.
    ValueError
        If ``memory`` is not a path, None or a joblib.Memory.
    OSError
        If ``memory`` is a path at which no folder can be made.

    See Also
    --------
    grmu_sk.metrics.average_gap_score : The formula by itself.
    grmu_sk.model_selection.cross_validate_unlearning : Compares several unlearners in one call.

    Notes
    -----
    The attack's non-members are the test rows of the fold, see ``mia_scorer``.

    With several processes (``n_jobs``) each process trains its own gold standards, unless
    ``memory`` is given. ``return_train_score=True`` trains further ones, for scores that mean
    nothing: rows that were trained on are no test rows.

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
    with about("gold"):
        unlearner = unlearner_of(gold, fitted=False)
    seed = resolve_seed(unlearner.random_state)
    own = clone(unlearner).set_params(random_state=seed, store_data=True, keep_forgotten=True)
    gap = _AverageGap(own, check_memory(memory), isinstance(gold, Pipeline))
    return UnlearningScorer("avg_gap_scorer", gap, uses_weights=False)


#: Metrics of gold standards, by scorer and data. A worker process unpickles a scorer anew for each
#: task, so what it learns must live outside of it.
_gold_metrics: dict[tuple[str, str], dict[str, float]] = {}


class _AverageGap:
    """The average gap of scored rows to a gold standard."""

    def __init__(self, gold: BaseUnlearner, memory: joblib.Memory, has_steps: bool) -> None:
        self.gold = gold
        self.has_steps = has_steps
        self.memory = memory
        # stands for the gold standard, which never changes: copies and pickles share it
        self.token = uuid.uuid4().hex

    def __call__(self, scored: ScoredRows) -> float:
        _check_forgot(scored.unlearner, in_groups=True)
        if self.has_steps and not scored.has_steps:
            raise ValueError(
                "gold is a pipeline, and what is scored is none: its earlier steps would be left "
                "out. Score a pipeline with the same steps, or pass the last step as gold."
            )
        return average_gap_score(_metrics_of(scored), self._metrics_of_gold(scored))

    def _metrics_of_gold(self, scored: ScoredRows) -> dict[str, float]:
        digest = _digest_of_rows(scored)
        if (self.token, digest) not in _gold_metrics:
            train_and_score = self.memory.cache(_train_and_score, ignore=["scored"])
            _gold_metrics[self.token, digest] = train_and_score(self.gold, digest, scored)
        return _gold_metrics[self.token, digest]


def _train_and_score(gold: BaseUnlearner, digest: str, scored: ScoredRows) -> dict[str, float]:
    """Train a gold standard on the rows of the scored unlearner; ``digest`` stands for them."""
    data = scored.unlearner.training_rows("all")
    # some methods take no weights at all
    weights = {} if data.sample_weight is None else {"sample_weight": data.sample_weight}
    forget = np.isin(data.rows, scored.unlearner.forget_idx_)
    trained = clone(gold).fit(data.X, data.y, data.groups, forget=forget, **weights)
    return _metrics_of(replace(scored, unlearner=trained))


def _metrics_of(scored: ScoredRows) -> dict[str, float]:
    unlearner = scored.unlearner
    attribute, counts = scored.attribute()
    y, proba = label_column(scored.y, name="y"), unlearner.predict_proba(scored.X)
    test = SplitPredictions(y[counts], proba[counts], attribute)
    return evaluate_predictions(
        classes=unlearner.classes_,
        remaining=_on_training_rows(unlearner, "remaining"),
        forget=_on_training_rows(unlearner, "forgotten"),
        test=test,
        holdout=test,
        forget_groups=unlearner.forget_groups_,
        threshold=decision_threshold(unlearner.net_),
        mia="paper",
    )


def _digest_of_rows(scored: ScoredRows) -> str:
    unlearner = scored.unlearner
    data = unlearner.training_rows("all")
    return joblib.hash(
        [
            *(_digest_of_inputs(unlearner, X) for X in (data.X, scored.X)),
            data.y,
            data.groups,
            data.sample_weight,
            unlearner.forget_idx_,
            to_array(scored.y, "y"),
            attribute_column(scored.groups),
        ]
    )


def _digest_of_inputs(unlearner: BaseUnlearner, X: Any, batch_size: int = 1024) -> str:
    """Hash inputs of any kind, a batch at a time: they may not fit into memory."""
    X = check_inputs(unlearner, X, None, reset=False)
    inputs = InputRows(X, torch.float64, keep_integers=True)  # loses nothing
    batches = torch.arange(len(inputs)).split(batch_size)
    arrays = (map_tensors(partial(to_array, name="X"), inputs.fetch(rows)) for rows in batches)
    return joblib.hash([joblib.hash(batch) for batch in arrays])
