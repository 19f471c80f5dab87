"""`load_task("folder:PATH")`: your own images, a folder a class or a table index.csv."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvf
from tqdm import tqdm

from ..data import DataError, Split, Task
from ..grouping import draw_labelled, fold_rows, near_copies
from .folder_card import TAKEN, TAKEN_AS_MASK, TAKEN_AS_TABLE, card, positive_class, summary
from .folder_table import Entry, by_folder, by_table
from .image_files import Refused, image_of_mask, list_files, read_image, read_mask, without_ending

PREFIX = "folder:"
TEST_FOLDS = 5  # one of them is the test set: 20 %
NEEDED = 6  # patients or groups a class: to train, to validate, and 20 % to test
COMPARABLE = 5000  # comparing more images with each other takes too long at every start
COMPARED_AT = 32  # pixels
LEFT_MASK = "mask, not used: not every image has one that can be read"
LAYOUT = (
    "Expected: a folder a class (PATH/benign/a.png, PATH/malignant/b.png) with PNG, JPEG or TIFF "
    "files, or a table PATH/index.csv with the columns path,label,patient."
)


class FolderContent(NamedTuple):
    """What `read_folder` found; images in the order of their names.

    images: torch uint8 (N, C, size, size). labels: torch int64 (N,). classes: their names, sorted.
    patients: NumPy str (N,) or None. masks: torch bool (N, size, size) or None. ids: NumPy str
    (N,), name and hash of each file. native: NumPy int (N, 2), width and height. coloured: NumPy
    bool (N,). report: (file, "taken" or the reason why not) of every file, in the order of names.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    patients: np.ndarray | None
    masks: torch.Tensor | None
    ids: np.ndarray
    native: np.ndarray
    coloured: np.ndarray
    report: list[tuple[str, str]]


def load(name: str, size: int, n_train: int | None, seed: int, root: Path | None) -> Task:
    """The task of "folder:PATH"; a relative PATH lies in `root`, or in the working folder.

    20 % of the patients, or of the groups of near-copies, are the test set; it depends on `seed`
    and not on n_train. The rest is training and validation, about 4 : 1. Raises DataError.
    """
    folder = Path(root or ".") / Path(name.removeprefix(PREFIX).strip()).expanduser()
    if not name.removeprefix(PREFIX).strip():
        raise ValueError(f'Name the folder: load_task("folder:PATH"). {LAYOUT}')
    content = read_folder(folder, size)
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
    return Task(name, train, val, card(folder, size, seed, content, copies, counts), locked)


