"""`read_folder`: what lies in a folder, as images and labels, with a report on every file."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..data import DataError
from .folder_card import TAKEN, TAKEN_AS_MASK, TAKEN_AS_TABLE, summary
from .folder_table import SAME_LINE, Decision, Entry, by_folder, by_table, decided
from .image_files import (
    Picture,
    Refused,
    depth,
    image_of_mask,
    list_files,
    read_image,
    read_mask,
    without_ending,
)

LEFT_MASK = "mask, not used: not every image has one that can be read"
LAYOUT = (
    "Expected: a folder a class (PATH/benign/a.png, PATH/malignant/b.png) with PNG, JPEG, TIFF, "
    "BMP or DICOM files, or a table PATH/index.csv with the columns path,label,patient."
)


class FolderContent(NamedTuple):
    """What `read_folder` found; images in the order of their names.

    images: torch uint8 (N, C, size, size). labels: torch int64 (N,). classes: their names, sorted.
    patients: NumPy str (N,) or None. masks: torch bool (N, size, size) or None. ids: NumPy str
    (N,), name and hash of each file. native: NumPy int (N, 2), width and height. coloured: NumPy
    bool (N,). report: (file, "taken" or the reason why not) of every file, in the order of names.
    descriptors: "site" NumPy str (N,) and "age" float (N,), where the table has them. notes: what
    the card should tell -> number of images. flow: rows of a flow diagram, for `plots.plot_flow`:
    (what, how many, reason -> how many were left out there).
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
    descriptors: dict[str, np.ndarray]
    notes: dict[str, int]
    flow: list[tuple[str, int, dict[str, int]]]


class Pixels:
    """Images at their target size, one after another; the originals are let go.

    Memory: one byte a pixel and colour of the target size, and two more for files of 16 bits.
    """

    def __init__(self, n: int, size: int):
        self.images = np.zeros((n, 1, size, size), np.uint8)
        self.deep: dict[int, np.ndarray] = {}
        self.read: list[Picture] = []  # without their pixels

    def add(self, picture: Picture) -> None:
        """Keep one image."""
        pixels, row = picture.pixels, len(self.read)
        if pixels.ndim == 3 and self.images.shape[1] == 1:
            self.images = np.repeat(self.images, 3, 1)
        if pixels.dtype == np.uint16:
            self.deep[row] = pixels
        else:
            self.images[row] = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels
        coloured = np.empty((0,) * pixels.ndim, np.uint8)  # its ndim tells colour
        self.read.append(picture._replace(pixels=coloured))

    def done(self) -> tuple[torch.Tensor, dict[str, int]]:
        """(images uint8 (N, C, size, size), notes -> number of images).

        All files of 16 bits share one scale, so that what was brighter stays brighter.
        """
        notes = Counter(picture.note for picture in self.read if picture.note)
        if self.deep:
            bits = depth(max(self.read[row].largest for row in self.deep))
            top = 2**bits - 1
            notes[f"of 16 bits, shown from 0 to {top} (one scale for all of them)"] = len(self.deep)
            for row in list(self.deep):
                values = self.deep.pop(row).clip(0, top) * np.float64(255 / top)
                self.images[row] = values.round().astype(np.uint8)
        return torch.from_numpy(self.images[: len(self.read)]), dict(notes)


