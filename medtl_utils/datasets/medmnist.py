"""The single-label 2D sets of MedMNIST v2; those that do not ship are downloaded and hashed.

Yang et al., "MedMNIST v2", Scientific Data 10 (2023) 41. The archives hold 28×28 pixels, those of
MedMNIST+ 64, 128 or 224 ("breastmnist_64"). The medmnist package downloads.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvf

from ..data import Split, Task
from ..grouping import TWIN_CORRELATION, draw_labelled, find_twins, near_copies
from . import busi
from .medmnist_files import NATIVE, PARTS, find, is_published, published, read

NAMES = (  # ChestMNIST has several labels an image
    "pathmnist",
    "dermamnist",
    "octmnist",
    "pneumoniamnist",
    "retinamnist",
    "breastmnist",
    "bloodmnist",
    "tissuemnist",
    "organamnist",
    "organcmnist",
    "organsmnist",
    "breastmnist_64",
    "breastmnist_128",
    "breastmnist_224",
)
POSITIVE = {"breastmnist": 0, "pneumoniamnist": 1}  # index of disease in the two-class sets
WITH_NEAR_COPIES = ("breastmnist",)  # where we looked, and found copies of the same picture
ORIGIN = {
    "breastmnist": "Al-Dhabyani et al., Data in Brief 28 (2020) 104863",
    "retinamnist": "DeepDRiD (Liu et al., Patterns 3, 2022, 100512)",
}
FAULTS = {
    "retinamnist": " The archive has several photographs of each patient (2,000 of 500), and the "
    "validation set is a tenth of its training photographs: nothing is said of patients there, so "
    "training and validation may share eyes, and results may be too good. The grades are ordered."
}
COMPARABLE = 5000  # comparing more images with each other takes too long at every start


def load(name: str, size: int, n_train: int | None, seed: int, root: Path | None) -> Task:
    """One MedMNIST set. n_train None: the official training and validation sets.

    Otherwise training and validation are drawn from the official training set, near-copies on one
    side. The file NAME.npz lies in `root`, or in the data folder or that of downloads.
    """
    file = find(name, root)
    arrays = read(name, file)
    labels = {part: arrays[f"{part}_labels"].ravel().astype(np.int64) for part in PARTS}
    sources = ("train", "val") if n_train is None else ("train",)
    small = _compared(name, file, arrays)
    copies = _near_copies([small[part] for part in sources]) if small else None
    if n_train is None:
        border = len(labels["train"])
        rows = [("train", np.arange(border)), ("val", np.arange(len(labels["val"])))]
        groups = (None, None) if copies is None else (copies[:border], copies[border:])
        origin = "the official sets"
    else:
        together = np.arange(len(labels["train"])) if copies is None else copies
        rng = np.random.default_rng([11, seed])
        drawn = draw_labelled(labels["train"], together, n_train, rng, name)
        rows = [("train", r) for r in drawn]
        groups = (None, None) if copies is None else [copies[r] for r in drawn]
        origin = f"drawn from the official training set, seed {seed}"
    twins, about_twins = _test_twins(name, small, labels) if small else (None, "")
    ids, about_ids = _ids(name, file, labels)
    base = published(name)["base"]

    def split(split_name: str, part: str, chosen: np.ndarray, **more) -> Split:
        images = _resized(arrays[f"{part}_images"][chosen], size)
        own = torch.from_numpy(labels[part][chosen])
        names = ids[part][chosen]
        return Split(split_name, images, own, _classes(name), POSITIVE.get(base), ids=names, **more)

    train = split("train", *rows[0], near_copies=groups[0])
    val = split("val", *rows[1], near_copies=groups[1])
    test = split("test", "test", np.arange(len(labels["test"])), twins=twins)
    labelled = (
        f"{len(train) + len(val)} labelled images: {len(train)} to train, {len(val)} to validate "
        f"({origin}); test: the official one."
    )
    faults = about_twins + _about_groups(train, val) + about_ids + FAULTS.get(base, "")
    return Task(name, train, val, _card(name, size, labelled, faults), test)


def _classes(name: str) -> tuple[str, ...]:
    names = published(name)["label"]
    return tuple(names[str(i)] for i in range(len(names)))


def _resized(images: np.ndarray, size: int) -> torch.Tensor:
    """uint8 (N, s, s) or (N, s, s, 3) to (N, C, size, size), bilinear."""
    tensor = torch.from_numpy(images)
    tensor = tensor[:, None] if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)
    side = tensor.shape[-1]
    if size != side:
        tensor = tvf.resize(tensor, [size, size], antialias=size < side)
    return tensor.contiguous()


def _ids(name: str, file: Path, labels: dict) -> tuple[dict[str, np.ndarray], str]:
    """The images' names, part -> (N,), and the card's words on them.

    BreastMNIST's are those of busi, by its table: the same images at any size, under either name,
    are known as the same. Only the published file is believed to hold them in that order.
    """
    info = published(name)
    about = ""
    if info["base"] == "breastmnist" and not is_published(name, file):
        about = " The file is not the published one: its MD5 differs."
    elif info["base"] == "breastmnist":
        table = busi.read_table()
        names, group = busi.names(table), table["group"]
        of = {part: table["breastmnist"] == part for part in PARTS}
        shared = np.isin(group[of["test"]], group[~of["test"]]).sum()
        about = (
            " These are the images of the task busi, under the same names. Its table of "
            f"near-copies, from larger images, knows more: {shared} test images have one in "
            "training or validation."
        )
        return {part: names[rows] for part, rows in of.items()}, about
    rows = {part: range(len(labels[part])) for part in PARTS}
    return {part: np.array([f"{name}/{part}/{r}" for r in rows[part]]) for part in PARTS}, about


def _compared(name: str, file: Path, arrays: dict) -> dict[str, np.ndarray] | None:
    """The images by which near-copies are found, part -> (N, 1, 28, 28); None where nobody looked.

    The published larger files hold the same images as the one that ships, which stands for them:
    so the same images are near-copies, and are drawn, at any size.
    """
    info = published(name)
    if info["base"] not in WITH_NEAR_COPIES:
        return None
    if info["side"] != NATIVE and is_published(name, file):
        arrays = read(info["base"], find(info["base"], None))
    return {part: _resized(arrays[f"{part}_images"], NATIVE).numpy() for part in PARTS}


def _near_copies(images: list[np.ndarray]) -> np.ndarray | None:
    """Groups of near-copies among the images that training and validation are taken from."""
    return near_copies(np.concatenate(images)) if sum(map(len, images)) <= COMPARABLE else None


def _about_groups(train: Split, val: Split) -> str:
    """The card's words on near-copies among the labelled images."""
    n = len(train) + len(val)
    if train.near_copies is None:
        why = f" ({n} images are too many)" if n > COMPARABLE else ""
        return f" Near-copies were not looked for{why}: folds are by image."
    both = len(set(train.near_copies) & set(val.near_copies))
    lie = f"lie in training and validation both ({both} groups)" if both else "are on one side"
    return f" Near-copies among the labelled images {lie}; task.folds keeps them together."


