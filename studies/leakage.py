"""What is leakage worth? One recipe, once with a split by image, once with a split by patient.

    python -m studies.leakage

Each seed (6001 and up, used nowhere else) draws other simulated patients and keeps all four images
of each who has four. A third is held out: either a third of the images, so that most patients are
on both sides, or a third of the patients. The model is the source model, fine-tuned on the rest
with discriminative rates (10 epochs, nothing chosen on the held-out part). `reported`: AUC on the
held-out part, what a paper would print. `fresh`: AUC of the same model on 1,000 images of 400
patients whom no run has seen (test part of seed 6000, the test set of no notebook). Labels are the
true ones, or random: dealt to whole patients, so that nothing but the patient can be recognised.
Intervals: t over seeds, paired by seed.
"""

import functools
import itertools

import numpy as np
import torch

from medtl_utils import (
    fine_tune,
    freeze,
    load_task,
    param_groups,
    phantom,
    predict,
    replace_head,
    source_model,
)
from medtl_utils.data import Split, Task
from studies.runner import Study, main, opened
from studies.tables import auc, over_seeds, tidy

SEEDS, FRESH_SEED = range(6001, 6021), 6000
CELLS = [
    {"seed": seed, "labels": labels, "split": by}
    for seed, labels, by in itertools.product(SEEDS, ("true", "random"), ("image", "patient"))
]


def patients_with_four(seed: int, n_patients: int = 72) -> Split:
    """All four images of the first `n_patients` simulated patients who have four."""
    pool = phantom.simulate_target("train", 360, 64, seed)
    people, counts = np.unique(pool["patients"], return_counts=True)
    rows = np.isin(pool["patients"], people[counts == 4][:n_patients])
    images, labels = pool["images"][rows], pool["labels"][rows]
    return Split("study", images, labels, ("benign", "malignant"), 1, pool["patients"][rows])


def with_random_labels(split: Split, seed: int) -> Split:
    """The same images; labels are dealt anew to the patients, one label for all her images."""
    _, first, of = np.unique(split.patients, return_index=True, return_inverse=True)
    dealt = np.random.default_rng([seed, 1]).permutation(split.labels.numpy()[first])
    labels = torch.from_numpy(dealt[of])
    return Split("study", split.images, labels, split.classes, 1, split.patients)


def held_out(split: Split, by: str, seed: int) -> np.ndarray:
    """True for a third of each class: of the images (by="image"), or of the patients, whole."""
    rng, labels = np.random.default_rng([seed, 2]), split.labels.numpy()
    units = np.arange(len(split)).astype(str) if by == "image" else split.patients
    chosen = [rng.permutation(np.unique(units[labels == c])) for c in (0, 1)]
    return np.isin(units, np.concatenate([c[: len(c) // 3] for c in chosen]))


@functools.cache
def fresh_patients() -> Split:
    task = load_task("phantom", n_train=200, seed=FRESH_SEED)
    return opened(task, "worth of leakage; not the test set of any notebook")


def run(seed: int, labels: str, split: str) -> dict:
    """Train on two thirds; the AUC on the last third, and on fresh patients.

    Random labels mean nothing to fresh patients: there `fresh` is missing.
    """
    whole = patients_with_four(seed)
    whole = with_random_labels(whole, seed) if labels == "random" else whole
    out = held_out(whole, split, seed)
    shared = len(set(whole.patients[out]) & set(whole.patients[~out]))
    # fine_tune refuses patients on both sides, so the leaking split has to hide who is who
    train, test = (
        Split(n, whole.images[m], whole.labels[m], whole.classes, 1)
        for n, m in (("train", ~out), ("test", out))
    )
    torch.manual_seed(seed)
    model = freeze(replace_head(source_model("ultrasound"), 2), through=None, batchnorm="eval")
    lr, task = param_groups(model, lr=1e-3, decay=0.3), Task("leakage", train, test)
    history = fine_tune(model, task, epochs=10, lr=lr, seed=seed, progress=False)
    counts = {"n_train": len(train), "n_test": len(test), "patients_on_both_sides": shared}
    result = counts | {"reported": history["val_auc"][-1]}
    if labels == "true":
        result["fresh"] = auc(predict(model, fresh_patients()), fresh_patients())
    return result


def summarise(runs: list[dict]) -> list[dict]:
    def row(what: str, labels: str, values: np.ndarray) -> dict:
        least = -1 if " - " in what or "difference" in what else 0
        found = over_seeds(values, bounds=(least, 1))
        return {"what": what, "labels": labels, "mean": found.pop("value"), **found}

    def pick(labels: str, by: str, key: str) -> np.ndarray:
        return np.array([r[key] for r in runs if (r["labels"], r["split"]) == (labels, by)])

    both = ("image", "patient")
    optimism = {by: pick("true", by, "reported") - pick("true", by, "fresh") for by in both}
    rows = [
        row(f"{key}, split by {by}", "true", pick("true", by, key))
        for by in both
        for key in ("reported", "fresh")
    ]
    rows += [row(f"reported - fresh, split by {by}", "true", optimism[by]) for by in both]
    worth = optimism["image"] - optimism["patient"]
    rows.append(row("worth of leakage: difference of the two", "true", worth))
    fresh = pick("true", "image", "fresh") - pick("true", "patient", "fresh")
    rows.append(row("fresh, split by image - fresh, split by patient", "true", fresh))
    return rows + [
        row(f"reported, split by {by}", "random", pick("random", by, "reported")) for by in both
    ]


def table(results: list[tuple[dict, dict]]) -> dict:
    runs = tidy([{**cell, **found} for cell, found in results])
    return {"summary": summarise(runs), "runs": runs}


STUDY = Study(
    name="leakage",
    cells=CELLS,
    run=run,
    table=table,
    recipe="source model with its BatchNorm statistics, discriminative rates, 10 epochs, 64 px",
    seeds=SEEDS,
    about={"phantom": phantom.VERSION},
)

if __name__ == "__main__":
    main(STUDY)
