"""Groups: near-copies, folds, and which images are labelled; a group never straddles a border."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold, StratifiedKFold

from medtl_utils import data, grouping
from medtl_utils.data import Split, Task, find_twins, near_copies
from medtl_utils.grouping import draw_labelled
from tests.conftest import make_split

# ---- folds ---------------------------------------------------------------------------------------


def fold_task(patients: bool = True) -> Task:
    """40 patients with 1 to 4 images each, 30 % of them malignant; train and val share nobody."""
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(40), rng.integers(1, 5, 40))
    labels = torch.from_numpy((group % 10 < 3).astype(np.int64))
    images = torch.from_numpy(rng.integers(0, 256, (len(group), 1, 4, 4)).astype(np.uint8))
    names = np.array([f"p{g:02d}" for g in group])
    ids = np.array([f"mine/{i}" for i in range(len(group))])
    known = {"patients": names} if patients else {"near_copies": group}
    whole = Split("whole", images, labels, ("benign", "malignant"), 1, ids=ids, **known)
    return Task(
        "mine",
        dataclasses.replace(whole[group < 32], name="train"),
        dataclasses.replace(whole[group >= 32], name="val"),
    )


def fold_faults(task: Task, folds: list[Task]) -> set[str]:
    """What is wrong with folds; empty if nothing is."""
    everyone = sorted([*task.train.ids, *task.val.ids])
    faults = set()
    for fold in folds:
        if set(fold.train.groups) & set(fold.val.groups):
            faults.add("a group lies on both sides")
        if sorted([*fold.train.ids, *fold.val.ids]) != everyone:
            faults.add("a fold does not hold every image once")
        share = fold.val.labels.double().mean() / fold.train.labels.double().mean()
        if not 0.6 < share < 1.6:
            faults.add("the classes are not balanced")
        if fold._test is not None:
            faults.add("there is a test set")
    if sorted(np.concatenate([fold.val.ids for fold in folds])) != everyone:
        faults.add("an image is not validation exactly once")
    return faults


@pytest.mark.parametrize("patients", [True, False])
@pytest.mark.parametrize("k", [2, 5])
def test_folds(patients, k):
    task = fold_task(patients)
    folds = task.folds(k, seed=1)
    assert len(folds) == k and fold_faults(task, folds) == set()
    assert folds[0].name == f"mine, fold 1 of {k}" and "no test set" in repr(folds[0])
    assert (folds[0].train.name, folds[0].val.name) == ("train", "val")
    assert f"Fold 1 of {k}, seed 1" in folds[0].card
    again, other = task.folds(k, seed=1), task.folds(k, seed=2)
    assert folds[0].val.ids.tolist() == again[0].val.ids.tolist()
    assert folds[0].val.ids.tolist() != other[0].val.ids.tolist()


def ignores_groups(labels, groups, classes, k, seed):
    return list(StratifiedKFold(k, shuffle=True, random_state=seed).split(labels, labels))


def loses_an_image(labels, groups, classes, k, seed):
    rows = grouping.fold_rows(labels, groups, classes, k, seed)
    return [(rows[0][0], rows[0][1][1:]), *rows[1:]]


def ignores_classes(labels, groups, classes, k, seed):
    names = np.unique(groups)
    names = names[np.argsort([labels[groups == g][0] for g in names], kind="stable")]
    return [
        (
            np.flatnonzero(~np.isin(groups, names[held])),
            np.flatnonzero(np.isin(groups, names[held])),
        )
        for _, held in KFold(k).split(names)
    ]


@pytest.mark.parametrize(
    ("mutant", "fault"),
    [
        (ignores_groups, "a group lies on both sides"),
        (loses_an_image, "an image is not validation exactly once"),
        (ignores_classes, "the classes are not balanced"),
    ],
)
def test_fold_faults_are_found(mutant, fault, monkeypatch):
    monkeypatch.setattr(data, "fold_rows", mutant)
    task = fold_task()
    assert fault in fold_faults(task, task.folds(5, seed=1))


def test_folds_mend_a_patient_in_training_and_validation():
    task = fold_task()
    task.val.patients[0] = task.train.patients[0]
    task.val.labels[0] = task.train.labels[0]
    assert fold_faults(task, task.folds(5)) == set()


def test_impossible_folds_say_why():
    task = fold_task()
    with pytest.raises(ValueError, match="13 folds need 13 groups.*'malignant' has 12"):
        task.folds(13)
    for k in (1, 0, 2.5, "5"):
        with pytest.raises(ValueError, match="k must be a whole number"):
            task.folds(k)
    with pytest.raises(ValueError, match="Only one of train and val has patients"):
        dataclasses.replace(task, val=dataclasses.replace(task.val, patients=None)).folds()
    with pytest.raises(ValueError, match="differ in image size or classes"):
        dataclasses.replace(task, val=make_split("val", 12)).folds()


class Unlucky:
    """A splitter whose first fold holds no image of class 1."""

    def __init__(self, k, **options):
        pass

    def split(self, x, labels, groups):
        held = np.flatnonzero(labels == 0)[:3]
        return [(np.setdiff1d(np.arange(len(labels)), held), held)]


def test_a_fold_without_a_class_is_refused(monkeypatch):
    monkeypatch.setattr("sklearn.model_selection.StratifiedGroupKFold", Unlucky)
    with pytest.raises(ValueError, match="a class is missing.*Ask for fewer folds"):
        fold_task().folds(2)


# ---- near-copies ---------------------------------------------------------------------------------


def test_find_twins():
    rng = np.random.default_rng(0)
    others = rng.integers(0, 200, (30, 8, 8))
    images = np.stack(
        [
            others[4] * 0.5 + 20,
            rng.integers(0, 200, (8, 8)),
            np.zeros((8, 8)),
            others[9] + rng.normal(0, 2, (8, 8)),
        ]
    )
    assert find_twins(images, others).tolist() == [4, -1, -1, 9]


@pytest.mark.parametrize("chunk", [1, 3, 512])
def test_near_copies_are_chains_of_similar_images(chunk):
    rng = np.random.default_rng(0)
    first, step = rng.normal(0, 1, (20, 64)), rng.normal(0, 1, 64)
    step -= (step @ first[4]) / (first[4] @ first[4]) * first[4]
    step *= 0.15 * np.linalg.norm(first[4]) / np.linalg.norm(step)
    images = np.concatenate([first, [first[4] + step, first[4] + 2 * step, first[7] * 3 + 50]])
    images[11] = 0
    groups = near_copies(images, threshold=0.98, chunk=chunk)
    ends = np.corrcoef(images[4], images[21])[0, 1]
    assert ends < 0.98, "the ends of the chain are no near-copies of each other"
    expected = np.arange(23)
    expected[20:] = [4, 4, 7]
    assert groups.tolist() == expected.tolist()


# ---- which images are labelled -------------------------------------------------------------------


def slow_draw(labels, groups, n, rng):
    """The same by definition: looks for each group's rows again and again. One class a group."""
    names, first = np.unique(groups, return_index=True)
    place = np.empty(len(names))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels[first] == label)
        place[rng.permutation(mine)] = (np.arange(len(mine)) + 0.5) / len(mine)
    order = names[np.argsort(place, kind="stable")]
    rows = np.concatenate([np.flatnonzero(groups == g) for g in order])[:n]
    sides = ([], [])
    for label in np.unique(labels):
        mine = [g for g in dict.fromkeys(groups[rows]) if labels[groups == g][0] == label]
        total, held = sum((groups[rows] == g).sum() for g in mine), 0
        for number, g in enumerate(mine):
            to_val = held < 0.2 * total and number < len(mine) - 1
            held += (groups[rows] == g).sum() * to_val
            sides[int(to_val)].append(rows[groups[rows] == g])
    return [np.sort(np.concatenate(side)) for side in sides]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(2, 3), share=st.floats(0.3, 1))
