"""What notebooks 02 (deep dive) and 06 say of the studies' tables, held to the tables."""

import json

import pytest
from scipy import stats

from tests.chapters.notebook_code import prose
from tests.conftest import ROOT

UNITS = ("image", "patient")


def kept(name: str) -> dict:
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())


def of_the_transplant(table: dict) -> list[bool]:
    """What section 5 of deep dive 02 says: of gains, of freezing, of ten steps, of scratch."""
    gains = {
        (r["data"], r["k"]): r["gain"]
        for r in table["summary"]
        if (r["kind"], r["k"] > 0) == ("tuned", True)
    }
    aucs = {(r["data"], r["kind"], r["k"]): [] for r in table["runs"]}
    for r in table["runs"]:
        aucs[r["data"], r["kind"], r["k"]].append(r["auc"])
    gap = lambda one, other: stats.ttest_rel(aucs[one], aucs[other]).confidence_interval()
    steps = {
        (data, k): gap((data, "tuned", k), (data, "tuned", k - 1))
        for data in ("simulated", "real")
        for k in range(1, 6)
    }
    frozen = gap(("simulated", "frozen", 5), ("simulated", "tuned", 5))
    off_zero = {step for step, (low, high) in steps.items() if low > 0 or high < 0}
    far = [step for step in off_zero if steps[step].low > (steps[step].high - steps[step].low)]
    scratch = {r["data"]: r["auc"] for r in table["summary"] if r["k"] == 0}
    return [
        gains["simulated", 5]["low"] > 0,
        gains["real", 5]["low"] < 0 < gains["real", 5]["high"],
        frozen.low < 0 < frozen.high,
        len(off_zero) == 3 and far == [("simulated", 3)],
        scratch["simulated"]["low"] < 0.5 and scratch["real"]["low"] > scratch["simulated"]["high"],
    ]


def test_the_prose_says_what_the_transplants_table_says():
    table, text = kept("transplant"), prose("02_deep")
    for words in (
        "**Copying all five blocks helped on simulated images**",
        "On real images it includes zero",
        "cannot say which of the two is better",
        "Of ten intervals three exclude zero",
        "close to one half on simulated images",
    ):
        assert words in text
    assert all(of_the_transplant(table))
    for row in table["summary"]:  # planted: every gain turned round
        if "gain" in row:
            row["gain"] = {"low": -row["gain"]["high"], "high": -row["gain"]["low"]}
    for row in table["runs"]:  # and every AUC
        row["auc"] = 1 - row["auc"]
    assert [k for k, holds in enumerate(of_the_transplant(table)) if holds] == [1, 2, 4]


@pytest.mark.parametrize("data", ["simulated", "real"])
def test_the_prose_says_what_the_similarities_are(data):
    """Section 6 of deep dive 02: from scratch, the stem resembles the source's most."""
    rows = kept("transplant")["similarity"]
    scratch = {r["block"]: r["value"] for r in rows if (r["data"], r["k"]) == (data, 0)}
    assert "resembles the source's more than any other block" in prose("02_deep")
    assert max(scratch, key=scratch.get) == "stem"


def of_the_leakage(table: dict) -> list[bool]:
    """What section 1 of notebook 06 says: of both differences, of theirs, of random labels."""
    rows = {(r["labels"], r["what"]): r for r in table["summary"]}
    holds_zero = lambda row: row["low"] < 0 < row["high"]
    gap = {unit: rows["true", f"reported - fresh, split by {unit}"] for unit in UNITS}
    random = {unit: rows["random", f"reported, split by {unit}"] for unit in UNITS}
    return [
        all(row["low"] > 0 for row in gap.values()),
        holds_zero(rows["true", "worth of leakage: difference of the two"]),
        holds_zero(rows["true", "fresh, split by image - fresh, split by patient"]),
        random["image"]["low"] > 0.6,
        random["patient"]["low"] < 0.5 < random["patient"]["high"] < random["image"]["low"],
        len(table["seeds"]) == 20,
    ]


def test_the_prose_says_what_leakage_is_worth():
    """Section 1 and the summary of notebook 06."""
    table, text = kept("leakage"), prose("06")
    for words in (
        "Twenty times it drew 72",
        "*both* reported AUCs lie above the fresh ones",
        "true labels cannot say what leakage is worth here",
        "No difference between the two fresh models is shown",
    ):
        assert words in text
    assert all(of_the_leakage(table))
    random = {r["what"]: r for r in table["summary"] if r["labels"] == "random"}
    first = "an AUC of {mean:.2f} (95 % interval {low:.2f} to {high:.2f})"
    assert first.format_map(random["reported, split by image"]) in text
    second = "a split by patient {mean:.2f} ({low:.2f} to {high:.2f})"
    assert second.format_map(random["reported, split by patient"]) in text
    for row in table["summary"]:  # planted: all shifted up by a fifth
        row |= {"low": row["low"] + 0.2, "high": row["high"] + 0.2}
    assert of_the_leakage(table) == [True, False, False, True, False, True]


def the_larger_study_can_say(table: dict) -> bool:
    """Deep dive 02 sends the reader there: 780 images, and a gain with 200 labels above zero."""
    wanted = {"arm": "ultrasound", "against": "scratch", "n": 200}
    (row,) = (r for r in table["gains"] if wanted.items() <= r.items())
    return "780" in table["images"] and row["low"] > 0


def test_deep_dive_02_names_the_study_that_can_say():
    there = (ROOT / "data" / "results" / "evidence.json").is_file()
    table = kept("evidence" if there else "evidence_first")
    assert "scores 780; there the gain with 200 labels excludes zero" in prose("02_deep")
    assert the_larger_study_can_say(table)
    for row in table["gains"]:  # planted
        row["low"] = -0.01
    assert not the_larger_study_can_say(table)
