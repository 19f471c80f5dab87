"""The single-label 2D sets of MedMNIST v2; those that do not ship are downloaded and hashed.

Yang et al., "MedMNIST v2", Scientific Data 10 (2023) 41. The archives hold 28×28 pixels, those of
MedMNIST+ 64, 128 or 224 ("breastmnist_64"). The medmnist package downloads.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvf

from ..data import DataError, Split, Task
from ..grouping import TWIN_CORRELATION, draw_labelled, find_twins, near_copies
from ..paths import data_folder, download_folder
from . import busi

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
NATIVE = 28  # pixels, where the name does not say another number
ORIGIN = {
    "breastmnist": "Al-Dhabyani et al., Data in Brief 28 (2020) 104863",
    "retinamnist": "DeepDRiD (Liu et al., Patterns 3, 2022, 100512)",
}
FAULTS = {
    "retinamnist": " The archive has several photographs of each patient (2,000 of 500), and the "
    "validation set is a tenth of its training photographs: nothing is said of patients there, so "
    "training and validation may share eyes, and results may be too good. The grades are ordered."
}
PARTS = ("train", "val", "test")
COMPARABLE = 5000  # comparing more images with each other takes too long at every start


def load(name: str, size: int, n_train: int | None, seed: int, root: Path | None) -> Task:
    """One MedMNIST set. n_train None: the official training and validation sets.

    Otherwise training and validation are drawn from the official training set, near-copies on one
    side. The file NAME.npz lies in `root`, or in the data folder or that of downloads.
    """
    file = _find(name, root)
    arrays = _read(name, file)
    labels = {part: arrays[f"{part}_labels"].ravel().astype(np.int64) for part in PARTS}
    sources = ("train", "val") if n_train is None else ("train",)
    copies = _near_copies(name, [arrays[f"{part}_images"] for part in sources])
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
    twins, about_twins = _test_twins(name, arrays, labels)
    ids, about_ids = _ids(name, file, labels)
    base = _published(name)["base"]

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


def _published(name: str) -> dict:
    """What the medmnist package tells of a file: its INFO, with the MD5 and url of this size."""
    from medmnist import INFO

    base, _, side = name.partition("_")
    info, suffix = INFO[base], f"_{side}" if side else ""
    of_size = {what: info[f"{what}{suffix}"] for what in ("MD5", "url")}
    return {**info, **of_size, "base": base, "side": int(side or NATIVE)}


def _classes(name: str) -> tuple[str, ...]:
    names = _published(name)["label"]
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
    info = _published(name)
    about = ""
    if info["base"] == "breastmnist" and _md5(file) != info["MD5"]:
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


def _md5(file: Path) -> str | None:
    return hashlib.md5(file.read_bytes()).hexdigest() if file.is_file() else None


def _near_copies(name: str, images: list[np.ndarray]) -> np.ndarray | None:
    """Groups of near-copies among the images that training and validation are taken from."""
    n = sum(map(len, images))
    known = _published(name)["base"] in WITH_NEAR_COPIES and n <= COMPARABLE
    return near_copies(_compared(*images)) if known else None


def _compared(*images: np.ndarray) -> np.ndarray:
    """Images as they are compared: at 28 pixels, for which the threshold was chosen."""
    together = _resized(np.concatenate(images), images[0].shape[1])
    if together.shape[-1] == NATIVE:
        return together.numpy()
    return torch.nn.functional.interpolate(together.float(), size=NATIVE, mode="area").numpy()


def _about_groups(train: Split, val: Split) -> str:
    """The card's words on near-copies among the labelled images."""
    n = len(train) + len(val)
    if train.near_copies is None:
        why = f" ({n} images are too many)" if n > COMPARABLE else ""
        return f" Near-copies were not looked for{why}: folds are by image."
    both = len(set(train.near_copies) & set(val.near_copies))
    lie = f"lie in training and validation both ({both} groups)" if both else "are on one side"
    return f" Near-copies among the labelled images {lie}; task.folds keeps them together."


