"""Inputs and models as people have them."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net, make_table, same_weights
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import ToTensor

from grmu_sk import MIUUnlearner
from grmu_sk.nets import SmallCNN

SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2), "random_state": 0}
FORGET = [40, 41, 50]
COLUMNS = ["age", "hours", "gain", "loss"]


def miu(net=None, **kwargs):
    return MIUUnlearner(make_net() if net is None else net, **{**SHORT, **kwargs})


@pytest.fixture
def frame(table):
    # an index that is not 0, 1, 2: rows count, labels of rows do not
    return pd.DataFrame(table.X, columns=COLUMNS, index=np.arange(table.n)[::-1] * 10)


@pytest.fixture
def reference(table):
    return miu().fit(table.X, table.y, table.a).unlearn(FORGET)


@pytest.mark.parametrize("labels", ["numbers", "categories"])
def test_tables_with_names_categories_and_another_index(table, frame, reference, labels):
    # "other" occurs in no row, and the order of categories is not that of words
    sex = pd.Categorical(np.array(["f", "m"])[table.a], categories=["other", "m", "f"])
    y = pd.Series(table.y, index=frame.index, name="income")
    if labels == "categories":
        y = pd.Series(pd.Categorical(y.map({0: "no", 1: "yes"}), ["yes", "no", "?"]), frame.index)
    unlearner = miu().fit(frame, y, pd.Series(sex, index=frame.index)).unlearn(FORGET)
    assert unlearner.feature_names_in_.tolist() == COLUMNS
    assert unlearner.classes_.tolist() == (["no", "yes"] if labels == "categories" else [0, 1])
    assert same_weights(unlearner, reference)
    np.testing.assert_array_equal(unlearner.predict_proba(frame), reference.predict_proba(table.X))
    words = np.array(["f", "m"])[table.a[FORGET]].tolist()
    assert set(unlearner.forget_groups_) == set(zip(y.iloc[FORGET].tolist(), words, strict=True))


class Records(Dataset):
    """Inputs made one by one; counts which rows were asked for."""

    def __init__(self, X, make=torch.as_tensor):
        self.X, self.make, self.read = X, make, []

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        self.read.append(i)
        return self.make(self.X[i])


class Batches(Records):
    """One that hands out many rows at once, as fast datasets do."""

    def __getitem__(self, i):
        raise AssertionError("a row was fetched by itself")

    def __getitems__(self, rows):
        return [(torch.as_tensor(self.X[i]), "a label nobody reads") for i in rows]


@pytest.mark.parametrize("kind", ["batches", "subset", "arrays", "tensor", "memory map"])
def test_kinds_of_inputs(table, kind, reference, tmp_path):
    X = torch.as_tensor(table.X)
    np.save(tmp_path / "X.npy", table.X)
    stored = (tmp_path / "X.npy").read_bytes()
    twice = TensorDataset(X.repeat(2, 1), torch.zeros(2 * table.n))
    data = {
        "batches": Batches(table.X),
        "subset": Subset(twice, range(table.n, 2 * table.n)),
        "arrays": Records(table.X, make=lambda row: row.astype(np.float64)),
        "tensor": X.clone().requires_grad_(),
        "memory map": np.load(tmp_path / "X.npy", mmap_mode="r"),
    }[kind]
    y, a, rows = table.y, table.a, FORGET
    if kind == "tensor":
        y, a, rows = torch.as_tensor(y), torch.as_tensor(a), torch.tensor(rows)
    unlearner = miu().fit(data, y, a).unlearn(rows)
    assert same_weights(unlearner, reference)
    np.testing.assert_array_equal(unlearner.predict(data), reference.predict(table.X))
    if kind == "memory map":
        assert unlearner._data.X is data and (tmp_path / "X.npy").read_bytes() == stored
        assert table.X[60].tobytes() not in pickle.dumps(unlearner)


def test_image_folder(tmp_path):
    """The files of rows forgotten earlier may be gone."""
    table = make_table(n_rows=64, images=True)
    order = np.argsort(table.y, kind="stable")  # ImageFolder goes through one class at a time
    pixels = np.clip(128 + 40 * table.X[order], 0, 255).astype(np.uint8)
    for row, (image, label) in enumerate(zip(pixels, table.y[order], strict=True)):
        path = tmp_path / ["cat", "dog"][label] / f"{row:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    opened = []

    def load(path):
        opened.append(int(path[-7:-4]))
        return default_loader(path)

    images = ImageFolder(tmp_path, transform=ToTensor(), loader=load)
    y, a = np.array(images.classes)[images.targets], table.a[order]
    net = make_net(SmallCNN, module__width=4)
    unlearner = miu(net).fit(images, y, a).unlearn([3, 40])
    opened.clear()
    unlearner.unlearn([5])
    assert not {3, 40} & set(opened)
    assert unlearner.classes_.tolist() == ["cat", "dog"]
