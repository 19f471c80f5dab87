"""Notebook 15c: its study's table, what the prose says of results, and its widget."""

import copy
import json
import re

import nbformat
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from medtl_utils import widgets
from medtl_utils.widgets import chapter_15c
from studies import genes as study
from tests.chapters.notebook_code import path_of, prose
from tests.chapters.test_widgets import planted, said
from tests.conftest import ROOT

TABLE = json.loads((ROOT / "data" / "results" / "genes.json").read_text())


# ---- the table -----------------------------------------------------------------------------------


def follows(table: dict) -> bool:
    """Means of the runs, bounded intervals, and differences of the means."""
    value = {}
    for row in table["summary"]:
        runs = [run[row["arm"]] for run in table["runs"] if run["labels"] == row["labels"]]
        mean = np.mean(np.concatenate(runs))
        bounded = 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        if np.size(runs) != 60 or abs(mean - row["value"]) > 2e-4 or not bounded:
            return False
        value[row["labels"], row["arm"]] = mean
    for row in table["differences"]:
        gap = value[row["labels"], row["arm"]] - value[row["labels"], row["against"]]
        if abs(gap - row["value"]) > 2e-4 or not row["low"] < row["value"] < row["high"]:
            return False
    return len(value) == 15 and len(table["differences"]) == 12


def test_the_summary_follows_from_the_runs():
    assert follows(TABLE)
    for spoil in ("summary", "differences"):
        wrong = copy.deepcopy(TABLE)
        wrong[spoil][0]["value"] += 0.01
        assert not follows(wrong)


def test_the_table_was_made_as_it_says():
    assert TABLE["command"] == "python -m studies.genes" and TABLE["recipe"] == study.STUDY.recipe
    assert TABLE["data_sha256"] == study.genes.SHA256
    assert [TABLE["seeds"]["draws"], TABLE["seeds"]["seed"]] == [study.N_DRAWS, study.SEED]
    assert TABLE["updates"] == {"5": 20, "10": 40, "20": 80} and "(20, 40, 80)" in prose("15c")


@pytest.mark.slow
def test_a_slice_of_the_table(monkeypatch):
    """The first draw of 5 labels, made again."""
    monkeypatch.setattr(study, "N_DRAWS", 1)
    y, one = study.cohorts()[1][1].numpy(), np.ones((1, 122))
    kept = TABLE["runs"][0]
    for arm, scores in study.run(5, 0).items():
        assert abs(study.weighted_auc(scores[0], y, one)[0] - kept[arm][0]) < 0.02, arm


# ---- the prose -----------------------------------------------------------------------------------


def printed(cell: str) -> str:
    cells = {c.id: c for c in nbformat.read(path_of("15c"), 4).cells}
    return "".join(o.get("text", "") for o in cells[f"code-{cell}"].outputs)


def intervals(text: str) -> dict[str, tuple[float, float]]:
    """Name -> (low, high) of lines such as "5 labels: a minus b   0.01 (-0.02 to 0.04)"."""
    rows = re.findall(r"^ *(\d+ labels: .*?)\s*-?[\d.]+ \((-?[\d.]+) to (-?[\d.]+)\)$", text, re.M)
    return {name: (float(low), float(high)) for name, low, high in rows}


def lesson_holds(found: dict) -> bool:
    """Section 4: the source helps at 5 labels; retraining adds nothing; ESR1 is as good."""
    zero = lambda name: found[name][0] <= 0 <= found[name][1]
    helps = found["5 labels: source as it is minus target only"][0] > 0
    same = ("L2-SP minus source as it is", "pooled minus source as it is")
    same += ("source as it is minus ESR1 alone",)
    nothing = all(zero(f"{n} labels: {pair}") for n in (5, 10, 20) for pair in same)
    return len(found) == 15 and helps and nothing


def test_the_prose_says_what_the_ridge_arms_print():
    found = intervals(printed("differences"))
    assert "retraining it adds nothing that we can see" in prose("15c") and lesson_holds(found)
    assert not lesson_holds(found | {"5 labels: L2-SP minus source as it is": (0.01, 0.03)})


def test_the_prose_says_what_the_study_found():
    rows = {(r["labels"], r["arm"], r["against"]): r for r in TABLE["differences"]}
    as_it_is, text = "source as it is", prose("15c")
    assert "At the high rate and 5 labels, retraining **harms**" in text
    assert rows[5, "fine-tuned, 1e-3", as_it_is]["high"] < 0
    assert "At the low rate it adds nothing" in text
    assert all(rows[n, "fine-tuned, 1e-4", as_it_is]["low"] < 0 for n in (5, 10, 20))
    assert all(rows[n, "fine-tuned, 1e-4", as_it_is]["high"] > 0 for n in (5, 10, 20))
    assert "Against scratch it gains with 5 labels" in text
    assert all(rows[5, f"fine-tuned, {r}", f"scratch, {r}"]["low"] > 0 for r in study.RATES)


def test_the_prose_says_what_control_and_leak_print():
    low, high = map(float, re.search(r"\(([\d.]+) to ([\d.]+)\), t", printed("shuffled")).groups())
    assert low <= 0.5 <= high
    before, inside = map(float, re.findall(r"mean AUC ([\d.]+)", printed("leak-run")))
    assert before > 0.8 and abs(inside - 0.5) < 0.05


# ---- the widget ----------------------------------------------------------------------------------


def caption_is_ridge():
    rng, y = np.random.default_rng(0), np.arange(70) % 2 == 0
    w = rng.normal(size=40)
    X = rng.normal(size=(70, 40)) + 0.1 * np.outer(y - 0.5, w)
    box = widgets.pull_to_source(X @ X.T, y, X @ w / 20)
    penalty, labels, _number = box.children[:3]
    for place, n in ((2, 0), (4, 1), (6, 2)):
        penalty.value, labels.value = place, n
        rows = np.random.default_rng([15, labels.chosen, 0])
        drawn = [rows.permutation(np.flatnonzero(y == c))[: labels.chosen] for c in (False, True)]
        drawn = np.concatenate(drawn)
        rest, start = np.setdiff1d(np.arange(70), drawn), X @ w / 20
        ridge = Ridge(alpha=penalty.chosen, fit_intercept=False)
        ridge.fit(X[drawn], np.where(y[drawn], 1.0, -1.0) - start[drawn])
        value = roc_auc_score(y[rest], start[rest] + ridge.predict(X[rest]))
        yield f"the other {len(rest)} women is {value:.2f} (" in said(box)
        as_it_is = roc_auc_score(y[rest], start[rest])
        yield f"The source as it is gives {as_it_is:.2f} (" in said(box)


def test_pull_to_source(shown, monkeypatch):
    assert all(caption_is_ridge())
    scores = chapter_15c._scores
    wrong = lambda K, y, start, *rest: scores(K, y, 0 * start, *rest)
    planted(monkeypatch, "chapter_15c", "_scores", wrong)
    assert not all(caption_is_ridge())
