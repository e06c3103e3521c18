import multiprocessing
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


def make_folder(folder, n_images=70, sizes=((20, 16),)):
    """A few more images than are decoded at once; PNG, so that files hold exact pixels."""
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


def test_images_are_those_of_the_files(files):
    expected = read_all(files).transpose(0, 3, 1, 2)
    for row in (0, 5, -1):
        np.testing.assert_array_equal(files[row], expected[row])
    np.testing.assert_array_equal(np.stack(files.__getitems__([3, 1])), expected[[3, 1]])
    taken = files.take([7, 2])
    assert taken.filenames == ["7.png", "2.png"]
    np.testing.assert_array_equal(taken[1], expected[2])
    mask = np.arange(len(files)) == 4
    np.testing.assert_array_equal(files.take(mask)[0], expected[4])
    with pytest.raises(IndexError, match="no row 70 among 70"):
        files[70]


def test_sixteen_bits_are_scaled_and_unknown_depths_refused(tmp_path):
    grey = np.array([[0, 255, 256], [30_000, 65_280, 65_535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.tif")
    Image.fromarray(grey.astype(np.float32) / 65_535).save(tmp_path / "float.tif")
    files = ImageFiles(tmp_path, ["deep.tif", "float.tif"])
    for channel in files[0]:
        assert channel.tolist() == (grey // 256).tolist()
    with pytest.raises(ValueError, match=r"row 1, .*float.tif.* mode 'F', of which nobody knows"):
        files[1]


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_all_kinds_of_images_become_colour_images(tmp_path, mode):
    image = Image.fromarray(np.full((6, 8, 3), 255, dtype=np.uint8)).convert(mode)
    if mode == "P":
        image.info["transparency"] = b"\x00\x01"
    name = "image.tif" if mode == "CMYK" else "image.png"
    image.save(tmp_path / name)
    found = ImageFiles(tmp_path, [name])[0]
    assert found.shape == (3, 6, 8)
    assert (found == 255).all()


@pytest.mark.parametrize("zipped", [False, True])
def test_workers_read_the_same_images(tmp_path, zipped):
    names = make_folder(tmp_path / "images", n_images=24)
    root = tmp_path / "images"
    if zipped:
        root = trees.zip_tree(root, tmp_path / "images.zip")
    files = ImageFiles(root, names)
    expected = torch.stack([files[row] for row in range(24)])  # opens the zip file here
    loader = DataLoader(files, batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), expected)
    sent = pickle.loads(pickle.dumps(files))  # as to a process that was not forked
    assert torch.equal(torch.stack(sent.__getitems__(range(24))), expected)


def test_threads_read_the_same_images_from_a_zip_file(tmp_path):
    names = make_folder(tmp_path / "images")
    archive = trees.zip_tree(tmp_path / "images", tmp_path / "images.zip")
    one, four = (decode_images(ImageFiles(archive, names), n_jobs=n_jobs) for n_jobs in (1, 4))
    np.testing.assert_array_equal(one, four)


def test_paths_do_not_depend_on_the_working_folder(files, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = ImageFiles("images", files.filenames)
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(here))[3].equal(files[3])


# what the cache holds ------------------------------------------------------------------------


def test_decoded_images_are_those_of_the_files(files, tmp_path):
    decoded = decode_images(files, tmp_path / "cache" / "images.npy")
    assert isinstance(decoded, np.memmap)
    assert not decoded.flags.writeable
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, read_all(files))
    np.testing.assert_array_equal(decode_images(files), decoded)
    # an ordinary file of NumPy
    np.testing.assert_array_equal(np.load(tmp_path / "cache" / "images.npy"), decoded)


@pytest.mark.parametrize("centre_crop", [True, False])
def test_resized_images_are_what_evaluation_normalises(tmp_path, centre_crop):
    sizes = ((40, 30), (33, 50))
    files = ImageFiles(tmp_path, make_folder(tmp_path, sizes=sizes))
    decoded = decode_images(files, tmp_path / "c.npy", size=24, centre_crop=centre_crop)
    assert decoded.shape == (70, 24, 24, 3)
    lazy = ImageRows(files, EvaluationTransform(24, centre_crop=centre_crop))
    assert torch.equal(ImageRows(decoded).precompute(), lazy.precompute())


def test_images_of_different_sizes_need_a_size(tmp_path):
    files = ImageFiles(tmp_path, make_folder(tmp_path, sizes=((20, 16), (20, 16), (21, 16))))
    with pytest.raises(ValueError, match=r"row 2 \(2.png\) has 16 x 21. Give size="):
        decode_images(files, tmp_path / "cache.npy")
    assert not (tmp_path / "cache.npy").exists()
    assert leftovers(tmp_path) == []


def test_what_makes_no_sense(files):
    with pytest.raises(ValueError, match="size must be a whole number of pixels"):
        decode_images(files, size=0)
    with pytest.raises(ValueError, match="no image to decode"):
        decode_images(files.take([]))


# when it is made anew --------------------------------------------------------------------------


def _touch(files, monkeypatch):
    path = files._source.path / "3.png"
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    return {"files": files, "size": 8}


def _other_content(files, monkeypatch):
    trees.write_image(files._source.path / "3.png", seed=99, size=(20, 16))
    return {"files": files, "size": 8}


def _other_decoder(files, monkeypatch):
    monkeypatch.setattr(PIL, "__version__", "0.0")
    return {"files": files, "size": 8}


STALE = {
    "time of change": _touch,
    "content": _other_content,
    "decoder": _other_decoder,
    "size": lambda files, _: {"files": files, "size": 9},
    "crop": lambda files, _: {"files": files, "size": 8, "centre_crop": False},
    "fewer files": lambda files, _: {"files": files.take(range(60)), "size": 8},
    "other order": lambda files, _: {"files": files.take(range(70)[::-1]), "size": 8},
}


@pytest.mark.parametrize("what", STALE)
def test_a_stale_cache_is_made_anew(files, tmp_path, monkeypatch, n_decoded, what):
    path = tmp_path / "cache.npy"
    decode_images(files, path, size=8)
    assert n_decoded() == len(files)
    decode_images(files, path, size=8)
    assert n_decoded() == len(files)  # nothing is decoded again
    changed = STALE[what](files, monkeypatch)
    before = n_decoded()
    decoded = decode_images(cache_path=path, **changed)
    assert n_decoded() == before + len(changed["files"])
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


@pytest.mark.parametrize("n_bytes", [0, 5, 4000, -1])
def test_a_cut_file_is_not_used(files, tmp_path, n_bytes):
    path = tmp_path / "cache.npy"
    expected = np.array(decode_images(files, path, size=8))
    path.write_bytes(path.read_bytes()[:n_bytes])
    np.testing.assert_array_equal(decode_images(files, path, size=8), expected)
    np.save(path, np.zeros_like(expected))  # a file of somebody else
    np.testing.assert_array_equal(decode_images(files, path, size=8), expected)


# interrupted and concurrent writers ------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "error"),
    [("decode", KeyboardInterrupt), ("write", OSError), ("rename", KeyboardInterrupt)],
)
def test_an_interrupted_writer_leaves_the_old_array(files, tmp_path, monkeypatch, moment, error):
    path = tmp_path / "cache" / "images.npy"
    old = np.array(decode_images(files, path, size=8))
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error("interrupted")

    with monkeypatch.context() as patched:
        if moment == "decode":
            original = ImageFiles.pixels
            patched.setattr(
                ImageFiles, "pixels", lambda self, row: fail() if row == 66 else original(self, row)
            )
        elif moment == "write":
            patched.setattr(os, "fsync", fail)
        else:
            patched.setattr(os, "replace", fail)
        with pytest.raises((error, ValueError), match="interrupted"):
            decode_images(files, path, size=9)
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []
    np.testing.assert_array_equal(decode_images(files, path, size=8), old)


def _write_and_die(root, names, path):
    os.fsync = lambda handle: os._exit(9)  # as by a kill: nothing is cleaned up
    decode_images(ImageFiles(root, names), path, size=8)


def test_a_killed_writer_leaves_nothing_that_is_used(files, tmp_path, n_decoded):
    path = tmp_path / "cache" / "images.npy"
    process = multiprocessing.get_context("fork").Process(
        target=_write_and_die, args=(files._source.path, files.filenames, path)
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert not path.exists()
    assert len(leftovers(path.parent)) == 1
    decoded = decode_images(files, path, size=8)
    assert n_decoded() == len(files)
    np.testing.assert_array_equal(decoded, decode_images(files, size=8))
    assert leftovers(path.parent) == []


def _write(root, names, path, barrier, results):
    barrier.wait()
    decoded = decode_images(ImageFiles(root, names), path, size=8)
    results.put(int(decoded.sum()))


def test_concurrent_writers_all_get_the_whole_array(files, tmp_path):
    path = tmp_path / "cache.npy"
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    arguments = (files._source.path, files.filenames, path, barrier, results)
    processes = [context.Process(target=_write, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    sums = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert sums == [int(decode_images(files, size=8).sum())] * 3
    assert leftovers(tmp_path) == []


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


def test_a_cached_array_is_not_sent_with_its_rows(files, tmp_path):
    rows = ImageRows(decode_images(files, tmp_path / "cache.npy"), rows=[5, 60])
    sent = pickle.dumps(rows)
    assert len(sent) < 2000 < rows.images.nbytes
    received = pickle.loads(sent)
    assert isinstance(received.images, np.memmap)
    assert torch.equal(received.precompute(), rows.precompute())
    decode_images(files, tmp_path / "cache.npy", size=9)
    with pytest.raises(FileNotFoundError, match="or were replaced by others"):
        pickle.loads(sent)


def test_other_arrays_are_sent(files, tmp_path):
    whole = decode_images(files, tmp_path / "cache.npy")
    for images in (decode_images(files), whole[10:20]):
        received = pickle.loads(pickle.dumps(ImageRows(images)))
        np.testing.assert_array_equal(received.images, images)
