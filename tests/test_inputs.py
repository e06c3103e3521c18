"""Inputs and models as people have them."""

import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_net, make_table, same_weights, weights_of
from PIL import Image
from sklearn import config_context
from sklearn.compose import make_column_transformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Checkpoint
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset
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


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (COLUMNS[::-1], "Feature names must be in the same order"),
    ],
)
@pytest.mark.parametrize("method", ["predict", "unlearn"])
def test_other_columns_are_refused(table, frame, columns, match, method):
    unlearner = miu(store_data=False).fit(frame, table.y, table.a)
    before = pickle.dumps(unlearner)
    wrong = frame.reindex(columns=columns, fill_value=0.0)
    with pytest.raises(ValueError, match=match):
        if method == "unlearn":
            unlearner.unlearn(FORGET, X=wrong, y=table.y, groups=table.a)
        else:
            unlearner.predict(wrong)
    assert pickle.dumps(unlearner) == before


def test_frame_with_words_needs_a_transformer(table, frame):
    frame["job"] = np.array(["nurse", "clerk", "cook"])[np.arange(table.n) % 3]
    with pytest.raises(ValueError, match=r"not so in the column\(s\) \[.job.\]"):
        miu().fit(frame, table.y, table.a)
    columns = make_column_transformer(
        (OneHotEncoder(sparse_output=False), ["job"]), (StandardScaler(), COLUMNS)
    )
    net = make_net(module__n_features=7)
    with config_context(enable_metadata_routing=True):
        pipe = make_pipeline(columns.set_output(transform="pandas"), miu(net))
        pipe.fit(frame, table.y, groups=table.a)
    assert pipe[-1].feature_names_in_[0] == "onehotencoder__job_clerk"
    pipe[-1].unlearn(FORGET)
    assert pipe.score(frame, table.y) > 0.5


@pytest.mark.parametrize("dtype", ["Int64", "boolean"])
def test_pandas_extension_types(table, dtype):
    X = pd.DataFrame((table.X > 0).astype(int), columns=COLUMNS).astype(dtype)
    plain = miu().fit(X.astype(float).to_numpy(), table.y, table.a).unlearn(FORGET)
    assert same_weights(miu().fit(X, table.y, table.a).unlearn(FORGET), plain)


# --- attributes and labels ----------------------------------------------------------------------


def test_tables_with_names_categories_and_another_index(table, frame, reference):
    # "other" occurs in no row, and the order of categories is not that of words
    sex = pd.Categorical(np.array(["f", "m"])[table.a], categories=["other", "m", "f"])
    y = pd.Series(table.y, index=frame.index, name="income")
    unlearner = miu().fit(frame, y, pd.Series(sex, index=frame.index)).unlearn(FORGET)
    assert unlearner.feature_names_in_.tolist() == COLUMNS
    assert same_weights(unlearner, reference)
    np.testing.assert_array_equal(unlearner.predict(frame), reference.predict(table.X))
    words = np.array(["f", "m"])[table.a[FORGET]].tolist()
    assert set(unlearner.forget_groups_) == set(zip(table.y[FORGET].tolist(), words, strict=True))


def test_categorical_labels(table, reference):
    y = pd.Series(pd.Categorical(np.array(["no", "yes"])[table.y], categories=["yes", "no", "?"]))
    unlearner = miu().fit(table.X, y, table.a).unlearn(FORGET)
    assert unlearner.classes_.tolist() == ["no", "yes"]
    assert same_weights(unlearner, reference)


# --- tensors ------------------------------------------------------------------------------------


def test_everything_as_tensors(table, reference):
    X = torch.as_tensor(table.X).requires_grad_()
    mask = torch.zeros(table.n, dtype=torch.bool)
    mask[FORGET] = True
    y, a = torch.as_tensor(table.y), torch.as_tensor(table.a)
    by_rows = miu().fit(X, y, a).unlearn(torch.tensor(FORGET))
    assert same_weights(by_rows, reference)
    assert same_weights(miu().fit(X, y, a, forget=mask), reference)
    assert by_rows.classes_.tolist() == [0, 1]
    assert X.grad is None
    np.testing.assert_array_equal(by_rows.predict(X), reference.predict(table.X))


