"""The card of a task from a folder: what was read, how, what was left out, what cannot be said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

POSITIVE_WORDS = frozenset(
    "abnormal cancer cancerous carcinoma covid covid-19 disease diseased malignancy malignant "
    "melanoma pathological pneumonia positive sick tumor tumour 恶性".split()
)
TAKEN, TAKEN_AS_MASK, TAKEN_AS_TABLE = "taken", "taken as a mask", "taken as the table"
NAMED = 3  # files that a summary names for each reason
LARGE = 0.1  # a group of near-copies with a larger share of the images is worth a warning


def positive_class(classes: tuple[str, ...]) -> int | None:
    """The index of disease where there are two classes and one has the name of disease."""
    named = [i for i, name in enumerate(classes) if name.casefold().strip() in POSITIVE_WORDS]
    return named[0] if len(classes) == 2 and len(named) == 1 else None


def summary(report: Iterable[tuple[str, str]]) -> str:
    """Counts by reason, with the names of the first three files of each but the taken ones."""
    files_of: dict[str, list[str]] = {}
    for name, reason in report:
        files_of.setdefault(reason, []).append(name if name.isprintable() else repr(name))
    told = []
    for reason, names in sorted(files_of.items(), key=lambda item: item[0] != TAKEN):
        more = ", ..." if len(names) > NAMED else ""
        examples = "" if reason == TAKEN else f" ({', '.join(names[:NAMED])}{more})"
        told.append(f"{len(names)} {reason}{examples}")
    return "; ".join(told) + "."


def card(
    folder: Path,
    size: int,
    seed: int,
    content,
    copies: np.ndarray | None,
    n: dict[str, int],
    decision: str = "index.csv",
) -> str:
    """The card's text.

    `content`: FolderContent. `copies`: groups of near-copies, or None. `n`: number of images in
    train, val and test. `decision`: who told the patients.
    """
    how = dict(content.report).values()
    source = "the table index.csv" if TAKEN_AS_TABLE in how else "a folder a class"
    return (
        f"folder {folder.resolve().name}: {len(content.images)} images, from {source}. "
        f"{_about_classes(content)}\n{_about_pixels(content, size)}\n"
        f"{n['train'] + n['val']} labelled images: {n['train']} to train, {n['val']} to validate; "
        f"{n['test']} to test (20 % of the {_unit(content, copies)}, seed {seed}).\n"
        "Source and licence: your own folder; whether you may use and share it was not checked. "
        f"Known faults: {_about_patients(content, copies, decision)}\n"
        f"Files: {summary(content.report)} read_folder(path).report names all of them."
    )


def _about_classes(content) -> str:
    counts = np.bincount(content.labels.numpy(), minlength=len(content.classes))
    each = enumerate(zip(content.classes, counts))
    numbered = ", ".join(f"{i} = {name} ({count})" for i, (name, count) in each)
    positive = positive_class(content.classes)
    if positive is not None:
        taken = f"positive: {content.classes[positive]}, by its name"
    elif len(content.classes) == 2:
        taken = 'positive: none (name the class of disease "positive" to have one)'
    else:
        taken = f"positive: none, as there are {len(content.classes)} classes"
    return f"Classes: {numbered}; {taken}."


def _about_pixels(content, size: int) -> str:
    native = content.native
    low, high = native[native.prod(1).argmin()], native[native.prod(1).argmax()]
    range_ = f"{low[0]}×{low[1]}"
    range_ += "" if (native == low).all() else f" to {high[0]}×{high[1]}"
    enlarged = int((native.min(1) < size).sum())
    about_small = f" {enlarged} image(s) are smaller and were enlarged." if enlarged else ""
    n_coloured = int(content.coloured.sum())
    colours = "grey" if n_coloured == 0 else f"RGB ({n_coloured} in colour)"
    if 0 < n_coloured < len(native):
        counts = np.bincount(content.labels[content.coloured], minlength=len(content.classes))
        each = ", ".join(f"{c} {name}" for c, name in zip(counts, content.classes))
        colours = f"RGB: {n_coloured} in colour ({each}; marks may tell the class), the others grey"
    masks = "none" if content.masks is None else "one an image (union of its masks)"
    return (
        f"Native size {range_}, {colours}; the largest square in the centre, shown at {size}×{size}"
        " (bicubic, antialiased): the aspect ratio is kept, what lies beyond the square is lost."
        f"{about_small}{_about_notes(content)} Masks: {masks}. Normalisation: none here, 0 to 255; "
        "each model applies its own mean and standard deviation."
    )


def _about_notes(content) -> str:
    told = [f"{n} image(s) {note}" for note, n in content.notes.items()]
    described = [
        f"{name} of {sum(str(value) not in ('', 'nan') for value in values)}"
        for name, values in content.descriptors.items()
    ]
    known = f" Descriptors: {', '.join(described)} image(s)." if described else ""
    return (f" {'; '.join(told)}." if told else "") + known


def _unit(content, copies: np.ndarray | None) -> str:
    if content.patients is not None:
        return "patients"
    return "images" if copies is None else "groups of near-copies"


def _two_labels(content, groups: np.ndarray) -> int:
    """How many groups have images of more than one class."""
    pairs = set(zip(groups.tolist(), content.labels.tolist()))
    return sum(times > 1 for times in Counter(group for group, _ in pairs).values())


def _about_patients(content, copies: np.ndarray | None, decision: str) -> str:
    """What stays together, and what cannot be claimed."""
    if content.patients is not None:
        n, two = len(set(content.patients)), _two_labels(content, content.patients)
        told = f" {two} with images of more than one class." if two else ""
        return f"{n} patients by {decision}, which was believed; each is in one part only.{told}"
    claim = "no patient identifiers, so no patient-level claim can be made. "
    if copies is None:
        return (
            f"{claim}Near-copies were not looked for ({len(content.images)} images are too many)."
        )
    _, sizes = np.unique(copies, return_counts=True)
    found = int((sizes > 1).sum())
    told = f"{claim}{found or 'No'} group(s) of near-copies found"
    told += ", which stay together" if found else ""
    if two := _two_labels(content, copies):
        told += f"; {two} with more than one label"
    if sizes.max() > max(10, LARGE * sizes.sum()):
        told += f"; the largest has {sizes.max()} images, which may only look alike"
    return f"{told}. Other views of one patient stay undetected."
