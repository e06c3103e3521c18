"""Results of a benchmark, made up but of a realistic size."""

import numpy as np
import pandas as pd

from grmu_sk.benchmark.jobs import RESULT_COLUMNS
from grmu_sk.results import GOLD, PRETRAIN, RESEEDED_GOLD, RETRAIN, Row

PAPER_METHODS = ("l1_sparse", "salun", "scrub", "miu")
ABLATIONS = ("no_calibration", "no_retaining", "no_unlearning")
BASE = {"RA": 90, "UA": 40, "TA": 85, "MIA": 8, "EO": 20, "GA": 45, "DP": 30, "EP": 18, "WG": 40}


def models(methods=PAPER_METHODS):
    """The models of a full comparison."""
    exact = [PRETRAIN, RETRAIN, GOLD, RESEEDED_GOLD, Row("group_dro", False)]
    return exact + [Row(name, bool(reweight)) for reweight in (0, 1) for name in methods]


def run_rows(
    chosen, *, dataset="celeba", forget="group", ratio=0.5, seeds=3, selection="best", groups=()
):
    """Rows of these models; all numbers differ, and depend on the run alone."""
    rows = []
    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        for model in chosen:
            place = (model.method, int(model.reweight), model.variant)
            key = [*map(ord, "".join(map(str, (dataset, forget, ratio, selection, *place)))), seed]
            rng = np.random.default_rng(key)
            is_gold = model.method in (GOLD.method, RESEEDED_GOLD.method) and model.reweight
            spread = 1.0 if is_gold else 4.0 - 1.5 * model.reweight
            values = {name: base + rng.normal(scale=spread) for name, base in BASE.items()}
            for y, a in groups:
                forgotten = -8 if (y, a) == groups[0] and not model.reweight else 0
                values[f"group_accuracy[{y}, {a}]"] = 80 + forgotten + rng.normal(scale=3)
            values |= {"seconds": rng.uniform(5, 60), "cost": rng.uniform(3, 30)}
            if model.method in ("pretrain", "retrain", "gold_reseeded"):
                values["kept_epoch"] = float(rng.integers(4, 30))
            run = (dataset, forget, ratio, seed, selection, *place)
            rows += [(*run, name, value) for name, value in values.items()]
    return pd.DataFrame(rows, columns=RESULT_COLUMNS)


def full_results(dataset="celeba", **kwargs):
    """All models, with the ablations of MIU."""
    ablations = [Row("miu", False, variant) for variant in ABLATIONS]
    return run_rows([*models(), *ablations], dataset=dataset, **kwargs)
