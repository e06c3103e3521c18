"""Values that would give a wrong result are refused in words, and nothing changes by the attempt.

What one kind of input or one method refuses is tested where that is tested; these are the public
functions that users call with columns of their own making.
"""

import functools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net, make_table
from sklearn.linear_model import LogisticRegression

import grmu_sk
from grmu_sk import FineTuneUnlearner, audit, metrics, model_selection, scorers
from grmu_sk.validation import to_array, to_numbers

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
    "infinite tensor": (lambda: fit(torch.as_tensor(X) + np.inf), "infinity"),
    "dates": (lambda: fit(X.astype("M8[s]")), "X"),
    "categories": (
        lambda: fit(pd.DataFrame({"b": pd.Categorical(["b"] * 48)})),
        "X must hold numbers",
    ),
    "no rows": (lambda: fit({"x": X}), "2D array"),
    "missing label": (lambda: fit(y=pd.Series(Y, dtype="Int64").replace(0, pd.NA)), "y.*NaN"),
    "masked labels": (lambda: fit(y=np.ma.masked_array(Y, mask=A)), "y has masked"),
    "labels of other length": (lambda: fit(y=Y[:-1], groups=A[:-1]), "inconsistent"),
    "groups of other rows": (lambda: fit(pd.DataFrame(X), Y, pd.Series(A[:5])), "groups"),
    "one class": (lambda: fit(y=0 * Y), "1 class"),
    "forget as row numbers": (lambda: fit(forget=[3, 7]), "boolean mask"),
    "weights below 0": (lambda: fit(sample_weight=-Y - 1.0), "sample_weight"),
    "weights of other length": (lambda: fit(sample_weight=np.ones(3)), "sample_weight"),
    "ragged": (lambda: to_array([[1], [1, 2]], "X"), "X"),
    "imaginary": (lambda: to_numbers([1j], "X"), "X"),
    "words for numbers": (lambda: to_numbers(["x"], "X"), "X"),
    # metrics
    "predictions of other length": (lambda: ga(predicted=Y[:-1]), "y_pred"),
    "attributes of other length": (lambda: ga(groups=A[:-1]), "groups"),
    "missing label of a metric": (lambda: ga(NAN), "missing|NaN"),
    "missing attribute": (lambda: ga(groups=NAN), "missing|NaN"),
    "negative weight": (lambda: ga(sample_weight=-Y - 1.0), "negat"),
    "probabilities that do not sum to 1": (lambda: losses(proba=2 * PROBA), "proba"),
    "negative probabilities": (lambda: losses(proba=PROBA + np.array([-1, 1])), "proba"),
    "a class too few": (lambda: losses(classes=[0, 1, 2]), "proba|classes"),
    "labels that are no class": (lambda: losses(Y + 5), "y_true|class"),
    "no loss": (lambda: mia(LOSSES, LOSSES, []), "forget_losses .* not empty"),
    "loss that is NaN": (lambda: mia([np.nan], LOSSES, LOSSES), "member_losses"),
    "unknown attack": (lambda: mia(LOSSES, LOSSES, LOSSES, attack="x"), "attack"),
    "unknown metric": (lambda: metrics.average_gap_score(SCORES, SCORES, metrics=["XX"]), "XX"),
    "percent": (lambda: metrics.tug_of_war_score({**SCORES, "RA": 95.0}, SCORES), "between|95"),
    # REWEIGHT, forget sets, MINE, folds
    "ratio over 1": (lambda: draw(ratio=1.5), "ratio"),
    "sampler with a group gone": (lambda: sampler(Y[A == 0], groups=A[A == 0]), "nothing"),
    "MINE of NaN": (lambda: grmu_sk.MINE(max_updates=1).fit(X + np.nan, Y), "NaN"),
    "folds with row numbers": (lambda: folds([3, 7]), "boolean mask"),
    # models
    "a model that is no unlearner": (
        lambda: scorers.ga_scorer(LogisticRegression().fit(X, Y), X, Y, groups=A),
        "unlearner",
    ),
    "scorer without groups": (lambda: scorers.ga_scorer(model(), X, Y), "groups"),
    "scorer of unknown groups": (lambda: scorers.ga_scorer(model(), X, Y, groups=A + 5), "seen"),
    "gold that is no unlearner": (lambda: scorers.avg_gap_scorer(LogisticRegression()), "gold"),
    "negative row": (lambda: model().unlearn([-1]), "negative"),
    "row twice": (lambda: model().unlearn([5, 7, 5]), "more than once"),
    "row beyond": (lambda: model().unlearn([48]), "row 48"),
    "row that is none": (lambda: model().unlearn([1.5]), "integers"),
    "mask of other length": (lambda: model().unlearn(A[:5] > 0), "length 48"),
    "unknown id": (lambda: model().unlearn(ids=["x"]), "id"),
    "infinite input": (lambda: model().predict(X + np.inf), "infinity"),
    "other columns": (lambda: model().predict(X[:, :3]), "features"),
    "dropped rows": (lambda: model().training_rows("forgotten"), "keep_forgotten"),
    # audit
    "tolerance below 0": (lambda: audit.AcceptanceGate(test_accuracy=-0.1), "test_accuracy"),
    "confidence of 1": (lambda: audit.measure(model(), X, Y, A, confidence=1.0), "confidence"),
    "no search": (lambda: audit.scan_residue({"a": X}), "rows|original"),
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
