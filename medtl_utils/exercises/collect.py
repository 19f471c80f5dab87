"""Who solved which exercise: a table from a folder of students' notebooks. None of their code runs.

python -m medtl_utils.exercises.collect FOLDER --out table.csv

An answer that is data (a number, a text, a list, arithmetic of numbers) is read from the text of
the notebook and judged by the exercise itself: "solved" or "wrong". A function cannot be judged
without running it. For it, and for other code, the table tells what the stored output of the check
cell says, "says solved" or "says wrong": whoever can edit a notebook can edit that, too.
"""

from __future__ import annotations

import argparse
import ast
import csv
import io
import json
import os
import re
import stat
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from ..spreadsheet import safe_cell
from . import EXERCISES
from .as_data import CODE, FUNCTION, NO_PYTHON, meaning, set_names

MOST_BYTES = 10_000_000  # the largest notebook of the course has 2 MB
MOST_FILES, DEEPEST = 2_000, 8  # notebooks, folders below folders
MOST_CELLS, LONGEST_CELL, MOST_CODE = 1_000, 20_000, 500_000  # characters
RESULTS = ("solved", "says solved", "wrong", "says wrong", "not judged", "empty", "not found")
COLUMNS = ("file", "exercise", "result", "note")


class Refused(Exception):
    """A file that is not read; the reason."""


# ---- files -------------------------------------------------------------------------------------


def files_below(folder: Path) -> list[Path]:
    """Notebooks below `folder`, and links, which `cells_of` refuses; in order of their names.

    Folders that begin with a dot (such as .ipynb_checkpoints) are left out; links are not followed.
    """
    found, waiting = [], [(folder, 0)]
    while waiting:
        here, depth = waiting.pop()
        for entry in os.scandir(here):
            inside = entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
            if inside and depth < DEEPEST:
                waiting.append((Path(entry.path), depth + 1))
            elif inside or entry.is_symlink() or entry.name.endswith(".ipynb"):
                found.append(Path(entry.path))
            if len(found) > MOST_FILES:
                sys.exit(f"More than {MOST_FILES:,} notebooks: collect a smaller folder.")
    return sorted(found)


