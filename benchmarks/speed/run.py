"""Measure every row of the speed table, print it as Markdown and keep it as JSON.

Each file of this folder with a function ``measure(repetitions)`` that yields rows takes part. It is
a benchmark: a missed target is printed, and nothing fails.

    python benchmarks/speed/run.py
    python benchmarks/speed/run.py loop evaluation --repetitions 15
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import time
from pathlib import Path

import click
import torch
from harness import HEADER

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "speed.json"
PACKAGES = ("grmu-sk", "torch", "torchvision", "skorch", "numpy", "scikit-learn")


def parts() -> list[str]:
    """Return the names of the files that measure something."""
    names = sorted(path.stem for path in HERE.glob("*.py"))
    return [name for name in names if "\ndef measure(" in (HERE / f"{name}.py").read_text()]


def environment() -> dict[str, str]:
    """Return what the numbers depend on."""
    found = {distribution.name for distribution in importlib.metadata.distributions()}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES if name in found},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@click.command()
@click.argument("names", nargs=-1)
@click.option("--repetitions", default=9, show_default=True, help="Pairs of runs a row.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(names, repetitions, out):
    """Print the table; without NAMES, all of it."""
    torch.set_num_threads(1)
    kept = json.loads(out.read_text()) if out.exists() else {}
    print(HEADER, flush=True)
    for name in names or parts():
        rows = []
        for row in importlib.import_module(name).measure(repetitions):
            print(row.as_markdown(), flush=True)
            rows.append(row)
        kept[name] = {"environment": environment(), "rows": [row.as_dict() for row in rows]}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(kept, indent=1) + "\n")
    print("\n" + ", ".join(f"{name} {value}" for name, value in environment().items()))


if __name__ == "__main__":
    main()
