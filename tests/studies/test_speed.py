"""The race of training loops: the same work in every loop, a table that follows from its rows."""

import copy
import json
import re
from collections import Counter

import numpy as np
import pytest
import torch

from medtl_utils.data import Task
from studies import speed, speed_loops, speed_other
from studies.speed_audit import audit
from studies.speed_loops import LOOPS, OURS
from tests.conftest import ROOT, make_split

FILE = ROOT / "data" / "results" / "speed.json"
WITHOUT = [name for name, (_, framework, _) in LOOPS.items() if framework is None]


def kept() -> dict:
    return json.loads(FILE.read_text())


# ---- the loops ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy() -> Task:
    """Images whose left and right differ, so that a flip shows; sides of 32 pixels."""
    task = Task("toy", make_split("train"), make_split("val", 12, seed=1))
    for split in (task.train, task.val):
        split.images[..., :16] //= 2
    return task


def test_the_loops_do_the_same_work(toy):
    """Same images in the same batches, same updates; the same weights where nothing is random."""
    found = audit(WITHOUT, toy, speed.start)
    assert [row["loop"] for row in found if not row["same"]] == []
    assert {tuple(row["updates"]) for row in found} == {(6, 6)}


def without_augmentation(job):
    job.augmented = False
    speed_loops.plain(job)


def half_the_updates(job):
    job.epochs //= 2
    speed_loops.plain(job)


def another_order(job):
    job.seed += 1
    speed_loops.plain(job)


def another_optimiser(job):
    job.recipe = lambda params: (
        (optimizer := torch.optim.SGD(params, lr=1e-3)),
        torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=job.steps),
    )
    speed_loops.plain(job)


MUTANTS = (without_augmentation, half_the_updates, another_order, another_optimiser)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_the_audit_bites(mutant, toy, monkeypatch):
    monkeypatch.setitem(LOOPS, "planted", (mutant, None, {}))
    (row,) = audit(["planted"], toy, speed.start)
    assert not row["same"], row


def test_a_missing_framework_is_an_error(monkeypatch):
    monkeypatch.setitem(LOOPS, "planted", (None, "no_such_framework", {}))
    with pytest.raises(ModuleNotFoundError, match=r"(?s)no_such_framework.*venv.*--only"):
        speed_loops.must_be_there([OURS, "planted"])
    speed_loops.must_be_there(WITHOUT)


@pytest.mark.check
def test_the_environments_command_names_what_is_raced():
    listed = (ROOT / "studies" / "speed_frameworks.txt").read_text()
    named = set(re.findall(r"^(\w+)==", listed, re.M))
    assert named == {framework for _, framework, _ in LOOPS.values()} - {None}
    assert "-r studies/speed_frameworks.txt" in speed_loops.INSTALL


# ---- the other rows ------------------------------------------------------------------------------


def heads_apart(toy, monkeypatch, spoil=False) -> float:
    """How far the head on cached features ends from that trained through the frozen trunk."""
    monkeypatch.setattr(speed_loops.training, "native_bfloat16", lambda: False)
    if spoil:  # planted: features of images that are not normalised
        plain = speed_other.features
        spoiled = lambda model, split: plain(_unnormalised(model), split)
        monkeypatch.setattr(speed_other, "features", spoiled)
    through, cached, took = speed_other.frozen_pair(toy, 2, 0)
    assert min(took.values()) > 0
    torch.manual_seed(0)
    begin = torch.nn.Linear(512, 2)
    torch.manual_seed(0)
    begin = speed.start(0).fc.weight
    moved = (through.fc.weight - begin).norm()
    return float((through.fc.weight - cached.fc.weight).norm() / moved)


def _unnormalised(model):
    other = copy.deepcopy(model)
    other.normalisation = lambda x: x.float().expand(-1, 3, -1, -1)
    return other


def test_cached_features_train_the_same_head(toy, monkeypatch):
    assert heads_apart(toy, monkeypatch) < 0.02
    assert heads_apart(toy, monkeypatch, spoil=True) > 0.5


# ---- the table -----------------------------------------------------------------------------------


