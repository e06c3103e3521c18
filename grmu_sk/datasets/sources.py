"""Where a data set lies: a folder, or a zip file of the same layout."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path, PurePath

#: Those that torchvision's ImageFolder reads.
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class Source:
    """Files addressed by their path below a folder, or below one in a zip file, with slashes.

    Parameters
    ----------
    path : str or Path
        The folder or zip file.
    how_to_get : str
        Where the data come from, for error messages.
    prefix : str, default=""
        Folder inside the zip file that stands for the root, with a slash at its end.

    Raises
    ------
    FileNotFoundError
        If there is no such folder or file.
    ValueError
        If it is a file but no zip file.
    """

    def __init__(
        self, path: str | os.PathLike[str], how_to_get: str = "", *, prefix: str = ""
    ) -> None:
        self.path = Path(path).expanduser().absolute()  # jobs may run in another folder
        self.how_to_get = how_to_get
        self.prefix = prefix
        self.is_zip = self.path.is_file()
        if self.is_zip:
            self._archive()  # an error about the file is best raised now
        elif not self.path.is_dir():
            raise FileNotFoundError(f"There is no folder or zip file {path}. {how_to_get}")

    def __str__(self) -> str:
        return f"{self.prefix} in {self.path}" if self.prefix else str(self.path)

    def where(self, name: str) -> str:
        """Return the place of a file, for people to read."""
        is_zip, place = self.is_zip, self.path
        return f"{self.prefix}{name} in {place}" if is_zip else os.path.join(place, name)

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        if not self.is_zip:
            return Path(self._inside(name)).read_bytes()
        try:
            return self._archive().read(self.prefix + name)
        except KeyError:
            raise FileNotFoundError(f"There is no {self.where(name)}.") from None
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{self.where(name)} is damaged ({error}).") from error

    def signatures(self, names: Iterable[str]) -> list[tuple[int, int] | None]:
        """Return size and time of change (in a zip file: checksum); None where there is no file."""
        if self.is_zip:
            members = self._archive().NameToInfo
            infos = (members.get(self.prefix + name) for name in names)
            return [None if info is None else (info.file_size, info.CRC) for info in infos]
        paths = map(self._inside, names)
        facts = (os.stat(path) if os.path.exists(path) else None for path in paths)
        return [fact and (fact.st_size, fact.st_mtime_ns) for fact in facts]

    def has(self, name: str) -> bool:
        """Tell whether there is such a file."""
        return self.signatures([name])[0] is not None

    def names(self, folder: str = "") -> list[str]:
        """Return the files in a folder and in those below it, in order."""
        if self.is_zip:
            start = self.prefix + (f"{folder}/" if folder else "")
            files = (name for name in self._archive().namelist() if not name.endswith("/"))
            return sorted(name[len(self.prefix) :] for name in files if name.startswith(start))
        below = ((at, file) for at, _, files in os.walk(self.path / folder) for file in files)
        return sorted(Path(at, file).relative_to(self.path).as_posix() for at, file in below)

    def _inside(self, name: str) -> str:
        """Refuse a name that leads out of the folder: label files may be untrusted."""
        if os.path.isabs(name) or (".." in name and ".." in PurePath(name).parts):
            raise ValueError(f"The file name {name!r} leads out of {self.path}.")
        return os.path.join(self.path, name)

    def _archive(self) -> zipfile.ZipFile:
        # a position in an open file cannot be shared with another process
        return _open_zip(self.path, os.getpid(), self.path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _open_zip(path: Path, process: int, changed: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a whole zip file ({error}).") from None


def find_source(
    path: str | os.PathLike[str],
    markers: Sequence[str],
    how_to_get: str,
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
    source = Source(path, how_to_get)
    if source.is_zip:
        names = (name for name in source.names() if name.endswith(f"/{markers[0]}"))
        folders = sorted((name.removesuffix(markers[0]) for name in names), key=len)
        below = [Source(path, how_to_get, prefix=folder) for folder in folders]
    else:
        places = (source.path / name for name in subfolders)
        below = [Source(place, how_to_get) for place in places if place.is_dir()]
    # of several, the one where the fewest are missing
    best = max([source, *below], key=lambda place: sum(map(place.has, markers)))
    missing = [marker for marker in markers if not best.has(marker)]
    if missing:
        raise FileNotFoundError(f"There is no {' and no '.join(missing)} in {best}. {how_to_get}")
    return best


def require_all_listed(
    source: Source, folders: Sequence[str], listed: Iterable[str], labels: str
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
    """
    names, files = set(listed), chain.from_iterable(map(source.names, folders))
    # a Mac puts shadows of all files into its zip files
    there = [n for n in files if n.lower().endswith(IMAGE_ENDINGS) and "__MACOSX/" not in n]
    if without := [name for name in there if name not in names]:
        raise ValueError(
            f"{labels} has {len(names)} rows, but there are {len(there)} images, and {without[0]} "
            f"has none: it is cut short, or belongs to others. {source.how_to_get}"
        )
