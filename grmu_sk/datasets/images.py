"""Photographs: in files, decoded once into one array on disk, and as a net takes them."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from PIL import Image, features
from torch.utils.data import Dataset
from tqdm import tqdm

from ..files import require_replaceable, write_atomically
from ..validation import to_array
from .sources import Source
from .transforms import normalize_images, resize_images

FORMAT = 2
MARK = b"grmuimgs"
PRECOMPUTE_BATCH = 256


def check_rows(rows: ArrayLike | None, n_images: int) -> NDArray[np.int64]:
    """Turn row numbers or a mask into row numbers; None means all."""
    chosen = np.arange(n_images) if rows is None else to_array(rows, "rows")
    # no rows at all are an array of floating-point numbers
    return np.arange(n_images)[chosen if chosen.size else chosen.astype(np.int64)]


class ImageFiles(Dataset[Any]):
    """Images of a folder or a zip file, decoded when they are asked for.

    Pixels come as stored in the file: EXIF orientation is not applied. Of 16 bits a colour the
    upper eight are kept; other depths are refused.

    Nothing is read ahead and nothing is kept. Copies in other processes (workers of a data loader,
    jobs) open the files themselves.

    Parameters
    ----------
    root : str or Path
        A folder, or a zip file, which is read without extracting it.
    filenames : sequence of str
        The images, relative to ``root``, with forward slashes.

    Raises
    ------
    FileNotFoundError
        If ``root`` or an image does not exist.
    OSError
        If a file or folder cannot be read.
    ValueError
        If ``root`` is a file that is no zip file.

    See Also
    --------
    decode_images : Decode them all, once.
    ImageRows : Give them to a net, with a transform.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from PIL import Image
    >>> from grmu_sk.datasets import ImageFiles
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGB", (40, 30), "red").save(pathlib.Path(folder, "red.png"))
    ...     images = ImageFiles(folder, ["red.png"])
    ...     images[0].shape, images[0][:, 0, 0].tolist()
    (torch.Size([3, 30, 40]), [255, 0, 0])
    """

    #: An image is the same each time it is asked for.
    is_augmented = False

    def __init__(self, root: str | os.PathLike[str] | Source, filenames: Sequence[str]) -> None:
        how = "Give the folder or zip file that holds the images."
        self._source = root if isinstance(root, Source) else Source(root, how)
        self.filenames = list(filenames)
        self.signatures()

    def signatures(self) -> list[tuple[int, int]]:
        """Return size and time of change (or checksum, in a zip file) of each image."""
        there = self._source.signatures(self.filenames)
        if None in there:
            first = self._source.where(self.filenames[there.index(None)])
            raise FileNotFoundError(
                f"{there.count(None)} of the {len(there)} images in {self._source} do not exist: "
                f"{first} for one. {self._source.how_to_get}"
            )
        return there  # type: ignore[return-value]

    def take(self, rows: ArrayLike) -> ImageFiles:
        """Return a data set of some of the images.

        Parameters
        ----------
        rows : array-like of int or bool
            Row numbers, or a mask.

        Returns
        -------
        ImageFiles
            The same folder or zip file.

        Raises
        ------
        IndexError
            If a row number is out of range.
        ValueError
            If they are neither row numbers nor a mask of the length of the data set.
        """
        taken = copy.copy(self)
        taken.filenames = [self.filenames[row] for row in check_rows(rows, len(self))]
        return taken

    def __len__(self) -> int:
        return len(self.filenames)

    def __getitem__(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.pixels(row)).permute(2, 0, 1)

    def pixels(self, row: int) -> NDArray[np.uint8]:
        """Return an image as it is in its file.

        Parameters
        ----------
        row : int
            Row number.

        Returns
        -------
        ndarray of shape (height, width, 3), uint8
            Red, green and blue.

        Raises
        ------
        IndexError
            If there is no such row.
        FileNotFoundError
            If the file is not there any more.
        ValueError
            If the file cannot be decoded.
        """
        name = self.filenames[row]
        try:
            return _decoded(self._source.read(name))
        except FileNotFoundError:
            raise
        except Exception as error:  # Pillow has many for what is damaged, no image, or a bomb
            where = self._source.where(name)
            raise ValueError(f"Row {row}, {where}, cannot be decoded: {error}") from error


def _decoded(raw: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(raw)) as image:
        if image.mode.startswith("I;16"):  # which Pillow would clip to white
            grey = (np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if image.mode in ("I", "F"):
            raise ValueError(f"nobody knows what is white in its mode {image.mode!r}")
        # straight from a palette with transparency, Pillow would warn
        whole = image.convert("RGBA") if image.mode == "P" else image
        return np.array(whole.convert("RGB"))


# decoded once ------------------------------------------------------------------------------------
#
# The file is an ordinary .npy file, which np.load can map, followed by a digest of what it was made
# from, and a mark. It is put in place when whole, so whoever finds the file finds all of it, and
# two writers do not mix.


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
        The images.
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
    if cache_path is None:
        return np.stack(list(_decoded_images(files, size, centre_crop, n_jobs)))
    path = Path(cache_path).absolute()
    require_replaceable(path)  # reading a pipe would wait for ever
    height, width = files.pixels(0).shape[:2] if size is None else (size, size)
    shape = (len(files), int(height), int(width), 3)
    digest = _digest(files, size, centre_crop, shape)
    # until it is ours: another process may put an array of other images there
    while (cached := open_cache(path, digest)) is None:
        _write_cache(path, _decoded_images(files, size, centre_crop, n_jobs), shape, digest)
    return cached


def open_cache(path: Path, digest: bytes | None) -> np.memmap[Any, Any] | None:
    """Map an array that was made from what the digest stands for, read-only; None if there is none.

    Parameters
    ----------
    path : Path
        The file.
    digest : bytes or None
        Of what it must have been made from.

    Returns
    -------
    memmap or None
        The array.
    """
    is_ours = digest is not None and digest_of_cache(path) == digest
    return np.load(path, mmap_mode="r") if is_ours else None


def digest_of_cache(path: Path) -> bytes | None:
    """Return what a file says it was made from; None if it is missing or not whole."""
    try:
        with open(path, "rb") as file:
            file.seek(-(32 + len(MARK)), os.SEEK_END)
            foot = file.read()
    except OSError:  # nor can one go back from the end of a short file
        return None
    return foot[:32] if foot.endswith(MARK) else None


def _digest(files: ImageFiles, size: int | None, centre_crop: bool, shape: Sequence[int]) -> bytes:
    """Return what tells apart any two arrays that differ."""
    decoder = [PIL.__version__, features.version("jpg"), version("torchvision")]
    crop = None if size is None else bool(centre_crop)
    digest = hashlib.sha256(json.dumps([FORMAT, shape, crop, decoder]).encode())
    for name, signature in zip(files.filenames, files.signatures(), strict=True):
        digest.update(json.dumps([name, *signature]).encode())
    return digest.digest()


def _decoded_images(
    files: ImageFiles, size: int | None, centre_crop: bool, n_jobs: int | None
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images in order, as they are decoded, so that few are in memory."""

    def decode(row: int) -> NDArray[np.uint8]:
        if size is None:
            return files.pixels(row)
        resized = resize_images(files[row], size, centre_crop=centre_crop)
        return np.ascontiguousarray(resized.permute(1, 2, 0).numpy())

    parallel = Parallel(n_jobs, prefer="threads", return_as="generator")
    images = parallel(delayed(decode)(row) for row in range(len(files)))
    progress = tqdm(images, "decoding images", len(files), unit="image", disable=None)
    first = None
    for row, image in enumerate(progress):
        first = first or image.shape
        if image.shape != first:
            raise ValueError(
                f"Images differ in size: row 0 has shape {first}, row {row} {image.shape}. Give "
                "size=... to bring all to one size."
            )
        yield image


