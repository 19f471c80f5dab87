"""Notebook 12: what the study's table must be, what the prose says of it, and the board."""

import copy
import html
import json
import re
from collections import Counter

import nbformat
import numpy as np
import pytest
import torch

from medtl_utils import widgets
from medtl_utils.data import Split
from studies import cross_modal, cross_modal_fusion, cross_modal_table
from studies.report_sentences import PROMPTS
from studies.tables import auc
from tests.chapters.notebook_code import function, path_of, prose
from tests.conftest import ROOT, picture
from tests.studies.test_slices import Slice, flattered, reproduced

TABLE = json.loads((ROOT / "data/results/cross_modal.json").read_text(encoding="utf-8"))


# ---- the table -----------------------------------------------------------------------------------


def table_follows(table: dict) -> bool:
    """Levels are means over trainings; intervals hold their values; all seeds are there."""
    checks = []
    for row in table["zero_shot"]:
        if "each" in row:
            checks.append(abs(np.mean(row["each"]) - row["value"]) < 2e-4 and len(row["each"]) >= 5)
    level = {(r["where"], r["arm"]): r["value"] for r in table["zero_shot"]}
    for r in table["zero_shot_gaps"]:
        want = level[r["where"], r["arm"]] - level[r["where"], r["against"]]
        checks.append(abs(want - r["value"]) < 3e-4)
    fused = {(r["arm"], r["given"]): r["value"] for r in table["fusion"]}
    for r in table["fusion_gaps"]:
        if r["given"]:
            want = fused[r["arm"], r["given"]] - fused[r["against"], r["given"]]
            checks.append(abs(want - r["value"]) < 3e-4)
    parts = ("zero_shot", "retrieval", "mirrored", "few_shot", "fusion")
    levels = [r for part in parts for r in table[part]]
    checks += [0 <= r["low"] <= r["value"] <= r["high"] <= 1 for r in levels]
    arms = Counter((r["source"], r["order"], r["shuffled"], r["n"]) for r in table["runs"])
    checks += [n == len(cross_modal.SEEDS) for n in arms.values()]
    return all(checks) and len(checks) > 100


def test_the_table_follows_from_its_runs():
    assert table_follows(TABLE)
    for part, key in (("zero_shot", "value"), ("zero_shot_gaps", "value"), ("retrieval", "low")):
        wrong = copy.deepcopy(TABLE)
        wrong[part][0][key] += 0.9
        assert not table_follows(wrong)
    wrong = copy.deepcopy(TABLE)
    wrong["runs"] = wrong["runs"][1:]
    assert not table_follows(wrong)


def controls_are_at_chance(table: dict) -> bool:
    """Shuffled pairs near chance, true pairs far above; a bag of words at 0.5 when mirrored."""
    fair = [r for r in table["retrieval"] if r["counted"] == "any true" and r["k"] == 5]
    of = {(r["arm"], r["way"]): r for r in fair}
    near = all(
        abs(of["shuffled pairs", w]["value"] - of["shuffled pairs", w]["chance"]) < 0.08
        for w in ("to text", "to image")
    )
    far = all(
        of["ultrasound", w]["low"] > 2.5 * of["ultrasound", w]["chance"]
        for w in ("to text", "to image")
    )
    shuffled = [r for r in table["zero_shot"] if r["arm"] == "shuffled pairs"]
    level = all(r["low"] <= 0.5 <= r["high"] for r in shuffled)
    mirrored = {(r["arm"], r["kind"]): r for r in table["mirrored"]}
    order = all(
        mirrored["bag of words", k]["value"] == 0.5 and mirrored["ultrasound", k]["low"] > 0.75
        for k in ("finding", "margin", "orientation")
    )
    return near and far and level and order


def test_shuffled_pairs_are_at_chance_and_true_pairs_far_above():
    assert controls_are_at_chance(TABLE)
    wrong = copy.deepcopy(TABLE)
    names = {"shuffled pairs": "ultrasound", "ultrasound": "shuffled pairs"}
    for row in wrong["retrieval"]:
        row["arm"] = names.get(row["arm"], row["arm"])
    assert not controls_are_at_chance(wrong)


def test_the_prompts_in_the_table_are_those_that_were_fixed():
    assert TABLE["prompts"] == {name: list(texts) for name, texts in PROMPTS.items()}


