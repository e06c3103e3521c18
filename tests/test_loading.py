"""The user's own loader, its options, and what a Dataset hands out."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net, same_weights
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)
from transformers import BatchEncoding

from grmu_sk import (
    FineTuneUnlearner,
    GradientAscentUnlearner,
    MIUUnlearner,
    RetrainUnlearner,
    loading,
)
from grmu_sk.loading import inputs_near, own_collate
from grmu_sk.nets import MLP
from grmu_sk.rows import InputRows, TrainingRows

FORGET = [40, 41, 50]
# without a GPU torch has no pinned memory
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory")


class Items(Dataset):
    """Hands out whatever a function makes of a row and its number."""

    def __init__(self, X, make):
        self.X, self.make = torch.as_tensor(X), make

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.make(self.X[i], i)


def retrain(net, **kwargs):
    return RetrainUnlearner(net, random_state=0, **kwargs)


def requests(table, X, **net):
    """Two requests of a method with several phases."""
    options = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "random_state": 0}
    miu = MIUUnlearner(make_net(**net), **options).fit(X, table.y, table.a)
    return miu.unlearn(FORGET).unlearn([60])


# --- masks, whole numbers, and several inputs ---------------------------------------------------


class ReadsAll(MLP):
    """Needs the mask to be one and the large whole number to be exact."""

    def forward(self, X, mask=None, number=None):
        if mask is None:
            X, mask, number = X
        assert mask.dtype is torch.bool
        assert (number == 2**24 + 1).all()
        return super().forward(X.masked_fill(~mask, 0.0))


MASK = torch.tensor([True, True, False, True])
NUMBER = torch.tensor(2**24 + 1)
SEVERAL = {
    "dict in a pair": lambda x, i: ({"X": x, "mask": MASK, "number": NUMBER}, i % 3),
    "tuple in a pair": lambda x, i: ((x, MASK, NUMBER), torch.tensor([7])),
}


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize(
    "method",
    [
        RetrainUnlearner,
        partial(MIUUnlearner, tune_updates=(3, 2), tune_mode="train", original_mode="train"),
    ],
)
def test_masks_and_whole_numbers_reach_the_module_as_they_are(table, kind, method):
    net = make_net(ReadsAll, module__n_features=4, module__hidden=(16,))
    data = Items(table.X, SEVERAL[kind])
    made = method(net, random_state=0).fit(data, table.y, table.a).unlearn(FORGET)
    X = table.X * MASK.numpy()
    plain = method(make_net(), random_state=0).fit(X, table.y, table.a).unlearn(FORGET)
    np.testing.assert_allclose(made.predict_proba(data), plain.predict_proba(X), atol=1e-5)


class OneHot(nn.Linear):
    def forward(self, X):
        return super().forward(nn.functional.one_hot(X, 5).float().flatten(1))


def test_whole_numbers_of_a_tensor(table):
    X = torch.as_tensor(table.X).clamp(0, 4).long()
    retrain(make_net(OneHot, module__in_features=20, module__out_features=2)).fit(X, table.y)
    retrain(make_net()).fit(X.numpy(), table.y)  # a table, which a net without embedding reads


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda x, i: (x, MASK, 1), "Tensor, Tensor, int"),
        (lambda x, i: (x, x), "Tensor, Tensor"),
        (lambda x, i: [x, {"mask": MASK}], "Tensor, dict"),
    ],
)
def test_items_that_are_neither_inputs_nor_a_pair_are_refused(table, make, parts):
    with pytest.raises(TypeError, match=rf"\({parts}\), .*hand out several"):
        retrain(make_net()).fit(Items(table.X, make), table.y)


class WithLogits(MLP):
    def forward(self, X):
        return {"logits": super().forward(X)}


def test_a_module_that_returns_no_tensor_is_refused(table):
    net = make_net(WithLogits, module__n_features=4, max_epochs=1)
    with pytest.raises(TypeError, match=r"returns a dict, no tensor.*logits"):
        retrain(net).fit(table.X, table.y)


# --- making batches -----------------------------------------------------------------------------


def padded(pairs):
    rows, labels = zip(*pairs, strict=True)
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.as_tensor(labels)


def scaled(pairs):
    X, y = default_collate(pairs)
    return 3 * X, y


class Scaling(DataLoader):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, collate_fn=scaled, **kwargs)


class Pairs(DataLoader):
    """Looks at each batch, as loaders do that move it to a device."""

    def __iter__(self):
        for X, y in super().__iter__():
            yield 3 * X, y


LOADERS = {
    "collate_fn": {"iterator_train__collate_fn": scaled, "iterator_valid__collate_fn": scaled},
    "subclass": {"iterator_train": Scaling, "iterator_valid": Scaling},
    "subclass that looks": {"iterator_train": Pairs, "iterator_valid": Pairs},
}


@pytest.mark.parametrize(
    ("name", "kind", "n_workers"),
    [
        ("collate_fn", "array", 0),
        ("collate_fn", "pairs", 1),
        ("subclass", "pairs", 0),
        ("subclass that looks", "array", 1),
    ],
)
def test_batches_are_made_the_loaders_way(table, name, kind, n_workers):
    options = {**LOADERS[name], "iterator_train__num_workers": n_workers}
    data = table.X if kind == "array" else TensorDataset(torch.as_tensor(table.X), torch.zeros(160))
    made = retrain(make_net(**options)).fit(data, table.y, table.a).unlearn(FORGET)
    plain = retrain(make_net()).fit(3 * table.X, table.y, table.a).unlearn(FORGET)
    np.testing.assert_allclose(made.predict_proba(data), plain.predict_proba(3 * table.X), 1e-4)


class Pooled(MLP):
    def forward(self, X):
        return super().forward(torch.stack([X.sum(1), X.amax(1)], 1))


def test_rows_of_any_length(table):
    rows = Items(table.X, lambda x, i: (x[: 1 + i % 4].abs(), 0))
    bare = Items(table.X, lambda x, i: x[: 1 + i % 4].abs())
    both = {f"iterator_{name}__collate_fn": padded for name in ("train", "valid")}
    net = make_net(Pooled, module__n_features=2, **both)
    made = MIUUnlearner(net, random_state=0, tune_updates=(2, 1)).fit(rows, table.y, table.a)
    assert np.isfinite(made.unlearn(FORGET).predict_proba(rows)).all()
    pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)  # gets what the Dataset hands out
    net.set_params(iterator_train__collate_fn=pad, iterator_valid__collate_fn=pad)
    retrain(net).fit(bare, table.y)


def sorted_by_length(pairs):
    return default_collate(sorted(pairs, key=lambda pair: pair[0][0].item()))


def mixed(pairs):
    X, y = default_collate(pairs)
    return (X + X.flip(0)) / 2, (y + y.flip(0)) / 2


def only_inputs(pairs):
    return default_collate([x for x, _ in pairs])


@pytest.mark.parametrize(
    ("collate", "name"),
    [
        (sorted_by_length, "iterator_train"),
        (sorted_by_length, "iterator_valid"),
        (mixed, "iterator_train"),
        (only_inputs, "iterator_valid"),
    ],
)
def test_batches_with_other_rows_or_labels_are_refused(table, collate, name):
    with pytest.raises(ValueError, match="collate_fn must return a pair"):
        retrain(make_net(**{f"{name}__collate_fn": collate})).fit(table.X, table.y).predict(table.X)


class Restless(DataLoader):
    def __iter__(self):
        return reversed(list(super().__iter__()))


@pytest.mark.parametrize(
    ("loader", "error", "match"),
    [
        (Restless, ValueError, "iterator_train .Restless. does not yield the rows"),
        (lambda dataset, batch_sampler: [], TypeError, "iterator_train cannot be told which"),
    ],
)
def test_loaders_that_cannot_serve(table, loader, error, match):
    with pytest.raises(error, match=match):
        retrain(make_net(iterator_train=loader)).fit(table.X, table.y)


# --- the order of rows --------------------------------------------------------------------------


class Notes(MLP):
    seen = []

    def forward(self, X):
        if self.training:
            Notes.seen.append(X[:, 0].int().tolist())
        return super().forward(X / 160)


class EveryFifth(SequentialSampler):
    def __iter__(self):
        return iter(range(0, 160, 5))


ORDERS = {
    "shuffle": ({"shuffle": False}, [32] * 5),
    "drop_last": ({"drop_last": True, "batch_size": 100}, [100]),
    "sampler": ({"sampler": EveryFifth(range(160))}, [32]),
    "batch_sampler": ({"batch_sampler": BatchSampler(EveryFifth([]), 5, True)}, [5] * 6),
}


@pytest.mark.parametrize("name", ORDERS)
def test_fit_trains_in_the_order_of_the_users_loader(table, name):
    options, sizes = ORDERS[name]
    n_workers = int(name == "batch_sampler")
    X = np.repeat(np.arange(160, dtype=np.float32)[:, None], 4, axis=1)
    options = {f"iterator_train__{option}": value for option, value in options.items()}
    options["iterator_train__num_workers"] = n_workers
    net = make_net(Notes, module__n_features=4, max_epochs=2, **options)
    Notes.seen = []
    made = FineTuneUnlearner(net, random_state=0).fit(X, table.y, table.a)
    assert [len(batch) for batch in Notes.seen] == sizes * 2
    first = np.concatenate(Notes.seen[: len(sizes)])
    if "iterator_train__drop_last" in options:  # rows are shuffled all the same
        assert not np.array_equal(first, np.sort(first))
    else:
        every = 1 if "iterator_train__shuffle" in options else 5
        np.testing.assert_array_equal(first, np.arange(160)[::every][: len(first)])
    with pytest.warns(UserWarning, match=f"iterator_train__{name} cannot be kept here"):
        made.unlearn(FORGET)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"drop_last": True, "batch_size": 500}, ValueError, "leave no batch of rows"),
        ({"sampler": range(161)}, IndexError, "160 is out of bounds"),
    ],
)
def test_orders_that_do_not_fit_are_refused(table, options, error, match):
    options = {f"iterator_train__{name}": value for name, value in options.items()}
    with pytest.raises(error, match=match):
        retrain(make_net(**options)).fit(table.X, table.y)


# --- workers ------------------------------------------------------------------------------------


def test_workers_change_no_result(table):
    plain = MIUUnlearner(make_net(), random_state=0, tune_updates=(2, 1))
    plain.fit(table.X, table.y, table.a).unlearn(FORGET)
    options = {f"iterator_{name}__num_workers": 2 for name in ("train", "valid")}
    data = TensorDataset(torch.as_tensor(table.X))
    made = MIUUnlearner(make_net(**options), random_state=0, tune_updates=(2, 1))
    assert same_weights(made.fit(data, table.y, table.a).unlearn(FORGET), plain)


def test_persistent_workers_are_started_once(table):
    started = []

    class Loader(DataLoader):
        def _get_iterator(self):
            started.append(self.num_workers)
            return super()._get_iterator()

    options = {"iterator_train": Loader, "iterator_train__num_workers": 1}
    options["iterator_train__persistent_workers"] = True
    net = make_net(**options, max_epochs=5)
    made = GradientAscentUnlearner(net, random_state=0, max_epochs=2)
    made.fit(table.X, table.y, table.a)
    assert started == [1]
    plain = GradientAscentUnlearner(make_net(max_epochs=5), random_state=0, max_epochs=2)
    assert same_weights(made, plain.fit(table.X, table.y, table.a))
    made.unlearn(FORGET)
    assert started == [1, 1]
    assert made._data.loaders is None
    assert own_collate(net.initialize(), made._data) is None


# --- the user's own validation set --------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind"), [(["no", "yes"], "skorch"), ([0, 5], "Dataset"), ([1, 2], "subset")]
)
def test_labels_of_a_validation_set_are_those_of_fit(table, values, kind):
    y = np.array(values)[table.y]
    X = table.X if kind == "skorch" else table.X.astype(np.float64)
    held_out = {
        "skorch": lambda: SkorchDataset(X[:64], y[:64]),
        "Dataset": lambda: Items(X[:64], lambda x, i: (x, y[i])),
        "subset": lambda: Subset(SkorchDataset(X, y), range(64)),
    }[kind]()
    callbacks = [("again", EpochScoring("accuracy", name="again", use_caching=kind != "skorch"))]
    net = make_net(train_split=predefined_split(held_out), callbacks=callbacks)
    made = retrain(net).fit(X, y, table.a)
    assert made.history_[-1, "valid_acc"] == pytest.approx(made.score(X[:64], y[:64]))
    assert made.history_[-1, "again"] == made.history_[-1, "valid_acc"]


def test_unknown_labels_of_a_validation_set_are_refused(table):
    held_out = SkorchDataset(table.X, table.y + 1)
    net = make_net(train_split=predefined_split(held_out))
    with pytest.raises(ValueError, match=r"holds the label 2, .* classes of fit, \[0, 1\]"):
        retrain(net).fit(table.X, table.y)


def test_a_split_within_a_split(table):
    def split(dataset, y):
        half = Subset(dataset, np.arange(80))
        return Subset(half, np.arange(60)), Subset(half, np.arange(60, 80))

    y = table.y + 1
    made = retrain(make_net(train_split=split)).fit(table.X, y)
    assert made.history_[-1, "valid_acc"] == pytest.approx(made.score(table.X[60:80], y[60:80]))
    assert made.history_[-1, "train_batch_count"] == 2


# --- what holds no rows -------------------------------------------------------------------------


OfHuggingFace = type("Dataset", (), {"__module__": "datasets.arrow_dataset", "__len__": len})


@pytest.mark.parametrize(
    ("X", "match"),
    [
        ({"x": np.zeros((160, 4))}, r"got a dict: .* skorch.dataset.Dataset\(dict\(X\)\)"),
        (BatchEncoding({"x": np.zeros((160, 4))}), "got a BatchEncoding: .*skorch.dataset"),
        (DataLoader(TensorDataset(torch.zeros(160, 4))), "got a DataLoader: .* X.dataset"),
        (OfHuggingFace(), "got a Dataset: pass a torch Dataset of"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_holds_no_rows_is_refused(table, X, match):
    with pytest.raises(TypeError, match=match):
        retrain(make_net()).fit(X, table.y)


def test_a_dictionary_in_skorchs_dataset(table):
    X = {"X": torch.as_tensor(table.X), "mask": torch.ones(160, 4) > 0}
    X = SkorchDataset({**X, "number": torch.full((160,), 2**24 + 1)})
    net = make_net(ReadsAll, module__n_features=4, module__hidden=(16,))
    made = retrain(net).fit(X, table.y, table.a).unlearn(FORGET)
    plain = retrain(make_net()).fit(table.X, table.y, table.a).unlearn(FORGET)
    np.testing.assert_allclose(made.predict_proba(X), plain.predict_proba(table.X), atol=1e-5)


@pytest.mark.parametrize(
    "column",
    [
        pd.Categorical(["a", "b"] * 80),
        pd.period_range("2020-01", periods=160, freq="M"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_columns_that_are_no_numbers_are_named(table, column):
    X = pd.DataFrame(table.X, columns=list("abcd")).assign(when=column)
    with pytest.raises(ValueError, match=r"not so in the column\(s\) \['when'\]. Encode"):
        retrain(make_net()).fit(X, table.y)


@pytest.mark.parametrize("kind", [object, "Int64"])
def test_missing_labels_are_refused(table, kind):
    missing = pd.Series(table.y).astype(kind)
    missing[7] = pd.NA
    with pytest.raises(ValueError, match="Input y contains NaN"):
        retrain(make_net()).fit(table.X, missing)


# --- inputs on their way to a GPU, whose part the processor plays here ---------------------------


@pytest.fixture
def gpu(monkeypatch):
    """Take the processor for a GPU with this much free memory."""

    def pretend(free_memory):
        monkeypatch.setattr(loading, "is_gpu", lambda device: device is not None)
        monkeypatch.setattr(loading, "_free_memory", lambda device: free_memory)

    return pretend


KINDS = {
    "float64": lambda X: X.astype(np.float64),
    "read-only": lambda X: np.frombuffer(X.tobytes(), dtype=X.dtype).reshape(X.shape),
    "by columns": np.asfortranarray,
    "other byte order": lambda X: X.astype(">f4"),
    "tensor": torch.from_numpy,
}


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_fit_are_read_from_their_copy(table, gpu, monkeypatch, kind):
    X, plain = KINDS[kind](table.X), requests(table, KINDS[kind](table.X))
    gpu(free_memory=2**30)
    monkeypatch.setattr(loading, "BYTES_COPIED_AT_ONCE", 100)
    read, fetch = [], InputRows.fetch

    def spy(self, where, y=None):
        if self.on_device is not None:
            assert self.on_device.tolist() == self.X.tolist()
        read.append(self.on_device is not None)
        return fetch(self, where, y)

    monkeypatch.setattr(InputRows, "fetch", spy)
    near = requests(table, X)
    # what is looked at to check nets, rows and results comes before and after
    assert sum(read) > read.count(False)
    assert same_weights(plain, near)
    assert near._data.on_device is None


def test_a_copy_is_dropped_in_any_case(table, gpu):
    gpu(free_memory=2**30)
    rows = np.arange(table.n)
    data = TrainingRows(table.X, torch.from_numpy(table.y), torch.from_numpy(table.a), rows)
    with pytest.raises(KeyError), inputs_near(make_net(), data):
        assert data.on_device.shape == table.X.shape
        assert data.keep(rows[5:]).on_device is None
        raise KeyError
    assert data.on_device is None


@pytest.mark.parametrize("what", ["too large", "map", "Dataset", "workers", "no GPU"])
def test_what_does_not_fit_or_is_read_lazily_stays(table, gpu, tmp_path, what):
    np.save(tmp_path / "X.npy", table.X)
    X = {
        "map": np.load(tmp_path / "X.npy", mmap_mode="r"),
        "Dataset": TensorDataset(torch.from_numpy(table.X)),
    }.get(what, table.X)
    if what != "no GPU":
        gpu(free_memory=4 * table.X.nbytes - 1 if what == "too large" else 2**30)
    net = make_net(**({"iterator_train__num_workers": 1} if what == "workers" else {}))
    data = InputRows(X)
    with inputs_near(net, data):
        assert data.on_device is None


def test_what_does_not_fit_comes_through_a_loader_with_pinned_memory(gpu, table, monkeypatch):
    plain = requests(table, table.X)
    gpu(free_memory=0)
    loaders, own_loader = [], loading._own_loader
    monkeypatch.setattr(
        loading, "_own_loader", lambda *args: loaders.append(own_loader(*args)) or loaders[-1]
    )
    assert same_weights(plain, requests(table, table.X))
    assert loaders and all(loader.pin_memory for loader in loaders)
