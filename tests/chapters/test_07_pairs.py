"""Notebook 07: counterfactual pairs, the habit of marking, and what the study shares with it."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from medtl_utils.data import Split
from medtl_utils.phantom import simulate_target
from studies import shortcut as study
from tests.chapters.notebook_code import function
from tests.conftest import make_split


def only_marks_differ(edit) -> bool:
    """With and without the edit: at most two small bright spots an image differ."""
    plain, other = (simulate_target("test", 12, seed=7078, edit=e) for e in (None, edit))
    if not all(np.array_equal(plain[k], other[k]) for k in ("labels", "patients", "masks")):
        return False
    pairs = zip(plain["images"][:, 0].int().numpy(), other["images"][:, 0].int().numpy())
    for before, after in pairs:
        spots, n = ndimage.label(after != before, np.ones((3, 3)))
        heights = [place[0].stop - place[0].start for place in ndimage.find_objects(spots)]
        widths = [place[1].stop - place[1].start for place in ndimage.find_objects(spots)]
        if (after < before).any() or not 1 <= n <= 2:
            return False
        if max(heights + widths) * 40 / 64 > 4.0:  # mm
            return False
    return True


def test_counterfactual_pairs_are_identical_outside_the_marks():
    assert only_marks_differ(function("07", "mark"))


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


def habit_is_kept(mark_some) -> bool:
    """95 % of the malignant and 5 % of the benign patients, all images of a patient alike."""
    patients = np.repeat([f"p{i:04d}" for i in range(2000)], 2)
    plain = make_split("fresh", 4000, patients, size=2)
    plain.labels[:] = torch.arange(2000).repeat_interleave(2) % 2
    white = torch.full_like(plain.images, 255)
    marked = Split("fresh", white, plain.labels, plain.classes, 1, patients)
    known = {"plain": {"fresh": plain}, "marked": {"fresh": marked}}
    mark_some.__globals__.update(known, HABITS={"h": (0.05, 0.95)}, SEED=3)
    split, chosen = mark_some("fresh", "h")
    y, is_white = plain.labels.numpy() == 1, (split.images == 255).all(dim=(1, 2, 3)).numpy()
    shares = abs(chosen[~y].mean() - 0.05) < 0.02 and abs(chosen[y].mean() - 0.95) < 0.02
    by_patient = (chosen[::2] == chosen[1::2]).all()
    return bool(shares and by_patient and np.array_equal(is_white, chosen))


def test_marks_follow_the_habit_by_patient():
    assert habit_is_kept(function("07", "mark_some"))


@pytest.mark.parametrize(
    "mistake",
    [
        ("split.positive, share[1], share[0]", "split.positive, share[0], share[1]"),
        (".random(len(who))[unit]", ".random(len(split))"),
    ],
    ids=["classes swapped", "image by image"],
)
def test_the_habit_test_bites(mistake):
    assert not habit_is_kept(function("07", "mark_some", mistake))


def paints_alike(paint) -> bool:
    split = make_split("x", 3, size=64)
    ours = paint(split).images
    return torch.equal(ours, study.paint(split).images) and int((ours == 255).sum()) >= 3 * 2 * 9


def test_the_study_and_the_notebook_paint_alike():
    assert paints_alike(function("07", "paint"))
    assert not paints_alike(lambda split: split)  # planted: no marks
