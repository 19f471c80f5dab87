"""The table of solved exercises: honest notebooks are judged right, hostile ones run nothing."""

import ast
import csv
import json
import os
import re

import pytest

from medtl_utils.exercises import EXERCISES, collect
from medtl_utils.exercises.functions import Function
from tests.conftest import ROOT

FUNCTIONS = {name for name, exercise in EXERCISES.items() if isinstance(exercise, Function)}
NEEDS_NUMPY = {"4.1"}  # its solution calls a function of NumPy that is not read as arithmetic
COURSE = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


def cell(source, output=""):
    printed = [{"output_type": "stream", "name": "stdout", "text": output}] if output else []
    return {"cell_type": "code", "source": source, "outputs": printed}


def save(path, *cells, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": list(cells), "nbformat": 4, **more}), encoding="utf-8")
    return path


def result(tmp_path, name, *cells) -> tuple[str, str]:
    """(result, note) of one exercise in a notebook of these cells."""
    return collect.judged_file(save(tmp_path / "one.ipynb", *cells))[name]


def stub(name, answer="answer = ..."):
    return f'{answer}\ncheck("{name}", answer)'


def table(folder, out):
    collect.main([str(folder), "--out", str(out)])
    with open(out, encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


# ---- honest notebooks --------------------------------------------------------------------------


def solutions() -> dict[str, str]:
    folded = r"<details><summary>Solution ([\w.]+)</summary>\s*```python\n(.*?)```"
    cells = [c for path in COURSE for c in json.loads(path.read_text("utf-8"))["cells"]]
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    return {name: code for text in texts for name, code in re.findall(folded, text, re.S)}


SOLUTIONS = solutions()


@pytest.mark.parametrize("name", EXERCISES)
def test_the_courses_solution_is_judged(name, tmp_path):
    cells = stub(name, SOLUTIONS[name])
    if name in FUNCTIONS | NEEDS_NUMPY:
        assert result(tmp_path, name, cell(cells))[0] == "not judged"
        right, wrong = f"Exercise {name}: correct.\n", f"Exercise {name}: not correct.\n"
        assert result(tmp_path, name, cell(cells, right))[0] == "says solved"
        assert result(tmp_path, name, cell(cells, wrong))[0] == "says wrong"
    else:
        wrong = f"Exercise {name}: another number is expected.\n"  # of an earlier run
        assert result(tmp_path, name, cell(cells, wrong)) == ("solved", "")


@pytest.mark.parametrize("name", [name for name in EXERCISES if name not in FUNCTIONS])
def test_a_wrong_answer_gets_the_sentence_of_its_check(name, tmp_path):
    for answer, message in EXERCISES[name].wrong_answers():
        written = cell(stub(name, f"answer = {answer!r}"), f"Exercise {name}: correct.\n")
        assert result(tmp_path, name, written) == ("wrong", message)


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_the_courses_own_notebooks_are_empty(path):
    results = collect.judged_file(path)
    inside = set(re.findall(r'check\(\\"([\w.]+)\\", answer\)', path.read_text("utf-8")))
    assert {name for name, (said, _) in results.items() if said == "empty"} == inside
    assert {said for said, _ in results.values()} <= {"empty", "not found"}


FORMS = [
    ('x = "acf"\nanswer = x\ncheck("0.1", answer)', "solved"),
    ('check(name="0.1", answer="acf")', "solved"),
    ('%time\nanswer = "acf"\n!ls\ncheck("0.1", answer)', "solved"),
    ('answer: str = "acf"\ncheck("0.1", answer)\nanswer = 3', "solved"),
    ('answer = "ac"\ncheck("0.1", answer)\nanswer = "acf"\ncheck("0.1", answer)', "solved"),
    ('answer = ["a", "c"]\nanswer.append("f")\ncheck("0.1", answer)', "not judged"),
    ('answer = ["a", "c", "d"]\nanswer[2] = "f"\ncheck("0.1", answer)', "not judged"),
    ('answer = "a"\nanswer += "cf"\ncheck("0.1", answer)', "not judged"),
    ('answer = "acf"\nif x:\n    answer = "a"\ncheck("0.1", answer)', "not judged"),
    ('answer = "acf"\nfor answer in "ab":\n    pass\ncheck("0.1", answer)', "not judged"),
    ('answer = "acf"\nfrom mine import answer\ncheck("0.1", answer)', "not judged"),
    ('answer = "acf"\nif x:\n    check("0.1", answer)', "not judged"),
    ('answer = = "acf"\ncheck("0.1", answer)', "not judged"),
    ('answer = None\ncheck("0.1", answer)', "empty"),
    ('answer = lambda: "acf"\ncheck("0.1", answer)', "not judged"),
    ('answer = 2\ncheck("0.2", answer)', "not found"),
]


@pytest.mark.parametrize(("source", "wanted"), FORMS)
def test_forms_of_an_answer(source, wanted, tmp_path):
    assert result(tmp_path, "0.1", cell(source))[0] == wanted


def test_an_answer_may_stand_in_a_cell_above(tmp_path):
    above = cell('answer = "acf"')
    assert result(tmp_path, "0.1", above, cell('check("0.1", answer)'))[0] == "solved"
    broken = cell("answer = (")  # sets nobody knows what
    assert result(tmp_path, "0.1", above, broken, cell('check("0.1", answer)'))[0] == "not judged"


ARITHMETIC = [("40 + 2 * 3", "solved"), ("round(np.exp(np.log(46.2)))", "solved"),
              ("23 * 2.0 ** 1", "solved"), ("sum([40, 6])", "not judged"), ("-46", "wrong"),
              ("46 / 0", "not judged"), ("math.log(-1)", "not judged"), ("True + 45", "not judged"),
              ("(-8) ** 0.5", "not judged"), ("os.abs(46)", "not judged")]  # fmt: skip


@pytest.mark.parametrize(("answer", "wanted"), ARITHMETIC)
def test_arithmetic_is_read(answer, wanted, tmp_path):
    written = cell(stub("0.3", f"answer = {answer}"))
    assert result(tmp_path, "0.3", written)[0] == wanted
    if "round" in answer:  # the name means something else now
        taken = cell("def round(x): return 46\nnp = mine")
        assert result(tmp_path, "0.3", taken, written)[0] == "not judged"


# ---- hostile notebooks -------------------------------------------------------------------------

TRAPS = [
    'open({0!r}, "w")\nanswer = 46\ncheck("0.3", answer)',
    'answer = open({0!r}, "w")\ncheck("0.3", answer)',
    'check("0.3", open({0!r}, "w") and 46)',
    'def answer(a=open({0!r}, "w")): return 46\ncheck("0.3", answer)',
    'answer = [46 for _ in [open({0!r}, "w")]][0]\ncheck("0.3", answer)',
    'answer = __import__("pathlib").Path({0!r}).write_text("x")\ncheck("0.3", answer)',
    'answer = f"{{open({0!r}, chr(119))}}"\ncheck("0.3", answer)',
    'answer = round(open({0!r}, "w").fileno())\ncheck("0.3", answer)',
    '@(lambda f: open({0!r}, "w"))\ndef answer(): return 46\ncheck("0.3", answer)',
    'class answer(metaclass=lambda *a: open({0!r}, "w")): pass\ncheck("0.3", answer)',
    'answer = (x := 46) if open({0!r}, "w") else 46\ncheck("0.3", answer)',
]


@pytest.mark.parametrize("trap", TRAPS)
def test_no_code_of_a_student_runs(trap, tmp_path):
    made = tmp_path / "made.txt"
    source = trap.format(str(made))
    said, _ = result(tmp_path / "in", "0.3", cell(source))
    assert not made.exists()
    assert said == ("solved" if "answer = 46\n" in source else "not judged")
    exec(source, {"check": lambda name, answer: callable(answer) and "return" in trap})
    assert made.exists(), "this trap is none: it makes no file when it is run"


ABSURD = ["-" * 9000 + "1", "10 ** 10 ** 10", "9.0 ** 9 ** 9", "'a' * 10 ** 12", "[0] * 10 ** 12",
          "0x" + "f" * 15_000, "9" * 15_000, "(" * 300, "1" + "+1" * 9000, "{[]: 1}", "1e999 + 1j",
          "[" * 150 + "]" * 150, "'\\ud800'", "9" * 4000 + " + 1j", "max()", "round(1, 1e300)",
          "1 if 1 else " * 1500 + "1", "b'46'", "{1: 2}", "...  # x\x00"]  # fmt: skip


@pytest.mark.parametrize("answer", ABSURD, ids=lambda answer: answer[:9].encode().hex())
def test_absurd_answers_end_well(answer, tmp_path):
    for name in ("0.1", "0.2", "0.3", "1.1", "3.1"):
        said, note = result(tmp_path, name, cell(stub(name, f"answer = {answer}")))
        assert said in ("wrong", "not judged") and "\n" not in note


def link_out(path):
    outside = save(path.parents[1] / "outside.ipynb", cell(stub("0.3", "answer = 46")))
    path.symlink_to(outside)


def folder_out(path):
    save(path.parents[1] / "other" / "x.ipynb", cell(stub("0.3", "answer = 46")))
    path.symlink_to(path.parents[1] / "other")


def huge(path):
    with open(path, "wb") as file:
        file.truncate(200_000_000)


HOSTILE = {
    "over 10 MB": huge,
    "nested too deeply": lambda path: path.write_text('{"cells": ' + "[" * 200_000),
    "a number with too many digits": lambda path: path.write_text("9" * 5000),
    "no UTF-8": lambda path: path.write_bytes(b'{"cells": "\xff"}'),
    "no JSON": lambda path: path.write_text("print(1)"),
    "no notebook of format 4": lambda path: path.write_text('{"worksheets": []}'),
    "format 4": lambda path: path.write_text('{"cells": [1, null]}'),
    "more than 1,000 cells": lambda path: save(path, *[cell("1")] * 1001),
    "a code cell of more than 20,000": lambda path: save(path, cell("#" * 20_001)),
    "more than 500,000 characters": lambda path: save(path, *[cell("#" * 20_000)] * 26),
    "a link": link_out,
    "a link: put": folder_out,
    "a link: ": lambda path: path.symlink_to("/nowhere"),
    "no file": lambda path: os.mkfifo(path),
    "more than 8 deep": lambda path: (path.parent / "/".join("abcdefghi")).mkdir(parents=True),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes as Linux knows them")
@pytest.mark.parametrize("reason", HOSTILE)
def test_a_hostile_file_is_refused_with_its_reason(reason, tmp_path):
    folder = tmp_path / "handed_in"
    honest = save(folder / "honest.ipynb", cell(stub("0.3", "answer = 46")))
    HOSTILE[reason](folder / "hostile.ipynb")
    rows = table(folder, tmp_path / "table.csv")
    refused = [row for row in rows if row[2] == "refused"]
    assert len(refused) == 1 and reason in refused[0][3], rows
    assert [honest.name, "0.3", "solved", ""] in rows and "x.ipynb" not in str(rows)


def test_limits_refuse_only_what_is_over_them(tmp_path):
    source = stub("0.3", "answer = 46").ljust(20_000, "#")
    many = save(tmp_path / "a.ipynb", *[cell(source)] * 25, *[{"cell_type": "markdown"}] * 975)
    assert collect.judged_file(many)["0.3"][0] == "solved"
    large = save(tmp_path / "b.ipynb", cell(source), metadata="x" * 9_970_000)
    assert 9_900_000 < large.stat().st_size <= 10_000_000
    assert collect.judged_file(large)["0.3"][0] == "solved"
    assert collect.judged_file(save(tmp_path / "c.ipynb", {"cell_type": "code"})) == {}


def test_too_many_notebooks_are_refused(tmp_path, monkeypatch):
    for number in range(4):
        save(tmp_path / f"{number}.ipynb")
    monkeypatch.setattr(collect, "MOST_FILES", 4)
    assert len(collect.rows_of(tmp_path)) == 4
    monkeypatch.setattr(collect, "MOST_FILES", 3)
    with pytest.raises(SystemExit, match="More than 3 notebooks"):
        collect.rows_of(tmp_path)


# ---- the table ---------------------------------------------------------------------------------

NAMES = ["=cmd()", "+1", "-1", "@x", " =1", "＝1", "\t=1", "\n-1", "王芳", "a,b;c", 'a"b', "a\r=1"]


def formulas(rows) -> list[str]:
    """Cells that a spreadsheet may run."""
    return [c for row in rows for c in row if re.match(r"[\s?]*[=+\-@＝＋－＠]|[^ -~].*\n", c)]


def test_no_cell_is_a_formula(tmp_path, monkeypatch):
    for name in NAMES:
        save(tmp_path / f"{name}.ipynb", cell(stub("0.3", "answer = 46")))
    (tmp_path / os.fsdecode(b"\xff.ipynb")).write_text("{}")
    rows = table(tmp_path, tmp_path / "table.csv")
    cells = [row[0] for row in rows if row[1] == "0.3"]
    assert len(cells) == len(NAMES) and "王芳.ipynb" in cells and "'=cmd().ipynb" in cells
    assert [c for c in formulas(rows) if not c.startswith("?")] == []
    assert all(c.isprintable() for row in rows for c in row)
    monkeypatch.setattr(collect, "safe_cell", lambda cell: cell)
    assert len(formulas(table(tmp_path, tmp_path / "table.csv"))) > 5, "the test finds nothing"


def test_a_link_in_place_of_the_table_is_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("kept")
    save(tmp_path / "in" / "a.ipynb", cell(stub("0.3", "answer = 46")))
    out = tmp_path / "in" / "table.csv"
    out.symlink_to(secret)
    collect.main([str(tmp_path / "in"), "--out", str(out)])
    assert secret.read_text() == "kept" and not out.is_symlink() and out.stat().st_size > 20


def test_the_command_tells_what_it_found(tmp_path, capsys):
    save(tmp_path / "in" / "ann" / "0.ipynb", cell(stub("0.3", "answer = 46")))
    save(tmp_path / "in" / "bo" / "0.ipynb", cell(stub("0.3", "answer = 41")))
    save(tmp_path / "in" / "bo" / ".ipynb_checkpoints" / "0.ipynb", cell(stub("0.3")))
    save(tmp_path / "in" / "bo" / "other.ipynb", cell("x = 1"))
    rows = table(tmp_path / "in", tmp_path / "table.csv")
    said = capsys.readouterr().out
    assert "0.3  1 solved, 1 wrong" in said and "0.1  2 not found" in said and "3 files" in said
    assert rows[0] == ["file", "exercise", "result", "note"] and len(rows) == 1 + 3 + 3 + 1
    assert ["bo/other.ipynb", "", "not found", "no check of an exercise"] in rows


def test_it_says_what_is_missing(tmp_path):
    gone = tmp_path / "gone"
    wrong = [([gone], "No folder"), ([tmp_path, "--out", gone / "t.csv"], "no folder for")]
    for arguments, words in [*wrong, ([tmp_path], "No notebook")]:
        with pytest.raises(SystemExit, match=words):
            collect.main(list(map(str, arguments)))


def test_nothing_that_runs_code_is_used():
    """Neither file names exec, eval, compile, a kernel or a process."""
    for module in ("collect", "as_data"):
        source = (ROOT / "medtl_utils" / "exercises" / f"{module}.py").read_text("utf-8")
        names = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(ast.parse(source))}
        assert not names & {"exec", "eval", "__import__", "import_module", "run", "Popen", "system"}
        assert not re.search(r"nbclient|subprocess|runpy|jupyter", source)
