"""A label and a mask, or a label and descriptors, from one trunk: does either task gain?

    python -m studies.multi_task

busi: each of folds 1 to 4 is held out once, twice with another draw of labels; fold 0, the test
fold, is not touched. phantom: five draws of other patients, 240 to learn from and 120 to test. n of
the images to learn from have a label (malignant or not); all of them have a mask, and on the
phantom descriptors. Every network begins at the ultrasound source, BatchNorm's statistics held, and
makes 40 updates; an update takes 12 images for each task that is learnt, and all arms take the same
images. Nothing is chosen, no epoch either. "label alone" and "mask
alone" see the same batches of their own task and make as many updates.

Intervals, paired. busi: over groups of near-copies held out and over the two draws in each fold;
not over other images to learn from. phantom: t over draws, each with its own patients and seed.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from scipy import stats

from medtl_utils import compare, load_task, phantom, source_model
from medtl_utils.data import Split, _joined
from medtl_utils.datasets import busi
from medtl_utils.evaluation import mean_over_seeds
from medtl_utils.grouping import draw_labelled
from studies.runner import Study, main
from studies.tables import auc, over_seeds
from studies.two_heads import BATCH, UPDATES, Heads, Maps, frozen_maps, trained

SIZE = 64
NUMBERS = (25, 100, None)  # images with a label; None: all
FOLDS, REPEATS = (1, 2, 3, 4), (0, 1)
DRAWS = {
    "busi": [10 * fold + k for k in REPEATS for fold in FOLDS],
    "phantom": [1100 + k for k in range(5)],
}
PEOPLE = {"train": 240, "test": 120}  # simulated patients
ALONE = {"label alone": "label", "mask alone": "mask"}
WEIGHTS = (0.1, 0.5, 0.9)  # of the mask's loss; the label's has the rest
BOTH = {f"both, {w}": w for w in WEIGHTS}
BOTH |= {"both, uncertainty": "uncertainty", "both, PCGrad": "PCGrad"}
MADE = {25: list(BOTH), 100: ["both, 0.5"], None: [f"both, {w}" for w in WEIGHTS]}
WORDS = "with descriptors"  # the second task is to name them; phantom alone


@functools.cache
def real() -> tuple[Split, np.ndarray]:
    """busi's folds 1 to 4, and the fold of each image; fold 0 stays closed."""
    task, table = load_task("busi", size=SIZE), busi.read_table()
    fold = dict(zip(busi.names(table).tolist(), table["fold"].tolist()))
    whole = _joined(task.train, task.val)
    return whole, np.array([fold[name] for name in whole.ids.tolist()])


@functools.cache
def sides(data: str, draw: int) -> tuple[Split, Split]:
    """Images to learn from, and images held out."""
    if data == "busi":
        whole, fold = real()
        return whole[fold != draw // 10], whole[fold == draw // 10]
    made = {part: phantom.simulate_target(part, n, SIZE, draw) for part, n in PEOPLE.items()}
    classes = ("benign", "malignant")
    parts = [Split(name, classes=classes, positive=1, **one) for name, one in made.items()]
    return parts[0], parts[1]


def labelled(pool: Split, n: int | None, draw: int, data: str) -> torch.Tensor:
    """Rows of n images of the pool, patients or near-copies whole, with both classes."""
    if n is None:
        return torch.arange(len(pool))
    rng = np.random.default_rng([11, draw])
    rows = draw_labelled(pool.labels.numpy(), pool.groups, n, rng, data)
    return torch.as_tensor(np.sort(np.concatenate(rows)))


# ---- one cell ------------------------------------------------------------------------------------


def dice_of(found: torch.Tensor, true: torch.Tensor) -> np.ndarray:
    """2 |A and B| / (|A| + |B|) of each pair of masks, bool (N, H, W); NaN without a true mask."""
    both, sizes = ((m.flatten(1).sum(1).double()) for m in (found & true, true))
    dice = 2 * both / (found.flatten(1).sum(1) + sizes)
    return torch.where(sizes > 0, dice, torch.nan).numpy()


@functools.cache
def source() -> torch.nn.Module:
    return source_model("ultrasound").eval()


@functools.cache
def maps_of(data: str, draw: int) -> tuple[Maps, Maps]:
    """Of the images to learn from, and of those held out."""
    learn, out = (frozen_maps(split.images, source()) for split in sides(data, draw))
    return learn, out


@torch.no_grad()
def judged(net: Heads, maps: Maps, test: Split) -> dict[str, np.ndarray]:
    """Probability of disease, Dice and share of the picture that is marked, for each image."""
    size = test.images.shape[-2:]
    marked = net.logits("mask", maps, size) > 0
    score = net.logits("label", maps, size).softmax(1)[:, 1]
    area = marked.double().mean((1, 2))
    return {"score": score.numpy(), "dice": dice_of(marked, test.masks), "area": area.numpy()}


def arms_of(data: str, n: int | None) -> dict[str, tuple]:
    """Arm -> the tasks and how they are joined."""
    arms = {"label alone": (("label",), 0)}
    if n is None:
        arms["mask alone"] = (("mask",), 0)
    both = {name: BOTH[name] for name in MADE[n]}
    arms |= {name: (("label", "mask"), how) for name, how in both.items()}
    if data == "phantom":
        arms[WORDS] = (("label", "descriptors"), 0.5)
    return arms


def run(data: str, draw: int, n: int | None) -> dict:
    """Of each arm, in the order of `arms_of`: scores, Dice and areas (arms, images), cosines."""
    (pool, test), (maps, maps_out) = sides(data, draw), maps_of(data, draw)
    some, every = labelled(pool, n, draw, data), torch.arange(len(pool))
    found = {key: [] for key in ("score", "dice", "area", "cosine", "s")}
    for tasks, how in arms_of(data, n).values():
        rows = {task: some if task == "label" else every for task in tasks}
        net, seen = trained(source(), maps, pool, rows, how, draw)
        for key, values in judged(net, maps_out, test).items():
            found[key].append(values)
        found["cosine"].append(seen["cosine"])
        found["s"].append((seen["s"] * 2)[:2])
    return {key: np.asarray(values, np.float32) for key, values in found.items()}


def table(results: list[tuple[dict, dict]]) -> dict:
    return {}


STUDY = Study(
    name="multi_task",
    cells=[
        {"data": data, "draw": draw, "n": n}
        for k in range(max(map(len, DRAWS.values())))
        for data, draws in DRAWS.items()
        for draw in draws[k : k + 1]
        for n in NUMBERS
    ],
    run=run,
    table=table,
    recipe=f"{UPDATES} updates of {BATCH} images a task, layer3 and heads, BatchNorm's statistics "
    f"held, {SIZE} px",
    seeds=DRAWS,
    about={"updates": UPDATES, "batch": BATCH},
    code=("studies.two_heads", "medtl_utils.models", "medtl_utils.grouping", "medtl_utils.phantom"),
)

if __name__ == "__main__":
    main(STUDY)
