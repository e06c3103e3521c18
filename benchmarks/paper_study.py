"""The paper's protocol on FairFace (small images, a small net) and UCI Adult, for a CPU.

    python benchmarks/paper_study.py --fairface FOLDER_OR_ZIP --adult FOLDER

Jobs are kept in results/paper and never repeated; results, tables and figures go to
docs/results/paper.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "results/paper"
SHOWN = ROOT / "docs/results/paper"
GRMU = [sys.executable, "-m", "grmu_sk"]

FAIRFACE = ["--dataset", "fairface", "--net", "small_cnn", "--methods", "paper"]
# what to run, most important first: the command can be interrupted at any time
RUNS = {
    "fairface": [
        [*FAIRFACE, "--ratios", "0.5", "--seeds", "2"],
        [*FAIRFACE, "--ratios", "0.9", "--seeds", "1"],
        [*FAIRFACE, "--ratios", "0.1", "--seeds", "1"],
        [*FAIRFACE, "--forget", "groups-9", "--ratios", "0.5", "--seeds", "1"],
        [*FAIRFACE, "--ratios", "0.5", "--seeds", "2", "--ablations"],
    ],
    "adult": [
        ["--dataset", dataset, "--methods", "paper", "--ratios", "0.5", "--seeds", "3"]
        for dataset in ("adult_sex", "adult_race")
    ],
}
TABLES = {
    "fairface": {"fairface": (3, 4, 11, 13, 14, 17, 18)},
    "adult": dict.fromkeys(("adult_sex", "adult_race"), (6, 18)),
}
FIGURES = {"fairface": {"fairface": (4, 6)}, "adult": {}}


def grmu(*arguments):
    """Run a command of the package."""
    subprocess.run([*GRMU, *map(str, arguments)], check=True, cwd=ROOT)


def run(study, root):
    """Run what is missing of one study."""
    for options in RUNS[study]:
        grmu("bench", *options, "--data-root", root, "--out", KEPT / study)


def show(study):
    """Write results, tables and figures of one study into the documentation."""
    SHOWN.mkdir(parents=True, exist_ok=True)
    results = SHOWN / f"{study}.csv"
    results.write_bytes((KEPT / study / "results.csv").read_bytes())
    for dataset, numbers in TABLES[study].items():
        for number in numbers:
            page = SHOWN / f"{dataset}_table_{number}.md"
            options = ("--dataset", dataset, "--format", "markdown", "--out", page)
            grmu("table", number, "--results", results, *options)
    for dataset, numbers in FIGURES[study].items():
        for number in numbers:
            grmu("figure", number, "--results", results, "--dataset", dataset, "--out", SHOWN)


def main():
    """Run the studies whose data are given, and show what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    for study in RUNS:
        parser.add_argument(f"--{study}", type=Path, help=f"folder or zip file of {study}")
    roots = vars(parser.parse_args())
    for study, root in roots.items():
        if root is not None:
            run(study, root.absolute())
            show(study)


if __name__ == "__main__":
    main()