def faults(table: dict) -> set[str]:
    """What of the table does not hold together."""
    found, rows = set(), table["loops"]
    cells = {(r["size"], r["batch"]) for r in rows}
    keys = {(r["loop"], r["size"], r["batch"]) for r in rows}
    if keys != {(name, *cell) for name in table["raced"] for cell in cells}:
        found.add("a row is missing")
    for size, batch in cells:
        cell = [r for r in rows if (r["size"], r["batch"]) == (size, batch)]
        steps = speed.EPOCHS * -(-table["images"][str(size)]["train"] // batch)
        if {r["updates"] for r in cell} != {steps}:
            found.add("updates differ")
        if len({r["rounds"] for r in cell}) != 1:
            found.add("rounds differ")
        ours = next((r for r in cell if r["loop"] == OURS), {"auc": np.nan})
        if any(abs(r["auc"] - ours["auc"] - r["auc_minus_ours"]) > 3e-4 for r in cell):
            found.add("differences of AUC do not follow")
        if any(not 0 < r["ratio_low"] <= r["ratio"] <= r["ratio_high"] for r in cell):
            found.add("ratios are out of order")
    for name in table["raced"]:
        mine = [r for r in rows if r["loop"] == name]
        weight = [r["rounds"] for r in mine]
        if abs(np.average([r["auc_minus_ours"] for r in mine], weights=weight)) > table["margin"]:
            found.add("AUCs differ")
    if table["complete"] != (rounds_of(rows) == Counter((s, b) for s, b, _ in speed.planned())):
        found.add("completeness")
    if not all(row["same"] for row in table["audit"]) or len(table["audit"]) != len(table["raced"]):
        found.add("audit")
    if any(bool(goal["met"]) != reaches(goal) for goal in table["goals"]):
        found.add("goals do not follow")
    if any(bool(goal["met"]) == bool(goal.get("why")) for goal in table["goals"]):
        found.add("a missed goal without its reason")
    return found


def rounds_of(rows: list[dict]) -> Counter:
    return Counter({(r["size"], r["batch"]): r["rounds"] for r in rows if r["loop"] == OURS})


def reaches(goal: dict) -> bool:
    if "all" in goal:
        return min(goal["all"]) >= goal["wanted"]
    least = re.search("times as fast|images a second", goal["goal"])
    return goal["got"] >= goal["wanted"] if least else goal["got"] <= goal["wanted"]


@pytest.mark.check
def test_the_table_holds_together():
    table = kept()
    assert faults(table) == set()
    assert table["raced"] == list(LOOPS) and table["margin"] == speed.MARGIN
    assert table["command"].split()[-1] == speed.__name__ and speed.FRESH >= 1000
    native = {"avx512_bf16", "amx_bf16"} & set(table["processor"]["flags"])
    assert table["native_bfloat16"] == bool(native)
    assert [row["images"] for row in table["growth"]] == list(speed_other.GROWTH)


def spoiled(table: dict, mistake: str) -> dict:
    row = next(r for r in table["loops"] if r["loop"] == "fastai")
    for other in table["loops"]:
        if mistake == "AUCs differ" and other["loop"] == "fastai":
            other["auc"], other["auc_minus_ours"] = (
                other["auc"] - 0.2,
                other["auc_minus_ours"] - 0.2,
            )
    if mistake == "updates differ":
        row["updates"] //= 2
    elif mistake == "differences of AUC do not follow":
        row["auc"] += 0.01
    elif mistake == "ratios are out of order":
        row["ratio"] = row["ratio_high"] + 1
    elif mistake == "rounds differ":
        row["rounds"] += 1
    elif mistake == "a row is missing":
        table["loops"].remove(row)
    elif mistake == "completeness":
        table["complete"] ^= True
    elif mistake == "audit":
        table["audit"].pop()
    elif mistake == "a missed goal without its reason":
        next(goal for goal in table["goals"] if not goal["met"]).pop("why")
    elif mistake == "goals do not follow":
        table["goals"][-1]["met"] ^= True
    return table


MISTAKES = (
    "a row is missing",
    "updates differ",
    "rounds differ",
    "differences of AUC do not follow",
    "ratios are out of order",
    "AUCs differ",
    "completeness",
    "audit",
    "goals do not follow",
    "a missed goal without its reason",
)


@pytest.mark.check
@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_check_of_the_table_bites(mistake):
    assert mistake in faults(spoiled(kept(), mistake))


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """Without time left there is one round; the next run makes the others, none of them twice."""
    made = []
    one = lambda names, *key: made.append(key) or [{"round": key[2]}]
    monkeypatch.setattr(speed, "one_round", one)
    file = tmp_path / "outputs" / "rounds.jsonl"
    assert len(speed.all_rounds([OURS], file, until=0)) == 1 and made == speed.planned()[:1]
    assert len(speed.all_rounds([OURS], file)) == len(speed.planned())
    assert made == speed.planned() and len(set(made)) == len(made)


def test_the_summary_follows_from_the_rounds():
    """Medians and ratios of made-up rounds, by hand."""
    rows = [
        {"loop": name, "size": 64, "batch": 8, "round": k, "own": own, "wall": 2 * own}
        | {"auc": 0.9 - 0.1 * (name != OURS), "updates": 4}
        for name, times in {OURS: (1, 2, 4), "skorch": (2, 6, 4)}.items()
        for k, own in enumerate(times)
    ]
    ours, other = speed.summary(rows)
    assert (ours["seconds_epoch"], ours["ratio"], ours["auc_minus_ours"]) == (2, 1, 0)
    assert (other["ratio"], other["ratio_low"], other["ratio_high"]) == (2, 1, 3)
    assert other["auc_minus_ours"] == pytest.approx(-0.1) and other["wall_epoch"] == 8


# ---- the texts -----------------------------------------------------------------------------------


def numbers(table: dict) -> dict[str, str]:
    """What both READMEs say, as the table has it."""
    rows = table["loops"]
    ends = lambda values: (f"{min(values):.1f}", f"{max(values):.1f}")
    of = lambda name: ends([r["ratio"] for r in rows if r["loop"] == name])
    apart = max(abs(r["auc_minus_ours"]) for r in rows)
    return {
        "plain": of("plain PyTorch"),
        "lightning": of("Lightning, bf16-mixed"),
        "float32": ends(table["float32"].values()),
        "auc": f"{np.ceil(100 * apart) / 100:.2f}",
        "rounds": str(sum(rounds_of(rows).values())),
        "planned": str(len(speed.planned())),
    }


def sentences(table: dict) -> dict[str, list[str]]:
    n = numbers(table)
    (a, b), (c, d), (e, f) = n["plain"], n["lightning"], n["float32"]
    return {
        "README.md": [
            f"{a} to {b} times the seconds of `fine_tune`, Lightning in bf16-mixed {c} to {d} times",
            f"With float32 on both sides, {e} to {f} times is left",
            f"{speed.FRESH:,} fresh simulated images differ by {n['auc']} at most",
            f"{n['rounds']} of {n['planned']} planned rounds",
        ],
        "README.zh-CN.md": [
            f"是 `fine_tune` 的 {a} 至 {b} 倍，Lightning 的 bf16-mixed 是 {c} 至 {d} 倍",
            f"双方都用 float32 时，前者只剩 {e} 至 {f} 倍",
            f"在 {speed.FRESH:,} 幅全新的模拟图像上，AUC 最多相差 {n['auc']}",
            f"计划的 {n['planned']} 轮已完成 {n['rounds']} 轮",
        ],
    }


def said(table: dict) -> list[bool]:
    texts = {name: " ".join((ROOT / name).read_text(encoding="utf-8").split()) for name in BOTH}
    return [words in texts[name] for name in BOTH for words in sentences(table)[name]]


BOTH = ("README.md", "README.zh-CN.md")


@pytest.mark.check
def test_the_readmes_say_what_the_table_says():
    table = kept()
    assert all(said(table)), said(table)
    for row in table["loops"]:  # planted: other seconds, other AUCs
        row |= {"ratio": row["ratio"] + 0.3, "auc_minus_ours": row["auc_minus_ours"] + 0.03}
    assert said(table) == [False, True, False, True] * 2