def is_chosen_by_its_prompt(zero_shot) -> bool:
    """An image gets the class with the nearer mean prompt; probabilities by a loop."""
    vectors = {"b1": [1.0, 0.0], "b2": [0.96, 0.28], "m1": [0.0, 1.0], "m2": [-0.6, 0.8]}
    texts = lambda rows: torch.tensor([vectors[name] for name in rows]).double()
    x, temperature, want = torch.tensor([[0.6, 0.8], [1.0, 0.0], [-1.0, 0.0]]).double(), 0.5, []
    for row in x.tolist():
        cos = []
        for names in (("b1", "b2"), ("m1", "m2")):
            mean = np.mean([vectors[n] for n in names], axis=0)
            cos.append(np.dot(row, mean / np.linalg.norm(mean)) / temperature)
        want.append(np.exp(cos) / np.exp(cos).sum())
    zero_shot.__globals__.update(
        PROMPTS={"benign": ["b1", "b2"], "malignant": ["m1", "m2"]}, encode=lambda names: names
    )
    return bool(np.allclose(zero_shot(lambda x: x, texts, temperature, x), want))


def test_zero_shot_by_a_loop():
    assert is_chosen_by_its_prompt(function("12", "zero_shot"))
    for change in (
        ("/ temperature", "* temperature"),
        ("F.normalize(sides, dim=1)", "F.normalize(sides, dim=0)"),
        ("F.normalize(sides, dim=1)", "sides"),
        (".softmax(1)", ".softmax(0)"),
    ):
        assert not is_chosen_by_its_prompt(function("12", "zero_shot", change))


# ---- a missing side ------------------------------------------------------------------------------


def drops_one_side(dropped) -> bool:
    """A share lacks the image, as many the table, nobody both."""
    has = dropped(20_000, torch.Generator().manual_seed(0))
    lacks = (1 - has).mean(0)
    return bool(has.sum(1).min() >= 1) and bool((abs(lacks - 0.3) < 0.02).all())


def test_modality_dropout():
    here = function("12_deep", "dropped")
    assert drops_one_side(cross_modal_fusion.dropped)
    assert drops_one_side(lambda n, rng: here(n, 0.3, rng))
    for change in (("u >= 2 * share", "u >= share"), ("u >= share, ", "u >= 2 * share, ")):
        wrong = function("12_deep", "dropped", change)
        assert not drops_one_side(lambda n, rng, f=wrong: f(n, 0.3, rng))


def ignores_what_is_missing(branches) -> bool:
    torch.manual_seed(0)
    model, x, t = branches(5, 3), torch.randn(4, 5), torch.randn(4, 3)
    only = lambda a, b: torch.tensor([[a, b]]).repeat(4, 1)
    same = lambda p, q: torch.allclose(p, q)
    with torch.no_grad():
        image = same(model(x, t, only(1.0, 0.0)), model(x, t + 9, only(1.0, 0.0)))
        table = same(model(x, t, only(0.0, 1.0)), model(x - 9, t, only(0.0, 1.0)))
        both = same(model(x, t, only(1.0, 1.0)), model(x, t + 9, only(1.0, 1.0)))
        return image and table and not both


def test_a_missing_side_is_not_seen():
    assert ignores_what_is_missing(cross_modal_fusion.TwoBranches)
    assert ignores_what_is_missing(function("12_deep", "TwoBranches"))
    for change in (("* has[:, :1]", "* has[:, 1:]"), ("* has[:, 1:]", "")):
        assert not ignores_what_is_missing(function("12_deep", "TwoBranches", change))


# ---- the prose -----------------------------------------------------------------------------------

INTERVAL = re.compile(r"[+−]?\d\.\d{2,3} \([+−]?\d\.\d{2,3} to [+−]?\d\.\d{2,3}\)")


def printed(number: str) -> str:
    cells = nbformat.read(path_of(number), 4).cells
    outputs = [o for cell in cells if cell.cell_type == "code" for o in cell.outputs]
    return "\n".join(o.get("text", "") for o in outputs).replace("-", "−")


def all_printed(text: str) -> bool:
    """Every value with an interval in the prose is one that a cell printed."""
    found = INTERVAL.findall(text)
    return len(found) >= 15 and all(words in printed("12") for words in found)


