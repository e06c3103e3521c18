"""Fail if a part of the package has outgrown its budget, so that growth is a decision.

    python .ci/size.py

Counted are code lines: no blanks, comments or docstrings. Budgets stand in ``pyproject.toml``,
under ``tool.grmu_sk.code_lines``; raise one there, in the commit that needs it, and say why.
"""

import ast
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(source: str) -> int:
    """Return how many lines of a file are code."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            prose.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(map(str.strip, source.split("\n")), start=1)
    return sum(1 for number, line in lines if line and line[0] != "#" and number not in prose)


def main() -> int:
    """Print each part's size and return 1 if one is too large."""
    budgets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["grmu_sk"]["code_lines"]
    sizes = dict.fromkeys(budgets, 0)
    for path in sorted((ROOT / "grmu_sk").rglob("*.py")):
        part = path.relative_to(ROOT / "grmu_sk").parts[0]
        sizes[part if part in budgets else "engine"] += code_lines(path.read_text())
    sizes["tests"] = sum(
        len(path.read_text().splitlines()) for path in (ROOT / "tests").rglob("*.py")
    )
    for part, size in sizes.items():
        print(f"{part:12}{size:6} of {budgets[part]:6}{'  TOO LARGE' * (size > budgets[part])}")
    return int(any(size > budgets[part] for part, size in sizes.items()))


if __name__ == "__main__":
    sys.exit(main())
