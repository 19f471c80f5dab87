"""The table of notebook 13: it follows from its values a question, and the prose quotes it."""

import copy
import itertools
import json
import re

import nbformat
import numpy as np
import pytest
from scipy import stats

from studies import few_shot, meta_learners, meta_learning, meta_table
from tests.chapters.notebook_code import path_of, prose
from tests.conftest import ROOT

TABLE = json.loads((ROOT / "data/results/meta_learning.json").read_text(encoding="utf-8"))
INTERVAL = re.compile(r"[+−]?\d\.\d\d \([+−]?\d\.\d\d to [+−]?\d\.\d\d\)")


def row_of(table: dict, key: str, **wanted) -> dict:
    (row,) = [r for r in table[key] if wanted.items() <= r.items()]
    return row


def is_interval(row: dict, each: np.ndarray, low: float) -> bool:
    """Mean and t interval of one value a question, cut at `low` and 1."""
    ends = np.clip(stats.ttest_1samp(each, 0).confidence_interval(), low, 1)
    return np.allclose([row["value"], row["low"], row["high"]], [each.mean(), *ends], atol=3e-4)


def table_follows(table: dict) -> bool:
    """Levels, differences, descriptors and the primary claim, from the values a question."""
    each = {
        (r["source"], r["arm"], r["where"], r["shots"]): np.array(r["each"])
        for r in table["levels"]
    }
    checks = [is_interval(r, np.array(r["each"]), 0) for r in table["levels"]]
    checks += [len(values) == 25 for values in each.values()]
    for key in ("minus_probe", "second_order", "minus_joint"):
        for r in table[key]:
            one, other = (
                each[r["source"], r[a], r["where"], r["shots"]] for a in ("arm", "against")
            )
            checks.append(is_interval(r, one - other, -1))
    of = np.array([q.split()[0] for q in table["questions"]])
    for r in table["by_descriptor"]:
        far = (each[r["source"], a, "far", 5] for a in (r["arm"], "probe"))
        gap = next(far) - next(far)
        want = [gap[of == name].mean() for name in r["each"]]
        checks += [np.allclose(list(r["each"].values()), want, atol=3e-4), len(want) == 7]
        checks.append(is_interval(r, np.array(want), -1))
    p = table["primary"]
    gap = each[p["source"], p["arm"], p["where"], p["shots"]]
    gap = gap - each[p["source"], "probe", p["where"], p["shots"]]
    checks += [is_interval(p, gap, -1), abs(stats.ttest_1samp(gap, 0).pvalue - p["p"]) < 1e-3]
    return all(checks)


def test_the_table_follows_from_its_questions():
    assert table_follows(TABLE)
    for key in ("levels", "minus_probe", "second_order", "minus_joint", "by_descriptor"):
        wrong = copy.deepcopy(TABLE)
        wrong[key][0]["value"] += 0.01
        assert not table_follows(wrong)
    wrong = copy.deepcopy(TABLE)
    wrong["levels"][-1]["each"][0] += 0.2
    assert not table_follows(wrong)
    wrong = copy.deepcopy(TABLE)
    wrong["primary"]["high"] = 0.5
    assert not table_follows(wrong)


def test_the_primary_claim_is_the_one_that_was_fixed():
    assert meta_learning.PRIMARY.items() <= TABLE["primary"].items()
    assert TABLE["episodes"]["far"] >= 200 and len(TABLE["questions"]) >= 20


def rates_are_best(table: dict) -> bool:
    """Each method had three rates on the pilot's patients, and kept the best."""
    found = {}
    for r in table["rates"]:
        found.setdefault(r["arm"], []).append((r["accuracy"], r["rate"]))
    best = {arm: max(tried)[1] for arm, tried in found.items() if len(tried) == 3}
    return len(best) == 5 and all(table["best_rates"][arm] == r for arm, r in best.items())


def test_all_methods_had_the_same_choice_of_rates():
    assert rates_are_best(TABLE)
    wrong = copy.deepcopy(TABLE)
    wrong["rates"][0]["accuracy"] = 1.0
    assert not rates_are_best(wrong)


def budgets_are_equal(table_of_losses: dict) -> bool:
    """All learners with a seed see the same episodes, in the same order."""
    seen = {}
    for name in table_of_losses:
        rng = np.random.default_rng([131, 0])
        x = few_shot.torch.arange(75 * 50.0).view(75, 2, 25, 1)
        seen[name] = [meta_learners.dealt(x, np.arange(30), 4, 5, rng)[2].sum() for _ in range(3)]
    return len({tuple(map(float, s)) for s in seen.values()}) == 1


def test_all_learners_see_the_same_episodes():
    assert budgets_are_equal(meta_learners.LOSSES)
    assert meta_learners.UPDATES * meta_learners.EPISODES == 2400
    cells = [c for c in meta_learning.cells() if c["part"] == "meta"]
    runs = lambda arm: {(c["source"], c["fold"], c["seed"]) for c in cells if c["arm"] == arm}
    assert runs("joint + probe") == runs("prototypical") == runs("MAML") >= runs("first-order MAML")


