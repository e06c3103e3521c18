"""Who trains on whom, and what is kept."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net
from leakage_case import memorised_rows
from sklearn.frozen import FrozenEstimator
from torch.utils.data import TensorDataset

from grmu_sk import NoOpUnlearner
from grmu_sk.audit import ReferenceModels, scan_residue
from grmu_sk.audit.reference_models import KINDS, AuditRows, assign_halves, choose_candidates


def quick_net(**kwargs):
    return make_net(module__n_features=12, module__hidden=(4,), max_epochs=1, **kwargs)


def given_rows(case):
    return case.forgotten, case.remaining, case.nonmembers


def quick(case, net=None, rows=None, **kwargs):
    given = {"n_models": 4, "remaining_per_group": 10, **kwargs}
    return ReferenceModels(net or quick_net(), **given).fit(*(rows or given_rows(case)))


@pytest.fixture(scope="module")
def case():
    case = memorised_rows()
    case.quick = quick(case)
    return case


# who trains on whom ------------------------------------------------------------------------------


def test_candidates_are_matched_within_groups():
    rng = np.random.default_rng(0)
    groups = {
        "forgotten": np.repeat([0, 1], [5, 2]),
        "remaining": np.repeat([0, 1, 2, 3], [30, 4, 9, 6]),
        "nonmembers": np.repeat([0, 1, 2], [40, 3, 50]),
    }
    given = [(np.zeros((len(g), 1)), g // 2, g % 2) for g in groups.values()]
    found = choose_candidates(AuditRows(*given), 8, rng)
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
    assert len(np.unique(found.rows)) == len(found.rows)
    assert np.array_equal(np.concatenate(list(groups.values()))[found.rows], found.group)


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
    with pytest.raises(ValueError, match="even and at least 4"):
        ReferenceModels(None, n_models=2)


def test_models_and_what_is_kept_of_them(case, monkeypatch):
    kept, seen = [], []
    train = ReferenceModels._train

    def remember(self, pool, training, seed):
        seen.append((pool.X[training], pool.y[training], pool.groups[training]))
        kept.append(train(self, pool, training, seed))
        return kept[-1]

    monkeypatch.setattr(ReferenceModels, "_train", remember)
    references = quick(case)
    everything = AuditRows(*given_rows(case))
    chosen = references._candidates.rows
    rows = everything.take(chosen)
    always = everything.X[np.setdiff1d(np.flatnonzero(everything.kind == 1), chosen)]
    original = np.bincount(2 * case.y[case.training] + case.a[case.training])
    assert len(kept) == 4 and len(always)
    for (X, y, a), model, odds, is_in in zip(
        seen, kept, references.log_odds_, references.is_in_, strict=True
    ):
        assert np.array_equal(X, np.concatenate([always, rows.X[is_in]]))
        # as many rows of each group as the original model had
        assert np.abs(np.bincount(2 * y + a) - original).max() <= 1
        own = model.predict_proba(rows.X)[np.arange(len(rows.y)), rows.y]
        np.testing.assert_allclose(odds, np.log(own / (1 - own)), atol=1e-5)
        # nothing of the models or of the rows is kept: a copy with them is found out
        assert scan_residue(pickle.dumps(references), case.forgotten[0], model) == []
    with_them = pickle.dumps((references, kept[0].net_.module_, case.forgotten[0]))
    found = scan_residue(with_them, case.forgotten[0], kept[0])
    assert {"forgotten row", "original weights"} <= {finding.kind for finding in found}


def test_reweight_and_the_net_of_an_unlearner(case):
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    plain = quick(case)
    assert not np.array_equal(quick(case, reweight=True).log_odds_, plain.log_odds_)
    assert not np.array_equal(quick(case, random_state=1).is_in_, plain.is_in_)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])
    rows = case.X[case.training], case.y[case.training], case.a[case.training]
    made = NoOpUnlearner(quick_net(), random_state=0).fit(*rows)
    frozen = NoOpUnlearner(FrozenEstimator(made), random_state=0).fit(*rows)
    frozen.unlearn(case.forget)
    assert np.array_equal(quick(case, frozen).log_odds_, plain.log_odds_)


def converted(rows, kind):
    X, y, a = rows
    if kind == "names":
        return X, np.array(["no", "yes"])[y], np.column_stack([np.array(["f", "m"])[a], a])
    tensor = torch.from_numpy(X)
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(12)])
    inputs = {"array": X, "frame": frame, "tensor": tensor, "dataset": TensorDataset(tensor)}
    return inputs[kind], y, a


@pytest.mark.parametrize("kind", ["tensor", "frame", "dataset", "names"])
def test_other_kinds_of_inputs(case, kind):
    given = [converted(rows, kind) for rows in given_rows(case)]
    references = quick(case, rows=given)
    np.testing.assert_allclose(references.log_odds_, case.quick.log_odds_, atol=1e-5)
    references._of_rows(AuditRows(*given))
    changed = [(X, np.roll(y, 1), a) for X, y, a in given]
    with pytest.raises(ValueError, match="other forgotten and remaining and nonmembers rows"):
        references._of_rows(AuditRows(*changed))
    if kind == "names":
        assert ("yes", ("m", "1")) in references._candidates.pairs
    quick(case, rows=[(X, y, None) for X, y, _ in given])


@pytest.mark.parametrize(
    ("place", "message"),
    [(2, "3 of 243 nonmembers equal a training row"), (0, "forgotten rows equal a remaining row")],
)
def test_rows_given_twice_are_pointed_out(case, place, message):
    def fit(other_label):
        X, y, a = (part[:3] for part in case.remaining)
        given = list(given_rows(case))
        parts = zip(given[place], (X, y ^ other_label, a), strict=True)
        given[place] = tuple(map(np.concatenate, parts))
        quick(case, rows=[converted(rows, "frame") for rows in given])

    with pytest.warns(UserWarning, match=message):
        fit(0)
    fit(1)  # with another label it is another row; warnings are errors here


# the cache ---------------------------------------------------------------------------------------


@pytest.fixture
def trained(monkeypatch):
    """Note which models are trained; the third may be interrupted."""
    train, found = ReferenceModels._train, []

    def note(self, pool, training, seed):
        if found == ["interrupt me", 1, 1]:
            raise KeyboardInterrupt
        found.append(1)
        return train(self, pool, training, seed)

    monkeypatch.setattr(ReferenceModels, "_train", note)
    return found


def test_cache_is_used_and_holds_no_row(case, tmp_path, trained):
    trained.append("interrupt me")
    with pytest.raises(KeyboardInterrupt):
        quick(case, cache=tmp_path)
    for n_trained, options in ((2, {}), (0, {}), (2, {"n_models": 6})):
        trained.clear()
        made = quick(case, cache=tmp_path, **options)
        assert len(trained) == n_trained
        assert np.array_equal(made.log_odds_[:4], case.quick.log_odds_)
    assert scan_residue(tmp_path, case.forgotten[0]) == []
    np.save(tmp_path / "rows.npy", case.forgotten[0])
    assert scan_residue(tmp_path, case.forgotten[0]) != [], "the control"


class Sharper:
    """An object of the user that prints differently each time."""

    def __init__(self, power):
        self.power = power

    def __call__(self, logits):
        return torch.softmax(self.power * logits, dim=-1)


def test_cache_of_something_else_is_not_used(case, tmp_path, trained):
    quick(case, cache=tmp_path)
    changes = [
        {"random_state": 1},
        {"reweight": True},
        {"net": quick_net(criterion__label_smoothing=0.1)},
        {"net": quick_net(predict_nonlinearity=Sharper(2))},
        {"net": quick_net(predict_nonlinearity=Sharper(3))},
        {"case": memorised_rows(seed=5)},
    ]
    for changed in changes:
        trained.clear()
        quick(**{"case": case, "cache": tmp_path, **changed})
        assert len(trained) == 4, changed
