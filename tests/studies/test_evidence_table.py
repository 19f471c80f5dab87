"""From cells to the evidence's rows, on made-up scores of 60 images."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from studies import (
    evidence,
    evidence_more,
    evidence_shown,
    evidence_texts,
    scratch_best,
    scratch_search,
)
from studies.evidence_plan import REPETITIONS, recipe_of, ways_of_scratch
from tests.studies.test_evidence_design import toy_images

ARMS, NUMBERS = ("scratch", "shapes", "ultrasound"), (25, None)


def toy_rows(data: str, repetition: int, fold: int) -> np.ndarray:
    return np.random.default_rng(repetition).permutation(60)[fold::5]


@pytest.fixture
def results(monkeypatch) -> list[tuple[dict, dict]]:
    """Cells of three arms; ultrasound's scores tell more."""
    monkeypatch.setattr(evidence, "whole", toy_images)
    monkeypatch.setattr(evidence, "test_rows", toy_rows)
    monkeypatch.setattr(evidence.busi, "read_table", lambda: {"group": np.arange(60)})
    rng, found = np.random.default_rng(3), []
    for repetition in REPETITIONS:
        for arm, n, fold in ((a, n, k) for n in NUMBERS for a in ARMS for k in range(5)):
            rows = toy_rows("toy", repetition, fold)
            help_ = {"scratch": 0.1, "shapes": 0.2, "ultrasound": 0.6}[arm]
            scores = rng.random((2, 12)) + help_ * toy_images().labels.numpy()[rows]
            cell = {"data": "toy", "arm": arm, "n": n, "repetition": repetition, "fold": fold}
            arrays = {"scores": scores / 2, "mirrored": scores[::-1] / 2, "updates": 7}
            found.append((cell, arrays))
    return found


def by_hand(results, arm: str, n: int | None) -> float:
    """The mean of the AUCs of all draws, folds and repetitions."""
    aucs = []
    for cell, arrays in results:
        if (cell["arm"], cell["n"]) == (arm, n):
            labels = toy_images().labels.numpy()[toy_rows("toy", cell["repetition"], cell["fold"])]
            aucs += [roc_auc_score(labels, scores) for scores in arrays["scores"]]
    return float(np.mean(aucs))


def gains_are_differences(results, rows: list[dict]) -> bool:
    for row in rows:
        wanted = by_hand(results, row["arm"], row["n"]) - by_hand(results, "scratch", row["n"])
        if not np.isclose(row["value"], wanted) or not row["low"] < row["value"] < row["high"]:
            return False
    return len(rows) == 4


def test_gains_are_differences_of_mean_aucs(results):
    found = evidence.folds_of(results, data="toy")
    assert gains_are_differences(results, evidence.gains(found, "scratch"))
    assert not gains_are_differences(results, evidence.gains(found, "shapes"))


def test_other_data_are_left_aside(results):
    assert evidence.folds_of(results, data="retinamnist") == {}


def test_an_average_of_arms_averages_scores(results):
    found = evidence.folds_of(results, data="toy")
    both = evidence.averaged(found["scratch", 25], found["ultrasound", 25])
    one, other = found["scratch", 25][1][2].scores, found["ultrasound", 25][1][2].scores
    assert np.allclose(both[1][2].scores, (one + other) / 2)
    mirrored = evidence.folds_of(results, data="toy", scores_of=evidence_more.with_mirrors)
    assert np.allclose(
        mirrored["scratch", 25][0][0].scores[0], mirrored["scratch", 25][0][0].scores[1]
    )


PLACES = """before

<!-- table: gains -->

| an old table |

<!-- end -->

between

<!-- table: copies -->

<!-- end -->
"""


@pytest.fixture
def tables(results) -> dict[str, dict]:
    """The evidence's table of the toy cells, as it is kept."""
    found = evidence.folds_of(results, data="toy")
    gained = evidence.gains(found, "scratch")
    for row in gained:
        row["holm"] = 0.0004
    other = [row | {"copies": c} for c in ("group_looser", "group_stricter") for row in gained]
    levels = evidence.levels(found)
    return {"evidence": {"levels": levels, "gains": gained, "other_thresholds": other}}


def test_marked_places_quote_the_rows(results, tables):
    """Only what is marked changes; a second time changes nothing; another table shows."""
    text = evidence_texts.filled(PLACES.replace("copies -->\n\n", "copies -->\n\nx\n\n"), tables)
    assert text.startswith("before\n") and "between" in text and "an old table" not in text
    rows = text.splitlines()
    first, last = (next(r for r in rows if r.startswith(f"| {n} |")) for n in ("25", "all"))
    assert f"{by_hand(results, 'ultrasound', 25):.3f}" in first and "< 0.001" in last
    assert evidence_texts.filled(text, tables) == text
    tables["evidence"]["gains"][0]["value"] += 0.1
    tables["evidence"]["gains"][1]["value"] += 0.1
    assert evidence_texts.filled(text, tables) != text


def test_a_place_without_a_table_is_named(tables):
    with pytest.raises(KeyError, match="no such"):
        evidence_texts.filled(PLACES.replace("gains", "no such"), tables)


