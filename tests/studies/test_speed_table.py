"""The table of the race: its rows hold together, and the READMEs say what it says."""

import json
import re
from collections import Counter

import numpy as np
import pytest

from studies import speed, speed_other
from studies.speed_loops import LOOPS, OURS
from tests.conftest import ROOT

FILE = ROOT / "data" / "results" / "speed.json"


def kept() -> dict:
    return json.loads(FILE.read_text())


# ---- the table -----------------------------------------------------------------------------------


def faults(table: dict) -> set[str]:
    """What of the table does not hold together."""
    found, rows = set(), table["loops"]
    cells = {(r["size"], r["batch"]) for r in rows}
    keys = {(r["loop"], r["size"], r["batch"]) for r in rows}
    if keys != {(name, *cell) for name in table["raced"] for cell in cells}:
        found.add("a row is missing")
    for size, batch in cells:
        cell = [r for r in rows if (r["size"], r["batch"]) == (size, batch)]
        steps = speed.EPOCHS * -(-table["images"][str(size)]["train"] // batch)
        if {r["updates"] for r in cell} != {steps}:
            found.add("updates differ")
        if len({r["rounds"] for r in cell}) != 1:
            found.add("rounds differ")
        ours = next((r for r in cell if r["loop"] == OURS), {"auc": np.nan})
        if any(abs(r["auc"] - ours["auc"] - r["auc_minus_ours"]) > 3e-4 for r in cell):
            found.add("differences of AUC do not follow")
        if any(not 0 < r["ratio_low"] <= r["ratio"] <= r["ratio_high"] for r in cell):
            found.add("ratios are out of order")
    for name in table["raced"]:
        mine = [r for r in rows if r["loop"] == name]
        weight = [r["rounds"] for r in mine]
        if abs(np.average([r["auc_minus_ours"] for r in mine], weights=weight)) > table["margin"]:
            found.add("AUCs differ")
    if table["complete"] != (rounds_of(rows) == Counter((s, b) for s, b, _ in speed.planned())):
        found.add("completeness")
    if not all(row["same"] for row in table["audit"]) or len(table["audit"]) != len(table["raced"]):
        found.add("audit")
    if any(bool(goal["met"]) != reaches(goal) for goal in table["goals"]):
        found.add("goals do not follow")
    if any(bool(goal["met"]) == bool(goal.get("why")) for goal in table["goals"]):
        found.add("a missed goal without its reason")
    return found


def rounds_of(rows: list[dict]) -> Counter:
    return Counter({(r["size"], r["batch"]): r["rounds"] for r in rows if r["loop"] == OURS})


def reaches(goal: dict) -> bool:
    if "all" in goal:
        return min(goal["all"]) >= goal["wanted"]
    least = re.search("times as fast|images a second", goal["goal"])
    return goal["got"] >= goal["wanted"] if least else goal["got"] <= goal["wanted"]


@pytest.mark.check
def test_the_table_holds_together():
    table = kept()
    assert faults(table) == set()
    assert table["raced"] == list(LOOPS) and table["margin"] == speed.MARGIN
    assert table["command"].split()[-1] == speed.__name__ and speed.FRESH >= 1000
    native = {"avx512_bf16", "amx_bf16"} & set(table["processor"]["flags"])
    assert table["native_bfloat16"] == bool(native)
    assert [row["images"] for row in table["growth"]] == list(speed_other.GROWTH)


def spoiled(table: dict, mistake: str) -> dict:
    row = next(r for r in table["loops"] if r["loop"] == "fastai")
    for other in table["loops"]:
        if mistake == "AUCs differ" and other["loop"] == "fastai":
            other["auc"], other["auc_minus_ours"] = (
                other["auc"] - 0.2,
                other["auc_minus_ours"] - 0.2,
            )
    if mistake == "updates differ":
        row["updates"] //= 2
    elif mistake == "differences of AUC do not follow":
        row["auc"] += 0.01
    elif mistake == "ratios are out of order":
        row["ratio"] = row["ratio_high"] + 1
    elif mistake == "rounds differ":
        row["rounds"] += 1
    elif mistake == "a row is missing":
        table["loops"].remove(row)
    elif mistake == "completeness":
        table["complete"] ^= True
    elif mistake == "audit":
        table["audit"].pop()
    elif mistake == "a missed goal without its reason":
        next(goal for goal in table["goals"] if not goal["met"]).pop("why")
    elif mistake == "goals do not follow":
        table["goals"][-1]["met"] ^= True
    return table


MISTAKES = (
    "a row is missing",
    "updates differ",
    "rounds differ",
    "differences of AUC do not follow",
    "ratios are out of order",
    "AUCs differ",
    "completeness",
    "audit",
    "goals do not follow",
    "a missed goal without its reason",
)


@pytest.mark.check
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_check_of_the_table_bites(mistake):
    assert mistake in faults(spoiled(kept(), mistake))


# ---- the texts -----------------------------------------------------------------------------------


def numbers(table: dict) -> dict[str, str]:
    """What both READMEs say, as the table has it."""
    rows = table["loops"]
    ends = lambda values: (f"{min(values):.1f}", f"{max(values):.1f}")
    of = lambda name: ends([r["ratio"] for r in rows if r["loop"] == name])
    apart = max(abs(r["auc_minus_ours"]) for r in rows)
    return {
        "plain": of("plain PyTorch"),
        "lightning": of("Lightning, bf16-mixed"),
        "float32": ends(table["float32"].values()),
        "level": of("plain PyTorch, bfloat16 and channels-last"),
        "auc": f"{np.ceil(100 * apart) / 100:.2f}",
    }


def sentences(table: dict) -> dict[str, list[str]]:
    n = numbers(table)
    (a, b), (c, d), (e, f), (g, h) = (n[k] for k in ("plain", "lightning", "float32", "level"))
    return {
        "README.md": [
            f"{a} to {b} times the seconds of `fine_tune`",
            f"Lightning in bf16-mixed {c} to {d} times",
            f"channels-last takes {g} to {h} times",
            f"With float32 on both sides, {e} to {f} times is left",
            f"{speed.FRESH:,} fresh simulated images differ by {n['auc']} at most",
        ],
        "README.zh-CN.md": [
            f"是 `fine_tune` 的 {a} 至 {b} 倍",
            f"Lightning 的 bf16-mixed 是 {c} 至 {d} 倍",
            f"channels-last，为 {g} 至 {h} 倍",
            f"双方都用 float32 时，前者只剩 {e} 至 {f} 倍",
            f"在 {speed.FRESH:,} 幅全新的模拟图像上，AUC 最多相差 {n['auc']}",
        ],
    }


def said(table: dict) -> list[bool]:
    texts = {name: " ".join((ROOT / name).read_text(encoding="utf-8").split()) for name in BOTH}
    return [words in texts[name] for name in BOTH for words in sentences(table)[name]]


BOTH = ("README.md", "README.zh-CN.md")


@pytest.mark.check
def test_the_readmes_say_what_the_table_says():
    table = kept()
    assert all(said(table)), said(table)
    for row in table["loops"]:  # planted: other seconds, other AUCs
        row |= {"ratio": row["ratio"] + 0.3, "auc_minus_ours": row["auc_minus_ours"] + 0.03}
    assert said(table) == [False, False, False, True, False] * 2


NAMES = {"plain PyTorch": "plain PyTorch, float32", "fine_tune, float32": "`fine_tune` in float32"}


def rows_of_16b(table: dict) -> list[str]:
    """The lines of the table in notebook 16b, and its two sentences."""
    ratios = {name: [] for name in table["raced"] if name != OURS}
    for row in table["loops"]:
        ratios.get(row["loop"], []).append(row["ratio"])
    lines = [f"| {NAMES.get(n, n)} | {min(r):.1f} to {max(r):.1f} |" for n, r in ratios.items()]
    n = numbers(table)
    lines.append(f"the plain loop takes {n['float32'][0]} to {n['float32'][1]} times our seconds")
    lines.append(f"each epoch after it was {table['frozen_trunk']['ratio']:.0f} times as fast")
    return [*lines, f"fresh simulated images differ by {n['auc']} at most"]


@pytest.mark.check
def test_notebook_16b_says_what_the_table_says():
    cells = json.loads((ROOT / "notebooks/16b_several_machines.ipynb").read_text())["cells"]
    text = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    table = kept()
    assert [line for line in rows_of_16b(table) if line not in text] == []
    for row in table["loops"]:  # planted: other seconds, other AUCs
        row |= {"ratio": row["ratio"] + 0.3, "auc_minus_ours": row["auc_minus_ours"] + 0.03}
    table["frozen_trunk"]["ratio"] += 2
    table["float32"] = {k: v + 0.3 for k, v in table["float32"].items()}
    assert not any(line in text for line in rows_of_16b(table))
