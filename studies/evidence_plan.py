"""What the evidence on busi compares, and how each arm is trained: fixed before any look.

No real label was used for these choices. The way of transfer was the best of eight that were tried
on simulated images, from version 1 of the simulator to version 2 (AUC with 25, 100 and 624 labels,
two folds: this one .814, .847, .888; one rate of 0.0003 for all layers .788, .822, .875; a probe,
C = 0.01, .799, .846, .876; head first, then all at 0.0001 .799, .843, .884).
"""

from __future__ import annotations

from pathlib import Path

from medtl_utils.data import DataError
from medtl_utils.paths import cache_folder

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


def weights_of(arm: str, repetition: int) -> Path | None:
    """The file of an arm's source, another training for each repetition; None for no source.

    Raises DataError, with the command that makes it, where the file is missing.
    """
    source = ARMS[arm][0]
    if source not in ("ultrasound", "shapes"):
        return None
    ending = "" if repetition == 0 else f"_seed{repetition}"
    name = f"{source}_resnet18{ending}.safetensors"
    file = cache_folder() / "v2" / name
    if not file.is_file():
        raise DataError(
            f"{file} is missing. Make it: python -m studies.v2.pretrain --task {source} "
            f"--seed {repetition} --out {file.parent}"
        )
    return file
