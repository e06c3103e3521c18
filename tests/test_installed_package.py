"""What users get: the wheel, installed and run away from the source tree."""

import email
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
NO_CACHE = ignore_patterns("__pycache__", "*.pyc")

# What only some uses need, and what takes long to import. fairlearn and imblearn are optional.
NOT_NEEDED = ["click", "fairlearn", "imblearn", "matplotlib", "torchvision", "tqdm"]


def run(*command, **kwargs):
    """Run Python in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=200, **kwargs
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, since a build leaves files behind and picks up those of earlier ones."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    copytree(ROOT / "grmu_sk", source / "grmu_sk", ignore=NO_CACHE)
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        copy(ROOT / name, source)
    # a file that is no part of the package, to see that it stays out
    (source / "tests").mkdir()
    (source / "tests" / "__init__.py").touch()
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    run("-m", "pip", "wheel", *options, "--wheel-dir", out, source)
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-index", "--no-compile", "--quiet"]
    run("-m", "pip", "install", *options, "--target", target, wheel)
    return target


@pytest.fixture
def python(installed, tmp_path):
    """Run Python such that it finds the installed copy, in an empty folder."""
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def run_there(*arguments):
        return run(*arguments, cwd=tmp_path, env=environment)

    return run_there


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_wheel_holds_the_whole_package_and_nothing_else(installed):
    expected = {name for name in files_below(ROOT / "grmu_sk") if "__pycache__" not in name}
    assert files_below(installed / "grmu_sk") == expected
    assert {"py.typed", "unlearners/miu.py", "datasets/digits.py"} <= expected
    (info,) = installed.glob("grmu_sk-*.dist-info")
    assert {path.name for path in installed.iterdir()} == {"grmu_sk", info.name, "bin"}
    assert (info / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (installed / "bin" / "grmu").exists()


def test_wheel_says_what_it_needs(wheel):
    with ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith("METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    needs = metadata.get_all("Requires-Dist")
    always = {need.split(">")[0] for need in needs if "extra" not in need}
    assert {"torch", "scikit-learn", "skorch", "numpy", "pandas"} <= always
    assert not {"fairlearn", "imbalanced-learn", "pytest"} & always
    assert metadata["Requires-Python"] == ">=3.11"
    for tool in ("ruff", "mypy", "numpydoc"):  # or each new version finds something new
        assert any(need.startswith(f"{tool}==") for need in needs), tool


def test_dependencies_are_consistent(python):
    assert "No broken requirements found." in python("-m", "pip", "check")


WHAT_IS_IMPORTED = """
import sys
import torch, sklearn, skorch  # skorch imports some of its own accord
before = set(sys.modules)
import grmu_sk
print(grmu_sk.__file__, grmu_sk.__version__)
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_import_is_quiet_and_leaves_out_what_is_not_needed(python, installed):
    assert all(find_spec(name) for name in NOT_NEEDED), "or their absence says nothing"
    file, version, *imported = python("-W", "error", "-c", WHAT_IS_IMPORTED).split()
    assert Path(file).parent == installed / "grmu_sk"
    assert (installed / f"grmu_sk-{version}.dist-info").is_dir()
    assert "grmu_sk" in imported and not set(NOT_NEEDED) & set(imported)


README = """
import doctest, sys
import grmu_sk
failures, tests = doctest.testfile(
    sys.argv[1], module_relative=False, optionflags=doctest.ELLIPSIS
)
print(grmu_sk.__file__)
assert tests >= 8, tests
sys.exit(failures)
"""


def test_readme_example_and_command_run_on_the_installed_copy(python, installed):
    printed = python("-W", "error", "-c", README, ROOT / "README.md")
    assert str(installed / "grmu_sk") in printed
    printed = python("-W", "error", "-m", "grmu_sk", "--help")
    assert "demo" in printed and "Exit codes: 0 done, 1 failure, 2 bad usage" in printed
