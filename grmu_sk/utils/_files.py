"""What the writers of files have in common."""

from __future__ import annotations

import stat
from pathlib import Path


def require_replaceable(path: Path) -> None:
    """Refuse a place where a file must not be put.

    Writers here move a whole new file into place. Moved onto a device or a pipe it would take its
    place for good: root may replace even ``/dev/null``.

    Parameters
    ----------
    path : Path
        Where a file is to be.

    Raises
    ------
    OSError
        If a folder, a device, a pipe or a socket is there.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder: give the name of a file.")
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is a device or a pipe, and must not be replaced by a file.")
