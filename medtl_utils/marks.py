"""Can the class be told from what is no anatomy: sharp bright spots, colours, the frame?

Letters, callipers and arrows that were burnt into the images of one class teach a network to read
them. Each test takes one cheap feature, compares the classes, and permutes the labels of whole
groups (patients, or near-copies): its p holds whatever the distribution. A small p says that the
classes differ there, not why: look at the picture.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats

SHARP, BRIGHT = 50, 150  # grey values: above the surroundings, and at least
COLOUR = 40  # grey values between the strongest and the weakest colour of a pixel
AROUND = 7  # pixels: the side of the surroundings
PERMUTATIONS = 999
RIDGE = 1.0


class MarkTest(NamedTuple):
    """One test: what was compared, its statistic, the p of the permutation, in words what it says.

    p: adjusted for the number of tests (Bonferroni).
    """

    what: str
    value: float
    p: float
    words: str


def mark_map(images: torch.Tensor) -> torch.Tensor:
    """Bool (N, H, W): pixels that are bright and sharper than their surroundings."""
    grey = images.float().amax(1, keepdim=True)
    around = F.avg_pool2d(grey, AROUND, 1, AROUND // 2, count_include_pad=False)
    return ((grey - around > SHARP) & (grey >= BRIGHT))[:, 0]


def by_group(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Means of the rows of each group, (groups, ...), in the order of the sorted groups."""
    _, unit, counts = np.unique(groups, return_inverse=True, return_counts=True)
    total = np.zeros((len(counts), *values.shape[1:]))
    np.add.at(total, unit, values)
    return total / counts.reshape(-1, *[1] * (values.ndim - 1))


def mark_tests(
    images: torch.Tensor, labels: np.ndarray, groups: np.ndarray, seed: int = 0
) -> tuple[list[MarkTest], np.ndarray]:
    """The tests, and float (classes, H, W): how often each class has a mark there.

    images: uint8 (N, C, H, W). labels: int (N,), at least two classes. groups: (N,), equal for
    what belongs together; the label of a group is its most frequent one.
    """
    marks = torch.cat([mark_map(part) for part in images.split(256)]).numpy()
    one_hot = by_group(np.eye(labels.max() + 1)[labels], groups)
    truth = one_hot.argmax(1)
    rng = np.random.default_rng(seed)
    orders = [np.arange(len(truth)), *(rng.permutation(len(truth)) for _ in range(PERMUTATIONS))]
    drawn = truth[np.array(orders)]  # (1 + permutations, groups); the first is the truth
    near = F.max_pool2d(torch.from_numpy(marks[:, None]).float(), 5, 2, 2)[:, 0].numpy()
    amount = by_group(marks.mean((1, 2))[:, None], groups)[:, 0]
    features = {
        "the place of sharp bright spots": _place(
            by_group(near, groups).reshape(len(truth), -1), drawn
        ),
        "the number of sharp bright spots": _ranks(amount, drawn),
        "the frame of the picture": _frame(by_group(_frames(images), groups), drawn),
    }
    if images.shape[1] == 3:
        spread = images.amax(1).int() - images.amin(1).int()
        coloured = (spread > COLOUR).float().mean((1, 2)).numpy()
        features["coloured pixels"] = _ranks(by_group(coloured[:, None], groups)[:, 0], drawn)
    tests = []
    for what, values in features.items():
        p = float(np.mean(values >= values[0] - 1e-9))
        adjusted = min(1.0, p * len(features))
        verdict = "the classes differ: look" if adjusted < 0.05 else "no difference was found"
        words = f"{what}: {values[0]:.2f} (p = {adjusted:.3f} after {PERMUTATIONS} permutations); "
        tests.append(MarkTest(what, float(values[0]), adjusted, words + verdict))
    present = sorted(set(labels.tolist()))
    rates = [marks[labels == c].mean(0) for c in present]
    return tests, np.array(rates)


def _indicators(drawn: np.ndarray) -> list[np.ndarray]:
    """For each class, 1 where a group has it: float32 (permutations, groups)."""
    present = np.unique(drawn[0])
    return [
        (drawn == c).astype(np.float32) for c in (present[1:] if len(present) == 2 else present)
    ]


def _place(near: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """For each permutation the largest standardised difference of rates over all places."""
    near = near.astype(np.float32)
    mean = near.mean(0)
    spread = np.sqrt(near.var(0) + 0.25 / len(near))  # + : a place with one mark proves nothing
    best = np.zeros(len(drawn))
    for mine in _indicators(drawn):
        n = mine.sum(1, keepdims=True)
        error = np.sqrt(1 / n - 1 / len(near))
        best = np.maximum(best, (np.abs(mine @ near / n - mean) / error / spread).max(1))
    return best


def _ranks(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """For each permutation the AUC, away from 0.5 in either direction, of one class or another."""
    ranks = stats.rankdata(values)
    best = np.full(len(drawn), 0.5)
    for mine in _indicators(drawn):
        n = mine.sum(1)
        auc = (mine @ ranks - n * (n + 1) / 2) / np.maximum(n * (len(ranks) - n), 1)
        best = np.maximum(best, np.maximum(auc, 1 - auc))
    return best


def _frames(images: torch.Tensor) -> np.ndarray:
    """Float (N, 32): means of the outermost pixels, in eight pieces a side."""
    grey = images.float().mean(1)
    depth = max(1, grey.shape[-1] // 32)
    bands = [grey[:, :depth], grey[:, -depth:], grey[:, :, :depth].mT, grey[:, :, -depth:].mT]
    return torch.cat(
        [F.adaptive_avg_pool2d(b[:, None], (1, 8)).flatten(1) for b in bands], 1
    ).numpy()


def _frame(features: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """For each permutation the AUC of ridge regression on the frame, each group left out once.

    The predictions without a group follow from the hat matrix H: (H y - h y) / (1 - h).
    """
    x = (features - features.mean(0)) / np.maximum(features.std(0), 1.0)
    x = np.column_stack([np.ones(len(x)), x])
    penalty = RIDGE * np.diag([0.0] + [1.0] * (x.shape[1] - 1))
    hat = x @ np.linalg.solve(x.T @ x + penalty, x.T)
    own = np.diag(hat)
    best = np.full(len(drawn), 0.5)
    for mine in _indicators(drawn):
        left_out = (mine @ hat - own * mine) / np.maximum(1 - own, 1e-6)
        n = mine.sum(1)
        ranks = stats.rankdata(left_out, axis=1)
        auc = ((mine * ranks).sum(1) - n * (n + 1) / 2) / np.maximum(n * (len(x) - n), 1)
        best = np.maximum(best, auc)
    return best
