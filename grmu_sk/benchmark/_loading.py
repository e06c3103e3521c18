"""From a reader of :mod:`grmu_sk.datasets` to the rows of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import Bunch

from ..groups import Pair
from .splits import Split, Splits

__all__ = ["ImageLoader", "TableLoader", "TextLoader", "adult_columns", "load_digits_problem"]

# More than this is read when needed, instead of being held in memory.
MOST_BYTES_IN_MEMORY = 2**30


def load_digits_problem(seed: int) -> Splits:
    """Return the built-in digits, drawn with a seed."""
    from ..datasets import load_digits_on_backgrounds

    return Splits.from_bunch("digits", load_digits_on_backgrounds(random_state=seed))


@dataclass(frozen=True)
class ImageLoader:
    """Reads photographs: cut, resized and, for training, augmented as in the paper.

    Parameters
    ----------
    name : str
        The problem.
    reader : str
        A function of :mod:`grmu_sk.datasets`.
    reader_options : dict
        Its arguments.
    is_seeded : bool
        Whether it cuts the data at random.
    root : Path
        The data.
    group : tuple
        The group (y, a) that the paper forgets.
    image_size : int
        Side of the square images, in pixels.
    augment : bool
        Whether to offer training transforms.
    cache_dir : Path or None
        Folder for decoded images.
    has_equal_sizes : bool
        Whether all files have the same size, so that they can be kept undistorted in one array.
    """

    name: str
    reader: str
    reader_options: dict[str, Any]
    is_seeded: bool
    root: Path | None
    group: Pair
    image_size: int
    augment: bool
    cache_dir: Path | None
    has_equal_sizes: bool

    def __call__(self, seed: int) -> Splits:
        """Return the splits of one run."""
        seeded = {"random_state": seed} if self.is_seeded else {}
        bunch = _read(self.reader, self.root, **self.reader_options, **seeded)
        images = self._evaluation_images(bunch)
        parts = {
            split: self._evaluation_rows(images, bunch, bunch[split])
            for split in ("train", "validation", "test")
        }
        augmented = self._training_rows(bunch) if self.augment else None
        return _splits(self.name, bunch, parts, self.group, augmented)

    def _evaluation_images(self, bunch: Bunch) -> Any:
        """Return the images at their final size if they can be held, else the files."""
        from ..datasets import decode_images

        n_bytes = len(bunch.data) * 3 * self.image_size**2
        if self.cache_dir is None and n_bytes > MOST_BYTES_IN_MEMORY:
            return bunch.data
        return decode_images(
            bunch.data,
            self._cache_path(f"{self.image_size}"),
            size=self.image_size,
            centre_crop=bunch.centre_crop,
        )

    def _evaluation_rows(self, images: Any, bunch: Bunch, rows: NDArray[np.int64]) -> Any:
        from ..datasets import EvaluationTransform, ImageFiles, ImageRows

        # decoded images have been through the transform, save for the scaling of pixels
        transform = None
        if isinstance(images, ImageFiles):
            transform = EvaluationTransform(self.image_size, centre_crop=bunch.centre_crop)
        chosen = ImageRows(images, transform, rows)
        n_bytes = 4 * len(bunch.data) * 3 * self.image_size**2
        return chosen if n_bytes > MOST_BYTES_IN_MEMORY else chosen.precompute()

    def _training_rows(self, bunch: Bunch) -> Any:
        from ..datasets import ImageRows, TrainingTransform, decode_images

        images = bunch.data
        if self.has_equal_sizes:
            n_bytes = len(images) * int(np.prod(images.pixels(0).shape))
            if self.cache_dir is not None or n_bytes <= MOST_BYTES_IN_MEMORY:
                images = decode_images(images, self._cache_path("full"))
        return ImageRows(images, TrainingTransform(self.image_size), bunch.train)

    def _cache_path(self, size: str) -> Path | None:
        data_set = self.reader.removeprefix("load_")
        return None if self.cache_dir is None else self.cache_dir / f"{data_set}-{size}.npy"


@dataclass(frozen=True)
class TableLoader:
    """Reads a table, with the same columns whatever the seed.

    A category that no training row of a seed has would otherwise have no column, and the network
    another size.

    Parameters
    ----------
    name : str
        The problem.
    reader : str
        A function of :mod:`grmu_sk.datasets`.
    reader_options : dict
        Its arguments.
    root : Path
        The data.
    group : tuple
        The group (y, a) to forget.
    columns : tuple of str
        The features, in order.
    """

    name: str
    reader: str
    reader_options: dict[str, Any]
    root: Path | None
    group: Pair
    columns: tuple[str, ...]

    def __call__(self, seed: int) -> Splits:
        """Return the splits of one run."""
        bunch = _read(self.reader, self.root, **self.reader_options, random_state=seed)
        table = pd.DataFrame(bunch.data, columns=bunch.feature_names)
        data = table.reindex(columns=list(self.columns), fill_value=0).to_numpy(np.float32)
        parts = {split: data[bunch[split]] for split in ("train", "validation", "test")}
        return _splits(self.name, bunch, parts, self.group)


@dataclass(frozen=True)
class TextLoader:
    """Reads tokenised texts.

    Parameters
    ----------
    name : str
        The problem.
    reader : str
        A function of :mod:`grmu_sk.datasets`.
    root : Path
        The data.
    group : tuple
        The group (y, a) that the paper forgets.
    """

    name: str
    reader: str
    root: Path | None
    group: Pair

    def __call__(self, seed: int) -> Splits:
        """Return the splits of one run, which the data fix."""
        bunch = _read(self.reader, self.root)
        parts = {split: bunch.data[bunch[split]] for split in ("train", "validation", "test")}
        return _splits(self.name, bunch, parts, self.group)


def adult_columns(reader: str, root: Path | None) -> tuple[str, ...]:
    """Return a column for each number and each category that occurs in the files.

    Parameters
    ----------
    reader : str
        A function of :mod:`grmu_sk.datasets` that returns a ``frame``.
    root : Path
        The data.

    Returns
    -------
    tuple of str
        The names.
    """
    frame = _read(reader, root).frame.drop(columns="income")
    numbers = [name for name in frame if frame[name].dtype.kind in "iuf"]
    categories = [name for name in frame if name not in numbers]
    return (
        *numbers,
        *(f"{name}_{value}" for name in categories for value in sorted(frame[name].unique())),
    )


def _read(reader: str, root: Path | None, **options: Any) -> Bunch:
    from .. import datasets

    return getattr(datasets, reader)(root, **options)


def _splits(
    name: str, bunch: Bunch, parts: dict[str, Any], group: Pair, augmented: Any = None
) -> Splits:
    y = np.asarray(bunch.target_names)[bunch.target]
    a = np.asarray(bunch.group_names)[bunch.groups]
    train, validation, test = (
        Split(parts[split], y[bunch[split]], a[bunch[split]])
        for split in ("train", "validation", "test")
    )
    return Splits(name, train, validation, test, [group], augmented)
