"""The clock of the tests: seconds by folder, and what is read from a log."""

import json
from collections import Counter

import pytest

from studies import clock as table
from tests import clock
from tests.conftest import ROOT

LOG = """
3 failed, 12 passed in 58.46s
---- clock ----
    900 s  unit
    300 s  waiting for notebooks
   1200 s  together
1 failed, 3427 passed, 2 skipped, 491 warnings in 2156.89s (0:35:56)

real	38m9.681s
user	42m38.189s
sys	3m23.272s
"""


@pytest.mark.parametrize(
    ("nodeid", "keywords", "place"),
    [
        ("tests/unit/test_a.py::test_b[x/y]", {}, "unit"),
        ("tests/browser/test_a.py::test_b", {"slow": 1}, "browser"),
        ("tests/chapters/test_notebooks.py::test_b", {"in_background": 1}, clock.WAITING),
        ("test_a.py::test_b", {}, "others"),
    ],
)
def test_a_tests_seconds_have_a_place(nodeid, keywords, place):
    assert clock.place_of(nodeid, keywords) == place


def test_the_clock_tells_the_longest_first_and_the_sum():
    lines = clock.told(Counter({"unit": 90.4, "browser": 610.0}))
    assert [line.split(" s  ") for line in map(str.strip, lines)] == [
        ["610", "browser"],
        ["90", "unit"],
        ["700", "together"],
    ]
    assert table.PLACE.findall("\n".join(lines))[0] == ("610", "browser")


def test_a_log_is_read():
    told = table.of_tests(LOG)
    assert (told["passed"], told["seconds"]) == (3427, 2156.89)
    assert told["seconds_by_folder"]["waiting for notebooks"] == 300
    assert told["seconds_with_installation"] == pytest.approx(2289.681)
    assert told["share_of_two_cores"] == pytest.approx(2761.461 / (2 * 2289.681))
    with pytest.raises(ValueError, match="no line"):
        table.of_tests("nothing")


@pytest.mark.check
def test_the_table_and_what_is_said_of_it():
    """CONTRIBUTING quotes the table; the sum is that of its rows."""
    kept = json.loads((ROOT / "data" / "results" / "clock.json").read_text())
    rows = dict(kept["notebooks"])
    assert rows.pop("together") == sum(rows.values()) and len(rows) > 25
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    tests, spent = kept["tests"], kept["tests"]["seconds_by_folder"]
    for words in (
        f"all notebooks together {sum(rows.values()):,} seconds",
        f"{tests['passed']:,} tests took {tests['seconds'] / 60:.0f} minutes",
        f"browser took {spent['browser']} of {spent['together']:,} seconds",
        f"waited for {spent['waiting for notebooks']} seconds",
    ):
        assert words in text, words
