"""The task "busi": 780 real breast-ultrasound images with lesion masks, which ship.

Al-Dhabyani et al., "Dataset of breast ultrasound images", Data in Brief 28 (2020) 104863. The files
are made by `python -m studies.busi_archive`; data/busi_images.csv fixes each image's group of
near-copies and its fold: fold 0 tests.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .. import ledger
from ..data import DataError, Split, Task, check_disjoint
from ..grouping import draw_labelled
from . import shipped

FINDINGS = ("normal", "benign", "malignant")
CLASSES = ("normal or benign", "malignant")
FOLDS = 5
MARKS = ("calipers", "text", "other_marks", "axilla")
SIDE, LARGE = 128, 224  # pixels: of the files that ship, and of those that may lie beside them
ARRAYS = {"busi": "images", "busi_masks": "masks"}  # file's stem -> array in it
# SHA-256 of the arrays at 224 px; the bytes of a file that is made again depend on zlib's version
LARGE_SHA256 = {
    "busi": "1402217b97d6e4911a41f6ab41d90bde88fa543d51ecbe8bd03e3abdae317674",
    "busi_masks": "b1a59f9db3660d255f62992225a9421279f80faf321d9b1c2fbe84d7f8cc8f88",
}
TABLE = "busi_images.csv"


def load(name: str, size: int, n_train: int | None, seed: int, root: Path | None) -> Task:
    """Fold 0 tests. n_train None: fold 1 validates, folds 2 to 4 train.

    Otherwise n_train images of folds 1 to 4, groups of near-copies whole, are drawn to train and
    to validate.
    """
    whole, fold, shown = _whole(size, root)
    if n_train is None:
        rows = (np.flatnonzero(fold > 1), np.flatnonzero(fold == 1))
        origin = "folds 2 to 4 train, fold 1 validates"
    else:
        free = np.flatnonzero(fold > 0)
        labels, groups = whole.labels.numpy()[free], whole.near_copies[free]
        rng = np.random.default_rng([13, seed])
        rows = [free[r] for r in draw_labelled(labels, groups, n_train, rng, name)]
        origin = f"drawn from folds 1 to 4, seed {seed}"
    return _task(name, whole, (*rows, np.flatnonzero(fold == 0)), shown, f"{origin}, fold 0 tests")


def all_folds(reason: str, size: int = 64, root: str | Path | None = None) -> list[Task]:
    """Five tasks, for studies: fold k tests, fold k + 1 validates (4: 0), the others train.

    Every image is in one test set. `reason` goes into the ledger, under the 780 images together;
    where the ledger knows earlier looks at them, one line says so. Each test set opens by
    `task.open_test`, as always. Raises ValueError without a reason.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(
            "Say in one line why all folds are looked at: busi.all_folds('study of the learning "
            "rate')."
        )
    whole, fold, shown = _whole(size, None if root is None else Path(root))
    tasks = []
    for k in range(FOLDS):
        validates = (k + 1) % FOLDS
        sides = (np.isin(fold, (k, validates), invert=True), fold == validates, fold == k)
        origin = f"fold {k} tests, fold {validates} validates, the others train"
        name = f"busi, test fold {k}"
        tasks.append(_task(name, whole, [np.flatnonzero(s) for s in sides], shown, origin))
        check_disjoint(tasks[-1].train, tasks[-1].val, tasks[-1]._test)
    _write_down(whole, reason)
    return tasks


def _write_down(whole: Split, reason: str) -> None:
    """One line in the ledger for a look at all folds."""
    key = ledger.content_key(whole.ids, whole.labels.numpy(), whole.images.numpy())
    earlier = ledger.read(key)
    ledger.tell_once(key, earlier)
    number = len(earlier)
    entry = {"task": "busi, all folds", "reason": reason, "opening": number + 1, "before": number}
    try:
        ledger.append(key, entry)
    except OSError:
        print("The ledger's folder is read-only: this look at all folds was not written down.")


def _task(name: str, whole: Split, rows, shown: str, origin: str) -> Task:
    """The task of these rows: to train, to validate, to test."""
    names = ("train", "val", "test")
    train, val, test = (replace(whole[r], name=n) for n, r in zip(names, rows))
    cancers = int((test.labels == test.positive).sum())
    counts = (
        f"{len(train) + len(val)} labelled images: {len(train)} to train, {len(val)} to validate; "
        f"{len(test)} to test, {cancers} of them malignant ({origin})."
    )
    return Task(name, train, val, _card(whole, shown, counts), test)


