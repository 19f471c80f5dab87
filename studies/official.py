"""A footnote: BreastMNIST's official test set, for comparison with the literature.

    python -m studies.official

156 images, 28 pixels enlarged to 64, after all else was done. One network each, trained on the 624
training and validation images with the evidence's recipes for all labels, nothing chosen; three
trainings of each source. The test set was looked at before (data/MODEL_CARD.md lists when), it has
42 cancers, and near-copies of training images: "clear" leaves those test images out. The number to
believe is the cross-validated one of `studies.evidence_more`.
"""

from __future__ import annotations

import numpy as np

from medtl_utils import predict
from medtl_utils.data import Split
from medtl_utils.datasets import busi
from medtl_utils.paths import data_folder
from studies.evidence import STUDY as EVIDENCE
from studies.evidence_data import whole
from studies.evidence_fit import fitted
from studies.evidence_plan import PRIMARY, REPETITIONS, digest_of, recipe_of
from studies.evidence_stats import Fold, estimate, summary
from studies.runner import Study, main


def parts() -> tuple[Split, Split]:
    """(training and validation, test) of BreastMNIST, 1 = malignant, in the order of busi."""
    split, part = whole("breastmnist", 64), busi.read_table()["breastmnist"]
    return split[np.flatnonzero(part != "test")], split[np.flatnonzero(part == "test")]


def run(arm: str, repetition: int, recipe: dict) -> dict:
    """Scores of disease of the test images, float32 (1, 156)."""
    train, test = parts()
    model, _ = fitted(arm, repetition, train, recipe, 10_000 * repetition)
    return {"scores": predict(model, test)[:, 1].numpy()[None]}


def table(results: list[tuple[dict, dict]]) -> dict:
    """AUC of each arm and its gain over scratch, on all test images and on those without a copy."""
    train, test = parts()
    positive, rows = test.labels.numpy() == 1, []
    for images, keep in (
        ("all", np.ones(len(test), bool)),
        ("clear", ~np.isin(test.groups, train.groups)),
    ):
        of = {arm: [] for arm in PRIMARY}
        for cell, arrays in results:
            fold = Fold(arrays["scores"][:, keep], positive[keep], test.groups[keep])
            of[cell["arm"]].append([fold])
        for arm, folds in of.items():
            found = {"images": images, "n": int(keep.sum()), "arm": arm}
            for against in (None, "scratch"):
                if arm != against:
                    value = estimate(folds) - estimate(of[against]) if against else estimate(folds)
                    rows.append(found | {"against": against} | summary(value))
    return {"rows": rows}


STUDY = Study(
    name="official",
    cells=[
        {"arm": arm, "repetition": r, "recipe": recipe_of(arm, None)}
        for r in REPETITIONS
        for arm in PRIMARY
    ],
    run=run,
    table=table,
    recipe="studies/evidence_plan.py",
    seeds=REPETITIONS,
    about={"images": "BreastMNIST, official test set"},
    code=EVIDENCE.code,
    weights=lambda cell: digest_of(cell["arm"], cell["repetition"]),
    archive=data_folder() / "results" / "official_cells.npz",
)

if __name__ == "__main__":
    main(STUDY)
