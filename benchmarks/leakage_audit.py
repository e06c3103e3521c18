"""Which attacks have power on the built-in data, and what they say of unlearned models.

For each seed the net is trained once on all rows and 16 reference models are trained once; then
each method unlearns from the same trained net and is audited with the same references. Two
requests: half of the smallest group (25 rows), as in the other studies, and a tenth of all rows.

    python benchmarks/leakage_audit.py
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.frozen import FrozenEstimator

from grmu_sk import MIUUnlearner, NoOpUnlearner, RetrainUnlearner, SCRUBUnlearner, sample_forget_set
from grmu_sk.audit import ReferenceModels, audit_unlearning
from grmu_sk.datasets import load_digits_on_backgrounds

HERE = Path(__file__).parent
OUT = HERE / "results" / "leakage_digits.csv"
#: Name, class, its parameters, whether it starts from the trained net.
METHODS: list[tuple[str, type, dict[str, Any], bool]] = [
    ("no_op", NoOpUnlearner, {}, True),
    ("miu + reweight", MIUUnlearner, {"reweight": True}, True),
    ("scrub + reweight", SCRUBUnlearner, {"reweight": True}, True),
    ("retrain", RetrainUnlearner, {"reweight": False}, False),
    ("retrain + reweight", RetrainUnlearner, {"reweight": True}, False),
]


def audits(seed: int, request: str, n_models: int) -> pd.DataFrame:
    data = load_digits_on_backgrounds()
    X, y, a = (data[name][data.train] for name in ("images", "target", "groups"))
    forget = forget_rows(request, y, a, data.smallest_group, seed)
    remaining = np.setdiff1d(np.arange(len(y)), forget)
    unseen = np.concatenate([data.validation, data.test])
    rows = {
        "forgotten": (X[forget], y[forget], a[forget]),
        "remaining": (X[remaining], y[remaining], a[remaining]),
        "nonmembers": (data.images[unseen], data.target[unseen], data.groups[unseen]),
    }
    original = NoOpUnlearner(random_state=seed).fit(X, y, a)
    references = ReferenceModels(original, n_models, random_state=seed).fit(**rows)
    found = []
    for name, method, parameters, starts_from_trained in METHODS:
        net = FrozenEstimator(original) if starts_from_trained else None
        unlearner = method(net, random_state=seed, **parameters).fit(X, y, a)
        unlearner.unlearn(forget)
        audit = audit_unlearning(
            unlearner, original, **rows, references=references, random_state=seed
        )
        frame = audit.to_frame()
        found.append(frame.assign(request=request, seed=seed, method=name))
    return pd.concat(found)


def forget_rows(
    request: str, y: NDArray[Any], a: NDArray[Any], smallest: tuple[int, int], seed: int
) -> NDArray[np.int64]:
    if request == "half of the smallest group":
        return sample_forget_set(y, a, forget_groups=smallest, random_state=seed)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(len(y), size=len(y) // 10, replace=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", type=int, default=16, help="reference models")
    parser.add_argument("--out", type=Path, default=OUT, help="CSV to write")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start = process_time()
    found = []
    for request in ("half of the smallest group", "a tenth of all rows"):
        for seed in args.seeds:
            found.append(audits(seed, request, args.models))
            done = pd.concat(found)
            first = ["request", "seed", "method"]
            done = done[first + [name for name in done.columns if name not in first]]
            done.round(4).to_csv(args.out, index=False)  # so that an end before its time costs less
            print(f"{request}, seed {seed}: {process_time() - start:.0f} s of processor time")
    of_all = done[done["group"] == "all"]
    table = of_all.pivot_table(
        index=["request", "rows", "method"], columns="attack", values=["power", "auc"]
    )
    print(table.round(3).to_string())
    print(of_all.groupby(["request", "rows", "method", "attack"])["verdict"].value_counts())


if __name__ == "__main__":
    main()
