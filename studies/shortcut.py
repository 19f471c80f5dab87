"""What a planted shortcut buys and costs: caliper marks that go with malignancy in training images.

    python -m studies.shortcut

Simulated: each seed (7000 and up, used nowhere else) draws 64 patients to train on and 16 to
validate, about 200 images. The same patients, without and with marks, give three training sets:
"clean" (no marks), "shortcut" (95 % of the malignant and 5 % of the benign patients carry marks),
"random" (half of either). Each model is tested on the same 210 patients of seed 7900 under five
habits of marking, and on pictures without a lesion in which the marks stay (habit of the training
set). Recipes: full rates, and the gentle rates of notebook 05.
Real: 200 labelled images of busi's folds 2 to 4, scored on fold 1, with two crosses painted at a
fixed place; near-copies are marked alike. Nothing is tuned and no epoch is chosen.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from medtl_utils import (
    compare,
    fine_tune,
    freeze,
    param_groups,
    predict,
    replace_head,
    source_model,
)
from medtl_utils.data import Split, Task
from medtl_utils.evaluation import mean_over_seeds
from medtl_utils.phantom import VERSION, simulate_target
from studies import real_images
from studies.cache import HELPER
from studies.runner import Study, main
from studies.tables import auc

SEEDS, TEST_SEED = range(7000, 7005), 7900
PATIENTS = {"train": 64, "val": 16, "test": 210}
# share of the (benign, malignant) patients that carry marks
HABITS = {
    "no marks": (0.0, 0.0),
    "same habit": (0.05, 0.95),
    "marks at random": (0.5, 0.5),
    "reversed habit": (0.95, 0.05),
    "all marked": (1.0, 1.0),
}
TRAINED_ON = {
    "clean": HABITS["no marks"],
    "shortcut": HABITS["same habit"],
    "random": HABITS["marks at random"],
}
PARTS = {"simulated": "all", "real": "fold 1"}  # what the tables call the images that are scored
METRICS = ("auc", "sensitivity", "specificity")
MODELS = [
    *itertools.product(["simulated"], ["full", "gentle"], ["clean", "shortcut", "random"]),
    *itertools.product(["real"], ["full", "gentle"], ["clean", "shortcut"]),
]
RECIPES = {
    "gentle": "fine_tune, 10 epochs, lr 1e-3 at the head and 0.3 times the rate for every block "
    "further down, BatchNorm keeps the source's statistics",
    "full": "fine_tune, 10 epochs, lr 1e-3 everywhere",
}


# ---- images --------------------------------------------------------------------------------------


def draw(name: str, seed: int, edit: Callable[[dict], None] | None = None) -> Split:
    """Simulated patients as a Split; `edit` changes each patient before her images are made."""
    made = simulate_target(name, PATIENTS[name], seed=seed, edit=edit)
    return Split(name, classes=("benign", "malignant"), positive=1, **made)


def mark(patient: dict) -> None:
    patient["calipers"] = 1.0


def paint(split: Split) -> Split:
    """Two white crosses on every image, left and right of the centre: real lesions have no ends."""
    images = split.images.clone()
    side = images.shape[-1]
    for column in (side // 5, side - side // 5):
        images[:, :, side // 2 - 2 : side // 2 + 3, column] = 255
        images[:, :, side // 2, column - 2 : column + 3] = 255
    return dataclasses.replace(split, images=images)


def mark_some(
    plain: Split, marked: Split, share: tuple[float, float], seed: int
) -> tuple[Split, np.ndarray]:
    """Images from `marked` for a share of the (benign, malignant) patients; and who is marked.

    The others' images are from `plain`. Where patients are unknown, groups of near-copies.
    """
    names, unit = np.unique(plain.groups, return_inverse=True)
    wanted = np.where(plain.labels == plain.positive, share[1], share[0])
    chosen = np.random.default_rng(seed).random(len(names))[unit] < wanted
    images = torch.where(torch.from_numpy(chosen)[:, None, None, None], marked.images, plain.images)
    return dataclasses.replace(plain, images=images), chosen


def labelled(data: str, seed: int) -> tuple[dict[str, Split], dict[str, Split]]:
    """Training and validation images without and with marks."""
    if data == "simulated":
        both = ("train", "val")
        return {n: draw(n, seed) for n in both}, {n: draw(n, seed, mark) for n in both}
    task = real_images.few_labelled(200, seed)
    plain = {"train": task.train, "val": task.val}
    return plain, {name: paint(split) for name, split in plain.items()}


@functools.cache
def test_images(data: str) -> dict[str, Split]:
    """The test images without and with marks; simulated: also the habit without the lesion."""
    if data == "real":
        return {"plain": real_images.scored(), "marked": paint(real_images.scored())}
    bare = draw("test", TEST_SEED, lambda patient: patient.update(lesion=False))
    marks_alone = lambda patient: patient.update(lesion=False, calipers=1.0)
    removed, _ = mark_some(
        bare, draw("test", TEST_SEED, marks_alone), HABITS["same habit"], TEST_SEED
    )
    plain, marked = draw("test", TEST_SEED), draw("test", TEST_SEED, mark)
    return {"plain": plain, "marked": marked, "lesion removed": removed}


# ---- models --------------------------------------------------------------------------------------


def trained(data: str, recipe: str, trained_on: str, seed: int) -> nn.Module:
    """One model: the labelled images of `seed`, marked as `trained_on` says, learnt by `recipe`."""
    plain, marked = labelled(data, seed)
    share = TRAINED_ON[trained_on]
    train, val = (mark_some(plain[n], marked[n], share, seed)[0] for n in ("train", "val"))
    torch.manual_seed(seed)
    model, rates = replace_head(source_model("ultrasound"), 2), 1e-3
    if recipe != "full":
        rates = param_groups(freeze(model, through=None, batchnorm="eval"), lr=rates, decay=0.3)
    fine_tune(model, Task("shortcut", train, val), lr=rates, seed=seed, progress=False)
    return model


def scores_of(model: nn.Module, data: str) -> dict[str, torch.Tensor]:
    """Probabilities of the test images under every habit, and of the pictures without a lesion."""
    splits = test_images(data)
    of = {name: predict(model, split) for name, split in splits.items()}
    got = {}
    for habit, share in HABITS.items():
        chosen = mark_some(splits["plain"], splits["plain"], share, TEST_SEED)[1]
        got[habit] = torch.where(torch.from_numpy(chosen)[:, None], of["marked"], of["plain"])
    return got | {name: of[name] for name in of if name == "lesion removed"}


def run(data: str, recipe: str, trained_on: str, seed: int) -> dict:
    return scores_of(trained(data, recipe, trained_on, seed), data)


# ---- table ---------------------------------------------------------------------------------------


def rows_of(scores: dict, key: tuple[str, str, str]) -> dict[str, list[dict]]:
    """One kind of model under every habit: alone, against the clean one, against the reversed."""
    test = real_images.by_group(test_images(key[0])["plain"])
    tables, part = {"levels": [], "differences": [], "dependence": []}, PARTS[key[0]]
    of = lambda on, habit: [scores[*key[:2], on, s][habit] for s in SEEDS]
    for metric in METRICS:
        for habit in scores[*key, SEEDS[0]]:
            row = dict(zip(("data", "recipe", "trained_on"), key))
            row |= {"part": part, "test": habit, "metric": metric}
            mine = of(key[2], habit)
            level = mean_over_seeds(mine, test, metric)
            tables["levels"].append(row | {k: level[k] for k in ("value", "low", "high")})
            if key[2] != "clean":
                gap = compare(mine, of("clean", habit), test, metric)
                tables["differences"].append(row | gap)
            if habit == "same habit":
                gap = compare(mine, of(key[2], "reversed habit"), test, metric)
                tables["dependence"].append(row | {"test": "same minus reversed habit"} | gap)
    return tables


def table(results: list[tuple[dict, dict]]) -> dict:
    scores, runs = {}, []
    for cell, found in results:
        own = {habit: torch.from_numpy(found[habit]) for habit in found}
        scores[*(cell[k] for k in ("data", "recipe", "trained_on", "seed"))] = own
        test = test_images(cell["data"])["plain"]
        runs.append(cell | {"auc": {habit: auc(s, test) for habit, s in own.items()}})
    tables = {"levels": [], "differences": [], "dependence": []}
    for key in MODELS:
        for name, rows in rows_of(scores, key).items():
            tables[name] += rows
    simulated = (
        f"{PATIENTS['test']} patients of seed {TEST_SEED}, "
        f"{len(test_images('simulated')['plain'])} images, the same for every run"
    )
    real = f"real: {len(test_images('real')['plain'])} images of busi's fold 1"
    return {"test": f"{simulated}; {real}", **tables, "runs": runs}


STUDY = Study(
    name="shortcut",
    cells=[
        dict(zip(("data", "recipe", "trained_on"), key)) | {"seed": seed}
        for seed, key in itertools.product(SEEDS, MODELS)
    ],
    run=run,
    table=table,
    recipe="fine_tune, 10 epochs, 64 px, full or gentle rates",
    seeds=SEEDS,
    about={
        "recipes": RECIPES,
        "marked_benign_malignant": {"training": TRAINED_ON, "test": HABITS},
        "patients": PATIENTS,
        "phantom": VERSION,
        "interval": "95 %, patients (real: groups of near-copies) and seeds",
    },
    code=(*HELPER, "medtl_utils.datasets.busi", "studies.real_images"),
)

if __name__ == "__main__":
    main(STUDY)
