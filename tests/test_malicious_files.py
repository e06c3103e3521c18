"""Files made on purpose: no loader runs code, leaves its folder, or takes a size at its word.

Each payload leaves a trace when it is unpickled, and is unpickled once, to show that it would.
"""

import io
import os
import pickle
import struct
import zipfile
import zlib
from contextlib import nullcontext

import numpy as np
import official_trees as trees
import pytest
import torch
from conftest import make_net
from PIL import Image

from grmu_sk.audit import (
    DeletionLedger,
    read_evidence,
    scan_residue,
)
from grmu_sk.benchmark import get_preset, read_results
from grmu_sk.benchmark.nets import ResNet18
from grmu_sk.cli.inputs import load_row_numbers, load_rows, training_data
from grmu_sk.datasets import (
    ImageFiles,
    load_waterbirds,
)
from grmu_sk.persistence import load


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def as_pickle(payload, file):
    pickle.dump(payload, file)


def as_torch(payload, file):
    torch.save({"weights": payload}, file)


def as_array(payload, file):
    np.save(file, np.array([payload] * 3, dtype=object), allow_pickle=True)


def as_archive(payload, file):
    objects = np.array([payload] * 3, dtype=object)
    np.savez(file, X=objects, y=objects, groups=objects)


#: What writes a payload, and reads it as nobody should.
WAYS = {
    as_pickle: lambda path: pickle.loads(path.read_bytes()),
    as_torch: lambda path: torch.load(path, weights_only=False),
    as_array: lambda path: np.load(path, allow_pickle=True),
    as_archive: lambda path: np.load(path, allow_pickle=True)["X"],
}


def load_data_source(path):
    return training_data(None, str(path), None, [], None)


LOADERS = {
    "persistence.load": (lambda path: load(path, make_net()), "model"),
    "read_evidence": (read_evidence, "evidence.json"),
    "read_results": (read_results, "results.csv"),
    "get_preset": (get_preset, "preset.toml"),
    "DeletionLedger": (DeletionLedger, "requests.ledger"),
    "key file": (lambda path: DeletionLedger(path.with_name("new"), key_file=path), "key"),
    "resnet18": (lambda path: ResNet18(2, weights=path), "weights.pth"),
    "load_rows": (load_rows, "rows.npz"),
    "load_row_numbers": (load_row_numbers, "rows.npy"),
    "row numbers as text": (load_row_numbers, "rows.txt"),
    "DataSource": (load_data_source, "data.npz"),
    "ImageFiles": (lambda path: ImageFiles(path.parent, [path.name]).pixels(0), "image.png"),
    "zip file": (load_waterbirds, "data.zip"),
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_is_executed(loader, how, tmp_path):
    function, name = LOADERS[loader]
    path, trace = tmp_path / name, tmp_path / "executed"
    with open(path, "wb") as file:
        how(Payload(trace), file)
    path.chmod(0o600)
    with nullcontext() if loader == "key file" else pytest.raises((OSError, ValueError)):
        function(path)  # any bytes can be a key
    assert not trace.exists()
    WAYS[how](path)
    assert trace.exists(), "the control: the payload is a real one"


# places ------------------------------------------------------------------------------------------


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


def test_zip_members_are_never_unpacked(tmp_path):
    root = trees.waterbirds_tree(tmp_path / "tree", n_each=1)
    archive = trees.zip_tree(root, tmp_path / "data.zip")
    before = sorted(path.name for path in tmp_path.iterdir())
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../escaped.png", b"x")
    load_waterbirds(archive)
    assert scan_residue(archive, np.random.default_rng(0).normal(size=(2, 9))) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not (tmp_path.parent / "escaped.png").exists()


# sizes -------------------------------------------------------------------------------------------


def png_of(width, height):
    """Return the beginning of an image that says how large it is, and holds next to nothing."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_images_that_would_fill_the_memory(tmp_path):
    (tmp_path / "a.png").write_bytes(png_of(2**31 - 1, 2**31 - 1))
    with pytest.raises(ValueError, match=r"(?i)row 0, .*a\.png, cannot be decoded"):
        ImageFiles(tmp_path, ["a.png"]).pixels(0)


def forged_array(shape):
    """Return an array file whose header promises more than there is."""
    file = io.BytesIO()
    header = {"descr": "<i8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def test_arrays_with_a_forged_shape(tmp_path):
    shape = (10**14,)
    (tmp_path / "rows.npy").write_bytes(forged_array(shape))
    with pytest.raises(ValueError, match=r"rows\.npy does not hold row numbers"):
        load_row_numbers(tmp_path / "rows.npy")
    for name in ("X", "y"):
        with zipfile.ZipFile(tmp_path / "rows.npz", "a") as file:
            file.writestr(f"{name}.npy", forged_array(shape))
    with pytest.raises(ValueError, match=r"is not a \.npz file of plain arrays"):
        load_rows(tmp_path / "rows.npz")


def test_presets_name_no_code(tmp_path):
    preset = tmp_path / "preset.toml"
    preset.write_text('["digits/small_cnn".retrain]\noptimizer = "__import__(\'os\').mkdir"\n')
    with pytest.raises(ValueError, match=r"preset\.toml"):
        get_preset(preset).training("digits/small_cnn")
