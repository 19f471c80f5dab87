"""Notebook 15: the study's splits, its table, what the prose says of it, and the widget."""

import importlib
import json
import re

import numpy as np
from scipy import stats

from medtl_utils import widgets
from studies import ecg
from tests.chapters.notebook_code import namespace, prose
from tests.chapters.test_widgets import planted, said
from tests.conftest import ROOT

N = namespace("15")
TABLE = ROOT / "data" / "results" / "ecg.json"


# ---- the study -----------------------------------------------------------------------------------


def splits_as_told(held_out) -> bool:
    records = N["simulate"]("target", 18, 5, each=3)
    shared = {}
    for by in ("record", "patient"):
        out = held_out(records, by, 1)
        shared[by] = len(set(records.patients[out]) & set(records.patients[~out]))
        if out.sum() != 18:
            return False
    return shared["patient"] == 0 and shared["record"] >= 5


def test_the_splits_leak_or_do_not():
    assert splits_as_told(ecg.held_out)
    assert not splits_as_told(lambda records, by, seed: ecg.held_out(records, "record", seed))
    assert not splits_as_told(lambda records, by, seed: ecg.held_out(records, "patient", seed))


def kept() -> dict:
    return json.loads(TABLE.read_text())


def pick(table: dict, part: str, key: str) -> np.ndarray:
    return np.array([run[key] for run in table["runs"] if run["part"] == part])


def values_of(table: dict, row: dict) -> np.ndarray:
    """The values, a draw each, that a row of the summary is about."""
    arms = ecg.ARMS | {"RR features": "rr", "mean heart rate": "rate"}

    def arm(name: str) -> np.ndarray:
        if name == "wide, as it is":
            return pick(table, "source wide", "0 labels")
        key = f"{row['labels']} labels"
        if arms[name] in ("rr", "rate"):
            return pick(table, "features", f"{arms[name]}, {key}")
        return pick(table, arms[name], key)

    leak = lambda key, kind, by: pick(table, "leakage", f"{key}, {kind}, {by}")
    gap = lambda by: leak("reported", "true", by) - leak("fresh", "true", by)
    if row["kind"] == "as it is":
        name, place = row["what"].split(" source, ")
        return pick(table, f"source {name}", {"at home": "home", "away": "0 labels"}[place])
    if row["kind"] in ("level", "difference"):
        first, *second = row["what"].split(" - ")
        return arm(first) - (arm(second[0]) if second else 0)
    if row["what"] == "difference of the two":
        return gap("record") - gap("patient")
    what, by = row["what"].split(", split by ")
    if row["kind"] == "leakage difference":
        return gap(by)
    return leak(what, "random" if "random" in row["kind"] else "true", by)


def summary_follows(table: dict) -> bool:
    for row in table["summary"]:
        values = values_of(table, row)
        ends = (
            stats.ttest_1samp(values, 0).confidence_interval() if values.std() else [values[0]] * 2
        )
        low, high = max(ends[0], -1 if "difference" in row["kind"] else 0), min(ends[1], 1)
        got = [row["value"], row["low"], row["high"]]
        if len(values) < 5 or not np.allclose(got, [values.mean(), low, high], atol=3e-4):
            return False
    return len(table["summary"]) > 30


def test_the_summary_follows_from_the_runs():
    table = kept()
    assert summary_follows(table)
    table["runs"][0]["0 labels"] += 0.05
    assert not summary_follows(table)


# ---- the widget ----------------------------------------------------------------------------------


def peaks_are_counted() -> bool:
    beats = np.arange(0.5, 9.6, 0.75)

    def record(rhythm, rate, noise):
        x = np.zeros(1280)
        x[np.rint(beats * 128).astype(int)] = 1 + rhythm
        return x, beats

    found = np.append(np.rint(beats[2:] * 128), [100, 900]).astype(int)  # misses 2, adds 1 or 2
    wrong = sum(abs(f / 128 - beats).min() >= 0.08 for f in found)
    box = widgets.ecg_explorer(record, lambda x: found, 128, ("one", "other"))
    words = f"{len(beats)} R peaks in 10 s, RR intervals from 0.75 to 0.75 s. The detector finds "
    n = len(beats) - 2
    return words + f"{n} of them, misses 2 and marks {wrong} other place(s)." in said(box)


def test_ecg_explorer(shown, monkeypatch):
    assert peaks_are_counted()
    module = importlib.import_module("medtl_utils.widgets.chapter_15")
    right = module._matched
    planted(monkeypatch, "chapter_15", "_matched", lambda f, b: right(f, b - 0.3))
    assert not peaks_are_counted()


def is_in_the_table(text: str) -> bool:
    """Every "x (y to z)" in the text is a row of the table."""
    rows = {f"{r['value']:z.2f} ({r['low']:z.2f} to {r['high']:z.2f})" for r in kept()["summary"]}
    quoted = re.findall(r"−?\d\.\d\d \(−?\d\.\d\d to −?\d\.\d\d\)", text)
    return len(quoted) >= 10 and all(q.replace("−", "-") in rows for q in quoted)


def test_the_prose_says_what_the_table_says():
    assert is_in_the_table(prose("15"))
    assert not is_in_the_table(prose("15").replace("−0.25 (", "−0.52 ("))


def says_what_is_certain(table: dict) -> bool:
    """The claims of the summary: what excludes zero, and what includes it."""
    rows = {(r["what"], r["labels"]): r for r in table["summary"] if r["kind"] == "difference"}
    below = [("narrow source - RR features", 10), ("from scratch - RR features", 10)]
    below.append(("wide source - wide, as it is", 10))
    open_ = [(f"{name} source - from scratch", 100) for name in ("narrow", "wide")]
    return all(rows[k]["high"] < 0 for k in below) and all(
        rows[k]["low"] <= 0 <= rows[k]["high"] for k in open_
    )


def test_the_summary_says_what_is_certain():
    table = kept()
    assert says_what_is_certain(table)
    wrong = [r for r in table["summary"] if r["what"] == "wide source - wide, as it is"]
    wrong[0]["high"] = 0.01
    assert not says_what_is_certain(table)
