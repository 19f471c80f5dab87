"""The tables of notebook 08: they follow from their runs, the prose quotes them, arms are alike."""

import copy
import importlib
import json

import numpy as np
import pytest
import torch
from scipy import stats

from studies import ensembles, small_data, small_data_fusion
from tests.chapters.notebook_code import prose
from tests.conftest import ROOT

RESULTS = ROOT / "data" / "results"
TABLE = json.loads((RESULTS / "small_data.json").read_text(encoding="utf-8"))
FUSION = json.loads((RESULTS / "small_data_fusion.json").read_text(encoding="utf-8"))
ENSEMBLES = json.loads((RESULTS / "ensembles.json").read_text(encoding="utf-8"))


def follows(row: dict, values, bounded: bool = False) -> bool:
    ends = stats.ttest_1samp(values, 0).confidence_interval()
    low, high = (np.clip(e, 0, 1) if bounded else e for e in (ends.low, ends.high))
    want = [np.mean(values), low, high]
    return bool(np.allclose([row[k] for k in ("value", "low", "high")], want, atol=3e-4))


# ---- augmentation --------------------------------------------------------------------------------


def units(runs: list[dict]) -> np.ndarray:
    """One row a draw of patients, or a fold of busi: the mean over the draws that hold it out."""
    held = [(r["draw"] - 1) % 4 if r["data"] == "busi" else r["draw"] for r in runs]
    each = np.array([r["auc"] for r in runs])
    return np.array([each[np.array(held) == one].mean(0) for one in sorted(set(held))])


def table_follows(table: dict) -> bool:
    """Levels without augmentation and paired gains, t over folds or draws."""
    arms, checks = table["arms"], []
    for row in table["levels"] + table["gains"]:
        runs = [r for r in table["runs"] if (r["data"], r["n"]) == (row["data"], row["n"])]
        each = units(runs)
        column = arms.index(row["arm"]) if "arm" in row else 0
        checks.append(follows(row, each[:, column] - ("arm" in row) * each[:, 0]))
        checks.append(len(runs) == len(table["seeds"][row["data"]]))
        checks.append(len(each) == {"busi": 4, "phantom": 5}[row["data"]])
    return all(checks) and len(checks) == 3 * (6 + 42)


def test_the_small_data_summary_follows_from_the_runs():
    assert table_follows(TABLE)
    for key in ("levels", "gains"):
        wrong = copy.deepcopy(TABLE)
        wrong[key][-1]["high"] += 0.01
        assert not table_follows(wrong)
    wrong = copy.deepcopy(TABLE)
    wrong["runs"][0]["auc"][3] += 0.1
    assert not table_follows(wrong)


def ensembles_follow(table: dict) -> bool:
    """Levels of one network, the ensemble and the longer training, and their paired differences."""
    ways = [r["what"] for r in table["levels"] if r["data"] == "busi"]
    each = {d: units([r for r in table["runs"] if r["data"] == d]) for d in ("busi", "phantom")}
    of = lambda row, way: each[row["data"]][:, ways.index(way)]
    checks = [follows(row, of(row, row["what"])) for row in table["levels"]]
    pairs = [(row, of(row, row["what"]) - of(row, row["against"])) for row in table["gains"]]
    return all(checks + [follows(*pair) for pair in pairs]) and len(pairs) == len(checks) == 6


def test_the_ensembles_summary_follows_from_the_runs():
    assert ensembles_follow(ENSEMBLES)
    for key in ("levels", "gains"):
        wrong = copy.deepcopy(ENSEMBLES)
        wrong[key][-1]["low"] -= 0.01
        assert not ensembles_follow(wrong)
    wrong = copy.deepcopy(ENSEMBLES)
    wrong["runs"][0]["auc"][1] += 0.05
    assert not ensembles_follow(wrong)


def as_many_updates(run, monkeypatch) -> bool:
    """Three networks of different seeds, and one with as many updates as the three together."""
    asked = []
    made = lambda train, arm, seed, updates: asked.append((arm, seed, updates))
    monkeypatch.setattr(ensembles, "trained", made)
    monkeypatch.setattr(ensembles, "predict", lambda model, split: torch.ones(len(split), 2))
    run("busi", 1)
    (*members, longer), arms = [u for *_, u in asked], {arm for arm, *_ in asked}
    seeds = {seed for _, seed, _ in asked[:-1]}
    return len(seeds) == 3 and longer == sum(members) and arms == {ensembles.NONE}


def test_one_network_gets_the_updates_of_three(monkeypatch):
    assert as_many_updates(ensembles.run, monkeypatch)
    monkeypatch.setattr(ensembles, "MEMBERS", 1)
    assert not as_many_updates(ensembles.run, monkeypatch)