def test_the_fast_draw_is_the_slow_one(seed, n_classes, share):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, 80)
    groups = np.repeat(np.arange(80), sizes)
    labels = np.repeat(
        np.r_[rng.permutation(60) % n_classes, rng.integers(0, n_classes, 20)], sizes
    )
    n = max(15, int(share * len(labels)))
    fast = draw_labelled(labels, groups, n, np.random.default_rng(seed), "a test")
    slow = slow_draw(labels, groups, n, np.random.default_rng(seed))
    assert all(np.array_equal(a, b) for a, b in zip(fast, slow))


def test_near_copies_with_different_labels_stay_on_one_side():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    groups = np.arange(200) // 2  # half of the pairs hold both classes
    same_label_only = groups * 2 + labels
    straddles = 0
    for seed in range(5):
        for n in (40, 120, 200):
            sides = draw_labelled(labels, groups, n, np.random.default_rng(seed), "a test")
            assert not set(groups[sides[0]]) & set(groups[sides[1]])
            assert sum(map(len, sides)) == n == len(set(np.concatenate(sides)))
            assert all(set(labels[side]) == {0, 1} for side in sides)
            old = draw_labelled(labels, same_label_only, n, np.random.default_rng(seed), "a test")
            straddles += len(set(groups[old[0]]) & set(groups[old[1]]))
    assert straddles, "grouping by copy and label is the mistake that this test is for"


def test_drawing_is_linear():
    labels = np.arange(200_000) % 9
    train, val = draw_labelled(
        labels, np.arange(200_000), 200_000, np.random.default_rng(0), "a test"
    )
    assert len(train) + len(val) == 200_000  # minutes, if each group were looked for again
