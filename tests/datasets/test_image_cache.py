import os
import pickle
import threading

import numpy as np
import official_trees as trees
import PIL
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from grmu_sk.datasets import EvaluationTransform, ImageFiles, ImageRows, decode_images


def make_folder(folder, n_images=12, sizes=((20, 16),)):
    """PNG, so that files hold exact pixels."""
    names = [f"{number}.png" for number in range(n_images)]
    for number, name in enumerate(names):
        trees.write_image(folder / name, number % 5, 0, sizes[number % len(sizes)], seed=number)
    return names


@pytest.fixture
def files(tmp_path):
    return ImageFiles(tmp_path / "images", make_folder(tmp_path / "images"))


@pytest.fixture
def n_decoded(monkeypatch):
    """How many images have been decoded."""
    count = [0]
    original = ImageFiles.pixels

    def pixels(self, row):
        count[0] += 1
        return original(self, row)

    monkeypatch.setattr(ImageFiles, "pixels", pixels)
    return lambda: count[0]


def read_all(files):
    return np.stack([np.array(Image.open(files._source.path / name)) for name in files.filenames])


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.suffix == ".tmp"]


# files ---------------------------------------------------------------------------------------


def test_images_are_those_of_the_files(files, monkeypatch, tmp_path):
    expected = read_all(files).transpose(0, 3, 1, 2)
    for row in (0, 5, -1):
        np.testing.assert_array_equal(files[row], expected[row])
    np.testing.assert_array_equal(np.stack(files.__getitems__([3, 1])), expected[[3, 1]])
    taken = files.take([7, 2])
    assert taken.filenames == ["7.png", "2.png"]
    np.testing.assert_array_equal(taken[1], expected[2])
    np.testing.assert_array_equal(files.take(np.arange(12) == 4)[0], expected[4])
    monkeypatch.chdir(tmp_path)
    here = ImageFiles("images", files.filenames)
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(here))[3].equal(files[3]), "relative to the first folder"


