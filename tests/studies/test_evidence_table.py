"""From cells to the evidence's rows, on made-up scores of 60 images."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from studies import evidence, evidence_more, evidence_shown
from studies.evidence_plan import REPETITIONS
from tests.studies.test_evidence_design import toy_images

ARMS, NUMBERS = ("scratch", "shapes", "ultrasound"), (25, None)


def toy_rows(data: str, repetition: int, fold: int) -> np.ndarray:
    return np.random.default_rng(repetition).permutation(60)[fold::5]


@pytest.fixture
def results(monkeypatch) -> list[tuple[dict, dict]]:
    """Cells of three arms; ultrasound's scores tell more."""
    monkeypatch.setattr(evidence, "whole", toy_images)
    monkeypatch.setattr(evidence, "test_rows", toy_rows)
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


def test_the_shown_table_quotes_the_rows(results):
    found = evidence.folds_of(results, data="toy")
    gained = evidence.gains(found, "scratch")
    for row in gained:
        row["holm"] = 0.0004
    shown = evidence_shown.markdown({"levels": evidence.levels(found), "gains": gained})
    first, last = shown.splitlines()[2], shown.splitlines()[-1]
    assert first.startswith("| 25 |") and last.startswith("| all |") and "< 0.001" in last
    assert f"{by_hand(results, 'ultrasound', 25):.3f}" in first
    assert evidence_shown.signed({"value": -0.04, "low": -0.0001, "high": 0.0}) == (
        "−0.040 (0.000 to 0.000)"
    )


def test_secondary_cells_share_recipes_and_draws_with_the_primary():
    cells = evidence_more.cells()
    arms = {cell["arm"] for cell in cells if cell["data"] == "busi"}
    assert arms == set(evidence_more.ON_BUSI)
    recipe = {(c["arm"], c["n"]): c["recipe"] for c in evidence.cells()}
    same = [c for c in cells if (c["arm"], c["n"]) in recipe]
    assert same and all(c["recipe"] == recipe[c["arm"], c["n"]] for c in same)
