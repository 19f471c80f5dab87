"""The kept tables: bounded intervals, values that are means of their runs."""

import copy
import importlib
import json

import numpy as np
import pytest
from scipy import stats

from medtl_utils.models import ULTRASOUND_SHA256
from studies import leakage, learning_curve, real_or_simulated, shortcut, snippet, transplant
from tests.conftest import ROOT

RESULTS = ROOT / "data" / "results"
STUDIES = {
    module.STUDY.name: module.STUDY
    for module in (leakage, learning_curve, real_or_simulated, shortcut, snippet, transplant)
}


def kept(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


# ---- what all tables have ------------------------------------------------------------------------


OTHERS = ("evidence_first", "pretrain", "genes", "speech", "ecg", "recipes")


@pytest.mark.parametrize("name", [*STUDIES, *OTHERS])
def test_the_command_names_a_module_that_is_there(name):
    words = kept(name)["command"].split()
    assert words[:2] == ["python", "-m"] and words[2] == f"studies.{name}"
    assert hasattr(importlib.import_module(words[2]), "main")


def test_tables_were_made_with_the_source_that_ships():
    for name in (*STUDIES, "recipes"):
        used = kept(name).get("source_sha256", [])
        used = used if isinstance(used, list) else [used]
        assert set(used) <= {ULTRASOUND_SHA256}, f"{name}: run {kept(name)['command']} again"


# ---- levels --------------------------------------------------------------------------------------


def levels_of(name: str, table: dict) -> list[tuple[float, float, float]]:
    """(low, value, high) of every metric between 0 and 1."""
    if name == "transplant":
        found = [row["auc"] for row in table["summary"]] + table["similarity"]
        return [(row["low"], row["value"], row["high"]) for row in found]
    key = {"shortcut": "value", "leakage": "mean"}.get(name, "auc")
    rows = table.get("levels", table.get("rows", table.get("summary")))
    if name == "leakage":
        rows = [row for row in rows if " - " not in row["what"] and ":" not in row["what"]]
    return [(row["low"], row[key], row["high"]) for row in rows]


def are_bounded(levels: list) -> bool:
    return all(0 <= low <= value <= high <= 1 for low, value, high in levels) and len(levels) > 5


WITH_LEVELS = ("leakage", "learning_curve", "real_or_simulated", "shortcut", "transplant")


@pytest.mark.parametrize("name", WITH_LEVELS)
def test_every_level_lies_in_its_interval_and_within_0_and_1(name):
    levels = levels_of(name, kept(name))
    assert are_bounded(levels)
    too_wide = [(low, value, 1.01) for low, value, _ in levels]  # as a t interval may be
    assert not are_bounded(too_wide)
    assert not are_bounded([*levels[:-1], (0.2, 0.1, 0.3)])


def levels_are_means(name: str, table: dict) -> bool:
    """Each level is the mean over the runs that it names, within what rounding leaves."""
    for row in table["levels"]:
        if row.get("metric", "auc") != "auc":
            continue
        if name == "shortcut":
            same = ("data", "recipe", "trained_on")
            value, of = row["value"], lambda run, row=row: run["auc"][row["test"]]
        else:
            same, value, of = ("n_train", "source"), row["auc"], lambda run: run["auc"]
        own = [
            of(run)
            for run in table["runs"]
            if all(run[k] == row[k] for k in same) and run["seed"] in table["seeds"]
        ]
        if len(own) != len(table["seeds"]) or abs(np.mean(own) - value) > 2e-4:
            return False
    return len(table["seeds"]) >= 5


@pytest.mark.parametrize("name", ["shortcut", "learning_curve"])
def test_the_summary_follows_from_the_runs(name):
    table = kept(name)
    assert levels_are_means(name, table)
    wrong = copy.deepcopy(table)
    run = wrong["runs"][0]
    if name == "shortcut":
        run["auc"]["no marks"] += 0.01
    else:
        run["auc"] += 0.01
    assert not levels_are_means(name, wrong)


# ---- t intervals over seeds ----------------------------------------------------------------------


def follows(row: dict, values, keys=("auc", "low", "high")) -> bool:
    """Mean and t interval by scipy.stats.ttest_1samp."""
    ends = stats.ttest_1samp(values, 0).confidence_interval()
    got = [row[key] for key in keys]
    return bool(np.allclose(got, [np.mean(values), ends.low, min(ends.high, 1)], atol=2e-4))


def leakage_follows(table: dict) -> bool:
    pick = lambda labels, by, key: np.array(
        [r[key] for r in table["runs"] if (r["labels"], r["split"]) == (labels, by)]
    )
    gap = {
        by: pick("true", by, "reported") - pick("true", by, "fresh") for by in ("image", "patient")
    }
    want = {("true", f"reported - fresh, split by {by}"): gap[by] for by in gap}
    want["true", "worth of leakage: difference of the two"] = gap["image"] - gap["patient"]
    for labels, by in (("true", "image"), ("random", "image"), ("random", "patient")):
        want[labels, f"reported, split by {by}"] = pick(labels, by, "reported")
    rows = {(row["labels"], row["what"]): row for row in table["summary"]}
    return all(follows(rows[k], v, ("mean", "low", "high")) for k, v in want.items())


def transplant_follows(table: dict) -> bool:
    pick = lambda *key: np.array(
        [r["auc"] for r in table["runs"] if (r["data"], r["kind"], r["k"]) == key]
    )
    for row in table["summary"]:
        own = pick(row["data"], row["kind"], row["k"])
        if len(own) != row["n_seeds"] or not follows(row["auc"], own, ("value", "low", "high")):
            return False
        if row["k"]:
            gap, mean = row["gain"], np.mean(own - pick(row["data"], "tuned", 0))
            if abs(gap["value"] - mean) > 2e-4 or not gap["low"] < gap["value"] < gap["high"]:
                return False
    return True


def snippet_follows(table: dict) -> bool:
    value = {(r["what"], r["seed"]): r for r in table["runs"]}
    for row in table["summary"]:
        metric, both = row["metric"], (row["what"], row["against"])
        own, base = (np.array([value[w, s][metric] for s in table["seeds"]]) for w in both)
        if abs(np.mean(own - base) - row["difference"]) > 1e-4:
            return False
        if not row["low"] <= row["difference"] <= row["high"]:
            return False
    return len(table["seeds"]) >= 5 and table["test_images"] >= 500


FOLLOWS = {
    "leakage": (leakage_follows, "mean"),
    "transplant": (transplant_follows, "gain"),
    "snippet": (snippet_follows, "difference"),
}


@pytest.mark.parametrize("name", FOLLOWS)
def test_the_summary_follows_from_the_runs_by_scipy(name):
    follow, key = FOLLOWS[name]
    table = kept(name)
    assert follow(table)
    row = next(row for row in reversed(table["summary"]) if row.get(key))
    if name == "transplant":
        row["gain"]["value"] += 0.01
    else:
        row[key] += 0.01
    assert not follow(table)
