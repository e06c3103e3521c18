"""Residue is found wherever it may hide, and nothing is found where there is none."""

import os
import pickle
import sqlite3
import sys
import tracemalloc
import zipfile
import zlib

import joblib
import numpy as np
import pytest
import torch
from conftest import make_net, make_table
from residue_plants import FILES, OBJECTS, archive
from sklearn.frozen import FrozenEstimator
from skorch.callbacks import Callback
from torch import nn
from torch.utils.data import WeightedRandomSampler

from grmu_sk import FineTuneUnlearner, SCRUBUnlearner
from grmu_sk.audit import Finding, ResidueScan, scan_residue
from grmu_sk.unlearners import all_unlearners

FORGET = [3, 7, 9]
METHODS = [pytest.param(cls, id=name) for name, cls in all_unlearners()]
SHORT = {"max_epochs": 2, "forget_epochs": 1, "tune_updates": (3, 2)}


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def kinds(scan):
    return {finding.kind for finding in scan}


def fitted(method=FineTuneUnlearner, net=None, **kwargs):
    table = make_table()
    known = method._get_param_names()
    short = {name: value for name, value in SHORT.items() if name in known}
    made = method(make_net() if net is None else net, random_state=0, **{**short, **kwargs})
    return made.fit(table.X, table.y, table.a), table


def originals(unlearner):
    state = unlearner.net_.module_.state_dict()
    return {name: value.clone() for name, value in state.items()}


# planted rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", OBJECTS)
def test_row_in_an_object(plant, X):
    scan = scan_residue([OBJECTS[plant](X)], X[FORGET])
    found = {row for finding in scan for row in finding.rows}
    assert kinds(scan) == {"forgotten row"}
    assert 0 in found
    others = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    assert scan_residue([OBJECTS[plant](others)], X[FORGET]) == []


