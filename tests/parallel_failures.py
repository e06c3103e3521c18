"""What goes wrong in one of several processes; ``accelerate launch`` starts this as a program.

Each process writes down what it was told, and whether its unlearner is as it was before.
"""

import json
import os
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedType, InitProcessGroupKwargs
from conftest import make_table, weights_of
from parallel_cases import FORGET, N_ROWS, SHORT, RowByRow, net_for

from grmu_sk import MIUUnlearner
from grmu_sk.audit import DeletionLedger


class FailsOnce(RowByRow):
    """Rows on a disk that fails at one of the reads, in one process."""

    def __init__(self, X, error=None):
        super().__init__(X)
        self.error = error
        self.reads_left = None

    def __getitem__(self, i):
        if self.reads_left is not None:
            self.reads_left -= 1
            if self.reads_left == 0:
                self.error()
        return super().__getitem__(i)


def broken_disk():
    raise OSError("the disk is broken")


class Attempts:
    """Tries what has to fail, and remembers how."""

    def __init__(self, accelerator):
        self.accelerator = accelerator
        self.is_second = accelerator.process_index == 1
        self.results = {}

    def unlearner(self):
        return MIUUnlearner(net_for(self.accelerator), random_state=0, **SHORT)

    @contextmanager
    def at(self, name, unlearner):
        before = state(unlearner)
        error = None
        try:
            yield
        except Exception as raised:
            error = raised
        self.results[name] = {
            "error": type(error).__name__,
            "message": str(error),
            "unchanged": state(unlearner) == before,
        }


def state(unlearner):
    if not hasattr(unlearner, "net_"):
        return sorted(vars(unlearner))
    weights = [weight.tobytes() for weight in weights_of(unlearner)]
    rows = unlearner.forget_idx_.tolist(), unlearner.remaining_idx_.tolist()
    return weights, rows, unlearner.history_.to_list(), sorted(vars(unlearner))


def main(folder):
    torch.set_num_threads(1)
    patience = InitProcessGroupKwargs(timeout=timedelta(seconds=60))
    accelerator = Accelerator(cpu=True, kwargs_handlers=[patience])
    attempts = Attempts(accelerator)
    is_second = attempts.is_second
    table = make_table(N_ROWS)
    everything = table.X, table.y, table.a

    # set-ups that cannot work
    unlearner = attempts.unlearner()
    accelerator.gradient_accumulation_steps = 2
    with attempts.at("gradient accumulation", unlearner):
        unlearner.fit(*everything)
    accelerator.gradient_accumulation_steps = 1
    kind = accelerator.state.distributed_type
    accelerator.state.distributed_type = DistributedType.FSDP
    with attempts.at("unsupported type", unlearner):
        unlearner.fit(*everything)
    accelerator.state.distributed_type = kind

    # processes that were not given the same
    y = table.y.copy()
    y[-1] ^= is_second
    with attempts.at("other labels", unlearner):
        unlearner.fit(table.X, y, table.a)
    with attempts.at("other inputs", unlearner):
        unlearner.fit(table.X + np.float32(is_second), table.y, table.a)
    with attempts.at("fewer rows", unlearner):
        unlearner.fit(*(part[: N_ROWS - is_second] for part in everything))

    # a fitted unlearner
    rows = FailsOnce(table.X, broken_disk)
    unlearner.fit(rows, table.y, table.a)
    with attempts.at("other rows to forget", unlearner):
        unlearner.unlearn(FORGET[is_second:])
    with attempts.at("bad request in one", unlearner):
        unlearner.unlearn([N_ROWS] if is_second else FORGET)
    with attempts.at("a ledger", unlearner):
        DeletionLedger(folder / f"ledger{int(is_second)}.db").process(unlearner, FORGET)
    for name, n_reads in {"first reads": 1, "training": 80}.items():
        rows.reads_left = n_reads if is_second else None
        with attempts.at(f"broken disk in {name}", unlearner):
            unlearner.unlearn(FORGET)
        attempts.results[f"broken disk in {name}"]["reads left"] = rows.reads_left
    rows.reads_left = None
    rows.X = np.full_like(table.X, np.nan)
    with attempts.at("NaN", unlearner):
        unlearner.unlearn(FORGET)
    rows.X = table.X

    # after all this it works
    unlearner.unlearn(FORGET)
    attempts.results["in the end"] = [float(np.sum(weight)) for weight in weights_of(unlearner)]

    # the other one is gone
    out = folder / f"{accelerator.process_index}.json"
    rows.reads_left, rows.error = (80, lambda: os._exit(0)) if is_second else (None, None)
    if is_second:
        out.write_text(json.dumps(attempts.results))
    with attempts.at("the other ends", unlearner):
        unlearner.unlearn([80, 90])
    out.write_text(json.dumps(attempts.results))
    os._exit(0)  # there is nobody to take leave of


if __name__ == "__main__":
    main(Path(sys.argv[1]))