def content_of(path: Path) -> bytes:
    """The bytes of an ordinary file of moderate size. Raises Refused."""
    if path.is_symlink():
        raise Refused("a link: put the file itself here")
    flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        number = os.open(path, os.O_RDONLY | sum(flags))
    except OSError as error:
        raise Refused(f"cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise Refused(f"no file, or a folder more than {DEEPEST} deep")
    with open(number, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise Refused(f"over {MOST_BYTES / 1e6:.0f} MB: clear its outputs, save it again")
    return content


def cells_of(path: Path) -> list[tuple[str, str]]:
    """(source, printed output) of the code cells of a notebook. Raises Refused."""
    try:
        notebook = json.loads(content_of(path).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise Refused("no UTF-8 text") from None
    except json.JSONDecodeError:
        raise Refused("no JSON") from None
    except RecursionError:
        raise Refused("nested too deeply") from None
    except (ValueError, MemoryError):
        raise Refused("a number with too many digits, or too large for memory") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise Refused("no notebook of format 4")
    if len(cells) > MOST_CELLS:
        raise Refused(f"more than {MOST_CELLS:,} cells")
    found = [
        (text(cell.get("source")), printed(cell))
        for cell in cells
        if cell.get("cell_type") == "code"
    ]
    sizes = [len(source) for source, _ in found]
    if max(sizes, default=0) > LONGEST_CELL:
        raise Refused(f"a code cell of more than {LONGEST_CELL:,} characters")
    if sum(sizes) > MOST_CODE:
        raise Refused(f"more than {MOST_CODE:,} characters of code")
    return found


def text(value) -> str:
    """A text of a notebook, which may be kept as a list of lines."""
    lines = value if isinstance(value, list) else [value]
    return "".join(line for line in lines if isinstance(line, str))


def printed(cell: dict) -> str:
    outputs = cell.get("outputs")
    outputs = outputs if isinstance(outputs, list) else []
    return "\n".join(text(out.get("text")) for out in outputs if isinstance(out, dict))


# ---- judging -----------------------------------------------------------------------------------


def judged_file(path: Path) -> dict[str, tuple[str, str]]:
    """Exercise -> (result, note), for all exercises of the chapters met. Raises Refused."""
    found: dict[str, list[tuple[str, str]]] = {}
    names: dict = {}
    for source, output in cells_of(path):
        for exercise, result in judged_cell(source, output, names):
            found.setdefault(exercise, []).append(result)
    chapters = {name.partition(".")[0] for name in found}
    best = lambda results: min(results, key=lambda result: RESULTS.index(result[0]))
    missing = [("not found", "")]
    return {
        name: best(found.get(name, missing))
        for name in EXERCISES
        if name.partition(".")[0] in chapters
    }


def judged_cell(source: str, output: str, names: dict):
    """(exercise, (result, note)) for each check of a cell; `names` is brought up to date."""
    statements = parsed(source)
    if statements is None:
        names.clear()
        for name in re.findall(r"""check\(\s*["']([\w.]{1,9})["']""", source):
            if name in EXERCISES:
                yield name, said(name, output, "the cell cannot be read as Python")
        return
    for statement in statements:
        for call in (node for node in ast.walk(statement) if is_check(node)):
            name, answer = arguments(call)
            plain = isinstance(statement, ast.Expr) and statement.value is call
            value = meaning(answer, names) if plain and answer is not None else CODE
            if name in EXERCISES:
                yield name, judged(name, value, output)
        set_names(statement, names)


def parsed(source: str) -> list[ast.stmt] | None:
    """The statements of a cell; lines of IPython (%time, !ls, ?name) are left out if need be."""
    for code in (source, re.sub(r"(?m)^([ \t]*)[%!?].*$", r"\1pass", source)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ast.parse(code).body
        except NO_PYTHON:
            pass
    return None


def is_check(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", None) == "check"


def arguments(call: ast.Call) -> tuple[str | None, ast.expr | None]:
    """(name of the exercise, answer) of check("1.2", answer), with or without keywords."""
    given = dict(zip(("name", "answer"), call.args)) | {k.arg: k.value for k in call.keywords}
    name = getattr(given.get("name"), "value", None)
    return name if isinstance(name, str) else None, given.get("answer")


def judged(name: str, value, output: str) -> tuple[str, str]:
    """(result, note) of an answer; the check of the exercise gets data, never code."""
    if value is None or value is ...:
        return "empty", ""
    if value is FUNCTION or value is CODE:
        return said(name, output, "a function" if value is FUNCTION else "code, no plain answer")
    try:
        problem = EXERCISES[name].problem(value)
    except Exception as error:  # odder than any answer that the tests know
        return "not judged", f"this answer cannot be read ({type(error).__name__})"
    return ("solved", "") if problem is None else ("wrong", problem)


def said(name: str, output: str, note: str) -> tuple[str, str]:
    """(result, note) by the last line that the check of this exercise has printed."""
    lines = re.findall(rf"(?m)^Exercise {re.escape(name)}: (.*)$", output)
    if not lines or lines[-1].startswith("not answered yet"):
        return "not judged", f"{note}; the check was not run"
    return ("says solved" if lines[-1].strip() == "correct." else "says wrong"), note


# ---- the table ---------------------------------------------------------------------------------


def shown(path) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(path))[:300]


def rows_of(folder: Path) -> list[tuple[str, str, str, str]]:
    rows = []
    for path in files_below(folder):
        name = shown(path.relative_to(folder))
        try:
            results = judged_file(path) or {"": ("not found", "no check of an exercise")}
        except Refused as reason:
            results = {"": ("refused", str(reason))}
        rows += [(name, exercise, *result) for exercise, result in results.items()]
    return rows


def write(rows: list[tuple], out: Path) -> None:
    """Write in place of `out`; where `out` is a link, the link is replaced, not its goal."""
    page = io.StringIO()
    table = csv.writer(page, quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerows([[safe_cell(shown(cell)) for cell in row] for row in [COLUMNS, *rows]])
    with tempfile.NamedTemporaryFile("wb", dir=out.parent, delete=False) as file:
        file.write(page.getvalue().encode("utf-8-sig"))  # so that Excel reads Chinese names
    os.replace(file.name, out)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the students' notebooks lie")
    parser.add_argument("--out", type=Path, default=Path("exercises.csv"), help="%(default)s")
    given = parser.parse_args(arguments)
    if not given.folder.is_dir() or not given.out.parent.is_dir():
        sys.exit(f"No folder {given.folder}, or no folder for {given.out}.")
    rows = rows_of(given.folder)
    if not rows:
        sys.exit(f"No notebook (*.ipynb) below {given.folder}.")
    write(rows, given.out)
    for exercise in dict.fromkeys(row[1] for row in rows):
        counts = Counter(row[2] for row in rows if row[1] == exercise)
        told = ", ".join(f"{count} {result}" for result, count in counts.most_common())
        print(f"{exercise or 'other':>6}  {told}")
    print(f"{len({row[0] for row in rows})} files, {len(rows)} rows: {given.out}")


if __name__ == "__main__":
    main()