@pytest.mark.parametrize("plant", FILES)
def test_row_in_a_file(plant, X, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(FILES[plant](X))
    scan = scan_residue(path, X[FORGET])
    assert kinds(scan) == {"forgotten row"}
    assert 0 in {row for finding in scan for row in finding.rows}
    others = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    path.write_bytes(FILES[plant](others))
    clean = scan_residue(path, X[FORGET])
    assert (clean, clean.not_searched, clean.verdict) == ([], [], "clean")


def test_every_row_is_named_by_its_number(X):
    (finding,) = scan_residue(X.tobytes(), X[FORGET], forget_idx=FORGET)
    assert finding.rows == tuple(FORGET)
    assert finding.offset == X[: FORGET[0]].nbytes
    assert finding.encoding == "float32"


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_normalised_rows(dtype, order, X):
    mean, std = X.mean(axis=0), X.std(axis=0)
    scaled = np.asarray((X - mean) / std, dtype=dtype, order=order)
    (finding,) = scan_residue({"x": scaled}, X[FORGET], mean=mean, std=std)
    assert finding.rows == (0, 1, 2)
    assert finding.encoding.startswith("normalised")
    assert scan_residue({"x": scaled}, X[FORGET]) == []


def test_normalisation_in_another_order_of_arithmetic(X):
    mean, std = X.mean(axis=0), X.std(axis=0)
    scaled = X * (1 / std) - mean / std
    assert not np.array_equal(scaled, (X - mean) / std)
    raw = scaled.astype(np.float32).tobytes()
    (finding,) = scan_residue(raw, X[FORGET], mean=mean, std=std)
    assert finding.rows == (0, 1, 2)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8"])
def test_images_of_whole_numbers(dtype):
    images = np.random.default_rng(0).integers(0, 256, size=(10, 3, 8, 8), dtype=np.uint8)
    (finding,) = scan_residue(images.astype(dtype).tobytes(), images[[2, 5]])
    assert finding.rows == (0, 1)


def test_images_in_other_forms():
    images = np.random.default_rng(0).integers(0, 256, size=(10, 3, 8, 8), dtype=np.uint8)
    forms = {
        "scaled to [0, 1]": (images / 255).astype(np.float32),
        "channels last": np.moveaxis(images, 1, -1).copy(),
        "normalised": ((images / 255 - 0.5) / 0.2).astype(np.float32),
    }
    for name, form in forms.items():
        scan = scan_residue(form.tobytes(), images[[2, 5]], mean=127.5, std=51)
        assert [finding.rows for finding in scan] == [(0, 1)], name
        assert name in scan[0].encoding
    channels_last = torch.tensor(images).contiguous(memory_format=torch.channels_last)
    assert kinds(scan_residue(channels_last, images[[2]])) == {"forgotten row"}


@pytest.mark.parametrize("encode", [str.encode, lambda text: text.encode("utf-16-le")])
def test_rows_of_text(encode):
    rows = ["Mrs Ö. lives in the old mill", "the second sentence"]
    found = scan_residue(b"log: " + encode(rows[0]), rows)
    assert [finding.rows for finding in found] == [(0,)]
    assert scan_residue({"notes": [rows[1]]}, rows)[0].rows == (1,)
    assert scan_residue(b"log: nothing of the kind", rows) == []


# what is not residue -----------------------------------------------------------------------------


def test_nothing_is_found_in_unrelated_bytes(X, tmp_path):
    rng = np.random.default_rng(3)
    contents = {
        "random": rng.bytes(1 << 20),
        "zeros": bytes(1 << 20),
        "floats": rng.normal(size=1 << 17).astype(np.float32).tobytes(),
        "table": "\n".join(
            ",".join(f"{v:.3f}" for v in row) for row in rng.normal(size=(3000, 6))
        ).encode(),
        "digits": "\n".join(",".join(map(str, r)) for r in rng.integers(0, 3, (3000, 6))).encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    scan = scan_residue(tmp_path, X, {"layer": rng.normal(size=(8, 8))}, mean=X.mean(0), std=3)
    assert (scan, scan.verdict, scan.n_places) == ([], "clean", len(contents))
    assert scan.n_bytes == sum(map(len, contents.values()))


def test_a_row_that_differs_in_one_value_is_another(X):
    other = X[FORGET].copy()
    other[:, 4] += 0.01
    assert scan_residue(other.tobytes(), X[FORGET]) == []
    assert len(scan_residue(other.tobytes(), other)) == 1


def test_rows_that_cannot_be_told_are_named():
    rows = np.zeros((3, 6), dtype=np.float32)
    rows[0] = np.linspace(0.1, 0.7, 6)
    scan = scan_residue(bytes(200), rows, forget_idx=[4, 5, 6])
    assert (scan, scan.verdict) == ([], "inconclusive")
    assert "2 rows (5, 6)" in scan.not_searched[0]
    with pytest.warns(UserWarning, match="nothing to look for"):
        scan_residue(bytes(200), rows[1:])


def test_rows_that_also_remain_are_no_residue(X):
    kept = np.vstack([X[10:], X[[3]]])
    scan = scan_residue(kept.tobytes(), X[FORGET], remaining=kept)
    assert scan == []
    assert "equal rows remain" in scan.not_searched[0]
    assert scan_residue(kept.tobytes(), X[FORGET])[0].rows == (0,)


# files -------------------------------------------------------------------------------------------


def test_a_row_across_chunks_is_found(X, tmp_path):
    path = tmp_path / "large"
    for shift in range(0, 32, 3):
        path.write_bytes(bytes(1024 - shift) + X[3].tobytes() + bytes(3000))
        (finding,) = scan_residue(path, X[FORGET], chunk_size=1024)
        assert finding.offset == 1024 - shift


def test_memory_does_not_grow_with_the_file(X, tmp_path):
    peaks = []
    for size in (1 << 20, 1 << 23):
        path = tmp_path / f"{size}"
        with open(path, "wb") as file:
            file.truncate(size)
            file.seek(size - 4000)
            file.write(X.tobytes())
        tracemalloc.start()
        scan = scan_residue(path, X[FORGET], chunk_size=1 << 18)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert scan[0].rows == (0, 1, 2)
    assert peaks[1] < peaks[0] + (1 << 20)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "dump", [pickle.dumps, lambda found: archive("x.pkl", pickle.dumps(found))]
)
def test_hostile_pickles_are_not_carried_out(dump, X, tmp_path):
    proof = tmp_path / "executed"
    (tmp_path / "model.pkl").write_bytes(dump([Touch(proof), zlib.compress(X.tobytes())]))
    scan = scan_residue(tmp_path / "model.pkl", X[FORGET])
    assert scan[0].rows == (0, 1, 2)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Touch(proof)))
    assert proof.exists(), "the control: the pickle does execute code"


