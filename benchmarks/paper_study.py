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
ADULT = ["--methods", "paper", "--dataset"]
ATTRIBUTES = ("adult_sex", "adult_race")
BOTH_EPOCHS = ["--selection", "best", "last"]
# what to run, most important first: the command can be interrupted at any time
RUNS = {
    "fairface": [
        [*FAIRFACE, "--ratios", "0.5", "--seeds", "3", *BOTH_EPOCHS],
        [*FAIRFACE, "--ratios", "0.5", "--seeds", "3", "--ablations"],
        [*FAIRFACE, "--ratios", "0.9", "--seeds", "1"],
        [*FAIRFACE, "--ratios", "0.1", "--seeds", "1"],
        [*FAIRFACE, "--forget", "groups-9", "--ratios", "0.5", "--seeds", "1"],
    ],
    "adult": [
        *(
            [*ADULT, dataset, "--ratios", "0.5", "--seeds", "3", *BOTH_EPOCHS]
            for dataset in ATTRIBUTES
        ),
        *([*ADULT, dataset, "--ratios", "0.9", "0.1", "--seeds", "1"] for dataset in ATTRIBUTES),
    ],
}
# by data set: the paper's table whose layout is used, and the epoch kept
ADULT_TABLES = [(5, "best"), (6, "best"), (6, "last"), (7, "best"), (18, "best")]
TABLES = {
    "fairface": {
        "fairface": [(3, "last"), *((number, "best") for number in (3, 4, 11, 13, 14, 17, 18))]
    },
    "adult": dict.fromkeys(ATTRIBUTES, ADULT_TABLES),
}
FIGURES = {"fairface": {"fairface": (4, 6)}, "adult": dict.fromkeys(ATTRIBUTES, (4,))}


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
    for dataset, tables in TABLES[study].items():
        for number, selection in tables:
            suffix = "" if selection == "best" else f"_{selection}"
            page = SHOWN / f"{dataset}_table_{number}{suffix}.md"
            options = ("--dataset", dataset, "--selection", selection, "--out", page)
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
