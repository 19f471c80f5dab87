"""The images of the evidence, who is tested in each fold, and who is labelled in each draw."""

from __future__ import annotations

import functools

import numpy as np
import torch

from medtl_utils import load_task
from medtl_utils.data import Split
from medtl_utils.datasets import busi
from medtl_utils.grouping import draw_labelled, fold_rows, near_copies

FOLDS = range(5)


@functools.cache
def whole(data: str, size: int) -> Split:
    """All images of `data`, 1 = disease, with their groups of near-copies.

    "busi": 780 breast-ultrasound images. "breastmnist": the same at 28 pixels, in the same order,
    enlarged. "retinamnist": the training and validation images, grade 2 or more against less.
    """
    if data == "retinamnist":
        return _retina(size)
    if data == "breastmnist":
        return _coarse(size)
    fold = busi.read_table()["fold"]
    parts = [task._test for task in busi.all_folds("evidence: cross-validation", size)]
    rows = np.argsort(np.concatenate([np.flatnonzero(fold == k) for k in FOLDS]))
    images, labels = (torch.cat([getattr(p, k) for p in parts])[rows] for k in ("images", "labels"))
    group = np.concatenate([part.near_copies for part in parts])[rows]
    return Split("busi", images, labels, parts[0].classes, 1, near_copies=group)


def _coarse(size: int) -> Split:
    """BreastMNIST's 780 images in the order of busi's table, labels and groups as there."""
    task = load_task("breastmnist", size=size)
    test = task.open_test("evidence: cross-validation", reopen=True)
    part = busi.read_table()["breastmnist"]
    fine, images = whole("busi", size), torch.empty(len(part), 1, size, size, dtype=torch.uint8)
    for name, split in (("train", task.train), ("val", task.val), ("test", test)):
        images[part == name] = split.images
    return Split("breastmnist", images, fine.labels, fine.classes, 1, near_copies=fine.groups)


def _retina(size: int) -> Split:
    task = load_task("retinamnist", size=size)
    images = torch.cat([task.train.images, task.val.images])
    grade = torch.cat([task.train.labels, task.val.labels])
    groups = near_copies(images.numpy())
    names = ("grade 0 or 1", "grade 2 or more")
    return Split("retinamnist", images, (grade > 1).long(), names, 1, near_copies=groups)


def test_rows(data: str, repetition: int, fold: int) -> np.ndarray:
    """Rows of the images that a fold tests; for busi the table's folds, then shuffled anew."""
    if data == "retinamnist":
        split = whole(data, 64)
        strata, names = split.labels.numpy(), split.classes
    else:
        table = busi.read_table()
        if repetition == 0:
            return np.flatnonzero(table["fold"] == fold)
        strata, names = np.unique(table["class"], return_inverse=True)[1], busi.FINDINGS
    groups = whole(data, 64).groups
    return fold_rows(strata, groups, names, len(FOLDS), seed=repetition)[fold][1]


def labelled_rows(data: str, repetition: int, fold: int, n: int | None, draw: int) -> np.ndarray:
    """Rows of n images that no test image has a near-copy among; None: all of them."""
    split = whole(data, 64)
    free = np.setdiff1d(np.arange(len(split)), test_rows(data, repetition, fold))
    if n is None:
        return free
    rng = np.random.default_rng([14, repetition, fold, draw])
    parts = draw_labelled(split.labels.numpy()[free], split.groups[free], n, rng, data)
    return free[np.sort(np.concatenate(parts))]
