"""What the documents show must run, and what they say of all methods must be true of each."""

import doctest
import importlib.util
import inspect
import os
import re
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import threshold_attack

import grmu_sk.audit.preflight
import grmu_sk.benchmark
from grmu_sk.cli import main
from grmu_sk.metrics import evaluate
from grmu_sk.results import format_table, read_results
from grmu_sk.unlearners import all_unlearners

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs/results"
GUIDE = sorted((ROOT / "docs").glob("guide/*.rst"))
METHODS = dict(all_unlearners())
PAGES_WITH_NUMBERS = [
    *(ROOT / name for name in ("README.md", "docs/index.rst", "docs/study.md")),
    *GUIDE,
    *sorted(ROOT.glob("examples/*.py")),
]
#: What is no prose: code, roles, addresses, and versions of Python.
NOT_PROSE = re.compile(
    r"```.*?```|`+[^`]*`+|\]\([^)]*\)|^ *>>>.*?(?:\n\n|\Z)|https?://\S+"
    r"|Python 3\.\d+(?: to 3\.\d+)?"
    r"|^( *)\.\. (?:code-block|math)::.*?\n\n(?:\1 +[^\n]*\n|\n)*",
    re.DOTALL | re.MULTILINE,
)


def load_script(path):
    """Import a script that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages():
    return load_script(ROOT / "docs/_ext/generated_pages.py")


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_guide_snippets_run(page, tmp_path, monkeypatch):
    """Snippets of Python, and after them commands, in one empty folder."""
    monkeypatch.chdir(tmp_path)
    if page.stem == "sklearn":  # which shows no value of it
        monkeypatch.setattr(evaluate, "membership_inference_efficacy", threshold_attack)
    failures, tests = doctest.testfile(str(page), module_relative=False)
    text = page.read_text("utf-8")
    assert tests == text.count("\n>>> ")
    assert failures == 0
    if page.stem != "ten_minutes":
        return
    named, *commands = re.findall(r"^   \$ (.*)", text.replace("\\\n", ""), re.MULTILINE)
    preflight = sys.modules["grmu_sk.audit.preflight"]
    monkeypatch.setattr(preflight, "_predicted_seconds", lambda *_: 1.0)  # has a test of its own
    monkeypatch.setenv(*shlex.split(named)[0].split("=", 1))
    assert len(commands) == 9
    for command in commands:
        result = CliRunner().invoke(main, shlex.split(os.path.expandvars(command))[1:])
        assert result.exit_code == 0, f"{command}\n{result.output}"
    for kind in ("card", "reply", "record"):
        assert (tmp_path / f"{kind}.md").is_file() and (tmp_path / f"{kind}2.md").is_file()


def result(file, row, column):
    """Return the mean of what a file of results says, in percent (but for costs and distances)."""
    table = pd.read_csv(RESULTS / f"{file}.csv")
    if "metric" in table:  # one line a metric
        method, _, reweight = row.partition(" + ")
        of_row = (table["method"] == method) & (table["reweight"] == bool(reweight))
        return table.loc[of_row & (table["metric"] == column), "value"].mean()
    of_row = table[table["method"] == row]
    if "attack" in table:
        asked = (of_row["rows"] == "forgotten") & (of_row["group"] == "all")
        return of_row.loc[asked & (of_row["attack"] == column), "auc"].mean()
    return of_row[column].mean() * (1 if column in ("row_distance", "cost") else 100)


def quoted_numbers(page):
    """Return the decimal numbers of a page's prose, and what its comments ``numbers:`` ask for."""
    text = page.read_text("utf-8")
    if page.name == "study.md":  # its tables have a test of their own
        text = re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)
    if page.suffix == ".py":
        blocks = re.findall(r"^# %%\n((?:#.*\n)+)", text, re.MULTILINE)
        text = "\n".join(
            [text.split('"""')[1], *(re.sub("^# ?", "", b, flags=re.M) for b in blocks)]
        )
    marker = re.compile(
        r"^ *(?:<!--|\.\.) numbers: (.*?)(?:-->|\n\s*\n|\Z)", re.DOTALL | re.MULTILINE
    )
    asked = [item for found in marker.findall(text) for item in found.split(";")]
    numbers = re.findall(r"(?<![\w.])\d+\.\d+", NOT_PROSE.sub("\n\n", marker.sub("\n\n", text)))
    return numbers, [" ".join(item.split()) for item in asked]


