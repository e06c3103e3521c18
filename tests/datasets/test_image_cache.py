import os
import pickle

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


def read_all(files):
    return np.stack([np.array(Image.open(files._source.path / name)) for name in files.filenames])


def test_images_are_those_of_the_files(files, monkeypatch, tmp_path):
    expected = read_all(files).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(np.stack([files[3], files[1]]), expected[[3, 1]])
    assert files.take([7, 2]).filenames == ["7.png", "2.png"]
    np.testing.assert_array_equal(files.take(np.arange(12) == 4)[0], expected[4])
    monkeypatch.chdir(tmp_path)
    here = ImageFiles("images", files.filenames)
    monkeypatch.chdir("/")
    assert pickle.loads(pickle.dumps(here))[3].equal(files[3]), "relative to the first folder"


def test_depths_and_kinds_of_images(tmp_path):
    grey = np.array([[0, 255, 256], [30_000, 65_280, 65_535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.tif")
    for channel in ImageFiles(tmp_path, ["deep.tif"])[0]:
        assert channel.tolist() == (grey // 256).tolist()
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        image = Image.fromarray(np.full((6, 8, 3), 255, dtype=np.uint8)).convert(mode)
        if mode == "P":
            image.info["transparency"] = b"\x00\x01"
        name = "image.tif" if mode == "CMYK" else "image.png"
        image.save(tmp_path / name)
        found = ImageFiles(tmp_path, [name])[0]
        assert found.shape == (3, 6, 8) and (found == 255).all()


def test_workers_and_threads_read_the_same_images_of_a_zip_file(tmp_path):
    names = make_folder(tmp_path / "images")
    files = ImageFiles(trees.zip_tree(tmp_path / "images", tmp_path / "images.zip"), names)
    expected = torch.stack([files[row] for row in range(12)])  # opens the zip file here
    loader = DataLoader(files, batch_size=4, num_workers=2, multiprocessing_context="fork")
    assert torch.equal(torch.cat(list(loader)), expected)
    sent = pickle.loads(pickle.dumps(files))  # as to a process that was not forked
    assert torch.equal(torch.stack([sent[row] for row in range(12)]), expected)
    decoded = decode_images(files, n_jobs=4)
    np.testing.assert_array_equal(decoded, expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize("centre_crop", [True, False])
def test_resized_images_are_what_evaluation_normalises(tmp_path, centre_crop):
    files = ImageFiles(tmp_path, make_folder(tmp_path, sizes=((40, 30), (33, 50))))
    decoded = decode_images(files, tmp_path / "c.npy", size=24, centre_crop=centre_crop)
    assert decoded.shape == (12, 24, 24, 3)
    lazy = ImageRows(files, EvaluationTransform(24, centre_crop=centre_crop))
    assert torch.equal(ImageRows(decoded).precompute(), lazy.precompute())
    with pytest.raises(ValueError, match=r"Images differ in size: .* row 1 .* Give size="):
        decode_images(files, tmp_path / "d.npy")
    assert not (tmp_path / "d.npy").exists()


def test_a_stale_cache_is_made_anew(files, tmp_path, monkeypatch, spy):
    path, decoded = tmp_path / "cache.npy", spy(ImageFiles, "pixels")

    def n_decoded(given=files, **options):
        decoded.clear()
        found = decode_images(given, path, **{"size": 8, **options})
        n_images = len(decoded)
        np.testing.assert_array_equal(found, decode_images(given, **{"size": 8, **options}))
        return n_images

    assert [n_decoded(), n_decoded()] == [12, 0]
    for options in ({"size": 9}, {"centre_crop": False}, {"given": files.take(range(12)[::-1])}):
        assert [n_decoded(**options), n_decoded(**options)] == [12, 0]
    n_decoded()
    image = files._source.path / "3.png"
    os.utime(image, ns=(1, image.stat().st_mtime_ns + 1))
    assert n_decoded() == 12
    monkeypatch.setattr(PIL, "__version__", "0.0")
    assert n_decoded() == 12
    whole = path.read_bytes()
    for n_bytes in (0, 5, 1000, -1):
        path.write_bytes(whole[:n_bytes])
        assert n_decoded() == 12


def test_a_cached_array_is_not_sent_with_its_rows_and_others_are(files, tmp_path):
    whole = decode_images(files, tmp_path / "cache" / "images.npy")
    assert isinstance(whole, np.memmap) and not whole.flags.writeable
    np.testing.assert_array_equal(whole, read_all(files))
    rows = ImageRows(whole, rows=[5, 10])
    sent = pickle.dumps(rows)
    assert len(sent) < 2000 < whole.nbytes
    received = pickle.loads(sent)
    assert isinstance(received.images, np.memmap)
    assert torch.equal(received.precompute(), rows.precompute())
    for images in (decode_images(files), whole[3:8]):
        received = pickle.loads(pickle.dumps(ImageRows(images)))
        np.testing.assert_array_equal(received.images, images)
    decode_images(files, tmp_path / "cache" / "images.npy", size=9)
    with pytest.raises(FileNotFoundError, match="holds other images"):
        pickle.loads(sent)
