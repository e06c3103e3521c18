"""Ways in which a row may survive, each as something to scan: an object, or a file's bytes."""

import base64
import bz2
import functools
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
import zlib
from collections import deque

import joblib
import numpy as np
import pandas as pd
import safetensors.numpy
import torch
from torch import nn


class Slotted:
    __slots__ = ("__hidden", "kept")

    def __init__(self, kept):
        self.kept = kept
        self.__hidden = None


class PrivateSlot:
    __slots__ = ("__hidden",)

    def __init__(self, kept):
        self.__hidden = kept


class Holder:
    def __init__(self, kept):
        self.kept = kept

    def method(self):
        return self.kept


def closure(X):
    def look():
        return X

    return look


def generator(X):
    def rows():
        held = X
        yield None
        yield held

    started = rows()
    next(started)
    return started


def cached(X):
    @functools.lru_cache
    def load(key):
        return X

    load(0)
    return load


def bfloat16(X):
    return torch.tensor(X).bfloat16()


def hooked(X):
    layer = nn.Linear(2, 2)
    layer.register_forward_hook(lambda module, args, out: X)
    return layer


def with_gradient(X):
    parameter = nn.Parameter(torch.zeros(X.shape))
    parameter.grad = torch.tensor(X)
    return parameter


def class_attribute(X):
    return type("Cache", (), {"kept": X, "__module__": "users_code"})()


OBJECTS = {
    "float32": lambda X: X.astype("f4"),
    "float64": lambda X: X.astype("f8"),
    "float16": lambda X: X.astype("f2"),
    "bfloat16": bfloat16,
    "big endian float32": lambda X: X.astype(">f4"),
    "big endian float64": lambda X: X.astype(">f8"),
    "by column": np.asfortranarray,
    "transposed": lambda X: X.T.copy(),
    "every second value of a wider table": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "what a view leaves out": lambda X: X[len(X) - 1 :],
    "reversed view": lambda X: X[::-1],
    "tensor": torch.tensor,
    "transposed tensor": lambda X: torch.tensor(X).T.contiguous(),
    "what a tensor's view leaves out": lambda X: torch.tensor(X)[len(X) - 1 :],
    "sparse tensor": lambda X: torch.tensor(X).to_sparse(),
    "gradient": with_gradient,
    "DataFrame": lambda X: pd.DataFrame(X).assign(name="x", other=1.0),
    "Series of one row": lambda X: pd.Series(X[3]),
    "structured array": lambda X: np.array(
        [tuple(row) for row in X], dtype=[(str(i), "f8") for i in range(X.shape[1])]
    ),
    "lists": lambda X: X.tolist(),
    "list of NumPy scalars": lambda X: list(X[3]),
    "list of tensors": lambda X: list(torch.tensor(X[3])),
    "dict of values": lambda X: dict(enumerate(X[3].tolist())),
    "object array": lambda X: np.array([*X[3].tolist(), None], dtype=object),
    "deque": lambda X: deque([X]),
    "set of bytes": lambda X: {X.tobytes()},
    "key of a dict": lambda X: {X.tobytes(): 1},
    "bytearray": lambda X: bytearray(X.tobytes()),
    "memoryview": lambda X: memoryview(X),
    "BytesIO": lambda X: io.BytesIO(X.tobytes()),
    "StringIO": lambda X: io.StringIO(pd.DataFrame(X).to_csv()),
    "text": lambda X: f"row: {X[3].tolist()}",
    "base64 text": lambda X: base64.b64encode(X.tobytes()).decode(),
    "attribute": Holder,
    "slot": Slotted,
    "private slot": PrivateSlot,
    "bound method": lambda X: Holder(X).method,
    "closure": closure,
    "default argument": lambda X: lambda row=X: row,
    "partial": lambda X: functools.partial(print, X),
    "cache of a function": cached,
    "generator": generator,
    "hook": hooked,
    "class attribute": class_attribute,
}


def joblib_file(X, **options):
    buffer = io.BytesIO()
    joblib.dump(X, buffer, **options)
    return buffer.getvalue()


def npz(X, save=np.savez):
    buffer = io.BytesIO()
    save(buffer, X=X)
    return buffer.getvalue()


def npy(X):
    buffer = io.BytesIO()
    np.save(buffer, X)
    return buffer.getvalue()