def _test_twins(name: str, small: dict, labels: dict) -> tuple[np.ndarray, str]:
    """Which test images have a near-copy in training or validation, and the card's words on it."""
    positive = POSITIVE[published(name)["base"]]
    seen = np.concatenate([small["train"], small["val"]])
    seen_labels = np.concatenate([labels["train"], labels["val"]])
    found = find_twins(small["test"], seen)
    twins = found >= 0
    other = int((seen_labels[found] != labels["test"])[twins].sum())
    free_positive = int((labels["test"] == positive)[~twins].sum())
    return twins, (
        f" Of the {len(found)} official test images, {twins.sum()} correlate above "
        f"{TWIN_CORRELATION} with a training or validation image ({other} of them with the other "
        "label): split.twins marks them. Report the official test set, so that it can be compared, "
        f"and the {(~twins).sum()} twin-free images ({free_positive} "
        f"{_classes(name)[positive]}), which is what to believe."
    )


def _card(name: str, size: int, labelled: str, faults: str) -> str:
    info, classes = published(name), _classes(name)
    base, side = info["base"], info["side"]
    what = info["description"].split(".")[0].strip()
    numbered = ", ".join(f"{i} = {c}" for i, c in enumerate(classes))
    positive = f"; positive: {classes[POSITIVE[base]]}" if base in POSITIVE else ""
    origin = f"; images: {ORIGIN[base]}" if base in ORIGIN else ""
    how = "as stored" if size == side else "bilinear" + ", antialiased" * (size < side)
    return (
        f"{name}: {what}. Classes: {numbered}{positive}.\n"
        f"Native size {side}×{side}, shown at {size}×{size} ({how}). {labelled}\n"
        f"Source: MedMNIST v2 (Yang et al., Scientific Data 10, 2023, 41){origin}. Licence: "
        f"{info['license']}. Known faults: no patient identifiers, so no patient-level claim can "
        f"be made.{faults}"
    )
