import numpy as np
import pytest
from sklearn.exceptions import UndefinedMetricWarning

from grmu_sk import metrics
from grmu_sk.metrics import SplitPredictions, evaluate_predictions
from grmu_sk.metrics.evaluate import Split, evaluate_model

pytestmark = pytest.mark.quick

CLASSES = np.array(["ant", "bee", "cat"])


def random_split(seed, n, n_classes=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    logits = rng.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[y]
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return SplitPredictions(CLASSES[y], proba, rng.choice(["x", "y", "z"], size=n))


@pytest.fixture(scope="module")
def splits():
    sizes = {"remaining": 200, "forget": 40, "test": 300, "holdout": 80}
    return {name: random_split(seed, n) for seed, (name, n) in enumerate(sizes.items())}


@pytest.fixture(scope="module")
def scores(splits):
    return evaluate_predictions(classes=CLASSES, forget_groups=("bee", "x"), **splits)


def test_equals_the_single_functions(splits, scores):
    pred = {name: CLASSES[split.proba.argmax(axis=1)] for name, split in splits.items()}
    losses = [
        metrics.per_sample_cross_entropy(splits[name].y, splits[name].proba, classes=CLASSES)
        for name in ("remaining", "holdout", "forget")
    ]
    y, y_pred, a = splits["test"].y, pred["test"], splits["test"].groups
    shared = {"groups": a, "forget_groups": ("bee", "x")}
    expected = {
        "RA": np.mean(splits["remaining"].y == pred["remaining"]),
        "UA": np.mean(splits["forget"].y == pred["forget"]),
        "TA": np.mean(y == y_pred),
        "MIA": metrics.membership_inference_efficacy(*losses, attack="paper"),
        "MIA_balanced": metrics.membership_inference_efficacy(*losses, attack="balanced"),
        "EO": metrics.equalized_odds_gap(y, y_pred, **shared),
        "GA": np.mean(y_pred[(y == "bee") & (a == "x")] == "bee"),
        "DP": metrics.demographic_parity_gap(y, y_pred, **shared),
        "EP": metrics.equal_opportunity_gap(y, y_pred, **shared),
        "WG": metrics.group_accuracies(y, y_pred, groups=a).min(),
    }
    assert scores == pytest.approx(expected, rel=1e-13)


def test_a_model_runs_once_over_each_split(splits, scores):
    """One pass over the training rows serves the remaining and the forgotten ones."""
    passes = []

    class Model:
        classes_ = CLASSES

        def predict_proba(self, X):
            passes.append(len(X))
            return X

    parts = [splits["forget"], splits["remaining"]]
    train = Split(
        *(np.concatenate([getattr(p, n) for p in parts]) for n in ("proba", "y", "groups"))
    )
    test, holdout = (
        Split(splits[name].proba, splits[name].y, splits[name].groups)
        for name in ("test", "holdout")
    )
    rows = {"train": train, "test": test, "forget": np.arange(240) < 40}
    found = evaluate_model(Model(), **rows, holdout=holdout, forget_groups=("bee", "x")).scores
    assert passes == [240, 300, 80]
    by_group = {name: found.pop(name) for name in list(found) if name.startswith("group_")}
    assert found == scores
    assert len(by_group) == 9 and min(by_group.values()) == scores["WG"]
    assert by_group["group_accuracy[bee, x]"] == scores["GA"]
    evaluate_model(Model(), **rows, holdout=test, metrics="RA")
    assert passes[3:] == [240, 300], "non-members that are the test rows are not run again"


def test_empty_group(splits):
    asked = ["EO", "GA", "DP", "EP", "WG"]
    shared = {"classes": CLASSES, "forget_groups": ("bee", "nowhere"), "metrics": asked, **splits}
    with pytest.warns(UndefinedMetricWarning):
        scores = evaluate_predictions(**shared)
    assert {name for name, score in scores.items() if np.isnan(score)} == {"EO", "GA", "DP", "EP"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holdout": None}, "MIA needs the split 'holdout'"),
        ({"metrics": "svm"}, r"metrics must be one of .*got 'svm'"),
        ({"forget_groups": None, "metrics": "GA"}, "forget_groups must be one or more pairs"),
        ({"test": SplitPredictions(["ant"], [[1.0, 0, 0]]), "metrics": "WG"}, "groups must be"),
        ({"remaining": SplitPredictions(["dog"], [[0.2, 0.3, 0.5]])}, r"remaining\.y .* 'dog'"),
        ({"holdout": SplitPredictions(["ant"], [[4.0, -2, 0]])}, r"holdout\.proba must be probab"),
    ],
)
def test_errors(splits, change, message):
    given = {"classes": CLASSES, "forget_groups": ("bee", "x"), **splits}
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(**{**given, **change})
