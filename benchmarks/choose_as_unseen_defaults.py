"""Choose the defaults of AsUnseenUnlearner, and tell what limits it, on validation rows.

Every setting of a grid unlearns from the same trained net, as in ``unlearning_study.py``, with half
of the validation rows in place of test rows and seeds (from 100 on) of no other table.

    python benchmarks/choose_as_unseen_defaults.py --data faces --grid rate --out results
    python benchmarks/choose_as_unseen_defaults.py --data adult --path .../adult --ratio 0.9 ...
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from local_data import LOADERS
from tqdm import tqdm
from unlearning_study import methods, one_seed, search_rows

from grmu_sk import AsUnseenUnlearner

GRIDS: dict[str, list[dict[str, Any]]] = {
    # up to as many epochs as the net's: then the reference net is a gold standard
    "reference": [
        *({"reference_epochs": epochs} for epochs in (1, 3, 6, 10, 20)),
        *({"reference_epochs": 20, "max_epochs": 4, "alpha": alpha} for alpha in (0.1, 0.3)),
        {"reference_epochs": 20, "max_epochs": 4, "lr_share": 1.0},
    ],
    "rate": [
        {"lr_share": share, "alpha": alpha, "max_epochs": epochs}
        for epochs in (2, 4)
        for share in (0.4, 1.0)
        for alpha in (0.03, 0.1, 0.3)
    ],
}


def settings(grid: str, net: Any, seed: int) -> dict[str, Any]:
    """Return a method for each setting, and what they are compared with."""
    others = methods(net, seed)
    found = {name: others[name] for name in ("no_op", "fine_tune, a fifth")}
    for setting in GRIDS[grid]:
        name = " ".join(f"{key}={value}" for key, value in setting.items())
        full = {"reweight": True, "random_state": seed, "reference_epochs": 3} | setting
        found[name] = AsUnseenUnlearner(net, **full)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=LOADERS, default="faces")
    parser.add_argument("--path", type=Path)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--grid", choices=GRIDS, required=True)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    load = partial(search_rows, LOADERS[options.data])
    make = partial(settings, options.grid)
    found = pd.concat(
        one_seed(load, options.path, seed, options.ratio, make=make)
        for seed in tqdm(range(100, 100 + options.seeds), unit="seed")
    )
    file = options.out / f"as_unseen_{options.grid}_{options.data}_{options.ratio:g}.csv"
    found.to_csv(file, index=False, float_format="%.6g")
    shown = ["RA", "UA", "GA", "avg_gap", "row_distance", "cost"]
    print(found.groupby("method", sort=False)[shown].mean().round(4).to_string())
    print(found.groupby("method", sort=False)["avg_gap"].sem().round(4).to_string())


if __name__ == "__main__":
    main()
