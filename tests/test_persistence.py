import fcntl
import json
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import make_net, make_table, same_weights
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

from grmu_sk import FineTuneUnlearner, MIUUnlearner, SISAUnlearner, persistence
from grmu_sk.audit import DeletionLedger, scan_residue
from grmu_sk.nets import MLP
from grmu_sk.persistence import PersistenceError, load, save

pytestmark = pytest.mark.quick

FIRST, SECOND = [40, 41, 50], [60, 61, 62]
SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "n_shards": 3}


def make(method, net, **kwargs):
    short = {name: SHORT[name] for name in SHORT if name in method._get_param_names()}
    return method(net, random_state=0, **{**short, **kwargs})


def fitted(table, method=FineTuneUnlearner, net=None, **kwargs):
    return make(method, net or make_net(), **kwargs).fit(table.X, table.y, table.a)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(table, path):
    unlearner = fitted(table, MIUUnlearner).unlearn(FIRST)
    save(unlearner, path)
    return unlearner


def assert_same(one, other, X):
    """Everything a caller can see is equal, bit for bit where there are numbers."""
    assert type(one) is type(other)
    np.testing.assert_array_equal(one.predict_log_proba(X), other.predict_log_proba(X))
    np.testing.assert_array_equal(one.predict(X), other.predict(X), strict=True)
    params, others = one.get_params(deep=False), other.get_params(deep=False)
    del params["estimator"], others["estimator"]
    assert params == others and vars(one).keys() == vars(other).keys()
    for name in vars(one).keys() & {"classes_", "forget_idx_", "remaining_idx_", "shards_"}:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    for name in ("forget_groups_", "seed_", "history_", "n_features_in_"):
        assert getattr(one, name) == getattr(other, name)
    assert one.net_.history is one.history_


def assert_lives_on(again, never_saved, table):
    """A loaded unlearner unlearns, clones and pickles as the one that was never saved."""
    with pytest.raises(ValueError, match="training data is needed"):
        again.unlearn(SECOND)
    again.unlearn(SECOND, X=table.X, y=table.y, groups=table.a)
    assert same_weights(again, never_saved.unlearn(SECOND))
    assert again.forget_groups_ == never_saved.forget_groups_
    again.unlearn([70])  # the rows handed in are stored again
    assert same_weights(pickle.loads(pickle.dumps(again)), never_saved.unlearn([70]))


@pytest.mark.parametrize("method", [MIUUnlearner, SISAUnlearner])
def test_a_method_comes_back_as_it_was(method, table, path):
    unlearner = fitted(table, method)
    original = [weight.detach().clone() for weight in unlearner.net_.module_.parameters()]
    save(unlearner.unlearn(FIRST), path)
    held = path.read_bytes()
    assert not any(row.tobytes() in held for row in table.X)
    if method is MIUUnlearner:  # an untouched shard of SISA never saw the rows
        assert not any(row.numpy().tobytes() in held for weight in original for row in weight)
    again = load(path, make_net())
    assert_same(again, unlearner, table.X)
    assert_lives_on(again, unlearner, table)


@pytest.mark.parametrize(
    ("classes", "groups"),
    [
        (["größer", "small"], lambda a: pd.DataFrame({"sex": np.array(["f", "m"])[a], "old": 0})),
        (np.array(["a", "b"], dtype=object), lambda a: np.array([True, False])[a]),
        ([0, 1], lambda a: pd.cut(a * 40 + 10, [0, 30, 60])),
    ],
)
def test_labels_and_attributes_of_any_type(classes, groups, table, path):
    unlearner = make(SISAUnlearner, make_net())
    unlearner.fit(table.X, np.array(classes)[table.y], groups(table.a)).unlearn(FIRST)
    save(unlearner, path)
    again = load(path, make_net())
    assert_same(again, unlearner, table.X)
    pairs, expected = again._encoder.pairs_, unlearner._encoder.pairs_
    assert pairs == expected
    assert [list(map(type, pair)) for pair in pairs] == [list(map(type, p)) for p in expected]


@pytest.mark.parametrize("kind", ["float64", "images"])
def test_default_net_is_rebuilt_from_stored_sizes(kind, path):
    table = make_table(n_rows=60, n_classes=3, images=kind == "images")
    table.X = table.X.astype("float32" if kind == "images" else kind)
    unlearner = make(FineTuneUnlearner, None).fit(table.X, table.y, table.a).unlearn([40])
    save(unlearner, path)
    again = load(path)
    assert again.estimator is None
    assert_same(again, unlearner, table.X)
    again.unlearn([50], X=table.X, y=table.y, groups=table.a)
    assert same_weights(again, unlearner.unlearn([50]))
    with pytest.raises(PersistenceError, match="default net: give none"):
        load(path, make_net())


