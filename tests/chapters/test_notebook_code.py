"""The reader of notebooks' code: it plants what it is told, or says that it cannot."""

import nbformat
import pytest

from tests.chapters import notebook_code

CELLS = [
    "import math\nLIMITS = [0, 1]\nrng = print('not run')",
    'def area(r):\n    return (\n        math.pi  # a comment\n        * r ** 2\n    ) + len("")',
    "def doubled(r):\n    return 2 * area(r)",
]


@pytest.fixture
def notebook(monkeypatch):
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    copied = nbformat.v4.new_code_cell("def area(r):\n    return 3 * r")
    copied.metadata["tags"] = ["copy"]
    monkeypatch.setattr(notebook_code, "_cells", lambda number: [*cells, copied])


def test_imports_constants_and_functions_are_there_and_nothing_runs(notebook, capsys):
    space = notebook_code.namespace("99")
    assert space["LIMITS"] == [0, 1] and space["doubled"](1) == 2 * space["math"].pi
    assert "rng" not in space and not capsys.readouterr().out


def test_a_mistake_is_planted_whatever_the_layout(notebook):
    """Line breaks, comments and quotes of the cell do not count."""
    change = ("math.pi * r ** 2 + len('')", "r")
    assert notebook_code.function("99", "area", change)(5) == 5
    assert notebook_code.namespace("99", change)["doubled"](5) == 10


def test_the_copy_cell_is_apart(notebook):
    assert notebook_code.function("99", "area", copy=True)(1) == 3


@pytest.mark.parametrize("change", [("r ** 3", "r"), ("r ** 2", "(r ** 2)"), ("r", "r")])
def test_what_cannot_be_planted_is_an_error(notebook, change):
    with pytest.raises(AssertionError, match="nothing"):
        notebook_code.function("99", "area", change)


def test_a_name_that_is_not_defined_is_an_error(notebook):
    with pytest.raises(AssertionError, match="defines no volume"):
        notebook_code.function("99", "volume")
