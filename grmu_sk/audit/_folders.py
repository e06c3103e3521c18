"""Go through files and folders without leaving them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..utils.arguments import about
from ._scanner import Scanner


def scan_path(scanner: Scanner, path: Path) -> None:
    """Search a file, or all files of a folder; symbolic links in it are not followed.

    Parameters
    ----------
    scanner : Scanner
        Takes what is found.
    path : Path
        A file or a folder.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    OSError
        If a file that was named itself cannot be read.
    """
    with about("path_or_object"):  # what scan_residue calls it
        path = Path(os.path.realpath(path, strict=True))
    if path.is_dir():
        _scan_folder(scanner, path)
        return
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is neither a file nor a folder and cannot be scanned.")
    _scan_regular(scanner, path, path.name)


def _scan_folder(scanner: Scanner, root: Path) -> None:
    def unreadable(error: OSError) -> None:
        scanner.note(f"{error.filename}: cannot be listed ({error.strerror})")

    for folder, folders, files in os.walk(root, followlinks=False, onerror=unreadable):
        folders.sort()
        for name in sorted([*files, *(name for name in folders if _is_link(folder, name))]):
            path = Path(folder, name)
            place = path.relative_to(root).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if not _leads_inside(path, root):
                    scanner.note(f"{place}: a symbolic link out of the folder, not followed")
            elif stat.S_ISREG(mode):
                try:
                    _scan_regular(scanner, path, place)
                except OSError as error:
                    scanner.note(f"{place}: cannot be read ({error.strerror or error})")
            else:
                scanner.note(f"{place}: neither file nor folder, not opened")


def _is_link(folder: str, name: str) -> bool:
    return os.path.islink(os.path.join(folder, name))


def _leads_inside(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def _scan_regular(scanner: Scanner, path: Path, place: str) -> None:
    # a file may be exchanged for a link or a pipe after it was looked at
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            scanner.note(f"{place}: changed while it was scanned, not opened")
            return
        scanner.scan_file(place, file)
