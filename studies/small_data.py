"""What is each augmentation worth with few labels? One at a time, equal updates.

    python -m studies.small_data

busi: each of folds 1 to 4 is held out twice; n of the images of the other three are labelled (near-
copies stay together), each time others, with another seed. Fold 0, the test fold, is not touched.
phantom: five draws of other patients, 240 to learn from and 150 to test. Draws of 25 lie within
those of 100, those within all. Every network begins at the ultrasound source, BatchNorm's
statistics held, and makes 32 updates with 16 images, whatever its arm and the number of labels; the
same seed deals the same batches in all arms. Nothing is chosen, no epoch either. Intervals, paired:
t over the four folds (busi), each the mean of its two draws, or over the five draws (phantom).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from medtl_utils import freeze, load_task, phantom, predict, replace_head, source_model
from medtl_utils.data import Split
from medtl_utils.datasets import busi
from medtl_utils.grouping import draw_labelled
from medtl_utils.training import autocast, best_device
from studies.runner import Study, main
from studies.tables import auc, over_seeds

SIZE, UPDATES, BATCH, RATE = 64, 32, 16, 1e-3
NUMBERS = (25, 100, None)  # labelled images; None: all
DRAWS = {"busi": tuple(range(1, 9)), "phantom": tuple(range(800, 805))}
FOLDS = 4  # of busi: draws 1 and 5 hold out fold 1, draws 2 and 6 fold 2, and so on
NONE = "none"


# ---- one change of the picture each: x (N, 1, H, W) of 0..255, strength s (N,) -------------------


def per_image(s: torch.Tensor) -> torch.Tensor:
    return s.view(-1, 1, 1, 1)


def flip_lr(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    return torch.where(per_image(s) > 0.5, x.flip(3), x)


def flip_tb(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    return torch.where(per_image(s) > 0.5, x.flip(2), x)


def speckle(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """Grain, three pixels wide and one high, that multiplies: fluid is black and stays black."""
    grain = 3**0.5 * F.avg_pool2d(torch.randn_like(x), (1, 3), 1, (0, 1))
    return x * (1 + per_image(s) * grain)


def gain(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    """`s` dB more, and 50 dB are 255 grey levels: the picture is logarithmic. Black stays."""
    return x + 255 / 50 * per_image(s) * (x / 10).clamp(max=1)


def warp(x: torch.Tensor, right=0.0, zoom=1.0) -> torch.Tensor:
    """Moved to the right by a share of the width; enlarged from the middle of the skin's edge."""
    right, zoom = torch.as_tensor(right).expand(len(x)), torch.as_tensor(zoom).expand(len(x))
    zero = torch.zeros(len(x))
    rows = [1 / zoom, zero, -2 * right, zero, 1 / zoom, 1 / zoom - 1]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), x.shape, align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def shift(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    return warp(x, right=s)


def scale(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    return warp(x, zoom=s)


# name -> the change, and the strengths that are drawn, evenly between the two
ARMS: dict[str, tuple[Callable, float, float]] = {
    "flip left-right": (flip_lr, 0.0, 1.0),
    "flip top-bottom": (flip_tb, 0.0, 1.0),
    "speckle": (speckle, 0.0, 0.25),
    "gain": (gain, -8.0, 8.0),
    "shift": (shift, -0.2, 0.2),
    "scale": (scale, 0.8, 1.25),
}
MIXUP = "MixUp"
ALPHA = 0.4  # of MixUp's Beta distribution


def changed(arm: str, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch after one augmentation: images (N, 1, H, W) of 0..255, labels (N, 2), sum 1."""
    if arm == MIXUP:
        other = torch.randperm(len(x))
        share = float(torch.distributions.Beta(ALPHA, ALPHA).sample())
        return share * x + (1 - share) * x[other], share * y + (1 - share) * y[other]
    if arm in ARMS:
        change, low, high = ARMS[arm]
        x = change(x, low + (high - low) * torch.rand(len(x))).clamp(0, 255)
    return x, y


# ---- one network ---------------------------------------------------------------------------------


def batches(n: int, seed: int, updates: int = UPDATES) -> list[torch.Tensor]:
    """Rows of as many batches: pass after pass over n images, each in a new order."""
    rng = torch.Generator().manual_seed(seed)
    passes = -(-updates * BATCH // n)
    order = torch.cat([torch.randperm(n, generator=rng) for _ in range(passes)])
    return list(order[: updates * BATCH].split(BATCH))


def trained(train: Split, arm: str, seed: int, updates: int = UPDATES) -> nn.Module:
    """The source with a new head, after some updates of all weights."""
    torch.manual_seed(seed)
    model = freeze(replace_head(source_model("ultrasound"), 2), through=None, batchnorm="eval")
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=updates)
    model.train().to(memory_format=torch.channels_last)
    for rows in batches(len(train), seed, updates):
        soft = F.one_hot(train.labels[rows], 2).float()
        x, soft = changed(arm, train.images[rows].float(), soft)
        x = model.normalisation(x.round().to(torch.uint8))
        with autocast(best_device()):
            outputs = model(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(outputs.float(), soft)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


# ---- who is labelled, and who is held out --------------------------------------------------------


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
def sides(data: str, draw: int) -> tuple[Split, Split]:
    """Images to learn from, of which some are labelled, and images to test."""
    if data == "busi":
        whole, fold = real()
        held = (draw - 1) % FOLDS + 1
        return whole[fold != held], whole[fold == held]
    made = {part: phantom.simulate_target(part, n, SIZE, draw) for part, n in PEOPLE.items()}
    classes = ("benign", "malignant")
    parts = [Split(name, classes=classes, positive=1, **one) for name, one in made.items()]
    return parts[0], parts[1]


PEOPLE = {"train": 240, "test": 150}  # simulated patients


def labelled(pool: Split, n: int | None, draw: int, data: str) -> Split:
    """n images of the pool, patients or near-copies whole, with both classes; None: all."""
    if n is None:
        return pool
    rng = np.random.default_rng([8, draw])
    rows = draw_labelled(pool.labels.numpy(), pool.groups, n, rng, data)
    return pool[np.sort(np.concatenate(rows))]


def run(data: str, draw: int, n: int | None) -> dict:
    """Probabilities of disease of the held-out images, (arms, images), and counts."""
    pool, test = sides(data, draw)
    train = labelled(pool, n, draw, data)
    score = lambda arm: predict(trained(train, arm, draw), test)[:, 1].numpy()
    groups, cancers = len(np.unique(train.groups)), int((train.labels == 1).sum())
    return {
        "arms": np.stack([score(arm) for arm in (NONE, *ARMS, MIXUP)]),
        "labels": test.labels.numpy(),
        "counts": (len(train), groups, cancers),
    }


# ---- the table -----------------------------------------------------------------------------------


def aucs(scores: np.ndarray, found: dict) -> np.ndarray:
    """AUC of each row of scores (k, images)."""
    truth = Split("", torch.zeros(len(found["labels"]), 1, 1, 1, dtype=torch.uint8),
                  torch.from_numpy(found["labels"]), ("no", "yes"), 1)  # fmt: skip
    return np.array([auc(np.stack([1 - row, row], 1), truth) for row in scores])


def by_unit(data: str, values: np.ndarray) -> np.ndarray:
    """One row a draw of patients (phantom) or a fold, the mean of its draws (busi)."""
    return values.reshape(-1, FOLDS, *values.shape[1:]).mean(0) if data == "busi" else values


def table(results: list[tuple[dict, dict]]) -> dict:
    """Levels without augmentation, and what each augmentation adds."""
    levels, gains, runs = [], [], []
    for data in DRAWS:
        for n in NUMBERS:
            of = [(c["draw"], r) for c, r in results if (c["data"], c["n"]) == (data, n)]
            here = {"data": data, "n": n}
            each = np.stack([aucs(found["arms"], found) for _, found in of])  # draws, arms
            count = np.mean([found["counts"] for _, found in of], 0).round().astype(int).tolist()
            counts = dict(zip(("images", "groups", "malignant"), count))
            unit = by_unit(data, each)
            levels.append(here | counts | over_seeds(unit[:, 0]))
            for column, arm in enumerate((*ARMS, MIXUP), 1):
                gap = unit[:, column] - unit[:, 0]
                gains.append(here | {"arm": arm} | over_seeds(gap))
            runs += [here | {"draw": draw, "auc": row} for (draw, _), row in zip(of, each)]
    return {"levels": levels, "gains": gains, "runs": runs}


STUDY = Study(
    name="small_data",
    cells=[
        {"data": data, "draw": draws[k], "n": n}
        for k in range(len(DRAWS["busi"]))
        for data, draws in DRAWS.items()
        for n in NUMBERS
        if k < len(draws)
    ],
    run=run,
    table=table,
    recipe=f"{UPDATES} updates of {BATCH} images at rate {RATE}, all layers, BatchNorm's "
    f"statistics held, {SIZE} px",
    seeds=DRAWS,
    about={
        "updates": UPDATES,
        "batch": BATCH,
        "arms": [NONE, *ARMS, MIXUP],
        "interval": "95 %, paired, t over 4 folds of 2 draws (busi) or 5 draws of patients "
        "(phantom)",
    },
    code=tuple(f"medtl_utils.{k}" for k in ("training", "models", "grouping", "phantom")),
)

if __name__ == "__main__":
    main(STUDY)
