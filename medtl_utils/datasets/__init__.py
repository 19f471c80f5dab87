"""`load_task`: a task by its name. One file a data set; each has a `load` for the table below."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..data import DataError, Task, check_disjoint
from . import busi, folder, medmnist, phantom
from .folder_table import Decision

# name -> load(name, size, n_train, seed, root), which returns a Task and has checked its files
LOADERS: dict[str, Callable[[str, int, int | None, int, Path | None], Task]] = {
    "phantom": phantom.load,
    "busi": busi.load,
    **dict.fromkeys(medmnist.NAMES, medmnist.load),
}


def load_task(
    name: str,
    size: int = 64,
    n_train: int | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    *,
    patients: Decision = None,
) -> Task:
    """Load a task by name.

    `name`: "phantom" (simulated breast ultrasound, made here), "busi" (real breast ultrasound,
    ships), or a single-label 2D MedMNIST name: "breastmnist" and "retinamnist" ship; the others,
    and "breastmnist_64", "_128", "_224", are downloaded once by the medmnist package unless the
    file is there. `size`: side of the images in pixels, 16 to 512; they are resized from the
    stored size, bilinear, and the card says how. `n_train`: labelled images in all, training and
    validation together; both are drawn from them, about 4 : 1 (None: 600 for the phantom, four of
    five folds for busi, the official training and validation sets for MedMNIST). `seed`: draws
    the patients of the phantom, and which n_train images are labelled. `root`: folder of the data
    files; default the data folder, then that of downloads (see `medtl_utils.paths`). A file
    already there is used as it is and never replaced.

    "folder:PATH" reads images of your own, PNG, JPEG, TIFF, BMP or DICOM: a folder a class, or a
    table PATH/index.csv with the columns path,label,patient and, where they are known, mask, site,
    age, frame. `patients`, for a folder alone: "one image each", "unknown", or a function that
    makes the patient of a file's name. See `medtl_utils.datasets.folder_read`;
    `read_folder(PATH).report` tells of every file what became of it.

    Raises ValueError for an unknown name or an impossible size or n_train; DataError, naming the
    file, for bad data.
    """
    loader = _loader(name, patients)
    _check_numbers(size, n_train)
    try:
        task = loader(name, size, n_train, seed, None if root is None else Path(root))
    except MemoryError as error:
        where = f"the file {name}.npz in {root}" if root else "a file that was not downloaded here"
        raise DataError(
            f"{name!r} needs more memory than there is ({error}). Ask for a smaller size; or, if "
            f"{where} is not the original, move it away."
        ) from error
    parts = (task.train, task.val, task._test)
    check_disjoint(*(part for part in parts if part is not None))
    if n_train is not None:
        _check_near_copies(task)
    return task


def _loader(name: str, patients: Decision) -> Callable[..., Task]:
    of_folder = str(name).startswith(folder.PREFIX)
    loader = partial(folder.load, patients=patients) if of_folder else LOADERS.get(name)
    if patients is not None and not of_folder:
        raise ValueError(f"`patients` is for a folder of your own; {name!r} knows its patients.")
    if loader is None:
        several = "ChestMNIST has several labels an image, and this course handles one. "
        hint = several if name == "chestmnist" else ""
        raise ValueError(
            f"Unknown task {name!r}. {hint}Choose one of: {', '.join(LOADERS)}; or folder:PATH, "
            "for images of your own."
        )
    return loader


def _check_numbers(size: int, n_train: int | None) -> None:
    if not isinstance(size, int) or not 16 <= size <= 512:
        raise ValueError(f"size must be a whole number of pixels between 16 and 512; got {size!r}.")
    if n_train is not None and (not isinstance(n_train, int) or n_train < 1):
        raise ValueError(
            "n_train must be a whole number of labelled images in all, training and validation "
            f"together, or None; got {n_train!r}."
        )


def _check_near_copies(task: Task) -> None:
    """Official splits may part near-copies; those that are drawn here must not."""
    sides = (task.train.near_copies, task.val.near_copies)
    if sides[0] is not None and (shared := set(sides[0]) & set(sides[1])):
        raise ValueError(
            f"{task.name}: {len(shared)} group(s) of near-copies lie in training and validation. "
            "Draw whole groups (grouping.draw_labelled)."
        )