def test_signs():
    row = {"value": -0.04, "low": -0.0001, "high": 0.0}
    assert evidence_shown.signed(row) == "−0.040 (0.000 to 0.000)"


def test_secondary_cells_share_recipes_and_draws_with_the_primary():
    cells = evidence_more.cells()
    arms = {c["arm"] for c in cells if c["data"] == "busi" and "member" not in c}
    assert arms == set(evidence_more.ON_BUSI)
    recipe = {(c["arm"], c["n"]): c["recipe"] for c in evidence.cells()}
    same = [c for c in cells if (c["arm"], c["n"]) in recipe]
    assert same and all(c["recipe"] == recipe[c["arm"], c["n"]] for c in same)
    members = [c["member"] for c in cells if "member" in c]
    assert sorted(set(members)) == [1, 2] and len(members) == 2 * 2 * 2 * 3 * 5


def test_three_networks_are_averaged_and_the_first_is_told_apart(results):
    """Each member is another network; only its first draw counts; no member is counted as one."""
    more = [
        (cell | {"member": m}, arrays | {"scores": arrays["scores"][:1] * m})
        for cell, arrays in results
        if cell["arm"] != "shapes" and cell["n"] == 25
        for m in (1, 2)
    ]
    together = [({**cell, "data": "busi"}, arrays) for cell, arrays in [*results, *more]]
    found = evidence_more.averages(together)
    assert set(found) == {("scratch", 25), ("ultrasound", 25)}
    alone = evidence.folds_of(results, data="toy")["scratch", 25][1][2].scores
    assert np.allclose(found["scratch", 25][1][2].scores, alone[:1] * (1 + 1 + 2) / 3)
    with_others = evidence.folds_of(together)["scratch", 25]
    assert np.allclose(with_others[1][2].scores, alone) and len(with_others[1]) == 5


def made(results, better: dict) -> list[tuple[dict, dict]]:
    """Cells of the search: the toy scores of scratch, better by a way's bonus."""
    found = []
    for cell, arrays in results:
        if cell["arm"] != "scratch" or cell["repetition"]:
            continue
        labels = toy_images().labels.numpy()[toy_rows("toy", 0, cell["fold"])]
        for name, recipe in ways_of_scratch(cell["n"]).items():
            if name != "as planned":
                scores = arrays["scores"] + better.get((cell["n"], name), 0) * labels
                found.append((cell | {"recipe": recipe}, {"scores": scores}))
    return found


def test_the_search_marks_the_best_way_of_each_number_of_labels(results, monkeypatch):
    toy = [({**c, "data": "busi", "recipe": recipe_of(c["arm"], c["n"])}, a) for c, a in results]
    monkeypatch.setattr(scratch_search, "kept", lambda study: toy)
    monkeypatch.setattr(scratch_search, "DRAWS", {25: 4, None: 1})
    tried = made(toy, {(25, "twice the updates"): 0.5})
    rows = scratch_search.table(tried)["ways"]
    best = {row["n"]: row["way"] for row in rows if row["best"]}
    assert set(best) == {25, None} and best[25] == "twice the updates"
    planned = next(row for row in rows if row["n"] == 25 and row["way"] == "as planned")
    assert planned["auc"] == pytest.approx(np.mean(_aucs(toy, 25)))


def _aucs(toy, n) -> list[float]:
    return [
        roc_auc_score(toy_images().labels.numpy()[toy_rows("toy", 0, cell["fold"])], scores)
        for cell, arrays in toy
        if (cell["arm"], cell["n"], cell["repetition"]) == ("scratch", n, 0)
        for scores in arrays["scores"]
    ]


def test_the_best_way_is_what_ultrasound_is_set_against(results, monkeypatch, tmp_path):
    """Where the plan's way was best the gain is that of the evidence; elsewhere it is smaller."""
    toy = [({**c, "data": "busi"}, a) for c, a in results]
    found = [{"n": 25, "way": "twice the updates", "best": True}]
    found += [{"n": None, "way": "as planned", "best": True}]
    (tmp_path / "found.json").write_text(json.dumps({"ways": found}))
    monkeypatch.setattr(scratch_best, "SEARCH", tmp_path / "found.json")
    monkeypatch.setattr(scratch_best, "kept", lambda study: toy)
    monkeypatch.setattr(scratch_best, "DRAWS", {25: 4, None: 1})
    cells = scratch_best.cells()
    assert {cell["n"] for cell in cells} == {25} and len(cells) == 15
    assert {cell["recipe"]["epochs"] for cell in cells} == {120}
    noise = lambda scores: np.random.default_rng(0).normal(0, 0.03, scores.shape)
    better = [
        (cell, {"scores": arrays["scores"] + noise(arrays["scores"])})
        for cell, arrays in toy
        if cell["arm"] == "ultrasound" and cell["n"] == 25
    ]
    better = [(cell | {"arm": "scratch"}, arrays) for cell, arrays in better]
    gain = {row["n"]: row["value"] for row in scratch_best.table(better)["gains"]}
    assert gain[25] == pytest.approx(0, abs=0.02)
    assert gain[None] == pytest.approx(
        by_hand(results, "ultrasound", None) - by_hand(results, "scratch", None)
    )