def averages_right(by_question) -> bool:
    """Made-up cells in which the accuracy tells the question, the scanner and the training."""
    cells = []
    for seed, fold in itertools.product(range(2), range(3)):
        arrays = {
            side: np.stack(
                [
                    np.full((3, 2), few_shot.TASKS[t][0] + few_shot.TASKS[t][1] / 8 + seed / 64)
                    for t in tasks
                ],
                axis=1,
            )
            for side, tasks in few_shot.sides(fold).items()
        }
        cells.append(
            ({"part": "meta", "source": "s", "arm": "a", "fold": fold, "seed": seed}, arrays)
        )
    found = by_question(cells, range(2))["s", "a"]
    want = lambda scanner: np.arange(25) + scanner / 8 + np.arange(2)[:, None] / 64
    return all(
        np.allclose(found[side][:, 1], want(scanner))
        for side, scanner in (("far", 1.0), ("near", 2.0), ("train", 0.5))
    )


def test_scanners_and_trainings_are_averaged():
    assert averages_right(meta_table.by_question)
    swapped = lambda cells, seeds: {
        k: {"far": v["near"], "near": v["far"], "train": v["train"]}
        for k, v in meta_table.by_question(cells, seeds).items()
    }
    assert not averages_right(swapped)


# ---- the prose -----------------------------------------------------------------------------------


def printed() -> str:
    cells = nbformat.read(path_of("13"), 4).cells
    outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
    return "\n".join(o.get("text", "") for o in outputs).replace("-", "−")


def quoted(text: str) -> set[str]:
    """Every value with an interval in the prose; a sign may be printed and not be said."""
    return set(INTERVAL.findall(text))


def all_printed(text: str) -> bool:
    shown = printed() + "\n" + "\n".join(tabled(TABLE["by_descriptor"]))
    plain = shown.replace("+", "")
    return len(quoted(text)) >= 12 and all(q in shown or q in plain for q in quoted(text))


def tabled(rows: list[dict]) -> list[str]:
    form = lambda r: f"{r['value']:+z.2f} ({r['low']:+z.2f} to {r['high']:+z.2f})"
    return [form(r).replace("-", "−") for r in rows]


def test_the_prose_quotes_what_is_printed():
    text = prose("13")
    assert all_printed(text)
    first = INTERVAL.search(text)[0]
    assert not all_printed(text.replace(first, "−0.77 (−0.88 to −0.66)"))


def said_in_words(table: dict) -> bool:
    """What section 4, the figure's title and the summary say without a number."""
    learners = [arm for arm in table["learners"]]
    far = [
        r
        for r in table["minus_probe"]
        if r["where"] == "far" and r["shots"] == 5 and r["arm"] in learners
    ]
    nothing_gained = all(r["value"] <= 0.005 and r["low"] < 0 for r in far)
    near = {
        (r["source"], r["arm"]): r
        for r in table["minus_probe"]
        if r["where"] == "near" and r["shots"] == 5
    }
    gained = near["imagenet_lite0", "MAML"]["low"] > 0
    by_descriptor = row_of(
        table, "by_descriptor", source=table["primary"]["source"], arm=table["primary"]["arm"]
    )
    cannot_say = by_descriptor["low"] < 0 < by_descriptor["high"]
    one, ten = (
        row_of(table, "minus_probe", source="ultrasound", arm="MAML", where="near", shots=k)
        for k in (1, 10)
    )
    source = [
        row_of(table, "levels", source=s, arm="probe", where="far", shots=5)["value"]
        for s in ("ultrasound", "imagenet_lite0")
    ]
    best_gain = max(r["value"] for r in table["minus_probe"] if r["arm"] in learners)
    return (
        nothing_gained
        and gained
        and cannot_say
        and table["primary"]["high"] < 0
        and one["low"] > 0
        and ten["low"] < 0 < ten["high"]
        and source[0] - source[1] > best_gain
    )


def test_what_is_said_in_words_holds():
    assert said_in_words(TABLE)
    for key, shift in (("minus_probe", 0.2), ("by_descriptor", -0.2), ("levels", None)):
        wrong = copy.deepcopy(TABLE)
        for r, end in itertools.product(wrong[key], ("value", "low", "high")):
            r[end] = 0.6 if shift is None else r[end] + shift
        assert not said_in_words(wrong)


@pytest.mark.slow
def test_a_slice_is_made_again():
    """One prototypical network, trained again, has the kept accuracies on its far tasks."""
    found = meta_learning.run(**TABLE["slice"]["cell"])["far"][few_shot.SHOTS.index(5)].mean(1)
    assert np.allclose(found, TABLE["slice"]["far"], atol=0.03)
    assert not np.allclose(found, TABLE["slice"]["far"][::-1], atol=0.03)
