"""`before_training`: copies, doubtful patients, marks and numbers of a task, in one report."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
import torch

from .data import Split, Task, _joined
from .duplicates import COMPARABLE, Duplicate, find_duplicates
from .marks import MarkTest, mark_map, mark_tests
from .plots import draw_image, figure_html, plain
from .sample_size import auc_error, paired_power, paired_size, validation_size

SHOWN = 5  # pairs in the picture, and names in a line


@dataclass
class Findings:
    """What `before_training` found. `print` gives the text; a notebook shows the pictures, too.

    duplicates: pairs of rows, counted over training, validation and test images in this order.
    across: those of them in two parts of the task. two_names: those with two patients. two_labels:
    those with two classes, the test set aside. alike: pairs of names of patients that differ in
    their spelling alone. marks: the tests. sizes: what is measured -> patients that are needed.
    figures: HTML.
    """

    text: str = ""
    duplicates: list[Duplicate] = field(default_factory=list)
    across: list[Duplicate] = field(default_factory=list)
    two_names: list[Duplicate] = field(default_factory=list)
    two_labels: list[Duplicate] = field(default_factory=list)
    alike: list[tuple[str, str]] = field(default_factory=list)
    marks: list[MarkTest] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        words = f'<pre style="white-space:pre-wrap">{html.escape(self.text)}</pre>'
        return words + "".join(self.figures)


def before_training(
    task: Task, auc: float = 0.85, difference: float = 0.05, names: bool = True, seed: int = 0
) -> Findings:
    """What should be known of a task before a training: one report, with pictures.

    1. Copies: the same picture twice, also flipped, turned, cut, resized or brightened; in two
    parts of the task, under two patients, with two classes. 2. Names of patients that may be one.
    3. Marks: whether sharp bright spots, colours or the frame tell the class. 4. Numbers: patients
    that a validation needs at this `auc` and frequency of disease, and the power for a paired
    `difference` of two AUCs. Of the test set, images and patients are compared; its labels are not
    looked at. `names`: name files and patients; False: rows alone. `seed`: of the permutations.
    About 0.02 s an image on one core. Nothing is changed or written.
    """
    parts = [part for part in (task.train, task.val, task._test) if part is not None]
    found = Findings()
    lines = [f"Before training on {task.name!r}: " + "; ".join(map(str, parts)), ""]
    lines += _copies(found, parts, names) + _names(found, parts, names)
    lines += _marks(found, _joined(task.train, task.val), seed)
    lines += _numbers(found, parts, auc, difference)
    found.text = "\n".join(lines)
    return found


def _plain(name: object) -> str:
    return str(name) if str(name).isprintable() else repr(str(name))


# ---- copies --------------------------------------------------------------------------------------


def _copies(found: Findings, parts: list[Split], names: bool) -> list[str]:
    n = sum(map(len, parts))
    if n > COMPARABLE:
        return [f"1. Copies: not looked for ({n:,} images; {COMPARABLE:,} at most)."]
    images = torch.cat([part.images for part in parts])
    found.duplicates = find_duplicates(images)
    if not found.duplicates:
        return [f"1. Copies: none was found among {n:,} images. Other views are no copies."]
    where = np.repeat([part.name for part in parts], [len(part) for part in parts])
    rows = np.concatenate([np.arange(len(part)) for part in parts])
    seen = np.repeat([k < 2 for k in range(len(parts))], [len(part) for part in parts])
    labels = np.where(seen, torch.cat([part.labels for part in parts]).numpy(), -1)
    known = all(part.patients is not None for part in parts)
    people = np.concatenate([part.patients for part in parts]) if known else rows * 0
    ids = [i for p in parts for i in (p.ids if p.ids is not None else range(len(p)))]
    two = lambda values: [d for d in found.duplicates if values[d.first] != values[d.second]]
    found.across, found.two_names = two(where), two(people)
    found.two_labels = [d for d in two(labels) if seen[d.first] and seen[d.second]]
    patients = f", {len(found.two_names)} under two names of patients" if known else ""
    lines = [
        f"1. Copies: {len(found.duplicates)} pair(s) of images show the same picture; "
        f"{len(found.across)} in two parts of the task{patients}, {len(found.two_labels)} with two "
        "classes."
    ]
    first = found.across + found.two_names + found.two_labels + found.duplicates
    shown = [d for d in dict.fromkeys(first) if seen[d.first] or seen[d.second]][:SHOWN]
    for pair in shown:
        both = [f"{where[r]} row {rows[r]}" for r in pair[:2]]
        if names:
            both = [f"{text} ({_plain(ids[r])})" for text, r in zip(both, pair[:2])]
        lines.append(f"   {both[0]} and {both[1]}: {pair.how}, correlation {pair.correlation:.3f}")
    lines.append("   Remedy: keep one of each pair, or give both the same patient in index.csv.")
    if shown:
        titles = [
            f"{where[r]} row {rows[r]}"
            + (f"\n{plain(parts[0].classes[labels[r]])}" if seen[r] else "")
            for r in range(n)
        ]
        found.figures.append(_picture_of_pairs(shown, images, titles))
    return lines


def _picture_of_pairs(pairs: list[Duplicate], images: torch.Tensor, titles: list[str]) -> str:
    size = (max(4.5, 1.9 * len(pairs)), 4.9)
    fig, axes = plt.subplots(2, len(pairs), figsize=size, squeeze=False)
    words = []
    for pair, column in zip(pairs, axes.T):
        for row, axis in zip(pair[:2], column):
            draw_image(axis, images[row])
            axis.set_title(titles[row], fontsize=9, fontweight="normal")
        both = [titles[row].replace("\n", ", ") for row in pair[:2]]
        words.append(f"{both[0]} and {both[1]}: {pair.how}")
    fig.suptitle("The same picture twice", fontweight="bold")
    return figure_html(fig, f"Pairs of images, one above the other: {'; '.join(words)}.")


# ---- patients ------------------------------------------------------------------------------------


def spelling(name: str) -> str:
    """A name without capital letters, blanks, signs and leading zeros."""
    letters = re.sub(r"[\W_]+", "", str(name).casefold())
    return re.sub(r"(?<!\d)0+(?=\d)", "", letters)


def _names(found: Findings, parts: list[Split], names: bool) -> list[str]:
    if any(part.patients is None for part in parts):
        return ["2. Patients: unknown, so two names of one patient cannot be looked for."]
    first: dict[str, str] = {}
    for name in sorted({str(name) for part in parts for name in part.patients}):
        key = spelling(name) or name
        if key in first:
            found.alike.append((first[key], name))
        else:
            first[key] = name
    if not found.alike:
        return [f"2. Patients: {len(first):,}; no two names differ in their spelling alone."]
    which = ""
    if names:
        pairs = [f"{_plain(a)!r} and {_plain(b)!r}" for a, b in found.alike[:SHOWN]]
        which = f": {', '.join(pairs)}{', ...' if len(found.alike) > SHOWN else ''}"
    return [
        f"2. Patients: {len(found.alike)} pair(s) of names differ in their spelling alone{which}.",
        "   Remedy: if they are one patient, write one name in index.csv.",
    ]


# ---- marks ---------------------------------------------------------------------------------------


def _marks(found: Findings, whole: Split, seed: int) -> list[str]:
    images, labels = whole.images, whole.labels
    if len(labels.unique()) < 2:
        return ["3. Marks: only one class, so nothing can tell it."]
    found.marks, rates = mark_tests(images, labels.numpy(), whole.groups, seed)
    lines = ["3. Marks: does something that is no anatomy tell the class? (AUC, or a standardised"]
    lines.append("   difference; p over permuted patients or groups, times the number of tests)")
    lines += [f"   {test.words}" for test in found.marks]
    if any(test.p < 0.05 for test in found.marks):
        lines.append("   A difference may be anatomy, a scanner or a mark: look at the picture. If")
        lines.append("   it is a mark, cut it away in all images of all classes.")
        found.figures.append(_picture_of_marks(images, labels, rates, whole.classes))
    return lines


def _picture_of_marks(images, labels, rates, classes) -> str:
    """Where sharp bright spots lie in each class, and the image of each class with most of them."""
    present = labels.unique().tolist()[:SHOWN]
    fig, axes = plt.subplots(2, len(present), figsize=(2.4 * len(present) + 1.2, 5), squeeze=False)
    top = max(0.02, float(rates.max()))
    for number, (label, column) in enumerate(zip(present, axes.T)):
        drawn = column[0].imshow(rates[number], cmap="gray_r", vmin=0, vmax=top)
        column[0].set_title(plain(classes[label]), fontsize=10, fontweight="normal")
        column[0].set(xticks=[], yticks=[])
        mine = torch.nonzero(labels == label)[:, 0]
        counts = torch.cat([mark_map(part).sum((1, 2)) for part in images[mine].split(256)])
        draw_image(column[1], images[mine[counts.argmax()]])
        column[1].set_title("with most of them", fontsize=10, fontweight="normal")
    fig.colorbar(drawn, ax=axes[0].tolist(), label="share of images", shrink=0.8)
    fig.suptitle("Where sharp bright spots lie", fontweight="bold")
    names = ", ".join(_plain(classes[label]) for label in present)
    return figure_html(
        fig,
        f"Above: share of images with a sharp bright spot at each place, by class ({names}); "
        "below: the image of each class with most of them.",
    )


# ---- numbers -------------------------------------------------------------------------------------


def _numbers(found: Findings, parts: list[Split], auc: float, difference: float) -> list[str]:
    train, last = parts[0], parts[-1]
    labels = torch.cat([part.labels for part in parts[:2]]).numpy()
    share = np.bincount(labels, minlength=len(train.classes)) / len(labels)
    disease = int(share.argmin()) if train.positive is None else train.positive
    prevalence = float(np.clip(share[disease], 0.001, 0.999))
    n = len(np.unique(last.groups))
    unit = "patients" if last.patients is not None else "images or groups of near-copies"
    found.sizes = validation_size(auc, prevalence)
    width = 2 * 1.96 * auc_error(auc, prevalence, max(n, 10))
    name, other = _plain(train.classes[disease]), min(auc + difference, 0.995)
    needed = paired_size(auc, other - auc, prevalence)
    power = paired_power(auc, other - auc, prevalence, max(n, 10))
    wanted = ", ".join(f"{what} {size:,}" for what, size in found.sizes.items())
    found.sizes = found.sizes | {"paired difference of AUCs": needed}
    return [
        f"4. Numbers, for {name} in {prevalence:.0%} of the images and an AUC of {auc:g}:",
        f"   the {last.name} set has {n:,} {unit}: expect an interval of the AUC about {width:.2f} "
        "wide.",
        f"   Patients for usual widths (AUC 0.1, slope 0.2, observed/expected 0.2, shares 0.1): "
        f"{wanted}.",
        f"   Two AUCs of {auc:g} and {other:g} (paired, correlation 0.5): power {power:.0%} with "
        f"these {n:,}; {needed:,} for 80 %.",
        "   These hold for a sample of the people who will be examined, not for a collection.",
    ]