def test_links_are_not_followed(X, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "rows.bin").write_bytes(X.tobytes())
    (folder / "file_link").symlink_to(outside / "rows.bin")
    (folder / "folder_link").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe")
    scan = scan_residue(folder, X[FORGET])
    assert (scan, scan.verdict) == ([], "inconclusive")
    told = " ".join(scan.not_searched)
    for name in ("file_link", "folder_link", "broken", "pipe"):
        assert name in told
    assert "loop" not in told
    assert len(scan_residue(outside, X[FORGET])) == 1


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "C:\\out", "..\\out"])
def test_archive_members_that_escape_are_refused(name, X, tmp_path):
    path = tmp_path / "bad.zip"
    content = X.tobytes() + bytes(5000)  # so that it is really compressed
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        member = zipfile.ZipInfo("x")
        member.filename = name
        member.compress_type = zipfile.ZIP_DEFLATED
        opened.writestr(member, content)
        opened.writestr("good", content, zipfile.ZIP_DEFLATED)
    scan = scan_residue(path, X[FORGET])
    assert [finding.place for finding in scan] == ["bad.zip!good"]
    assert "refused" in scan.not_searched[0]
    assert sorted(os.listdir(tmp_path)) == ["bad.zip"]


def test_packed_bombs_stop(X, tmp_path, monkeypatch):
    from grmu_sk.audit import _scanner

    monkeypatch.setattr(_scanner, "MOST_UNPACKED", 1 << 20)
    (tmp_path / "bomb.gz").write_bytes(zlib.compress(bytes(1 << 24)))
    scan = scan_residue(tmp_path, X[FORGET], chunk_size=1 << 16)
    assert "more than 1048576 bytes unpacked" in scan.not_searched[0]
    assert scan.n_bytes < 1 << 22


def test_nesting_stops(X, tmp_path):
    content = X.tobytes()
    for _ in range(12):
        content = zlib.compress(content + bytes(5000))
    (tmp_path / "deep").write_bytes(content)
    scan = scan_residue(tmp_path, X[FORGET])
    assert (scan, scan.verdict) == ([], "inconclusive")
    assert "deep" in scan.not_searched[0]


@pytest.mark.parametrize("plant", sorted(FILES))
@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_damaged_files_raise_nothing(plant, cut, X, tmp_path):
    content = bytearray(FILES[plant](X))
    content = content[: int(cut * len(content))]
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "damaged").write_bytes(content)
    scan_residue(tmp_path, X[FORGET])


@pytest.mark.parametrize("magic", [b"PAR1", b"\x89HDF\r\n", b"\x89PNG\r\n", b"\xff\xd8\xff\xe0"])
def test_what_is_not_opened_is_named(magic, X, tmp_path):
    (tmp_path / "table").write_bytes(magic + bytes(100))
    scan = scan_residue(tmp_path, X[FORGET])
    assert "is not opened" in scan.not_searched[0]


def test_database_that_cannot_be_changed(X, tmp_path):
    path = tmp_path / "cache.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE cache (content BLOB)")
    connection.execute("INSERT INTO cache VALUES (?)", (zlib.compress(X.tobytes()),))
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint")
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    assert kinds(scan_residue(path, X[FORGET])) == {"forgotten row"}
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
    connection.close()


def test_deleted_cells_of_a_database(X, tmp_path):
    path = tmp_path / "cache.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute("CREATE TABLE cache (content BLOB)")
    connection.executemany("INSERT INTO cache VALUES (?)", [(X.tobytes(),)] * 2)
    connection.commit()
    connection.execute("DELETE FROM cache")
    connection.commit()
    connection.close()
    assert kinds(scan_residue(path, X[FORGET])) == {"forgotten row"}


