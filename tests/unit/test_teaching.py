"""The teacher's notes: minutes that add up, a section for each chapter, rubrics, the room."""

import importlib
import json
import re
import sys

import pytest

from medtl_utils.exercises import EXERCISES
from tests.conftest import ROOT

pytestmark = pytest.mark.check
TEXT = (ROOT / "notebooks" / "TEACHING.md").read_text(encoding="utf-8")
WORDS = 3150
PLANS = {"One session": 90, "Two mornings": 480, "Ten weeks": 1200}
PART = re.compile(r"(\d\d[bc]?(?: deep)?) (whole|part) (\d+)")
FREE = re.compile(r"(?:break|open task|discussion|talks) (\d+)")
SECTION = re.compile(r"^### (\d\d[bc]?) (.+) \((\d+) minutes\)$", re.M)
FIELDS = ("- **Skip:**", "- **Students get wrong:**", "- **Ask:**", "- **Pair:**")


@pytest.fixture(scope="module")
def classroom():
    """notebooks/classroom.py, which imports execute.py beside it."""
    sys.path.insert(0, str(ROOT / "notebooks"))
    try:
        yield importlib.import_module("classroom")
    finally:
        sys.path.remove(str(ROOT / "notebooks"))


def markdown(path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


NOTEBOOKS = {
    p.stem.split("_")[0] + " deep" * p.stem.endswith("_deep"): markdown(p)
    for p in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
}
CORES = {name: text for name, text in NOTEBOOKS.items() if not name.endswith(" deep")}


def minutes(text: str) -> int:
    """What the header of a notebook says."""
    return int(re.search(r"^\| To teach \| (\d+) minutes\b", text, re.M)[1])


# ---- the plans ---------------------------------------------------------------------------------


def faults_of_plan(text: str, name: str, total: int) -> list[str]:
    """Where a plan's minutes do not add up, or are not those of the headers."""
    found = []
    body = text.split(f"### {name}: {total} minutes\n", 1)[1].split("\n#", 1)[0]
    rows = re.findall(r"^\| (\w+) \| (.+) \| (\d+) \|$", body, re.M)
    for row, content, said in rows:
        parts = [(which, kind, int(n)) for which, kind, n in PART.findall(content)]
        added = sum(n for *_, n in parts) + sum(map(int, FREE.findall(content)))
        if added != int(said):
            found.append(f"{row}: {added} minutes add up, {said} stand there")
        for which, kind, n in parts:
            header = minutes(NOTEBOOKS[which])
            if kind == "whole" and n != header or kind == "part" and n >= header:
                found.append(f"{row}: {which} {kind} {n}, its header says {header}")
    if sum(int(said) for *_, said in rows) != total:
        found.append(f"{name}: the rows are not {total} minutes")
    return found


@pytest.mark.parametrize(("name", "total"), PLANS.items())
def test_the_minutes_of_a_plan_add_up(name, total):
    assert faults_of_plan(TEXT, name, total) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("00 whole 45 | 45", "00 whole 50 | 45"),
        ("00 whole 45 | 45", "00 whole 50 | 50"),
        ("06 part 15", "06 part 60"),
        ("| 3 | 06 part 15", "| 3 | break 5, 06 part 15"),
        ("05 whole 80, break 15, discussion 25", "05 whole 80, break 30, discussion 25"),
        ("15 whole 60, break 15, talks 45", "15 whole 60, talks 45"),
    ],
)
def test_the_test_of_the_plans_bites(right, wrong):
    assert right in TEXT
    planted = TEXT.replace(right, wrong, 1)
    assert [f for name, total in PLANS.items() for f in faults_of_plan(planted, name, total)]


EIGHT_HOURS = 480
PATH = [f"{n:02d}" for n in range(8)]


def test_the_path_from_00_to_07_takes_eight_hours():
    """Without breaks; the notebook that says so is 00."""
    added = sum(minutes(CORES[name]) for name in PATH)
    assert added <= EIGHT_HOURS and "takes eight hours with its exercises" in CORES["00"]
    longer = CORES | {"05": CORES["05"].replace("| To teach | 80 min", "| To teach | 90 min")}
    assert sum(minutes(longer[name]) for name in PATH) > EIGHT_HOURS  # planted


def test_both_other_chapters_of_week_ten_fit_its_minutes():
    assert minutes(NOTEBOOKS["15"]) == minutes(NOTEBOOKS["15b"]) == minutes(NOTEBOOKS["15c"])


# ---- the chapters ------------------------------------------------------------------------------


