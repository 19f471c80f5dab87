"""What the evidence on busi compares, and how each arm is trained: fixed before any look."""

from __future__ import annotations

from pathlib import Path

from medtl_utils.data import DataError
from medtl_utils.paths import cache_folder, data_folder

REPETITIONS, FOLDS = range(3), range(5)
# labelled images (None: all) -> draws a fold in each repetition
DRAWS = {25: 4, 50: 4, 100: 4, 200: 2, None: 1}
PRIMARY = ("scratch", "ultrasound", "shapes")

# labelled images -> epochs of transfer, images a batch
_LENGTHS = {25: (30, 8), 50: (20, 8), 100: (25, 32), 200: (20, 32), None: (20, 32)}
# Transfer: a low rate, and BatchNorm keeps the source's statistics. From scratch: the full rate,
# BatchNorm by the batch, twice as many updates.
RECIPES: dict[str, dict[int | None, dict]] = {
    "transfer": {
        n: {"epochs": epochs, "batch_size": batch, "lr": 3e-4, "batchnorm": "eval"}
        for n, (epochs, batch) in _LENGTHS.items()
    },
    "scratch": {
        n: {"epochs": 2 * epochs, "batch_size": batch, "lr": 1e-3, "batchnorm": "train"}
        for n, (epochs, batch) in _LENGTHS.items()
    },
}


def recipe_of(arm: str, n: int | None) -> dict:
    return RECIPES["scratch" if arm == "scratch" else "transfer"][n]


def weights_of(arm: str, repetition: int) -> Path | None:
    """The file of an arm's source, another training for each repetition; None for no source.

    Seed 0 of the ultrasound ships; the others are made by `python -m studies.v2.pretrain`.
    """
    if arm == "scratch":
        return None
    ending = "" if repetition == 0 else f"_seed{repetition}"
    name = f"{arm}_resnet18{ending}.safetensors"
    files = [folder / name for folder in (cache_folder() / "v2", data_folder())]
    if not any(found := [file for file in files if file.is_file()]):
        raise DataError(
            f"{name} is missing. Make it: python -m studies.v2.pretrain --task {arm} "
            f"--seed {repetition} --out {files[0].parent}"
        )
    return found[0]
