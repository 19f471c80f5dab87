"""The code of the tables, on results at random: it makes the rows that are kept."""

import itertools

import numpy as np
import pytest
import torch

from studies import learning_curve, shortcut, snippet, transplant
from tests.conftest import make_split
from tests.studies.test_tables import STUDIES, kept


def fake_scores(rng, n: int) -> np.ndarray:
    p = rng.random(n).astype(np.float32)
    return np.stack([1 - p, p], 1)


@pytest.fixture
def small_test_sets(monkeypatch):
    """24 images in place of every test set, and two seeds in place of six."""
    split = make_split("test", 24, np.repeat([f"p{k}" for k in range(12)], 2))
    split.labels = torch.arange(12).repeat_interleave(2) % 2
    monkeypatch.setattr(shortcut, "SEEDS", range(7000, 7002))
    monkeypatch.setattr(learning_curve, "SEEDS", range(1000, 1002))
    monkeypatch.setattr(learning_curve, "REPEATED_SEEDS", range(1006, 1008))
    monkeypatch.setattr(snippet, "SMALL_TEST", 6)
    monkeypatch.setattr(snippet, "DRAWS", 3)
    monkeypatch.setattr(snippet, "test_split", lambda: split)
    monkeypatch.setattr(transplant, "scored_split", lambda data: split)
    monkeypatch.setattr(learning_curve, "test_set", lambda: split)
    monkeypatch.setattr(shortcut, "test_images", lambda data: {"plain": split})
    monkeypatch.setattr(learning_curve, "digits_weights", lambda: None)
    monkeypatch.setattr(learning_curve, "model_of", lambda weights: None)
    digits = lambda model, check: torch.eye(10)[check.labels]
    monkeypatch.setattr(learning_curve, "predict", digits)


def fake_result(name: str, cell: dict, rng) -> dict:
    """What a cell would return, at random."""
    scores = lambda: fake_scores(rng, 24)
    if name == "leakage":
        found = {
            "n_train": 190,
            "n_test": 90,
            "patients_on_both_sides": 60,
            "reported": rng.random(),
        }
        return found | ({"fresh": rng.random()} if cell["labels"] == "true" else {})
    if name == "real_or_simulated":
        return {"spectrum": rng.random(), "network": rng.random()}
    if name == "learning_curve":
        return {"scores": scores(), "val_auc": rng.random(10)}
    if name == "transplant":
        return {"scores": scores(), "cka": rng.random(5)}
    if name == "shortcut":
        extra = ["lesion removed"] if cell["data"] == "simulated" else []
        return {habit: scores() for habit in [*shortcut.HABITS, *extra]}
    found = {cell["training"]: scores()}
    if cell["training"] == "complete":
        found["epochs"] = np.stack([scores() for _ in range(3)])
        found |= {what: scores() for what in snippet.PREDICTIONS}
    return found


def keys_of(rows) -> set:
    """What each row is about: its values that are no measurement."""
    measured = {"patients_on_both_sides", "n_test", "n_seeds"}
    about = lambda row: frozenset(
        (k, v)
        for k, v in row.items()
        if isinstance(v, (str, int)) and k not in measured and (k != "n_train" or "source" in row)
    )
    return {about(row) for row in rows}


@pytest.mark.parametrize("name", STUDIES)
def test_the_code_makes_the_rows_that_are_kept(name, small_test_sets):
    rng, study = np.random.default_rng(0), STUDIES[name]
    results = [
        (cell, {k: np.asarray(v) for k, v in fake_result(name, cell, rng).items()})
        for cell in study.cells
    ]
    made, table = study.table(results), kept(name)
    tables = [key for key in table if key in made and isinstance(table[key], list)]
    assert tables
    for key in tables:
        assert len(made[key]) == len(table[key]) and keys_of(made[key]) == keys_of(table[key]), key
        assert set(table[key][0]) - {"seconds"} <= set(made[key][0]), key
    head = {
        "recipe",
        "seeds",
        "versions",
        "minutes",
        "command",
        "threads",
        "source_sha256",
        "source",
    }
    head |= {"rows", "phantom"}
    assert set(table) - head <= {*made, *study.about}, set(table) - head - {*made, *study.about}


def test_no_cell_is_missing_from_the_kept_runs():
    for name in ("leakage", "learning_curve", "transplant", "shortcut"):
        cells, runs = STUDIES[name].cells, kept(name)["runs"]
        same = lambda cell, run: all(run[k] == v for k, v in cell.items())
        pairs = itertools.product(cells, runs)
        assert sum(same(cell, run) for cell, run in pairs) == len(cells) == len(runs)
