"""Tasks: labelled images, split by patient, with a test set that opens once and leaves a trace."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import tempfile
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2 import functional as tvf

from .paths import cache_folder, data_folder, output_folder  # noqa: F401

MEDMNIST_2D = (  # the single-label 2D sets of MedMNIST v2 (ChestMNIST has several labels an image)
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
)
POSITIVE = {"breastmnist": 0, "pneumoniamnist": 1}  # index of disease in the two-class sets
TWIN_CORRELATION = 0.98
TEST_PATIENTS = 400


class DataError(ValueError):
    """A data or weight file is missing, damaged or not what it should be; the message names it and the remedy."""


class TestSetOpened(RuntimeError):
    """The locked test set was asked for a second time."""

    __test__ = False  # the name begins with Test: pytest must not collect it


@dataclass
class Split:
    """One part of a task: images with labels, and whatever else the source tells.

    images: torch uint8 (N, C, H, W); labels: torch int64 (N,); patients: NumPy str (N,) or None where the source does
    not tell; masks: torch bool (N, H, W) or None; descriptors: name -> NumPy array (N,) or None; twins: NumPy bool (N,),
    True where a near-copy of the image lies in another part, or None where nobody looked.
    """

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    positive: int | None = None
    patients: np.ndarray | None = None
    masks: torch.Tensor | None = None
    descriptors: dict[str, np.ndarray] | None = None
    twins: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.ndim != 4 or self.images.dtype != torch.uint8:
            raise ValueError(
                f"{self.name}: images must be torch uint8 of shape (N, C, H, W); got {self.images.dtype} "
                f"{tuple(self.images.shape)}. Scale pixels to 0..255 and call .to(torch.uint8) first."
            )
        if self.labels.shape != (n,) or self.labels.dtype != torch.int64:
            raise ValueError(
                f"{self.name}: labels must be torch int64 of shape ({n},); got {self.labels.dtype} {tuple(self.labels.shape)}."
            )
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError(
                f"{self.name}: labels must lie in 0..{len(self.classes) - 1} ({', '.join(self.classes)}); "
                f"found {int(self.labels.min())}..{int(self.labels.max())}. Renumber the labels or name all classes."
            )
        if self.positive is not None and not 0 <= self.positive < len(self.classes):
            raise ValueError(
                f"{self.name}: positive must be a class index 0..{len(self.classes) - 1}; got {self.positive}."
            )
        for what, values in (
            ("patients", self.patients),
            ("masks", self.masks),
            ("twins", self.twins),
        ):
            if values is not None and len(values) != n:
                raise ValueError(
                    f"{self.name}: {what} must have one entry an image ({n}); got {len(values)}."
                )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index) -> Split:
        """The part chosen by a boolean mask, an index array or a slice; everything stays aligned."""
        rows = np.arange(len(self))[
            np.asarray(index) if not isinstance(index, slice) else index
        ].reshape(-1)
        pick = lambda values: None if values is None else values[rows]
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            patients=pick(self.patients),
            masks=pick(self.masks),
            twins=pick(self.twins),
            descriptors=None
            if self.descriptors is None
            else {k: v[rows] for k, v in self.descriptors.items()},
        )

    def __repr__(self) -> str:
        counts = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        people = (
            "patients unknown" if self.patients is None else f"{len(set(self.patients))} patients"
        )
        each = ", ".join(f"{c} {name}" for c, name in zip(counts, self.classes))
        shape = "×".join(map(str, self.images.shape[1:]))
        return f"Split({self.name}: {len(self)} images of {shape}, {people}; {each})"


@dataclass
class Task:
    """A classification task with a training, a validation and a locked test set; `print(task.card)` before using it."""

    name: str
    train: Split
    val: Split
    card: str
    _test: Split = field(repr=False)
    openings: list[dict] = field(default_factory=list, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def positive(self) -> int | None:
        return self.train.positive

    def open_test(self, reason: str, reopen: bool = False) -> Split:
        """The test set, once. Score all models you will report, frozen before, at one opening.

        `reason` goes into `openings` and, with the time, into outputs/test_openings.jsonl. A second call raises
        TestSetOpened, unless reopen=True; then the report says how often it was opened.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise ValueError(
                "Say in one line why the test set is opened: task.open_test(reason='final result')."
            )
        if self.openings and not reopen:
            raise TestSetOpened(
                f"The test set of {self.name!r} was opened before, for: {self.openings[0]['reason']!r}. Choices made after "
                "that make its numbers too good. Choose on validation; if you must, open_test(reason, reopen=True)."
            )
        entry = {"task": self.name, "reason": reason, "opening": len(self.openings) + 1}
        self.openings.append(entry)
        try:
            output_folder().mkdir(exist_ok=True)
            with open(output_folder() / "test_openings.jsonl", "a", encoding="utf-8") as log:
                log.write(
                    json.dumps(
                        {"time": datetime.datetime.now().isoformat(timespec="seconds"), **entry}
                    )
                    + "\n"
                )
        except OSError:
            entry["log"] = "not written: the output folder is read-only"
        return self._test

    def __repr__(self) -> str:
        state = f"opened {len(self.openings)} time(s)" if self.openings else "locked"
        return f"Task({self.name!r})\n  {self.train}\n  {self.val}\n  test set: {len(self._test)} images, {state}"


