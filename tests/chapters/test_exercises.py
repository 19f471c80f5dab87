"""The exercises as they stand in the notebooks: folded solutions, empty answers, names."""

import re

import nbformat
import numpy as np
import pytest
import torch

from medtl_utils.exercises import EXERCISES, check
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SOLUTION = re.compile(r"<summary>Solution ([\w.]+)</summary>\s*```python\n(.*?)```", re.S)
STUB = re.compile(r'^answer = \.\.\.\ncheck\("([\w.]+)", answer\)$')


def solutions(paths=NOTEBOOKS) -> dict[str, str]:
    """The folded solutions, exercise -> code."""
    found = {}
    for path in paths:
        cells = nbformat.read(path, 4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        found |= dict(SOLUTION.findall(text))
    return found


def stubs(paths=NOTEBOOKS) -> dict[str, str]:
    """The cells with an empty answer, exercise -> stored output."""
    found = {}
    for path in paths:
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code" and (stub := STUB.match(cell.source.strip())):
                assert stub[1] not in found, f"{path.name}: exercise {stub[1]} stands twice"
                found[stub[1]] = "".join(output.get("text", "") for output in cell.outputs)
    return found


def passes(name: str, solution: str, capsys) -> bool:
    namespace = {"torch": torch, "np": np}
    exec(solution, namespace)
    check(name, namespace["answer"])
    return capsys.readouterr().out == f"Exercise {name}: correct.\n"


def test_every_exercise_stands_in_a_notebook_with_its_solution():
    assert set(EXERCISES) == set(stubs()) == set(solutions())


@pytest.mark.parametrize("name", EXERCISES)
def test_the_folded_solution_passes(name, capsys):
    assert passes(name, solutions()[name], capsys)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_test_bites(name, capsys):
    """Planted: an empty solution, and one of another kind."""
    for planted in ("answer = ...", "answer = 1j", "def answer(*inputs): return 1j"):
        assert not passes(name, planted, capsys)


@pytest.mark.parametrize("name", EXERCISES)
def test_the_stored_output_is_the_hint_for_the_empty_answer(name, capsys):
    check(name, ...)
    assert stubs()[name] == capsys.readouterr().out
