"""The table of notebook 11: it follows from its runs, its sides are apart, the prose quotes it."""

import copy
import html
import json
import re

import nbformat
import numpy as np
import pytest
from scipy import stats

from medtl_utils import widgets
from medtl_utils.datasets import busi
from studies import multi_task, two_heads
from tests.chapters.notebook_code import path_of, prose
from tests.conftest import ROOT, picture

TABLE = json.loads((ROOT / "data/results/multi_task.json").read_text(encoding="utf-8"))


def units(values: dict[int, float]) -> list[float]:
    """The folds of busi, whose draws are averaged, or the draws of the phantom."""
    folds: dict[int, list] = {}
    for draw, value in values.items():
        folds.setdefault(draw // 10 if draw < 1000 else draw, []).append(value)
    return [sum(v) / len(v) for v in folds.values()]


def follows(row: dict, values: list[float], level: bool) -> bool:
    ends = stats.ttest_1samp(values, 0).confidence_interval()
    ends = np.clip(ends, 0, 1) if level else ends
    got = [row[key] for key in ("value", "low", "high")]
    return np.allclose(got, [np.mean(values), *ends], atol=5e-4)


def table_follows(table: dict) -> bool:
    """Levels are means of the runs; gains are means of differences of the same draw."""
    at = {(r["data"], r["draw"], r["n"], r["arm"]): r for r in table["runs"]}
    checks = []
    for kind in ("levels", "gains"):
        for row in table[kind]:
            values = {}
            for (data, draw, n, arm), run in at.items():
                if (data, n, arm) == (row["data"], row["n"], row["arm"]):
                    rival = ("label alone", n) if row["metric"] == "AUC" else ("mask alone", None)
                    less = at[data, draw, rival[1], rival[0]][row["metric"]]
                    values[draw] = run[row["metric"]] - (less if kind == "gains" else 0)
            checks.append(follows(row, units(values), kind == "levels"))
            checks.append(sorted(values) == sorted(table["seeds"][row["data"]]))
    return all(checks) and len(checks) > 120


def test_the_table_follows_from_its_runs():
    assert table_follows(TABLE)
    for kind in ("levels", "gains"):
        wrong = copy.deepcopy(TABLE)
        wrong[kind][3]["low"] += 0.01
        assert not table_follows(wrong)
    wrong = copy.deepcopy(TABLE)
    wrong["runs"][1]["AUC"] += 0.05
    assert not table_follows(wrong)


def arms_are_fair(batches) -> bool:
    """The batches of a task are the same in every arm: they depend on its rows and the seed."""
    import torch

    few, every = torch.arange(25), torch.arange(300)
    pairs = [(batches(rows, 7), batches(rows, 7)) for rows in (few, every)]
    same = all(torch.equal(torch.cat(a), torch.cat(b)) for a, b in pairs)
    return same and all(len(a) == TABLE["updates"] for a, _ in pairs)


def test_all_arms_see_the_same_batches():
    assert arms_are_fair(two_heads.batches)
    assert TABLE["updates"] == two_heads.UPDATES and TABLE["batch"] == two_heads.BATCH
    shifting = iter(range(100))
    assert not arms_are_fair(lambda rows, seed: two_heads.batches(rows, next(shifting)))


def sides_are_apart(sides) -> bool:
    """No near-copy on both sides, and fold 0 on neither; every other image is held out once."""
    listed = busi.read_table()
    fold = dict(zip(busi.names(listed).tolist(), listed["fold"].tolist()))
    held: list[str] = []
    for draw in (10, 20, 30, 40):
        pool, out = sides("busi", draw)
        if set(pool.near_copies) & set(out.near_copies):
            return False
        if 0 in {fold[name] for name in [*pool.ids, *out.ids]}:
            return False
        held += out.ids.tolist()
    return len(held) == len(set(held)) == sum(k > 0 for k in fold.values())


def test_who_is_on_which_side():
    assert sides_are_apart(multi_task.sides)
    assert not sides_are_apart(lambda data, draw: (multi_task.sides(data, draw)[0],) * 2)
    assert not sides_are_apart(lambda data, draw: multi_task.sides(data, 10))


def test_few_labels_are_as_many_as_said():
    pool = multi_task.sides("busi", 10)[0]
    for n in (25, 100):
        rows = multi_task.labelled(pool, n, 10, "busi")
        assert len(set(rows.tolist())) == n and len(pool.labels[rows].unique()) == 2
    few = [set(multi_task.labelled(pool, n, 10, "busi").tolist()) for n in (25, 100)]
    assert few[0] <= few[1]
    other = set(multi_task.labelled(pool, 25, 11, "busi").tolist())
    assert other != few[0]


def is_ellipse(ellipse) -> bool:
    """In the middle, and as high and wide as the boxes around the lesions are on average."""
    import torch

    masks = torch.zeros(3, 20, 20, dtype=torch.bool)
    masks[0, 2:10, 3:15] = True  # 8 high, 12 wide; the third image has no lesion
    masks[1, 5:17, 0:8] = True  # 12 high, 8 wide
    found = ellipse(masks)
    boxes = found.any(1).sum(), found.any(0).sum()
    return boxes == (10, 10) and torch.equal(found, found.flip(0)) and found[9, 9]


def test_the_centre_ellipse():
    assert is_ellipse(multi_task.ellipse)
    assert not is_ellipse(lambda masks: multi_task.ellipse(masks.transpose(1, 2)[:1]))


# ---- the prose -----------------------------------------------------------------------------------

INTERVAL = re.compile(r"[+−]?\d\.\d{2,3} \([+−]?\d\.\d{2,3} to [+−]?\d\.\d{2,3}\)")


def printed(number: str) -> str:
    cells = nbformat.read(path_of(number), 4).cells
    outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
    return "\n".join(o.get("text", "") for o in outputs).replace("-", "−")


def all_printed(text: str) -> bool:
    """Every value with an interval in the prose is one that a cell printed."""
    found = INTERVAL.findall(text)
    return len(found) >= 6 and all(words in printed("11") for words in found)


def test_the_prose_quotes_what_is_printed():
    text = prose("11")
    assert all_printed(text)
    first = INTERVAL.search(text)[0]
    assert not all_printed(text.replace(first, "−0.777 (−0.888 to −0.666)"))


def crosses_zero(table: dict, **wanted) -> list[bool]:
    rows = [r for r in table["gains"] if wanted.items() <= r.items()]
    assert rows
    return [r["low"] <= 0 <= r["high"] for r in rows]


def prose_holds(table: dict) -> bool:
    """What section 6 and the summary say of zero."""
    mask = [r for r in table["gains"] if r["arm"] != multi_task.WORDS]
    inside = all(r["low"] <= 0 <= r["high"] for r in mask)
    words = crosses_zero(table, arm=multi_task.WORDS)
    hundredths = crosses_zero(table, arm="both, 0.1", n=None, metric="Dice")
    out = sum(r["low"] * r["high"] > 0 for r in table["gains"])
    low = [
        r["low"] <= -0.03
        for r in table["gains"]
        if (r["arm"], r["n"], r["metric"]) == ("both, 0.1", None, "Dice")
    ]
    return inside and sum(not w for w in words) == out == 1 and all(hundredths) and all(low)


def test_what_the_prose_says_without_a_number():
    assert prose_holds(TABLE)
    assert f"the only one of {len(TABLE['gains'])}" in prose("11")
    wrong = copy.deepcopy(TABLE)
    wrong["gains"][0] |= {"low": 0.01, "value": 0.02, "high": 0.03}
    assert not prose_holds(wrong)


# ---- the dial ------------------------------------------------------------------------------------


def dial_is_right(table: dict) -> bool:
    """Every setting tells the level and interval that the table holds, or that there is none."""
    from medtl_utils.widgets import chapter_11

    box = widgets.loss_weight_dial(table)
    weight, images, labels = box.children[:3]
    rows = {(r["data"], r["n"], r["arm"], r["metric"]): r for r in TABLE["levels"]}
    for w, arm in enumerate(chapter_11.ARMS.values()):
        for i, data in enumerate(("busi", "phantom")):
            for k, n in enumerate((25, None)):
                weight.value, images.value, labels.value = w, i, k
                text = html.unescape(re.sub(r"<[^>]*>", "", picture(box)))
                for metric in ("AUC", "Dice"):
                    row = rows.get((data, None if arm == "mask alone" else n, arm, metric))
                    words = f"{metric} none"
                    if row:
                        words = (
                            f"{metric} {row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
                        )
                    if words not in text:
                        return False
    return True


def test_the_dial_tells_the_table():
    assert dial_is_right(TABLE)
    wrong = copy.deepcopy(TABLE)
    for row in wrong["levels"]:
        row["value"] = round(row["value"] / 2, 4)
        row["low"] = row["low"] / 2
    assert not dial_is_right(wrong)


@pytest.mark.parametrize("control", [0, 1, 2])
def test_every_control_changes_the_picture(control):
    box = widgets.loss_weight_dial(TABLE)
    before = re.search(r'src="[^"]*"', picture(box))[0]
    box.children[control].value = 1
    assert re.search(r'src="[^"]*"', picture(box))[0] != before
