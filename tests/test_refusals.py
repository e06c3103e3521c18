"""Values that would give a wrong result are refused in words, and nothing changes by the attempt.

What one kind of input or one method refuses is tested where that is tested; these are the public
functions that users call with columns of their own making.
"""

import functools
import pickle

import numpy as np
import pandas as pd
import pytest
from chaos_arguments import TARGETS, break_arguments
from conftest import make_net, make_table
from sklearn.linear_model import LogisticRegression

import grmu_sk
from grmu_sk import FineTuneUnlearner, RetrainUnlearner, audit, metrics, model_selection, scorers

pytestmark = pytest.mark.quick

TABLE = make_table(48, seed=3)
X, Y, A = TABLE.X, TABLE.y, TABLE.a
PAIR = {"forget_groups": [(1, 0)]}
NAN = np.where(np.arange(48) == 9, np.nan, Y)
PROBA = np.full((48, 2), 0.5)
LOSSES = np.linspace(0.1, 1, 12)
SCORES = dict.fromkeys(("RA", "UA", "TA", "MIA", "EO", "GA"), 0.5)
SPLIT = metrics.SplitPredictions(Y, PROBA, A)


@functools.cache
def model():
    unlearner = FineTuneUnlearner(make_net(max_epochs=1), max_epochs=1, random_state=0)
    unlearner.fit(X, Y, A).unlearn([2, 9]).predict(X)  # which leaves the net in evaluation mode
    return unlearner


def kept():
    unlearner = FineTuneUnlearner(max_epochs=1, keep_forgotten=True, random_state=0)
    return unlearner.fit(X, Y, A)


def measured():
    return audit.measure(model(), X, Y, A, n_bootstrap=2)


def evaluate(**changed):
    splits = dict.fromkeys(("remaining", "forget", "test", "holdout"), SPLIT)
    given = {"classes": [0, 1], "forget_groups": [(1, 0)], "empty": "nan"}
    return metrics.evaluate_predictions(**{**splits, **given, **changed})


def sampler():
    return grmu_sk.ReweightSampler().fit(Y, groups=A)


def folds(n_splits=2, y=Y, groups=A, forget=TABLE.a > 5):
    cv = model_selection.UnlearningStratifiedKFold(n_splits)
    return list(cv.split(X, y, groups, forget=forget))


def mine(X=X, y=Y, **params):
    return grmu_sk.MINE(max_updates=1, **params).fit(X, y)


