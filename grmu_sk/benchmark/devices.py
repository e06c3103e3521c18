"""Which device a job may use: none is shared by two jobs unless that is asked for."""

from __future__ import annotations

import getpass
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import sleep

import torch

from .file_lock import FileLock

__all__ = ["DevicePool", "device_identity", "visible_devices"]

POLL_SECONDS = 0.2


def visible_devices() -> list[str]:
    """Return torch's names of the GPUs of this machine, or the CPU if it has none.

    Returns
    -------
    list of str
        Such as ``["cuda:0", "cuda:1"]`` or ``["cpu"]``.
    """
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def device_identity(device: str) -> str:
    """Return a name that processes with different numberings agree on.

    Parameters
    ----------
    device : str
        torch's name.

    Returns
    -------
    str
        For a GPU that torch sees, its UUID.
    """
    if torch.device(device).type == "cuda" and torch.cuda.is_available():
        return str(torch.cuda.get_device_properties(device).uuid)
    return device


class DevicePool:
    """Hands out devices to jobs of all processes of this machine and user.

    Each device has places, as many as jobs may share it. A place is a lock on a file, so that the
    place of a job that was killed is free again. The CPU is not counted.

    Parameters
    ----------
    devices : sequence of str
        torch's names.
    jobs_per_device : int, default=1
        How many jobs may share one.
    folder : Path or None, default=None
        Where the locks are; None takes one of the user's in the machine's temporary folder.
    identify : callable, default=device_identity
        From torch's name to one that all processes agree on.

    Raises
    ------
    ValueError
        If there is no device, or no job may use one.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from grmu_sk.benchmark.devices import DevicePool
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pool = DevicePool(["fake:0", "fake:1"], folder=Path(folder), identify=str)
    ...     with pool.device() as one, pool.device() as other:
    ...         one, other
    ('fake:0', 'fake:1')
    """

    def __init__(
        self,
        devices: Sequence[str],
        jobs_per_device: int = 1,
        folder: Path | None = None,
        identify: Callable[[str], str] = device_identity,
    ) -> None:
        if not devices:
            raise ValueError("devices is empty: name at least one, such as 'cpu' or 'cuda:0'.")
        if jobs_per_device < 1:
            raise ValueError(f"jobs_per_device must be at least 1, got {jobs_per_device!r}.")
        self.devices = list(devices)
        self.jobs_per_device = jobs_per_device
        self.folder = folder or _folder_of_user()
        self.identify = identify

    @contextmanager
    def device(self) -> Iterator[str]:
        """Wait for a free device and keep it for a block."""
        if "cpu" in self.devices:
            yield "cpu"
            return
        device, place = self._wait()
        try:
            yield device
        finally:
            place.release()

    def _wait(self) -> tuple[str, FileLock]:
        places = list(self._places())
        while True:
            for device, place in places:
                if place.acquire():
                    return device, place
            sleep(POLL_SECONDS)

    def _places(self) -> Iterator[tuple[str, FileLock]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        # an empty device before the second place of a busy one
        for number in range(self.jobs_per_device):
            for device in self.devices:
                name = re.sub(r"[^\w-]", "_", self.identify(device))
                yield device, FileLock(self.folder / f"{name}.{number}.lock")


def _folder_of_user() -> Path:
    user = "user"
    with suppress(OSError, KeyError):
        user = getpass.getuser()
    return Path(tempfile.gettempdir()) / f"grmu_sk-{user}" / "devices"
