"""The package with ``reference`` settings against a second implementation of the authors' code.

Both start from the same weights and see the same batches, marginal groups and labels: those that
the package drew are recorded and given to the other side, which checks that it would have drawn as
many, of the same rows and sizes. Each switch of the package is then turned off, one at a time, to
show that the comparison would notice.
"""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import reference_behaviour as reference
import torch
from conftest import make_net, make_table, weights_of
from reference_behaviour import Problem, Recipe, Tape, TapeError
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from grmu_sk import (
    GroupDROUnlearner,
    L1SparseUnlearner,
    MIUUnlearner,
    RandomLabelUnlearner,
    SalUnUnlearner,
    SCRUBUnlearner,
)
from grmu_sk.metrics import (
    AVERAGE_GAP_METRICS,
    SplitPredictions,
    equalized_odds_gap,
    evaluate_predictions,
    group_accuracy_score,
    membership_inference_efficacy,
    per_sample_cross_entropy,
    split_accuracy_score,
)
from grmu_sk.mutual_information import InformationCritic
from grmu_sk.nets import SmallCNN
from grmu_sk.unlearners import approximate, retrain
from grmu_sk.unlearners import miu as miu_module
from grmu_sk.unlearners import random_label as random_label_module

N_CLASSES, N_ATTRIBUTES = 3, 2
TOLERANCE = 1e-5
VISIBLE = 100 * TOLERANCE  # what a behaviour that is switched off changes at least
RECIPE = Recipe(lr=0.01, weight_decay=0.01)


class SmoothNet(nn.Module):
    """In single precision, and without the kinks at which a rounding error becomes visible."""

    def __init__(self, n_classes=3, width=4):
        super().__init__()
        layers = nn.Flatten(), nn.Linear(192, 2 * width), nn.BatchNorm1d(2 * width), nn.Tanh()
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, X):
        return self.head(self.features(X))


class DoubleCNN(SmallCNN):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.double()


@pytest.fixture(scope="module")
def table():
    return make_table(n_rows=230, n_classes=N_CLASSES, n_attributes=N_ATTRIBUTES, images=True)


class KeepBatches(Callback):
    """Notes the rows of each training batch; a first pixel tells which row it is."""

    first_pixels = None  # of the class, since a net's callbacks are copied with it
    batches = None

    def on_batch_begin(self, net, batch=None, training=None, **kwargs):
        phase = net.history[-1].get("phase")
        if training and phase in ("forget", "retain", "retrain"):
            pixels = batch[0][:, 0, 0, 0].numpy()
            rows = np.array([self.first_pixels.index(pixel) for pixel in pixels])
            self.batches.setdefault(phase, []).append(rows)


def pretrained(table, module=SmallCNN, recipe=RECIPE):
    """A trained net, with the recipe of the unlearning run."""
    callbacks = [("batches", KeepBatches())]
    if recipe.cosine:
        callbacks.append(("rate", LRScheduler(CosineAnnealingLR, T_max=2)))
    net = make_net(
        module,
        module__n_classes=N_CLASSES,
        module__width=4,
        lr=recipe.lr,
        optimizer__momentum=recipe.momentum,
        optimizer__weight_decay=recipe.weight_decay,
        batch_size=recipe.batch_size,
        max_epochs=2,
        callbacks=callbacks,
    )
    torch.manual_seed(0)
    return net.fit(table.X.astype(np.float64 if module is DoubleCNN else np.float32), table.y)


def problem_of(table, net):
    group = np.flatnonzero((table.y == 2) & (table.a == 0))
    assert 32 < len(group) < 64 + 32
    return Problem(
        net.module_,
        torch.as_tensor(table.X, dtype=next(net.module_.parameters()).dtype),
        torch.as_tensor(table.y),
        torch.as_tensor(table.a),
        N_CLASSES,
        N_ATTRIBUTES,
        forget=group[:45],  # two batches, the second one short
    )


