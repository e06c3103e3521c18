import errno
import fcntl
import json
import os
import pickle
import shutil
import tracemalloc
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import skops.io
import torch
from conftest import make_net, make_table, same_weights
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from torch import nn

from grmu_sk import FineTuneUnlearner, MIUUnlearner, RetrainUnlearner, SISAUnlearner, persistence
from grmu_sk.audit import DeletionLedger, scan_residue
from grmu_sk.nets import MLP
from grmu_sk.persistence import PersistenceError, load, save
from grmu_sk.unlearners import all_unlearners
from grmu_sk.utils import _files
from grmu_sk.utils._whole_file import with_digest

pytestmark = pytest.mark.quick

FIRST, SECOND = [40, 41, 50], [60, 61, 62]
SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "n_shards": 3}


def make(method, net, **kwargs):
    known = method._get_param_names()
    short = {name: value for name, value in SHORT.items() if name in known}
    return method(net, random_state=0, **{**short, **kwargs})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def saved(table, net, path):
    unlearner = make(MIUUnlearner, net).fit(table.X, table.y, table.a).unlearn(FIRST)
    save(unlearner, path)
    return unlearner


def assert_same(one, other, X):
    """Everything a caller can see is equal, bit for bit where there are numbers."""
    assert type(one) is type(other)
    np.testing.assert_array_equal(one.predict_log_proba(X), other.predict_log_proba(X))
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    assert one.predict(X).dtype == other.predict(X).dtype
    params, others = one.get_params(deep=False), other.get_params(deep=False)
    del params["estimator"], others["estimator"]
    assert params == others
    assert {k: type(v) for k, v in params.items()} == {k: type(v) for k, v in others.items()}
    for name in ("classes_", "forget_idx_", "remaining_idx_", "feature_names_in_", "shards_"):
        assert hasattr(one, name) == hasattr(other, name)
        if hasattr(one, name):
            ours, theirs = getattr(one, name), getattr(other, name)
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
    for name in ("forget_groups_", "seed_", "history_", "n_features_in_"):
        assert getattr(one, name) == getattr(other, name)
    assert one.net_.history is one.history_
    assert vars(one).keys() == vars(other).keys()


def assert_lives_on(again, never_saved, table, y=None, groups=None):
    """A loaded unlearner unlearns, clones and pickles as the one that was never saved."""
    y = table.y if y is None else y
    groups = table.a if groups is None else groups
    with pytest.raises(ValueError, match="training data is needed"):
        again.unlearn(SECOND)
    again.unlearn(SECOND, X=table.X, y=y, groups=groups)
    never_saved.unlearn(SECOND)
    assert same_weights(again, never_saved)
    assert again.forget_groups_ == never_saved.forget_groups_
    drop_times = [
        [{k: v for k, v in row.items() if k != "dur"} for row in u.history_]
        for u in (again, never_saved)
    ]
    assert drop_times[0] == drop_times[1]
    again.unlearn([70])  # the rows handed in are stored again
    never_saved.unlearn([70])
    assert same_weights(again, never_saved)
    assert same_weights(pickle.loads(pickle.dumps(again)), again)
    fresh = clone(again).fit(table.X, y, groups)
    assert same_weights(fresh, clone(never_saved).fit(table.X, y, groups))


@pytest.mark.parametrize("method", [pytest.param(cls, id=name) for name, cls in all_unlearners()])
def test_every_method_comes_back_as_it_was(method, table, path):
    unlearner = make(method, make_net()).fit(table.X, table.y, table.a).unlearn(FIRST)
    save(unlearner, path)
    again = load(path, make_net())
    assert_same(again, unlearner, table.X)
    assert again._n_requests == 1
    assert_lives_on(again, unlearner, table)


