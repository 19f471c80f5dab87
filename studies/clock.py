"""The clock of the course: the notebooks' seconds, and what the tests of one whole run took.

    make test 2>&1 | tee test.log; python -m studies.clock test.log

Notebooks: the seconds of their headers, one thread on an idle machine. Tests: the closing line of
pytest in the log; where it has them, the seconds by folder (`tests/clock.py`) and the shell's
`time`. Without a log the notebooks' part is made anew and the rest is kept.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from medtl_utils.paths import data_folder
from studies.tables import write_table

HEADER = re.compile(r"To run \| about (\d+) seconds with one thread")
PASSED = re.compile(r"(\d+) passed.* in ([\d.]+)s")
PLACE = re.compile(r"^ *(\d+) s  (\S.*)$", re.M)
SHELL = re.compile(r"^(real|user|sys)\s+(\d+)m([\d.]+)s", re.M)


def of_notebooks(folder: Path) -> dict[str, int]:
    """Short name -> seconds of its header; a notebook without the row is left out."""
    found = {}
    for path in sorted(folder.glob("[0-9]*.ipynb")):
        number, deep = path.stem.split("_")[0], path.stem.endswith("_deep")
        if row := HEADER.search(path.read_text(encoding="utf-8")):
            found[number + "_deep" * deep] = int(row[1])
    return found


def of_tests(log: str) -> dict:
    """What a log of `make test` tells. Raises ValueError where it has no closing line of pytest."""
    closing = PASSED.findall(log)
    if not closing:
        raise ValueError("The log has no line '... passed ... in ... s'. Give one of `make test`.")
    told: dict = {"passed": int(closing[-1][0]), "seconds": float(closing[-1][1])}
    if places := {place: int(s) for s, place in PLACE.findall(log)}:
        told["seconds_by_folder"] = places
    shell = {word: 60 * int(minutes) + float(s) for word, minutes, s in SHELL.findall(log)}
    if shell:
        told["seconds_with_installation"] = shell["real"]
        told["processor_seconds"] = shell["user"] + shell["sys"]
        told["share_of_two_cores"] = told["processor_seconds"] / (2 * shell["real"])
    return told


def main() -> None:
    notebooks = of_notebooks(data_folder().parent / "notebooks")
    file = data_folder() / "results" / "clock.json"
    if len(sys.argv) > 1:
        tests = of_tests(Path(sys.argv[1]).read_text(encoding="utf-8", errors="replace"))
    else:
        tests = json.loads(file.read_text())["tests"]
    table = {
        "command": "python -m studies.clock LOG",
        "notebooks": {"together": sum(notebooks.values())} | notebooks,
        "tests": tests,
    }
    print(f"wrote {write_table('clock', table)}")


if __name__ == "__main__":
    main()
