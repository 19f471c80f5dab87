"""The studies' real images: who learns, who is scored, what an interval covers, what is marked."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, normalize

from medtl_utils import phantom
from medtl_utils.data import Split, Task
from medtl_utils.datasets import busi
from medtl_utils.evaluation import mean_over_seeds
from studies import real_images, real_or_simulated, shortcut, simulated_and_real
from tests.conftest import make_split


def stays_apart(few_labelled) -> bool:
    """Folds 2 to 4 learn, fold 1 is scored; no near-copies in two of training, validation, it."""
    table = busi.read_table()
    fold = dict(zip(busi.names(table).tolist(), table["fold"].tolist()))
    scored = real_images.scored()
    if {fold[i] for i in scored.ids} != {1} or len(scored) != (table["fold"] == 1).sum():
        return False
    for seed in range(2001, 2006):
        task = few_labelled(200, seed)
        learnt, groups = np.concatenate([task.train.ids, task.val.ids]), []
        if len(set(learnt)) != 200 or not {fold[i] for i in learnt} <= {2, 3, 4}:
            return False
        if not 30 <= len(task.val) <= 50 or len(task.val.labels.unique()) < 2:
            return False
        groups = [set(split.groups) for split in (task.train, task.val, scored)]
        if len(set.union(*groups)) != sum(map(len, groups)):
            return False
    return True


def drawn(n: int, seed: int, pool: Split) -> Task:
    rows = np.random.default_rng(seed).permutation(len(pool))[:n]
    return Task("x", pool[rows[: n * 4 // 5]], pool[rows[n * 4 // 5 :]])


def test_labelled_and_scored_images_lie_in_their_folds_and_the_test_set_stays_shut(monkeypatch):
    monkeypatch.setattr(Task, "open_test", lambda *a, **k: pytest.fail("the test set was opened"))
    assert stays_apart(real_images.few_labelled)
    # planted: image by image; and from the images that are scored
    assert not stays_apart(lambda n, seed: drawn(n, seed, real_images.pool()))
    both = lambda n, seed: drawn(n, seed, real_images.scored())
    assert not stays_apart(lambda n, seed: both(100, seed))


def test_another_seed_labels_other_images():
    first, second = (set(real_images.few_labelled(200, seed).train.ids) for seed in (1, 2))
    assert first != second and first == set(real_images.few_labelled(200, 1).train.ids)


def thrice(by_group) -> tuple[dict, dict]:
    """The interval of 20 images, and that of three copies of each."""
    labels = torch.arange(20) % 2
    images = torch.zeros(20, 1, 4, 4, dtype=torch.uint8)
    once = Split("once", images, labels, ("no", "yes"), 1, near_copies=np.arange(20))
    rows = np.repeat(np.arange(20), 3)
    rng = np.random.default_rng(0)
    p = [torch.from_numpy(rng.random(20) * 0.7 + 0.3 * labels.numpy()) for _ in range(3)]
    scores = [torch.stack([1 - x, x], 1) for x in p]
    small = mean_over_seeds(scores, once)
    return small, mean_over_seeds([s[rows] for s in scores], by_group(once[rows]))


def test_intervals_cover_groups_of_near_copies():
    small, large = thrice(real_images.by_group)
    for key in ("value", "low", "high", "se_patients"):
        assert large[key] == pytest.approx(small[key])
    # planted: each copy counts as one more group
    small, large = thrice(lambda split: dataclasses.replace(split, near_copies=None))
    assert large["se_patients"] < 0.7 * small["se_patients"]


def test_known_patients_stay_the_units():
    split = make_split("x", 12)
    assert real_images.by_group(split) is split


def pairs_up(coarse: torch.Tensor) -> bool:
    """Each 28-pixel image is that of the fine image in its row, near-copies apart."""
    small = lambda x: adaptive_avg_pool2d(x.float(), 14).flatten(1)
    scaled = lambda x: normalize(x - x.mean(1, keepdim=True), dim=1)
    fine = scaled(small(real_images.pool().images))
    return bool((scaled(small(real_images.enlarged(coarse))) * fine).sum(1).min() > 0.95)


def test_the_coarse_images_are_those_of_the_pool():
    coarse = real_images.coarse_pool()
    assert coarse.shape == (468, 1, 28, 28) and coarse.dtype == torch.uint8
    assert pairs_up(coarse) and not pairs_up(coarse.roll(1, 0))


# ---- marks ---------------------------------------------------------------------------------------


def marks_whole_groups(mark_some) -> bool:
    labels = torch.arange(60) // 30
    images = torch.zeros(60, 1, 4, 4, dtype=torch.uint8)
    plain = Split("x", images, labels, ("no", "yes"), 1, near_copies=np.arange(60) // 3)
    marked = dataclasses.replace(plain, images=images + 255)
    made, chosen = mark_some(plain, marked, (0.5, 0.5), 0)
    alike = all(len(set(chosen[plain.groups == g])) == 1 for g in range(20))
    right = torch.equal(made.images[:, 0, 0, 0] == 255, torch.from_numpy(chosen))
    return alike and right and 0 < chosen.sum() < 60


def test_near_copies_are_marked_alike():
    single = lambda split: dataclasses.replace(split, near_copies=None)
    image_by_image = lambda plain, *rest: shortcut.mark_some(single(plain), *rest)
    assert marks_whole_groups(shortcut.mark_some)
    assert not marks_whole_groups(image_by_image)


# ---- real or simulated ---------------------------------------------------------------------------


def drawn_patients(monkeypatch, narrow_source, count: int = 300) -> list[dict]:
    """The patients whose images the function would make."""
    patients = []

    def noted(draws, size):
        patients.extend(patient for _, patient in draws)
        return torch.zeros(len(draws), 1, 2, 2), None

    monkeypatch.setattr(phantom, "simulate", noted)
    narrow_source(count)
    return patients


def as_narrow_as_the_target(patients: list[dict]) -> bool:
    """WIDER within the target's ranges, EXTRAS as often as there."""
    values = {name: np.array([p[name] for p in patients]) for name in (*phantom.WIDER, *EXTRAS)}
    inside = all(
        low <= values[name].min() <= values[name].max() <= high
        and (values[name].std() > 0) == (low < high)
        for name, (_, (low, high)) in phantom.WIDER.items()
    )
    shares = [np.mean(values[name] != 0) - chance for name, ((_, chance), _) in EXTRAS.items()]
    return inside and max(map(abs, shares)) < 0.07


EXTRAS = phantom.EXTRAS
CHANGED = {*phantom.WIDER, *EXTRAS}


def plainly_the_source(count: int) -> None:
    """Planted: nothing is narrowed."""
    draws = []
    for number in range(count):
        rng = phantom.random_stream("source", 1, number)
        lesion = bool(rng.random() > 0.15)
        draws.append((rng, phantom.draw_patient(rng, "source", lesion=lesion)))
    phantom.simulate(draws, 64)


def test_the_narrow_source_has_the_targets_ranges_and_all_else_of_the_source(monkeypatch):
    narrow = drawn_patients(monkeypatch, real_or_simulated.narrow_source)
    usual = drawn_patients(monkeypatch, plainly_the_source)
    assert as_narrow_as_the_target(narrow) and not as_narrow_as_the_target(usual)
    for one, other in zip(narrow, usual):
        assert all(np.array_equal(one[key], other[key]) for key in one if key not in CHANGED)


def test_the_picture_shows_each_patient_once():
    names = np.array(["b", "b", "a", "b", "c", "a"])
    assert simulated_and_real.firsts(names).tolist() == [0, 2, 4]