# --- torch datasets -----------------------------------------------------------------------------


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
        self.read.extend(rows)
        return [(torch.as_tensor(self.X[i]), "a label nobody reads") for i in rows]


@pytest.mark.parametrize("kind", ["records", "batches", "tensors", "subset", "concat", "arrays"])
def test_kinds_of_dataset(table, kind, reference):
    X = torch.as_tensor(table.X)
    twice = TensorDataset(X.repeat(2, 1), torch.zeros(2 * table.n))
    data = {
        "records": Records(table.X),
        "batches": Batches(table.X),
        "tensors": TensorDataset(X, torch.full((table.n,), 99)),
        "subset": Subset(twice, range(table.n, 2 * table.n)),
        "concat": ConcatDataset([TensorDataset(X[:50]), TensorDataset(X[50:])]),
        "arrays": Records(table.X, make=lambda row: row.astype(np.float64)),
    }[kind]
    unlearner = miu().fit(data, table.y, table.a).unlearn(FORGET)
    assert same_weights(unlearner, reference)
    np.testing.assert_array_equal(unlearner.predict(data), reference.predict(table.X))


def test_augmented_dataset(table):
    """The same row comes out differently each time, so it is made anew in every epoch."""

    def jitter(row):
        return torch.as_tensor(row) + 0.1 * torch.randn(4)

    data = Records(table.X, make=jitter)
    unlearner = miu(forget_epochs=2).fit(data, table.y, table.a)
    data.read.clear()
    unlearner.unlearn(FORGET)
    assert min(Counter(data.read)[row] for row in FORGET) >= 2
    assert unlearner.score(table.X, table.y) > 0.5


def test_datasets_that_cannot_serve(table):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(table.X)

    with pytest.raises(ValueError, match="without a length; a map-style Dataset is needed"):
        miu().fit(Stream(), table.y, table.a)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        miu().fit(Records(table.X), table.y[:-1], table.a[:-1])


# --- folders of images --------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """Images sorted by class into folders, as torchvision wants them."""
    table = make_table(n_rows=64, images=True)
    order = np.argsort(table.y, kind="stable")  # ImageFolder goes through one class at a time
    pixels = np.clip(128 + 40 * table.X[order], 0, 255).astype(np.uint8)
    table.y, table.a = table.y[order], table.a[order]
    for row, (image, label) in enumerate(zip(pixels, table.y, strict=True)):
        path = tmp_path / ["cat", "dog"][label] / f"{row:03}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    table.pixels, table.path = pixels, tmp_path
    return table


def image_net(**kwargs):
    return make_net(SmallCNN, module__width=4, **kwargs)


def test_image_folder(folder):
    opened = []

    def load(path):
        opened.append(int(path[-7:-4]))
        return default_loader(path)

    images = ImageFolder(folder.path, transform=ToTensor(), loader=load)
    y = np.array(images.classes)[images.targets]
    unlearner = miu(image_net()).fit(images, y, folder.a)
    opened.clear()
    unlearner.unlearn([3, 40])
    opened.clear()
    unlearner.unlearn([5])
    assert not {3, 40} & set(opened)
    assert 5 in opened
    assert unlearner.classes_.tolist() == ["cat", "dog"]
    assert set(unlearner.predict(images)) <= {"cat", "dog"}

    # the same as with the pixels in memory
    X = folder.pixels.astype(np.float32) / 255
    in_memory = miu(image_net(), original_mode="eval").fit(X, y, folder.a)
    for row in ([3, 40], [5]):
        in_memory.unlearn(row)
    np.testing.assert_allclose(
        unlearner.predict_proba(images), in_memory.predict_proba(X), rtol=1e-3, atol=1e-5
    )
    assert folder.pixels[3].tobytes() not in pickle.dumps(unlearner)


# --- memory maps --------------------------------------------------------------------------------


