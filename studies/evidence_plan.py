"""What the evidence on busi compares, and how each arm is trained: fixed before any look.

No real label was used for these choices, and no network from these sources had been scored on a
real image when they were fixed. The way of transfer was the best of eight that were
tried on simulated images, from version 1 of the simulator to version 2 (AUC with 25, 100 and 624
labels, two folds: this one .814, .847, .888; one rate of 0.0003 for all layers .788, .822, .875; a
probe, C = 0.01, .799, .846, .876; head first, then all at 0.0001 .799, .843, .884).
"""

from __future__ import annotations

from pathlib import Path

from medtl_utils.data import DataError
from medtl_utils.paths import cache_folder, data_folder
from studies.cache import sha256_of

REPETITIONS = range(3)
# labelled images (None: all) -> draws a fold in each repetition
DRAWS = {25: 4, 50: 4, 100: 4, 200: 2, None: 1}
# arm -> its source, and the size of its images in pixels
ARMS = {
    "scratch": ("random", 64),
    "ultrasound": ("ultrasound", 64),
    "shapes": ("shapes", 64),
    "ultrasound, probe": ("ultrasound", 64),
    "shapes, probe": ("shapes", 64),
    "ImageNet": ("imagenet_lite0", 64),
    "ImageNet, 224": ("imagenet_lite0", 224),
    "ImageNet, 224, probe": ("imagenet_lite0", 224),
}
PRIMARY = ("scratch", "ultrasound", "shapes")

# source -> SHA-256 of its three trainings, which follow from studies/pretrain.py and their seeds
SOURCES = {
    "ultrasound": (
        "e3bc1abe2861664abfae9daf1e404d84565159f493de293da56524f5786408d3",
        "3afe6f277ac44b8bfd483a5616d2a2c05e46fb66209be10741e1e5f5da38baa2",
        "91d159bc9bdd571f14b9ab8ca626f74933a80095bde2f436ca2f25de9c67aa0c",
    ),
    "shapes": (
        "3b02d2564640b7fa203f5576d9c5555dc6c6fcb765c85ed406a2e0f24cae2205",
        "9086bd4a0b63217c3ed5c9ff28a9385ada0df78f55a7bf241a393e8ef07365d4",
        "9056f519ee9b5d63b8273a92b47e26556a9b4a82818700d8dce70fcef4b4a73a",
    ),
}

# labelled images -> epochs of transfer, of scratch, images per batch
_LENGTHS = {25: (30, 60, 8), 50: (20, 40, 8), 100: (25, 75, 32), 200: (20, 60, 32)}
_LENGTHS[None] = (20, 60, 32)
# Transfer: a low rate, lower still in lower blocks, and BatchNorm keeps the source's statistics.
# From scratch: the full rate everywhere, BatchNorm by the batch, two to three times the updates,
# so that the training loss settles.
TRANSFER = {"lr": 1e-3, "decay": 0.3, "batchnorm": "eval"}
PEER = TRANSFER | {"decay": 0.51}  # ten blocks, not six: the same rate at the bottom
SCRATCH = {"lr": 1e-3, "decay": 1.0, "batchnorm": "train"}
PROBE = {"C": 0.01}
MEMBERS = (0, 1, 2)  # networks in an average, for these numbers of labelled images:
AVERAGED = (None, 100)


def recipe_of(arm: str, n: int | None) -> dict:
    """How an arm learns from n labelled images (None: all)."""
    if arm.endswith("probe"):
        return PROBE
    epochs, longer, batch = _LENGTHS[n]
    if arm == "scratch":
        return SCRATCH | {"epochs": longer, "batch_size": batch}
    rates = PEER if ARMS[arm][0] == "imagenet_lite0" else TRANSFER
    return rates | {"epochs": epochs, "batch_size": batch}


def ways_of_scratch(n: int | None) -> dict[str, dict]:
    """Name -> recipe: what is tried for scratch on real labels, in hindsight; transfer gets none.

    "as planned" is the recipe of the primary claim.
    """
    planned = recipe_of("scratch", n)
    third = {"epochs": planned["epochs"] // 3}
    ways = {
        "as planned": {},
        "a third of the updates": third,
        "three times the rate": {"lr": 3e-3},
        "a third of the rate": {"lr": 3e-4},
        "three times the rate, a third of the updates": {"lr": 3e-3} | third,
        "a third of the updates, no augmentation": {"augmented": False} | third,
    }
    if n in (25, 50, 100):
        ways["twice the updates"] = {"epochs": 2 * planned["epochs"]}
    return {name: planned | change for name, change in ways.items()}


def digest_of(arm: str, repetition: int) -> str | None:
    """SHA-256 of the weights that an arm starts from; None where they are not trained here."""
    return SOURCES[ARMS[arm][0]][repetition] if ARMS[arm][0] in SOURCES else None


def weights_of(arm: str, repetition: int) -> Path | None:
    """The file of an arm's source, another training for each repetition; None for no source.

    Raises DataError, with the command that makes it, where the file is missing or is another one.
    """
    source, digest = ARMS[arm][0], digest_of(arm, repetition)
    if digest is None:
        return None
    ending = "" if repetition == 0 else f"_seed{repetition}"
    name = f"{source}_resnet18{ending}.safetensors"
    made = cache_folder() / "v2"
    for file in (data_folder() / name, made / name):  # the first training of ultrasound ships
        if file.is_file() and sha256_of(file) == digest:
            return file
    raise DataError(
        f"{made / name} is missing, or another training. Make it: python -m studies.pretrain "
        f"--task {source} --seed {repetition} --out {made}"
    )
