"""BreastMNIST's official training and validation images: the studies' real ones, no test set."""

import functools

import numpy as np
import torch

from medtl_utils import load_task
from medtl_utils.data import Task
from medtl_utils.grouping import near_copies


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
