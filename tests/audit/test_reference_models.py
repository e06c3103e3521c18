"""Who trains on whom, what is kept, and what the cache is trusted with."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net
from leakage_case import fitted_references, memorised_rows
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import TensorDataset

from grmu_sk import NoOpUnlearner, RetrainUnlearner
from grmu_sk.audit import ReferenceModels, scan_residue
from grmu_sk.audit._candidates import KINDS, assign_halves, choose_candidates
from grmu_sk.audit.reference_models import candidate_rows, check_rows
from grmu_sk.utils._description import describe


def quick_net(**kwargs):
    return make_net(module__n_features=12, module__hidden=(4,), max_epochs=1, **kwargs)


def quick(case, net=None, **kwargs):
    given = {"n_models": 4, "remaining_per_group": 10, **kwargs}
    return ReferenceModels(net or quick_net(), **given).fit(
        case.forgotten, case.remaining, case.nonmembers
    )


@pytest.fixture
def case():
    return memorised_rows()


# who trains on whom ------------------------------------------------------------------------------


def test_candidates_are_matched_within_groups():
    rng = np.random.default_rng(0)
    groups = {
        "forgotten": np.repeat([0, 1], [5, 2]),
        "remaining": np.repeat([0, 1, 2, 3], [30, 4, 9, 6]),
        "nonmembers": np.repeat([0, 1, 2], [40, 3, 50]),
    }
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1)]
    found = choose_candidates(groups, pairs, 8, rng)
    counts = {
        kind: np.bincount(found.group[found.kind == number], minlength=4).tolist()
        for number, kind in enumerate(KINDS)
    }
    assert counts == {
        "forgotten": [5, 2, 0, 0],
        "remaining": [8, 3, 8, 0],
        "nonmembers": [13, 3, 8, 0],
    }
    assert found.left_out == [(1, 1)]
    for number, kind in enumerate(KINDS):
        rows = found.position[found.kind == number]
        assert len(np.unique(rows)) == len(rows)
        assert np.array_equal(groups[kind][rows], found.group[found.kind == number])


def test_every_row_is_in_half_of_the_models():
    group = np.repeat([0, 1, 2], [21, 8, 1])
    is_in = assign_halves(group, 12, seed=3)
    assert (is_in.sum(axis=0) == 6).all()
    for number, size in ((0, 21), (1, 8), (2, 1)):
        of_models = is_in[:, group == number].sum(axis=1)
        assert set(of_models) <= {size // 2, -(-size // 2)}
    assert len(np.unique(is_in, axis=0)) == 12
    assert np.array_equal(assign_halves(group, 16, seed=3)[:12], is_in), "more models, same first"
    assert not np.array_equal(assign_halves(group, 12, seed=4), is_in)


def test_models_train_on_their_half_and_on_all_others_that_stay(case, monkeypatch):
    seen = []
    train = RetrainUnlearner.fit

    def fit(self, X, y, groups=None, *, forget=None, **kwargs):
        seen.append((X[~forget], y[~forget], groups[~forget]))
        return train(self, X, y, groups, forget=forget, **kwargs)

    monkeypatch.setattr(RetrainUnlearner, "fit", fit)
    references = quick(case)
    candidates = references._candidates
    rows = candidate_rows(check_rows(case.forgotten, case.remaining, case.nonmembers), candidates)
    attacked = candidates.position[candidates.of_kind("remaining")]
    always = np.delete(case.remaining[0], attacked, axis=0)
    assert len(seen) == 4 and len(always)
    original = np.bincount(2 * case.y[case.training] + case.a[case.training])
    for (X, y, a), is_in in zip(seen, references.is_in_, strict=True):
        expected = np.concatenate([always, rows.X[is_in]])
        assert np.array_equal(np.sort(X, axis=0), np.sort(expected, axis=0))
        # as many rows of each group as the original model had
        assert np.abs(np.bincount(2 * y + a) - original).max() <= 1


def test_log_odds_are_those_of_the_models(case, monkeypatch):
    kept = []
    train = ReferenceModels._train

    def remember(self, pool, training, seed):
        kept.append(train(self, pool, training, seed))
        return kept[-1]

    monkeypatch.setattr(ReferenceModels, "_train", remember)
    references = quick(case)
    rows = candidate_rows(
        check_rows(case.forgotten, case.remaining, case.nonmembers), references._candidates
    )
    for model, odds in zip(kept, references.log_odds_, strict=True):
        proba = model.predict_proba(rows.X)
        own = proba[np.arange(len(rows)), rows.y]
        np.testing.assert_allclose(odds, np.log(own / (1 - own)), atol=1e-5)
    assert not np.array_equal(references.log_odds_[0], references.log_odds_[1])
    # nothing of the models or of the rows is kept: a copy with them is found out
    for model in kept:
        assert scan_residue(pickle.dumps(references), case.forgotten[0], model) == []
    found = scan_residue(
        pickle.dumps((references, kept[0].net_.module_, case.forgotten[0])),
        case.forgotten[0],
        kept[0],
    )
    assert {"forgotten row", "original weights"} <= {finding.kind for finding in found}


def test_members_are_known_better():
    case = memorised_rows(seed=1)
    references = fitted_references(case, n_models=4)
    trained = references.log_odds_[references.is_in_].mean()
    assert trained > references.log_odds_[~references.is_in_].mean() + 1


def test_seeds_decide_and_the_callers_are_left_alone(case):
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, same, other = quick(case), quick(case), quick(case, random_state=1)
    assert np.array_equal(one.log_odds_, same.log_odds_)
    assert not np.array_equal(one.is_in_, other.is_in_)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


def test_reweight_reaches_the_models(case, monkeypatch):
    phases = []
    phase = RetrainUnlearner._phase

    def spy(self, net, request):
        phases.append(phase(self, net, request))
        return phases[-1]

    monkeypatch.setattr(RetrainUnlearner, "_phase", spy)
    quick(case)
    assert all(made.weights is None for made in phases)
    phases.clear()
    quick(case, reweight=True)
    assert len(phases) == 4 and all(made.weights is not None for made in phases)


def test_the_net_of_an_unlearner(case):
    expected = quick(case).log_odds_
    made = NoOpUnlearner(quick_net(), random_state=0).fit(*case.rows(case.training))
    assert np.array_equal(quick(case, made).log_odds_, expected), "its weights play no part"
    frozen = NoOpUnlearner(FrozenEstimator(made), random_state=0).fit(*case.rows(case.training))
    frozen.unlearn(case.forget)
    assert np.array_equal(quick(case, frozen).log_odds_, expected)


@pytest.mark.parametrize("kind", ["tensor", "frame", "dataset"])
def test_other_kinds_of_inputs(case, kind):
    def converted(rows):
        X, y, a = rows
        if kind == "frame":
            return pd.DataFrame(X, columns=[f"c{i}" for i in range(12)]), y, a
        tensor = torch.from_numpy(X)
        return (TensorDataset(tensor) if kind == "dataset" else tensor), y, a

    references = ReferenceModels(quick_net(), n_models=4, remaining_per_group=10)
    given = [converted(rows) for rows in (case.forgotten, case.remaining, case.nonmembers)]
    references.fit(*given)
    np.testing.assert_allclose(references.log_odds_, quick(case).log_odds_, atol=1e-5)
    references.check_same_rows(check_rows(*given))


def test_labels_and_attributes_of_any_kind(case):
    def named(rows):
        X, y, a = rows
        return X, np.array(["no", "yes"])[y], np.column_stack([np.array(["f", "m"])[a], a])

    references = ReferenceModels(quick_net(), n_models=4, remaining_per_group=10)
    references.fit(*(named(rows) for rows in (case.forgotten, case.remaining, case.nonmembers)))
    assert ("yes", ("m", "1")) in references._candidates.pairs
    without = [(X, y, None) for X, y, _ in (case.forgotten, case.remaining, case.nonmembers)]
    ReferenceModels(quick_net(), n_models=4).fit(*without)


# the cache ---------------------------------------------------------------------------------------


def test_cache_is_used_and_shared(case, tmp_path):
    plain = quick(case).log_odds_
    first = quick(case, cache=tmp_path)
    again = quick(case, cache=tmp_path)
    assert (first.n_trained_, again.n_trained_) == (4, 0)
    assert np.array_equal(plain, first.log_odds_) and np.array_equal(plain, again.log_odds_)
    more = quick(case, cache=tmp_path, n_models=6)
    assert more.n_trained_ == 2
    assert np.array_equal(more.log_odds_[:4], plain)
    assert scan_residue(tmp_path, case.forgotten[0]) == []
    np.save(tmp_path / "rows.npy", case.forgotten[0])
    assert scan_residue(tmp_path, case.forgotten[0]) != []


def test_cache_of_something_else_is_not_used(case, tmp_path):
    quick(case, cache=tmp_path)
    changes = [
        {"random_state": 1},
        {"reweight": True},
        {"remaining_per_group": 9},
        {"net": quick_net(lr=0.06)},
        {"net": quick_net(optimizer=torch.optim.Adam)},
        {"net": quick_net(criterion__label_smoothing=0.1)},
    ]
    for changed in changes:
        assert quick(case, cache=tmp_path, **changed).n_trained_ == 4, changed
    other = memorised_rows(seed=5)
    assert quick(other, cache=tmp_path).n_trained_ == 4
    assert quick(case, cache=tmp_path).n_trained_ == 0


@pytest.mark.parametrize("damage", ["cut", "bit", "swapped", "empty"])
def test_damaged_cache_is_noticed_and_made_anew(case, tmp_path, damage):
    expected = quick(case, cache=tmp_path).log_odds_
    one, other = sorted(tmp_path.rglob("*.safetensors"))[:2]
    raw = one.read_bytes()
    content = {
        "cut": raw[:-8],
        "bit": raw[:-1] + bytes([raw[-1] ^ 1]),
        "swapped": other.read_bytes(),
        "empty": b"",
    }[damage]
    one.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged, or belongs to other data"):
        again = quick(case, cache=tmp_path)
    assert again.n_trained_ == 1
    assert np.array_equal(again.log_odds_, expected)
    assert quick(case, cache=tmp_path).n_trained_ == 0, "it was replaced"


def test_interrupted_run_is_resumed(case, tmp_path, monkeypatch):
    train = ReferenceModels._train
    calls = []

    def interrupted(self, pool, training, seed):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(seed)
        return train(self, pool, training, seed)

    references = ReferenceModels(quick_net(), n_models=4, remaining_per_group=10, cache=tmp_path)
    monkeypatch.setattr(ReferenceModels, "_train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        references.fit(case.forgotten, case.remaining, case.nonmembers)
    assert not references.is_fitted
    monkeypatch.setattr(ReferenceModels, "_train", train)
    assert quick(case, cache=tmp_path).n_trained_ == 2


class Nameless:
    """Looks the same as any other of its kind."""


def test_nets_that_cannot_be_recognised_have_no_cache(case, tmp_path):
    net = quick_net(criterion__weight=torch.ones(2))
    quick(case, net, cache=tmp_path)
    with pytest.raises(ValueError, match=r"cannot be told from another one.*Leave cache out"):
        quick(case, make_nameless(), cache=tmp_path)
    assert quick(case, make_nameless()).n_trained_ == 4


def make_nameless():
    net = quick_net()
    net.set_params(predict_nonlinearity=Identity())
    return net


class Identity(Nameless):
    def __call__(self, scores):
        return torch.softmax(scores, dim=-1)


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def get_params(self, deep=True):
        return {"factor": self.factor}

    def scale(self, scores):
        return self.factor * scores


def test_descriptions_tell_apart_what_trains_differently():
    def one(x):
        return x + 1

    def other(x):
        return x + 2

    values = [
        None,
        0,
        False,
        "0",
        0.0,
        [0],
        (0,),
        {"a": 0},
        {1: 0},
        {"1": 0},
        one,
        other,
        nn.ReLU,
        nn.GELU,
    ]
    values += [Scaled(1).scale, Scaled(2).scale]
    values += [np.zeros(2), np.ones(2), np.zeros((2, 1)), torch.float32, torch.device("cpu")]
    described = [json.dumps(describe(value, exact=True)) for value in values]
    assert len(set(described)) == len(values)
    assert "0x" not in "".join(described)
    assert describe(torch.ones(2, dtype=torch.bfloat16)) != describe(torch.ones(2))
    assert describe(np.zeros(2)) == describe(np.zeros(2))


# bad input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"n_models": 5}, ValueError, "even number of at least 4"),
        ({"n_models": 2}, ValueError, "even number of at least 4"),
        ({"remaining_per_group": -1}, ValueError, "must not be negative"),
        ({"estimator": "net"}, TypeError, "Of a pipeline pass the last step"),
    ],
)
def test_bad_parameters(given, error, message):
    with pytest.raises(error, match=message):
        ReferenceModels(**{"estimator": None, **given})


def test_rows_that_do_not_fit_together(case):
    references = ReferenceModels(quick_net(), n_models=4)
    X, y, a = case.nonmembers
    cases = [
        ((X[:, :5], y, a), "rows differ in shape"),
        ((torch.from_numpy(X), y, a), "Some inputs are a Tensor and some are not"),
        ((X, y, None), "some without"),
    ]
    for nonmembers, message in cases:
        with pytest.raises(ValueError, match=message):
            references.fit(case.forgotten, case.remaining, nonmembers)
    assert not references.is_fitted
    frame = pd.DataFrame(X)
    with pytest.raises(ValueError, match="differ in their columns"):
        references.fit(
            *((pd.DataFrame(part[0]), *part[1:]) for part in (case.forgotten, case.remaining)),
            (frame.rename(columns={0: "other"}), y, a),
        )


@pytest.mark.parametrize("kind", ["array", "tensor", "frame"])
def test_rows_given_twice_are_pointed_out(case, kind):
    def converted(rows):
        X, y, a = rows
        return {"array": X, "tensor": torch.from_numpy(X), "frame": pd.DataFrame(X)}[kind], y, a

    def with_first_rows(rows, of, n, labels=0):
        X, y, a = (np.concatenate([part, other[:n]]) for part, other in zip(rows, of, strict=True))
        return converted((X, np.where(np.arange(len(y)) < len(rows[1]), y, y ^ labels), a))

    forgotten, remaining, unseen = case.forgotten, case.remaining, case.nonmembers
    references = ReferenceModels(quick_net(), n_models=4, remaining_per_group=10)
    with pytest.warns(UserWarning, match="3 of 243 nonmembers equal a training row"):
        references.fit(
            converted(forgotten), converted(remaining), with_first_rows(unseen, remaining, 3)
        )
    with pytest.warns(UserWarning, match=r"2 of \d+ forgotten rows equal a remaining row"):
        references.fit(
            with_first_rows(forgotten, remaining, 2), converted(remaining), converted(unseen)
        )
    # with another label it is another row; warnings are errors here
    other = with_first_rows(unseen, remaining, 3, labels=1)
    references.fit(converted(forgotten), converted(remaining), other)


def test_trained_modules_are_refused(case):
    net = NeuralNetClassifier(nn.Linear(12, 2), train_split=None, verbose=0)
    with pytest.raises(ValueError, match=r"module is an instance of Linear"):
        quick(case, net)
