"""A fine-tuned ResNet-18 made small in several ways: is anything lost?

    python -m studies.small_models

phantom: five draws of 240 patients to learn from; every network is tested on the same 2,100 other
patients. busi: folds 1 to 4 are held out once each; fold 0, the test fold, is not touched. A fifth
of the images to learn from (patients or near-copies whole) is set aside: they fix the threshold.
The original: the ultrasound source, 100 updates with 32 images, all layers, BatchNorm's statistics
held. Pruned: 30, 50 or 70 % of the channels of each layer go, then 80 updates more on the same
images. So the pruned networks made 180 updates, the original 100. Teacher: the original; its
answers join the labels (temperature 2, half the loss); unlabelled: 300 more simulated patients,
also beside the real images, because no more real ones are at hand. int8: static, by ONNX Runtime,
ranges from 128 images of those that were learnt from. Nothing is chosen here; margins and the
operating point are those of studies/small_models_plan.py. What the table holds: see
studies/small_models_stats.py.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import numpy as np
import torch

from medtl_utils import load_task, phantom, predict, replace_head, source_model
from medtl_utils.data import Split
from medtl_utils.datasets import busi
from medtl_utils.grouping import fold_rows
from medtl_utils.paths import data_folder
from studies.runner import Study, main
from studies.small_models_plan import SENSITIVITY
from studies.small_networks import int8_answers, pruned, trained

SIZE, UPDATES, MORE, BATCH, RATE = 64, 100, 80, 32, 1e-3
CALIBRATION = 128  # images
DRAWS = {"phantom": (810, 811, 812, 813, 814), "busi": (1, 2, 3, 4)}  # seeds; folds held out
PEOPLE = {"learn": 300, "unlabelled": 300, "test": 2100}  # simulated patients
UNLABELLED_SEED, TEST_SEED = 850, 860
ORIGINAL, INT8 = "original", "int8"
TAUGHT, MORE_IMAGES = "pruned 70 %, teacher", "pruned 70 %, teacher and unlabelled"
SHARES = {"pruned 30 %": 0.3, "pruned 50 %": 0.5, "pruned 70 %": 0.7}
INTO_INT8 = (ORIGINAL, "pruned 30 %", "pruned 50 %", MORE_IMAGES)
name_int8 = lambda name: INT8 if name == ORIGINAL else f"{name}, int8"
INT8_ALONE = ("pruned 30 %",)  # the float32 form is not tested: it would double the time
FLOAT = tuple(n for n in (ORIGINAL, *SHARES, TAUGHT, MORE_IMAGES) if n not in INT8_ALONE)
VARIANTS = (*FLOAT, *map(name_int8, INTO_INT8))


def split_of(name: str, n: int, seed: int, stream: str = "train") -> Split:
    """n simulated patients as a split."""
    made = phantom.simulate_target(stream, n, SIZE, seed)
    return Split(name, classes=("benign", "malignant"), positive=1, **made)


@functools.cache
def real() -> tuple[Split, np.ndarray]:
    """busi's folds 1 to 4, and the fold of each image; fold 0 stays closed."""
    task, table = load_task("busi", size=SIZE), busi.read_table()
    fold = dict(zip(busi.names(table).tolist(), table["fold"].tolist()))
    images, labels = (
        torch.cat([getattr(task.train, k), getattr(task.val, k)]) for k in ("images", "labels")
    )
    ids, groups = (
        np.concatenate([getattr(task.train, k), getattr(task.val, k)])
        for k in ("ids", "near_copies")
    )
    whole = Split("busi", images, labels, task.classes, task.positive, near_copies=groups, ids=ids)
    return whole, np.array([fold[name] for name in ids.tolist()])


@functools.cache
def simulated_test() -> Split:
    return split_of("test", PEOPLE["test"], TEST_SEED, "test")


def held_out(data: str, draw: int) -> Split:
    """The images that the networks of this draw are tested on."""
    if data == "phantom":
        return simulated_test()
    whole, fold = real()
    return whole[fold == draw]


def sides(data: str, draw: int) -> tuple[Split, Split, torch.Tensor]:
    """Images to learn from, images that fix the threshold, images without labels."""
    if data == "busi":
        whole, fold = real()
        pool = whole[fold != draw]
    else:
        pool = split_of("learn", PEOPLE["learn"], draw)
    rows = fold_rows(pool.labels.numpy(), pool.groups, pool.classes, 5, seed=0)[0]
    more = split_of("unlabelled", PEOPLE["unlabelled"], UNLABELLED_SEED + draw).images
    return pool[rows[0]], pool[rows[1]], more


def operating_point(p: np.ndarray, labels: np.ndarray) -> float:
    """The highest threshold at which at least SENSITIVITY of the cancers are found."""
    cancers = np.sort(p[labels == 1])[::-1]
    return float(cancers[int(np.ceil(SENSITIVITY * len(cancers))) - 1])


def networks(learn: Split, more: torch.Tensor, draw: int) -> dict[str, torch.nn.Module]:
    """Name -> network; all begin at the original."""
    torch.manual_seed(draw)
    start = replace_head(source_model("ultrasound"), 2)
    original = trained(start, learn.images, learn.labels, UPDATES, draw, None, RATE, BATCH)
    nets = {ORIGINAL: original}
    every = torch.cat([learn.images, more])
    labels = torch.cat([learn.labels, torch.full((len(more),), -1)])
    taught = predict(original, SimpleNamespace(images=every), raw=True)
    n = len(learn)
    recover = lambda name, *what: trained(pruned(original, SHARES[name], SIZE, learn.images), *what)
    for name in SHARES:
        nets[name] = recover(name, learn.images, learn.labels, MORE, draw)
    nets[TAUGHT] = recover("pruned 70 %", learn.images, learn.labels, MORE, draw, taught[:n])
    nets[MORE_IMAGES] = recover("pruned 70 %", every, labels, MORE, draw, taught)
    return nets


def run(data: str, draw: int) -> dict:
    """Each variant's probability of cancer on the held-out images, and the original's threshold."""
    learn, aside, more = sides(data, draw)
    test = held_out(data, draw)
    nets = networks(learn, more, draw)
    found = {name: predict(nets[name], test).numpy() for name in FLOAT}
    for name in INTO_INT8:
        (found[name_int8(name)],) = int8_answers(
            nets[name], learn.images[:CALIBRATION], test.images
        )
    limit = operating_point(predict(nets[ORIGINAL], aside)[:, 1].numpy(), aside.labels.numpy())
    scores = np.stack([found[name][:, 1] for name in VARIANTS]).astype(np.float32)
    counts = np.array([len(learn), len(aside), len(more), int(aside.labels.sum())])
    return {"scores": scores, "threshold": limit, "counts": counts}


def table(results: list[tuple[dict, dict]]) -> dict:
    from studies.small_models_stats import rows_of

    return rows_of(results)


STUDY = Study(
    name="small_models",
    cells=[
        {"data": data, "draw": draws[k]}
        for k in range(5)
        for data, draws in DRAWS.items()
        if k < len(draws)
    ],
    run=run,
    table=table,
    recipe=f"original: {UPDATES} updates of {BATCH} images, rate {RATE}; pruned: {MORE} more; all "
    f"layers, BatchNorm's statistics held, {SIZE} px; int8 by ONNX Runtime",
    seeds=DRAWS,
    archive=data_folder() / "results" / "small_models.npz",
    code=(
        *(f"medtl_utils.{k}" for k in ("training", "models", "grouping", "phantom")),
        "studies.small_networks",
        "studies.small_models_plan",
    ),
)

if __name__ == "__main__":
    main(STUDY)
