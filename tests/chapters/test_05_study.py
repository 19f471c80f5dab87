"""Notebook 05 and the studies behind it: the same ways, the same numbers, prose that follows."""

import ast
import inspect
import json

from medtl_utils import load_task, plots
from medtl_utils.datasets import busi
from studies import evidence_plan, recipes
from tests.chapters.notebook_code import _statements, namespace, prose
from tests.conftest import ROOT

# ---- names that the notebook shares with the study -----------------------------------------------


def ways_in_sight() -> list[str]:
    """The keys of the dictionary `ways`."""
    (made,) = (
        statement.value
        for statement in _statements("05", copy=False)
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "ways"
    )
    return [ast.literal_eval(key) for key in made.keys]


def test_each_way_that_the_study_may_choose_is_built():
    assert ways_in_sight() == list(recipes.WAYS["transfer"])


def test_the_study_searches_as_much_on_either_side():
    """Section 7: six ways each; fold 0 is never learnt from or scored."""
    assert {len(ways) for ways in recipes.WAYS.values()} == {6} and 0 not in recipes.FOLDS
    fold = busi.read_table()["fold"]
    assert sum((fold == k).sum() for k in recipes.FOLDS) == 624


def test_the_numbers_of_the_ways_are_the_studies():
    text = "\n".join(ast.unparse(s) for s in _statements("05", copy=False))
    fitted = "fit_probe(f_train, task.train.labels, C=0.01)"
    assert recipes.PROBE_C == 0.01 and fitted in text
    rates = "lr=1e-3, decay=0.3"
    assert rates in inspect.getsource(recipes.discriminative)
    assert "rates_by_block(start, lr=0.001, decay=0.3)" in text


# ---- the prose and the tables --------------------------------------------------------------------


def kept(name: str) -> dict:
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())


GENTLE = ("one low rate", "feature extraction", "head first, then all", "discriminative rates")


def recipes_are_as_told(table: dict) -> bool:
    """Section 7: what it says of gentle ways, of training from scratch, and of one training."""
    gap = {r["way"]: r for r in table["differences"] if r["side"] == "transfer"}
    above = any(gap[way]["low"] > 0 for way in GENTLE)
    below = sum(gap[way]["high"] < 0 for way in GENTLE)
    longest = max(r["updates"] for r in table["ways"] if r["side"] == "scratch")
    chosen = {r["way"]: r["updates"] for r in table["ways"] if r["side"] == "scratch"}
    edge = chosen[table["chosen"]["scratch"]] == longest
    trained = table["chosen"]["transfer"] not in ("textbook", "feature extraction")
    return not above and below >= 2 and edge and trained and len(table["seeds"]) == 1


def test_the_prose_says_what_the_table_of_recipes_says():
    text, table = prose("05"), kept("recipes")
    for words in (
        "No gentle way is above the textbook, and some are below",
        "the longest training came out best, at the edge of what was tried",
        "Each network was trained once",
    ):
        assert words in text
    assert recipes_are_as_told(table)
    for row in table["differences"]:
        if row["way"] == "discriminative rates":
            row["low"], row["high"] = 0.01, 0.05
    assert not recipes_are_as_told(table)


def fold_0_is_as_told(duel: dict, table: dict) -> bool:
    """Section 9: the chosen ways were tested; zero is inside; both sides are lower than before."""
    crossed = {(r["side"], r["way"]): r["value"] for r in table["ways"]}
    lower = all(r["value"] < crossed[r["side"], duel["chosen"][r["side"]]] for r in duel["levels"])
    inside = duel["gain"]["low"] <= 0 <= duel["gain"]["high"]
    return duel["chosen"] == table["chosen"] and lower and inside and duel["n_seeds"] >= 5


def test_the_prose_says_what_fold_0_says():
    text, duel = prose("05"), kept("recipes_test")
    assert "Fold 0 alone cannot say whether transfer helped" in text
    assert "Both sides are lower here than in cross-validation" in text
    assert fold_0_is_as_told(duel, kept("recipes"))
    duel["gain"]["low"] = 0.01
    assert not fold_0_is_as_told(duel, kept("recipes"))


def gains_exclude_zero(table: dict) -> bool:
    """Of the ultrasound source over scratch, with every number of labels."""
    rows = [r for r in table["gains"] if (r["arm"], r["against"]) == ("ultrasound", "scratch")]
    return len(rows) >= 4 and all(r["low"] > 0 for r in rows)


def test_the_summary_says_what_the_evidence_says():
    there = (ROOT / "data" / "results" / "evidence.json").is_file()
    table = kept("evidence" if there else "evidence_first")
    said = "Cross-validation over all images could, for one training of each source"
    assert (said in prose("05")) != there and gains_exclude_zero(table)
    table["gains"][0]["low"] = -0.01
    assert not gains_exclude_zero(table)


def scratch_had_more_updates(table: dict) -> bool:
    updates = {(r["arm"], r["n"]): r["updates"] for r in table["updates"]}
    return all(updates["scratch", n] > u for (arm, n), u in updates.items() if arm == "ultrasound")


def test_the_prose_says_what_the_evidence_allowed():
    """Section 10: more updates from scratch; discriminative rates, fixed beforehand."""
    there = (ROOT / "data" / "results" / "evidence.json").is_file()
    table = kept("evidence" if there else "evidence_first")
    assert "scratch was allowed more of them" in prose("05") and scratch_had_more_updates(table)
    table["updates"] = [r | {"updates": 100} for r in table["updates"]]
    assert not scratch_had_more_updates(table)
    assert evidence_plan.TRANSFER["decay"] < 1 and "discriminative rates had won" in prose("05")


# ---- what the first figure shows -----------------------------------------------------------------


def upper_row_has_near_copies(seed: int) -> bool:
    """Whether images 3 and 6 of the twelve that show_images takes are near-copies."""
    train = load_task("busi").train
    group = train.groups[plots._rows_of_each_class(train, 6, seed)]
    return group[2] == group[5]


def test_the_near_copies_that_the_prose_points_at():
    assert "Images 3 and 6 of the upper row are near-copies" in prose("05")
    assert upper_row_has_near_copies(namespace("05")["SEED"])
    assert not upper_row_has_near_copies(0)