# ---- fusion --------------------------------------------------------------------------------------


def values_of(table: dict, row: dict, arm: str) -> np.ndarray:
    each = np.array([r["auc"] for r in table["runs"] if r["part"] == row["part"]])
    if row["part"] == "table":
        return each[:, small_data_fusion.TABLE_ARMS.index(arm)]
    if row["part"] == "second":
        place = small_data_fusion.SECOND_NUMBERS.index(row["n"])
        return each[:, place, small_data_fusion.SECOND_ARMS.index(arm)]
    place = list(small_data_fusion.MIXES).index(row["mix"])
    return each[:, place, small_data_fusion.SCANNER_ARMS.index(arm)]


def fusion_follows(table: dict) -> bool:
    levels = [follows(r, values_of(table, r, r["arm"]), True) for r in table["levels"]]
    gap = lambda r: values_of(table, r, r["arm"]) - values_of(table, r, r["against"])
    return all(levels + [follows(r, gap(r)) for r in table["differences"]])


def test_the_fusion_summary_follows_from_the_runs():
    assert fusion_follows(FUSION)
    for key in ("levels", "differences"):
        wrong = copy.deepcopy(FUSION)
        wrong[key][-1]["value"] += 0.01
        assert not fusion_follows(wrong)


@pytest.mark.parametrize("table", [TABLE, FUSION, ENSEMBLES])
def test_the_command_of_the_table_is_there(table):
    module = table["command"].removeprefix("python -m ")
    assert hasattr(importlib.import_module(module), "main")


# ---- the prose -----------------------------------------------------------------------------------


def words_of(row: dict) -> str:
    return "{value:+.3f} ({low:+.3f} to {high:+.3f})".format_map(row).replace("-", "−")


def wanted(**what) -> str:
    (row,) = (r for r in FUSION["differences"] if what.items() <= r.items())
    return words_of(row)


def told() -> list[str]:
    """What the deep dive quotes of the table of fusion."""
    scanners = {"part": "scanners", "mix": "alike"}
    flat, half = "pooled, features harmonised", "pooled, half the weight to the target"
    said = [wanted(**scanners, arm="pooled", against="C alone")]
    said += [wanted(**scanners, arm=arm, against="pooled") for arm in (flat, half)]
    said += [wanted(part="scanners", mix="unlike", arm=flat, against="pooled")]
    said += [wanted(part="second", n=n, arm=arm) for n in (25, 100) for arm in ("pooled", half)]
    said += [wanted(part="second", n=100, arm="phantom alone")]
    others = ("image", "age", "image + age, early")
    said += [wanted(arm="image + age, late", against=one) for one in others]
    said += [wanted(arm="image + age, early", against="image")]
    return said + [
        wanted(arm=f"image + descriptors, {how}", against="descriptors")
        for how in ("late", "early")
    ]


def test_the_prose_says_what_the_fusion_table_says():
    text = prose("08_deep")
    assert [words for words in told() if words not in text] == []
    assert all(words not in text.replace(words, "") for words in told())


def told_in_the_core() -> list[str]:
    """What sections 3 and 4 and the summary quote of the table of augmentations."""
    two = "{value:+z.2f} ({low:+z.2f} to {high:+z.2f})"
    three = lambda r: two.replace(".2f", ".3f").format_map(r).replace("-", "−")
    pick = lambda rows, **what: next(r for r in rows if what.items() <= r.items())
    told = [dict(data="busi", n=25, arm="flip top-bottom")]
    told += [dict(data="phantom", n=n, arm="speckle") for n in (25, 100)]
    said = [two.format_map(pick(TABLE["gains"], **what)).replace("-", "−") for what in told]
    gains = ENSEMBLES["gains"]
    said += [three(r) for r in gains if "ensemble" in r["what"]]
    said.append(three(pick(gains, data="phantom", what=ensembles.LONGER)))
    return said + [three(half(draws)) for draws in ((1, 2, 3, 4), (5, 6, 7, 8))]


def half(draws: tuple[int, ...]) -> dict:
    """The flip top to bottom with 25 labels of busi, in one draw of each fold."""
    runs = [r for r in TABLE["runs"] if (r["data"], r["n"]) == ("busi", 25) and r["draw"] in draws]
    arm = TABLE["arms"].index("flip top-bottom")
    gaps = [r["auc"][arm] - r["auc"][0] for r in runs]
    ends = stats.ttest_1samp(gaps, 0).confidence_interval()
    return {"value": np.mean(gaps), "low": ends.low, "high": ends.high}


