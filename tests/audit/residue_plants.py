"""Ways in which a row may survive, each as something to scan: an object, or a file's bytes."""

import gzip
import io
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from contextlib import closing

import joblib
import numpy as np
import pandas as pd
import torch
from torch import nn


class Slotted:
    __slots__ = ("__hidden", "kept")

    def __init__(self, kept):
        self.kept, self.__hidden = None, kept


def generator(X):
    held = X
    yield
    yield held


def started(rows):
    next(rows)
    return rows


def with_gradient(X):
    parameter = nn.Parameter(torch.zeros(X.shape))
    parameter.grad = torch.tensor(X)
    return parameter


OBJECTS = {
    **{f"as {code}": lambda X, code=code: X.astype(code) for code in ("f4", "f8", "f2")},
    "bfloat16": lambda X: torch.tensor(X).bfloat16(),
    "by column": np.asfortranarray,
    "what a view leaves out": lambda X: X[len(X) - 1 :],
    "sparse tensor": lambda X: torch.tensor(X).to_sparse(),
    "gradient": with_gradient,
    "DataFrame": lambda X: pd.DataFrame(X).assign(name="x", other=1.0),
    "lists": lambda X: X.tolist(),
    "object array": lambda X: np.array([*X[3].tolist(), None], dtype=object),
    "text": lambda X: f"row: {X[3].tolist()}",
    "slot": Slotted,
    "generator": lambda X: started(generator(X)),
}


def written(save, *args, **options):
    """Return what a function writes into a file that it is given first, or second."""
    buffer = io.BytesIO()
    is_first = save in (np.save, np.savez, np.savez_compressed)
    save(*((buffer, *args) if is_first else (*args, buffer)), **options)
    return buffer.getvalue()


def archive(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, content)
    return buffer.getvalue()


def tar(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as opened:
        member = tarfile.TarInfo("cache/batch.bin")
        member.size = len(content)
        opened.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def database(X):
    with closing(sqlite3.connect(":memory:")) as connection:
        pd.DataFrame(X.astype(float)).to_sql("cache", connection)
        return connection.serialize()


FILES = {
    "raw bytes": lambda X: b"x" + X.tobytes(),
    "csv": lambda X: pd.DataFrame(X).to_csv().encode(),
    "pickled DataFrame": lambda X: pickle.dumps(pd.DataFrame(X).assign(label="a")),
    "pickled lists": lambda X: pickle.dumps(X.tolist()),
    "joblib by column": lambda X: written(joblib.dump, {"x": np.asfortranarray(X)}),
    "compressed joblib": lambda X: written(joblib.dump, X, compress=3),
    "halves by column in an npz": lambda X: written(np.savez_compressed, X=X.astype("f2").T),
    "torch checkpoint": lambda X: written(torch.save, {"batch": torch.tensor(X)}),
    "gzip": lambda X: gzip.compress(X.tobytes()),
    "xz": lambda X: lzma.compress(X.tobytes()),
    "zip in a zip": lambda X: archive("inner.zip", archive("x.pkl", pickle.dumps(X))),
    "gzip in a gzipped tar": lambda X: gzip.compress(tar(gzip.compress(X.tobytes()))),
    "database": database,
}
