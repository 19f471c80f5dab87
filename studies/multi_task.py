"""A label and a mask, or a label and descriptors, from one trunk: does either task gain?

    python -m studies.multi_task

busi: each of folds 1 to 4 is held out once, twice with another draw of labels; fold 0, the test
fold, is not touched. phantom: five draws of other patients, 240 to learn from and 120 to test. n of
the images to learn from have a label (malignant or not); all of them have a mask, and on the
phantom descriptors. Every network begins at the ultrasound source, BatchNorm's statistics held, and
makes 40 updates; an update takes 12 images for each task that is learnt, and all arms take the same
images. Nothing is chosen, no epoch either. "label alone" and "mask
alone" see the same batches of their own task and make as many updates.

Intervals, paired. busi: t over the four folds, the draws of a fold averaged before; phantom: t over
draws. A fold or draw has its own images to learn from and its own to test.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from medtl_utils import load_task, phantom, source_model
from medtl_utils.data import Split, _joined
from medtl_utils.datasets import busi
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
    task, listed = load_task("busi", size=SIZE), busi.read_table()
    fold = dict(zip(busi.names(listed).tolist(), listed["fold"].tolist()))
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


# ---- the table -----------------------------------------------------------------------------------


def of_fold(values: dict[int, float]) -> list[float]:
    """draw -> value: the mean of each fold (busi), or each draw (phantom)."""
    place = {draw: draw // 10 if draw < 1000 else draw for draw in values}
    return [
        float(np.mean([v for draw, v in values.items() if place[draw] == one]))
        for one in sorted(set(place.values()))
    ]


def measured(data: str, draw: int, arm: str, found: dict, k: int) -> dict[str, float]:
    """AUC and Dice of one network; only those of the tasks that it has learnt."""
    test, got = sides(data, draw)[1], {}
    if arm != "mask alone":
        got["AUC"] = auc(np.stack([1 - found["score"][k], found["score"][k]], 1), test)
    if arm not in ("label alone", WORDS):
        got["Dice"] = float(np.nanmean(found["dice"][k], dtype=np.float64))
    return got


def runs_of(results: list[tuple[dict, dict]]) -> list[dict]:
    """One row a network."""
    rows = []
    for cell, found in results:
        for k, arm in enumerate(arms_of(cell["data"], cell["n"])):
            cosine = found["cosine"][k].astype(np.float64)
            more = {"s": found["s"][k]} if arm.endswith("uncertainty") else {}
            if len(arms_of(cell["data"], cell["n"])[arm][0]) == 2:
                third = UPDATES // 3
                more |= {
                    "cosine first": cosine[:third].mean(),
                    "cosine last": cosine[-third:].mean(),
                }
                more["conflicts"] = float((cosine < 0).mean())
            rows.append(
                cell | {"arm": arm} | measured(cell["data"], cell["draw"], arm, found, k) | more
            )
    return rows


def baselines(data: str, draw: int) -> dict[str, float]:
    """Dice of one mask for all images; AUC of the size of the true mask."""
    pool, test = sides(data, draw)
    mean = pool.masks.float().mean(0)
    guesses = {"mean mask": mean >= 0.5 * mean.max(), "centre ellipse": ellipse(pool.masks)}
    found = {
        name: float(np.nanmean(dice_of(guess.expand_as(test.masks), test.masks)))
        for name, guess in guesses.items()
    }
    size = test.masks.float().mean((1, 2))
    return found | {"true area": auc(torch.stack([-size, size], 1), test)}


def ellipse(masks: torch.Tensor) -> torch.Tensor:
    """In the middle of the picture, as wide and as high as an average lesion: bool (H, W)."""
    seen = masks[masks.flatten(1).any(1)]
    high, wide = (seen.any(axis).sum(1).float().mean() / 2 for axis in (2, 1))
    y, x = (torch.arange(n) - (n - 1) / 2 for n in masks.shape[1:])
    return (y[:, None] / high) ** 2 + (x[None] / wide) ** 2 <= 1


def compared(runs: list[dict]) -> tuple[list[dict], list[dict]]:
    """Levels of each arm, and gains against the network that learns one task alone."""
    mask_alone = {(r["data"], r["draw"]): r["Dice"] for r in runs if r["arm"] == "mask alone"}
    label_alone = {
        (r["data"], r["draw"], r["n"]): r["AUC"] for r in runs if r["arm"] == "label alone"
    }
    levels, gains = [], []
    for here, of in by_arm(runs):
        for metric in METRICS:
            rows = {r["draw"]: r[metric] for r in of if metric in r}
            if not rows:
                continue
            row, data = here | {"metric": metric}, here["data"]
            levels.append(row | over_seeds(of_fold(rows), bounds=(0, 1)))
            if "alone" not in here["arm"]:
                gaps = {
                    draw: value - label_alone[data, draw, here["n"]]
                    if metric == "AUC"
                    else value - mask_alone[data, draw]
                    for draw, value in rows.items()
                }
                gains.append(row | over_seeds(of_fold(gaps)))
    return levels, gains


def by_arm(runs: list[dict]) -> list[tuple[dict, list[dict]]]:
    places = dict.fromkeys((r["data"], r["n"], r["arm"]) for r in runs)
    return [
        (
            dict(zip(("data", "n", "arm"), place)),
            [r for r in runs if (r["data"], r["n"], r["arm"]) == place],
        )
        for place in places
    ]


def table(results: list[tuple[dict, dict]]) -> dict:
    """Levels, gains, cosines of the two gradients, and baselines without training."""
    runs = runs_of(results)
    levels, gains = compared(runs)
    cosines = [
        here | {"what": key} | over_seeds(of_fold({r["draw"]: r[key] for r in of}))
        for here, of in by_arm(runs)
        for key in COSINES
        if key in of[0]
    ]
    trivial = []
    for data, draws in DRAWS.items():
        rows = {draw: baselines(data, draw) for draw in draws}
        for key in rows[draws[0]]:
            values = of_fold({draw: row[key] for draw, row in rows.items()})
            trivial.append({"data": data, "what": key} | over_seeds(values, bounds=(0, 1)))
    return {
        "levels": levels,
        "gains": gains,
        "cosines": cosines,
        "baselines": trivial,
        "runs": runs,
    }


COSINES = ("cosine first", "cosine last", "conflicts")
METRICS = ("AUC", "Dice")

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
    about={
        "updates": UPDATES,
        "batch": BATCH,
        "interval": "95 %, t over 4 folds (busi; two draws each) or 5 draws of patients (phantom)",
    },
    code=("studies.two_heads", "medtl_utils.models", "medtl_utils.grouping", "medtl_utils.phantom"),
)

if __name__ == "__main__":
    main(STUDY)
