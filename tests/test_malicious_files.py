"""Files made on purpose: no loader runs code, leaves its folder, or takes a size at its word.

Each payload leaves a trace when it is unpickled, and is unpickled once, to show that it would.
"""

import io
import os
import pickle
import zipfile
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import make_net
from PIL import Image

from grmu_sk.audit import DeletionLedger, read_evidence, scan_residue
from grmu_sk.benchmark import get_preset, read_results
from grmu_sk.benchmark.nets import ResNet18
from grmu_sk.cli.inputs import forget_rows
from grmu_sk.datasets import Columns, ImageFiles, load_waterbirds, read_rows
from grmu_sk.persistence import load


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


#: What writes a payload, and reads it as nobody should.
WAYS = {
    "pickle": (pickle.dump, lambda path: pickle.loads(path.read_bytes())),
    "torch": (torch.save, lambda path: torch.load(path, weights_only=False)),
    "array": (
        lambda payload, file: np.save(file, np.array([payload], dtype=object)),
        lambda path: np.load(path, allow_pickle=True),
    ),
    "archive": (
        lambda payload, file: np.savez(file, X=[payload], y=[payload], groups=[payload]),
        lambda path: np.load(path, allow_pickle=True)["X"],
    ),
}


def row_numbers(path):
    numbered = SimpleNamespace(_given_ids=None)
    return forget_rows(numbered, path)


LOADERS = {
    "persistence.load": (lambda path: load(path, make_net()), "model"),
    "read_evidence": (read_evidence, "evidence.json"),
    "read_results": (read_results, "results.csv"),
    "get_preset": (get_preset, "preset.toml"),
    "DeletionLedger": (DeletionLedger, "requests.ledger"),
    "key file": (lambda path: DeletionLedger(path.with_name("new"), key_file=path), "key"),
    "resnet18": (lambda path: ResNet18(2, weights=path), "weights.pth"),
    "read_rows": (read_rows, "rows.npz"),
    "table": (lambda path: read_rows(path, Columns("y")), "rows.csv"),
    "parquet": (lambda path: read_rows(path, Columns("y")), "rows.parquet"),
    "load_row_numbers": (row_numbers, "rows.npy"),
    "row numbers as text": (row_numbers, "rows.txt"),
    "ImageFiles": (lambda path: ImageFiles(path.parent, [path.name]).pixels(0), "image.png"),
    "zip file": (load_waterbirds, "data.zip"),
    "scan_residue": (lambda path: scan_residue(path, np.eye(1, 9) + np.pi), "model"),
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_is_executed(loader, how, tmp_path):
    function, name = LOADERS[loader]
    write, unpickle = WAYS[how]
    path, trace = tmp_path / name, tmp_path / "executed"
    with open(path, "wb") as file:
        write(Payload(trace), file)
    path.chmod(0o600)
    takes_any = loader in ("key file", "scan_residue")
    with nullcontext() if takes_any else pytest.raises((OSError, ValueError)):
        function(path)
    assert not trace.exists()
    unpickle(path)
    assert trace.exists(), "the control: the payload is a real one"


@pytest.mark.parametrize("name", ["../secret.png", "a/../../secret.png", "{outside}"])
def test_names_that_lead_out_of_the_folder(tmp_path, name):
    folder, outside = tmp_path / "images", tmp_path / "secret.png"
    (folder / "a").mkdir(parents=True)
    for path in (outside, folder / "inside.png"):
        Image.new("RGB", (4, 4)).save(path)
    name = name.format(outside=outside)
    assert (folder / name).exists()
    with pytest.raises(ValueError, match="leads out of"):
        ImageFiles(folder, ["inside.png", name])


def test_arrays_with_a_forged_shape(tmp_path):
    file = io.BytesIO()
    header = {"descr": "<i8", "fortran_order": False, "shape": (10**14,)}
    np.lib.format.write_array_header_1_0(file, header)
    (tmp_path / "rows.npy").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match=r"rows\.npy does not say which rows"):
        row_numbers(tmp_path / "rows.npy")
    with zipfile.ZipFile(tmp_path / "rows.npz", "w") as archive:
        for name in ("X", "y"):
            archive.writestr(f"{name}.npy", file.getvalue())
    with pytest.raises(ValueError, match=r"is not a \.npz file of plain arrays"):
        read_rows(tmp_path / "rows.npz")