def test_bad_input(X, tmp_path):
    with pytest.raises(FileNotFoundError):
        scan_residue(tmp_path / "nothing", X)
    with pytest.raises(ValueError, match=r"rows\[None\]"):
        scan_residue(X, X[0])
    with pytest.raises(ValueError, match="list of texts"):
        scan_residue(X, [[1.0, "a"]])
    with pytest.raises(ValueError, match="broadcast"):
        scan_residue(X, X, mean=[1.0, 2.0])
    with pytest.raises(ValueError, match="forget_idx names 2 rows"):
        scan_residue(X, X, forget_idx=[1, 2])
    with pytest.raises(ValueError, match="original must be"):
        scan_residue(X, X, original=3)
    with pytest.raises(ValueError, match="chunk_size"):
        scan_residue(X, X, chunk_size=1)
    with pytest.raises(ValueError, match="remaining has rows of shape"):
        scan_residue(X, X, remaining=X[:, :2])
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="neither a file nor a folder"):
        scan_residue(tmp_path / "pipe", X)


# weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda w: w.numpy(),
        lambda w: w.numpy().astype(">f4"),
        lambda w: w.numpy().T.copy(),
        lambda w: w.double().numpy(),
        lambda w: w.half().numpy(),
        lambda w: w.bfloat16(),
        lambda w: w[:, ::2],
    ],
    ids=["plain", "bytes swapped", "transposed", "double", "half", "bfloat16", "strided view"],
)
def test_original_weights(form):
    layer = nn.Linear(20, 30)
    found = scan_residue({"teacher": form(layer.weight.detach())}, None, layer)
    assert kinds(found) == {"original weights"}
    assert {name for finding in found for name in finding.tensors} == {"weight"}
    other = nn.Linear(20, 30)
    assert scan_residue({"teacher": form(other.weight.detach())}, None, layer) == []


def test_weights_that_changed_in_part_are_others():
    layer = nn.Linear(200, 300)
    changed = layer.weight.detach().clone()
    changed[150] += 1e-3
    assert len(scan_residue(layer.weight.detach().numpy().tobytes(), None, layer)) == 1
    for row in (0, 299):
        changed = layer.weight.detach().clone()
        changed[row] += 1e-3
        assert scan_residue(changed.numpy().tobytes(), None, layer) == []


def test_trivial_tensors_do_not_count():
    layer = nn.BatchNorm1d(64)
    with pytest.warns(UserWarning, match="nothing to look for"):
        assert scan_residue(pickle.dumps(nn.BatchNorm1d(64)), None, layer) == []


def test_large_weights_across_chunks(tmp_path):
    weights = np.random.default_rng(0).normal(size=40000).astype(np.float32)
    (tmp_path / "file").write_bytes(b"abc" + weights.tobytes())
    (finding,) = scan_residue(tmp_path, None, {"w": weights}, chunk_size=1024)
    assert (finding.kind, finding.tensors, finding.offset) == ("original weights", ("w",), 3)


# unlearners --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method(method, tmp_path):
    unlearner, table = fitted(method)
    original, rows = originals(unlearner), table.X[FORGET]
    known = {"forget_idx": FORGET, "n_rows": table.n}
    before = scan_residue(unlearner, rows, original, **known)
    assert kinds(before) == {"forgotten row", "original weights"}, "the scan must see both"
    unlearner.unlearn(FORGET)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(unlearner))
    joblib.dump(unlearner, tmp_path / "model.joblib", compress=1)
    unlearner.save(tmp_path / "model.safetensors")
    torch.save(unlearner.net_.module_.state_dict(), tmp_path / "model.pt")
    allowed = method._keeps_weights or method._keeps_unaffected_weights
    for place in (unlearner, tmp_path):
        scan = scan_residue(place, rows, original, **known)
        assert kinds(scan) == ({"original weights"} if allowed else set()), list(map(str, scan))
        assert scan.not_searched == []


def test_saved_file_never_holds_rows(tmp_path):
    unlearner, table = fitted(keep_forgotten=True)
    unlearner.unlearn(FORGET)
    unlearner.save(tmp_path / "model")
    assert scan_residue(tmp_path / "model", table.X) == []
    assert scan_residue(unlearner, table.X[FORGET])[0].rows == tuple(FORGET)


class Keeper(Callback):
    """Keeps what it sees, as a careless callback does."""

    def on_batch_end(self, net, batch=None, training=False, **_):
        if training:
            net.history.record_batch("inputs", batch[0].tolist())


