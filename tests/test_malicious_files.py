"""Files made on purpose: no loader runs code, leaves its folder, or takes a size at its word.

Each payload leaves a trace when it is unpickled, and is unpickled once, to show that it would.
"""

import io
import os
import pickle
import stat
import struct
import zipfile
import zlib

import joblib
import numpy as np
import official_trees as trees
import pytest
import torch
from click.testing import CliRunner
from conftest import make_net, make_table
from PIL import Image

from grmu_sk import FineTuneUnlearner
from grmu_sk.audit import (
    DeletionLedger,
    read_evidence,
    scan_residue,
)
from grmu_sk.benchmark import get_preset, read_results
from grmu_sk.benchmark.nets import ResNet18
from grmu_sk.cli import main
from grmu_sk.cli.inputs import load_row_numbers, load_rows, training_data
from grmu_sk.datasets import (
    ImageFiles,
    decode_images,
    load_image_table,
    load_multinli,
    load_waterbirds,
)
from grmu_sk.persistence import PersistenceError, load, save


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return os.mkdir, (self.trace,)


def as_pickle(payload, path):
    path.write_bytes(pickle.dumps(payload))


def as_torch(payload, path):
    torch.save({"weights": payload}, path)


def as_joblib(payload, path):
    joblib.dump([payload], path)


def as_array(payload, path):
    with open(path, "wb") as file:
        np.save(file, np.array([payload] * 3, dtype=object), allow_pickle=True)


def as_archive(payload, path):
    with open(path, "wb") as file:
        objects = np.array([payload] * 3, dtype=object)
        np.savez(file, X=objects, y=objects, groups=objects)


def unpickle(how, path):
    """Read a file as nobody should."""
    if how is as_pickle:
        pickle.loads(path.read_bytes())
    elif how is as_torch:
        torch.load(path, weights_only=False)
    elif how is as_joblib:
        joblib.load(path)
    elif how is as_array:
        np.load(path, allow_pickle=True)
    else:
        np.load(path, allow_pickle=True)["X"]


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


@pytest.mark.parametrize("how", [as_pickle, as_torch, as_joblib, as_array, as_archive])
@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_is_executed(loader, how, tmp_path):
    function, name = LOADERS[loader]
    path, trace = tmp_path / name, tmp_path / "executed"
    how(Payload(trace), path)
    path.chmod(0o600)
    try:
        function(path)
    except (OSError, ValueError):
        refused = True
    else:  # any bytes can be a key
        refused = loader == "key file"
    assert refused and not trace.exists()
    unpickle(how, path)
    assert trace.exists(), "the control: the payload is a real one"


def test_features_that_are_pickles(tmp_path):
    root = trees.multinli_tree(tmp_path, inputs="tensor")
    features = next(root.rglob("cached*"))
    as_torch(Payload(tmp_path / "executed"), features)
    with pytest.raises(ValueError, match="cannot be read"):
        load_multinli(root)
    assert not (tmp_path / "executed").exists()