@pytest.fixture
def recording(monkeypatch, row_spy, table):
    """What a run draws, M of every call of an estimator, and what the estimators begin with."""
    record = SimpleNamespace(tape=Tape(), information=[], critics=[], phases=None, new_net=None)
    monkeypatch.setattr(KeepBatches, "first_pixels", table.X[:, 0, 0, 0].tolist())
    monkeypatch.setattr(KeepBatches, "batches", record.tape.batches)

    def wrap(owner, name, after):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            result = original(*args, **kwargs)
            after(result, *args)
            return result

        monkeypatch.setattr(owner, name, wrapped)

    def keep_draw(result, *args):
        record.tape.drawn.append(result.clone())

    def keep_weights(critic, *args):
        network = critic.statistics
        first = torch.cat([network.from_features.weight, network.from_labels.weight.T], dim=1)
        rest = network.from_features.bias, network.score.weight, network.score.bias
        record.critics.append([value.detach().clone() for value in (first, *rest)])

    def keep_information(value, *args):
        record.information.append((row_spy.phase, value.item()))

    wrap(miu_module, "draw_marginal", keep_draw)
    wrap(random_label_module, "draw_labels", keep_draw)
    wrap(miu_module._Information, "_new_critic", keep_weights)
    wrap(InformationCritic, "forward", keep_information)
    tuning = miu_module._Information._tuning_batches

    def tuning_batches(self, n_updates):
        for rows in tuning(self, n_updates):
            record.tape.batches.setdefault("tune", []).append(rows)
            yield rows

    monkeypatch.setattr(miu_module._Information, "_tuning_batches", tuning_batches)

    for module in (approximate, retrain):

        def keep_phases(net, data, phases, train=module.train, **kwargs):
            record.phases = phases
            record.new_net = [value.clone() for value in net.module_.state_dict().values()]
            return train(net, data, phases, **kwargs)

        monkeypatch.setattr(module, "train", keep_phases)
    return record


def run(table, problem, recording, method, net, recipe, **kwargs):
    """Let the package unlearn; return its weights and the loss of each step, by phase."""
    if method is not GroupDROUnlearner:
        net = FrozenEstimator(net)
        kwargs = {"max_epochs": recipe.epochs, "reweight": recipe.reweight, **kwargs}
    unlearner = method(net, random_state=1, **kwargs).fit(table.X, table.y, table.a)
    n_fitted = len(unlearner.history_)
    unlearner.unlearn(problem.forget)
    losses = {}
    for row in unlearner.history_[n_fitted:]:
        losses.setdefault(row["phase"], []).extend(b["train_loss"] for b in row["batches"])
    return unlearner, {phase: np.array(values) for phase, values in losses.items()}


def weight_difference(unlearner, net):
    """The largest difference of any weight, running statistic or count of batches.

    Relative where they are larger than one, as variances may be.
    """
    theirs = [value.detach().numpy() for value in net.state_dict().values()]
    return max(
        (np.abs(ours - other) / np.maximum(1, np.abs(other))).max()
        for ours, other in zip(weights_of(unlearner), theirs, strict=True)
    )


# MIU ---------------------------------------------------------------------------------------------

MIU = {"forget_epochs": 2, "lam": 3.0, "mine_lr": 0.01}
# what reference=True stands for
SWITCHES = {
    "estimators": "reference",
    "tune_updates": (101, 11),
    "tune_mode": "train",
    "original_mode": "train",
}


def miu_differences(table, recording, module=DoubleCNN, recipe=RECIPE, **kwargs):
    """The largest differences of each kind of value between the package and the reference."""
    net = pretrained(table, module, recipe)
    problem = problem_of(table, net)
    unlearner, losses = run(
        table, problem, recording, MIUUnlearner, net, recipe, **{**MIU, **kwargs}
    )
    first, last = recording.critics[0], recording.critics[-1]  # one and the same if shared
    estimators = [
        reference.Estimator(weights, problem.n_groups, MIU["mine_lr"]) for weights in (first, last)
    ]
    tape = recording.tape.rewound()
    other, log = reference.miu(
        problem, tape, recipe, estimators, lam=MIU["lam"], forget_epochs=MIU["forget_epochs"]
    )
    tape.check_used_up()
    cross_entropy, now, before, total = np.array(log.retain).T
    information = [value for phase, value in recording.information if phase == "retain"]
    our_now, our_before = np.array(information).reshape(-1, 2).T
    our_cross_entropy = losses["retain"] - MIU["lam"] * (our_now - our_before) ** 2
    return {
        "tune": np.abs(losses["tune"] + np.mean(log.tune, axis=1)).max(),
        "forget": np.abs(losses["forget"] - log.forget).max(),
        "retain": np.abs(losses["retain"] - total).max(),
        "cross-entropy": np.abs(our_cross_entropy - cross_entropy).max(),
        "M now": np.abs(our_now - now).max(),
        "M before": np.abs(our_before - before).max(),
        "weights": weight_difference(unlearner, other),
    }