def checkpoint(X, **options):
    buffer = io.BytesIO()
    torch.save({"batch": torch.tensor(X)}, buffer, **options)
    return buffer.getvalue()


def archive(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, content)
    return buffer.getvalue()


def tar(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as opened:
        member = tarfile.TarInfo("cache/batch.bin")
        member.size = len(content)
        opened.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def database(X):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE cache (content BLOB)")
    connection.execute("INSERT INTO cache VALUES (?)", (zlib.compress(X.tobytes()),))
    connection.commit()
    content = connection.serialize()
    connection.close()
    return content


def database_of_numbers(X):
    connection = sqlite3.connect(":memory:")
    names = ", ".join(f"x{i} REAL" for i in range(X.shape[1]))
    connection.execute(f'CREATE TABLE "odd "" name" ({names})')
    marks = ", ".join("?" for _ in X[0])
    connection.executemany(f'INSERT INTO "odd "" name" VALUES ({marks})', X.astype(float).tolist())
    connection.commit()
    content = connection.serialize()
    connection.close()
    return content


FILES = {
    "raw bytes": lambda X: b"x" + X.tobytes(),
    "csv": lambda X: pd.DataFrame(X).to_csv().encode(),
    "rounded csv": lambda X: pd.DataFrame(X).to_csv(float_format="%.4f", sep=";").encode(),
    "log": lambda X: f"12:00 INFO batch {X[3].tolist()} loss=0.31".encode(),
    "printed array": lambda X: str(X[3]).encode(),
    "printed tensor": lambda X: str(torch.tensor(X[3])).encode(),
    "json": lambda X: json.dumps({"history": X.tolist()}).encode(),
    "base64 in json": lambda X: json.dumps({"x": base64.b64encode(X.tobytes()).decode()}).encode(),
    "compressed base64": lambda X: base64.b64encode(zlib.compress(X.tobytes())),
    "base64 with line breaks": lambda X: base64.encodebytes(X.tobytes()),
    "hexadecimal": lambda X: X.tobytes().hex().encode(),
    **{
        f"pickle, protocol {protocol}": functools.partial(pickle.dumps, protocol=protocol)
        for protocol in range(6)
    },
    "pickle by column": lambda X: pickle.dumps(np.asfortranarray(X)),
    "pickled DataFrame": lambda X: pickle.dumps(pd.DataFrame(X).assign(label="a")),
    "pickled lists": lambda X: pickle.dumps(X.tolist()),
    "pickled dict": lambda X: pickle.dumps(dict(enumerate(X[3].tolist()))),
    "pickled scalars": lambda X: pickle.dumps(list(X[3])),
    "zlib in a pickle": lambda X: pickle.dumps({"x": zlib.compress(X.tobytes())}),
    "base64 in a pickle": lambda X: pickle.dumps({"x": base64.b64encode(X.tobytes())}),
    "pickle in a pickle": lambda X: pickle.dumps({"x": zlib.compress(pickle.dumps(X.tolist()))}),
    "joblib": joblib_file,
    "joblib by column": lambda X: joblib_file({"x": np.asfortranarray(X)}),
    "compressed joblib": lambda X: joblib_file(X, compress=3),
    "joblib with gzip": lambda X: joblib_file(X, compress=("gzip", 3)),
    "joblib with xz": lambda X: joblib_file(X, compress=("xz", 3)),
    "npy": npy,
    "npy by column": lambda X: npy(np.asfortranarray(X)),
    "npy of objects": lambda X: npy(np.array([X.tolist(), None], dtype=object)),
    "npz": npz,
    "compressed npz": lambda X: npz(X, np.savez_compressed),
    "torch checkpoint": checkpoint,
    "legacy torch checkpoint": lambda X: checkpoint(X, _use_new_zipfile_serialization=False),
    "safetensors": lambda X: safetensors.numpy.save({"x": X}),
    "half safetensors": lambda X: safetensors.numpy.save({"x": X.astype("f2")}),
    "gzip": lambda X: gzip.compress(X.tobytes()),
    "bzip2": lambda X: bz2.compress(X.tobytes()),
    "xz": lambda X: lzma.compress(X.tobytes()),
    "zip": lambda X: archive("cache/batch.bin", X.tobytes()),
    "zip in a zip": lambda X: archive("inner.zip", archive("x.pkl", pickle.dumps(X))),
    "tar": lambda X: tar(X.tobytes()),
    "database": database,
    "database of numbers": database_of_numbers,
}