ga, eo = metrics.group_accuracy_score, metrics.equalized_odds_gap
draw = functools.partial(grmu_sk.sample_forget_set, Y, A, forget_groups=(1, 0), random_state=0)
mia = metrics.membership_inference_efficacy
TABLE_OF_REFUSALS = {
    # rows of labels, predictions, attributes
    "predictions of other length": (
        lambda: ga(Y, Y[:-1], groups=A, **PAIR),
        "y_pred",
    ),
    "attributes of other length": (
        lambda: ga(Y, Y, groups=A[:-1], **PAIR),
        "groups",
    ),
    "missing label": (lambda: ga(NAN, Y, groups=A, **PAIR), "missing|NaN"),
    "missing attribute": (lambda: ga(Y, Y, groups=NAN, **PAIR), "missing|NaN"),
    "group that is not there": (lambda: ga(Y, Y, groups=A, forget_groups=[(7, 0)]), "7"),
    "negative weight": (
        lambda: metrics.group_accuracies(Y, Y, groups=A, sample_weight=-Y - 1.0),
        "negat",
    ),
    "weights that are all zero": (
        lambda: metrics.worst_group_accuracy_score(Y, Y, groups=A, sample_weight=np.zeros(48)),
        "zero|sample_weight",
    ),
    "unknown positive class": (
        lambda: metrics.equal_opportunity_gap(Y, Y, groups=A, **PAIR, pos_label=5),
        "pos_label",
    ),
    "rows out of range": (lambda: metrics.split_accuracy_score(Y, Y, rows=[99]), "rows|99"),
    # probabilities, losses
    "probabilities that do not sum to 1": (
        lambda: metrics.per_sample_cross_entropy(Y, 2 * PROBA, classes=[0, 1]),
        "proba",
    ),
    "negative probabilities": (
        lambda: metrics.per_sample_cross_entropy(Y, PROBA + np.array([-1, 1]), classes=[0, 1]),
        "proba",
    ),
    "a class too few": (
        lambda: metrics.per_sample_cross_entropy(Y, PROBA, classes=[0, 1, 2]),
        "proba|classes",
    ),
    "labels that are no class": (
        lambda: metrics.per_sample_cross_entropy(Y + 5, PROBA, classes=[0, 1]),
        "y_true|class",
    ),
    "no loss": (lambda: mia(LOSSES, LOSSES, []), "forget_losses .* not empty"),
    "loss that is NaN": (lambda: mia([np.nan], LOSSES, LOSSES), "member_losses"),
    "unknown attack": (lambda: mia(LOSSES, LOSSES, LOSSES, attack="x"), "attack"),
    "split without labels": (lambda: evaluate(test=None), "test"),
    "unknown metric": (lambda: metrics.average_gap_score(SCORES, SCORES, metrics=("XX",)), "XX"),
    "scores in percent": (
        lambda: metrics.tug_of_war_score({**SCORES, "RA": 95.0}, SCORES),
        "percent|between|95",
    ),
    # REWEIGHT, forget sets, MINE, folds
    "ratio over 1": (lambda: draw(ratio=1.5), "ratio"),
    "sampler with a group gone": (
        lambda: sampler().transform(Y[A == 0], groups=A[A == 0]),
        "nothing to sample",
    ),
    "MINE of NaN": (lambda: mine(np.full_like(X, np.nan)), "NaN"),
    "forget as row numbers": (lambda: folds(forget=[3, 7]), "boolean mask"),
    # models
    "a model that is no unlearner": (
        lambda: scorers.ga_scorer(LogisticRegression().fit(X, Y), X, Y, groups=A),
        "unlearner",
    ),
    "scorer without groups": (lambda: scorers.ga_scorer(model(), X, Y), "groups"),
    "scorer of unknown groups": (lambda: scorers.ga_scorer(model(), X, Y, groups=A + 5), "seen"),
    "gold that is no unlearner": (lambda: scorers.avg_gap_scorer(LogisticRegression()), "gold"),
    "estimator that is no net": (
        lambda: RetrainUnlearner(LogisticRegression()).fit(X, Y),
        "skorch net",
    ),
    "negative row": (lambda: model().unlearn([-1]), "negative"),
    "row twice": (lambda: model().unlearn([5, 7, 5]), "more than once"),
    "row beyond": (lambda: model().unlearn([48]), "row 48"),
    "mask of other length": (lambda: model().unlearn(A[:5] > 0), "length 5"),
    "infinite input": (lambda: model().predict(X + np.inf), "infinity"),
    "dropped rows": (lambda: model().training_rows("forgotten"), "keep_forgotten"),
    "unknown id": (lambda: model().unlearn(ids=["x"]), "id"),
    "checkpoint of nothing": (lambda: grmu_sk.UnlearningCheckpoint("x", every_seconds=-1), "every"),
    "groups of other rows": (
        lambda: kept().fit(pd.DataFrame(X), Y, pd.Series(A[:5])),
        "groups",
    ),
    # audit
    "tolerance below 0": (lambda: audit.AcceptanceGate(test_accuracy=-0.1), "test_accuracy"),
    "confidence of 1": (
        lambda: audit.measure(model(), X, Y, A, confidence=1.0, n_bootstrap=2),
        "confidence",
    ),
    "no search": (lambda: audit.scan_residue({"a": X}), "rows|original"),
}


@pytest.mark.parametrize("what", TABLE_OF_REFUSALS)
def test_refused_in_words(what):
    call, match = TABLE_OF_REFUSALS[what]
    before = pickle.dumps(model()), X.tobytes(), Y.tobytes(), A.tobytes()
    state = np.random.get_state()[1].tobytes()
    with pytest.raises((ValueError, TypeError, IndexError, KeyError), match=match):
        call()
    assert (pickle.dumps(model()), X.tobytes(), Y.tobytes(), A.tobytes()) == before
    assert np.random.get_state()[1].tobytes() == state


def test_broken_arguments_do_no_harm():
    """A glance at what ``make chaos`` does for long."""
    assert break_arguments(3 * len(TARGETS), seed=0) == []
