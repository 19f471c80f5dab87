"""What is leakage worth? One recipe, once with a split by image, once with a split by patient.

    python data/results/make_leakage.py [--part 0..3]

Each seed (6001 and up, used nowhere else) draws other simulated patients and keeps all four images of each who has four. A third is held out:
either a third of the images, so that most patients are on both sides, or a third of the patients. The model is the source model, fine-tuned
on the rest with discriminative rates (10 epochs, nothing chosen on the held-out part). `reported`: AUC on the held-out part, what a paper would print. `fresh`:
AUC of the same model on 1,000 images of 400 patients whom no run has seen (test part of seed 6000, the test set of no notebook).
Labels are the true ones, or random: dealt to whole patients, so that nothing but the patient can be recognised. Intervals: t over seeds, paired
by seed. A part holds two seeds and is stored in data/cache/; when all are there, leakage.json is written beside this file.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from medtl_utils import (
    data_folder,
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
from medtl_utils.models import ULTRASOUND_SHA256

SEEDS, FRESH_SEED = range(6001, 6009), 6000
HERE = Path(__file__).resolve().parent


def study(seed: int, n_patients: int = 72) -> Split:
    """All four images of the first `n_patients` simulated patients who have four."""
    pool = phantom.simulate_target("train", 360, 64, seed)
    people, counts = np.unique(pool["patients"], return_counts=True)
    rows = np.isin(pool["patients"], people[counts == 4][:n_patients])
    labels = pool["labels"][rows]
    return Split(
        "study", pool["images"][rows], labels, ("benign", "malignant"), 1, pool["patients"][rows]
    )


def with_random_labels(split: Split, seed: int) -> Split:
    """The same images; the labels are dealt anew among the patients, each with one label for all her images."""
    people, first, of = np.unique(split.patients, return_index=True, return_inverse=True)
    dealt = np.random.default_rng([seed, 1]).permutation(split.labels.numpy()[first])
    return Split(
        "study", split.images, torch.from_numpy(dealt[of]), split.classes, 1, split.patients
    )


def held_out(split: Split, by: str, seed: int) -> np.ndarray:
    """True for a third of the images (by="image") or for all images of a third of the patients (by="patient"), of each class."""
    rng, labels = np.random.default_rng([seed, 2]), split.labels.numpy()
    units = np.arange(len(split)).astype(str) if by == "image" else split.patients
    chosen = [rng.permutation(np.unique(units[labels == c])) for c in (0, 1)]
    return np.isin(units, np.concatenate([c[: len(c) // 3] for c in chosen]))


def run(seed: int, labels: str, by: str, fresh: Split | None) -> dict:
    """Train on two thirds; the AUC on the last third, and on fresh patients (not for random labels, which mean nothing there)."""
    split = study(seed)
    split = with_random_labels(split, seed) if labels == "random" else split
    out = held_out(split, by, seed)
    shared = len(set(split.patients[out]) & set(split.patients[~out]))
    # fine_tune refuses patients on both sides, so the leaking split has to hide who is who
    train, test = (
        Split(n, split.images[m], split.labels[m], split.classes, 1)
        for n, m in (("train", ~out), ("test", out))
    )
    torch.manual_seed(seed)
    model = freeze(replace_head(source_model("ultrasound"), 2), through=None, batchnorm="eval")
    lr = param_groups(model, lr=1e-3, decay=0.3)
    history = fine_tune(
        model, Task("leakage", train, test, "", test), epochs=10, lr=lr, seed=seed, progress=False
    )
    row = {
        "seed": seed,
        "labels": labels,
        "split": by,
        "n_train": len(train),
        "n_test": len(test),
        "patients_on_both_sides": shared,
    }
    row["reported"] = round(history["val_auc"][-1], 4)
    if fresh is not None:
        row["fresh"] = round(float(roc_auc_score(fresh.labels, predict(model, fresh)[:, 1])), 4)
    return row


def interval(values) -> dict:
    """Mean with its 95 % t interval over seeds."""
    values = np.asarray(values, float)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return {
        k: round(float(v), 4)
        for k, v in {
            "mean": values.mean(),
            "low": values.mean() - half,
            "high": values.mean() + half,
        }.items()
    }


def summarise(runs: list[dict]) -> list[dict]:
    pick = lambda labels, by, key: np.array(
        [r[key] for r in runs if (r["labels"], r["split"]) == (labels, by)]
    )
    optimism = {
        by: pick("true", by, "reported") - pick("true", by, "fresh") for by in ("image", "patient")
    }
    rows = [
        {"what": f"{key}, split by {by}", "labels": "true", **interval(pick("true", by, key))}
        for by in optimism
        for key in ("reported", "fresh")
    ]
    rows += [
        {"what": f"reported - fresh, split by {by}", "labels": "true", **interval(o)}
        for by, o in optimism.items()
    ]
    rows.append(
        {
            "what": "worth of leakage: difference of the two",
            "labels": "true",
            **interval(optimism["image"] - optimism["patient"]),
        }
    )
    return rows + [
        {
            "what": f"reported, split by {by}",
            "labels": "random",
            **interval(pick("random", by, "reported")),
        }
        for by in optimism
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--part", type=int, choices=range(4), help="two of the eight seeds; default: all"
    )
    part = parser.parse_args().part
    cache = lambda seed: (
        data_folder() / "cache" / f"leakage_v{phantom.VERSION}_{ULTRASOUND_SHA256[:8]}_{seed}.json"
    )
    fresh = load_task("phantom", n_train=200, seed=FRESH_SEED).open_test(
        "worth of leakage; not the test set of any notebook"
    )
    for seed in SEEDS if part is None else SEEDS[2 * part : 2 * part + 2]:
        if cache(seed).is_file():
            continue
        began, rows = time.time(), []
        for labels in ("true", "random"):
            for by in ("image", "patient"):
                rows.append(run(seed, labels, by, fresh if labels == "true" else None))
                print(rows[-1], flush=True)
        cache(seed).write_text(json.dumps({"minutes": (time.time() - began) / 60, "rows": rows}))
    if all(cache(seed).is_file() for seed in SEEDS):
        parts = [json.loads(cache(seed).read_text()) for seed in SEEDS]
        runs = [row for p in parts for row in p["rows"]]
        table = {
            "command": "python data/results/make_leakage.py", "recipe": "source model with its BatchNorm statistics, discriminative rates, 10 epochs, 64 px", "seeds": list(SEEDS),
            "source_sha256": ULTRASOUND_SHA256, "phantom": phantom.VERSION,
            "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
            "minutes": round(sum(p["minutes"] for p in parts), 1), "summary": summarise(runs), "runs": runs,
        }  # fmt: skip
        (HERE / "leakage.json").write_text(json.dumps(table, indent=1) + "\n")
        for row in table["summary"]:
            print(row)


if __name__ == "__main__":
    main()