def _test_twins(name: str, arrays: dict, labels: dict) -> tuple[np.ndarray | None, str]:
    """Which test images have a near-copy in training or validation, and the card's words on it."""
    base = _published(name)["base"]
    if base not in WITH_NEAR_COPIES:
        return None, ""
    seen = _compared(arrays["train_images"], arrays["val_images"])
    seen_labels = np.concatenate([labels["train"], labels["val"]])
    found = find_twins(_compared(arrays["test_images"]), seen)
    twins = found >= 0
    other = int((seen_labels[found] != labels["test"])[twins].sum())
    free_positive = int((labels["test"] == POSITIVE[base])[~twins].sum())
    return twins, (
        f" Of the {len(found)} official test images, {twins.sum()} correlate above "
        f"{TWIN_CORRELATION} with a training or validation image ({other} of them with the other "
        "label): split.twins marks them. Report the official test set, so that it can be compared, "
        f"and the {(~twins).sum()} twin-free images ({free_positive} "
        f"{_classes(name)[POSITIVE[base]]}), which is what to believe."
    )


def _card(name: str, size: int, labelled: str, faults: str) -> str:
    info, classes = _published(name), _classes(name)
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


def _find(name: str, root: Path | None) -> Path:
    """The file NAME.npz, downloaded where it is missing."""
    folders = [data_folder(), download_folder()] if root is None else [root]
    for folder in folders:
        if (folder / f"{name}.npz").exists():
            return folder / f"{name}.npz"
    _download(name, folders[-1])
    return folders[-1] / f"{name}.npz"


def _download(name: str, folder: Path) -> None:
    """Fetch NAME.npz by the medmnist package; the file appears only if its MD5 is as published."""
    import medmnist

    info, file = _published(name), folder / f"{name}.npz"
    package_set = getattr(medmnist, info["python_class"])
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {name}.npz through the medmnist package ...", flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        fresh, failure = Path(scratch) / f"{name}.npz", None
        try:
            package_set(split="train", root=scratch, download=True, size=info["side"])
        except Exception as error:  # the package turns all into RuntimeError; the context has it
            failure = error.__context__ or error
        found = _md5(fresh)
        if found is not None and found != info["MD5"]:
            raise DataError(
                f"The download of {file.name} has the MD5 {found}, expected {info['MD5']}: it was "
                "cut off or changed on the way. Nothing was stored. Try again, or put the original "
                f"file from {info['url']} at {file}."
            )
        if found is None or failure is not None:
            raise DataError(
                f"{file} is missing and could not be downloaded ({failure}). With a network, call "
                f"load_task({name!r}) again; without one, put the file from {info['url']} (MD5 "
                f"{info['MD5']}) there."
            ) from None
        if not file.exists():
            os.replace(fresh, file)


def _read(name: str, file: Path) -> dict[str, np.ndarray]:
    """The six arrays of a MedMNIST file, checked against the published counts."""
    info = _published(name)
    remedy = (
        f"Move the file away and call load_task({name!r}) with a network, or put the original from "
        f"{info['url']} there."
    )
    broken = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zipfile.zlib.error)
    try:
        with np.load(file, allow_pickle=False) as z:
            arrays = {f"{p}_{w}": z[f"{p}_{w}"] for p in PARTS for w in ("images", "labels")}
    except broken as error:
        raise DataError(
            f"{file} cannot be read ({type(error).__name__}: {error}): it is cut off or no "
            f"MedMNIST file. {remedy}"
        ) from error
    for part in PARTS:
        fault = _fault(part, arrays[f"{part}_images"], arrays[f"{part}_labels"], info)
        if fault:
            raise DataError(f"{file}: {fault}. {remedy}")
    return arrays


def _fault(part: str, images: np.ndarray, labels: np.ndarray, info: dict) -> str | None:
    """What is wrong with one part of a file, or None."""
    n, last = info["n_samples"][part], len(info["label"]) - 1
    shape = (n, info["side"], info["side"]) + (3,) * (info["n_channels"] == 3)
    if not np.issubdtype(images.dtype, np.number) or not np.isfinite(images).all():
        return f"{part}_images holds values that are not finite numbers (NaN or infinite)"
    if images.shape != shape or images.dtype != np.uint8:
        return f"{part}_images is {images.dtype} {images.shape}, expected uint8 {shape}"
    if labels.shape != (n, 1) or not np.issubdtype(labels.dtype, np.integer):
        found = f"{labels.dtype} {labels.shape}"
        return f"{part}_labels is {found}, expected integers of shape {(n, 1)}"
    if not 0 <= labels.min() <= labels.max() <= last:
        return f"{part}_labels must lie in 0..{last}; found {labels.min()}..{labels.max()}"
    if len(np.unique(labels)) < 2:
        return f"{part}_labels holds one class only, and a classifier needs two"
    return None
