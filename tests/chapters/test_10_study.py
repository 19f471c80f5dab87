"""The table of notebook 10: margins fixed beforehand, words that follow, prose that quotes it."""

import copy
import json

import numpy as np
import pytest
from scipy import special

from studies import small_models as study
from studies import small_models_plan as plan
from studies import small_models_stats as stats
from tests.chapters.notebook_code import prose
from tests.conftest import ROOT

RESULTS = ROOT / "data" / "results"
TABLE = json.loads((RESULTS / "small_models.json").read_text(encoding="utf-8"))
SPEED = json.loads((RESULTS / "small_models_speed.json").read_text(encoding="utf-8"))


def table_follows(table: dict) -> bool:
    """Differences are those of the levels; words follow from interval and margin."""
    level = {(r["data"], r["variant"]): r for r in table["levels"]}
    checks = [table["margins"] == plan.MARGINS, table["primary"] == plan.PRIMARY]
    checks += [table["test"]["images"] >= plan.TEST_IMAGES]
    for r in table["tests"]:
        small, whole = (level[r["data"], k][r["metric"]] for k in (r["variant"], study.ORIGINAL))
        checks.append(abs(r["value"] - (small["value"] - whole["value"])) < 3e-4)
        checks.append(r["low"] <= r["value"] <= r["high"])
        if r["margin"]:
            checks.append(r["margin"] == plan.MARGINS[r["data"]][r["metric"]])
            checks.append(r["verdict"] == plan.verdict(r["low"], r["high"], r["margin"]))
    return all(checks) and len(checks) > 100


def test_the_table_follows_from_its_levels_and_margins():
    assert table_follows(TABLE)
    for key, what in (("value", 0.01), ("low", -0.1), ("margin", 0.2), ("verdict", "better")):
        wrong = copy.deepcopy(TABLE)
        row = next(r for r in wrong["tests"] if r["verdict"] == plan.NON_INFERIOR)
        row[key] = row[key] + what if isinstance(what, float) else what
        assert not table_follows(wrong)


def test_moved_probabilities_keep_order_and_decisions():
    rng = np.random.default_rng(0)
    p, limit = rng.random(500).astype(np.float32), 0.23
    p[0] = limit = float(p[1])
    q = stats.two_columns(p, limit)[:, 1].numpy()
    assert np.array_equal(q >= 0.5, p >= limit) and (np.diff(q[np.argsort(p)]) >= 0).all()


