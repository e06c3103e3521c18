"""Residue is found wherever it may hide, and nothing is found where there is none."""

import gzip
import io
import json
import lzma
import os
import pickle
import sqlite3
import tarfile
import zipfile
import zlib
from contextlib import closing
from itertools import product

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import EVERY_METHOD, make_net, make_table
from torch import nn

from grmu_sk import FineTuneUnlearner
from grmu_sk.audit import Finding, ResidueScan, residue, residue_places, scan_residue
from grmu_sk.persistence import save
from grmu_sk.unlearners import all_unlearners

FORGET = [3, 7, 9]
#: Methods that differ in what they keep.
NAMES = ("retrain", "miu", "scrub", "sisa", "cf_k")
METHODS = [
    pytest.param(cls, id=name) for name, cls in all_unlearners() if EVERY_METHOD or name in NAMES
]
SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2)}
RNG = np.random.default_rng
IMAGES = RNG(0).integers(0, 256, size=(10, 3, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def X():
    return RNG(0).normal(size=(20, 6)).astype(np.float32)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


def kinds(scan):
    return {finding.kind for finding in scan}


def fitted(method=FineTuneUnlearner, **kwargs):
    table = make_table()
    short = {n: value for n, value in SHORT.items() if n in method._get_param_names()}
    made = method(make_net(), random_state=0, **{**short, **kwargs})
    return made.fit(table.X, table.y, table.a), table


# ways in which a row may survive, each as something to scan: an object, or a file's bytes --------


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


# planted rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", [*OBJECTS.values(), *FILES.values()], ids=[*OBJECTS, *FILES])
def test_planted_row(plant, X, file):
    others = RNG(1).normal(size=X.shape).astype(np.float32)
    for rows in (X, others):
        planted = [plant(rows)]
        if plant in FILES.values():
            file.write_bytes(planted[0])
            planted = file
        scan = scan_residue(planted, X[FORGET])
        if rows is others:
            assert (scan, scan.not_searched, scan.verdict) == ([], [], "clean")
        else:
            assert kinds(scan) == {"forgotten row"}
            assert 0 in {row for finding in scan for row in finding.rows}


def test_every_row_is_named_by_its_number(X):
    (finding,) = scan_residue(X.tobytes(), X[FORGET], forget_idx=FORGET)
    assert (finding.rows, finding.offset) == (tuple(FORGET), X[: FORGET[0]].nbytes)
    with pytest.raises(ValueError, match="forget_idx names 2 rows"):
        scan_residue(X, X[FORGET], forget_idx=FORGET[:2])
    other = X[FORGET].copy()
    other[:, 4] += 0.01
    halves = [part.copy() for part in (X[3, :3], X[3, 3:], *X[7][:, None])]
    assert scan_residue([other.tobytes(), other.T.copy(), halves], X[FORGET]) == []


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_normalised_rows(dtype, X):
    mean, std = X.mean(axis=0), X.std(axis=0)
    for precision, order in product(("f4", "f8"), "CF"):  # as a pipeline computes
        scaled = (X.astype(precision) - mean) / std.astype(precision)
        stored = {"x": np.asarray(scaled, dtype=dtype, order=order)}
        (finding,) = scan_residue(stored, X[FORGET], mean=mean, std=std)
        assert finding.rows == (0, 1, 2) and finding.encoding.startswith("normalised")
        assert scan_residue(stored, X[FORGET]) == []


@pytest.mark.parametrize(
    ("given", "stored", "encoding"),
    [
        *((IMAGES, IMAGES.astype(code), "") for code in ("u1", "i4", "f8")),
        (IMAGES, (IMAGES / 255).astype("f4"), "scaled to [0, 1]"),
        ((IMAGES / 255).astype("f4"), IMAGES, "scaled to [0, 255]"),
        (IMAGES, np.moveaxis(IMAGES, 1, -1).copy(), "channels last"),
        (IMAGES, ((IMAGES / 255 - 0.5) / 0.2).astype("f4"), "normalised"),
        (IMAGES, (IMAGES.astype("f4") / 255 - np.float32(0.5)) / np.float32(0.2), "normalised"),
    ],
)
def test_images(given, stored, encoding):
    rows, options = given[[2, 5]], {"mean": 127.5, "std": 51}
    (finding,) = scan_residue(stored.tobytes(), rows, **options)
    assert finding.rows == (0, 1) and encoding in finding.encoding
    assert scan_residue(stored[6:].tobytes(), rows, **options) == []
    by_column = stored.reshape(len(stored), -1).T.copy()
    assert kinds(scan_residue(by_column, rows, **options)) == {"forgotten row"}


# what is not residue -----------------------------------------------------------------------------


def test_nothing_is_found_in_unrelated_bytes(X, tmp_path):
    rng = RNG(3)
    digits = rng.integers(0, 3, (3000, 6))
    contents = {
        "random": rng.bytes(1 << 20),
        "zeros": bytes(1 << 20),
        "floats": rng.normal(size=1 << 17).astype(np.float32).tobytes(),
        "table": pd.DataFrame(rng.normal(size=(3000, 6)).round(3)).to_csv().encode(),
        "digits": "\n".join(",".join(map(str, row)) for row in digits).encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    scan = scan_residue(tmp_path, X, {"layer": rng.normal(size=(8, 8))}, mean=X.mean(0), std=3)
    assert (scan, scan.verdict, scan.n_places) == ([], "clean", len(contents))
    assert scan.n_bytes == sum(map(len, contents.values()))


def test_rows_that_cannot_be_told_are_named(X):
    rows = np.zeros((3, 6), dtype=np.float32)
    rows[0] = np.linspace(0.1, 0.7, 6)
    scan = scan_residue(bytes(200), rows, forget_idx=[4, 5, 6])
    assert (scan, scan.verdict) == ([], "inconclusive")
    assert "2 rows (5, 6)" in scan.not_searched[0]
    with pytest.warns(UserWarning, match="nothing to look for"):
        scan_residue(bytes(200), rows[1:])
    kept = np.vstack([X[10:], X[[3]]])
    scan = scan_residue(kept.tobytes(), X[FORGET], remaining=kept)
    assert scan == [] and "equal rows remain" in scan.not_searched[0]
    assert scan_residue(kept.tobytes(), X[FORGET])[0].rows == (0,)


# files -------------------------------------------------------------------------------------------


def test_what_lies_across_chunks_is_found(X, file, monkeypatch):
    monkeypatch.setattr(residue, "CHUNK", 1024)
    for shift in (0, 3, 31):
        file.write_bytes(bytes(1024 - shift) + X[3].tobytes() + bytes(3000))
        (finding,) = scan_residue(file, X[FORGET])
        assert finding.offset == 1024 - shift
    weights = RNG(0).normal(size=10_000).astype(np.float32)
    for content in (weights, weights * 2):
        file.write_bytes(b"abc" + content.tobytes())
        (finding,) = scan_residue(file, None, {"w": weights})
        assert (finding.kind, finding.tensors, finding.offset) == ("original weights", ("w",), 3)


def test_links_are_not_followed(X, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for made in (outside, folder):
        made.mkdir()
    (outside / "rows.bin").write_bytes(X.tobytes())
    targets = {"file_link": outside / "rows.bin", "folder_link": outside, "loop": folder}
    for name, target in (targets | {"broken": tmp_path / "nowhere"}).items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe")
    scan = scan_residue(folder, X[FORGET])
    assert (scan, scan.verdict) == ([], "inconclusive")
    told = " ".join(scan.not_searched)
    assert all(name in told for name in ("file_link", "folder_link", "broken", "pipe"))
    assert "loop" not in told
    with pytest.raises(OSError, match="neither a file nor a folder"):
        scan_residue(folder / "pipe", X)


def test_hostile_archives(X, tmp_path, monkeypatch):
    content = X.tobytes() + bytes(5000)  # so that it is really compressed
    with zipfile.ZipFile(tmp_path / "out.zip", "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("../out", content)
    assert len(scan_residue(tmp_path, X[FORGET])) == 1, "read, but not unpacked"
    assert os.listdir(tmp_path) == ["out.zip"] and not (tmp_path.parent / "out").exists()
    for _ in range(12):
        content = zlib.compress(content + bytes(5000))
    scan = scan_residue([content], X[FORGET])
    assert scan == [] and "deep" in scan.not_searched[0]
    monkeypatch.setattr(residue_places, "MOST_UNPACKED", 1 << 20)
    monkeypatch.setattr(residue, "CHUNK", 1 << 16)
    scan = scan_residue([zlib.compress(bytes(1 << 24))], X[FORGET])
    assert "more than 1048576 bytes unpacked" in scan.not_searched[0]
    assert scan.n_bytes < 1 << 22


def test_damaged_files_raise_nothing(X, tmp_path):
    for number, (name, plant) in enumerate(FILES.items()):
        content = bytearray(plant(X))
        content = content[: len(content) * (3 if number % 2 else 9) // 10]
        content[len(content) // 2] ^= 0xFF
        (tmp_path / name).write_bytes(content)
    (tmp_path / "table").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    told = " ".join(scan_residue(tmp_path, X[FORGET]).not_searched)
    assert "table: JPEG is not opened" in told
    assert "gzip in a gzipped tar!gzip: cannot be read" in told


# weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "how"),
    [
        (lambda w: w.numpy(), "float32"),
        (lambda w: np.asfortranarray(w.numpy()), "float32"),
        (lambda w: w.half().numpy(), "float16"),
        (lambda w: w.bfloat16(), "bfloat16"),
        (lambda w: w[:, ::2], "float32"),
        (lambda w: 0.7 * w, "scaled or shifted"),
        (lambda w: (1 - 3 * w).numpy().T.copy().astype("f8"), "scaled or shifted"),
    ],
)
def test_original_weights(form, how, file):
    layer, other = nn.Linear(20, 30), nn.Linear(20, 30)
    for planted, expected in ((layer, {"weight"}), (other, set())):
        content = form(planted.weight.detach())
        file.write_bytes(b"abc" + pickle.dumps(content))
        for place in ({"teacher": content}, file):
            found = scan_residue(place, None, layer)
            assert {name for finding in found for name in finding.tensors} == expected
            assert all(how in finding.encoding for finding in found)


def test_weights_that_changed_are_others():
    layer = nn.Linear(200, 300)
    changed = layer.weight.detach().clone()
    assert len(scan_residue([changed], None, layer)) == 1
    trained = 0.7 * changed + 1e-4 * torch.randn(changed.shape)
    changed[299] += 1e-3
    assert scan_residue([changed, trained], None, layer) == []


# unlearners --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method, tmp_path):
    unlearner, table = fitted(method)
    state, rows = unlearner.net_.module_.state_dict(), table.X[FORGET]
    original = {name: value.clone() for name, value in state.items()}
    before = scan_residue(unlearner, rows, original)
    assert kinds(before) == {"forgotten row", "original weights"}, "the scan must see both"
    unlearner.unlearn(FORGET)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(unlearner))
    joblib.dump(unlearner, tmp_path / "model.joblib", compress=1)
    save(unlearner, tmp_path / "model.safetensors")
    torch.save(unlearner.net_.module_.state_dict(), tmp_path / "model.pt")
    allowed = method._keeps_weights or method._keeps_unaffected_weights
    for place in (unlearner, tmp_path):
        scan = scan_residue(place, rows, original)
        assert kinds(scan) == ({"original weights"} if allowed else set()), list(map(str, scan))
        assert scan.not_searched == []


def test_rows_that_the_user_keeps(file):
    unlearner, table = fitted()
    unlearner.unlearn(FORGET).history_[-1]["inputs"] = table.X[FORGET].tolist()
    save(unlearner, file)
    for place in (unlearner, file):
        assert kinds(scan_residue(place, table.X[FORGET])) == {"forgotten row"}
    unlearner, table = fitted(keep_forgotten=True)
    save(unlearner.unlearn(FORGET), file)
    assert scan_residue(file, table.X) == [], "a saved file never holds rows"
    assert scan_residue(unlearner, table.X[FORGET])[0].rows == (0, 1, 2)


def test_result_as_json():
    finding = Finding("original weights", "a.pt", "float32", tensors=("w",))
    scan = ResidueScan([finding], not_searched=["b"], n_places=2, n_bytes=5)
    again = ResidueScan.from_dict(json.loads(json.dumps(scan.to_dict())))
    assert (again, again.to_dict(), again.verdict) == (scan, scan.to_dict(), "residue")
