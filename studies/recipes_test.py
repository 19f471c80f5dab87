"""The best way of either side, chosen by studies/recipes.py, on the test fold of busi: one look.

    python -m studies.recipes_test

Learnt from folds 1 to 4, scored on fold 0. Five seeds, paired: the two sides of a seed have the
same images. The interval covers groups of near-copies and seeds, but one training of the source.
"""

from __future__ import annotations

import functools
import itertools
import json

import torch

from medtl_utils import compare, predict
from medtl_utils.data import Split
from medtl_utils.evaluation import mean_over_seeds
from medtl_utils.paths import data_folder
from studies.evidence_data import test_rows, whole
from studies.recipes import FOLDS, SOURCE_OF, WAYS, epochs_of, fold_of
from studies.runner import ULTRASOUND, Study, main

SEEDS, SIDES = range(10, 15), ("transfer", "scratch")


@functools.cache
def chosen() -> dict[str, str]:
    """The way of each side that was best in data/results/recipes.json."""
    return json.loads((data_folder() / "results" / "recipes.json").read_text())["chosen"]


@functools.cache
def labelled() -> Split:
    """All images of folds 1 to 4."""
    rows = [int(row) for fold in FOLDS for row in test_rows("busi", 0, fold)]
    return whole("busi", 64)[sorted(rows)]


def run(side: str, way: str, seed: int) -> dict:
    """Probabilities (N, 2) of the test images."""
    return {"scores": predict(WAYS[side][way](SOURCE_OF[side], labelled(), seed), fold_of(0))}


def table(results: list[tuple[dict, dict]]) -> dict:
    test = fold_of(0)
    of = lambda side: [
        torch.from_numpy(found["scores"]) for cell, found in results if cell["side"] == side
    ]
    levels = [{"side": side, **mean_over_seeds(of(side), test)} for side in SIDES]
    updates = {side: epochs_of(chosen()[side]) * -(-len(labelled()) // 32) for side in SIDES}
    return {
        "chosen": chosen(),
        "updates": updates,
        "levels": levels,
        "gain": compare(of("transfer"), of("scratch"), test),
    }


def study() -> Study:
    """Its cells depend on what studies/recipes.py chose."""
    return Study(
        name="recipes_test",
        cells=[
            {"side": side, "way": chosen()[side], "seed": seed}
            for seed, side in itertools.product(SEEDS, SIDES)
        ],
        run=run,
        table=table,
        recipe="the best of six ways a side, batches of 32, 64 px",
        seeds=SEEDS,
        about={
            "images": "busi: learnt from folds 1 to 4, tested on fold 0",
            "n_seeds": len(SEEDS),
            "interval": "95 %, over groups of near-copies and seeds; one training of the source",
        },
        code=("studies.recipes", "studies.evidence_data", "studies.probe")
        + tuple(f"medtl_utils.{n}" for n in ("training", "augmentation", "grouping", "models")),
        weights=lambda cell: ULTRASOUND if cell["side"] == "transfer" else None,
    )


if __name__ == "__main__":
    main(study())