def test_memory_map_is_neither_copied_nor_written(table, tmp_path, reference):
    np.save(tmp_path / "X.npy", table.X)
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    before = (tmp_path / "X.npy").read_bytes()
    unlearner = miu().fit(X, table.y, table.a)
    assert unlearner._data.X is X
    unlearner.unlearn(FORGET)
    assert unlearner._data.X is X
    assert same_weights(unlearner, reference)
    np.testing.assert_array_equal(unlearner.predict(X), reference.predict(table.X))
    assert (tmp_path / "X.npy").read_bytes() == before
    assert table.X[60].tobytes() not in pickle.dumps(unlearner)


# --- models that are trained already ------------------------------------------------------------


def trained_net(table, **kwargs):
    torch.manual_seed(0)
    return make_net(max_epochs=8, **kwargs).fit(table.X, table.y.astype(np.int64))


def check_took_over(unlearner, table, original, probabilities):
    """The model is taken as it is, unlearns, and nothing of its weights is kept."""
    np.testing.assert_allclose(unlearner.predict_proba(table.X), probabilities, rtol=1e-5)
    assert len(unlearner.history_) == 0
    blob = pickle.dumps(unlearner)
    large = [weight for weight in original if weight.size >= 16]
    assert all(weight.tobytes() in blob for weight in large)
    unlearner.unlearn(FORGET)
    blob = pickle.dumps(unlearner)
    assert not any(weight.tobytes() in blob for weight in large)
    assert not np.allclose(unlearner.predict_proba(table.X), probabilities, atol=1e-4)
    assert unlearner.score(table.X, table.y) > 0.7
    unlearner.unlearn([60])
    assert unlearner.forget_idx_.tolist() == [*FORGET, 60]


def state(module):
    return [value.detach().numpy().copy() for value in module.state_dict().values()]


@pytest.mark.parametrize("kind", ["checkpoint", "safetensors"])
def test_skorch_checkpoint(table, kind, tmp_path):
    """Weights saved elsewhere, by ``save_params`` or by a callback while training."""
    save = Checkpoint(dirname=tmp_path, monitor=None)
    net = trained_net(table, callbacks=[("save", save)])
    probabilities, original = net.predict_proba(table.X), state(net.module_)
    loaded = make_net()
    if kind == "checkpoint":
        loaded.initialize().load_params(checkpoint=save)
    else:
        net.save_params(f_params=tmp_path / "weights", use_safetensors=True)
        loaded.initialize().load_params(f_params=tmp_path / "weights", use_safetensors=True)
    unlearner = miu(FrozenEstimator(loaded)).fit(table.X, table.y, table.a)
    check_took_over(unlearner, table, original, probabilities)


def plain_torch(table):
    """A module trained by a loop of one's own."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        scores = module(torch.as_tensor(table.X))
        nn.functional.cross_entropy(scores, torch.as_tensor(table.y)).backward()
        optimizer.step()
    return module


def test_plain_module_with_weights(table):
    module = plain_torch(table)
    net = NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, lr=0.05, batch_size=32, train_split=None
    ).initialize()
    with torch.no_grad():
        probabilities = module(torch.as_tensor(table.X)).softmax(1).numpy()
    before = state(module)
    unlearner = miu(FrozenEstimator(net.set_params(verbose=0))).fit(table.X, table.y, table.a)
    check_took_over(unlearner, table, before, probabilities)
    assert all(map(np.array_equal, before, state(module))), "the caller's module is untouched"


def test_net_without_weights_is_not_taken_for_trained(table):
    with pytest.raises(
        ValueError, match=r"not initialised. Train it first, or call net.initialize"
    ):
        miu(FrozenEstimator(make_net())).fit(table.X, table.y, table.a)
    with pytest.raises(TypeError, match="estimator must be a skorch net"):
        miu(plain_torch(table)).fit(table.X, table.y, table.a)


def test_trained_unlearner_as_a_start(table):
    """An unlearner that was trained by one method can go on with another."""
    first = miu().fit(table.X, table.y, table.a)
    second = miu(FrozenEstimator(first), lam=5.0).fit(table.X, table.y, table.a)
    assert all(map(np.array_equal, weights_of(first), weights_of(second)))
    second.unlearn(FORGET)
    assert not same_weights(first, second)
    assert len(first.forget_idx_) == 0
