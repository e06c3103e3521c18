"""Where a data set lies: a folder, or a zip file of the same layout."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

__all__ = ["Source", "find_source", "image_names", "open_source", "require_all_listed"]

#: Those that torchvision's ImageFolder reads.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")

#: Identity of a file's content, as far as it can be told without reading it.
Signature = tuple[int, int]


class Source(ABC):
    """Files under a root, addressed by their path relative to it, with forward slashes.

    Parameters
    ----------
    path : str or Path
        The folder or zip file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()  # jobs may run in another folder

    def __str__(self) -> str:
        return str(self.path)

    def where(self, name: str) -> str:
        """Return the place of a file, for people to read."""
        return f"{self.path}{os.sep}{name}"

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a file."""

    @abstractmethod
    def signatures(self, names: Iterable[str]) -> list[Signature | None]:
        """Return size and mark of change of each file, None for one that does not exist."""

    @abstractmethod
    def files_under(self, folder: str) -> list[str]:
        """Return the files in a folder and in those below it, in order."""

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return self.signatures([name])[0] is not None


class Folder(Source):
    """Files below a folder; the mark of change is the time of the last one."""

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        self._require_inside(name)
        return (self.path / name).read_bytes()

    def _require_inside(self, name: str) -> None:
        """Refuse a name that leads out of the folder: label files may come from strangers."""
        if os.path.isabs(name) or (".." in name and ".." in PurePath(name).parts):
            raise ValueError(
                f"The file name {name!r} leads out of {self.path}. Names have to be relative to "
                "that folder, without '..'."
            )

    def signatures(self, names: Iterable[str]) -> list[Signature | None]:
        """Return size and time of the last change in nanoseconds of each file."""
        found: list[Signature | None] = []
        for name in names:
            self._require_inside(name)
            try:
                facts = os.stat(os.path.join(self.path, name))
            except (FileNotFoundError, NotADirectoryError):
                found.append(None)
            else:
                found.append((facts.st_size, facts.st_mtime_ns))
        return found

    def files_under(self, folder: str) -> list[str]:
        """Return the files in a folder and in those below it, in order."""
        names = (
            Path(at, file).relative_to(self.path).as_posix()
            for at, _, files in os.walk(self.path / folder)
            for file in files
        )
        return sorted(names)


class ZipFile(Source):
    """Files of a zip file below one folder in it; the mark of change is the checksum.

    The file is opened once in each process and thread, because a position in an open file cannot
    be shared.

    Parameters
    ----------
    path : str or Path
        The zip file.
    prefix : str, default=""
        Folder inside the zip file that stands for the root, with a slash at its end.
    """

    def __init__(self, path: str | os.PathLike[str], prefix: str = "") -> None:
        super().__init__(path)
        self.prefix = prefix
        self._opened = _Opened()
        self._archive()  # an error about the file is best raised now

    def where(self, name: str) -> str:
        """Return the place of a file, for people to read."""
        return f"{self.prefix}{name} in {self.path}"

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        try:
            return self._archive().read(self.prefix + name)
        except KeyError:
            raise FileNotFoundError(f"There is no {self.where(name)}.") from None
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{self.where(name)} is damaged ({error}).") from error

    def signatures(self, names: Iterable[str]) -> list[Signature | None]:
        """Return size and checksum of each file."""
        members = {info.filename: info for info in self._archive().infolist()}
        infos = (members.get(self.prefix + name) for name in names)
        return [None if info is None else (info.file_size, info.CRC) for info in infos]

    def files_under(self, folder: str) -> list[str]:
        """Return the files in a folder and in those below it, in order."""
        start = self.prefix + (f"{folder.rstrip('/')}/" if folder else "")
        return sorted(
            name[len(self.prefix) :]
            for name in self._archive().namelist()
            if name.startswith(start) and not name.endswith("/")
        )

    def names(self) -> list[str]:
        """Return the names of all files in the zip file, whatever the prefix."""
        return self._archive().namelist()

    def _archive(self) -> zipfile.ZipFile:
        owner = (os.getpid(), threading.get_ident())
        if self._opened.owner != owner:
            try:
                self._opened.archive = zipfile.ZipFile(self.path)
            except zipfile.BadZipFile as error:
                raise ValueError(
                    f"{self.path} is not a whole zip file ({error}). Get it again; the download "
                    "may have been cut short."
                ) from None
            self._opened.owner = owner
        return self._opened.archive

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "prefix": self.prefix, "_opened": _Opened()}


class _Opened(threading.local):
    """A zip file as one thread of one process has it open."""

    owner: tuple[int, int] | None = None
    archive: zipfile.ZipFile

    def __reduce__(self) -> tuple[Any, ...]:
        return _Opened, ()


def open_source(path: str | os.PathLike[str], how_to_get: str) -> Source:
    """Open a folder or zip file.

    Parameters
    ----------
    path : str or Path
        The folder or zip file.
    how_to_get : str
        Where the data come from, for the error message.

    Returns
    -------
    Source
        Its files.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file.
    ValueError
        If it is a file but no zip file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return ZipFile(path)
    raise FileNotFoundError(
        f"There is no {path}; a folder or a zip file with the data was expected. {how_to_get}"
    )