def test_the_prose_says_what_the_small_data_table_says():
    text = prose("08")
    assert [words for words in told_in_the_core() if words not in text] == []
    assert all(words not in text.replace(words, "") for words in told_in_the_core())


def off_zero(rows: list[dict]) -> set:
    return {(r["data"], r["n"], r["arm"]) for r in rows if r["low"] > 0 or r["high"] < 0}


def test_the_prose_says_which_small_data_intervals_leave_zero():
    assert "One of 42 intervals leaves zero" in prose("08") and len(TABLE["gains"]) == 42
    alone = {("phantom", 25, "speckle")}
    assert off_zero(TABLE["gains"]) == alone
    moved = [r | {k: r[k] + 0.3 for k in ("low", "high")} for r in TABLE["gains"]]
    assert off_zero(moved) != alone
    pairs = {(r["data"], r["against"]): r for r in ENSEMBLES["gains"] if r["what"] == "ensemble"}
    assert all(r["low"] > 0 for (_, other), r in pairs.items() if other == "one network")
    longer = {d: r for (d, other), r in pairs.items() if other != "one network"}
    assert longer["busi"]["low"] < 0 < longer["busi"]["high"] and longer["phantom"]["low"] > 0


# ---- like with like ------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [25, 100, 468])
def test_every_arm_and_size_makes_as_many_updates(n):
    made = small_data.batches(n, 3)
    assert len(made) == small_data.UPDATES and {len(b) for b in made} == {small_data.BATCH}
    times = torch.cat(made).bincount(minlength=n)
    assert times.max() - times.min() <= 1  # pass after pass
    assert all(torch.equal(a, b) for a, b in zip(made, small_data.batches(n, 3)))
    assert not torch.equal(made[0], small_data.batches(n, 4)[0])


def draws_are_nested(labelled) -> bool:
    """25 within 100 within all; the fold held out, and fold 0, are never learnt from."""
    pool, test = small_data.sides("busi", 2)
    whole, fold = small_data.real()
    few, more = (labelled(pool, n, 2, "busi") for n in (25, 100))
    names = [set(s.ids.tolist()) for s in (few, more, pool)]
    apart = not set(pool.groups.tolist()) & set(test.groups.tolist())
    return (
        names[0] < names[1] < names[2]
        and [len(s) for s in names[:2]] == [25, 100]
        and set(fold.tolist()) == {1, 2, 3, 4}
        and apart
        and len(pool) + len(test) == len(whole)
    )


def test_labelled_images_are_nested_and_the_folds_apart():
    assert draws_are_nested(small_data.labelled)
    other = lambda pool, n, draw, data: small_data.labelled(pool, n, draw + n, data)
    assert not draws_are_nested(other)


def ages_belong_to_women(clinical) -> bool:
    """One age for all images of a woman; means and SDs of the classes are those asked for."""
    pool, _ = small_data.sides("phantom", 3)
    age, words = clinical(pool, np.random.default_rng(0))
    per_woman = [len(set(age[pool.patients == w, 0])) for w in np.unique(pool.patients)]
    ends = small_data_fusion.ages_by_class()
    close = [abs(age[pool.labels.numpy() == c].mean() - ends[c][0]) < 4 for c in (0, 1)]
    return set(per_woman) == {1} and all(close) and (words.sum(1) == 7).all()


def test_the_clinical_table_is_by_woman(monkeypatch):
    made = small_data.phantom.simulate_target("train", 120, 16, 5)
    split = small_data.Split("train", classes=("benign", "malignant"), positive=1, **made)
    monkeypatch.setattr(small_data, "sides", lambda data, draw: (split, None))
    assert ages_belong_to_women(small_data_fusion.clinical)

    def by_image(split, rng):
        age, words = small_data_fusion.clinical(split, rng)
        return age + rng.standard_normal(age.shape), words

    assert not ages_belong_to_women(by_image)


def weights_are_fair(half) -> bool:
    weight = half(25, 240)
    return bool(
        len(weight) == 265
        and np.isclose(weight.sum(), 265)
        and np.isclose(weight[:25].sum(), weight[25:].sum())
    )


def test_both_sides_weigh_the_same():
    assert weights_are_fair(small_data_fusion.half_to_target)
    assert not weights_are_fair(lambda a, b: np.ones(a + b))


@pytest.mark.slow
def test_a_cell_of_the_fusion_study_is_reproduced():
    (kept,) = (r["auc"] for r in FUSION["runs"] if (r["part"], r["draw"]) == ("second", 2))
    found = small_data_fusion.second(2)["auc"]
    assert np.allclose(found, kept, atol=0.01)
    assert not np.allclose(found[::-1], kept, atol=0.01)
