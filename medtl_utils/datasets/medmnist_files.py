"""The files of MedMNIST: where they lie, downloads by the medmnist package, and their checks."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from ..data import DataError
from ..paths import data_folder, download_folder

NATIVE = 28  # pixels, where the name does not say another number
PARTS = ("train", "val", "test")


def published(name: str) -> dict:
    """What the medmnist package tells of a file: its INFO, with the MD5 and url of this size."""
    from medmnist import INFO

    base, _, side = name.partition("_")
    info, suffix = INFO[base], f"_{side}" if side else ""
    of_size = {what: info[f"{what}{suffix}"] for what in ("MD5", "url")}
    return {**info, **of_size, "base": base, "side": int(side or NATIVE)}


def is_published(name: str, file: Path) -> bool:
    """Whether it is the file that the package's MD5 belongs to."""
    return _md5(file) == published(name)["MD5"]


def _md5(file: Path) -> str | None:
    return hashlib.md5(file.read_bytes()).hexdigest() if file.is_file() else None


def find(name: str, root: Path | None) -> Path:
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

    info, file = published(name), folder / f"{name}.npz"
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


def read(name: str, file: Path) -> dict[str, np.ndarray]:
    """The six arrays of a MedMNIST file, checked against the published counts."""
    info = published(name)
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
