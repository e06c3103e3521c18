"""Images as a net takes them: decoded, transformed, fetched in whole batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from .image_cache import decode_images, open_cache, read_origin
from .image_files import ImageFiles, check_rows
from .image_transforms import normalize_images

__all__ = ["ImageRows"]

PRECOMPUTE_BATCH = 256


class ImageRows(Dataset[torch.Tensor]):
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
    TypeError
        If ``images`` is something else.
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
        if not isinstance(images, ImageFiles):
            _check_images(images)
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
        if isinstance(self.images, ImageFiles):
            files = self.images.with_transform(None)
            images = [files[row] for row in wanted]
            if len({image.shape for image in images}) > 1:
                return torch.stack([self._transformed(image[None])[0] for image in images])
            return self._transformed(torch.stack(images))
        return self._transformed(_pixels(self.images, wanted).permute(0, 3, 1, 2))

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
        TypeError
            If ``device`` is of another kind.
        ValueError
            If there is no such device here, or the images are files that differ in size: decode
            them to one size first, with :func:`decode_images`.

        Examples
        --------
        >>> import numpy as np
        >>> from grmu_sk.datasets import ImageRows, TrainingTransform
        >>> images = np.zeros((10, 40, 30, 3), dtype=np.uint8)
        >>> rows = ImageRows(images, TrainingTransform(32), rows=[1, 4, 7])
        >>> rows.to("cpu").batch([0, 2]).shape
        torch.Size([2, 3, 32, 32])
        """
        place = _device(device)
        moved = copy.copy(self)
        if isinstance(self.images, ImageFiles):
            pixels = torch.from_numpy(decode_images(self.images.take(self.rows)))
        else:
            pixels = _pixels(self.images, self.rows)
        moved.images, moved.rows = pixels.to(place), np.arange(len(self))
        return moved

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
            raise ValueError(
                f"{self.transform!r} gives another image each time, or does not say that it does "
                "not (is_random = False). Only a fixed transform can be computed in advance."
            )
        starts = range(0, len(self), PRECOMPUTE_BATCH)
        numbers = np.arange(len(self))
        first = self.batch(numbers[:PRECOMPUTE_BATCH])
        whole = torch.empty((len(self), *first.shape[1:]), dtype=first.dtype)
        for start in starts:
            part = numbers[start : start + PRECOMPUTE_BATCH]
            whole[start : start + len(part)] = self.batch(part)
        return whole

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        cache = _cache_of(self.images)
        if cache is not None:
            state["images"] = _Cached(*cache)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["images"], _Cached):
            state = state | {"images": state["images"].open()}
        self.__dict__.update(state)

    def __repr__(self) -> str:
        return f"ImageRows({len(self)} rows, transform={self.transform!r})"


class _Cached:
    """Stands for a cached array in a pickle."""

    def __init__(self, path: Path, origin: dict[str, Any]) -> None:
        self.path = path
        self.origin = origin

    def open(self) -> NDArray[np.uint8]:
        images = open_cache(self.path, self.origin)
        if images is None:
            raise FileNotFoundError(
                f"The images decoded into {self.path} are not there any more, or were replaced by "
                "others. Decode them again with decode_images."
            )
        return images


def _cache_of(images: Any) -> tuple[Path, dict[str, Any]] | None:
    """Return file and origin of an array that is a whole cache."""
    if not isinstance(images, np.memmap) or images.filename is None:
        return None
    path = Path(images.filename)
    origin = read_origin(path)
    if origin is None or tuple(origin["shape"]) != images.shape:
        return None
    return path, origin


def _pixels(images: NDArray[np.uint8] | torch.Tensor, wanted: NDArray[np.int64]) -> torch.Tensor:
    if isinstance(images, torch.Tensor):
        return images[torch.from_numpy(wanted).to(images.device)]
    return torch.from_numpy(np.asarray(images[wanted]))


def _device(device: Any) -> torch.device:
    """Return a device that is here."""
    if not isinstance(device, torch.device | str):
        raise TypeError(f"device must be a torch.device or a text, got a {type(device).__name__}.")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for a GPU
        raise ValueError(f"There is no device {str(device)!r} here: {error}") from error
    return place


def _check_images(images: Any) -> None:
    if not isinstance(images, np.ndarray | torch.Tensor):
        raise TypeError(
            f"images must be an array, a tensor or ImageFiles, got {type(images).__name__}."
        )
    if isinstance(images, torch.Tensor) and images.layout is not torch.strided:
        raise TypeError(f"images must be a dense tensor, got one of layout {images.layout}.")
    if images.dtype not in (np.uint8, torch.uint8) or images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(
            "images must be uint8 of shape (n_images, height, width, 3), got "
            f"{images.dtype} of shape {tuple(images.shape)}."
        )
