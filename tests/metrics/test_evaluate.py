import numpy as np
import pytest
import torch
from sklearn.exceptions import UndefinedMetricWarning

from grmu_sk import metrics
from grmu_sk.metrics import SplitPredictions, evaluate_predictions

pytestmark = pytest.mark.quick

CLASSES = np.array(["ant", "bee", "cat"])
NAMES = ["RA", "UA", "TA", "MIA", "MIA_balanced", "EO", "GA", "DP", "EP", "WG"]


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
    found = evaluate_predictions(
        classes=classes,
        remaining=split,
        forget=split,
        test=split,
        forget_groups=forget_groups,
        mia=(),
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


def test_threshold_of_two_classes():
    """The labels are those of the rule, the losses of the attack those of the probabilities."""

    def two(seed, n):
        split = random_split(seed, n, n_classes=2)
        return SplitPredictions(split.y, split.proba, split.groups)

    splits = {name: two(seed, 90) for seed, name in enumerate(("remaining", "forget", "test"))}
    splits["holdout"] = splits["test"]
    classes, pair = CLASSES[:2], ("bee", "x")
    call = {"classes": classes, "forget_groups": pair, "mia": "paper", **splits}
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


def test_tensors(splits, scores):
    tensors = {
        name: SplitPredictions(split.y, torch.as_tensor(split.proba), split.groups)
        for name, split in splits.items()
    }
    again = evaluate_predictions(
        classes=CLASSES, forget_groups=("bee", "x"), mia="balanced", **tensors
    )
    assert again == {name: score for name, score in scores.items() if name != "MIA"}


@pytest.mark.parametrize(
    ("mia", "names"),
    [
        ("paper", {"MIA"}),
        ("balanced", {"MIA_balanced"}),
        (["paper"], {"MIA"}),
        ((), set()),
    ],
)
def test_only_the_attacks_asked_for(splits, scores, mia, names):
    some = evaluate_predictions(classes=CLASSES, forget_groups=("bee", "x"), mia=mia, **splits)
    assert {name for name in some if name.startswith("MIA")} == names
    assert some.items() <= scores.items()


def test_empty_group(splits):
    shared = {"classes": CLASSES, "forget_groups": ("bee", "nowhere"), "mia": (), **splits}
    with pytest.raises(ValueError, match="No rows"):
        evaluate_predictions(**shared)
    with pytest.warns(UndefinedMetricWarning):
        scores = evaluate_predictions(empty="nan", **shared)
    assert {name for name, score in scores.items() if np.isnan(score)} == {"EO", "GA", "DP", "EP"}


def test_errors(splits):
    shared = {"classes": CLASSES, "forget_groups": ("bee", "x")}
    three = {name: split for name, split in splits.items() if name != "holdout"}
    with pytest.raises(ValueError, match="needs non-members: pass holdout"):
        evaluate_predictions(**shared, **three)
    without_groups = SplitPredictions(splits["test"].y, splits["test"].proba)
    with pytest.raises(ValueError, match=r"test\.groups is None"):
        evaluate_predictions(**shared, **{**splits, "test": without_groups})
    with pytest.raises(ValueError, match=r"mia must be one of .*got 'svm'"):
        evaluate_predictions(**shared, **splits, mia="svm")
    with pytest.raises(ValueError, match=r"rule must be one of .*got 'other'"):
        evaluate_predictions(**shared, **splits, eo_rule="other")
    longer = SplitPredictions(splits["test"].y, splits["test"].proba, ["x"] * 301)
    with pytest.raises(ValueError, match="groups has 301 rows but test"):
        evaluate_predictions(**shared, **{**splits, "test": longer}, mia=())
    short = SplitPredictions(splits["forget"].y[:-1], splits["forget"].proba)
    with pytest.raises(ValueError, match=r"forget\.proba must have shape \(39, 3\)"):
        evaluate_predictions(**shared, **{**splits, "forget": short})
    foreign = SplitPredictions(["dog"], [[0.2, 0.3, 0.5]])
    with pytest.raises(ValueError, match=r"remaining\.y has the value 'dog'"):
        evaluate_predictions(**shared, **{**splits, "remaining": foreign})
    logits = SplitPredictions(["ant"], [[4.0, -2.0, 0.0]])
    with pytest.raises(ValueError, match=r"holdout\.proba must be probabilities"):
        evaluate_predictions(**shared, **{**splits, "holdout": logits})
