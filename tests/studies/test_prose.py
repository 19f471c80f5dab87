"""What notebooks 02, 06 and 07 say of the studies' tables, held to the tables."""

import json

import numpy as np
import pytest
from scipy import stats

from medtl_utils.models import BLOCKS
from tests.chapters.notebook_code import prose
from tests.conftest import ROOT


def kept(name: str) -> dict:
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())


def step(table: dict, data: str, k: int) -> tuple[float, float]:
    """t interval of the gain of one more copied block."""
    pick = lambda k: np.array(
        [r["auc"] for r in table["runs"] if (r["data"], r["kind"], r["k"]) == (data, "tuned", k)]
    )
    gap = pick(k) - pick(k - 1)
    return stats.t.interval(0.95, len(gap) - 1, gap.mean(), stats.sem(gap))


def test_the_prose_says_what_the_transplants_table_says():
    """Sections 6 and 7 and the summary of notebook 02."""
    table = kept("transplant")
    gain = {(r["data"], r["kind"], r["k"]): r["gain"] for r in table["summary"] if r["k"]}
    sure = lambda *key: [k for k in range(1, 6) if gain.get((*key, k), {"low": -1})["low"] > 0]
    assert sure("simulated", "tuned") == [1, 2, 3, 4, 5] and sure("real", "tuned") == [2, 3, 4, 5]
    summary = prose("02").split("## Summary")[1].split("## Exercises")[0]
    for key in (("simulated", "tuned", 5), ("simulated", "frozen", 5), ("real", "tuned", 5)):
        quoted = [f"{gain[key][part]:+.2f}" in summary for part in ("value", "low", "high")]
        assert all(quoted), (key, gain[key])
    for data, wanted in (("simulated", [1]), ("real", [5])):  # steps surely above zero
        assert [k for k in range(1, 6) if step(table, data, k)[0] > 0] == wanted


@pytest.mark.parametrize("data", ["simulated", "real"])
def test_the_prose_says_what_the_similarities_are(data):
    """Section 7 of notebook 02: which blocks resemble the source's."""
    rows = kept("transplant")["similarity"]
    cka = {(r["block"], r["k"]): r["value"] for r in rows if r["data"] == data}
    assert cka["stem", 5] > 0.9 and cka["stem", 0] > 0.8 and cka["layer1", 5] < cka["layer2", 5]
    ordered = sorted(BLOCKS, key=lambda block: cka[block, 5])
    assert ordered[0] == "layer4" and ordered[-1] == "stem"
    assert all(cka[block, 5] > cka[block, 0] + 0.1 for block in BLOCKS[1:])
    assert cka["stem", 5] < cka["stem", 0] + 0.1
    # only the stem from scratch resembles the source's
    assert all(cka["stem", 0] > cka[block, 0] + 0.3 for block in BLOCKS[1:])


def test_the_prose_says_what_leakage_is_worth():
    """Section 9 of notebook 06."""
    rows = {(r["labels"], r["what"]): r for r in kept("leakage")["summary"]}
    worth = rows["true", "worth of leakage: difference of the two"]
    random = rows["random", "reported, split by image"]
    first = "{mean:+.2f} (95 % interval {low:+.2f} to {high:+.2f}".format_map(worth)
    assert first in prose("06")
    assert "{mean:.2f} ({low:.2f} to {high:.2f})".format_map(random) in prose("06")


def test_the_prose_says_what_the_shortcut_costs():
    """Section 8 of notebook 07: the dependence on the habit, and intervals that do not meet."""
    of = {
        (r["data"], r["recipe"], r["trained_on"]): (r["difference"], r["low"], r["high"])
        for r in kept("shortcut")["dependence"]
        if r["metric"] == "auc" and r["part"] != "twin-free"
    }
    text = prose("07").replace("95 % interval ", "")
    saw, none = (of["simulated", f"source saw {what}", "shortcut"] for what in ("marks", "none"))
    gentle, full = (of["real", recipe, "shortcut"] for recipe in ("gentle", "full"))
    for row in (saw, none, of["simulated", "gentle", "shortcut"], gentle, full):
        assert "{:.2f} ({:.2f} to {:.2f})".format(*row) in text, row
    assert saw[2] < none[1] and gentle[2] > full[1]