def read_folder(path: str | Path, size: int = 64, patients: Decision = None) -> FolderContent:
    """Read all images of a folder, and tell of every file whether it was taken and, if not, why.

    Images: the largest square in the centre, bicubic (antialiased) to `size`; grey where all of
    them are grey, else RGB. Masks: the union of those that the table names, else of NAME_mask.png,
    NAME_mask_1.png and so on, where every image has one. `patients`: "one image each", "unknown"
    (no claim about patients can be made then), or a function that makes the patient of a file's
    name; a table without the column patient needs one of them. Nothing is written; originals are
    not kept in memory. Raises DataError, naming folder, file or line.
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
    entries = decided(entries, patients, root / names[0] if names else None)
    kept, pixels, refused = _read_images(entries, size)
    reasons |= dict.fromkeys((entry.name for entry in kept), TAKEN) | refused
    if len(refused) > len(entries) / 2:
        raise DataError(
            f"{root}: {len(refused)} of {len(entries)} images cannot be taken. "
            f"{summary(refused.items())} Save these files as 8-bit PNG and try again."
        )
    masks, about_masks = _read_masks(kept, files, pixels.read, size)
    reasons |= about_masks
    report = sorted(reasons.items())
    return _content(kept, pixels, masks, report, _flow(report, entries, kept))


def _read_images(entries: list[Entry], size: int) -> tuple[list[Entry], Pixels, dict[str, str]]:
    """(entries that were read, their pixels, name -> reason why it was refused)."""
    kept, pixels, refused = [], Pixels(len(entries), size), {}
    for entry in tqdm(entries, "images", leave=False, disable=not sys.stderr.isatty()):
        try:
            pixels.add(read_image(entry.path, size, entry.frame))
            kept.append(entry)
        except Refused as reason:
            refused[entry.name] = str(reason)
    return kept, pixels, refused


def _read_masks(
    kept: list[Entry], files: dict[str, Path], read: list[Picture], size: int
) -> tuple[np.ndarray | None, dict[str, str]]:
    """(union of the masks of each image, or None; name of mask -> what became of it)."""
    masks_of: dict[str | None, list[str]] = {}
    for name in files:
        masks_of.setdefault(image_of_mask(name), []).append(name)
    by_name = [masks_of.get(without_ending(entry.name), []) for entry in kept]
    mine = [names if e.masks is None else e.masks for e, names in zip(kept, by_name)]
    all_masks = [name for names in mine for name in names]
    if not all(mine):
        return None, dict.fromkeys(all_masks, LEFT_MASK)
    union, refused = np.zeros((len(kept), size, size), bool), {}
    for row, names in enumerate(mine):
        for name in names:
            try:
                union[row] |= read_mask(files[name], size, read[row].native)
            except Refused as reason:
                refused[name] = str(reason)
    if refused:
        return None, dict.fromkeys(all_masks, LEFT_MASK) | refused
    return union, dict.fromkeys(all_masks, TAKEN_AS_MASK)


def _flow(report: list[tuple[str, str]], entries: list[Entry], kept: list[Entry]) -> list:
    """Files, then image files, then what was read; each number is the one before less those out."""
    mine = {entry.name for entry in entries}
    files = [(n, why) for n, why in report if not n.endswith("/") and why != SAME_LINE]
    other = Counter(why for name, why in files if name not in mine)
    refused = Counter(why for name, why in files if name in mine and why != TAKEN)
    rows = [("files found", len(files), dict(other))]
    rows.append(("image files", len(mine), dict(refused)))
    rows.append(("files read", len(mine) - refused.total(), {}))
    if len(kept) != len(mine) - refused.total():
        rows.append(("images, several a file", len(kept), {}))
    patients = {entry.patient for entry in kept}
    return rows if None in patients else [*rows, ("patients", len(patients), {})]


def _content(
    kept: list[Entry], pixels: Pixels, masks: np.ndarray | None, report: list, flow: list
) -> FolderContent:
    """Arrays and tensors from what was read of each image."""
    classes = _sorted_classes(entry.label for entry in kept)
    index = {name: number for number, name in enumerate(classes)}
    images, notes = pixels.done()
    known = kept[0].patient is not None
    marks = [f" frame {entry.frame}" if entry.frame else "" for entry in kept]
    described = {}
    for what, kind in (("site", str), ("age", float)):
        if getattr(kept[0], what) is not None:
            texts = [getattr(entry, what) for entry in kept]
            described[what] = np.array(
                [t or "nan" for t in texts] if kind is float else texts, kind
            )
    return FolderContent(
        images,
        torch.tensor([index[entry.label] for entry in kept]),
        classes,
        np.array([entry.patient for entry in kept]) if known else None,
        None if masks is None else torch.from_numpy(masks),
        np.array([f"folder/{e.name}{m}#{p.digest}" for e, m, p in zip(kept, marks, pixels.read)]),
        np.array([picture.native for picture in pixels.read]),
        np.array([picture.pixels.ndim == 3 for picture in pixels.read]),
        report,
        described,
        notes,
        flow,
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
