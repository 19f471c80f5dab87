"""Which recipe: what is learnt from, what is scored, and which way is chosen."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from medtl_utils.datasets import busi
from studies import recipes, recipes_test
from tests.conftest import ROOT

RESULTS = ROOT / "data" / "results"


def table(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def stays_apart() -> bool:
    """Whoever is scored has no near-copy among what is learnt from, and fold 0 is in neither."""
    kept = busi.read_table()
    test_groups = set(kept["group"][kept["fold"] == 0])
    for fold in recipes.FOLDS:
        learnt, scored = set(recipes.others(fold).groups), set(recipes.fold_of(fold).groups)
        if learnt & scored or (learnt | scored) & test_groups:
            return False
    return True


def test_nothing_is_on_both_sides():
    assert stays_apart()
    assert len(recipes_test.labelled()) + len(recipes.fold_of(0)) == 780
    assert not set(recipes_test.labelled().groups) & set(recipes.fold_of(0).groups)


def test_that_test_bites(monkeypatch):
    """Planted mistake: the test fold is learnt from, too."""
    monkeypatch.setattr(recipes, "FOLDS", range(5))
    assert not stays_apart()


def test_both_sides_have_as_many_ways_and_scratch_no_fewer_updates():
    ways = recipes.WAYS
    assert len(ways["transfer"]) == len(ways["scratch"]) == 6
    most = {side: max(map(recipes.epochs_of, ways[side])) for side in ways}
    assert most["scratch"] >= most["transfer"]
    for side in ways:
        assert recipes_test.chosen()[side] in ways[side]


def the_best_is_chosen(kept: dict) -> bool:
    """The chosen way of either side has the highest mean of its folds' AUCs, from the runs."""
    for side, chosen in kept["chosen"].items():
        of = {}
        for run in kept["runs"]:
            if run["side"] == side:
                of.setdefault(run["way"], []).append(run["auc"])
        means = {way: np.mean(values) for way, values in of.items()}
        rows = {row["way"]: row for row in kept["ways"] if row["side"] == side}
        if chosen != max(means, key=means.get) or set(map(len, of.values())) != {4}:
            return False
        if any(abs(rows[way]["value"] - mean) > 2e-4 for way, mean in means.items()):
            return False
        if any(not row["low"] < row["value"] < row["high"] for row in rows.values()):
            return False
    return True


def test_the_best_way_of_either_side_is_chosen():
    kept = table("recipes")
    assert the_best_is_chosen(kept)
    other = next(way for way in recipes.WAYS["scratch"] if way != kept["chosen"]["scratch"])
    assert not the_best_is_chosen(kept | {"chosen": kept["chosen"] | {"scratch": other}})


def test_the_table_counts_as_scikit_learn_does():
    """Made-up scores of all cells: the AUC of each fold, averaged over the four folds."""
    rng, results, want = np.random.default_rng(0), [], {}
    for cell in recipes.STUDY.cells:
        split = recipes.fold_of(cell["fold"])
        score = rng.random(len(split)) + 0.3 * split.labels.numpy() * (cell["way"] == "textbook")
        score = score / score.max()
        results.append((cell, {"scores": np.stack([1 - score, score], 1)}))
        key = cell["side"], cell["way"]
        want.setdefault(key, []).append(roc_auc_score(split.labels, score))
    made = recipes.table(results)
    for row in made["ways"]:
        assert row["value"] == pytest.approx(np.mean(want[row["side"], row["way"]]))
    assert made["chosen"] == {"scratch": "textbook", "transfer": "textbook"}
    assert all(row["value"] < 0 for row in made["differences"])


def test_the_test_table_is_one_look_with_paired_seeds():
    kept, chosen = table("recipes_test"), table("recipes")["chosen"]
    assert kept["chosen"] == chosen and len(kept["seeds"]) == kept["n_seeds"] == 5
    levels = {row["side"]: row["value"] for row in kept["levels"]}
    gain = kept["gain"]
    assert gain["difference"] == pytest.approx(levels["transfer"] - levels["scratch"], abs=2e-4)
    assert gain["low"] < gain["difference"] < gain["high"]


def learns_by_hand(textbook) -> bool:
    """One epoch of the textbook recipe equals a loop that is written anew, on a few images."""
    few = recipes.fold_of(1)[np.arange(40)]
    made = textbook("random", few, 3)
    model = recipes.fresh("random", 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(10):
        model.train()
        order = torch.randperm(len(few))
        for start in (0, 32):
            rows = order[start : start + 32]
            optimizer.zero_grad()
            x = model.normalisation(few.images[rows])
            torch.nn.CrossEntropyLoss()(model(x), few.labels[rows]).backward()
            optimizer.step()
    same = zip(made.state_dict().values(), model.state_dict().values())
    return all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in same)


def test_the_textbook_recipe():
    assert learns_by_hand(recipes.textbook)
    with_another_rate = lambda *a: recipes.at_rate(3e-3)(*a)
    assert not learns_by_hand(with_another_rate)


# ---- one cell, trained anew --------------------------------------------------------------------

NEAR = 0.03  # another processor rounds otherwise


def made_again(way: str, fold: int = 1) -> bool:
    """The AUC of a fold is the table's, up to what rounding may move."""
    cell = {"side": "transfer", "way": way, "seed": 0, "fold": fold}
    kept = next(run["auc"] for run in table("recipes")["runs"] if cell.items() <= run.items())
    scores = recipes.run(**cell)["scores"][:, 1]
    again = roc_auc_score(recipes.fold_of(fold).labels, scores)
    return abs(again - kept) < NEAR


def with_half_the_labels_dealt_anew(monkeypatch) -> None:
    right = recipes.others

    def wrong(fold: int):
        split, rng = right(fold), np.random.default_rng(0)
        labels = split.labels.clone()
        labels[::2] = labels[::2][torch.from_numpy(rng.permutation(len(labels[::2])))]
        return dataclasses.replace(split, labels=labels)

    monkeypatch.setattr(recipes, "others", wrong)


def test_a_quick_cell_is_reproduced(monkeypatch):
    assert made_again("feature extraction")
    with_half_the_labels_dealt_anew(monkeypatch)
    assert not made_again("feature extraction")


@pytest.mark.slow
def test_a_fine_tuned_cell_is_reproduced(monkeypatch):
    assert made_again("full rate")
    with_half_the_labels_dealt_anew(monkeypatch)
    assert not made_again("full rate")
