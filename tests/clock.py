"""Plugin for pytest -p: at the end, the clock of the tests: seconds by folder, and of waiting.

A test that waits for its own job in the background (a notebook, a copy cell) is counted as waiting:
those jobs run beside the other tests, two at a time.
"""

from __future__ import annotations

from collections import Counter

WAITING = "waiting for notebooks"
SPENT: Counter[str] = Counter()


def place_of(nodeid: str, keywords) -> str:
    """Where a test's seconds belong: "browser", "chapters", "studies", "unit", or waiting."""
    if "in_background" in keywords:
        return WAITING
    folders = nodeid.split("::")[0].split("/")[:-1]
    return folders[-1] if folders else "others"


def pytest_runtest_logreport(report):
    SPENT[place_of(report.nodeid, report.keywords)] += report.duration


def told(spent: Counter[str]) -> list[str]:
    """One line a place, the longest first, and the sum."""
    lines = [f"{seconds:7.0f} s  {place}" for place, seconds in spent.most_common()]
    return [*lines, f"{sum(spent.values()):7.0f} s  together"]


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("clock")
    for line in told(SPENT):
        terminalreporter.write_line(line)