def test_cache_that_holds_objects(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    files, cache = ImageFiles(tmp_path, ["a.png"]), tmp_path / "cache"
    expected = np.array(decode_images(files, cache, n_jobs=1))
    whole = cache.read_bytes()
    as_array(Payload(tmp_path / "executed"), tmp_path / "objects")
    foot = whole[-40:]  # it says whose cache it is
    cache.unlink()
    cache.write_bytes((tmp_path / "objects").read_bytes() + foot)
    np.testing.assert_array_equal(decode_images(files, cache, n_jobs=1), expected)
    assert not (tmp_path / "executed").exists()


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
    listed = [[name, 0, 0], *[["inside.png", row % 2, row // 2 % 2] for row in range(20)]]
    trees.write_csv(tmp_path / "t.csv", ["file", "y", "a"], listed)
    with pytest.raises(ValueError, match="leads out of"):
        load_image_table(tmp_path / "t.csv", folder, target="y", groups="a")
    assert len(ImageFiles(folder, ["inside.png"])) == 1


def test_zip_members_are_never_unpacked(tmp_path):
    root = trees.waterbirds_tree(tmp_path / "tree", n_each=1)
    archive = trees.zip_tree(root, tmp_path / "data.zip")
    trees_before = sorted(path.name for path in tmp_path.iterdir())
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../escaped.png", b"x")
        file.writestr("/tmp_escaped_absolutely.png", b"x")
    load_waterbirds(archive)
    assert sorted(path.name for path in tmp_path.iterdir()) == trees_before
    assert not os.path.exists("/tmp_escaped_absolutely.png")
    found = scan_residue(archive, ["a text of forgotten people"])
    assert found == [] and not (tmp_path.parent / "escaped.png").exists()


def test_zip_members_that_are_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(secret)
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as file:
        file.writestr(link, str(secret))
        file.writestr("image.png", secret.read_bytes())
    images = ImageFiles(tmp_path / "images.zip", ["link.png", "image.png"])
    assert images.pixels(1).shape == (4, 4, 3)
    with pytest.raises(ValueError, match=r"row 0, .* cannot be decoded"):
        images.pixels(0)


# sizes -------------------------------------------------------------------------------------------


def png_of(width, height):
    """Return the beginning of an image that says how large it is, and holds next to nothing."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize("size", [(10_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_images_that_would_fill_the_memory(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png_of(*size))
    with pytest.raises(ValueError, match=r"row 0, .*a\.png, cannot be decoded"):
        ImageFiles(tmp_path, ["a.png"]).pixels(0)


@pytest.mark.parametrize("length", [2**63, 2**40, 7])
def test_models_with_a_header_of_absurd_length(tmp_path, length):
    (tmp_path / "model").write_bytes(length.to_bytes(8, "little") + b'{"__metadata__":{}}')
    with pytest.raises(PersistenceError, match="model"):
        load(tmp_path / "model", make_net())


def forged_array(shape):
    """Return an array file whose header promises more than there is."""
    file = io.BytesIO()
    header = {"descr": "<i8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.parametrize("shape", [(10**14,), (2**62, 2**62), (-1,)])
def test_arrays_with_a_forged_shape(tmp_path, shape):
    (tmp_path / "rows.npy").write_bytes(forged_array(shape))
    with pytest.raises(ValueError, match=r"rows\.npy does not hold row numbers"):
        load_row_numbers(tmp_path / "rows.npy")
    for name in ("X", "y"):
        with zipfile.ZipFile(tmp_path / "rows.npz", "a") as file:
            file.writestr(f"{name}.npy", forged_array(shape))
    with pytest.raises(ValueError, match=r"is not a \.npz file of plain arrays"):
        load_rows(tmp_path / "rows.npz")


@pytest.mark.parametrize("text", ["9" * 5000, "1e3", "3\n\x00", "[[[["])
def test_row_numbers_that_are_none(tmp_path, text):
    (tmp_path / "rows.txt").write_text(text)
    with pytest.raises(ValueError, match="does not hold row numbers"):
        load_row_numbers(tmp_path / "rows.txt")


def test_a_field_longer_than_python_reads(tmp_path):
    root = trees.image_table_tree(tmp_path)
    table = next(root.rglob("*.csv"))
    table.write_text(table.read_text() + "x" * 200_000 + ",0,0,0,0\n")
    with pytest.raises(ValueError, match=r"Line \d+ of .* cannot be read: field larger than"):
        load_image_table(table, table.parent / "images", target="animal", groups="sex")


DEEP = "[" * 100_000


def test_documents_that_are_too_deep(tmp_path):
    for name, text in {"e.json": DEEP, "p.toml": f"a = {DEEP}"}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="is not evidence"):
        read_evidence(tmp_path / "e.json")
    with pytest.raises(ValueError, match="cannot be used"):
        get_preset(tmp_path / "p.toml")
    model = tmp_path / "model"
    table = make_table(40)
    save(FineTuneUnlearner(max_epochs=1, random_state=0).fit(table.X, table.y, table.a), model)
    result = CliRunner().invoke(main, ["report", str(model), "--attacks", str(tmp_path / "e.json")])
    assert result.exit_code == 1 and "no list of attacks" in result.output, result.output


@pytest.mark.parametrize(
    "text",
    [
        '["digits/small_cnn".retrain]\noptimizer = "__import__(\'os\').mkdir"\n',
        '["../../etc/passwd".retrain]\nlr = 1\n',
        '["digits/small_cnn".retrain]\nlr = {a = 1}\n',
    ],
)
def test_presets_name_no_code(tmp_path, text):
    (tmp_path / "preset.toml").write_text(text)
    with pytest.raises(ValueError, match=r"preset\.toml"):
        preset = get_preset(tmp_path / "preset.toml")
        preset.training("digits/small_cnn")