@pytest.mark.parametrize("method", [MIUUnlearner, SISAUnlearner, RetrainUnlearner])
@pytest.mark.parametrize(
    "kind", ["text and two columns", "object labels", "age bands", "float labels", "column names"]
)
def test_labels_and_attributes_of_any_type(method, kind, table, path):
    y, groups, X = table.y, table.a, table.X
    if kind == "text and two columns":
        y = np.array(["größer", "small"])[y]
        groups = pd.DataFrame({"sex": np.array(["f", "m"])[table.a], "old": np.arange(table.n) % 2})
    elif kind == "object labels":
        y = np.array(["a", "b"], dtype=object)[y]
        groups = np.array([True, False])[table.a]
    elif kind == "age bands":
        groups = pd.cut(table.a * 40 + 10, [0, 30, 60])
    elif kind == "float labels":
        y = np.array([-1.0, 2.0], dtype=np.float32)[y]
    else:
        X = pd.DataFrame(table.X, columns=list("abcd"))
    unlearner = make(method, make_net()).fit(X, y, groups).unlearn(FIRST)
    save(unlearner, path)
    again = load(path, make_net())
    assert_same(again, unlearner, X)
    pairs, expected = again._encoder.pairs_, unlearner._encoder.pairs_
    assert pairs == expected
    assert [list(map(type, pair)) for pair in pairs] == [list(map(type, p)) for p in expected]
    again.unlearn(SECOND, X=X, y=y, groups=groups)
    assert same_weights(again, unlearner.unlearn(SECOND))


@pytest.mark.parametrize("method", [FineTuneUnlearner, SISAUnlearner])
@pytest.mark.parametrize("kind", ["rows", "double", "images"])
def test_default_net_is_rebuilt_from_stored_sizes(method, kind, path):
    table = make_table(n_rows=60, n_classes=3, images=kind == "images")
    if kind == "double":
        table.X = table.X.astype(np.float64)
    unlearner = make(method, None).fit(table.X, table.y, table.a).unlearn([40])
    save(unlearner, path)
    again = load(path)
    assert again.estimator is None
    assert_same(again, unlearner, table.X)
    again.unlearn([50], X=table.X, y=table.y, groups=table.a)
    assert same_weights(again, unlearner.unlearn([50]))
    with pytest.raises(PersistenceError, match="leave estimator out"):
        load(path, make_net())


@pytest.mark.parametrize("requests", [0, 1])
def test_trained_net_that_was_brought_along(requests, table, path):
    trained = make_net().fit(table.X, table.y)
    unlearner = make(FineTuneUnlearner, FrozenEstimator(trained)).fit(table.X, table.y, table.a)
    if requests:
        unlearner.unlearn(FIRST)
    save(unlearner, path)
    again = load(path, make_net())
    assert isinstance(again.estimator, FrozenEstimator)
    assert again.estimator.estimator is again.net_
    assert_same(again, unlearner, table.X)
    assert_lives_on(again, unlearner, table)
    with pytest.raises(TypeError, match="bare skorch net"):
        load(path, FrozenEstimator(trained))


def test_a_trained_net_is_accepted_and_its_weights_are_not(saved, table, path):
    trained = make_net().fit(table.X, table.y)
    before = trained.predict_proba(table.X)
    again = load(path, trained)
    assert_same(again, saved, table.X)
    assert not getattr(again.estimator, "initialized_", False)
    np.testing.assert_array_equal(trained.predict_proba(table.X), before)


def test_parameters_routing_and_flags_survive(table, path):
    unlearner = make(
        FineTuneUnlearner, make_net(), lr=np.float32(0.1), store_data=False, keep_forgotten=True
    )
    with config_context(enable_metadata_routing=True):
        unlearner.set_fit_request(groups="attr", sample_weight=True)
    weight = np.linspace(0.5, 1, table.n)
    unlearner.fit(table.X, table.y, sample_weight=weight)
    save(unlearner, path)
    again = load(path, make_net())
    assert_same(again, unlearner, table.X)
    assert type(again.lr) is np.float32
    routing = again.get_metadata_routing()
    assert routing.fit.requests == unlearner.get_metadata_routing().fit.requests
    assert routing.fit.requests["groups"] == "attr"
    assert (again._has_groups, again._has_weights) == (False, True)
    with pytest.raises(ValueError, match="X was passed without sample_weight"):
        again.unlearn(FIRST, X=table.X, y=table.y)


