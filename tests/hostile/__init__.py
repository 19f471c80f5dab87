"""Hostile files and tables: kinds that make them, and a judge that says what a reader did wrong.

A kind plants one hostile thing into a valid folder (`plant(root, rng)`), and its twin plants a
valid one of the same sort. `complaint` reads the folder and returns what was wrong, or None.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from medtl_utils import load_task
from medtl_utils.data import DataError
from medtl_utils.datasets.folder import read_folder

VARIANTS = 22  # of each kind
SECONDS = 30  # for one folder, on a busy machine
REMEDY = (
    "save copy export expected correct write delete add rename put name rename mend leave give "
    "move keep take not pip no link mask several hidden".split()
)


@dataclass(frozen=True)
class Kind:
    """plant(root, rng): returns the name that the answer must hold, and plants it.

    how: "file" (one file is refused, the others are read) or "folder" (all of it is refused).
    call: what reads the folder, for things that are no folder of images.
    """

    name: str
    plant: Callable[[Path, np.random.Generator], str]
    twin: Callable[[Path, np.random.Generator], str]
    how: str = "file"
    call: Callable[[Path], object] | None = None


def noise(rng: np.random.Generator, channels: int = 0, side: int = 24) -> np.ndarray:
    return rng.integers(0, 256, (side, side, channels) if channels else (side, side), np.uint8)


def encoded(pixels: np.ndarray, kind: str, **how) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **how)
    return stream.getvalue()


def chunk(kind: bytes, text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + kind + text + zlib.crc32(kind + text).to_bytes(4, "big")


def png(
    width: int, height: int, rows: bytes, *extra: bytes, bits: int = 8, colour: int = 0
) -> bytes:
    """A PNG with any header and any further chunks, whatever its pixels are."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, colour, 0, 0, 0])
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra) + body


def valid_folder(root: Path) -> Path:
    """Eight images a class."""
    for number, label in enumerate(("benign", "malignant")):
        (root / label).mkdir(parents=True)
        for i in range(8):
            pixels = noise(np.random.default_rng([number, i]))
            (root / label / f"{label} ({i}).png").write_bytes(encoded(pixels, "PNG"))
    return root


def valid_table(root: Path, change=lambda lines: lines, encoding: str = "utf-8") -> None:
    """An index.csv for `valid_folder`, a patient an image."""
    lines = ["path,label,patient"]
    for label in ("benign", "malignant"):
        lines += [f"{label}/{label} ({i}).png,{label},{label[0]}{i}" for i in range(8)]
    text = "\n".join(change(lines)) + "\n"
    (root / "index.csv").write_bytes(text.encode(encoding))


def snapshot(*roots: Path) -> dict[str, str]:
    """Name -> kind, size, time of change and hash of everything below some folders."""
    seen = {}
    for root in roots:
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                path = Path(folder) / name
                stat = path.lstat()
                small = path.is_file() and not path.is_symlink() and stat.st_size < 1_000_000
                digest = hashlib.sha1(path.read_bytes()).hexdigest() if small else ""
                seen[str(path)] = f"{stat.st_mode} {stat.st_size} {stat.st_mtime_ns} {digest}"
    return seen


def answer(kind: Kind, root: Path, name: str) -> str | None:
    """The words of the refusal, or None where all was taken."""
    try:
        if kind.call is not None:
            kind.call(root)
            return None
        if kind.how == "folder":
            load_task(f"folder:{root}", 16)
            return None
        content = read_folder(root, 16)
    except DataError as error:
        return str(error)
    reason = dict(content.report).get(name, "not in the report")
    assert sum(why == "taken" for file, why in content.report if file != name) == 16
    return None if reason.startswith("taken") else f"{name}: {reason}"


def complaint(kind: Kind, number: int, folder: Path) -> str | None:
    """What is wrong with the answer to variant `number` of a kind, or None."""
    rng = np.random.default_rng([zlib.crc32(kind.name.encode()), number])
    root = valid_folder(folder / "mine")
    name = kind.plant(root, rng)
    before, start = snapshot(folder), time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ResourceWarning)  # NumPy leaves a broken archive open
            words = answer(kind, root, name)
    except Exception as error:  # a crash, or a word of a library
        return f"{type(error).__name__} instead of a refusal: {error}"
    if snapshot(folder) != before:
        return "something was written, changed or deleted"
    if time.perf_counter() - start > SECONDS:
        return f"{time.perf_counter() - start:.0f} seconds"
    if words is None:
        return "it was taken"
    if name not in words:
        return f"the answer does not name {name!r}: {words}"
    told = words.lower()
    return None if any(word in told for word in REMEDY) else f"no remedy: {words}"


def refused_twin(kind: Kind, number: int, folder: Path) -> str | None:
    """Why the valid twin was refused, or None."""
    rng = np.random.default_rng([zlib.crc32(kind.name.encode()), number])
    root = valid_folder(folder / "mine")
    name = kind.twin(root, rng)
    return answer(kind, root, name)