# ---- files ---------------------------------------------------------------------------------------


def read_table(root: Path | None = None) -> dict[str, np.ndarray]:
    """The columns of busi_images.csv, (780,) each: str, int, or bool for the burnt-in marks.

    group, group_looser and group_stricter: near-copies at three thresholds. Raises DataError where
    rows are not in order, a class is not its file's folder, or a group lies in two folds.
    """
    rows, path = shipped.read_table(TABLE, root), shipped.find(TABLE, root)
    table = {}
    for column in rows[0]:
        values = np.array([row[column] for row in rows])
        if column in MARKS:
            values = values == "1"
        elif column in ("row", "width", "height", "fold") or column.startswith("group"):
            values = values.astype(np.int64)
        table[column] = values
    if fault := _table_fault(table):
        raise DataError(f"{path}: {fault}. Take it from the course's repository again.")
    return table


def _table_fault(table: dict[str, np.ndarray]) -> str | None:
    """What is wrong with the table, or None."""
    files, fold = table["file"], table["fold"]
    folders = np.array([name.split("/")[0] for name in files])
    if not np.array_equal(table["row"], np.arange(len(files))) or len(set(files)) < len(files):
        return "the rows are not in order, 0, 1, 2, ..., or a file occurs twice"
    if not np.array_equal(folders, table["class"]) or not set(folders) <= set(FINDINGS):
        row = int(np.argmax(folders != table["class"]))
        return f"row {row}, '{files[row]}': its folder and its class {table['class'][row]!r} differ"
    if set(fold.tolist()) != set(range(FOLDS)):
        return f"the folds are {sorted(set(fold.tolist()))}, expected 0 to {FOLDS - 1}"
    for column in ("group", "group_stricter"):
        for group in np.unique(table[column]):
            mine = table[column] == group
            if len(found := np.unique(fold[mine])) > 1:
                return (
                    f"{column} {group} ('{files[mine][0]}' among {mine.sum()} images) lies in the "
                    f"folds {', '.join(map(str, found))}: near-copies must share one fold"
                )
    return None


def _stored(stem: str, size: int, root: Path | None) -> np.ndarray | None:
    """The array of a file, at 224 px where that is needed and there; None for missing masks."""
    enough = size <= SIDE or not shipped.find(f"{stem}_{LARGE}.npz", root).is_file()
    name = f"{stem}_{SIDE if enough else LARGE}.npz"
    path = shipped.find(name, root)
    if stem == "busi_masks" and not path.is_file():
        return None
    content = shipped.read(name, root) if enough else path.read_bytes()
    fault = None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            array = file[ARRAYS[stem]]
        if not enough and shipped.digest(name, array.tobytes()) != LARGE_SHA256[stem]:
            fault = "other pixels than the archive's 780 images have"
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.zlib.error):
        fault = "it is cut off or no npz file of this kind"
    if fault:
        raise DataError(
            f"{path} cannot be used ({fault}). Make it again (python -m studies.busi_archive "
            "FOLDER), or move it away."
        )
    return array


