"""The shipped files of the data set "busi", made from the archive's folder or from its 224 px form.

    python -m studies.busi_archive FOLDER        # the unpacked archive Dataset_BUSI_with_GT
    python -m studies.busi_archive --from-224 FILE
    python -m studies.busi_archive groups        # near-copies and folds, checked with the table

Image: grey, centre crop of the shorter side, bicubic to 224 px (as MedMNIST has them), bicubic to
128 px. Mask: each mask of a case with the same crop, nearest neighbour to 224 px, union, > 127;
a pixel of 128 px is lesion where at least half of its area is. data/busi_images.csv gives names,
order, native sizes, groups of near-copies, folds and burnt-in marks. Same input, same bytes (zlib
of one version): the zip entries have a fixed date. data/busi_pairs.csv lists pairs of one lesion or
view, seen by eye, that correlate too little to be joined without it.

Source: Al-Dhabyani et al., "Dataset of breast ultrasound images", Data in Brief 28 (2020) 104863.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import re
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from medtl_utils.paths import data_folder

CLASSES = ("normal", "benign", "malignant")
SPLITS = ("train", "val", "test")  # BreastMNIST's
FIRST_SIZE, SIZE = 224, 128  # px
MOST_PIXELS = 50_000_000  # a larger file is not decoded
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
MASK = re.compile(r"^(?P<case>.+)_mask(_\d+)?$")
GROUP_SIZE = 28  # px at which images are compared
# column -> (residual correlation above this joins, pairs joined by eye count, too)
GROUPINGS = {"group": (0.90, True), "group_looser": (0.80, True), "group_stricter": (0.95, False)}


class ArchiveError(ValueError):
    """A file of the archive, or a row of the table, is not what it must be."""


def read_table(path: Path | None = None) -> list[dict[str, str]]:
    """The rows of busi_images.csv, checked: numbered from 0, names unique and in their class."""
    path = path or data_folder() / "busi_images.csv"
    with open(path, newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    seen: set[str] = set()
    for number, entry in enumerate(table):
        name = entry["file"]
        if MASK.match(Path(name).stem):
            raise ArchiveError(f"{path}: row {number}, '{name}', is a mask. Name its image.")
        in_order = entry["row"] == str(number) and name not in seen
        if not in_order or name.split("/")[0] != entry["class"] or entry["class"] not in CLASSES:
            raise ArchiveError(
                f"{path}: row {number}, '{name}': expected row={number}, a name that occurs once "
                "and its folder as class. Take the table from the repository again."
            )
        seen.add(name)
    return table


def read_grey(path: Path) -> Image.Image:
    """A PNG file as a grey image (mode "L"). Its size is checked before it is decoded."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height <= MOST_PIXELS and image.mode in MODES:
                return image.convert("L")
            problem = f"{image.width} x {image.height} px, mode {image.mode}"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        problem = str(error)
    raise ArchiveError(
        f"{path}: expected a PNG file of at most {MOST_PIXELS:,} px of 8 bits ({problem}). "
        "Take the file from the archive again."
    )


def crop_and_resize(image: Image.Image, resample: Image.Resampling) -> np.ndarray:
    """Centre crop of the shorter side, then 224 px: uint8 (224, 224)."""
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((FIRST_SIZE, FIRST_SIZE), resample))


def find_masks(folder: Path, table: list[dict[str, str]]) -> dict[str, list[Path]]:
    """Masks by name of their image. Every PNG must be an image of the table or a mask of one."""
    if not any((folder / name).is_dir() for name in CLASSES):
        raise ArchiveError(
            f"{folder}: expected the folders {', '.join(CLASSES)}. Name the unpacked archive."
        )
    known = {entry["file"] for entry in table}
    masks: dict[str, list[Path]] = {}
    # macOS leaves files that begin with a dot beside the unpacked ones: [!.]
    for path in sorted(p for c in CLASSES for p in (folder / c).glob("[!.]*.png")):
        mask_of = MASK.match(path.stem)
        image = path.with_name(f"{mask_of['case']}.png") if mask_of else path
        name = image.relative_to(folder).as_posix()
        if mask_of and not image.is_file():
            raise ArchiveError(f"{path}: a mask without '{name}'. Unpack the archive again.")
        if name not in known:
            raise ArchiveError(f"{path}: not in busi_images.csv. Move it out of {folder}.")
        if mask_of:
            masks.setdefault(name, []).append(path)
    return masks


