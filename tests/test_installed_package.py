"""What users get: the wheel, installed and run away from the source tree."""

import email
import os
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree, ignore_patterns
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
NO_CACHE = ignore_patterns("__pycache__", "*.pyc")


def run(*command, **kwargs):
    """Return what Python prints in a process of its own."""
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
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    run("-m", "pip", "wheel", *options, "--wheel-dir", out, source)
    (file,) = out.iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("site")
    with ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_wheel_holds_the_whole_package_and_says_what_it_needs(installed):
    source, target = ROOT / "grmu_sk", installed / "grmu_sk"
    files = {path for path in source.rglob("*.*") if "__pycache__" not in path.parts}
    expected = {path.relative_to(source) for path in files if path.is_file()}
    assert {path.relative_to(target) for path in target.rglob("*.*")} == expected
    assert Path("py.typed") in expected
    (info,) = installed.glob("grmu_sk-*.dist-info")
    assert set(installed.iterdir()) == {target, info}
    assert (info / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert "grmu = grmu_sk.cli:main" in (info / "entry_points.txt").read_text()
    metadata = email.message_from_string((info / "METADATA").read_text("utf-8"))
    needs = metadata.get_all("Requires-Dist")
    always = {need.split(">")[0] for need in needs if "extra" not in need}
    assert {"torch", "scikit-learn", "skorch", "numpy", "pandas"} <= always
    assert not {"fairlearn", "imbalanced-learn", "pytest"} & always
    assert metadata["Requires-Python"] == ">=3.11"


README = """
import sys
import torch, sklearn, skorch  # skorch imports some of its own accord
before, config = set(sys.modules), sklearn.get_config()
import grmu_sk
# what only some uses need, and what takes long to import; fairlearn and imblearn are optional
slow = {"click", "fairlearn", "imblearn", "matplotlib", "torchvision", "tqdm"}
slow |= {"sklearn.ensemble", "sklearn.datasets"}
assert not slow & (set(sys.modules) - before), slow & set(sys.modules)
assert set(grmu_sk._MODULES) <= set(dir(grmu_sk))
assert grmu_sk.scorers.ga_scorer and grmu_sk.plotting.GroupAccuracyDisplay
from grmu_sk import *
assert metrics is grmu_sk.metrics and sklearn.get_config() == config
print(grmu_sk.__file__)
import doctest
failures, tests = doctest.testfile(
    sys.argv[1], module_relative=False, optionflags=doctest.ELLIPSIS
)
assert tests >= 8, tests
sys.exit(failures)
"""


def test_import_readme_and_command_of_the_installed_copy(installed, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    there = {"cwd": tmp_path, "env": environment}
    file = run("-W", "error", "-c", README, ROOT / "README.md", **there).strip()
    assert Path(file).parent == installed / "grmu_sk"
    printed = run("-W", "error", "-m", "grmu_sk", "--help", **there)
    assert "demo" in printed and "Exit codes: 0 done, 1 failure, 2 bad usage" in printed