def test_the_prose_quotes_what_is_printed():
    text = prose("12")
    assert all_printed(text), [w for w in INTERVAL.findall(text) if w not in printed("12")]
    first = INTERVAL.search(text)[0]
    assert not all_printed(text.replace(first, "−0.77 (−0.88 to −0.66)"))


def what_is_said_holds(table: dict) -> bool:
    """What the prose says without a number."""
    gaps = {(r["where"], r["arm"], r["against"]): r for r in table["zero_shot_gaps"]}
    few = {
        (r["where"], r["source"], r["n"], r["arm"], r["against"]): r for r in table["few_shot_gaps"]
    }
    open_ = lambda r: r["low"] < 0 < r["high"]
    cannot_say = [
        gaps["phantom", "ultrasound", "own heads, no text"],
        gaps["busi", "ultrasound", "own heads, no text"],
        gaps["phantom", "ultrasound", "bag of words"],
    ]
    pays = few["phantom", "imagenet_lite0", 25, "zero-shot", "probe on trunk"]
    loses = few["busi", "ultrasound", 100, "zero-shot", "probe on trunk"]
    fused = {(r["arm"], r["against"], r["given"]): r for r in table["fusion_gaps"]}
    two, one, dropout = cross_modal_fusion.ARMS
    simple = fused[two, dropout, "table only"]
    return (
        all(map(open_, cannot_say))
        and pays["low"] > 0
        and loses["high"] < 0
        and fused[dropout, one, "table only"]["low"] > 0
        and simple["low"] > 0
        and fused["full table and image, both", "full table, both", ""]["high"] < 0
    )


def test_what_is_said_in_words_holds():
    assert what_is_said_holds(TABLE)
    for part in ("zero_shot_gaps", "few_shot_gaps", "fusion_gaps"):
        wrong = copy.deepcopy(TABLE)
        for row in wrong[part]:
            row["low"], row["high"] = row["low"] - 1, row["low"] - 0.5
        assert not what_is_said_holds(wrong)


# ---- the board -----------------------------------------------------------------------------------


def board_is_right() -> bool:
    """Order, truth and chance of the shown images, counted here."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 255, (15, 1, 8, 8), dtype=np.uint8))
    split = Split("few", images, torch.zeros(15, dtype=torch.int64), ("a", "b"), 1)
    cosines = {name: rng.normal(size=(2, 15)) for name in ("one", "other")}
    right = rng.random((2, 15)) < 0.4
    box = widgets.retrieval_board(split, ["shadow", "no shadow"], cosines, right)
    sentence, training, shown = box.children[:3]
    for s, (t, name), (n, k) in [
        (s, t, n) for s in (0, 1) for t in enumerate(cosines) for n in enumerate((4, 8, 12))
    ]:
        sentence.value, training.value, shown.value = s, t, n
        best = sorted(range(15), key=lambda j: -cosines[name][s, j])[:k]
        each = ", ".join("true" if right[s, j] else "not true" for j in best)
        text = html.unescape(re.sub(r"<img.*?/>", "", picture(box)))
        chance = f"by chance of {right[s].mean() * k:.1f} of {k} shown"
        if not all(told in text for told in (f"image by image: {each}.", chance, f"by {name}.")):
            return False
    return True


def test_the_board(monkeypatch):
    from medtl_utils.widgets import chapter_12

    assert board_is_right()
    with pytest.raises(ValueError, match="'right' must have a row for each sentence"):
        split = Split("x", torch.zeros(3, 1, 4, 4).byte(), torch.zeros(3).long(), ("a", "b"), 1)
        widgets.retrieval_board(split, ["a"], {"one": np.zeros((1, 3))}, np.zeros((2, 3)))
    monkeypatch.setattr(chapter_12.np, "argsort", lambda a, kind: np.arange(15))
    assert not board_is_right()


# ---- slow: a training again ----------------------------------------------------------------------


def scores_of(found: dict) -> list[float]:
    data = cross_modal.data()
    names = ("test", "real")
    return [auc(cross_modal_table.by_prompt(found, name), data[name]) for name in names]


@pytest.mark.slow
def test_two_trainings_are_reproduced():
    cell = {"part": "pair", "source": "ultrasound", "order": True, "shuffled": False, "n": None}
    piece = Slice(cross_modal, cell, scores_of)
    kept, again = piece.kept(), piece.again(2)
    assert reproduced(kept, again)
    assert not reproduced(flattered(kept, by=0.05), again)