def test_rows_in_the_history(tmp_path):
    unlearner, table = fitted(SCRUBUnlearner, make_net(callbacks=[Keeper()]))
    unlearner.unlearn(FORGET)
    scan = scan_residue(unlearner, table.X[FORGET])
    assert kinds(scan) == {"forgotten row"}
    assert any("history" in finding.place for finding in scan)
    unlearner.save(tmp_path / "model")
    assert kinds(scan_residue(tmp_path / "model", table.X[FORGET])) == {"forgotten row"}


def test_teacher_is_found_without_its_weights():
    unlearner, table = fitted()
    teacher = pickle.loads(pickle.dumps(unlearner.net_.module_))
    unlearner.unlearn(FORGET)
    assert scan_residue(unlearner, table.X[FORGET]) == []
    unlearner._loss = lambda batch: teacher(batch)
    (finding,) = scan_residue(unlearner, table.X[FORGET])
    assert finding.kind == "teacher copy"
    assert "closure teacher" in finding.place
    scan = scan_residue(unlearner, table.X[FORGET], teacher)
    assert kinds(scan) == {"teacher copy", "original weights"}


def test_own_nets_are_no_teachers():
    table = make_table()
    net = make_net().fit(table.X, table.y)
    unlearner, _ = fitted(net=FrozenEstimator(net))
    assert scan_residue(unlearner.unlearn(FORGET), table.X[FORGET]) == []


def sampler_weights(table, dtype=np.float64):
    weights = np.random.default_rng(0).random(table.n) + 0.5
    weights[FORGET] = 0
    return weights.astype(dtype)


def test_sampler_weights_in_an_object():
    unlearner, table = fitted()
    unlearner.unlearn(FORGET)
    assert scan_residue(unlearner, table.X[FORGET]) == []
    weights = sampler_weights(table)
    unlearner._sampler = WeightedRandomSampler(weights.tolist(), table.n)
    scan = scan_residue(unlearner, table.X[FORGET])
    assert kinds(scan) == {"sampler weights"}
    unlearner._sampler = weights[::-1].copy()
    assert scan_residue(unlearner, table.X[FORGET]) == []
    weights[FORGET] = 9.0  # not zero, but larger than all others
    unlearner._sampler = {"p": torch.tensor(weights)}
    assert kinds(scan_residue(unlearner, table.X[FORGET])) == {"sampler weights"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sampler_weights_in_files(dtype, tmp_path):
    table = make_table()
    weights, path = sampler_weights(table, dtype), tmp_path / "file"
    known = {"forget_idx": FORGET, "n_rows": table.n}
    for content in (
        pickle.dumps({"p": weights}),
        pickle.dumps({"p": weights.tolist()}),
        b"x" + weights.tobytes() + b"yy",
        FILES["joblib"](weights),
        FILES["compressed npz"](weights),
        FILES["torch checkpoint"](weights),
    ):
        path.write_bytes(content)
        assert kinds(scan_residue(path, table.X[FORGET], **known)) == {"sampler weights"}
        path.write_bytes(content)
        assert scan_residue(path, table.X[[5, 6]], forget_idx=[5, 6], n_rows=table.n) == []


# the result --------------------------------------------------------------------------------------


def test_result_as_json_and_text():
    finding = Finding("original weights", "a.pt", "float32", tensors=("w",))
    assert str(finding) == "a.pt: original weights as float32 (w)"
    scan = ResidueScan([finding], not_searched=["b"], n_places=2, n_bytes=5)
    assert scan.verdict == "residue"
    assert scan.to_dict()["findings"][0]["tensors"] == ["w"]
    assert ResidueScan().verdict == "clean"
    assert sys.getsizeof(scan) and scan == [finding]


def test_chance_zeros_in_long_data_are_no_sampler_weights():
    # pixels that are zero now and then: two rows of 200 are hit just so somewhere
    rows = np.random.default_rng(0).normal(size=(2, 5))
    pixels = np.ones(40_000, dtype=np.float32)
    pixels[1_000 + np.array([3, 7])] = 0
    assert not scan_residue({"pixels": pixels}, rows, forget_idx=[3, 7], n_rows=200)
    weights = np.ones(200, dtype=np.float32)
    weights[[3, 7]] = 0
    assert scan_residue({"weights": weights}, rows, forget_idx=[3, 7], n_rows=200)