def test_random_state_instance_is_saved_as_its_seed(table, path):
    unlearner = FineTuneUnlearner(make_net(), random_state=np.random.RandomState(3))
    save(unlearner.fit(table.X, table.y, table.a), path)
    again = load(path, make_net())
    assert again.random_state == again.seed_ == unlearner.seed_
    assert same_weights(clone(again).fit(table.X, table.y, table.a), unlearner)


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
    unlearner = FineTuneUnlearner(net, random_state=0).fit(table.X, table.y, table.a)
    assert not unlearner.net_.module_.head.weight.is_contiguous()
    save(unlearner, path)
    again = load(path, net)
    assert_same(again, unlearner, table.X)
    module = again.net_.module_
    assert module.one.weight.data_ptr() == module.two.weight.data_ptr()
    assert again.net_.criterion_.weight.tolist() == [1, 2]


def test_no_training_row_is_in_the_file(table, path):
    table.X[:, 0] = np.pi + np.arange(table.n)  # recognisable bytes
    unlearner = make(FineTuneUnlearner, make_net(lr=1e-4), keep_forgotten=True)
    save(unlearner.fit(table.X, table.y, table.a).unlearn(FIRST), path)
    raw, pickled = path.read_bytes(), pickle.dumps(unlearner)
    rows = [table.X[row].tobytes() for row in range(table.n)]
    assert all(row in pickled for row in rows), "the search must be able to find a row"
    assert not any(row in raw for row in rows)


def test_caller_is_left_alone(saved, path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load(path, make_net())
    assert torch.equal(torch.get_rng_state(), before)


def test_history_keeps_values_of_any_kind(saved, path):
    row = saved.history_[-1]
    row |= {"nan": float("nan"), "np": np.float32(0.1), "array": np.arange(3), "t": torch.ones(2)}
    row |= {"inf": -np.inf, "none": None, "pair": (1, 2)}
    save(saved, path)
    loaded = load(path, make_net()).history_[-1]
    assert np.isnan(loaded["nan"]) and loaded["inf"] == -np.inf and loaded["none"] is None
    assert loaded["np"] == float(np.float32(0.1))
    assert (loaded["array"], loaded["t"], loaded["pair"]) == ([0, 1, 2], [1.0, 1.0], [1, 2])


# what cannot be saved ----------------------------------------------------------------------------


def test_unsavable_things_are_named(saved, path, table):
    before = path.read_bytes()
    with pytest.raises(NotFittedError):
        save(MIUUnlearner(), path)

    class Own(MIUUnlearner):
        pass

    with pytest.raises(PersistenceError, match="Own is not a method of this package"):
        save(Own(make_net(), random_state=0, max_epochs=1).fit(table.X, table.y, table.a), path)
    saved.history_[-1]["thing"] = object()
    with pytest.raises(PersistenceError, match=r"history_\[\d+\]\['thing'\].*is a object"):
        save(saved, path)
    del saved.history_[-1]["thing"]
    saved.lam = object()
    with pytest.raises(PersistenceError, match=r"parameter lam cannot be saved.*type object"):
        save(saved, path)
    assert path.read_bytes() == before


def test_state_dict_of_more_than_tensors(saved, path, monkeypatch):
    monkeypatch.setattr(MLP, "get_extra_state", lambda module: {"a": 1})
    with pytest.raises(PersistenceError, match="holds a dict as '_extra_state'"):
        save(saved, path)


def test_too_long_history(saved, path, monkeypatch):
    monkeypatch.setattr(persistence, "LARGEST_HEADER", 1000)
    with pytest.raises(PersistenceError, match="history is too long"):
        save(saved, path)


# writing is all or nothing -----------------------------------------------------------------------


def failing_replace(monkeypatch):
    def replace(source, target):
        assert os.path.getsize(source) > 1000, "it must have been written by now"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)


