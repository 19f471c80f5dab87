"""The data files that ship: where each lies, and the SHA-256 that its content must have."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

from ..data import DataError
from ..paths import data_folder

SHA256 = {
    "breast_lesions_usg.csv": "60bc834f2f4d8c0f3ababd13fdd2d87b58d583c65821ea47a453149b06a9f150",
    "breastmnist.npz": "3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1",
    "busi_128.npz": "41ce509ba374e345541bbf9518ae859286ddbbb413bdfd0830c58d68d6805e71",
    "busi_images.csv": "f8884579598812aa4be1b048ab86993facdd0fe4a4c7f1a551ec779ec08dc9ec",
    "busi_masks_128.npz": "3b046ff3bc0e55fbfecd304b64307de4b7927cac5526ec6843c7f09c081a9354",
    "fsdd_logmel.npz": "3a9a6e9cde0f6de34933732c4a1b2445b180bd564939b53cd40998e35048342e",
    "fsdd_sounds.npz": "96b14e93bbba0ad329238540c2075321a5e184d12b71de61b9ee71ed9f86a18a",
    "retinamnist.npz": "254915f5f0a2074665c4676356824cf4ef4a3bcab233894b4bafcaf48962bd69",
}


def find(name: str, root: Path | None) -> Path:
    """Where a file lies, or should lie: in `root` if it is there, else in the data folder."""
    there = root is not None and (root / name).is_file()
    return root / name if there else data_folder() / name


def digest(name: str, content: bytes) -> str:
    """SHA-256 of a file's content; in a table, line ends of Windows count as those of Unix."""
    if name.endswith(".csv"):
        content = content.replace(b"\r\n", b"\n")
    return hashlib.sha256(content).hexdigest()


def read(name: str, root: Path | None = None) -> bytes:
    """The content of a file that ships. Raises DataError where it is missing or was changed."""
    path = find(name, root)
    remedy = (
        f"Take {name} from the course's repository again (git checkout -- data/{name}), or "
        "install the package again."
    )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}). {remedy}") from error
    if (found := digest(name, content)) != SHA256[name]:
        raise DataError(
            f"{path}: its SHA-256 is {found}, expected {SHA256[name]}: the file was changed or cut "
            f"off. {remedy}"
        )
    return content


def read_table(name: str, root: Path | None = None) -> list[dict[str, str]]:
    """The rows of a table that ships, each a dict: column -> text."""
    text = read(name, root).decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline="")))
