"""What a notebook defines in sight, as objects: as it stands, or with a planted mistake.

The text of a function is that of `ast.unparse`: it does not depend on line breaks, quotes or
comments in the cell. The copy cell is left out: it repeats the chapter in fewer lines.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import nbformat

from tests.conftest import ROOT


def path_of(number: str) -> Path:
    """The notebook with this number, such as "03" or "04b"; "03_deep" is its deep dive."""
    start, deep = number.removesuffix("_deep"), number.endswith("_deep")
    found = (ROOT / "notebooks").glob(f"{start}_*.ipynb")
    (path,) = (p for p in found if p.stem.endswith("_deep") == deep)
    return path


@functools.cache
def _cells(number: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(path_of(number), 4).cells


def prose(number: str) -> str:
    """The Markdown cells, one after the other."""
    return "\n".join(cell.source for cell in _cells(number) if cell.cell_type == "markdown")


def _statements(number: str, copy: bool) -> list[ast.stmt]:
    """The statements at the top of the code cells; with `copy`, those of the copy cell alone."""
    return [
        statement
        for cell in _cells(number)
        if cell.cell_type == "code" and ("copy" in cell.metadata.get("tags", [])) == copy
        for statement in ast.parse(cell.source).body
    ]


def _is_constant(statement: ast.stmt) -> bool:
    """Whether this is a line such as BLOCKS = ["stem", "layer1"]."""
    if (
        not isinstance(statement, ast.Assign)
        or not getattr(statement.targets[0], "id", "").isupper()
    ):
        return False
    try:
        ast.literal_eval(statement.value)
    except ValueError:
        return False
    return True


def plant(text: str, right: str, wrong: str) -> str:
    """`text` with `wrong` in place of `right`; both written as `ast.unparse` writes ('quotes')."""
    assert right in text, f"{right!r} is not in the notebook: nothing would be planted"
    planted = text.replace(right, wrong)
    assert ast.dump(ast.parse(planted)) != ast.dump(ast.parse(text)), f"{wrong!r} changes nothing"
    return planted


def namespace(
    number: str, *changes: tuple[str, str], within: str | None = None, copy: bool = False
) -> dict:
    """Imports, constants, functions and classes of a notebook; of two with a name the last counts.

    `changes`: pairs (right, wrong), mistakes to plant in the functions and classes, or only in the
    one that is called `within`. `copy`: take the copy cell in place of all others.
    """
    statements = _statements(number, copy)
    imports = [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
    constants = [s for s in statements if _is_constant(s)]
    defined = {s.name: s for s in statements if isinstance(s, ast.FunctionDef | ast.ClassDef)}
    assert within is None or within in defined, f"notebook {number} defines no {within}"
    chosen = [ast.unparse(s) for name, s in defined.items() if within in (None, name)]
    text = "\n\n".join(chosen)
    for change in changes:
        text = plant(text, *change)
    space: dict = {}
    exec("\n".join(ast.unparse(s) for s in [*imports, *constants, *defined.values()]), space)
    exec(text, space)  # they see each other: the functions above call the planted ones
    return space


def function(number: str, name: str, *changes: tuple[str, str], copy: bool = False):
    """One function or class of a notebook; `changes`: mistakes to plant in it, see `namespace`."""
    return namespace(number, *changes, within=name, copy=copy)[name]
