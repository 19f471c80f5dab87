"""What notebooks 02 (deep dive), 06 and 07 say of the studies' tables, held to the tables."""

import json

import pytest

from tests.chapters.notebook_code import prose
from tests.conftest import ROOT


def kept(name: str) -> dict:
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())


def test_the_prose_says_what_the_transplants_table_says():
    """Section 5 of deep dive 02: copying all five blocks helped, on both kinds of images."""
    gains = {(r["data"], r["k"]): r["gain"] for r in kept("transplant")["summary"] if r["k"]}
    assert "**Copying all five blocks helped** on both kinds of images" in prose("02_deep")
    assert all(gains[data, 5]["low"] > 0 for data in ("simulated", "real"))


@pytest.mark.parametrize("data", ["simulated", "real"])
def test_the_prose_says_what_the_similarities_are(data):
    """Section 6 of deep dive 02: from scratch, the stem resembles the source's most."""
    rows = kept("transplant")["similarity"]
    scratch = {r["block"]: r["value"] for r in rows if (r["data"], r["k"]) == (data, 0)}
    assert "resembles the source's more than any other block" in prose("02_deep")
    assert max(scratch, key=scratch.get) == "stem"


def test_the_prose_says_what_leakage_is_worth():
    """Section 9 of notebook 06."""
    rows = {(r["labels"], r["what"]): r for r in kept("leakage")["summary"]}
    worth = rows["true", "worth of leakage: difference of the two"]
    random = rows["random", "reported, split by image"]
    first = "{mean:+.2f} (95 % interval {low:+.2f} to {high:+.2f}".format_map(worth)
    assert first in prose("06")
    assert "{mean:.2f} ({low:.2f} to {high:.2f})".format_map(random) in prose("06")
