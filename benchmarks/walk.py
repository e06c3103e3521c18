"""Count the files and functions of the package that a row crosses.

    python benchmarks/walk.py

Once in a plain ``fit`` on the CPU, once from ``fit`` to the table of ``grmu demo`` (its figures
left out). Few of both is what makes a package easy to follow.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np

import grmu_sk
from grmu_sk.cli import main

HOME = Path(grmu_sk.__file__).parent


def walked(call):
    """Return the (file, function) pairs of the package that a call enters."""
    found = set()

    def note(frame, event, arg):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(HOME)):
            found.add((str(Path(code.co_filename).relative_to(HOME)), code.co_qualname))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    # module tops are reading, not walking; comprehensions count as functions before 3.12 only
    return {(file, name) for file, name in found if name[-1] != ">" and "plotting" not in file}


def fit():
    """Fit a fine-tuning unlearner on random rows."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    grmu_sk.FineTuneUnlearner(random_state=0).fit(X, y, rng.integers(2, size=60))


def demo():
    """Compare MIU with the gold standard, one seed."""
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        args = ["demo", "--methods", "miu", "--seeds", "1", "--jobs", "1", "--out", out]
        main(args, standalone_mode=False)


if __name__ == "__main__":
    for name, call in (("fit", fit), ("fit to table", demo)):
        call()  # imports and caches first
        pairs = walked(call)
        files = sorted({file for file, _ in pairs})
        print(f"{name}: {len(files)} files, {len(pairs)} functions")
        print("   " + ", ".join(files))