def test_a_trained_net_that_was_brought_along(table, path):
    trained = make_net().fit(table.X, table.y)
    before = trained.predict_proba(table.X)
    unlearner = fitted(table, net=FrozenEstimator(trained)).unlearn(FIRST)
    save(unlearner, path)
    again = load(path, trained)  # its weights are not taken
    assert again.estimator.estimator is again.net_
    np.testing.assert_array_equal(trained.predict_proba(table.X), before)
    assert_same(again, unlearner, table.X)
    assert_lives_on(again, unlearner, table)
    with pytest.raises(TypeError, match="bare skorch net"):
        load(path, FrozenEstimator(trained))


def test_parameters_and_flags_survive(table, path):
    flags = {"lr": np.float32(0.1), "store_data": False, "keep_forgotten": True}
    unlearner = FineTuneUnlearner(make_net(), random_state=np.random.RandomState(3), **flags)
    given = table.X, table.y
    weights = {"sample_weight": np.linspace(0.5, 1, table.n)}
    save(unlearner.fit(*given, **weights), path)
    again = load(path, make_net())
    assert (again._has_groups, again._has_weights) == (False, True)
    assert again.random_state == again.seed_ == unlearner.seed_, "of an instance, the seed drawn"
    assert same_weights(clone(again).fit(*given, **weights), unlearner)
    assert_same(again, unlearner.set_params(random_state=again.seed_), table.X)


