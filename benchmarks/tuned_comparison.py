"""Compare all methods on the built-in digits, each with its best setting of its own grid.

Settings are chosen by the average gap on validation rows over seeds apart from those reported.

    python benchmarks/tuned_comparison.py --out docs/results/all_methods
"""

from __future__ import annotations

import argparse
from pathlib import Path

from local_data import digits

from grmu_sk.comparison import compare, rows_for, tune
from grmu_sk.results import format_table
from grmu_sk.unlearners import all_unlearners


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