def _write_cache(
    path: Path, images: Iterator[NDArray[np.uint8]], shape: tuple[int, ...], digest: bytes
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, header)
    pixels = (image.data for image in images)
    write_atomically(path, chain([head.getvalue()], pixels, [digest + MARK]))


# as a net takes them -----------------------------------------------------------------------------


class ImageRows(Dataset[Any]):
    """Rows of images with a transform, for ``fit`` and ``predict``.

    A copy in another process maps a cached array anew; the pixels are not sent.

    Parameters
    ----------
    images : ndarray or tensor of shape (n_images, height, width, 3), uint8, or ImageFiles
        Decoded images, such as :func:`decode_images` returns, or files to decode each time.
    transform : callable or None, default=None
        Applied to each image, a uint8 tensor of shape (3, height, width). If it has a method
        ``batch``, several images of equal size are given to that at once. None only scales the
        pixels to [-1, 1].
    rows : array-like of int or bool, or None, default=None
        Which images are the rows, as numbers or a mask. None means all.

    Raises
    ------
    ValueError
        If ``images`` is of another type or shape, or ``rows`` holds no row numbers.
    IndexError
        If there is no such image.

    See Also
    --------
    TrainingTransform : Random parts of the images.
    EvaluationTransform : The same part every time.

    Examples
    --------
    >>> import numpy as np
    >>> from grmu_sk.datasets import ImageRows, TrainingTransform
    >>> images = np.zeros((10, 40, 30, 3), dtype=np.uint8)
    >>> ImageRows(images, TrainingTransform(32), rows=[1, 4, 7]).batch([0, 2]).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(
        self,
        images: NDArray[np.uint8] | torch.Tensor | ImageFiles,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        rows: ArrayLike | None = None,
    ) -> None:
        if not isinstance(images, ImageFiles) and (
            images.dtype not in (np.uint8, torch.uint8) or images.ndim != 4 or images.shape[-1] != 3
        ):
            raise ValueError(
                f"images must be uint8 of shape (n, height, width, 3), got {images.shape}."
            )
        self.images = images
        self.transform = transform
        self.rows = check_rows(rows, len(images))

    @property
    def is_augmented(self) -> bool:
        """Whether the same row may come out differently each time."""
        return self.transform is not None and getattr(self.transform, "is_random", True)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.batch([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[torch.Tensor]:
        return list(self.batch(rows))

    def batch(self, rows: ArrayLike) -> torch.Tensor:
        """Return some rows as one tensor.

        Parameters
        ----------
        rows : array-like of int
            Row numbers.

        Returns
        -------
        tensor of shape (n, 3, height, width)
            float32, unless the transform returns something else.

        Raises
        ------
        ValueError
            If ``rows`` holds no row numbers.
        IndexError
            If there is no such row.
        """
        wanted = self.rows[check_rows(rows, len(self))]
        if not isinstance(self.images, ImageFiles):
            return self._transformed(self._pixels(wanted).permute(0, 3, 1, 2))
        images = [self.images[row] for row in wanted]
        if len({image.shape for image in images}) > 1:
            return torch.stack([self._transformed(image[None])[0] for image in images])
        return self._transformed(torch.stack(images))

    def _pixels(self, wanted: NDArray[np.int64]) -> torch.Tensor:
        images: Any = self.images
        if isinstance(images, torch.Tensor):
            return images[torch.from_numpy(wanted).to(images.device)]
        return torch.from_numpy(np.asarray(images[wanted]))

    def _transformed(self, images: torch.Tensor) -> torch.Tensor:
        if self.transform is None:
            return normalize_images(images)
        if hasattr(self.transform, "batch"):
            return self.transform.batch(images)
        return torch.stack([self.transform(image) for image in images])

    def take(self, rows: ArrayLike) -> ImageRows:
        """Return some of the rows as another data set on the same images.

        Parameters
        ----------
        rows : array-like of int or bool
            Row numbers, or a mask.

        Returns
        -------
        ImageRows
            The same images and transform.

        Raises
        ------
        ValueError
            If ``rows`` holds no row numbers.
        IndexError
            If there is no such row.
        """
        taken = copy.copy(self)
        taken.rows = self.rows[check_rows(rows, len(self))]
        return taken

    def to(self, device: torch.device | str) -> ImageRows:
        """Return the rows with their pixels in the memory of a device, where transforms then run.

        Decoded once and kept there as bytes, images need not be read or sent again: three bytes a
        pixel, one fourth of what batches of them take. Random draws are those of the CPU.

        Parameters
        ----------
        device : torch.device or str
            Such as ``"cuda"``.

        Returns
        -------
        ImageRows
            The same rows; nothing is shared with this one.

        Raises
        ------
        ValueError
            If the images are files that differ in size: decode them to one size first, with
            :func:`decode_images`.

        Examples
        --------
        >>> import numpy as np
        >>> from grmu_sk.datasets import ImageRows, TrainingTransform
        >>> images = np.zeros((10, 40, 30, 3), dtype=np.uint8)
        >>> rows = ImageRows(images, TrainingTransform(32), rows=[1, 4, 7])
        >>> rows.to("cpu").batch([0, 2]).shape
        torch.Size([2, 3, 32, 32])
        """
        if isinstance(self.images, ImageFiles):
            pixels = torch.from_numpy(decode_images(self.images.take(self.rows)))
        else:
            pixels = self._pixels(self.rows)
        return ImageRows(pixels.to(device), self.transform)

    def precompute(self) -> torch.Tensor:
        """Return all rows, transformed, as one tensor: the quickest input for small images.

        The values are those that fetching the rows gives. They take twelve bytes a pixel.

        Returns
        -------
        tensor of shape (n_rows, 3, height, width), float32
            The rows.

        Raises
        ------
        ValueError
            If the transform is random, so that there is no one value to keep.
        """
        if self.is_augmented:
            raise ValueError("The transform is random: it may give another image each time.")
        parts = np.split(np.arange(len(self)), range(PRECOMPUTE_BATCH, len(self), PRECOMPUTE_BATCH))
        return torch.cat([self.batch(part) for part in parts])

    def __getstate__(self) -> dict[str, Any]:
        images: Any = self.images
        path = getattr(images, "filename", None)  # of a memory map
        digest = None if path is None else digest_of_cache(path)
        whole = None if path is None else open_cache(path, digest)
        if whole is None or whole.shape != images.shape:  # pixels of something else
            return self.__dict__
        return self.__dict__ | {"images": (path, digest)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(cached := self.images, tuple):
            self.images = open_cache(*cached)
            if self.images is None:
                raise FileNotFoundError(
                    f"{cached[0]} is gone, or holds other images: decode again."
                )