def slope_is_right(slope) -> bool:
    """Labels drawn from probabilities whose log-odds were doubled: a slope of one half."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=40_000)
    y = (rng.random(len(z)) < special.expit(z)).astype(int)
    return abs(slope(special.expit(2 * z), y) - 0.5) < 0.03


def test_slope_of_overconfident_answers():
    assert slope_is_right(stats.slope)
    assert not slope_is_right(lambda p, y: 2 * stats.slope(p, y))


def test_no_change_among_few_cancers_is_no_proof():
    """0 of 30 lost: up to 11.6 % may be lost (exact, one side 97.5 %); t over folds says 0."""
    same = {"value": 0.0, "low": 0.0, "high": 0.0}
    got = stats.wider(same, 0, 0, 30)
    assert abs(got["low"] + 0.1157) < 1e-3 and abs(got["high"] - 0.1157) < 1e-3
    assert plan.verdict(got["low"], got["high"], 0.03) == plan.INCONCLUSIVE
    assert plan.verdict(same["low"], same["high"], 0.03) == plan.NON_INFERIOR  # what t would say
    wide = {"value": 0.0, "low": -0.5, "high": 0.5}
    assert stats.wider(wide, 1, 1, 30) == wide


def point_is_right(operating_point) -> bool:
    p, labels = np.arange(20) / 20, np.arange(20) % 2
    limit = operating_point(p, labels)
    found = (p[labels == 1] >= limit).mean()
    higher = (p[labels == 1] > limit).mean()
    return found >= plan.SENSITIVITY > higher


def test_the_operating_point_is_the_highest_that_finds_enough():
    assert point_is_right(study.operating_point)
    assert not point_is_right(lambda p, labels: 0.0)
    assert not point_is_right(lambda p, labels: float(np.quantile(p, 0.9)))


@pytest.mark.slow
def test_the_table_comes_again_from_the_kept_answers():
    kept = study.STUDY.archive
    assert kept.is_file()
    from studies.runner import kept as cells

    again = stats.rows_of(cells(study.STUDY))
    for row, known in zip(again["tests"], TABLE["tests"]):
        assert abs(row["value"] - known["value"]) < 2e-4 and row["verdict"] == known["verdict"]


def ends(row: dict, form: str = "{:+z.3f}") -> str:
    return "{} ({} to {})".format(*(form.format(row[k]) for k in ("value", "low", "high")))


def quotes(table: dict, speed: dict) -> list[str]:
    """What the prose must say, as the tables have it."""
    test = {(r["data"], r["variant"], r["metric"]): r for r in table["tests"]}
    level = {(r["data"], r["variant"]): r for r in table["levels"]}
    pair = {(r["data"], r["a"], r["b"]): r for r in table["pairs"]}
    row, whole = {r["variant"]: r for r in speed["rows"]}, speed["rows"][0]["mb"]
    first, wide = test["phantom", plan.PRIMARY, "auc"], level["phantom", "pruned 70 %"]
    slim = test["phantom", "pruned 70 %", "auc"]
    said = [
        f"changes the AUC on the phantom by {ends(first)}: *{first['verdict']}*",
        f"it is *{slim['verdict']}* in AUC, {ends(slim)}",
        f"sensitivity {ends(test['phantom', study.INT8, 'sensitivity'])}",
        f"It changes {100 * level['phantom', study.INT8]['changed']:.1f} % of the decisions",
        ends(test["phantom", "pruned 70 %", "sensitivity"], "{:+z.2f}"),
        f"falls from {level['phantom', study.ORIGINAL]['specificity']['value']:.2f} to "
        f"{wide['specificity']['value']:.2f}",
        f"int8 alone is {whole / row['int8']['mb']:.1f} times smaller",
        f"and {row['int8']['faster_1']:.1f} times faster, but only",
    ]
    for data in study.DRAWS:
        said.append(ends(pair[data, study.MORE_IMAGES, "pruned 70 %"]))
    small = row[plan.PRIMARY]
    said.append(f"{whole / small['mb']:.1f} times smaller, {small['faster_1']:.1f} times faster")
    return said


def prose_is_true(table: dict, speed: dict) -> bool:
    text = prose("10").replace("−", "-")
    return all(sentence in text for sentence in quotes(table, speed))


def test_the_prose_quotes_the_tables():
    assert prose_is_true(TABLE, SPEED)
    for place in ("tests", "levels", "pairs"):
        wrong = copy.deepcopy(TABLE)
        for row in wrong[place]:
            for part in (row, *row.values()):
                if isinstance(part, dict) and "value" in part:
                    part["value"] += 0.02
            row["changed"] = row.get("changed", 0) + 0.02
        assert not prose_is_true(wrong, SPEED)


def claims_hold(table: dict) -> bool:
    """What the prose says without a number: who is non-inferior, and what stays undecided."""
    word = {(r["data"], r["variant"], r["metric"]): r["verdict"] for r in table["tests"]}
    others = {k: v for k, v in word.items() if k[0] == "busi" and k[1] != study.INT8 and v}
    int8 = [word[data, study.INT8, m] for data in study.DRAWS for m in ("auc", "sensitivity")]
    alone = [k[1] for k, v in word.items() if k[2] == "auc" and v == plan.NON_INFERIOR]
    gaps = [r for r in table["pairs"] if r["a"] == study.MORE_IMAGES and r["b"] == "pruned 70 %"]
    below = [r["auc"]["value"] < 0 for r in table["subgroups"]]
    clear = [r[m] for r in table["subgroups"] for m in ("auc", "sensitivity")]
    return (
        set(int8) == {plan.NON_INFERIOR}
        and set(alone) == {study.INT8}
        and set(others.values()) == {plan.INCONCLUSIVE}
        and all(r["low"] < 0 < r["high"] for r in gaps)
        and len(below) == 9
        and all(below)
        and sum(not r["low"] < 0 < r["high"] for r in clear) == 2
    )


def test_what_the_prose_claims_holds_in_the_table():
    assert claims_hold(TABLE)
    wrong = copy.deepcopy(TABLE)
    wrong["tests"][-3]["verdict"] = plan.NON_INFERIOR
    assert not claims_hold(wrong)