@pytest.mark.parametrize("module", [SmoothNet, DoubleCNN])
@pytest.mark.parametrize("reweight", [False, True])
def test_miu(table, recording, module, reweight):
    """Each loss of each step, each term of the retain loss, all weights and running statistics."""
    recipe = Recipe(lr=0.02, weight_decay=0.01, reweight=reweight, cosine=reweight)
    hidden, tolerance = (16, TOLERANCE) if module is SmoothNet else (512, 1e-9)
    found = miu_differences(table, recording, module, recipe, reference=True, mine_hidden=hidden)
    assert max(found.values()) < tolerance


def test_miu_reference_is_four_switches(table, recording):
    assert max(miu_differences(table, recording, **SWITCHES).values()) < 1e-9


@pytest.mark.parametrize(
    ("off", "seen_in"),
    [
        # the reference's two begin equal here: it is the moving average that is shared
        ({"estimators": "shared"}, ("tune", "M now", "M before", "weights")),
        ({"estimators": "separate"}, ("tune", "retain", "M before", "weights")),
        ({"tune_mode": "eval"}, ("tune", "forget", "retain", "weights")),
        ({"original_mode": "eval"}, ("retain", "M before", "weights")),
        ({"moving_average_rate": 1.0}, ("tune", "forget", "retain", "weights")),
        ({"mine_momentum": 0.0}, ("tune", "forget", "retain", "weights")),
        ({"lam": 2.0}, ("retain", "weights")),
        ({"retaining": False}, ("retain", "cross-entropy", "weights")),
    ],
    ids=str,
)
def test_miu_without_one_behaviour(table, recording, off, seen_in):
    found = miu_differences(table, recording, **{**SWITCHES, **off})
    assert [name for name in seen_in if found[name] < VISIBLE] == []


@pytest.mark.parametrize(
    ("off", "match"),
    [
        ({"tune_updates": (100, 10)}, "'tune' saw a row twice in a pass"),
        ({"forget_epochs": 1}, "no batch left for 'forget'"),
        ({"batch_size": 16}, "a batch of 'tune' has 16 rows, not 32"),
        ({"reweight": True}, "'retain' saw a row twice"),
    ],
    ids=str,
)
def test_miu_with_other_batches(table, recording, off, match):
    with pytest.raises(TapeError, match=match):
        miu_differences(table, recording, **{**SWITCHES, **off})


@pytest.mark.parametrize(("marginal", "is_uniform"), [("uniform", True), ("train", False)])
def test_miu_marginal_groups_are_uniform_in_every_phase(table, recording, marginal, is_uniform):
    net = pretrained(table)
    settings = {**MIU, "reference": True, "marginal": marginal}
    run(table, problem_of(table, net), recording, MIUUnlearner, net, RECIPE, **settings)
    sizes = np.unique([len(draw) for draw in recording.tape.drawn])
    assert sizes.tolist() == [6, 13, 25, 32], "of tune, forget and retain batches"
    drawn = torch.cat(recording.tape.drawn)
    share = torch.bincount(drawn, minlength=6).numpy() / len(drawn)
    four_sigma = 4 * np.sqrt(1 / 6 * 5 / 6 / len(drawn))
    assert (np.abs(share - 1 / 6).max() < four_sigma) == is_uniform


# the other methods -------------------------------------------------------------------------------


def compare(table, recording, method, other, recipe=RECIPE, module=DoubleCNN, **kwargs):
    """Return the largest difference of losses and weights; ``other`` runs the reference."""
    net = pretrained(table, module, recipe)
    problem = problem_of(table, net)
    unlearner, losses = run(table, problem, recording, method, net, recipe, **kwargs)
    tape = recording.tape.rewound()
    their_net, their_losses = other(problem, tape, recipe)
    tape.check_used_up()
    assert {phase: len(values) for phase, values in losses.items()} == {
        phase: len(values) for phase, values in their_losses.items()
    }
    found = {phase: np.abs(losses[phase] - values).max() for phase, values in their_losses.items()}
    return {**found, "weights": weight_difference(unlearner, their_net)}


def salun(problem, tape, recipe):
    mask = reference.saliency_mask(problem, recipe.batch_size)
    return reference.random_labelling(problem, tape, recipe, mask)