def check_disjoint(*splits: Split) -> None:
    """Raise ValueError if a patient appears in more than one split, naming some. Splits without patients are passed over."""
    for i, first in enumerate(splits):
        for second in splits[i + 1 :]:
            if first.patients is None or second.patients is None:
                continue
            shared = sorted(set(first.patients) & set(second.patients))
            if shared:
                raise ValueError(
                    f"{len(shared)} patient(s) are in both {first.name} and {second.name}, e.g. {', '.join(map(str, shared[:3]))}. "
                    "A model would be tested on people it has seen. Split by patient, not by image."
                )


def find_twins(
    images: np.ndarray, others: np.ndarray, threshold: float = TWIN_CORRELATION
) -> np.ndarray:
    """For each of `images` (N, ...), the row of its most similar one in `others` (M, ...), or -1.

    Similar: Pearson correlation of the pixels above `threshold`. Images without contrast have no twin. Memory N x M.
    """

    def standardised(x: np.ndarray) -> np.ndarray:
        x = x.reshape(len(x), -1).astype(np.float64)
        x = x - x.mean(1, keepdims=True)
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        return np.divide(x, norm, out=np.zeros_like(x), where=norm > 0)

    correlation = standardised(images) @ standardised(others).T
    best = correlation.argmax(1)
    return np.where(correlation[np.arange(len(images)), best] > threshold, best, -1)