class Tied(nn.Module):
    """Shared, transposed, empty, scalar and half-precision tensors."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.head = nn.Linear(4, 2)
        self.head.weight = nn.Parameter(torch.randn(4, 2).T)
        self.register_buffer("none", torch.empty(0, 3))
        self.register_buffer("number", torch.tensor(2))
        self.register_buffer("small", torch.ones(2, dtype=torch.bfloat16))

    def forward(self, X):
        return self.head(self.two(self.one(X).relu()) / self.number)


def test_shared_and_non_contiguous_weights(table, path):
    net = make_net(Tied, criterion__weight=torch.tensor([1.0, 2.0]))
    unlearner = fitted(table, net=net)
    assert not unlearner.net_.module_.head.weight.is_contiguous()
    save(unlearner, path)
    again = load(path, net)
    assert_same(again, unlearner, table.X)
    module = again.net_.module_
    assert module.one.weight.data_ptr() == module.two.weight.data_ptr()
    assert again.net_.criterion_.weight.tolist() == [1, 2]


def test_history_keeps_values_of_any_kind(saved, path):
    row = saved.history_[-1]
    row |= {"nan": float("nan"), "np": np.float32(0.1), "array": np.arange(3), "t": torch.ones(2)}
    row |= {"inf": -np.inf, "none": None, "pair": (1, 2), "grid": np.eye(2, dtype=np.float32)}
    save(saved, path)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    loaded = load(path, make_net()).history_[-1]
    assert torch.equal(torch.get_rng_state(), before), "the caller's generator is left alone"
    assert np.isnan(loaded["nan"]) and loaded["inf"] == -np.inf and loaded["none"] is None
    assert loaded["np"] == np.float32(0.1) and loaded["pair"] == (1, 2)
    for name in ("array", "t", "grid"):
        np.testing.assert_array_equal(loaded[name], row[name])


def test_unsavable_things_are_named(saved, path, table, monkeypatch):
    before = path.read_bytes()
    with pytest.raises(NotFittedError):
        save(MIUUnlearner(), path)

    class Own(MIUUnlearner):
        pass

    with pytest.raises(PersistenceError, match="Own is not a registered method"):
        save(fitted(table, Own), path)
    for owner, name, value, message in (
        (saved, "lam", {1, 2}, "lam cannot be saved"),
        (saved, "_n_requests", object(), "type object"),
        (MLP, "get_extra_state", lambda module: {"a": 1}, "_extra_state' of the net is no tensor"),
    ):
        with monkeypatch.context() as patched, pytest.raises(PersistenceError, match=message):
            patched.setattr(owner, name, value)
            save(saved, path)
    assert path.read_bytes() == before


# the file ----------------------------------------------------------------------------------------


def test_links_and_permissions_stay(saved, path):
    link = path.with_name("link")
    link.symlink_to(path)
    path.chmod(0o600)
    saved._n_requests += 1
    save(saved, str(link))
    assert link.is_symlink() and path.stat().st_mode & 0o777 == 0o600
    assert load(str(path), make_net())._n_requests == saved._n_requests
    with pytest.raises(FileNotFoundError):
        save(saved, path.parent / "missing" / "model")


def test_every_single_byte_counts(table, path):
    net = make_net(module__hidden=(2,))
    save(fitted(table, net=net), path)
    raw = path.read_bytes()
    for position in (*range(64), *range(64, len(raw), 43)):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(PersistenceError):
            load(path, net)
    for cut in (0, 1, 7, 8, 9, len(raw) // 2, len(raw) - 1):
        path.write_bytes(raw[:cut])
        with pytest.raises(PersistenceError, match="model"):
            load(path, net)


@pytest.mark.parametrize(
    "raw",
    [
        b"Dear reader, this is a letter and not a model.",
        safetensors.torch.save({"weight": torch.ones(3)}, {"grmu_sk": "{}"}),
        (2**63).to_bytes(8, "little") + b'{"__metadata__":{}}',
        (50_000).to_bytes(8, "little") + b"[" * 50_000,
    ],
)
def test_foreign_files_are_refused(raw, path):
    path.write_bytes(raw)
    with pytest.raises(PersistenceError, match="model"):
        load(path, make_net())


# files that were made on purpose, with a right digest --------------------------------------------


def rewrite(path, *keys, value):
    """Write the file again with another content, as a malicious author would."""
    held = safetensors.torch.load(path.read_bytes())
    part = content = json.loads(held["content"].numpy().tobytes())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    raw = bytearray(json.dumps(content).encode())
    held["content"] = torch.frombuffer(raw, dtype=torch.uint8)
    metadata = {"grmu_sk": persistence.digest(sorted(held.items()))}
    path.write_bytes(safetensors.torch.save(held, metadata))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["format"], 7),
        (["method"], "unknown"),
        (["state", "lr"], {"object": "os.system"}),
        (["classes"], {"array": ["|V8", [1], ["a"]]}),
        (["classes"], {"array": ["<i8", [2**40], [1, 2]]}),
        (["net"], {}),
    ],
)
def test_what_is_not_expected_is_refused(keys, value, saved, path):
    rewrite(path, *keys, value=value)
    with pytest.raises(PersistenceError, match="model"):
        load(path, make_net())


@pytest.mark.parametrize("net", [None, make_net()])
def test_forged_number_of_nets_reserves_no_memory(net, table, path, monkeypatch):
    save(make(SISAUnlearner, net).fit(table.X, table.y, table.a), path)
    rewrite(path, "state", "n_shards", value=table.n)
    built, build = [], MLP.__init__
    monkeypatch.setattr(MLP, "__init__", lambda *a, **k: (built.append(1), build(*a, **k))[1])
    with pytest.raises(PersistenceError, match="more weights than the file"):
        load(path, net)
    assert len(built) < table.n / 2


def test_forged_width_of_text_reserves_no_memory(saved, path):
    saved.classes_ = np.array(["a", "b"])
    save(saved, path)
    rewrite(path, "classes", value={"array": ["<U3000000", [2], ["a", "b"]]})
    tracemalloc.start()
    try:
        assert load(path, make_net()).classes_.tolist() == ["a", "b"]
        assert tracemalloc.get_traced_memory()[1] < 10**7, "24 MB is what the file asks for"
    finally:
        tracemalloc.stop()
    texts = ["x" * 20_000, *map(str, range(9000))]
    rewrite(path, "classes", value={"array": ["<U9", [len(texts)], texts]})
    with pytest.raises(PersistenceError, match="far more memory than its text"):
        load(path, make_net())


def test_net_must_match(saved, path):
    for other, message in (
        (None, "give that, unfitted"),
        (make_net(module__hidden=(8,)), "features.1.weight"),
        (make_net(module__dtype=torch.float64), "float32, and torch.float64 in the net"),
        (make_net(module__hidden=(16, 2)), "features.3.weight"),
        (make_net(criterion__weight=torch.ones(2)), "Missing key.*weight"),
    ):
        with pytest.raises(PersistenceError, match=message):
            load(path, other)


def test_what_a_killed_save_left_is_found_and_goes_with_the_next(table, path):
    unlearner = fitted(table)
    original = {k: v.numpy().copy() for k, v in unlearner.net_.module_.state_dict().items()}
    save(unlearner, path)
    left, live = (path.with_name(f".{path.name}.{name}.tmp") for name in ("left", "live"))
    left.write_bytes(path.read_bytes()[:-40])
    unlearner.unlearn([3])
    found = scan_residue(path, None, original=original)
    assert {Path(finding.place.split("[")[0]).name for finding in found} >= {left.name}
    with open(live, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        save(unlearner, path)
        assert live.exists() and not left.exists(), "another writer is at work"
    left.write_bytes(path.read_bytes())
    given = {"X": table.X, "y": table.y, "groups": table.a}
    assert DeletionLedger(path.with_name("ledger")).run_file(path, make_net(), data=given) == []
    assert not left.exists() and not live.exists()