METHODS = {
    "salun": (SalUnUnlearner, salun, {"reference": True}),
    "random_label": (RandomLabelUnlearner, reference.random_labelling, {}),
    "scrub": (SCRUBUnlearner, reference.scrub, {"forget_epochs": 2}),
    "l1_sparse": (L1SparseUnlearner, reference.l1_sparse, {}),
}


@pytest.mark.parametrize("module", [SmoothNet, DoubleCNN])
@pytest.mark.parametrize("reweight", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_other_methods(table, recording, name, module, reweight):
    method, other, settings = METHODS[name]
    recipe = Recipe(lr=0.02, weight_decay=0.01, reweight=reweight, cosine=reweight)
    found = compare(table, recording, method, other, recipe, module, **settings)
    assert max(found.values()) < (TOLERANCE if module is SmoothNet else 1e-9)


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("salun", {"reference": False}),
        ("salun", {"threshold": 0.6}),
        ("salun", {"threshold": 1.0}),
        ("scrub", {"alpha": 1.0}),
        ("scrub", {"gamma": 0.5}),
        ("scrub", {"temperature": 2.0}),
        ("l1_sparse", {"l1_penalty": 0.01}),
        ("l1_sparse", {"l1_penalty": 0.0}),
    ],
    ids=str,
)
def test_other_methods_without_one_behaviour(table, recording, name, off):
    method, other, settings = METHODS[name]
    recipe = Recipe(lr=0.05, weight_decay=0.05)
    found = compare(table, recording, method, other, recipe, **{**settings, **off})
    assert found["retain"] > VISIBLE
    assert found["weights"] > VISIBLE


@pytest.mark.parametrize(
    ("name", "off", "match"),
    [
        ("scrub", {"retain_batch_size": None}, "a batch of 'retain' has 32 rows, not 128"),
        ("scrub", {"forget_epochs": 1}, "no batch left for 'forget'"),
        ("l1_sparse", {"reweight": True}, "'retain' saw a row twice"),
    ],
    ids=str,
)
def test_other_methods_with_other_batches(table, recording, name, off, match):
    method, other, settings = METHODS[name]
    with pytest.raises(TapeError, match=match):
        compare(table, recording, method, other, **{**settings, **off})


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_salun_weights_outside_the_mask_shrink_in_the_reference(table, recording, weight_decay):
    recipe = Recipe(lr=0.05, weight_decay=weight_decay)
    net = pretrained(table, DoubleCNN, recipe)
    problem = problem_of(table, net)
    unlearner, _ = run(table, problem, recording, SalUnUnlearner, net, recipe, reference=True)
    mask = reference.saliency_mask(problem, recipe.batch_size)
    pairs = zip(unlearner.net_.module_.parameters(), net.module_.parameters(), mask, strict=True)
    moved = torch.cat([(after - before)[~kept] for after, before, kept in pairs])
    assert (moved.abs().max() > VISIBLE) == (weight_decay > 0)


def test_random_labels_are_uniform_over_all_classes(table, recording):
    net = pretrained(table)
    problem = problem_of(table, net)
    recipe = Recipe(lr=1e-4, epochs=60, cosine=False)
    run(table, problem, recording, SalUnUnlearner, net, recipe, reference=True)
    labels = torch.cat(recording.tape.drawn).numpy()
    assert len(labels) == 60 * 45
    share = np.bincount(labels, minlength=3) / len(labels)
    np.testing.assert_allclose(share, 1 / 3, atol=4 * np.sqrt(2 / 9 / len(labels)))
    truth = problem.y[np.concatenate(recording.tape.batches["forget"])].numpy()
    assert (labels == truth).any(), "the true label may come up"


@pytest.mark.parametrize("eta", [0.001, 0.1, 2.0])
@pytest.mark.parametrize("module", [SmoothNet, DoubleCNN])
def test_group_dro(table, recording, eta, module):
    difference = group_dro_difference(table, recording, module, eta, eta)
    assert max(difference.values()) < (TOLERANCE if module is SmoothNet else 1e-9)
    groups = problem_of(table, pretrained(table)).g.numpy()
    (phase,) = recording.phases
    expected = reference.balanced_weights(groups[phase.rows])
    np.testing.assert_allclose(phase.weights / phase.weights.sum(), expected / expected.sum())


