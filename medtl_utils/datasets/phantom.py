"""The task "phantom": simulated breast ultrasound with known truth, made once and then cached."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch

from .. import phantom as simulator
from ..data import Split, Task
from ..grouping import draw_labelled
from ..paths import cache_folder
from ..phantom_tables import FIELD_MM

LABELLED = 600  # labelled images, where nobody asks for another number
TEST_PATIENTS = 400
TENSORS = ("images", "masks", "labels")


def load(name: str, size: int, n_train: int | None, seed: int, root: Path | None) -> Task:
    """The phantom: n_train labelled images (None: 600) and 400 test patients.

    The cache lies in `root`/cache, or in the user's cache folder where root is None.
    """
    cache = cache_folder() if root is None else root / "cache"
    n = n_train or LABELLED
    # 2.5 images a patient on average; one pool for all n up to 600: a larger n contains a smaller
    pool = _patients("train", max(280, -(-n // 80) * 40), size, seed, cache)
    rng = np.random.default_rng([7, seed])
    rows = draw_labelled(pool["labels"].numpy(), pool["patients"], n, rng, "the phantom")
    train, val = (_split(part, pool)[r] for part, r in zip(("train", "val"), rows))
    test = _split("test", _patients("test", TEST_PATIENTS, size, seed, cache))
    return Task(name, train, val, _card(size, seed, train, val), test)


def _split(name: str, made: dict) -> Split:
    return Split(name, classes=("benign", "malignant"), positive=1, ids=_ids(made), **made)


def _ids(made: dict) -> np.ndarray:
    """phantom/VERSION/PATIENT/VIEW for each image; the patient's name holds stream and seed."""
    _, first, of = np.unique(made["patients"], return_index=True, return_inverse=True)
    views = np.arange(len(of)) - first[of]  # a patient's images stand next to each other
    names = zip(made["patients"], views)
    return np.array([f"phantom/v{simulator.VERSION}/{who}/{view}" for who, view in names])


def _card(size: int, seed: int, train: Split, val: Split) -> str:
    low, high = FIELD_MM["target"]
    return (
        "phantom: simulated breast ultrasound, malignant (positive) or benign; made by "
        f"medtl_utils/phantom.py, version {simulator.VERSION}, seed {seed}. Native size "
        f"{size}×{size}, a field of {low:.0f} to {high:.0f} mm. 1 to 4 images a patient, three "
        "scanners, lesion masks, seven BI-RADS descriptors, in each class as frequent as counted "
        f"in real lesions. Best possible AUC from the descriptors: {simulator.best_auc():.3f}.\n"
        f"{len(train) + len(val)} labelled images: {len(train)} to train, {len(val)} to validate.\n"
        "Licence: MIT (as the code). Known faults: it is a simulation. A result on it says what a "
        "method does to a known truth, nothing about patients; shapes and artefacts are fewer than "
        "in real images."
    )


def _patients(split: str, n_patients: int, size: int, seed: int, cache: Path) -> dict:
    """What `simulate_target` returns, from the cache if it is there."""
    file = cache / f"phantom_v{simulator.VERSION}_{split}_{n_patients}_{size}_{seed}.npz"
    made = _read_cache(file)
    if made is None:
        made = simulator.simulate_target(split, n_patients, size, seed)
        _write_cache(file, made)
    return made


def _read_cache(file: Path) -> dict | None:
    """What `_write_cache` wrote, or None where nothing is whole; a damaged file is made again."""
    try:
        with np.load(file, allow_pickle=False) as z:
            got = {k: z[k] for k in z.files}
        if str(got.pop("sha256")) != hashlib.sha256(got["images"].tobytes()).hexdigest():
            return None
        made = {k: torch.from_numpy(got.pop(k)) for k in TENSORS}
        return {**made, "patients": got.pop("patients"), "descriptors": got}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError):
        return None


def _write_cache(file: Path, made: dict) -> None:
    """One file with all arrays and the hash of the images; it appears whole or not at all."""
    arrays = {k: made[k].numpy() for k in TENSORS} | {"patients": made["patients"]}
    digest = hashlib.sha256(arrays["images"].tobytes()).hexdigest()
    buffer = io.BytesIO()
    np.savez(buffer, sha256=digest, **arrays, **made["descriptors"])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as fresh:
            fresh.write(buffer.getvalue())
        os.replace(fresh.name, file)
    except OSError:
        pass  # a read-only folder costs seconds, not correctness
