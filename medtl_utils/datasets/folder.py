"""`load_task("folder:PATH")`: your own images, a folder a class or a table index.csv, as a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data import DataError, Split, Task
from ..duplicates import COMPARABLE, copy_groups
from ..grouping import draw_labelled, fold_rows
from .folder_card import card, positive_class
from .folder_read import LAYOUT, FolderContent, read_folder
from .folder_table import Decision

PREFIX = "folder:"
TEST_FOLDS = 5  # one of them is the test set: 20 %
NEEDED = TEST_FOLDS  # patients or groups a class: one to test, four to train and validate


def load(
    name: str,
    size: int,
    n_train: int | None,
    seed: int,
    root: Path | None,
    patients: Decision = None,
) -> Task:
    """The task of "folder:PATH"; a relative PATH lies in `root`, or in the working folder.

    20 % of the patients, or of the groups of near-copies (`duplicates`), are the test set; it
    depends on `seed` and not on n_train. The rest is training and validation, about 4 : 1.
    `patients`: as in `read_folder`. Raises DataError.
    """
    folder = Path(root or ".") / Path(name.removeprefix(PREFIX).strip()).expanduser()
    if not name.removeprefix(PREFIX).strip():
        raise ValueError(f'Name the folder: load_task("folder:PATH"). {LAYOUT}')
    content = read_folder(folder, size, patients)
    copies = _near_copies(content)
    groups = _groups(content, copies)
    _check_counts(folder, content, groups)
    labels = content.labels.numpy()
    rest, test = _without_test(folder, labels, groups, content.classes, seed)
    rng = np.random.default_rng([13, seed])
    n = len(rest) if n_train is None else n_train
    drawn = draw_labelled(labels[rest], groups[rest], n, rng, f"{name} without its test set")
    rows = {"train": rest[drawn[0]], "val": rest[drawn[1]], "test": test}
    train, val, locked = (_split(part, r, content, copies) for part, r in rows.items())
    counts = {part: len(r) for part, r in rows.items()}
    text = card(folder, size, seed, content, copies, counts, _who_told(patients))
    return Task(name, train, val, text, locked)


def _who_told(patients: Decision) -> str:
    if patients is None:
        return "index.csv"
    return "a rule on the file's name" if callable(patients) else f'your word, "{patients}"'


def _check_counts(folder: Path, content: FolderContent, groups: np.ndarray) -> None:
    """Raise DataError where a class has too few patients or groups for three parts."""
    labels = content.labels.numpy()
    unit = "groups of near-copies" if content.patients is None else "patients"
    counts = [len(np.unique(groups[labels == c])) for c in range(len(content.classes))]
    few = [f"{name!r} has {n}" for name, n in zip(content.classes, counts) if n < NEEDED]
    if few:
        more = f" and {len(few) - 5} more classes" if len(few) > 5 else ""
        raise DataError(
            f"{folder}: every class needs {NEEDED} images of different {unit}, to train, validate "
            f"and test; {', '.join(few[:5])}{more}. Add images, or leave the class out."
        )


def _near_copies(content: FolderContent) -> np.ndarray | None:
    """Groups of near-copies where patients are unknown; None where nobody looked.

    The rule is that of `before_training`.
    """
    if content.patients is not None or len(content.images) > COMPARABLE:
        return None
    return copy_groups(content.images)


def _groups(content: FolderContent, copies: np.ndarray | None) -> np.ndarray:
    """What must stay together: patients, else near-copies, else each image its own."""
    if content.patients is not None:
        return content.patients
    return np.arange(len(content.images)) if copies is None else copies


def _without_test(
    folder: Path, labels: np.ndarray, groups: np.ndarray, classes: tuple[str, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(rows to draw training and validation from, rows of the test set), each sorted."""
    try:
        rest, test = fold_rows(labels, groups, classes, TEST_FOLDS, seed)[0]
    except ValueError as error:
        raise DataError(
            f"{folder} cannot be split into training, validation and test: one part would lack a "
            "class. Add images of more patients, or split larger groups."
        ) from error
    left = [len(np.unique(groups[rest][labels[rest] == c])) for c in range(len(classes))]
    if min(left) < 2 or len(rest) < 5 * len(classes):
        raise DataError(
            f"{folder}: beside the test set, {len(rest)} images of {len(classes)} classes are too "
            "few to train and validate. Add images of more patients."
        )
    return rest, test


def _split(name: str, rows: np.ndarray, content: FolderContent, copies: np.ndarray | None) -> Split:
    """The rows of one part."""
    pick = lambda values: None if values is None else values[rows]
    return Split(
        name,
        content.images[rows],
        content.labels[rows],
        content.classes,
        positive_class(content.classes),
        patients=pick(content.patients),
        masks=pick(content.masks),
        near_copies=pick(copies),
        ids=content.ids[rows],
        descriptors={k: v[rows] for k, v in content.descriptors.items()} or None,
    )
