"""Notebook 07 and its deep dive: pairs, the habit of marking, painted crosses, the kept table."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy import ndimage

import medtl_utils as mt
from medtl_utils.phantom import simulate_target
from studies import shortcut as study
from tests.chapters.notebook_code import function, namespace
from tests.conftest import make_split

FIELD = 40.0  # mm


def only_marks_differ(edit) -> bool:
    """With and without the edit: at most two small bright spots an image differ."""

    def fixed_field(patient):
        patient.update(field_mm=FIELD)  # so that pixels are known in mm

    def edited(patient):
        fixed_field(patient)
        edit(patient)

    plain, other = (simulate_target("test", 12, seed=7078, edit=e) for e in (fixed_field, edited))
    if not all(np.array_equal(plain[k], other[k]) for k in ("labels", "patients", "masks")):
        return False
    pairs = zip(plain["images"][:, 0].int().numpy(), other["images"][:, 0].int().numpy())
    for before, after in pairs:
        spots, n = ndimage.label(after != before, np.ones((3, 3)))
        heights = [place[0].stop - place[0].start for place in ndimage.find_objects(spots)]
        widths = [place[1].stop - place[1].start for place in ndimage.find_objects(spots)]
        if (after < before).any() or not 1 <= n <= 2:
            return False
        if max(heights + widths) * FIELD / 64 > 4.0:  # mm
            return False
    return True


def test_counterfactual_pairs_are_identical_outside_the_marks():
    assert only_marks_differ(function("07_deep", "mark"))


@pytest.mark.parametrize(
    "edit",
    [
        lambda p: p.update(posterior_db=-18.0),
        lambda p: p.update(calipers=1.0, echo_db=-4.0),
        lambda p: None,
    ],
    ids=["another thing changed", "a second thing changed", "nothing changed"],
)
def test_the_pair_test_bites(edit):
    assert not only_marks_differ(edit)


def habit_is_kept(patients, chosen, split, white) -> bool:
    """5 % of one class and 95 % of the other, all images of a patient alike, and only they."""
    y, is_white = split.labels.numpy() == 1, (white == 255).all(dim=(1, 2, 3)).numpy()
    shares = abs(chosen[~y].mean() - 0.05) < 0.02 and abs(chosen[y].mean() - 0.95) < 0.02
    alike = all(len(set(chosen[patients == p])) == 1 for p in patients[::200])
    return bool(shares and alike and np.array_equal(is_white, chosen))


def two_images_each():
    """(patients, split): 2,000 patients with two images each, every other one malignant."""
    patients = np.repeat([f"p{i:04d}" for i in range(2000)], 2)
    split = make_split("fresh", 4000, patients, size=2)
    split.labels[:] = torch.arange(2000).repeat_interleave(2) % 2
    split.masks = torch.ones(4000, 2, 2, dtype=torch.bool)
    return patients, split


def whitened(split):
    return dataclasses.replace(split, images=torch.full_like(split.images, 255))


def in_the_core(*mistake) -> bool:
    mark_some = function("07", "mark_some", *mistake)
    patients, split = two_images_each()
    mark_some.__globals__.update(paint=whitened, SEED=3)
    some, chosen = mark_some(split, (0.05, 0.95))
    return habit_is_kept(patients, chosen, split, some.images)


def in_the_deep_dive(*mistake) -> bool:
    mark_some = function("07_deep", "mark_some", *mistake)
    patients, split = two_images_each()
    known = {"plain": {"fresh": split}, "marked": {"fresh": whitened(split)}}
    mark_some.__globals__.update(known, SEED=3)
    some, chosen = mark_some("fresh", (0.05, 0.95))
    theirs, same = study.mark_some(split, whitened(split), (0.05, 0.95), 3)
    agrees = np.array_equal(chosen, same) and torch.equal(some.images, theirs.images)
    return agrees and habit_is_kept(patients, chosen, split, some.images)


def test_marks_follow_the_habit_by_patient():
    assert in_the_core() and in_the_deep_dive()


@pytest.mark.parametrize(
    "mistake",
    [("np.take(share, ", "np.take(share[::-1], "), ("(unit.max() + 1)[unit]", "(len(split))")],
    ids=["classes swapped", "image by image"],
)
def test_the_habit_test_bites_in_the_core(mistake):
    assert not in_the_core(mistake)


@pytest.mark.parametrize(
    "mistake",
    [
        ("split.positive, share[1], share[0]", "split.positive, share[0], share[1]"),
        ("(len(who))[unit]", "(len(split))"),
    ],
    ids=["classes swapped", "image by image"],
)
def test_the_habit_test_bites_in_the_deep_dive(mistake):
    assert not in_the_deep_dive(mistake)


def test_images_without_a_lesion_get_no_marks():
    mark_some = function("07", "mark_some")
    _, split = two_images_each()
    split.masks[::2] = False
    mark_some.__globals__.update(paint=whitened, SEED=3)
    chosen = mark_some(split, (1.0, 1.0))[1]
    assert not chosen[::2].any() and chosen[1::2].all()


# ---- crosses painted at a lesion's ends ----------------------------------------------------------


def crosses_are_at_the_ends(*mistake) -> bool:
    """A lesion like a T on its side, one that fills the picture, and none."""
    paint = namespace("07", *mistake)["paint"]
    split = make_split("x", 3, size=20)
    split.images.clamp_(max=200)
    split.masks = torch.zeros(3, 20, 20, dtype=torch.bool)
    split.masks[0, 8, 5:16] = True
    split.masks[0, 3:8, 10] = True
    split.masks[1] = True
    before = split.images.clone()
    white = paint(split).images[:, 0] == 255
    want = torch.zeros(20, 20, dtype=torch.bool)
    for column in (5, 15):
        want[6:11, column] = True
        want[8, column - 2 : column + 3] = True
    cut = white[1].sum(0)[[0, 2, 17, 19]].tolist() == [5, 1, 1, 5]  # the other half is outside
    others = torch.equal(paint(split).images[0, 0][~want], before[0, 0][~want])
    untouched = torch.equal(split.images, before)
    return bool(torch.equal(white[0], want) and cut and not white[2].any() and others and untouched)


def test_crosses_are_painted_at_the_lesions_ends():
    assert crosses_are_at_the_ends()


@pytest.mark.parametrize(
    "mistake",
    [
        ("columns == columns.max()", "columns == columns.min()"),
        ("rows[s].median()", "rows.min()"),
        ("split.images.clone()", "split.images"),
        ("if mask.any() else ()", "if mask.any() else [(9, 9)]"),
    ],
    ids=["one end", "another row", "in place", "without a lesion"],
)
def test_the_test_of_the_crosses_bites(mistake):
    assert not crosses_are_at_the_ends(mistake)


# ---- the kept table ------------------------------------------------------------------------------


def table_says_so(table: dict) -> list[bool]:
    """What sections 4 and 8 of the deep dive say in words, read off the table."""
    full = {
        (r["data"], r["test"]): r
        for r in table["differences"]
        if (r["recipe"], r["trained_on"], r["metric"]) == ("full", "shortcut", "auc")
    }
    of = {
        (r["data"], r["recipe"], r["trained_on"]): r
        for r in table["dependence"]
        if r["metric"] == "auc"
    }
    said = []
    for data in ("simulated", "real"):
        home, away = full[data, "same habit"], full[data, "reversed habit"]
        said += [home["low"] > 0, away["high"] < 0]
        said += [-away["difference"] > home["difference"]]  # far more than they brought
    shortcut = of["simulated", "full", "shortcut"]
    said += [of["simulated", "full", "random"]["high"] < shortcut["low"]]
    for data, at_most in (("simulated", 0.25), ("real", 0.6)):  # most, about half is taken away
        whole, left = (of[data, recipe, "shortcut"] for recipe in ("full", "gentle"))
        said += [0 < left["low"], left["high"] < whole["low"]]
        said += [left["difference"] < at_most * whole["difference"]]
    cost = next(
        r
        for r in table["differences"]
        if (r["data"], r["recipe"], r["trained_on"]) == ("simulated", "full", "random")
        and (r["test"], r["metric"]) == ("no marks", "auc")
    )
    return [*said, cost["high"] < 0]


def test_the_deep_dive_says_what_the_kept_table_says():
    path = mt.data_folder() / "results" / "shortcut.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    assert {r["part"] for r in table["levels"]} == {"all", "fold 1"}  # simulated, real
    assert all(table_says_so(table)) and len(table["seeds"]) == 5
    for row in (*table["differences"], *table["dependence"]):  # planted: every sign turned round
        row["difference"], row["low"], row["high"] = (-row["difference"], -row["high"], -row["low"])
    assert not any(table_says_so(table)[:2])
