"""Data sets the studies run on: the built-in one, and local copies of UCI Adult and FairFace."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from grmu_sk.comparison import Split, Splits
from grmu_sk.datasets import load_digits_on_backgrounds, load_embedded_faces
from grmu_sk.nets import MLP, SmallCNN, default_net

ADULT_COLUMNS = """
age workclass fnlwgt education education_num marital_status occupation relationship race sex
capital_gain capital_loss hours_per_week native_country income
"""


def digits(path: Path | None, seed: int) -> tuple[Splits, Any]:
    bunch = load_digits_on_backgrounds(random_state=seed)
    splits = Splits.from_bunch("digits_on_backgrounds", bunch)
    return splits, default_net(splits.train.X, n_classes=2)


def faces(path: Path | None, seed: int) -> tuple[Splits, Any]:
    """Age by race, embedded; a net that memorises its rows."""
    splits = Splits.from_bunch("embedded_faces", load_embedded_faces(random_state=seed))
    net = _net(
        MLP,
        module__n_features=96,
        module__n_classes=9,
        module__hidden=(256, 256),
        optimizer__weight_decay=0,
        lr=0.1,
        batch_size=128,
        max_epochs=20,
    )
    return splits, net


def faces_nine(path: Path | None, seed: int) -> tuple[Splits, Any]:
    """The same, with requests from nine groups: three ages by three races, as in the paper."""
    splits, net = faces(path, seed)
    groups = product(("20-29", "50-59", "3-9"), ("Black", "Latino_Hispanic", "White"))
    return replace(splits, forget_groups=list(groups)), net


def adult(
    path: Path | None,
    seed: int,
    column: str = "sex",
    forget: str = "Female",
    file: str = "adult.data",
) -> tuple[Splits, Any]:
    """Income by sex; the forget group is women with a high income, the smallest."""
    assert path is not None
    names = ADULT_COLUMNS.split()
    frame = pd.read_csv(path / file, names=names, skipinitialspace=True, comment="|")
    frame = frame.sample(8000, random_state=seed).reset_index(drop=True)
    y = np.where(frame.pop("income").str.startswith(">"), "high", "low")
    a = frame[column].to_numpy(dtype=str)
    X = pd.get_dummies(frame.drop(columns="fnlwgt")).to_numpy(np.float32)
    cut = np.arange(len(X)) < 5000
    X = (X - X[cut].mean(0)) / (X[cut].std(0) + 1e-6)
    train, validation = Split(X[cut], y[cut], a[cut]), Split(X[~cut], y[~cut], a[~cut])
    net = _net(MLP, module__n_features=X.shape[1], module__n_classes=2, max_epochs=20)
    return Splits("adult", train, validation, validation, [("high", forget)]), net


def adult_race(path: Path | None, seed: int) -> tuple[Splits, Any]:
    """Income by race; the forget group is black people with a high income."""
    return adult(path, seed, "race", "Black")


def fairface(path: Path | None, seed: int) -> tuple[Splits, Any]:
    """Age by race at 32 pixels; the forget group is 20-29, Black."""
    assert path is not None
    images, labels = _fairface_rows(path, n_rows=8000, seed=seed)
    y, race = labels["age"].to_numpy(dtype=str), labels["race"].to_numpy(dtype=str)
    cut = np.arange(len(images)) < 6000
    train = Split(images[cut], y[cut], race[cut])
    validation = Split(images[~cut], y[~cut], race[~cut])
    net = _net(SmallCNN, module__n_classes=len(np.unique(y)), max_epochs=12)
    return Splits("fairface", train, validation, validation, [("20-29", "Black")]), net


class WideCNN(nn.Module):
    """Convolutions with BatchNorm, and layers behind them that see every position of the image."""

    def __init__(self, n_classes: int = 9) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in, n_out in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 256), nn.ReLU())
        self.head = nn.Linear(256, n_classes)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of images."""
        return self.head(self.features(X))


def fairface_memorised(path: Path | None, seed: int) -> tuple[Splits, Any]:
    """Age by race at 32 pixels, trained end to end on 3,000 photographs until all are known."""
    assert path is not None
    images, labels = _fairface_rows(path, n_rows=6000, seed=seed)
    y, race = labels["age"].to_numpy(dtype=str), labels["race"].to_numpy(dtype=str)
    train, validation, test = (
        Split(images[cut], y[cut], race[cut])
        for cut in (slice(3000), slice(3000, 4000), slice(4000, None))
    )
    net = _net(WideCNN, optimizer__weight_decay=0, max_epochs=20)
    return Splits("fairface", train, validation, test, [("20-29", "Black")]), net


def _fairface_rows(path: Path, n_rows: int, seed: int) -> tuple[Any, pd.DataFrame]:
    from PIL import Image

    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("fairface_label_train.csv"))
        root = name.removesuffix("fairface_label_train.csv")
        labels = pd.read_csv(BytesIO(archive.read(name))).sample(n_rows, random_state=seed)
        images = np.stack(
            [
                np.asarray(Image.open(BytesIO(archive.read(root + file))).resize((32, 32)))
                for file in labels["file"]
            ]
        )
    images = (images.transpose(0, 3, 1, 2) / 127.5 - 1).astype(np.float32)
    return images, labels.reset_index(drop=True)


def _net(module: type[nn.Module], max_epochs: int, **changes: Any) -> NeuralNetClassifier:
    settings: dict[str, Any] = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__weight_decay": 1e-3,
        "lr": 0.02,
        "batch_size": 64,
        "train_split": None,
        "callbacks": [("schedule", LRScheduler("CosineAnnealingLR", T_max=max_epochs))],
        "verbose": 0,
    }
    return NeuralNetClassifier(module, max_epochs=max_epochs, **{**settings, **changes})


def adult_search(path: Path | None, seed: int) -> tuple[Splits, Any]:
    """Income by sex, of the census' own test file: rows that no table is measured on."""
    return adult(path, seed, file="adult.test")


LOADERS: dict[str, Callable[[Path | None, int], tuple[Splits, Any]]] = {
    "digits": digits,
    "faces": faces,
    "faces_nine": faces_nine,
    "adult": adult,
    "adult_race": adult_race,
    "adult_search": adult_search,
    "fairface": fairface,
    "fairface_memorised": fairface_memorised,
}