def test_group_dro_with_another_step(table, recording):
    difference = group_dro_difference(table, recording, DoubleCNN, 2.0, 1.0)
    assert min(difference["retrain"], difference["weights"]) > VISIBLE


def group_dro_difference(table, recording, module, eta, their_eta):
    recipe = Recipe(lr=0.02, weight_decay=0.01, epochs=2)

    def other(problem, tape, recipe):
        with torch.no_grad():
            for value, new in zip(
                problem.net.state_dict().values(), recording.new_net, strict=True
            ):
                value.copy_(new)
        return reference.group_dro(problem, tape, recipe, their_eta)

    return compare(table, recording, GroupDROUnlearner, other, recipe, module, eta=eta)


@pytest.mark.parametrize("method", [MIUUnlearner, L1SparseUnlearner])
def test_reweight_gives_each_row_the_weight_of_its_group(table, recording, method):
    recipe = Recipe(epochs=1, reweight=True)
    net = pretrained(table)
    problem = problem_of(table, net)
    run(table, problem, recording, method, net, recipe)
    retain = next(phase for phase in recording.phases if phase.name == "retain")
    groups = problem.g.numpy()
    expected = reference.reweight_weights(groups, groups[problem.retain])
    np.testing.assert_allclose(retain.weights / retain.weights.sum(), expected / expected.sum())
    assert retain.rows.tolist() == problem.retain.tolist()


# metrics -----------------------------------------------------------------------------------------

# classes, attributes, pairs that were forgotten: the paper's data sets
METRIC_CASES = {
    "binary": (2, 2, [(1, 1)]),
    "text": (3, 2, [(2, 1)]),
    "faces": (9, 7, [(3, 0)]),
    "nine groups": (9, 7, list(product([3, 6, 1], [0, 4, 5]))),
}


@pytest.fixture(scope="module", params=METRIC_CASES)
def evaluated(request):
    """Float32 logits, labels and attributes of four splits."""
    n_classes, n_attributes, pairs = METRIC_CASES[request.param]
    rng = np.random.default_rng(0)
    splits = {}
    sizes = {"remaining": 800, "holdout": 150, "forget": 40, "test": 1500}
    for sharpness, (name, n_rows) in zip((3.0, 1.5, 2.0, 1.5), sizes.items(), strict=True):
        y, a = rng.integers(n_classes, size=n_rows), rng.integers(n_attributes, size=n_rows)
        logits = rng.normal(size=(n_rows, n_classes)) * 1.5
        logits[np.arange(n_rows), y] += sharpness - 0.8 * (a == 0)
        splits[name] = SimpleNamespace(logits=logits.astype(np.float32), y=y, a=a)
    return SimpleNamespace(
        splits=splits, n_classes=n_classes, n_attributes=n_attributes, pairs=pairs
    )


def scores_of(evaluated):
    splits = {
        name: SplitPredictions(
            y=split.y, proba=torch.softmax(torch.as_tensor(split.logits), dim=1), groups=split.a
        )
        for name, split in evaluated.splits.items()
    }
    return evaluate_predictions(
        classes=np.arange(evaluated.n_classes),
        forget_groups=evaluated.pairs,
        metrics=AVERAGE_GAP_METRICS,
        **splits,
    )