def find_source(
    path: str | os.PathLike[str],
    markers: Sequence[str],
    how_to_get: str,
    *,
    subfolders: Sequence[str] = (),
) -> Source:
    """Find the folder that holds certain files, at a place or below it.

    Parameters
    ----------
    path : str or Path
        A folder or zip file.
    markers : sequence of str
        Files that must all be there.
    how_to_get : str
        Where the data come from, for the error message.
    subfolders : sequence of str, default=()
        Where else to look inside a folder. A zip file is searched as a whole.

    Returns
    -------
    Source
        The files, relative to the folder with the markers.

    Raises
    ------
    FileNotFoundError
        If the files are not there.
    """
    source = open_source(path, how_to_get)
    roots = _roots_in_zip(source, markers[0]) if isinstance(source, ZipFile) else subfolders
    candidates = [source, *(_below(source, root) for root in roots)]
    for candidate in candidates:
        if all(candidate.has(marker) for marker in markers):
            return candidate
    # the most telling candidate is the one where only some of the files are missing
    nearest = max(candidates, key=lambda place: sum(map(place.has, markers)))
    missing = [marker for marker in markers if not nearest.has(marker)]
    places = "" if len(candidates) == 1 else f" (nor below {', '.join(subfolders) or 'it'})"
    raise FileNotFoundError(
        f"There is no {' and no '.join(missing)} in {_place(nearest)}{places}. Expected there: "
        f"{', '.join(markers)}. {how_to_get}"
    )


def _below(source: Source, folder: str) -> Source:
    if isinstance(source, ZipFile):
        return ZipFile(source.path, folder)
    return Folder(source.path / folder)


def _place(source: Source) -> str:
    prefix = getattr(source, "prefix", "")
    return f"{prefix} in {source.path}" if prefix else str(source.path)


def _roots_in_zip(source: ZipFile, marker: str) -> list[str]:
    """Return the folders of a zip file that hold the marker, the outermost first."""
    ends = f"/{marker}"
    found = {name[: -len(marker)] for name in source.names() if name.endswith(ends)}
    return sorted(found, key=lambda name: (len(PurePosixPath(name).parts), name))


def image_names(source: Source, folder: str) -> list[str]:
    """Return the images in a folder and in those below it, in order."""
    return [
        name
        for name in source.files_under(folder)
        if name.lower().endswith(IMAGE_ENDINGS) and not name.startswith("__MACOSX/")
    ]


def require_all_listed(
    source: Source, folders: Sequence[str], listed: Iterable[str], labels: str, how_to_get: str
) -> None:
    """Raise ValueError if there are images that a label file does not list.

    Parameters
    ----------
    source : Source
        Where the images are.
    folders : sequence of str
        Folders that hold nothing but the images of the label file.
    listed : iterable of str
        Images that have a row.
    labels : str
        The label file.
    how_to_get : str
        Where the data come from.
    """
    there = [name for folder in folders for name in image_names(source, folder)]
    names = set(listed)
    without = [name for name in there if name not in names]
    if without:
        raise ValueError(
            f"{labels} has {len(names)} rows, but {len(there)} images are in {source}: "
            f"{len(without)} have no row, {without[0]} for one. The label file is cut short, or "
            "belongs to other images; if it is a part on purpose, read it with load_image_table. "
            f"{how_to_get}"
        )
