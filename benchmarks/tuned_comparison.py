"""Compare all methods on the built-in digits, each with its best setting of its own grid.

Settings are chosen by the average gap on validation rows over seeds apart from those reported.

    python benchmarks/tuned_comparison.py --out docs/results/all_methods
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from local_data import digits
from sklearn.model_selection import ParameterGrid

from grmu_sk.comparison import Splits, compare, rows_for, unlearner_class
from grmu_sk.metrics.gap import AVERAGE_GAP
from grmu_sk.results import MODEL, Row, format_table
from grmu_sk.unlearners import all_unlearners


def settings_of(row: Row) -> list[Row]:
    """Return a row with each setting of the method's own documented grid, or the row itself."""
    settings = list(ParameterGrid(unlearner_class(row).search_grid))
    return [
        replace(row, variant=str(number) if setting else "", parameters=row.parameters | setting)
        for number, setting in enumerate(settings)
    ]


def tune(net, load, rows: list[Row], seeds, **how) -> tuple[list[Row], pd.DataFrame]:
    """Choose the setting with the best average gap on validation rows, for each row of a table.

    Test rows are not read: validation rows stand in for them. Returns the rows with their chosen
    parameters, and a line for each setting: its average gap over the seeds (NaN if a run failed),
    and the seconds of all its runs.
    """
    tried = [setting for row in rows for setting in settings_of(row)]

    def on_validation(seed: int) -> Splits:
        splits = load(seed)
        return replace(splits, test=splits.validation)

    found = compare(net, on_validation, tried, seeds=seeds, **how)
    by_metric = found.groupby([*MODEL, "metric"])["value"]
    gaps = by_metric.agg(lambda values: values.mean(skipna=False)).xs(AVERAGE_GAP, level="metric")
    seconds = by_metric.sum().xs("seconds", level="metric")
    lines = [
        (row.method, row.reweight, row.parameters, gaps[row.key], seconds[row.key]) for row in tried
    ]
    report = pd.DataFrame(lines, columns=["method", "reweight", "setting", "avg_gap", "seconds"])
    best = report.fillna({"avg_gap": -1}).groupby(["method", "reweight"])["avg_gap"].idxmax()
    report["chosen"] = report.index.isin(best)
    chosen = [replace(tried[number], variant="") for number in np.flatnonzero(report["chosen"])]
    return chosen, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--search", type=int, default=5, help="seeds of the search")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    _, net = digits(None, 0)

    def load(seed: int):
        return digits(None, seed)[0]

    how = {"n_jobs": options.jobs, "on_step": lambda label: print(label, flush=True)}
    rows = rows_for([name for name, _ in all_unlearners()])
    rows, report = tune(net, load, rows, seeds=range(100, 100 + options.search), **how)
    report.to_csv(options.out / "search.csv", index=False, float_format="%.4f")
    results = compare(net, load, rows, seeds=range(options.seeds), **how)
    results.to_csv(options.out / "results.csv", index=False, float_format="%.4f")
    (options.out / "table.txt").write_text(format_table(results) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