def read_case(folder: Path, entry: dict, masks: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Image and union of the masks of one case: uint8 and bool, (224, 224)."""
    path = folder / entry["file"]
    image = read_grey(path)
    expected = int(entry["width"]), int(entry["height"])
    if image.size != expected:
        raise ArchiveError(
            f"{path}: {image.size[0]} x {image.size[1]} px, expected {expected[0]} x "
            f"{expected[1]}. Take the file from the archive again."
        )
    if len(np.unique(np.asarray(image))) <= 2:
        raise ArchiveError(f"{path}: has at most two greys, as a mask has. Put the image there.")
    if not masks:
        raise ArchiveError(f"{path}: has no mask beside it. Take it from the archive again.")
    lesion = np.zeros((FIRST_SIZE, FIRST_SIZE), bool)
    for mask_path in masks:
        mask = read_grey(mask_path)
        if mask.size != image.size:
            mask = mask.resize(image.size, Image.Resampling.NEAREST)
        lesion |= crop_and_resize(mask, Image.Resampling.NEAREST) > 127
    return crop_and_resize(image, Image.Resampling.BICUBIC), lesion


def read_folder(
    folder: Path, table: list[dict[str, str]], only_present: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images uint8 (N, 224, 224), masks bool (N, 224, 224) and their rows in the table, (N,)."""
    masks = find_masks(folder, table)
    present = [entry for entry in table if (folder / entry["file"]).is_file()]
    missing = [entry["file"] for entry in table if not (folder / entry["file"]).is_file()]
    if not present or (missing and not only_present):
        raise ArchiveError(
            f"{folder}: {len(missing)} of {len(table)} images are not there, as {missing[:3]}. "
            "Unpack the whole archive, or try with --only-present."
        )
    cases = [read_case(folder, entry, masks.get(entry["file"], [])) for entry in present]
    images, lesions = (np.stack(part) for part in zip(*cases))
    return images, lesions, np.array([int(entry["row"]) for entry in present])


def read_224(path: Path, table: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As read_folder, from a file with images, packed masks and names in the table's order."""
    with np.load(path, allow_pickle=False) as file:
        images, files, packed = file["images"], file["files"].tolist(), file["masks"]
    names = [entry["file"] for entry in table]
    if files != names:
        differ = [row for row, pair in enumerate(zip(files, names)) if pair[0] != pair[1]]
        raise ArchiveError(
            f"{path}: {len(files)} rows, busi_images.csv has {len(names)}; they differ in rows "
            f"{differ[:3]}. Take the table that belongs to this file."
        )
    masks = np.unpackbits(packed, axis=1).reshape(images.shape).astype(bool)
    return images, masks, np.arange(len(images))


def area_sums(pixels: np.ndarray, size: int) -> np.ndarray:
    """Sums over `size` x `size` equal areas of square images (N, s, s), each pixel by its share.

    float64 (N, size, size), whole numbers; s² times a pixel's value where all pixels are equal.
    """
    side = pixels.shape[-1]
    first, cell = np.arange(side) * size, np.arange(size)[:, None] * side
    overlap = np.minimum(first + size, cell + side) - np.maximum(first, cell)
    weights = np.clip(overlap, 0, None).astype(np.float64)
    return weights @ pixels.astype(np.float64) @ weights.T


def reduce(images: np.ndarray, masks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """From 224 px to `size`: images uint8 (N, size, size), masks bool (N, size, size)."""
    bicubic = Image.Resampling.BICUBIC
    small = [np.asarray(Image.fromarray(image).resize((size, size), bicubic)) for image in images]
    return np.stack(small), 2 * area_sums(masks, size) >= masks.shape[-1] ** 2


def write_npz(path: Path, **arrays: np.ndarray) -> str:
    """A compressed npz file whose bytes depend on the arrays alone; returns its SHA-256."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def residual_correlation(images: np.ndarray) -> np.ndarray:
    """Correlation of all pairs at 28 px after the mean image is subtracted: float64 (N, N)."""
    small = area_sums(images, GROUP_SIZE).reshape(len(images), -1)
    rest = small - small.mean(0)
    rest -= rest.mean(1, keepdims=True)
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    return rest @ rest.T


def near_copies(correlation: np.ndarray, threshold: float, pairs=()) -> np.ndarray:
    """A group number an image, (N,), counted in order of rows: all that a chain of links joins."""
    joined = correlation > threshold
    for one, other in pairs:
        joined[one, other] = joined[other, one] = True
    return connected_components(joined, directed=False)[1]


def make_folds(groups: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Five folds, (N,), balanced by class, no group in two.

    The table's folds are the reference: another release of scikit-learn may draw others.
    """
    folds = np.empty(len(groups), int)
    splitter = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for fold, (_, test) in enumerate(splitter.split(groups, classes, groups)):
        folds[test] = fold
    return folds


def all_groups(images: np.ndarray, table: list[dict[str, str]]) -> dict[str, np.ndarray]:
    """Column of the table -> group numbers (N,), from the shipped 128 px images."""
    rows = {entry["file"]: number for number, entry in enumerate(table)}
    with open(data_folder() / "busi_pairs.csv", newline="", encoding="utf-8") as file:
        pairs = [(rows[pair["file"]], rows[pair["other"]]) for pair in csv.DictReader(file)]
    correlation = residual_correlation(images)
    return {
        column: near_copies(correlation, threshold, pairs if by_eye else ())
        for column, (threshold, by_eye) in GROUPINGS.items()
    }


def report_groups(images: np.ndarray, table: list[dict[str, str]]) -> bool:
    """Print groups and folds beside the table's; whether the groups agree."""
    agree = True
    for column, groups in all_groups(images, table).items():
        labels: dict[int, set] = {}
        for group, entry in zip(groups.tolist(), table):
            labels.setdefault(group, set()).add(entry["class"])
        same = [entry[column] for entry in table] == [str(group) for group in groups]
        agree &= same
        mixed = sum(len(kinds) > 1 for kinds in labels.values())
        print(
            f"{column}: {len(labels)} groups, the largest of {np.bincount(groups).max()}, "
            f"{mixed} with two labels; {'as' if same else 'NOT as'} in the table"
        )
    classes = np.array([entry["class"] for entry in table])
    groups, folds = (np.array([int(e[c]) for e in table]) for c in ("group", "fold"))
    for fold in range(5):
        print(f"fold {fold}:", dict(Counter(classes[folds == fold].tolist())))
    print("folds drawn again are equal:", np.array_equal(make_folds(groups, classes), folds))
    return agree


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="the unpacked archive, or the word groups")
    parser.add_argument("--from-224", type=Path, metavar="FILE", help="npz at 224 px")
    parser.add_argument("--size", type=int, default=SIZE, help="pixels a side, at most 224")
    parser.add_argument("--out", type=Path, default=data_folder())
    parser.add_argument("--only-present", action="store_true", help="for tries: part of the cases")
    given = parser.parse_args(argv)
    table = read_table()
    if (given.folder is None) == (given.from_224 is None) or not 1 <= given.size <= FIRST_SIZE:
        parser.error("name a folder or --from-224 FILE, and a size of 1 to 224")
    if given.folder == "groups":
        with np.load(data_folder() / f"busi_{SIZE}.npz", allow_pickle=False) as file:
            if not report_groups(file["images"], table):
                raise SystemExit("busi_images.csv: groups differ. Take table and images together.")
        return
    if given.only_present and given.out.resolve() == data_folder().resolve():
        parser.error("--only-present needs --out with another folder than the shipped files'")
    if given.from_224:
        images, masks, rows = read_224(given.from_224, table)
    else:
        images, masks, rows = read_folder(Path(given.folder), table, given.only_present)
    images, masks = reduce(images, masks, given.size)
    extra = {"rows": rows} if len(rows) < len(table) else {}
    packed = np.packbits(masks.reshape(len(masks), -1), axis=1)
    given.out.mkdir(parents=True, exist_ok=True)
    for name, arrays in (("busi", {"images": images}), ("busi_masks", {"masks": packed})):
        path = given.out / f"{name}_{given.size}.npz"
        digest = write_npz(path, **arrays, **extra)
        print(f"{path}: {path.stat().st_size:,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
