"""Which attacks have power on the built-in data, and what they say of unlearned models.

For each seed the net is trained once on all rows and 16 reference models are trained once; then
each method unlearns from the same trained net and is audited with the same references. Two
requests: half of the smallest group (25 rows), as in the other studies, and a tenth of all rows.

    python benchmarks/leakage_audit.py

Delete the CSV to begin anew.
"""

from __future__ import annotations

import argparse
from itertools import product
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
REQUESTS = ("half of the smallest group", "a tenth of all rows")
FIRST = ["request", "seed", "method", "TA"]
#: Name, class, parameters chosen on validation rows (docs/results/all_methods/search.csv), and
#: whether it starts from the trained net.
METHODS: list[tuple[str, type, dict[str, Any], bool]] = [
    ("no_op", NoOpUnlearner, {}, True),
    ("miu + reweight", MIUUnlearner, {"reweight": True, "lr": 0.02, "mine_lr": 0.003}, True),
    ("scrub + reweight", SCRUBUnlearner, {"reweight": True, "lr": 0.0025}, True),
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
    references = ReferenceModels(original, n_models, random_state=seed)
    references.fit(**rows)
    found = []
    for name, method, parameters, starts_from_trained in METHODS:
        net = FrozenEstimator(original) if starts_from_trained else None
        unlearner = method(net, random_state=seed, **parameters).fit(X, y, a)
        unlearner.unlearn(forget)
        audit = audit_unlearning(
            unlearner, original, **rows, references=references, random_state=seed
        )
        accuracy = unlearner.score(data.images[data.test], data.target[data.test])
        frame = audit.to_frame().assign(request=request, seed=seed, method=name, TA=accuracy)
        found.append(frame)
    return pd.concat(found)


def forget_rows(
    request: str, y: NDArray[Any], a: NDArray[Any], smallest: tuple[int, int], seed: int
) -> NDArray[np.int64]:
    if request == REQUESTS[0]:
        return sample_forget_set(y, a, forget_groups=smallest, random_state=seed)
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(len(y), size=len(y) // 10, replace=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--models", type=int, default=16, help="reference models")
    parser.add_argument("--out", type=Path, default=OUT, help="CSV; what it holds is not repeated")
    args = parser.parse_args()
    torch.set_num_threads(1)
    done = pd.read_csv(args.out) if args.out.exists() else pd.DataFrame(columns=FIRST)
    for seed, request in product(args.seeds, REQUESTS):
        if ((done["seed"] == seed) & (done["request"] == request)).any():
            continue
        start = process_time()
        found = audits(seed, request, args.models).round(4)
        done = pd.concat([done, found]) if len(done) else found
        done = done[FIRST + [name for name in done.columns if name not in FIRST]]
        done.to_csv(args.out, index=False)
        print(
            f"{request}, seed {seed}: {process_time() - start:.0f} s of processor time", flush=True
        )
    of_all = done[done["group"] == "all"]
    by = ["request", "rows", "method"]
    table = of_all.pivot_table(index=by, columns="attack", values=["power", "auc"])
    print(table.round(3).to_string())
    print(of_all.groupby([*by, "attack"])["verdict"].value_counts().to_string())


if __name__ == "__main__":
    main()