def full_disk(monkeypatch):
    def open_on_full_disk(path, mode, **kwargs):
        file = open(path, mode, **kwargs)  # noqa: SIM115
        whole_write = file.raw.write

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                whole_write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return Full()

    monkeypatch.setattr(_files, "open", open_on_full_disk, raising=False)


def failing_flush(monkeypatch):
    def fsync(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("failure", [failing_replace, full_disk, failing_flush])
def test_interrupted_save_keeps_the_old_file(failure, saved, path, table, monkeypatch):
    before = path.read_bytes()
    later = saved.unlearn(SECOND)
    with monkeypatch.context() as broken:
        failure(broken)
        with pytest.raises((OSError, KeyboardInterrupt)):
            save(later, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    save(later, path)
    assert_same(load(path, make_net()), later, table.X)


def test_path_is_text_or_path_and_a_link_stays_one(saved, path, table):
    link = path.with_name("link")
    link.symlink_to(path)
    save(saved.unlearn(SECOND), str(link))
    assert link.is_symlink()
    assert load(str(path), make_net()).forget_idx_.tolist() == FIRST + SECOND
    with pytest.raises(FileNotFoundError):
        load(path.with_name("missing"), make_net())
    with pytest.raises(FileNotFoundError):
        save(saved, path.parent / "missing" / "model")
    umask = os.umask(0o027)
    try:
        save(saved, path.with_name("readable"))
    finally:
        os.umask(umask)
    assert path.with_name("readable").stat().st_mode & 0o777 == 0o640


# damaged and foreign files -----------------------------------------------------------------------


def test_truncated_files(saved, path):
    raw = path.read_bytes()
    net = make_net()
    cuts = {0, 1, 7, 8, 9, len(raw) - 1, *np.linspace(10, len(raw) - 2, 46).astype(int).tolist()}
    assert len(cuts) >= 50
    for cut in cuts:
        path.write_bytes(raw[:cut])
        with pytest.raises(PersistenceError):
            load(path, net)
    path.write_bytes(raw + b"\0")
    with pytest.raises(PersistenceError):
        load(path, net)
    path.write_bytes(raw)
    load(path, net)


def test_flipped_bits(saved, path):
    raw, net = path.read_bytes(), make_net()
    rng = np.random.default_rng(0)
    header = 8 + int.from_bytes(raw[:8], "little")
    # every bit of the length, and places all over the header and the weights
    bits = [*range(64), *rng.integers(64, 8 * header, 100), *rng.integers(0, 8 * len(raw), 100)]
    for bit in bits:
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(PersistenceError):
            load(path, net)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def test_foreign_files_are_refused_and_not_executed(path):
    marker = str(path.parent / "executed")
    bomb = Bomb(marker)
    foreign = {
        "pickle": pickle.dumps(bomb),
        "empty": b"",
        "text": b"Dear reader, this is a letter and not a model.",
        "json": b'{"format": "grmu_sk"}',
        "random": np.random.default_rng(0).bytes(5000),
        "other": safetensors.torch.save({"weight": torch.ones(3)}),
        "named": safetensors.torch.save({"weight": torch.ones(3)}, {"format": "pt"}),
        "deep": (50_000).to_bytes(8, "little") + b"[" * 50_000,
    }
    for raw in foreign.values():
        path.write_bytes(raw)
        with pytest.raises(PersistenceError):
            load(path, make_net())
    torch.save({"bomb": bomb}, path)
    with pytest.raises(PersistenceError, match="was not written by"):
        load(path, make_net())
    assert not os.path.exists(marker)
    pickle.loads(foreign["pickle"])
    assert os.path.exists(marker), "the bomb must be a real one"


# files that were made on purpose, with a right checksum ------------------------------------------


def rewrite(path, change=None, tensors=None, **metadata):
    """Write the file again with another content, as a malicious author would."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    old = json.loads(raw[8:end])["__metadata__"]
    content = json.loads(old["content"])
    if change is not None:
        change(content)
    held = safetensors.torch.load(raw)
    held.update(tensors or {})
    held = {name: value for name, value in held.items() if value is not None}
    new = {**old, "sha256": "0" * 64, "content": json.dumps(content), **metadata}
    path.write_bytes(with_digest(safetensors.torch.save(held, new)))


def test_rewriting_alone_changes_nothing(saved, path, table):
    rewrite(path)
    assert_same(load(path, make_net()), saved, table.X)


def test_newer_format_names_both(saved, path):
    rewrite(path, format_version="7")
    with pytest.raises(PersistenceError, match=r"has format 7, but grmu_sk .* up to 1\."):
        load(path, make_net())
    for nonsense in ("0", "-1", "1.5", "²", "", "9" * 5000):
        rewrite(path, format_version=nonsense)
        with pytest.raises(PersistenceError):
            load(path, make_net())


@pytest.mark.parametrize(
    "name", ["unknown", "MIUUnlearner", "os.system", "../../evil", "grmu_sk.unlearners.miu", "", 3]
)
def test_class_only_from_the_registry(name, saved, path):
    rewrite(path, lambda content: content.update(method=name))
    with pytest.raises(PersistenceError, match="is none of this package's"):
        load(path, make_net())


def put(*keys_and_value):
    *keys, last, value = keys_and_value

    def change(content):
        for key in keys:
            content = content[key]
        content[last] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put("parameters", "unheard_of", 1),
        put("parameters", "estimator", 1),
        put("parameters", "lam", {"object": "os.system"}),
        put("parameters", "lam", {"scalar": ["O", 1]}),
        put("parameters", None),
        put("state", "predict", 1),
        put("state", "__class__", 1),
        put("state", "__dict__", 1),
        put("state", "net_", 1),
        put("state", "note", 1),
        put("state", "seed_", "0"),
        put("state", "_n_requests", {"array": ["|O", [1]]}),
        put("classes", ["a", "b"]),
        put("classes", {"array": ["<U99999999999", ["a"]]}),
        put("classes", {"array": ["|V8", ["a"]]}),
        put("attributes", {"array": ["<i8", [1, 2, 3]]}),
        put("forget_groups", [99]),
        put("history", [1]),
        put("net", "kind", "remote"),
        put("net", {}),
        put("routing", {"fit": {"estimator": "x"}}),
        lambda content: content.clear(),
    ],
)
def test_content_that_was_tampered_with(change, saved, path):
    rewrite(path, change)
    with pytest.raises(PersistenceError):
        load(path, make_net())


@pytest.mark.parametrize("sizes", [[10**14], [-4], [1, 2], ["4"], None, [3, 1, 1], [5]])
def test_default_net_of_impossible_size(sizes, table, path):
    save(make(FineTuneUnlearner, None).fit(table.X, table.y, table.a), path)
    rewrite(path, put("net", "row_shape", sizes))
    with pytest.raises(PersistenceError):
        load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"state/remaining_idx_": torch.arange(3)},
        {"state/forget_idx_": torch.tensor([-1, 2, 3])},
        {"state/forget_idx_": torch.tensor(1)},
        {"state/_group_counts": torch.arange(3)},
        {"state/_group_counts": None},
        {"state/predict_proba": torch.arange(3)},
        {"state/seed_": torch.tensor(0)},
    ],
)
def test_row_numbers_that_were_tampered_with(tensors, saved, path):
    rewrite(path, tensors=tensors)
    with pytest.raises(PersistenceError):
        load(path, make_net())


def test_net_must_match(saved, path):
    with pytest.raises(PersistenceError, match=r"not the net itself.*load\(path, estimator=net\)"):
        load(path)
    with pytest.raises(TypeError, match="skorch net"):
        load(path, nn.Linear(4, 2))
    with pytest.raises(PersistenceError, match=r"'features.1.weight' is \(16, 4\) float32 in the "):
        load(path, make_net(module__hidden=(8,)))
    with pytest.raises(PersistenceError, match=r"but \(16, 4\) float64 in the net"):
        load(path, make_net(module__dtype=torch.float64))
    with pytest.raises(PersistenceError, match=r"has no weight 'features.3.weight'"):
        load(path, make_net(module__hidden=(16, 2)))
    with pytest.raises(PersistenceError, match=r"has no weight 'weight', .* criterion has"):
        load(path, make_net(criterion__weight=torch.ones(2)))
    rewrite(path, tensors={"weights/module/extra.bias": torch.ones(2)})
    with pytest.raises(PersistenceError, match=r"weight 'extra.bias' that the net's module does"):
        load(path, make_net())


# elsewhere ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [MIUUnlearner, SISAUnlearner])
def test_joblib_round_trip(method, table, tmp_path):
    unlearner = make(method, make_net()).fit(table.X, table.y, table.a).unlearn(FIRST)
    joblib.dump(unlearner, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(table.X), unlearner.predict_proba(table.X))
    assert same_weights(again.unlearn(SECOND), unlearner.unlearn(SECOND))


@pytest.mark.parametrize("method", [MIUUnlearner, SISAUnlearner])
def test_skops_round_trip_without_stored_rows(method, table):
    unlearner = make(method, make_net(), store_data=False).fit(table.X, table.y, table.a)
    unlearner.unlearn(FIRST, X=table.X, y=table.y, groups=table.a)
    raw = skops.io.dumps(unlearner)
    with pytest.raises(skops.io.exceptions.UntrustedTypesFoundException):
        skops.io.loads(raw)
    again = skops.io.loads(raw, trusted=skops.io.get_untrusted_types(data=raw))
    np.testing.assert_array_equal(again.predict_proba(table.X), unlearner.predict_proba(table.X))
    for one in (again, unlearner):
        one.unlearn(SECOND, X=table.X, y=table.y, groups=table.a)
    assert same_weights(again, unlearner)


def test_compiled_net_has_the_plain_names(saved, path, table):
    names = safetensors.torch.load(path.read_bytes())
    assert "weights/module/head.weight" in names
    net = make_net(compile=True, compile__backend="eager")
    again = load(path, net)
    np.testing.assert_array_equal(again.predict_proba(table.X), saved.predict_proba(table.X))
    other = path.with_name("compiled")
    save(again, other)
    assert safetensors.torch.load(other.read_bytes()).keys() == names.keys()
    shutil.copy(other, path)
    assert_same(load(path, make_net(MLP)), saved, table.X)


# permissions, bytes, and forged settings ---------------------------------------------------------


def test_a_private_file_stays_private(saved, path):
    path.chmod(0o600)
    save(saved, path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_equal_unlearners_give_equal_bytes(saved, path):
    # in the order of safetensors, two files of four metadata entries agree once in 24 times
    raws = []
    for _ in range(8):
        save(saved, path)
        raws.append(path.read_bytes())
    assert len(set(raws)) == 1
    save(load(path, make_net()), path)
    assert path.read_bytes() == raws[0]
    saved.seed_ += 1
    save(saved, path)
    assert path.read_bytes() != raws[0], "the control: another unlearner gives other bytes"


def test_every_single_byte_counts(table, path):
    net = make_net(module__hidden=(2,))
    unlearner = make(FineTuneUnlearner, net).fit(table.X, table.y, table.a)
    save(unlearner, path)
    raw = path.read_bytes()
    for position in range(len(raw)):
        damaged = bytearray(raw)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(PersistenceError):
            load(path, net)


def test_class_that_was_expected(saved, path):
    assert type(load(path, make_net(), expected=MIUUnlearner)) is MIUUnlearner
    with pytest.raises(PersistenceError, match="holds a MIUUnlearner, not a SISAUnlearner"):
        load(path, make_net(), expected=SISAUnlearner)


def test_only_unlearners_are_saved(path, table):
    with pytest.raises(TypeError, match="got a NeuralNetClassifier"):
        save(make_net().fit(table.X, table.y), path)
    assert not path.exists()


@pytest.mark.parametrize(
    "value", [np.longdouble(0.1), np.zeros(3, dtype=np.longdouble), np.zeros((2, 2), dtype="U1")]
)
def test_values_without_a_json_form(value, saved, path):
    saved.extra_ = value
    with pytest.raises(PersistenceError, match="attribute extra_ cannot be saved"):
        save(saved, path)


def test_byte_order_of_another_machine(saved, path):
    saved.extra_ = np.arange(3, dtype=np.dtype("int32").newbyteorder())
    save(saved, path)
    again = load(path, make_net())
    assert again.extra_.tolist() == [0, 1, 2] and again.extra_.dtype == saved.extra_.dtype


@pytest.mark.parametrize(
    "change",
    [
        put("parameters", "n_shards", "x"),
        put("parameters", "n_shards", -1),
        put("parameters", "aggregation", "evil"),
        put("state", "seed_", -1),
        put("state", "_n_requests", -5),
        put("state", "__evil__", 1),
        put("classes", {"array": ["<i8", [1, 1]]}),
        put("attributes", {"array": ["|O", [[1], [2]]]}),
    ],
)
def test_forged_settings(change, table, path):
    save(make(SISAUnlearner, make_net()).fit(table.X, table.y, table.a), path)
    rewrite(path, change)
    with pytest.raises(PersistenceError):
        load(path, make_net())


def test_forged_size_reserves_no_memory(table, path, monkeypatch):
    save(make(FineTuneUnlearner, None).fit(table.X, table.y, table.a), path)
    rewrite(path, put("net", "row_shape", [10**8]))
    monkeypatch.setattr(MLP, "__init__", lambda *_, **__: pytest.fail("the net was built"))
    with pytest.raises(PersistenceError, match="more weights than the file"):
        load(path)


def test_what_a_killed_save_left_is_found_and_goes_with_the_next(table, path):
    unlearner = make(FineTuneUnlearner, make_net()).fit(table.X, table.y, table.a)
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


def test_forged_width_of_text_reserves_no_memory(saved, path):
    saved.classes_ = np.array(["a", "b"])
    save(saved, path)
    rewrite(path, put("classes", {"array": ["<U3000000", ["a", "b"]]}))
    tracemalloc.start()
    try:
        assert load(path, make_net()).classes_.tolist() == ["a", "b"]
        assert tracemalloc.get_traced_memory()[1] < 10**7, "24 MB is what the file asks for"
    finally:
        tracemalloc.stop()
    rewrite(path, put("classes", {"array": ["<U9", ["x" * 10_000, *map(str, range(9000))]]}))
    with pytest.raises(PersistenceError, match="far more memory than its text"):
        load(path, make_net())


@pytest.mark.parametrize("net", [None, make_net()])
def test_forged_number_of_nets_reserves_no_memory(net, table, path, monkeypatch):
    save(make(SISAUnlearner, net).fit(table.X, table.y, table.a), path)
    rewrite(path, put("parameters", "n_shards", table.n))
    built, build = [], MLP.__init__
    monkeypatch.setattr(MLP, "__init__", lambda *a, **k: (built.append(1), build(*a, **k))[1])
    with pytest.raises(PersistenceError, match="nets have more weights than the file"):
        load(path, net)
    assert len(built) <= 1


def test_types_listed_by_skops_do_not_stop_code(table, tmp_path, monkeypatch):
    """Why the documentation says to trust a skops file no more than a pickle."""
    unlearner = FineTuneUnlearner(make_net(), max_epochs=1, store_data=False)
    unlearner.fit(table.X, table.y, table.a)
    honest = skops.io.get_untrusted_types(data=skops.io.dumps(unlearner))
    marker = str(tmp_path / "executed")
    net_class, get_state = type(unlearner.net_), type(unlearner.net_).__getstate__

    def armed(net):
        return {**get_state(net), "__cuda_dependent_attributes__": pickle.dumps(Bomb(marker))}

    with monkeypatch.context() as patch:
        patch.setattr(net_class, "__getstate__", armed)
        raw = skops.io.dumps(unlearner)
    assert skops.io.get_untrusted_types(data=raw) == honest
    with pytest.raises(TypeError):  # the bomb returned no state, but it went off
        skops.io.loads(raw, trusted=honest)
    assert os.path.exists(marker)