def faults_of_chapters(text: str) -> list[str]:
    found = []
    sections = {number: (title, int(n)) for number, title, n in SECTION.findall(text)}
    found += [f"{n} has no section" for n in CORES if n not in sections]
    for number, (title, n) in sections.items():
        body = text.split(f"### {number} {title}", 1)[1].split("\n### ", 1)[0]
        if n != minutes(CORES[number]):
            found.append(f"{number}: {n} minutes, its header says {minutes(CORES[number])}")
        found += [f"{number}: no {field}" for field in FIELDS if body.count(field) != 1]
        asked = body.split("- **Ask:**")[-1].split("- **Pair:**")[0].count("?")
        if asked not in (2, 3):
            found.append(f"{number}: {asked} questions")
    return found


def test_each_chapter_has_its_section():
    assert faults_of_chapters(TEXT) == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("### 03 The loss (60 minutes)", "### The loss"),
        ("### 03 The loss (60 minutes)", "### 03 The loss (45 minutes)"),
        ("- **Pair:** each plants", "- each plants"),
        ("When is one gene enough? ", ""),
        ("### 16 Your own data (60 minutes)", "### 16 Your own data"),
    ],
)
def test_the_test_of_the_chapters_bites(right, wrong):
    assert right in TEXT
    assert faults_of_chapters(TEXT.replace(right, wrong))


def test_every_exercise_that_is_named_exists():
    text = TEXT.split("## Chapter by chapter")[1].replace("CC BY 4.0", "")
    named = re.findall(r"(?<![\d.])(\d{1,2}[bc]?\.\d)[a-i]?\b(?!\s*GB)", text)
    unknown = [name for name in named if name not in EXERCISES]
    assert len(named) > 30 and unknown == []


def rows_of_rubric(text: str) -> int:
    """Rows of the open task's rubric; each is worth two points."""
    task = re.split(r"\n### Open task", text)[1].split("\n## ")[0]
    return len(re.findall(r"^\| .+\|$", task, re.M)) - 1


def test_the_points_of_the_open_tasks_are_as_said():
    rows = {name: rows_of_rubric(text) for name, text in CORES.items()}
    assert set(rows.values()) == {5} and "**ten points**" in TEXT
    task = CORES["08"].split("| the budget")  # planted: a row less
    assert rows_of_rubric(task[0] + task[1].split("\n", 1)[1]) == 4
    assert all("| rubric | 0 points | 1 point | 2 points |" in text for text in CORES.values())


def test_the_example_is_marked_by_the_rubric_of_05():
    example = TEXT.split("**An example**")[1]
    rows = re.findall(r"^\| (the \w+) \| (\d) \|", example, re.M)
    task = CORES["05"].split("### Open task")[1]
    assert [row for row, _ in rows] == re.findall(r"^\| (the \w+) \|", task, re.M)
    words = {4: "Four"}
    assert f"{words[sum(int(n) for _, n in rows)]} of ten" in example


def test_it_is_short():
    assert sum(bool(re.search(r"\w", word)) for word in TEXT.split()) <= WORDS


# ---- the room ----------------------------------------------------------------------------------


def test_the_needs_of_thirty_seats_are_those_in_the_text(classroom):
    said, missing = classroom.needs(30, 10, 1000.0, 1000.0, classroom.headers())
    assert missing == []
    assert f"about {re.search(r'memory +(.+?) GB', said[1])[1]} GB" in TEXT
    assert f"{classroom.SEAT} GB more" in TEXT and f"JupyterLab {classroom.LAB} GB" in TEXT


def test_the_needs_by_hand(classroom):
    heads = {"a": (100, 0.9), "b": (40, 1.9)}  # a is the longest, b the largest
    said, missing = classroom.needs(10, 4, 22.0, 2.0, heads)
    assert missing == [] and "memory  22 GB: 2.0 a seat in notebook b" in said[1]
    assert "notebook a: 100 seconds alone, about 250 if all 10" in said[3]
    assert "disk    2.0 GB" in said[2]
    assert "about 100 if" in classroom.needs(3, 4, 22.0, 2.0, heads)[0][3]
    _, missing = classroom.needs(10, 4, 21.9, 1.9, heads)
    assert missing[0].startswith("memory for 9 seats only") and "disk for 9 seats" in missing[1]
    assert classroom.needs(10, 4, float("nan"), 2.0, heads)[1] == []  # the system does not tell


def test_the_command_of_the_room(classroom, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["classroom.py", "--seats", "1"])
    monkeypatch.setattr(classroom, "memory_here", lambda: 100.0)
    classroom.main()
    assert capsys.readouterr().out.endswith("Enough.\n")
    monkeypatch.setattr(classroom, "memory_here", lambda: 1.0)
    with pytest.raises(SystemExit, match="Not enough: memory for 0 seats"):
        classroom.main()
    monkeypatch.setattr(sys, "argv", ["classroom.py", "--seats", "0"])
    with pytest.raises(SystemExit):
        classroom.main()
