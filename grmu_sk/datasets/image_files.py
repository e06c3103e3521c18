"""Photographs in files, read when they are asked for."""

from __future__ import annotations

import copy
import io
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset

from ..utils.arguments import check_types, to_array
from ._source import Source, open_source

__all__ = ["ImageFiles"]


class ImageFiles(Dataset[Any]):
    """Images of a folder or a zip file, decoded when they are asked for.

    Pixels come as they lie in the file: a camera's note to turn the picture (EXIF orientation) is
    not followed. Of 16 bits a colour the upper eight are kept; other depths are refused.

    Nothing is read ahead and nothing is kept. Copies in other processes (workers of a data loader,
    jobs) open the files themselves.

    Parameters
    ----------
    root : str or Path
        A folder, or a zip file, which is read without extracting it.
    filenames : sequence of str
        The images, relative to ``root``, with forward slashes.
    transform : callable or None, default=None
        Applied to each image, a uint8 tensor of shape (3, height, width).

    Raises
    ------
    FileNotFoundError
        If ``root`` or an image does not exist.
    OSError
        If a file or folder cannot be read.
    TypeError
        If an argument is of another kind.
    ValueError
        If ``root`` is a file that is no zip file.

    See Also
    --------
    decode_images : Decode them all, once.
    ImageRows : Decoded images with transforms, fetched in whole batches.

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

    def __init__(
        self,
        root: str | os.PathLike[str],
        filenames: Sequence[str],
        *,
        transform: Callable[[torch.Tensor], Any] | None = None,
    ) -> None:
        check_types(ImageFiles.__init__, locals())
        source = open_source(root, "Give the folder or zip file that holds the images.")
        if isinstance(filenames, str) or not all(isinstance(name, str) for name in filenames):
            raise TypeError("filenames must be a sequence of texts, one for each image.")
        self._set_up(source, np.asarray(list(filenames), dtype=object), transform)

    @classmethod
    def _from_source(
        cls, source: Source, filenames: Sequence[str], *, labels: str = "", how_to_get: str = ""
    ) -> ImageFiles:
        """Make one from files that are already open, with error messages of a reader."""
        images = cls.__new__(cls)
        names = np.asarray(list(filenames), dtype=object)
        images._set_up(source, names, None, labels, how_to_get)
        return images

    def _set_up(
        self,
        source: Source,
        filenames: NDArray[Any],
        transform: Callable[[torch.Tensor], Any] | None,
        labels: str = "the list of file names",
        how_to_get: str = "",
    ) -> None:
        self._source = source
        self._filenames = filenames
        self.transform = transform
        self._require_files(labels, how_to_get)

    def _require_files(self, labels: str, how_to_get: str) -> None:
        there = self._source.signatures(self._filenames)
        missing = [row for row, signature in enumerate(there) if signature is None]
        if missing:
            first = missing[0]
            raise FileNotFoundError(
                f"{len(missing)} of the {len(there)} images in {labels} do not exist, the first in "
                f"row {first}: {self._source.where(self._filenames[first])}. {how_to_get}".rstrip()
            )

    @property
    def filenames(self) -> list[str]:
        """The images, relative to the root."""
        return list(self._filenames)

    @property
    def is_augmented(self) -> bool:
        """Whether the same row may come out differently each time."""
        return self.transform is not None and getattr(self.transform, "is_random", True)

    def signatures(self) -> list[tuple[int, int]]:
        """Return size and time of change (or checksum, in a zip file) of each image."""
        self._require_files("this data set", "They were there when it was made.")
        return self._source.signatures(self._filenames)  # type: ignore[return-value]

    def take(self, rows: ArrayLike) -> ImageFiles:
        """Return a data set of some of the images.

        Parameters
        ----------
        rows : array-like of int or bool
            Row numbers, or a mask.

        Returns
        -------
        ImageFiles
            The same files and transform.

        Raises
        ------
        IndexError
            If a row number is out of range.
        ValueError
            If they are neither row numbers nor a mask of the length of the data set.
        """
        taken = copy.copy(self)
        taken._filenames = self._filenames[check_rows(rows, len(self))]
        return taken

    def with_transform(self, transform: Callable[[torch.Tensor], Any] | None) -> ImageFiles:
        """Return a data set of the same images with another transform.

        Parameters
        ----------
        transform : callable or None
            Applied to each image, a uint8 tensor of shape (3, height, width).

        Returns
        -------
        ImageFiles
            The same files.
        """
        changed = copy.copy(self)
        changed.transform = transform
        return changed

    def __len__(self) -> int:
        return len(self._filenames)

    def __getitem__(self, row: int) -> Any:
        if not -len(self) <= row < len(self):
            raise IndexError(f"There is no row {row} among {len(self)} images.")
        pixels = torch.from_numpy(self.pixels(row)).permute(2, 0, 1)
        return pixels if self.transform is None else self.transform(pixels)

    def __getitems__(self, rows: Sequence[int]) -> list[Any]:
        return [self[row] for row in rows]

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
        if not isinstance(row, int | np.integer) or isinstance(row, bool):
            raise TypeError(f"row must be a row number, got {row!r}.")
        if not -len(self) <= row < len(self):
            raise IndexError(f"row must lie in 0 to {len(self) - 1}, got {row}.")
        name = self._filenames[row]
        try:
            with Image.open(io.BytesIO(self._source.read(name))) as image:
                if image.mode.startswith("I;16"):  # which Pillow would clip to white
                    grey = (np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8)
                    return np.repeat(grey[:, :, None], 3, axis=2)
                if image.mode in ("I", "F"):
                    raise ValueError(
                        f"its pixels are of Pillow's mode {image.mode!r}, of which nobody knows "
                        "what is white: save it with 8 or 16 bits a colour"
                    )
                # straight from a palette with transparency, Pillow would warn
                whole = image.convert("RGBA") if image.mode == "P" else image
                return np.array(whole.convert("RGB"))
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"The image of row {row} is gone: {self._source.where(name)}."
            ) from error
        except _UNDECODABLE as e:
            raise ValueError(
                f"The image of row {row}, {self._source.where(name)}, cannot be decoded: {e}. "
                "If it is damaged or no image, get it again, or leave the row out."
            ) from e

    def __repr__(self) -> str:
        return f"ImageFiles({str(self._source)!r}, {len(self)} images)"


# what Pillow raises for a file that is no image, is damaged, or would unpack to gigabytes
_UNDECODABLE = (
    OSError,
    UnidentifiedImageError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def check_rows(rows: ArrayLike | None, n_images: int) -> NDArray[np.int64]:
    """Turn row numbers or a mask into row numbers; None means all."""
    if rows is None:
        return np.arange(n_images)
    numbers = to_array(rows, "rows")
    if numbers.dtype == bool:
        if numbers.shape != (n_images,):
            raise ValueError(
                f"rows is a mask of shape {numbers.shape}, but there are {n_images} images."
            )
        return np.flatnonzero(numbers)
    # no rows at all are an array of floating-point numbers
    if numbers.ndim != 1 or numbers.dtype.kind not in ("iu" if numbers.size else "iuf"):
        raise ValueError(f"rows must be whole numbers or a mask, got {rows!r}.")
    if numbers.size and (numbers.min() < 0 or numbers.max() >= n_images):
        raise IndexError(
            f"rows must lie in 0 to {n_images - 1}, got {numbers.min()} to {numbers.max()}."
        )
    return numbers.astype(np.int64)
