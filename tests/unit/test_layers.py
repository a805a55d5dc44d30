"""House style that a machine can hold: who may import whom, how long a module and a function may be, docstrings."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPERATOR = sorted((ROOT / "operator").rglob("*.py"))
MODULES = [*OPERATOR, *sorted((ROOT / "images").rglob("*.py"))]
LINES = 300
FUNCTION = 40


def test_layers_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}  # of this tree, whatever tree `.venv` belongs to
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_operators_folder_is_no_package() -> None:
    """With an __init__.py it would shadow the standard library's `operator`."""
    assert not (ROOT / "operator" / "__init__.py").exists()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= FUNCTION]
    assert long == []
    assert text.count("\n") <= LINES
    assert ast.get_docstring(tree) or not tree.body


@pytest.mark.parametrize("path", OPERATOR, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_of_the_operator_says_what_it_owns_and_must_not_know(path: Path) -> None:
    told = ast.get_docstring(ast.parse(path.read_text())) or ""
    if path.name != "__init__.py" and path.name != "__main__.py":
        assert "Owns" in told
        assert "ust not know" in told
