"""Does the source help on real tumours? Repeated, grouped cross-validation on all images of busi.

    python -m studies.evidence --share 1/2 & python -m studies.evidence --share 2/2
    python -m studies.evidence

780 images at 64 pixels, five folds, groups of near-copies whole; n of a fold's other images are
labelled (25, 50, 100, 200, or all). Three repetitions, each with its own folds, its own training of
every source, and its own draws, which all arms share. One network each: from scratch; from the
simulated ultrasound; from the control, shapes that are no ultrasound. One recipe an arm and number
of labels (studies/evidence_plan.py), fixed before any of these networks saw a real label; nothing
is chosen by validation. A cell is one fold of one repetition: the scores of its test images from
each draw.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from medtl_utils import predict
from medtl_utils.datasets import busi
from medtl_utils.paths import data_folder
from studies.evidence_data import FOLDS, labelled_rows, test_rows, whole
from studies.evidence_fit import fitted
from studies.evidence_plan import ARMS, DRAWS, PRIMARY, REPETITIONS, digest_of, recipe_of
from studies.evidence_stats import METRICS, Fold, estimate, holm, summary
from studies.runner import Study, main


def run(
    data: str,
    arm: str,
    n: int | None,
    repetition: int,
    fold: int,
    draws: int,
    recipe: dict,
    member: int = 0,
) -> dict:
    """Scores of disease of the fold's test images, float32 (draws, images), and all losses.

    "scores" of the images as they are, "mirrored" of their mirror images. `member`: another number
    is another training from the same labelled images, for an average of networks.
    """
    images = whole(data, ARMS[arm][1])
    test = images[test_rows(data, repetition, fold)]
    mirror = replace(test, images=test.images.flip(-1))
    scores, mirrored, losses, updates = [], [], [], 0
    for draw in range(draws):
        train = images[labelled_rows(data, repetition, fold, n, draw)]
        seed = 1_000_000 * member + 10_000 * repetition + 100 * fold + draw
        model, loss = fitted(arm, repetition, train, recipe, seed)
        scores.append(predict(model, test)[:, 1].numpy())
        mirrored.append(predict(model, mirror)[:, 1].numpy())
        losses.append(loss)
        if "epochs" in recipe:  # a last batch of one image is left out
            whole_batches, rest = divmod(len(train), recipe["batch_size"])
            updates = recipe["epochs"] * (whole_batches + (rest > 1))
    found = {"scores": np.stack(scores), "mirrored": np.stack(mirrored)}
    return found | {"losses": np.array(losses), "updates": updates}


# ---- the table ----------------------------------------------------------------------------------


def folds_of(
    results: list[tuple[dict, dict]],
    groups: str = "group",
    data: str = "busi",
    scores_of: Callable[[dict], np.ndarray] = lambda arrays: arrays["scores"],
    member: int = 0,
) -> dict:
    """(arm, n) -> for each repetition its folds, of the cells of `data`.

    `groups`: the column of busi's table that says what are copies. With another one than "group",
    test images that have a copy among the labelled ones are left out. `scores_of`: from a cell's
    arrays to scores (draws, images). `member`: which network of an average.
    """
    split = whole(data, 64)
    positive = split.labels.numpy() == 1
    group = busi.read_table()[groups] if data == "busi" else split.groups
    found: dict = {}
    for cell, arrays in results:
        if cell["data"] != data or cell.get("member", 0) != member:
            continue
        rows = test_rows(data, cell["repetition"], cell["fold"])
        others = np.setdiff1d(np.arange(len(group)), rows)
        clear = ~np.isin(group[rows], group[others])
        by_repetition = found.setdefault((cell["arm"], cell["n"]), [[] for _ in REPETITIONS])
        here = Fold(scores_of(arrays)[:, clear], positive[rows][clear], group[rows][clear])
        by_repetition[cell["repetition"]].append(here)
    return found


def averaged(*arms: list[list[Fold]]) -> list[list[Fold]]:
    """The folds of the mean of several arms' scores."""
    mean = lambda same: replace(same[0], scores=np.mean([fold.scores for fold in same], 0))
    return [[mean(same) for same in zip(*parts)] for parts in zip(*arms)]


def levels(found: dict) -> list[dict]:
    """Every metric of every arm."""
    rows = []
    for (arm, n), folds in found.items():
        for metric in METRICS:
            level = summary(estimate(folds, metric))
            del level["p"]  # against 0, which says nothing of a level
            rows.append({"arm": arm, "n": n, "metric": metric, **level})
    return rows


def gains(found: dict, against: str, groups: str = "group") -> list[dict]:
    """The AUC of each arm minus that of `against`, paired by image, draw and repetition."""
    rows = []
    for (arm, n), folds in found.items():
        if arm != against:
            difference = estimate(folds) - estimate(found[against, n])
            rows.append({"arm": arm, "against": against, "n": n, "copies": groups})
            rows[-1] |= summary(difference)
    return rows


def table(results: list[tuple[dict, dict]]) -> dict:
    """Levels; gains over scratch and over the control; the primary claim with Holm's p."""
    found = folds_of(results)
    over_scratch = gains(found, "scratch")
    claim = [row for row in over_scratch if row["arm"] == "ultrasound"]
    for row, p in zip(claim, holm([row["p"] for row in claim])):
        row["holm"] = float(p)
    other = [
        row
        for column in ("group_looser", "group_stricter")
        for row in gains(folds_of(results, column), "scratch", column)
    ]
    updates = {(c["arm"], c["n"]): int(a["updates"]) for c, a in results if c["fold"] == 0}
    return {
        "updates": [{"arm": arm, "n": n, "updates": u} for (arm, n), u in updates.items()],
        "levels": levels(found),
        "gains": [*over_scratch, *gains(found, "shapes")],
        "other_thresholds": other,
    }


def cells() -> list[dict]:
    """Whole repetitions first, all labels first: what is half done says most."""
    order = itertools.product(REPETITIONS, (None, 100, 25, 200, 50), PRIMARY, FOLDS)
    return [
        {"data": "busi", "arm": arm, "n": n, "repetition": r, "fold": k}
        | {"draws": DRAWS[n], "recipe": recipe_of(arm, n)}
        for r, n, arm, k in order
    ]


STUDY = Study(
    name="evidence",
    cells=cells(),
    run=run,
    table=table,
    recipe="studies/evidence_plan.py",
    seeds=REPETITIONS,
    about={"images": "busi, 780, 64 px", "n": "labelled images; None: all of four folds"},
    code=("studies.evidence_data", "studies.evidence_fit", "studies.probe")
    + tuple(f"medtl_utils.{name}" for name in ("training", "augmentation", "grouping", "models")),
    weights=lambda cell: digest_of(cell["arm"], cell["repetition"]),
    archive=data_folder() / "results" / "evidence_cells.npz",
)

if __name__ == "__main__":
    main(STUDY)
