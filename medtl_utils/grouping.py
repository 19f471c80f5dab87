"""Which images belong together, and how whole groups go to training, validation and folds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TWIN_CORRELATION = 0.98


def _standardised(images: np.ndarray) -> np.ndarray:
    """(N, pixels) float64 of mean 0 and length 1; all 0 where an image has no contrast."""
    x = np.asarray(images).reshape(len(images), -1).astype(np.float64)
    x = x - x.mean(1, keepdims=True)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)


def find_twins(
    images: np.ndarray, others: np.ndarray, threshold: float = TWIN_CORRELATION
) -> np.ndarray:
    """For each of `images` (N, ...), the row of its most similar one in `others` (M, ...), or -1.

    Similar: Pearson correlation of the pixels above `threshold`. Images without contrast have no
    twin. Memory N x M.
    """
    correlation = _standardised(images) @ _standardised(others).T
    best = correlation.argmax(1)
    return np.where(correlation[np.arange(len(images)), best] > threshold, best, -1)


def near_copies(
    images: np.ndarray, threshold: float = TWIN_CORRELATION, chunk: int = 512
) -> np.ndarray:
    """Groups of near-copies among `images` (N, ...): int (N,), the row of each group's first image.

    Two images are near-copies if their pixels correlate (Pearson) above `threshold`; copies of
    copies are in one group (connected components). Images without contrast stand alone. Compares
    `chunk` images with all at a time: memory grows with N, time with N².
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    x = _standardised(images)
    pairs = []
    for start in range(0, len(x), chunk):
        found = np.argwhere(x[start : start + chunk] @ x.T > threshold)
        pairs.append(found + [start, 0])
    a, b = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(len(x), len(x)))
    _, component = connected_components(graph, directed=False)
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return first[inverse]


def _drawing_order(labels: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All rows in a random order: whole groups, and every prefix with about the class proportions.

    A group of two classes is drawn one class after the other.
    """
    _, label = np.unique(labels, return_inverse=True)
    _, group = np.unique(groups, return_inverse=True)
    pairs = group * (label.max() + 1) + label
    _, first, unit = np.unique(pairs, return_index=True, return_inverse=True)
    by_row = np.argsort(first)  # units in the order of their first image
    place = np.empty(len(first))
    for one in range(label.max() + 1):
        mine = by_row[label[first[by_row]] == one]
        place[rng.permutation(mine)] = (np.arange(len(mine)) + 0.5) / len(mine)
    rank = np.empty(len(first), np.int64)
    rank[by_row[np.argsort(place[by_row], kind="stable")]] = np.arange(len(first))
    return np.argsort(rank[unit], kind="stable")


def draw_labelled(
    labels: np.ndarray, groups: np.ndarray, n: int, rng: np.random.Generator, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of n labelled images: those to train and those to validate, about 4 : 1, each sorted.

    `labels` int (N,), `groups` (N,) equal for what must stay on one side. Both sides have every
    class; a larger n contains a smaller one; the last group is cut to give exactly n images.
    Raises ValueError, naming `what`, where n does not allow that.
    """
    classes = np.unique(labels)
    if not 5 * len(classes) <= n <= len(labels):
        raise ValueError(
            f"n_train must lie between {5 * len(classes)} and {len(labels)} for {what}: it counts "
            f"the labelled images in all, training and validation together; got {n}."
        )
    rows = _drawing_order(labels, groups, rng)[:n]
    _, first, group = np.unique(groups[rows], return_index=True, return_inverse=True)
    size = np.bincount(group)
    by_turn = np.argsort(first)
    validates = np.zeros(len(first), bool)
    for label in classes:
        mine = by_turn[labels[rows[first[by_turn]]] == label]
        if len(mine) < 2:
            raise ValueError(
                f"{n} labelled images of {what}, training and validation together, hold "
                f"{len(mine)} group(s) of class {label}: each side needs one. Ask for a larger "
                "n_train or another seed."
            )
        total, held = size[mine].sum(), 0
        for g in mine[:-1]:
            validates[g] = held < 0.2 * total
            held += size[g] * validates[g]
    return np.sort(rows[~validates[group]]), np.sort(rows[validates[group]])


def fold_rows(
    labels: np.ndarray, groups: np.ndarray, classes: Sequence[str], k: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to train, rows to validate) of k folds, stratified by class, groups kept whole.

    Scikit-learn's StratifiedGroupKFold, shuffled with `seed`. Raises ValueError, naming the class,
    where k is impossible.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if not isinstance(k, int) or k < 2:
        raise ValueError(f"k must be a whole number of folds, 2 or more; got {k!r}.")
    _, groups = np.unique(groups, return_inverse=True)
    present = np.unique(labels)
    for label in present:
        n = len(np.unique(groups[labels == label]))
        if n < k:
            raise ValueError(
                f"{k} folds need {k} groups (patients, near-copies or single images) of every "
                f"class; class {classes[label]!r} has {n}. Ask for fewer folds."
            )
    splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
    rows = list(splitter.split(labels, labels, groups))
    if any(len(np.unique(labels[side])) < len(present) for sides in rows for side in sides):
        raise ValueError(
            f"In one of {k} folds a class is missing: too few groups hold it. Ask for fewer folds."
        )
    return rows
