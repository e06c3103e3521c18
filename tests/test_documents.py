"""What the documents show must run, and what they say of all methods must be true of each."""

import doctest
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import grmu_sk.benchmark
from grmu_sk.base import BaseUnlearner
from grmu_sk.unlearners import all_unlearners

ROOT = Path(__file__).parent.parent
GUIDE = sorted((ROOT / "docs").glob("guide/*.rst"))
METHODS = dict(all_unlearners())
WRITTEN_PAGES = [
    page
    for page in sorted((ROOT / "docs").rglob("*.rst"))
    # the others are made by the build, which checks their links itself
    if page.relative_to(ROOT / "docs").parts[0]
    not in ("_build", "_generated", "_templates", "gallery")
]


def load_script(path):
    """Import a script that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages():
    return load_script(ROOT / "docs/_ext/generated_pages.py")


def run_script(script, folder, **environment):
    environment = os.environ | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-W", "error", str(script)]
    how = {"check": True, "timeout": 250, "capture_output": True, "text": True}
    return subprocess.run(command, cwd=folder, env=environment, **how).stdout


# what is shown runs ------------------------------------------------------------------------------


def test_make_takes_the_newest_python_that_runs(tmp_path):
    """A command may stand for a version that is not installed, as those of pyenv do."""
    for name, line in (("3.13", "exit 127"), ("3.12", f'exec {sys.executable} "$@"'), ("3.11", "")):
        (tmp_path / f"python{name}").write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / f"python{name}").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "PYTHON")}
    command = ["make", "--dry-run", "venv", f"VENV={tmp_path / 'none'}"]
    done = subprocess.check_output(command, cwd=ROOT, env=environment | {"PATH": path}, text=True)
    assert "python3.12 -m venv" in done


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_guide_snippets_run(page):
    failures, tests = doctest.testfile(str(page), module_relative=False)
    assert tests == page.read_text("utf-8").count("\n>>> ")
    assert failures == 0


# the census example ------------------------------------------------------------------------------


def write_census(folder, n_rows=1200):
    """Write files in the layout of UCI Adult, with made-up rows."""
    line = (
        "{age}, Private, 1, HS-grad, 9, Divorced, Sales, Unmarried, {race}, {sex}, "
        "0, 0, 40, US, {y}"
    )
    for name, dot, header in (
        ("adult.data", "", ""),
        ("adult.test", ".", "|1x3 Cross validator\n"),
    ):
        rows = [
            line.format(
                age=20 + (7 * i) % 50,
                race=("White", "Black", "Other")[i % 3],
                sex=("Male", "Female")[i // 3 % 2],
                y=(">50K" if (i // 6) % 3 == 0 else "<=50K") + dot,
            )
            for i in range(n_rows)
        ]
        (folder / name).write_text(header + "\n".join(rows) + "\n")


def test_census_example_reads_a_folder_of_ones_own(tmp_path):
    """The build of the documentation runs all examples, this one on the rows it makes itself."""
    write_census(tmp_path)
    printed = run_script(ROOT / "examples/plot_census.py", tmp_path, GRMU_ADULT=str(tmp_path))
    assert "UCI Adult, local files (2400, 15)" in printed and "SYNTHETIC" not in printed


def test_census_example_says_when_it_is_synthetic(tmp_path):
    source = (ROOT / "examples/plot_census.py").read_text("utf-8")
    offline = (
        "import socket\n"
        "def refuse(*args, **kwargs):\n"
        "    raise OSError('no network')\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
    )
    script = tmp_path / "loader.py"  # the part that loads the data
    script.write_text(offline + source[: source.index("# Four models")])
    printed = run_script(script, tmp_path, GRMU_ADULT="", SCIKIT_LEARN_DATA=str(tmp_path))
    assert "SYNTHETIC STAND-IN" in printed
    assert "UCI Adult, " not in printed


# what is generated from the code -----------------------------------------------------------------


def test_table_lists_every_method(pages):
    table = pages.method_table()
    for name, cls in all_unlearners():
        assert f":class:`{name} <grmu_sk.{cls.__name__}>`" in table
    assert table.count("   * - ") == len(all_unlearners()) + 1


@pytest.mark.parametrize(
    ("name", "kind", "need_of_groups"),
    [
        ("retrain", "exact", "with ``reweight`` (default: on)"),
        ("sisa", "exact", None),
        ("miu", "approximate", "yes"),
        ("fine_tune", "approximate", "with ``reweight`` (default: off)"),
        ("gradient_ascent", "approximate", "no"),
        ("no_op", "not at all", "no"),
    ],
)
def test_table_tells_exact_from_approximate_and_who_needs_groups(pages, name, kind, need_of_groups):
    assert pages.kind(METHODS[name]) == kind
    assert need_of_groups in (None, pages.group_need(METHODS[name]))


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


def test_reference_shows_parameters_that_a_base_class_declares(pages):
    for name, obj in pages.public_objects():
        if inspect.isclass(obj) and issubclass(obj, BaseUnlearner):
            described = re.findall(r"^(\w+) : ", inspect.getdoc(obj), re.MULTILINE)
            assert set(inspect.signature(obj).parameters) <= set(described), name


def test_bibliography_has_every_work_once(pages):
    page = pages.bibliography()
    assert page.count("Towards Unbounded Machine Unlearning") == 1
    assert not re.search(r"^[A-Z]\. ", page, re.MULTILINE)  # would be an item of a list
    for name, obj in pages.public_objects():
        if pages.REFERENCE.search(inspect.getdoc(obj) or ""):
            assert f":obj:`~{name}`" in page


# links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=str)
def test_links_between_documents(document):
    for target in re.findall(r"\]\((?!http|#|mailto)([^)#]+)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", WRITTEN_PAGES, ids=lambda page: page.stem)
def test_links_within_the_site(document):
    for target in re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)", document.read_text("utf-8")):
        base = ROOT / "docs" if target.startswith("/") else document.parent
        page = base / target.lstrip("/")
        if page.is_relative_to(ROOT / "docs/gallery"):
            page = ROOT / "examples" / page.name
        candidates = [page.with_suffix(suffix) for suffix in (".rst", ".md", ".py")]
        assert any(candidate.exists() for candidate in candidates), target


def test_link_check_finds_what_is_wrong(tmp_path):
    links = load_script(ROOT / "docs/check_links.py")
    (tmp_path / "good.html").write_text(
        '<h1 id="top"></h1><a href="#top"></a><a href="https://example.org"></a>'
        '<a href="bad.html"></a><a href="mailto:a@example.org"></a>'
    )
    (tmp_path / "bad.html").write_text(
        '<a class="x" href="gone.html"></a><a href="good.html#gone"></a>'
        '<script src="https://example.org/x.js"></script>'
    )
    found = list(links.problems(tmp_path))
    assert [line.split(": ")[0] for line in found] == ["bad.html"] * 3
    assert "gone.html leads nowhere" in found[0]
    assert "good.html#gone leads to a place" in found[1]
    assert "another site" in found[2]
    script = [sys.executable, str(ROOT / "docs/check_links.py"), str(tmp_path)]
    assert subprocess.run(script, capture_output=True).returncode == 1
