"""Images decoded once into one array on disk.

The file is an ordinary ``.npy`` file, which ``np.load`` can map, followed by what it was made from
(JSON), the length of that, and a mark. It is written under another name and renamed when whole, so
whoever finds the file finds all of it, and two writers do not mix.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
import tokenize
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import joblib
import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features
from tqdm import tqdm

from ..utils._files import require_replaceable
from ..utils.arguments import check_types
from .image_files import ImageFiles
from .image_transforms import _check_size, resize_images

__all__ = ["decode_images"]

FORMAT = 1
MARK = b"grmuimgs"
FOOT = 8 + len(MARK)
BLOCK = 64  # images decoded between two writes, for each thread
ABANDONED_AFTER = 24 * 3600.0  # seconds; a writer that lives touches its file far more often


def decode_images(
    files: ImageFiles,
    cache_path: str | os.PathLike[str] | None = None,
    *,
    size: int | None = None,
    centre_crop: bool = True,
    n_jobs: int | None = None,
) -> NDArray[np.uint8]:
    """Decode images into one compact array, or open the array if that was done before.

    The array is made anew if the list of files, the size, time of change or (in a zip file)
    checksum of any of them, the requested size or crop, or the version of the decoder differ from
    those it was made from. It is put in place in one step: an interrupted run leaves nothing, and
    two processes may do the same work at the same time.

    Parameters
    ----------
    files : ImageFiles
        The images; their transform is ignored.
    cache_path : str or Path or None, default=None
        File for the array; its folder is created. None keeps the array in memory.
    size : int or None, default=None
        Side of the square that images are brought to, in pixels. None keeps them as they are; all
        must then be equally large.
    centre_crop : bool, default=True
        How they are brought to it, see :class:`EvaluationTransform`. With the same ``size`` and
        ``centre_crop``, the array holds exactly the pixels that :class:`EvaluationTransform`
        would normalise.
    n_jobs : int or None, default=None
        Threads that decode; -1 means one for each processor.

    Returns
    -------
    ndarray of shape (n_images, height, width, 3), uint8
        The images; a read-only memory map if ``cache_path`` is given.

    Raises
    ------
    FileNotFoundError
        If an image is gone.
    OSError
        If a file cannot be read, or the cache not be written.
    ValueError
        If an image cannot be decoded, or images differ in size and ``size`` is None.

    See Also
    --------
    ImageRows : Give them to a net, with a transform.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from grmu_sk.datasets import ImageFiles, decode_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 30), "red").save(pathlib.Path(folder, "red.png"))
    ...     decode_images(ImageFiles(folder, ["red.png"]), size=16).shape
    (1, 16, 16, 3)
    """
    check_types(decode_images, locals())
    if not isinstance(files, ImageFiles):
        raise TypeError(f"files must be ImageFiles, got {type(files).__name__}.")
    if len(files) == 0:
        raise ValueError("There is no image to decode.")
    if size is not None:
        _check_size(size)
    blocks = _decoded_blocks(files, size, centre_crop, joblib.effective_n_jobs(n_jobs))
    if cache_path is None:
        return np.concatenate(list(blocks))
    path = Path(cache_path).absolute()
    require_replaceable(path)
    origin = _origin(files, size, centre_crop)
    cached = open_cache(path, origin)
    if cached is not None:
        return cached
    _write(path, blocks, origin)
    cached = open_cache(path, origin)
    if cached is None:  # another process has just put an array of other images there
        raise RuntimeError(
            f"{path} was replaced while it was being used: two data sets, or two sizes, share the "
            "file. Give each its own cache_path."
        )
    return cached


def open_cache(path: Path, origin: dict[str, Any] | None = None) -> np.memmap[Any, Any] | None:
    """Map an array that was written before, or return None if it is missing, damaged or stale.

    Parameters
    ----------
    path : Path
        The file.
    origin : dict or None, default=None
        What it must have been made from; None accepts anything.

    Returns
    -------
    memmap or None
        The array, read-only.
    """
    found = read_origin(path)
    if found is None or (origin is not None and found != origin):
        return None
    try:
        array = np.load(path, mmap_mode="r")
    # somebody else's file, with our foot at its end
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError):
        return None
    is_ours = isinstance(array, np.memmap) and array.shape == tuple(found["shape"])
    return array if is_ours and array.dtype == np.uint8 else None


def read_origin(path: Path) -> dict[str, Any] | None:
    """Return what an array was made from, or None if the file is missing or not whole."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - FOOT, 0))
            foot = file.read()
            length = int.from_bytes(foot[:8], "little")
            if foot[8:] != MARK or length > end - FOOT:
                return None
            file.seek(end - FOOT - length)
            origin = json.loads(file.read(length))
            return origin if isinstance(origin, dict) and "shape" in origin else None
    except (FileNotFoundError, ValueError, RecursionError):
        return None


