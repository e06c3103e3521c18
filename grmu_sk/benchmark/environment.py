"""Where a job ran, and how much memory it took."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

import torch

__all__ = ["PeakMemory", "environment"]

PACKAGES = (
    "grmu_sk",
    "torch",
    "torchvision",
    "skorch",
    "scikit-learn",
    "numpy",
    "scipy",
    "pandas",
    "joblib",
    "pillow",
)
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)
_MB = 2**20


def environment(device: str) -> dict[str, Any]:
    """Return versions and hardware, as plain values.

    Parameters
    ----------
    device : str
        Where the net runs.

    Returns
    -------
    dict
        Python, operating system, processor, cores, threads of torch, device and its name, and the
        versions of the packages that matter.
    """
    kind = torch.device(device).type
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name(device) if kind == "cuda" else None,
        "cuda": torch.version.cuda if kind == "cuda" else None,
        "versions": _versions(),
    }


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # a source tree, or an optional package
            continue
    return found


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


class PeakMemory:
    """Measures the most memory that was in use within a block.

    On a GPU it is what tensors took there. On a CPU it is the process's resident memory; its
    record is reset when the block begins, where the system allows that (Linux), so that a process
    that does one job after another measures each by itself.

    Parameters
    ----------
    device : str
        Where the net runs.

    Attributes
    ----------
    megabytes : float or None
        After the block; None where the system does not tell.
    scope : {"job", "process"}
        Whether it is the peak of the block, or of the process so far.

    Examples
    --------
    >>> from grmu_sk.benchmark.environment import PeakMemory
    >>> with PeakMemory("cpu") as peak:
    ...     block = bytearray(2**24)
    >>> peak.megabytes > 16
    True
    """

    megabytes: float | None = None
    scope = "process"

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.scope = "job"
        else:
            self.scope = "job" if _reset_resident_peak() else "process"
        return self

    def __exit__(self, *exception: object) -> None:
        if self.device.type == "cuda":
            self.megabytes = torch.cuda.max_memory_allocated(self.device) / _MB
        else:
            self.megabytes = _resident_peak()


def _reset_resident_peak() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _resident_peak() -> float | None:
    try:
        for line in _STATUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (_MB if sys.platform == "darwin" else 1024)
