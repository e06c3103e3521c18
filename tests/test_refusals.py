"""Values that would give a wrong result are refused in words, and nothing changes by the attempt.

What one kind of input or one method refuses is tested where that is tested; these are the public
functions that users call with columns of their own making.
"""

import functools
import pickle

import numpy as np
import pandas as pd
import pytest
from conftest import make_net, make_table

import grmu_sk
from grmu_sk import FineTuneUnlearner, metrics, model_selection, scorers

pytestmark = pytest.mark.quick

TABLE = make_table(48, seed=3)
X, Y, A = TABLE.X, TABLE.y, TABLE.a
NAN = np.where(np.arange(48) == 9, np.nan, Y)
PROBA = np.full((48, 2), 0.5)
LOSSES = np.linspace(0.1, 1, 12)
SCORES = dict.fromkeys(("RA", "UA", "TA", "MIA", "EO", "GA"), 0.5)


@functools.cache
def model():
    unlearner = FineTuneUnlearner(make_net(max_epochs=1), max_epochs=1, random_state=0)
    unlearner.fit(X, Y, A).unlearn([2, 9]).predict(X)  # which leaves the net in evaluation mode
    return unlearner


def fit(X=X, y=Y, groups=A, **about):
    FineTuneUnlearner(make_net(max_epochs=1)).fit(X, y, groups, **about)


def ga(y=Y, predicted=Y, groups=A, forget_groups=((1, 0),), **about):
    metrics.group_accuracy_score(y, predicted, groups=groups, forget_groups=forget_groups, **about)


def losses(y=Y, proba=PROBA, classes=(0, 1)):
    metrics.per_sample_cross_entropy(y, proba, classes=classes)


def folds(forget):
    list(model_selection.UnlearningStratifiedKFold(2).split(X, Y, A, forget=forget))


sampler = functools.partial(grmu_sk.ReweightSampler().fit(Y, groups=A).transform)
draw = functools.partial(grmu_sk.sample_forget_set, Y, A, forget_groups=(1, 0), random_state=0)
mia = metrics.membership_inference_efficacy
REFUSED = {
    # rows, labels, attributes
    "missing input": (lambda: fit(X + np.nan), "X"),
    "missing label": (lambda: fit(y=pd.Series(Y, dtype="Int64").replace(0, pd.NA)), "y.*NaN"),
    "masked labels": (lambda: fit(y=np.ma.masked_array(Y, mask=A)), "y has masked"),
    "groups of other rows": (lambda: fit(pd.DataFrame(X), Y, pd.Series(A[:5])), "groups"),
    "forget as row numbers": (lambda: fit(forget=[3, 7]), "boolean mask"),
    "weights below 0": (lambda: fit(sample_weight=-Y - 1.0), "sample_weight"),
    # metrics
    "predictions of other length": (lambda: ga(predicted=Y[:-1]), "y_pred"),
    "missing label of a metric": (lambda: ga(NAN), "missing|NaN"),
    "labels of two kinds": (lambda: ga(predicted=Y.astype(str)), "mix texts"),
    "scores as predictions": (lambda: ga(predicted=PROBA[:, 0]), "fractions: pass class labels"),
    "a column for each class": (lambda: ga(predicted=PROBA), "one class label a row"),
    "weights of other rows": (lambda: ga(sample_weight=[1.0]), r"shape \(48,\)"),
    "negative weights": (lambda: ga(sample_weight=-Y - 1.0), "not negative"),
    "probabilities of other rows": (lambda: losses(proba=PROBA[:5]), "proba must have shape"),
    "NaN probabilities": (lambda: losses(proba=np.nan * PROBA), "proba holds NaN"),
    "probabilities that do not sum to 1": (lambda: losses(proba=2 * PROBA), "proba"),
    "negative probabilities": (lambda: losses(proba=PROBA + np.array([-1, 1])), "proba"),
    "labels that are no class": (lambda: losses(Y + 5), "y_true|class"),
    "no loss": (lambda: mia(LOSSES, LOSSES, []), "forget_losses .* not empty"),
    "losses in columns": (lambda: mia(LOSSES, [[0.1], [0.2]], LOSSES), "nonmember_losses .* 1-D"),
    "loss that is NaN": (lambda: mia([np.nan], LOSSES, LOSSES), "member_losses"),
    "percent": (lambda: metrics.tug_of_war_score({**SCORES, "RA": 95.0}, SCORES), "between|95"),
    "metric that is missing": (lambda: metrics.average_gap_score({"RA": 0.5}, SCORES), "lacks"),
    # REWEIGHT, forget sets, MINE, folds
    "ratio over 1": (lambda: draw(ratio=1.5), "ratio"),
    "sampler with a group gone": (lambda: sampler(Y[A == 0], groups=A[A == 0]), "nothing"),
    "folds with row numbers": (lambda: folds([3, 7]), "boolean mask"),
    # models
    "scorer without groups": (lambda: scorers.ga_scorer(model(), X, Y), "groups"),
    "scorer of unknown groups": (lambda: scorers.ga_scorer(model(), X, Y, groups=A + 5), "seen"),
    "negative row": (lambda: model().unlearn([-1]), "negative"),
    "row twice": (lambda: model().unlearn([5, 7, 5]), "more than once"),
    "row beyond": (lambda: model().unlearn([48]), "row 48"),
    "mask of other length": (lambda: model().unlearn(A[:5] > 0), "length 48"),
    "dropped rows": (lambda: model().training_rows("forgotten"), "keep_forgotten"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_words(what):
    call, match = REFUSED[what]
    before = pickle.dumps(model()), X.tobytes(), Y.tobytes(), A.tobytes()
    state = np.random.get_state()[1].tobytes()
    with pytest.raises((ValueError, TypeError, IndexError, KeyError), match=match):
        call()
    assert (pickle.dumps(model()), X.tobytes(), Y.tobytes(), A.tobytes()) == before
    assert np.random.get_state()[1].tobytes() == state