def test_metrics(evaluated):
    """Percent against fractions, so equal up to the last bits of a double."""
    splits, test = evaluated.splits, evaluated.splits["test"]
    labels, attributes = map(set, zip(*evaluated.pairs, strict=True))
    lists = list(labels), list(attributes)
    y_pred = test.logits.argmax(axis=1)
    sizes = evaluated.n_classes, evaluated.n_attributes
    losses = {
        name: reference.cross_entropies(split.logits, split.y).numpy()
        for name, split in splits.items()
    }
    expected = {
        "RA": reference.accuracy(splits["remaining"].logits, splits["remaining"].y),
        "UA": reference.accuracy(splits["forget"].logits, splits["forget"].y),
        "TA": reference.accuracy(test.logits, test.y),
        "MIA": reference.membership_inference(
            losses["remaining"], losses["holdout"], losses["forget"]
        ),
        "EO": reference.equalized_odds(test.y, y_pred, test.a, *lists, *sizes),
        "GA": reference.group_accuracy(test.y, y_pred, test.a, *lists),
    }
    shared = {"groups": test.a, "forget_groups": evaluated.pairs}
    scores = scores_of(evaluated)
    scores["EO"] = equalized_odds_gap(test.y, y_pred, rule="reference", **shared)
    found = {name: 100 * scores[name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-13, abs=1e-13)
    assert 0 < min(expected.values()) <= max(expected.values()) < 100


def test_rule_of_equalized_odds_matters_for_more_than_two_classes(evaluated):
    test = evaluated.splits["test"]
    given = (test.y, test.logits.argmax(axis=1))
    shared = {"groups": test.a, "forget_groups": evaluated.pairs}
    rules = [equalized_odds_gap(*given, rule=rule, **shared) for rule in ("paper", "reference")]
    if evaluated.n_classes == 2:
        assert rules[0] == pytest.approx(rules[1], rel=1e-13)
    else:
        assert abs(rules[0] - rules[1]) > 0.001


def test_group_accuracy_of_pairs_that_are_no_product():
    """The reference fills up the product of the lists; the package takes pairs at their word."""
    rng = np.random.default_rng(0)
    y, y_pred, a = rng.integers(2, size=(3, 400))
    pairs = [(1, 1), (0, 0)]
    theirs = reference.group_accuracy(y, y_pred, a, [0, 1], [0, 1])
    filled_up = list(product([0, 1], [0, 1]))
    ours = [
        100 * group_accuracy_score(y, y_pred, groups=a, forget_groups=groups)
        for groups in (filled_up, pairs)
    ]
    assert ours[0] == pytest.approx(theirs, rel=1e-13)
    assert abs(ours[1] - theirs) > 1
    binary = {"groups": a, "forget_groups": pairs, "rule": "reference"}
    expected = reference.equalized_odds(y, y_pred, a, [0, 1], [0, 1], 2, 2)
    assert 100 * equalized_odds_gap(y, y_pred, **binary) == pytest.approx(expected, rel=1e-13)


def test_membership_inference_on_losses_with_ties(evaluated):
    """The reference attacks losses in bfloat16, many of which are equal."""
    losses = []
    for name in ("remaining", "holdout", "forget"):
        split = evaluated.splits[name]
        half = reference.cross_entropies(torch.as_tensor(split.logits).bfloat16(), split.y)
        losses.append(half.float().numpy())
    assert len(np.unique(losses[0])) < 0.8 * len(losses[0])
    expected = reference.membership_inference(*losses)
    assert 100 * membership_inference_efficacy(*losses) == pytest.approx(expected, rel=1e-13)


def test_membership_inference_on_a_confident_net():
    """Losses of 1e-6 count as well: probabilities in double precision keep them apart."""
    disagreements = {np.float64: 0, np.float32: 0}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        losses, log_probas = [], []
        for n_rows, margin in ((600, 16), (120, 8), (100, 13)):
            y, logits = rng.integers(3, size=n_rows), rng.normal(scale=2, size=(n_rows, 3))
            logits[np.arange(n_rows), y] += margin
            logits = torch.as_tensor(logits, dtype=torch.float32)
            losses.append(reference.cross_entropies(logits, y).numpy())
            log_probas.append((y, logits.log_softmax(dim=1).numpy()))
        expected = reference.membership_inference(*losses)
        for dtype in disagreements:
            ours = [
                per_sample_cross_entropy(y, np.exp(log_proba, dtype=dtype), classes=[0, 1, 2])
                for y, log_proba in log_probas
            ]
            found = 100 * membership_inference_efficacy(*ours)
            disagreements[dtype] += found != pytest.approx(expected, rel=1e-13)
    assert disagreements[np.float64] == 0 < disagreements[np.float32]


def test_half_precision_evaluation(table):
    """Inside torch's autocast an unlearner predicts from bfloat16 logits, as the reference does."""
    net = pretrained(table)
    unlearner = L1SparseUnlearner(FrozenEstimator(net)).fit(table.X, table.y, table.a)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = net.module_.eval()(torch.as_tensor(table.X))
        found = unlearner.predict_log_proba(table.X)
    assert logits.dtype == torch.bfloat16
    np.testing.assert_array_equal(found, logits.float().log_softmax(dim=1).numpy())
    assert split_accuracy_score(table.y, found.argmax(axis=1)) == pytest.approx(
        reference.accuracy(logits.float().numpy(), table.y) / 100, rel=1e-13
    )
    assert np.abs(unlearner.predict_log_proba(table.X) - found).max() > VISIBLE
