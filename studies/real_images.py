"""The studies' real images: busi's folds 1 to 4. Its locked test set, fold 0, is never opened.

Also `official`: BreastMNIST's official training and validation images.
"""

import dataclasses
import functools

import numpy as np
import torch
from torch.nn import functional as F

from medtl_utils import load_task
from medtl_utils.data import Split, Task
from medtl_utils.datasets import busi
from medtl_utils.datasets.medmnist_files import PARTS, find, read
from medtl_utils.grouping import draw_labelled, near_copies


def groups_of(images: torch.Tensor) -> np.ndarray:
    """For each image (N, ...) the number of its group, int (N,): near-copies share one.

    Labels play no part: two copies of one image may bear different ones.
    """
    return np.unique(near_copies(images.numpy()), return_inverse=True)[1]


@functools.cache
def official(size: int = 64) -> tuple[Task, torch.Tensor, torch.Tensor, np.ndarray]:
    """The task; the images and labels of training and validation together; their groups."""
    task = load_task("breastmnist", size=size)
    images = torch.cat([task.train.images, task.val.images])
    labels = torch.cat([task.train.labels, task.val.labels])
    return task, images, labels, groups_of(images)


# ---- busi ----------------------------------------------------------------------------------------


@functools.cache
def pool() -> Split:
    """Folds 2 to 4, 468 images: labelled images are drawn from them."""
    return load_task("busi").train


@functools.cache
def scored() -> Split:
    """Fold 1, 156 images: models are scored on it. It shares no group with the others."""
    return dataclasses.replace(load_task("busi").val, name="fold 1")


def few_labelled(n: int, seed: int) -> Task:
    """n images of folds 2 to 4, about 4 : 1 to train and to validate; near-copies on one side."""
    whole = pool()
    rng = np.random.default_rng([15, seed])
    rows = draw_labelled(whole.labels.numpy(), whole.groups, n, rng, "busi, folds 2 to 4")
    train, val = (dataclasses.replace(whole[r], name=s) for r, s in zip(rows, ("train", "val")))
    return Task("busi, folds 2 to 4", train, val, f"{n} images of busi, folds 2 to 4, seed {seed}")


def by_group(split: Split) -> Split:
    """The same images for an interval over groups: near-copies in the place of patients."""
    if split.patients is not None:
        return split
    return dataclasses.replace(split, patients=np.array([f"group {g}" for g in split.groups]))


def enlarged(images: torch.Tensor, size: int = 64) -> torch.Tensor:
    """Images (N, 1, H, W) of any type at `size` pixels, bilinear, uint8."""
    large = F.interpolate(images.float(), size=(size, size), mode="bilinear")
    return large.round().to(torch.uint8)


@functools.cache
def coarse_pool() -> torch.Tensor:
    """The images of `pool`, in its order, from BreastMNIST's file: uint8 (468, 1, 28, 28)."""
    table, arrays = busi.read_table(), read("breastmnist", find("breastmnist", None))
    images = np.empty((len(table["fold"]), 1, 28, 28), np.uint8)
    for part in PARTS:
        images[table["breastmnist"] == part] = arrays[f"{part}_images"][:, None]
    return torch.from_numpy(images[table["fold"] > 1])
