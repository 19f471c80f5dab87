"""What a planted shortcut buys and what it costs: caliper marks that go with malignancy in the training images.

    python data/results/make_shortcut.py                     what is not there yet, then the table (20 minutes in all)
    python data/results/make_shortcut.py --seeds 7000 7001   only these seeds: a part of the work

Simulated: each seed (7000 and up, used nowhere else) draws 64 patients to train on and 16 to validate, about 200 images. The same patients, without
and with marks, give three training sets: "clean" (no marks), "shortcut" (95 % of the malignant and 5 % of the benign patients carry marks), "random"
(half of either). Each model is tested on the same 210 patients of seed 7900 under five habits of marking, and on pictures without a lesion in which the
marks stay (habit of the training set). Recipes: full rates, and the gentle rates of notebook 05; and gentle rates from two small sources that differ
in one thing, whether marks without meaning were among the source's images. Real: 200 labelled images of
BreastMNIST's training set and its official test set, with two crosses painted at a fixed place, image by image. Nothing is tuned and no
epoch is chosen. Scores are kept in data/cache/, so that an interrupted run goes on. Writes shortcut.json beside this file.
"""

import argparse
import dataclasses
import functools
import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from medtl_utils import (
    compare,
    data_folder,
    fine_tune,
    freeze,
    load_model,
    load_task,
    param_groups,
    phantom,
    predict,
    replace_head,
    source_model,
)
from medtl_utils.data import Split, Task
from medtl_utils.models import ULTRASOUND_FILE, ULTRASOUND_SHA256
from medtl_utils.phantom import VERSION, simulate_target
from studies.pretrain import pretrain

HERE = Path(__file__).resolve().parent
SEEDS, TEST_SEED = range(7000, 7006), 7900
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
RUNS = [
    *itertools.product(["simulated"], ["full", "gentle"], ["clean", "shortcut", "random"]),
    *itertools.product(
        ["simulated"], ["source saw marks", "source saw none"], ["clean", "shortcut"]
    ),
    *itertools.product(["real"], ["full", "gentle"], ["clean", "shortcut"]),
]
RECIPES = {
    "gentle": "fine_tune, 10 epochs, lr 1e-3 at the head and 0.3 times the rate for every block further down, BatchNorm keeps the source's statistics",
    "full": "fine_tune, 10 epochs, lr 1e-3 everywhere",
    "source saw marks": "gentle, from a small source: 20,000 simulated images (marks on 12 % of the patients), 64,000 passes",
    "source saw none": "the same, from a small source whose patients never carry marks",
}
CACHE = data_folder() / "cache" / f"shortcut_v{VERSION}_{ULTRASOUND_SHA256[:8]}"


def draw(name: str, seed: int, edit: Callable[[dict], None] | None = None) -> Split:
    """Simulated patients as a Split; `edit` changes each patient before her images are made."""
    made = simulate_target(name, PATIENTS[name], seed=seed, edit=edit)
    return Split(name, classes=("benign", "malignant"), positive=1, **made)


def mark(patient: dict) -> None:
    patient["calipers"] = 1.0