def _choose(
    labels: np.ndarray, groups: np.ndarray, n: int, rng: np.random.Generator, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of n labelled images for training and validation (about 4 : 1, both with every class), groups kept whole.

    Every prefix of the random order has about the class proportions of the whole, and a larger n contains a smaller one.
    The last group is cut to give exactly n images.
    """
    n_classes = len(np.unique(labels))
    if not 5 * n_classes <= n <= len(labels):
        raise ValueError(
            f"n_train must lie between {5 * n_classes} and {len(labels)} for {what}; got {n}."
        )
    names, first = np.unique(groups, return_index=True)
    place = np.empty(len(names))
    for label in np.unique(labels):
        mine = np.flatnonzero(labels[first] == label)
        place[rng.permutation(mine)] = (np.arange(len(mine)) + 0.5) / len(mine)
    rows = np.concatenate(
        [np.flatnonzero(groups == g) for g in names[np.argsort(place, kind="stable")]]
    )[:n]
    train, val = [], []
    for label in range(n_classes):
        mine = [
            g for g in dict.fromkeys(groups[rows]) if labels[rows[groups[rows] == g][0]] == label
        ]
        total, held = sum((groups[rows] == g).sum() for g in mine), 0
        if len(mine) < 2:
            raise ValueError(
                f"{n} labelled images of {what} hold {len(mine)} group(s) of class {label}: training and validation need one "
                "each. Ask for a larger n_train or another seed."
            )
        for number, g in enumerate(mine):
            to_val = held < 0.2 * total and number < len(mine) - 1
            held += (groups[rows] == g).sum() * to_val
            (val if to_val else train).append(rows[groups[rows] == g])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))


def load_task(
    name: str,
    size: int = 64,
    n_train: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
) -> Task:
    """Load a task by name.

    `name`: "phantom" (simulated breast ultrasound, made here, no download) or a single-label 2D MedMNIST name such as
    "breastmnist" (downloaded once through the medmnist package unless the file is there).
    `size`: side of the images in pixels, 16 to 512; MedMNIST images are resized from the native 28, bilinear.
    `n_train`: labelled images in all, from which training and validation are drawn (None: 600 for the phantom, the
    official split for MedMNIST). `seed`: draws the patients of the phantom, and which n_train images are labelled.
    `root`: folder of the data files; default the repository's data/, else the user's cache. A file already there is used
    as it is and never replaced.

    Raises ValueError for an unknown name or an impossible size or n_train; DataError, naming the file, for bad data.
    """
    if not isinstance(size, int) or not 16 <= size <= 512:
        raise ValueError(f"size must be a whole number of pixels between 16 and 512; got {size!r}.")
    if n_train is not None and (not isinstance(n_train, int) or n_train < 1):
        raise ValueError(
            f"n_train must be a whole number of labelled images, or None; got {n_train!r}."
        )
    folder = Path(root) if root is not None else data_folder()
    if name == "phantom":
        task = _phantom(size, n_train or 600, seed, folder)
    elif name in MEDMNIST_2D:
        task = _medmnist(name, size, n_train, seed, folder)
    else:
        extra = (
            "ChestMNIST has several labels an image, and this course handles one. "
            if name == "chestmnist"
            else ""
        )
        raise ValueError(
            f"Unknown task {name!r}. {extra}Choose one of: phantom, {', '.join(MEDMNIST_2D)}."
        )
    check_disjoint(task.train, task.val, task._test)
    return task


def _phantom(size: int, n: int, seed: int, folder: Path) -> Task:
    from . import phantom

    def part(split: str, n_patients: int) -> dict:
        file = (
            folder / "cache" / f"phantom_v{phantom.VERSION}_{split}_{n_patients}_{size}_{seed}.npz"
        )
        made = _read_cache(file)
        if made is None:
            made = phantom.simulate_target(split, n_patients, size, seed)
            _write_cache(file, made)
        return made

    # 2.5 images a patient on average; one pool for all n up to 600, so that a larger n contains a smaller one
    pool = part("train", max(280, -(-n // 80) * 40))
    train, val = _choose(
        pool["labels"].numpy(), pool["patients"], n, np.random.default_rng([7, seed]), "the phantom"
    )

    def split(split_name: str, made: dict, rows=slice(None)) -> Split:
        whole = Split(
            split_name,
            made["images"],
            made["labels"],
            ("benign", "malignant"),
            1,
            made["patients"],
            made["masks"],
            made["descriptors"],
        )
        return whole[rows]

    card = (
        f"phantom: simulated breast ultrasound, malignant (positive) or benign; made by medtl_utils/phantom.py, version "
        f"{phantom.VERSION}, seed {seed}. Native size {size}×{size}, a field of 40 mm. 1 to 4 images a patient, three scanners, "
        f"lesion masks, six BI-RADS descriptors. Best possible AUC from the descriptors: {phantom.best_auc():.3f}.\n"
        "Licence: MIT (as the code). Known faults: it is a simulation. A result on it says what a method does to a known "
        "truth, nothing about patients; shapes and artefacts are fewer than in real images."
    )
    return Task(
        "phantom",
        split("train", pool, train),
        split("val", pool, val),
        card,
        split("test", part("test", TEST_PATIENTS)),
    )


def _read_cache(file: Path) -> dict | None:
    """What `_write_cache` wrote, or None where there is nothing whole; a damaged cache file is simply made again."""
    try:
        with np.load(file, allow_pickle=False) as z:
            got = {k: z[k] for k in z.files}
        if str(got.pop("sha256")) != hashlib.sha256(got["images"].tobytes()).hexdigest():
            return None
        made = {k: got.pop(k) for k in ("images", "masks", "labels", "patients")}
        made.update({k: torch.from_numpy(made[k]) for k in ("images", "masks", "labels")})
        return {**made, "descriptors": got}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError):
        return None


def _write_cache(file: Path, made: dict) -> None:
    arrays = {
        k: made[k].numpy() if isinstance(made[k], torch.Tensor) else made[k]
        for k in ("images", "masks", "labels", "patients")
    }
    buffer = io.BytesIO()
    np.savez(
        buffer,
        sha256=hashlib.sha256(arrays["images"].tobytes()).hexdigest(),
        **arrays,
        **made["descriptors"],
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=file.parent, suffix=".part", delete=False
        ) as temporary:
            temporary.write(buffer.getvalue())
        os.replace(temporary.name, file)
    except OSError:
        pass  # a read-only folder costs seconds, not correctness


def _download(name: str, folder: Path) -> None:
    """Fetch NAME.npz through the medmnist package into `folder`; the file appears only if its published MD5 matches."""
    import medmnist

    info, file = medmnist.INFO[name], folder / f"{name}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {name}.npz through the medmnist package ...", flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
        fresh, failure = Path(scratch) / f"{name}.npz", None
        try:
            getattr(medmnist, info["python_class"])(split="train", root=scratch, download=True)
        except Exception as error:  # the package turns every failure into one RuntimeError; its cause is the context
            failure = error.__context__ or error
        found = hashlib.md5(fresh.read_bytes()).hexdigest() if fresh.is_file() else None
        if found is not None and found != info["MD5"]:
            raise DataError(
                f"The download of {file.name} has the MD5 {found}, expected {info['MD5']}: it was cut off or changed on the way. "
                f"Nothing was stored. Try again, or put the original file from {info['url']} at {file}."
            )
        if found is None or failure is not None:
            raise DataError(
                f"{file} is missing and could not be downloaded ({failure}). With a network, call load_task({name!r}) again; without "
                f"one, put the file from {info['url']} (MD5 {info['MD5']}) there."
            ) from None
        if not file.exists():
            os.replace(fresh, file)


def _read_medmnist(name: str, file: Path) -> dict[str, np.ndarray]:
    """The six arrays of a MedMNIST file, checked against the published counts."""
    from medmnist import INFO

    info = INFO[name]
    remedy = f"Move the file away and call load_task({name!r}) with a network, or put the original from {info['url']} there."
    try:
        with np.load(file, allow_pickle=False) as z:
            arrays = {
                k: z[k]
                for k in (
                    f"{s}_{w}" for s in ("train", "val", "test") for w in ("images", "labels")
                )
            }
    except (
        OSError,
        ValueError,
        KeyError,
        zipfile.BadZipFile,
        EOFError,
        zipfile.zlib.error,
    ) as error:
        raise DataError(
            f"{file} cannot be read ({type(error).__name__}: {error}): it is cut off or no MedMNIST file. {remedy}"
        ) from error
    for split in ("train", "val", "test"):
        n = info["n_samples"][split]
        shape = (n, 28, 28) if info["n_channels"] == 1 else (n, 28, 28, 3)
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if not np.issubdtype(images.dtype, np.number) or not np.isfinite(images).all():
            raise DataError(
                f"{file}: {split}_images holds values that are not finite numbers (NaN or infinite). {remedy}"
            )
        if images.shape != shape or images.dtype != np.uint8:
            raise DataError(
                f"{file}: {split}_images is {images.dtype} {images.shape}, expected uint8 {shape}. {remedy}"
            )
        if labels.shape != (n, 1) or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{file}: {split}_labels is {labels.dtype} {labels.shape}, expected integers of shape {(n, 1)}. {remedy}"
            )
        if not (0 <= labels.min() and labels.max() < len(info["label"])):
            raise DataError(
                f"{file}: {split}_labels must lie in 0..{len(info['label']) - 1}; found {labels.min()}..{labels.max()}. {remedy}"
            )
        if len(np.unique(labels)) < 2:
            raise DataError(
                f"{file}: {split}_labels holds one class only, and a classifier needs two. {remedy}"
            )
    return arrays


def _medmnist(name: str, size: int, n: int | None, seed: int, folder: Path) -> Task:
    from medmnist import INFO

    info, file = INFO[name], folder / f"{name}.npz"
    if not file.exists():
        _download(name, folder)
    arrays = _read_medmnist(name, file)
    classes = tuple(info["label"][str(i)] for i in range(len(info["label"])))
    train_rows, val_rows = slice(None), slice(None)
    twin_text, twins = "", {}
    if name == "breastmnist":
        seen = np.concatenate([arrays["train_images"], arrays["val_images"]])
        seen_labels = np.concatenate([arrays["train_labels"], arrays["val_labels"]])
        found = find_twins(arrays["test_images"], seen)
        twins["test"] = found >= 0
        other = int((seen_labels[found] != arrays["test_labels"])[found >= 0].sum())
        free_positive = int((arrays["test_labels"].ravel() == POSITIVE[name])[found < 0].sum())
        twin_text = (
            f" Of the {len(found)} official test images, {(found >= 0).sum()} correlate above {TWIN_CORRELATION} with a training or "
            f"validation image ({other} of them with the other label): split.twins marks them. Report the official test set, so "
            f"that it can be compared, and the {(found < 0).sum()} twin-free images ({free_positive} {classes[POSITIVE[name]]}), which is what to believe."
        )
    if n is not None:
        labels = arrays["train_labels"].ravel()
        groups = np.arange(len(labels))
        if (
            name == "breastmnist"
        ):  # near-copies go to the same side of the training / validation line
            for row in range(1, len(labels)):
                twin = find_twins(
                    arrays["train_images"][row : row + 1], arrays["train_images"][:row]
                )[0]
                if twin >= 0 and labels[twin] == labels[row]:
                    groups[row] = groups[twin]
        train_rows, val_rows = _choose(labels, groups, n, np.random.default_rng([11, seed]), name)

    def split(split_name: str, key: str, rows) -> Split:
        images = torch.from_numpy(arrays[f"{key}_images"][rows])
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        if size != 28:
            images = tvf.resize(images, [size, size], antialias=size < 28)  # bilinear
        labels = torch.from_numpy(arrays[f"{key}_labels"][rows].ravel().astype(np.int64))
        return Split(
            split_name,
            images.contiguous(),
            labels,
            classes,
            POSITIVE.get(name),
            twins=twins.get(key),
        )

    labelled = (
        "official training and validation sets"
        if n is None
        else f"{n} images of the official training set, seed {seed}"
    )
    card = (
        f"{name}: {info['description'].split('.')[0].strip()}. Classes: {', '.join(f'{i} = {c}' for i, c in enumerate(classes))}"
        + (f"; positive: {classes[POSITIVE[name]]}" if name in POSITIVE else "")
        + f".\nNative size 28×28, shown at {size}×{size} "
        f"(bilinear). Labelled: {labelled}; test: the official one.\nSource: MedMNIST v2 (Yang et al., Scientific Data 10, 2023, 41). "
        f"Licence: {info['license']}. Known faults: no patient identifiers, so no patient-level claim can be made."
        + twin_text
    )
    own = "train" if n is not None else "val"
    return Task(
        name,
        split("train", "train", train_rows),
        split("val", own, val_rows),
        card,
        split("test", "test", slice(None)),
    )