def test_depths_and_kinds_of_images(tmp_path):
    grey = np.array([[0, 255, 256], [30_000, 65_280, 65_535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.tif")
    Image.fromarray(grey.astype(np.float32) / 65_535).save(tmp_path / "float.tif")
    files = ImageFiles(tmp_path, ["deep.tif", "float.tif"])
    for channel in files[0]:
        assert channel.tolist() == (grey // 256).tolist()
    with pytest.raises(ValueError, match=r"row 1, .*float.tif.* mode 'F', of which nobody knows"):
        files[1]
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        image = Image.fromarray(np.full((6, 8, 3), 255, dtype=np.uint8)).convert(mode)
        if mode == "P":
            image.info["transparency"] = b"\x00\x01"
        name = "image.tif" if mode == "CMYK" else "image.png"
        image.save(tmp_path / name)
        found = ImageFiles(tmp_path, [name])[0]
        assert found.shape == (3, 6, 8) and (found == 255).all()


@pytest.mark.parametrize("zipped", [False, True])
def test_workers_and_threads_read_the_same_images(tmp_path, zipped):
    names, root = make_folder(tmp_path / "images"), tmp_path / "images"
    if zipped:
        root = trees.zip_tree(root, tmp_path / "images.zip")
    files = ImageFiles(root, names)
    expected = torch.stack([files[row] for row in range(12)])  # opens the zip file here
    loader = DataLoader(files, batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), expected)
    sent = pickle.loads(pickle.dumps(files))  # as to a process that was not forked
    assert torch.equal(torch.stack(sent.__getitems__(range(12))), expected)
    for n_jobs in (1, 4):
        decoded = decode_images(files, n_jobs=n_jobs)
        np.testing.assert_array_equal(decoded, expected.permute(0, 2, 3, 1))


# what the cache holds ------------------------------------------------------------------------


def test_decoded_images_are_those_of_the_files(files, tmp_path):
    decoded = decode_images(files, tmp_path / "cache" / "images.npy")
    assert isinstance(decoded, np.memmap) and not decoded.flags.writeable
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, read_all(files))
    np.testing.assert_array_equal(decode_images(files), decoded)
    # an ordinary file of NumPy
    np.testing.assert_array_equal(np.load(tmp_path / "cache" / "images.npy"), decoded)


@pytest.mark.parametrize("centre_crop", [True, False])
def test_resized_images_are_what_evaluation_normalises(tmp_path, centre_crop):
    files = ImageFiles(tmp_path, make_folder(tmp_path, sizes=((40, 30), (33, 50))))
    decoded = decode_images(files, tmp_path / "c.npy", size=24, centre_crop=centre_crop)
    assert decoded.shape == (12, 24, 24, 3)
    lazy = ImageRows(files, EvaluationTransform(24, centre_crop=centre_crop))
    assert torch.equal(ImageRows(decoded).precompute(), lazy.precompute())


def test_what_cannot_be_decoded_into_one_array(tmp_path):
    files = ImageFiles(tmp_path, make_folder(tmp_path, sizes=((20, 16), (20, 16), (21, 16))))
    with pytest.raises(ValueError, match=r"row 2 \(2.png\) has 16 x 21. Give size="):
        decode_images(files, tmp_path / "cache.npy")
    assert not (tmp_path / "cache.npy").exists() and leftovers(tmp_path) == []
    with pytest.raises(ValueError, match="size must be a whole number of pixels"):
        decode_images(files, size=0)


# when it is made anew --------------------------------------------------------------------------


def touch(files, monkeypatch):
    path = files._source.path / "3.png"
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    return {"files": files}


def other_content(files, monkeypatch):
    trees.write_image(files._source.path / "3.png", seed=99, size=(20, 16))
    return {"files": files}


def other_decoder(files, monkeypatch):
    monkeypatch.setattr(PIL, "__version__", "0.0")
    return {"files": files}


STALE = {
    "time of change": touch,
    "content": other_content,
    "decoder": other_decoder,
    "size": lambda files, _: {"files": files, "size": 9},
    "crop": lambda files, _: {"files": files, "centre_crop": False},
    "fewer files": lambda files, _: {"files": files.take(range(10))},
    "other order": lambda files, _: {"files": files.take(range(12)[::-1])},
}


@pytest.mark.parametrize("what", STALE)
def test_a_stale_cache_is_made_anew(files, tmp_path, monkeypatch, n_decoded, what):
    path = tmp_path / "cache.npy"
    for _ in range(2):
        decode_images(files, path, size=8)
        assert n_decoded() == len(files), "nothing is decoded again"
    changed = {"size": 8, **STALE[what](files, monkeypatch)}
    decoded = decode_images(cache_path=path, **changed)
    assert n_decoded() == len(files) + len(changed["files"])
    np.testing.assert_array_equal(decoded, decode_images(**changed))


def test_a_member_of_a_zip_file_that_changed(tmp_path, n_decoded):
    names = make_folder(tmp_path / "images", n_images=5)
    archive = trees.zip_tree(tmp_path / "images", tmp_path / "images.zip")
    path = tmp_path / "cache.npy"
    decode_images(ImageFiles(archive, names), path)
    os.utime(archive, (1, 1))  # the members' checksums count, not the archive's time
    decode_images(ImageFiles(archive, names), path)
    assert n_decoded() == 5 + 2  # two calls look at the first image for its size
    trees.write_image(tmp_path / "images" / "3.png", seed=99, size=(20, 16))
    trees.zip_tree(tmp_path / "images", archive)
    files = ImageFiles(archive, names)
    np.testing.assert_array_equal(decode_images(files, path), decode_images(files))


def test_a_cut_or_foreign_file_is_not_used(files, tmp_path):
    path = tmp_path / "cache.npy"
    expected = np.array(decode_images(files, path, size=8))
    whole = path.read_bytes()
    for n_bytes in (0, 5, 1000, -1):
        path.write_bytes(whole[:n_bytes])
        np.testing.assert_array_equal(decode_images(files, path, size=8), expected)
    np.save(path, np.zeros_like(expected))
    np.testing.assert_array_equal(decode_images(files, path, size=8), expected)


# interrupted and concurrent writers, as far as they are not those of every file --------------


def test_an_interrupted_decoder_leaves_the_old_array(files, tmp_path, monkeypatch):
    path, original = tmp_path / "cache" / "images.npy", ImageFiles.pixels
    decode_images(files, path, size=8)
    before = path.read_bytes()

    def pixels(self, row):
        if row == 9:
            raise KeyboardInterrupt
        return original(self, row)

    monkeypatch.setattr(ImageFiles, "pixels", pixels)
    with pytest.raises(KeyboardInterrupt):
        decode_images(files, path, size=9)
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


def test_two_sizes_in_one_file_at_the_same_time(files, tmp_path, monkeypatch):
    path = tmp_path / "cache.npy"
    original = os.replace

    def replace_and_be_overtaken(source, target):
        original(source, target)
        monkeypatch.setattr(os, "replace", original)
        other = threading.Thread(target=decode_images, args=(files, path), kwargs={"size": 9})
        other.start()
        other.join()

    monkeypatch.setattr(os, "replace", replace_and_be_overtaken)
    with pytest.raises(RuntimeError, match="Give each its own cache_path"):
        decode_images(files, path, size=8)


# what is sent to other processes ---------------------------------------------------------------


def test_a_cached_array_is_not_sent_with_its_rows_and_others_are(files, tmp_path):
    whole = decode_images(files, tmp_path / "cache.npy")
    rows = ImageRows(whole, rows=[5, 10])
    sent = pickle.dumps(rows)
    assert len(sent) < 2000 < whole.nbytes
    received = pickle.loads(sent)
    assert isinstance(received.images, np.memmap)
    assert torch.equal(received.precompute(), rows.precompute())
    for images in (decode_images(files), whole[3:8]):
        received = pickle.loads(pickle.dumps(ImageRows(images)))
        np.testing.assert_array_equal(received.images, images)
    decode_images(files, tmp_path / "cache.npy", size=9)
    with pytest.raises(FileNotFoundError, match="or were replaced by others"):
        pickle.loads(sent)
