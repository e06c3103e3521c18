"""The user's own loader, its options, and what a Dataset hands out."""

import numpy as np
import pytest
import torch
from conftest import make_net, same_weights
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import predefined_split
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    default_collate,
)

from grmu_sk import (
    FineTuneUnlearner,
    GradientAscentUnlearner,
    MIUUnlearner,
    RetrainUnlearner,
    loading,
)
from grmu_sk.nets import MLP
from grmu_sk.rows import InputRows

FORGET = [40, 41, 50]


class Items(Dataset):
    """Hands out whatever a function makes of a row and its number."""

    def __init__(self, X, make):
        self.X, self.make = torch.as_tensor(X), make

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.make(self.X[i], i)


def retrain(net):
    return RetrainUnlearner(net, random_state=0)


def requests(table, X, net=None):
    """Two requests of a method with several phases."""
    options = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "random_state": 0}
    miu = MIUUnlearner(make_net() if net is None else net, **options).fit(X, table.y, table.a)
    return miu.unlearn(FORGET).unlearn([60])


def both(**options):
    return {f"iterator_{n}__{k}": v for k, v in options.items() for n in ("train", "valid")}


@pytest.mark.parametrize("item", [lambda x, i: (x, x, 1), lambda x, i: (x, x)])
def test_items_that_are_neither_inputs_nor_a_pair_are_refused(table, item):
    with pytest.raises(TypeError, match="hand out several"):
        retrain(make_net()).fit(Items(table.X, item), table.y)


def scaled(pairs):
    X, y = default_collate(pairs)
    return 3 * X, y


class Pairs(DataLoader):
    """Looks at each batch, as loaders do that move it to a device."""

    def __iter__(self):
        for X, y in super().__iter__():
            yield 3 * X, y


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (both(collate_fn=scaled, num_workers=1), "pairs"),
        ({"iterator_train": Pairs, "iterator_valid": Pairs}, "array"),
    ],
)
def test_batches_are_made_the_loaders_way(table, options, kind):
    data = table.X if kind == "array" else TensorDataset(torch.as_tensor(table.X), torch.zeros(160))
    made = retrain(make_net(**options)).fit(data, table.y, table.a).unlearn(FORGET)
    plain = retrain(make_net()).fit(3 * table.X, table.y, table.a).unlearn(FORGET)
    np.testing.assert_allclose(made.predict_proba(data), plain.predict_proba(3 * table.X), 1e-4)


def sorted_by_value(pairs):
    return default_collate(sorted(pairs, key=lambda pair: pair[0][0].item()))


def mixed(pairs):
    X, y = default_collate(pairs)
    return (X + X.flip(0)) / 2, (y + y.flip(0)) / 2


@pytest.mark.parametrize(
    ("name", "collate"), [("iterator_train", mixed), ("iterator_valid", sorted_by_value)]
)
def test_batches_with_other_rows_or_labels_are_refused(table, collate, name):
    with pytest.raises(ValueError, match="must return the labels it was given"):
        retrain(make_net(**{f"{name}__collate_fn": collate})).fit(table.X, table.y).predict(table.X)


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
    "drop_last": ({"drop_last": True, "batch_size": 100}, [100], None),
    "batch_sampler": ({"batch_sampler": BatchSampler(EveryFifth([]), 5, True)}, [5] * 6, 5),
}


@pytest.mark.parametrize("name", ORDERS)
def test_fit_trains_in_the_order_of_the_users_loader(table, name):
    options, sizes, every = ORDERS[name]
    X = np.repeat(np.arange(160, dtype=np.float32)[:, None], 4, axis=1)
    options = {f"iterator_train__{option}": value for option, value in options.items()}
    net = make_net(Notes, module__n_features=4, max_epochs=2, **options)
    Notes.seen = []
    made = FineTuneUnlearner(net, random_state=0).fit(X, table.y, table.a)
    assert [len(batch) for batch in Notes.seen] == sizes * 2
    first = np.concatenate(Notes.seen[: len(sizes)])
    in_order = np.arange(160)[::every][: len(first)]  # rows are shuffled unless a sampler says
    assert np.array_equal(first, in_order) == (every is not None)
    with pytest.warns(UserWarning, match=f"iterator_train__{name} cannot be kept here"):
        made.unlearn(FORGET)


def test_persistent_workers_are_started_once_and_change_no_result(table):
    started = []

    class Loader(DataLoader):
        def _get_iterator(self):
            started.append(self.num_workers)
            return super()._get_iterator()

    options = {"num_workers": 1, "persistent_workers": True}
    net = make_net(iterator_train=Loader, **both(**options))
    made = GradientAscentUnlearner(net, random_state=0, max_epochs=2)
    data = TensorDataset(torch.as_tensor(table.X))
    made.fit(data, table.y, table.a)
    assert started == [1]
    made.unlearn(FORGET)
    assert started == [1, 1]
    assert made._data.loaders is None
    plain = GradientAscentUnlearner(make_net(), random_state=0, max_epochs=2)
    assert same_weights(made, plain.fit(table.X, table.y, table.a).unlearn(FORGET))


@pytest.mark.parametrize(
    ("values", "kind"), [(["no", "yes"], "skorch"), ([0, 5], "Dataset"), ([1, 2], "subset")]
)
def test_labels_of_a_validation_set_are_those_of_fit(table, values, kind):
    y, X = np.array(values)[table.y], table.X
    held_out = {
        "skorch": lambda: SkorchDataset(X[:64], y[:64]),
        "Dataset": lambda: Items(X[:64].astype(np.float64), lambda x, i: (x, y[i])),
        "subset": lambda: Subset(SkorchDataset(X, y), range(64)),
    }[kind]()
    callbacks = [("again", EpochScoring("accuracy", name="again"))]
    net = make_net(train_split=predefined_split(held_out), callbacks=callbacks)
    made = retrain(net).fit(X, y, table.a)
    assert made.history_[-1, "valid_acc"] == pytest.approx(made.score(X[:64], y[:64]))
    assert made.history_[-1, "again"] == made.history_[-1, "valid_acc"]
    net.set_params(train_split=predefined_split(SkorchDataset(X, table.y + 7)))
    with pytest.raises(ValueError, match="has a label that is not in"):
        retrain(net).fit(X, y)


@pytest.mark.parametrize("what", ["fits", "too large", "map", "workers", "no GPU"])
def test_inputs_that_fit_are_read_from_their_copy(table, monkeypatch, tmp_path, what):
    X = table.X.astype(">f8")
    if what == "map":
        np.save(tmp_path / "X.npy", X)
        X = np.load(tmp_path / "X.npy", mmap_mode="r")
    net = make_net(**(both(num_workers=1) if what == "workers" else {}))
    plain = requests(table, X, net)
    free = 0 if what == "too large" else 2**30
    monkeypatch.setattr(loading, "is_gpu", lambda device: what != "no GPU")
    monkeypatch.setattr(loading, "_free_memory", lambda device: free)
    near, fetch = [], InputRows.fetch

    def noting(self, where):
        near.append(self.on_device is not None)
        return fetch(self, where)

    monkeypatch.setattr(InputRows, "fetch", noting)
    there = requests(table, X, net)
    assert same_weights(plain, there)
    assert there._data.on_device is None
    # what is looked at to check nets, rows and results comes before and after
    assert any(near) == (what == "fits")