def _resized(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, s, s) to (N, size, size), bilinear, antialiased where it becomes smaller.

    Pillow's arithmetic is in whole numbers: the same bytes on every machine.
    """
    if images.shape[-1] == size:
        return images
    bilinear = Image.Resampling.BILINEAR
    return np.stack([np.asarray(Image.fromarray(i).resize((size, size), bilinear)) for i in images])


def _masks(size: int, root: Path | None, table: dict[str, np.ndarray]) -> torch.Tensor | None:
    """bool (N, size, size), or None without the file. Checked: a lesion where the class says so."""
    packed = _stored("busi_masks", size, root)
    if packed is None:
        return None
    bits = np.unpackbits(packed, axis=1)
    side = round(bits.shape[1] ** 0.5)
    masks = bits.reshape(len(bits), side, side)
    outside = np.char.startswith(table["note"], "lesion outside")
    expected = (table["class"] != "normal") & ~outside
    if len(masks) != len(expected) or (masks.any((1, 2)) != expected).any():
        raise DataError(
            f"busi_masks_{side}.npz and {TABLE} do not match: a mask must be empty where the image "
            "is normal, and only there. Take both from the course's repository again."
        )
    return torch.from_numpy(_resized(masks * np.uint8(255), size) >= 128)


def _whole(size: int, root: Path | None) -> tuple[Split, np.ndarray, str]:
    """All images in the table's order, their folds (N,), and how the pixels were made."""
    table = read_table(root)
    images = _stored("busi", size, root)
    if images.shape != (len(table["file"]), *images.shape[1:]) or images.dtype != np.uint8:
        raise DataError(
            f"{shipped.find(TABLE, root)} has {len(table['file'])} rows, the images are "
            f"{images.dtype} {images.shape}: they do not match. Take both from the course's "
            "repository again."
        )
    described = {"finding": table["class"], **{mark: table[mark] for mark in MARKS}}
    described |= {"native_width": table["width"], "native_height": table["height"]}
    whole = Split(
        "all images",
        torch.from_numpy(_resized(images, size))[:, None].contiguous(),
        torch.from_numpy((table["class"] == "malignant").astype(np.int64)),
        CLASSES,
        positive=1,
        masks=_masks(size, root, table),
        descriptors=described,
        near_copies=table["group"],
        ids=names(table),
    )
    return whole, table["fold"], _shown(images.shape[-1], size)


def names(table: dict[str, np.ndarray]) -> np.ndarray:
    """(N,) busi/FILE for each row: the same images at 28 px, as BreastMNIST, have the same names.

    The rows with breastmnist == "train" are BreastMNIST's training images in its order, and so on.
    """
    return np.array([f"busi/{file}" for file in table["file"]])


# ---- the card ------------------------------------------------------------------------------------


def _shown(side: int, size: int) -> str:
    if size > side:
        how = f"ENLARGED from {side}×{side}, bilinear: no detail is added"
    else:
        how = "as stored" if size == side else f"from {side}×{side}, bilinear, antialiased"
    return f"shown at {size}×{size} ({how})"


def _card(whole: Split, shown: str, counts: str) -> str:
    of, finding = whole.descriptors, whole.descriptors["finding"]
    width, height = of["native_width"], of["native_height"]
    per_class = lambda mark: "/".join(str(of[mark][finding == f].sum()) for f in FINDINGS)
    marks = ", ".join(f"{mark.replace('_', ' ')} {per_class(mark)}" for mark in MARKS)
    n_each = ", ".join(f"{(finding == f).sum()} {f}" for f in FINDINGS)
    found: dict[int, set[str]] = {}
    for group, one in zip(whole.near_copies.tolist(), finding.tolist()):
        found.setdefault(group, set()).add(one)
    two = [kinds for kinds in found.values() if len(kinds) > 1]
    cancer = sum("malignant" in kinds for kinds in two)
    masks = "Lesion masks: those of the archive, united where a case has several."
    if whole.masks is None:
        masks = "Lesion masks: none, their file is not there; all else works without it."
    return (
        f"busi: real breast ultrasound, {len(whole)} images ({n_each}), malignant (positive) or "
        f"not. Native size {width.min()} to {width.max()} × {height.min()} to {height.max()}, "
        f"centre crop of the shorter side, bicubic; {shown}. {masks}\n{counts}\n"
        "Source: Al-Dhabyani et al., Data in Brief 28 (2020) 104863; order of BreastMNIST (Yang et "
        "al., Scientific Data 10, 2023, 41). Licence: images CC BY 4.0, since MedMNIST distributes "
        "the same pictures, up to 224 px, under it; masks and crop are from the archive, whose "
        "page names no licence (its article is CC BY 4.0). To have something withdrawn, open an "
        "issue in this course's repository. Consent and ethics: as the article states, not "
        "verified here. Do not try to identify anyone. Never for diagnosis.\n"
        "Known faults: no patient identifiers (about 600 women), so no patient-level claim can be "
        f"made. Near-copies form {len(found)} groups, which stay on one side of every split; "
        "other views of the same woman stay undetected, so that results are too good by an unknown "
        f"amount. {len(two)} groups have two findings, {cancer} of them malignant and not. "
        f"Burnt-in marks, normal/benign/malignant images: {marks}; they are "
        "commoner in images with a lesion, and a network can learn them. "
        "Duplicates, labels and axilla images: Pawłowska et al., Data in Brief 48 (2023) 109247. "
        "All images, those to test too, also served the course's evidence."
    )