@pytest.mark.parametrize("page", PAGES_WITH_NUMBERS, ids=lambda page: page.name)
def test_numbers_of_a_page_are_those_of_the_results(page):
    # in a comment "numbers:" stand, in order, file, row and column of each decimal number of the
    # prose up to there; the file may be left out where it is the last one's
    numbers, asked = quoted_numbers(page)
    file, expected = None, []
    for number, item in zip(numbers, asked, strict=False):
        before, _, rest = item.rpartition(": ")
        file = before or file
        row, _, column = rest.rpartition(" ")
        expected.append(f"{result(file, row, column):.{len(number.partition('.')[2])}f} {item}")
    told = [f"{number} {item}" for number, item in zip(numbers, asked, strict=False)]
    assert (told, len(numbers)) == (expected, len(asked)), (
        numbers[len(asked) :],
        asked[len(numbers) :],
    )


def test_tables_of_the_study_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    study = load_script(ROOT / "benchmarks/unlearning_study.py")
    parts = load_script(ROOT / "benchmarks/variance_of_seeds.py")
    shown = re.findall(r"(?:^\|.*\n)+", (ROOT / "docs/study.md").read_text("utf-8"), re.MULTILINE)
    names = ("faces_0.5", "adult_0.5", "faces_0.5_tuned", "adult_0.5_tuned")
    attacked = ("faces_attacks", "adult_attacks", "adult_race_attacks")
    short = ("faces_0.9", "adult_0.9", "adult_race_0.5", "faces_nine_0.5", "digits_0.5")
    tables = [
        *(study.table(RESULTS / f"study/{name}.csv") for name in names),
        *(study.table(RESULTS / f"study/{name}.csv", study.NEAREST) for name in short),
        study.table(RESULTS / "study/fairface_memorised_0.5.csv"),
        parts.table(RESULTS / "study/faces_variance.csv"),
        *(study.table(RESULTS / f"study/{name}.csv") for name in attacked),
    ]
    assert [text.strip() for text in shown] == tables


def test_table_of_the_demo_is_that_of_the_results():
    table = format_table(read_results(RESULTS / "demo.csv"))
    assert table in (ROOT / "README.md").read_text("utf-8")


def test_pages_recommend_the_method_that_comes_first_in_the_study():
    faces = pd.read_csv(RESULTS / "study/faces_0.5.csv").groupby("method")["avg_gap"].mean()
    best = faces.drop(["gold", "second gold", "retrain"]).idxmax()
    for page in ("README.md", "docs/index.rst", "docs/guide/methods.rst", "docs/guide/faq.rst"):
        assert METHODS[best].__name__ in (ROOT / page).read_text("utf-8"), page
    assert f'"{best}"' in inspect.getsource(grmu_sk.audit.preflight)


def test_reference_lists_every_public_name_once(pages):
    listed = [name for name, _ in pages.public_objects()]
    assert len(listed) == len(set(listed))
    listing = "".join(pages.api_page(*group) for _, *group in pages.groups())
    index = pages.api_index()
    for name, obj in pages.public_objects():
        assert inspect.getdoc(obj), name
        assert f"   ~{name}\n" in listing
        assert f":obj:`~{name}`" in index
    short = {name.rpartition(".")[2] for name in listed}
    modules = [getattr(grmu_sk, name) for name in grmu_sk._MODULES]
    for module in [grmu_sk, grmu_sk.benchmark, grmu_sk.comparison, *modules]:
        public = {
            n for n in getattr(module, "__all__", ()) if pages.is_described(vars(module).get(n))
        }
        assert public <= short, module


def test_links_between_documents():
    # those within the site are checked by its build
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!http|#|mailto)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("cost", ["cost", "retrainings"])
def test_comparison_says_what_its_results_say(tmp_path, monkeypatch, cost):
    results = pd.read_csv(ROOT / "docs/results/all_methods/results.csv")
    results = results.replace({"metric": {"cost": cost, "retrainings": cost}})
    results.to_csv(tmp_path / "results.csv", index=False)
    monkeypatch.syspath_prepend(ROOT / "docs/_ext")
    comparison = load_script(ROOT / "docs/_ext/result_pages.py").Comparison(tmp_path)
    gaps = results[results["metric"] == "AVG_GAP"].groupby(["method", "reweight"])["value"]
    mean, std = gaps.mean(), gaps.std(ddof=0)
    found, table = comparison.findings(), comparison.table()
    ceiling = mean["gold_reseeded", 1], std["gold_reseeded", 1]
    assert "{:.1f} ± {:.1f}**".format(*ceiling) in found
    assert f"Doing nothing reaches {mean['no_op', 0]:.1f}" in found
    assert "MIU + REWEIGHT is number" in found and f"({mean['miu', 1]:.1f})" in found
    n_cells = 8 + len({"row_distance", "damage"}.intersection(results["metric"]))
    assert table.count('scope="row"') == len(mean) and table.count("<td>") == n_cells * len(mean)