def paint(split: Split) -> Split:
    """Two white crosses on every image, left and right of the centre: real lesions have no known ends."""
    images = split.images.clone()
    side = images.shape[-1]
    for column in (side // 5, side - side // 5):
        images[:, :, side // 2 - 2 : side // 2 + 3, column] = 255
        images[:, :, side // 2, column - 2 : column + 3] = 255
    return dataclasses.replace(split, images=images)


def mark_some(
    plain: Split, marked: Split, share: tuple[float, float], seed: int
) -> tuple[Split, np.ndarray]:
    """Images from `marked` for a share of the (benign, malignant) patients, from `plain` for the rest; and who is marked."""
    names, unit = np.unique(
        np.arange(len(plain)) if plain.patients is None else plain.patients, return_inverse=True
    )
    wanted = np.where(plain.labels == plain.positive, share[1], share[0])
    chosen = np.random.default_rng(seed).random(len(names))[unit] < wanted
    images = torch.where(torch.from_numpy(chosen)[:, None, None, None], marked.images, plain.images)
    return dataclasses.replace(plain, images=images), chosen


def labelled(data: str, seed: int) -> tuple[dict[str, Split], dict[str, Split]]:
    """Training and validation images without and with marks."""
    if data == "simulated":
        return {name: draw(name, seed) for name in ("train", "val")}, {
            name: draw(name, seed, mark) for name in ("train", "val")
        }
    task = load_task("breastmnist", n_train=200, seed=seed)
    plain = {"train": task.train, "val": task.val}
    return plain, {name: paint(split) for name, split in plain.items()}


def small_source(marks: bool) -> nn.Module:
    """A source model trained on few simulated patients, of whom some carry marks, whatever their lesion is like, or none does."""
    file, usual = (
        CACHE / f"source_{'marks' if marks else 'none'}.safetensors",
        phantom.EXTRAS["calipers"],
    )
    if not file.is_file():
        with tempfile.TemporaryDirectory(
            dir=CACHE
        ) as folder:  # its own: two parts of the work may both need the source
            try:
                phantom.EXTRAS["calipers"] = (
                    usual if marks else (0.0, usual[1])
                )  # the same random numbers otherwise
                pretrain(20_000, 64_000, Path(folder))
            finally:
                phantom.EXTRAS["calipers"] = usual
            os.replace(Path(folder) / ULTRASOUND_FILE, file)
    return load_model(file)


def run(data: str, recipe: str, trained_on: str, seed: int) -> nn.Module:
    """One model: the labelled images of `seed`, marked as `trained_on` says, learnt by `recipe`."""
    plain, marked = labelled(data, seed)
    share = TRAINED_ON[trained_on]
    train, val = (mark_some(plain[name], marked[name], share, seed)[0] for name in ("train", "val"))
    source = (
        small_source(recipe == "source saw marks")
        if recipe.startswith("source")
        else source_model("ultrasound")
    )
    torch.manual_seed(seed)
    model, rates = replace_head(source, 2), 1e-3
    if recipe != "full":
        rates = param_groups(freeze(model, through=None, batchnorm="eval"), lr=rates, decay=0.3)
    fine_tune(
        model,
        Task("shortcut", train, val, "see make_shortcut.py", val),
        lr=rates,
        seed=seed,
        progress=False,
    )
    return model


@functools.cache
def test_images(data: str) -> dict[str, Split]:
    """The test images without and with marks; and, simulated, marked by the shortcut's habit with the lesion taken out."""
    if data == "real":
        plain = load_task("breastmnist").open_test("what a planted shortcut buys and costs")
        return {"plain": plain, "marked": paint(plain)}
    plain, marked = draw("test", TEST_SEED), draw("test", TEST_SEED, mark)
    bare = draw("test", TEST_SEED, lambda patient: patient.update(lesion=False))
    bare_marked = draw(
        "test", TEST_SEED, lambda patient: patient.update(lesion=False, calipers=1.0)
    )
    removed, _ = mark_some(bare, bare_marked, HABITS["same habit"], TEST_SEED)
    return {"plain": plain, "marked": marked, "lesion removed": removed}


def scores_of(model: nn.Module, data: str) -> dict[str, torch.Tensor]:
    """Probabilities of the test images under every habit, and of the pictures without a lesion."""
    splits = test_images(data)
    of = {name: predict(model, split) for name, split in splits.items()}
    got = {}
    for habit, share in HABITS.items():
        chosen = mark_some(splits["plain"], splits["plain"], share, TEST_SEED)[1]
        got[habit] = torch.where(torch.from_numpy(chosen)[:, None], of["marked"], of["plain"])
    return got | {name: of[name] for name in of if name == "lesion removed"}


def interval(scores: list[torch.Tensor], test: Split, metric: str = "auc") -> dict[str, float]:
    """Mean of a metric with an interval over patients and seeds: its difference to a constant score, which never varies."""
    coin = torch.full((len(test), 2), 0.5)
    row = compare(scores, [coin] * len(scores), test, metric)
    return {"value": row["a"], "low": row["low"] + row["b"], "high": row["high"] + row["b"]}


def summary(scores: dict) -> dict[str, list[dict]]:
    """Every model under every habit; its paired differences to the clean model; and what it loses when the habit is reversed.

    Real images: the official test set and its twin-free part.
    """
    tables = {"levels": [], "differences": [], "dependence": []}
    for key in RUNS:
        test, habits = test_images(key[0])["plain"], scores[*key, SEEDS[0]]
        parts = (
            {"all": slice(None)}
            if key[0] == "simulated"
            else {"official": slice(None), "twin-free": ~test.twins}
        )
        for (part, rows), metric, habit in itertools.product(
            parts.items(), ("auc", "sensitivity", "specificity"), habits
        ):
            mine, clean = (
                [scores[*key[:2], trained, seed][habit][rows] for seed in SEEDS]
                for trained in (key[2], "clean")
            )
            row = dict(zip(("data", "recipe", "trained_on"), key)) | {
                "part": part,
                "test": habit,
                "metric": metric,
            }
            tables["levels"].append({**row, **interval(mine, test[rows], metric)})
            if key[2] != "clean":
                tables["differences"].append({**row, **compare(mine, clean, test[rows], metric)})
            if habit == "same habit":
                reverse = [scores[*key, seed]["reversed habit"][rows] for seed in SEEDS]
                tables["dependence"].append(
                    {
                        **row,
                        "test": "same minus reversed habit",
                        **compare(mine, reverse, test[rows], metric),
                    }
                )
    rounded = lambda row: {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    return {name: [rounded(row) for row in rows] for name, rows in tables.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=None)
    wanted, scores, runs, missing = parser.parse_args().seeds, {}, [], 0
    CACHE.mkdir(parents=True, exist_ok=True)
    for seed in SEEDS:
        for key in RUNS:
            file = CACHE / f"{seed}_{'_'.join(key)}.npz"
            if not file.is_file():
                if wanted is not None and seed not in wanted:
                    missing += 1
                    continue
                began = time.time()
                got = scores_of(run(*key, seed), key[0])
                np.savez(
                    file, seconds=time.time() - began, **{k: v.numpy() for k, v in got.items()}
                )
            with np.load(file, allow_pickle=False) as kept:
                scores[*key, seed] = {
                    k: torch.from_numpy(kept[k]) for k in kept.files if k != "seconds"
                }
                row = dict(zip(("data", "recipe", "trained_on"), key)) | {
                    "seed": seed,
                    "seconds": round(float(kept["seconds"]), 1),
                }
            test = test_images(key[0])["plain"]
            auc = {
                habit: round(interval([s] * 2, test)["value"], 4)
                for habit, s in scores[*key, seed].items()
            }
            runs.append({**row, "auc": auc})
            print(runs[-1], flush=True)
    if missing:
        print(f"{missing} runs are still to be made; the table is not written yet")
        return
    table = {
        "command": "python data/results/make_shortcut.py",
        "recipes": RECIPES,
        "marked_benign_malignant": {"training": TRAINED_ON, "test": HABITS},
        "patients": PATIENTS,
        "test": f"{PATIENTS['test']} patients of seed {TEST_SEED}, {len(test_images('simulated')['plain'])} images, the same for every run; "
        "real: BreastMNIST's official test set and its twin-free part",
        "seeds": list(SEEDS),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "phantom": VERSION,
        },
        "source_sha256": ULTRASOUND_SHA256,
        "minutes": round(sum(r["seconds"] for r in runs) / 60, 1),
        **summary(scores),
        "runs": runs,
    }
    (HERE / "shortcut.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
