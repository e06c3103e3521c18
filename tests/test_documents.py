"""What the documents show must run, and what they say of all methods must be true of each."""

import doctest
import importlib.util
import inspect
import re
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


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_guide_snippets_run(page):
    failures, tests = doctest.testfile(str(page), module_relative=False)
    assert tests == page.read_text("utf-8").count("\n>>> ")
    assert failures == 0


def test_table_tells_exact_from_approximate_and_who_needs_groups(pages):
    for name, kind, need_of_groups in (
        ("retrain", "exact", "with ``reweight`` (default: on)"),
        ("sisa", "exact", "with ``reweight`` (default: off)"),
        ("miu", "approximate", "yes"),
        ("fine_tune", "approximate", "with ``reweight`` (default: off)"),
        ("no_op", "not at all", "no"),
    ):
        assert (pages.kind(METHODS[name]), pages.group_need(METHODS[name])) == (
            kind,
            need_of_groups,
        )


def test_reference_lists_every_public_name_once(pages):
    listed = [name for name, _ in pages.public_objects()]
    assert len(listed) == len(set(listed))
    listing = "".join(pages.api_page(*group) for _, *group in pages.groups())
    index = pages.api_index()
    for name, obj in pages.public_objects():
        assert inspect.getdoc(obj), name
        if inspect.isclass(obj) and issubclass(obj, BaseUnlearner):
            described = re.findall(r"^(\w+) : ", inspect.getdoc(obj), re.MULTILINE)
            assert set(inspect.signature(obj).parameters) <= set(described), name
        assert f"   ~{name}\n" in listing
        assert f":obj:`~{name}`" in index
    short = {name.rpartition(".")[2] for name in listed}
    modules = [getattr(grmu_sk, name) for name in grmu_sk._MODULES]
    for module in [grmu_sk, grmu_sk.benchmark, grmu_sk.comparison, *modules]:
        public = {
            n for n in getattr(module, "__all__", ()) if pages.is_described(vars(module).get(n))
        }
        assert public <= short, module


def test_links_between_documents_and_within_the_site():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!http|#|mailto)([^)#]+)", document.read_text("utf-8")):
            assert (document.parent / target).exists(), target
    for document in WRITTEN_PAGES:
        for target in re.findall(r":doc:`(?:[^`<]*<)?([^`>]+)", document.read_text("utf-8")):
            base = ROOT / "docs" if target.startswith("/") else document.parent
            page = base / target.lstrip("/")
            if page.is_relative_to(ROOT / "docs/gallery"):
                page = ROOT / "examples" / page.name
            candidates = [page.with_suffix(suffix) for suffix in (".rst", ".md", ".py")]
            assert any(candidate.exists() for candidate in candidates), target
