import numpy as np
import pytest
import torch
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
    assert scores == {
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


LABELS = {
    "strings": ("ant", "bee", "cat"),
    "numbers with gaps": (7, -1, 30),
    "objects that have no order": ("ant", 5, ("a", "pair")),
}
ATTRIBUTES = {
    "strings": ["x", "y", "z"],
    "numbers": [2.5, 1.0, 9.0],
    "objects that have no order": ["x", 5, None.__class__],
    "two columns": [("x", 0), ("x", 1), ("y", 0)],
}


def column(values, codes):
    """A column of any values; tuples become rows of a table."""
    if all(isinstance(value, tuple) for value in values):
        return np.array(values, dtype=object)[codes]
    out = np.empty(len(codes), dtype=object)
    out[:] = [values[code] for code in codes]
    return out


@pytest.mark.parametrize("eo_rule", ["paper", "reference"])
@pytest.mark.parametrize("attributes", ATTRIBUTES)
@pytest.mark.parametrize("labels", LABELS)
def test_equals_the_single_functions_on_all_rows_to_the_last_bit(labels, attributes, eo_rule):
    """Whatever labels and attributes are, and in whatever order they appear."""
    rng = np.random.default_rng(len(labels) + 10 * len(attributes))
    classes, values = np.empty(3, dtype=object), ATTRIBUTES[attributes]
    classes[:] = LABELS[labels]
    y, a = rng.integers(3, size=(2, 701))
    proba = rng.dirichlet(np.ones(3), 701) + 0.7 * np.eye(3)[y]
    split = SplitPredictions(
        classes[y], proba / proba.sum(axis=1, keepdims=True), column(values, a)
    )
    forget_groups = [(classes[1], values[0]), (classes[2], values[2])]
    names = ("RA", "UA", "TA", "EO", "GA", "DP", "EP", "WG")
    found = evaluate_predictions(
        classes=classes,
        remaining=split,
        forget=split,
        test=split,
        forget_groups=forget_groups,
        metrics=names,
        eo_rule=eo_rule,
    )
    y_pred = classes[proba.argmax(axis=1)]
    groups = {"groups": split.groups}
    shared = {**groups, "forget_groups": forget_groups}
    accuracy = metrics.split_accuracy_score(split.y, y_pred)
    assert found == {
        **dict.fromkeys(("RA", "UA", "TA"), accuracy),
        "EO": metrics.equalized_odds_gap(split.y, y_pred, rule=eo_rule, **shared),
        "GA": metrics.group_accuracy_score(split.y, y_pred, **shared),
        "DP": metrics.demographic_parity_gap(split.y, y_pred, **shared),
        "EP": metrics.equal_opportunity_gap(split.y, y_pred, **shared),
        "WG": metrics.worst_group_accuracy_score(split.y, y_pred, **groups),
    }
    assert 0 < found["EO"] != found["DP"]


def test_weights_of_test_rows_count(splits):
    test = splits["test"]
    weight = np.random.default_rng(0).random(300)
    weighted = SplitPredictions(test.y, test.proba, test.groups, weight)
    found = evaluate_predictions(
        classes=CLASSES, test=weighted, forget_groups=("bee", "x"), metrics=["TA", "EO", "GA"]
    )
    rows = test.y, CLASSES[test.proba.argmax(axis=1)]
    shared = {"groups": test.groups, "forget_groups": ("bee", "x"), "sample_weight": weight}
    assert found == pytest.approx(
        {
            "TA": metrics.split_accuracy_score(*rows, sample_weight=weight),
            "EO": metrics.equalized_odds_gap(*rows, **shared),
            "GA": metrics.group_accuracy_score(*rows, **shared),
        },
        rel=1e-13,
    )


def test_threshold_of_two_classes():
    """The labels are those of the rule, the losses of the attack those of the probabilities."""
    names = ("remaining", "forget", "test", "holdout")
    splits = {name: random_split(seed, 90, n_classes=2) for seed, name in enumerate(names)}
    classes, pair = CLASSES[:2], ("bee", "x")
    asked = ["RA", "UA", "TA", "MIA", "EO", "WG"]
    call = {"classes": classes, "forget_groups": pair, "metrics": asked, **splits}
    found = evaluate_predictions(**call, threshold=0.8)
    pred = {name: np.where(split.proba[:, 1] > 0.8, "bee", "ant") for name, split in splits.items()}
    for metric, name in {"RA": "remaining", "UA": "forget", "TA": "test"}.items():
        assert found[metric] == np.mean(pred[name] == splits[name].y)
    y, a = splits["test"].y, splits["test"].groups
    shared = {"groups": a, "forget_groups": pair}
    assert found["EO"] == metrics.equalized_odds_gap(y, pred["test"], **shared)
    assert found["WG"] == metrics.group_accuracies(y, pred["test"], groups=a).min()
    most_probable = evaluate_predictions(**call)
    assert found["MIA"] == most_probable["MIA"]
    assert found["TA"] != most_probable["TA"]
    assert evaluate_predictions(**call, threshold=0.5) == most_probable


@pytest.mark.parametrize("asked", ["MIA_balanced", ["GA", "RA"]])
def test_only_what_is_asked_for_in_its_order(splits, scores, asked):
    tensors = {
        name: SplitPredictions(split.y, torch.as_tensor(split.proba), split.groups)
        for name, split in splits.items()
    }
    some = evaluate_predictions(
        classes=CLASSES, forget_groups=("bee", "x"), metrics=asked, **tensors
    )
    assert list(some) == ([asked] if isinstance(asked, str) else asked)
    assert some.items() <= scores.items()


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
    found = evaluate_model(Model(), **rows, holdout=holdout, forget_groups=("bee", "x"))
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
    with pytest.raises(ValueError, match="No rows"):
        evaluate_predictions(**shared)
    with pytest.warns(UndefinedMetricWarning):
        scores = evaluate_predictions(empty="nan", **shared)
    assert {name for name, score in scores.items() if np.isnan(score)} == {"EO", "GA", "DP", "EP"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holdout": None}, "MIA needs the split 'holdout'"),
        ({"metrics": "svm"}, r"metrics must be one of .*got 'svm'"),
        ({"eo_rule": "other"}, r"rule must be one of .*got 'other'"),
        ({"forget_groups": None, "metrics": "GA"}, "forget_groups must be one or more pairs"),
        (
            {"forget": SplitPredictions(["ant"] * 2, [[1, 0, 0]])},
            r"forget\.proba .* shape \(2, 3\)",
        ),
        ({"remaining": SplitPredictions(["dog"], [[0.2, 0.3, 0.5]])}, r"remaining\.y .* 'dog'"),
        ({"holdout": SplitPredictions(["ant"], [[4.0, -2, 0]])}, r"holdout\.proba must be probab"),
        ({"test": SplitPredictions(["ant"], [[1, 0, 0]], ["x"] * 3)}, "groups has 3 rows but test"),
    ],
)
def test_errors(splits, change, message):
    given = {"classes": CLASSES, "forget_groups": ("bee", "x"), **splits}
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(**{**given, **change})
