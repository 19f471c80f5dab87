"""What notebooks 02 (deep dive), 06 and 07 say of the studies' tables, held to the tables."""

import json

import pytest
from scipy import stats

from tests.chapters.notebook_code import prose
from tests.conftest import ROOT


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


def test_the_prose_says_what_leakage_is_worth():
    """Section 1 and the summary of notebook 06."""
    table = kept("leakage")
    rows = {(r["labels"], r["what"]): r for r in table["summary"]}
    by_image, by_patient = (
        rows["true", f"reported - fresh, split by {unit}"] for unit in ("image", "patient")
    )
    random = {u: rows["random", f"reported, split by {u}"] for u in ("image", "patient")}
    first = "reported minus fresh {mean:+.2f} (95 % interval {low:+.2f} to {high:+.2f})"
    assert first.format_map(by_image) in prose("06") and by_image["low"] > 0
    assert "{mean:.2f} ({low:.2f} to {high:.2f})".format_map(random["image"]) in prose("06")
    assert by_patient["low"] < 0 < by_patient["high"] and "it includes zero" in prose("06")
    assert random["patient"]["low"] < 0.5 < random["patient"]["high"] < random["image"]["high"]
    assert random["image"]["low"] > 0.55 and "Five times it drew 72" in prose("06")
    assert len(table["seeds"]) == 5
    worth = rows["true", "worth of leakage: difference of the two"]
    said = "five draws with true labels cannot say" in prose("06")
    assert said == (worth["low"] < 0 < worth["high"])