def _origin(files: ImageFiles, size: int | None, centre_crop: bool) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, signature in zip(files.filenames, files.signatures(), strict=True):
        digest.update(json.dumps([name, *signature]).encode())
    return {
        "format": FORMAT,
        "shape": _shape(files, size),
        "centre_crop": None if size is None else bool(centre_crop),
        "decoder": _decoder(),
        "files": digest.hexdigest(),
    }


def _shape(files: ImageFiles, size: int | None) -> list[int]:
    height, width = files.pixels(0).shape[:2] if size is None else (size, size)
    return [len(files), int(height), int(width), 3]


def _decoder() -> str:
    jpeg = features.version("jpg")
    return f"Pillow {PIL.__version__}, libjpeg {jpeg}, torchvision {version('torchvision')}"


def _decoded_blocks(
    files: ImageFiles, size: int | None, centre_crop: bool, n_threads: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images in order, a block at a time, so that few are in memory."""

    def decode(row: int) -> NDArray[np.uint8]:
        pixels = files.pixels(row)
        if size is None:
            return pixels
        image = torch.from_numpy(pixels).permute(2, 0, 1)
        return resize_images(image, size, centre_crop=centre_crop).permute(1, 2, 0).numpy()

    first_shape = None
    progress = tqdm(total=len(files), desc="decoding images", unit="image", disable=None)
    with progress, ThreadPoolExecutor(n_threads) as pool:
        for start in range(0, len(files), BLOCK * n_threads):
            rows = range(start, min(start + BLOCK * n_threads, len(files)))
            images = list(pool.map(decode, rows) if n_threads > 1 else map(decode, rows))
            first_shape = first_shape or images[0].shape
            _require_equal_shapes(images, first_shape, files, start)
            yield np.stack(images)
            progress.update(len(images))


def _require_equal_shapes(
    images: list[NDArray[np.uint8]], shape: tuple[int, ...], files: ImageFiles, start: int
) -> None:
    for row, image in enumerate(images, start=start):
        if image.shape != shape:
            raise ValueError(
                f"Images differ in size: row 0 ({files.filenames[0]}) has {shape[0]} x {shape[1]} "
                f"pixels (height x width), row {row} ({files.filenames[row]}) has "
                f"{image.shape[0]} x {image.shape[1]}. Give size=... to bring all to one size."
            )


def _write(path: Path, blocks: Iterator[NDArray[np.uint8]], origin: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            _write_array(file, blocks, origin)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _write_array(
    file: IO[bytes], blocks: Iterator[NDArray[np.uint8]], origin: dict[str, Any]
) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(origin["shape"])}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(np.ascontiguousarray(block).data)
    text = json.dumps(origin).encode()
    file.write(text + len(text).to_bytes(8, "little") + MARK)
    file.flush()
    os.fsync(file.fileno())


def _remove_abandoned(path: Path) -> None:
    """Remove what writers that were killed left behind."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER:
                leftover.unlink()