def read_folder(path: str | Path, size: int = 64) -> FolderContent:
    """Read all images of a folder, and tell of every file whether it was taken and, if not, why.

    Images: the largest square in the centre, bicubic (antialiased) to `size`; grey where all of
    them are grey, else RGB. Masks: the union of NAME_mask.png, NAME_mask_1.png and so on, where
    every image has one. Nothing is written. Raises DataError, naming folder, file or line.
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {what}, and a folder is needed. {LAYOUT}")
    files, skipped = list_files(root)
    names = [name for name in {**files, **skipped} if name.lower() == "index.csv"]
    if names and names[0] not in files:
        raise DataError(f"{root / names[0]}: {skipped[names[0]]}. Put the table itself there.")
    if names:
        entries, reasons = by_table(names[0], files, skipped)
        reasons[names[0]] = TAKEN_AS_TABLE
    else:
        entries, reasons = by_folder(files, root)
    reasons |= skipped
    _check_classes(root, entries, reasons)
    read, refused = _read_images(entries, size)
    reasons |= refused | dict.fromkeys(read, TAKEN)
    if len(refused) > len(entries) / 2:
        raise DataError(
            f"{root}: {len(refused)} of {len(entries)} images cannot be taken. "
            f"{summary(refused.items())} Save these files as 8-bit PNG and try again."
        )
    kept = [entry for entry in entries if entry.name in read]
    masks, about_masks = _read_masks(kept, files, read, size)
    reasons |= about_masks
    return _content(kept, read, masks, sorted(reasons.items()))


def _read_images(entries: list[Entry], size: int) -> tuple[dict, dict[str, str]]:
    """(name -> what `read_image` returns, name -> reason why it was refused)."""
    read, refused = {}, {}
    for entry in tqdm(entries, "images", leave=False, disable=not sys.stderr.isatty()):
        try:
            read[entry.name] = read_image(entry.path, size)
        except Refused as reason:
            refused[entry.name] = str(reason)
    return read, refused


def _read_masks(
    kept: list[Entry], files: dict[str, Path], read: dict, size: int
) -> tuple[dict[str, np.ndarray] | None, dict[str, str]]:
    """(name of image -> union of its masks, or None; name of mask -> what became of it)."""
    masks_of: dict[str | None, list[str]] = {}
    for name in files:
        masks_of.setdefault(image_of_mask(name), []).append(name)
    mine = {entry.name: masks_of.get(without_ending(entry.name), []) for entry in kept}
    all_masks = [name for names in mine.values() for name in names]
    if not all(mine.values()):
        return None, dict.fromkeys(all_masks, LEFT_MASK)
    union, refused = {}, {}
    for image, names in mine.items():
        native = read[image][1]
        union[image] = np.zeros((size, size), bool)
        for name in names:
            try:
                union[image] |= read_mask(files[name], size, native)
            except Refused as reason:
                refused[name] = str(reason)
    if refused:
        return None, dict.fromkeys(all_masks, LEFT_MASK) | refused
    return union, dict.fromkeys(all_masks, TAKEN_AS_MASK)


def _content(kept: list[Entry], read: dict, masks: dict | None, report: list) -> FolderContent:
    """Arrays and tensors from what was read of each image."""
    classes = _sorted_classes(entry.label for entry in kept)
    pixels = [read[entry.name][0] for entry in kept]
    coloured = np.array([image.ndim == 3 for image in pixels])
    if coloured.any():
        as_rgb = [image if image.ndim == 3 else np.stack([image] * 3, -1) for image in pixels]
        images = torch.from_numpy(np.stack(as_rgb)).permute(0, 3, 1, 2).contiguous()
    else:
        images = torch.from_numpy(np.stack(pixels))[:, None]
    known = kept[0].patient is not None
    ids = [f"folder/{entry.name}#{read[entry.name][2]}" for entry in kept]
    return FolderContent(
        images,
        torch.tensor([classes.index(entry.label) for entry in kept]),
        classes,
        np.array([entry.patient for entry in kept]) if known else None,
        torch.from_numpy(np.stack([masks[entry.name] for entry in kept])) if masks else None,
        np.array(ids),
        np.array([read[entry.name][1] for entry in kept]),
        coloured,
        report,
    )


def _sorted_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Names in the order of the alphabet, numbers in the order of their values."""
    names = set(labels)
    by_value = all(name.isascii() and name.isdigit() for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if by_value else name))


def _check_classes(root: Path, entries: list[Entry], reasons: dict[str, str]) -> None:
    """Raise DataError before anything is decoded, where no classifier can come of it."""
    if not entries:
        found = f" Found: {summary(reasons.items())}" if reasons else " It is empty."
        raise DataError(f"{root} has no image that can be used.{found} {LAYOUT}")
    classes = _sorted_classes(entry.label for entry in entries)
    if len(classes) == 1:
        raise DataError(
            f"{root} has one class only, {classes[0]!r}, and a classifier needs two. Add a second "
            f"folder or label. {LAYOUT}"
        )
    odd = [name for name in classes if not name.isprintable()]
    if odd:
        raise DataError(f"{root}: the class {odd[0]!r} has characters without a shape. Rename it.")
    alike = Counter(name.casefold().strip() for name in classes)
    double = [name for name in classes if alike[name.casefold().strip()] > 1]
    if double:
        raise DataError(
            f"{root}: {double[0]!r} and {double[1]!r} differ only in capital letters or blanks. "
            "Give them one name if they are one class, and clearly different names if not."
        )


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
    """Groups of near-copies where patients are unknown; None where nobody looked."""
    if content.patients is not None or len(content.images) > COMPARABLE:
        return None
    side = min(COMPARED_AT, content.images.shape[-1])
    small = [
        tvf.resize(part, [side, side], antialias=True).float().mean(1)
        for part in content.images.split(256)
    ]
    return near_copies(torch.cat(small).numpy())


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
    )
