"""Why does the simulated source help? Sources trained on a simulator from which one thing was taken away, judged on real images.

    python data/results/make_source_ablation.py [--only NAME ...] [--passes 64000]

Each source is trained alike (20,000 images, --passes image passes, seed 0) on ultrasound as it is, and without speckle, without shadows and
enhancement, without irregular margins, without what is wider than the target's machines, without the mask head, on 2,000 images, and on shapes
that are no ultrasound. Judged on BreastMNIST's training and validation images only (the test set is not touched): logistic regression on the
512 features in repeated cross-validation and with 80 labelled images, near-copies of an image always in the same part; and fine-tuning all layers at a rate of 0.0003 on 100
labelled images, scored on the rest. Differences to the whole simulator are paired, with a t interval over repetitions (they share images: the interval is of this data set).
Resumable: a source that stands in the table is not trained again. Writes source_ablation.json beside this file.
"""

import argparse
import contextlib
import dataclasses
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from medtl_utils import fine_tune, load_model, load_task, phantom, predict, replace_head
from medtl_utils.data import TWIN_CORRELATION, Split

HERE = Path(__file__).resolve().parent
OUT = HERE / "source_ablation.json"
REPETITIONS = 8
MEASURES = ("probe", "probe, 80 images", "fine-tuned")
draw_patient, draw_view, contour = phantom.draw_patient, phantom.draw_view, phantom._contour


def without_speckle(rng, patient, grid):
    view = draw_view(rng, patient, grid)
    view["noise"][3:] = 1.0  # every scatterer the same: nothing to interfere
    return view


def without_shadows(rng, kind, *a, **k):
    patient = draw_patient(rng, kind, *a, **k)
    return patient | {"posterior_db": 0.0, "streak_db": 0.0, "rib_db": 0.0}


def without_margins(rng, patient):
    radius, edge = contour(rng, patient)
    return np.ones_like(radius), np.full_like(edge, 0.07)


def as_narrow_as_the_target(rng, kind, *a, **k):
    patient = draw_patient(rng, kind, *a, **k)
    return (
        patient
        | {name: fixed for name, (_, fixed) in phantom.WIDER.items()}
        | dict.fromkeys(phantom.EXTRAS, 0.0)
    )


# name -> (what is replaced in the simulator, arguments of pretrain)
SOURCES: dict[str, tuple[dict, dict]] = {
    "whole": ({}, {}),
    "no mask head": ({}, {"mask": 0.0}),
    "no speckle": ({"draw_view": without_speckle}, {}),
    "no shadows": ({"draw_patient": without_shadows}, {}),
    "no margins": ({"_contour": without_margins}, {}),
    "not wider": ({"draw_patient": as_narrow_as_the_target}, {}),
    "2,000 images": ({}, {"n_images": 2000}),
    "shapes": ({}, {"task": "shapes"}),
}


@contextlib.contextmanager
def replaced(**functions):
    old = {name: getattr(phantom, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(phantom, name, function)
        yield
    finally:
        for name, function in old.items():
            setattr(phantom, name, function)


def real_images() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Official training and validation images, whether malignant, and a group number that near-copies share."""
    task = load_task("breastmnist")
    images = torch.cat([task.train.images, task.val.images])
    labels = torch.cat([task.train.labels, task.val.labels]) == task.positive
    near = np.corrcoef(images.flatten(1).numpy()) > TWIN_CORRELATION
    return images, labels.numpy().astype(int), connected_components(near)[1]


def probes(
    model: nn.Module, images: torch.Tensor, labels: np.ndarray, groups: np.ndarray
) -> dict[str, list[float]]:
    """AUCs of logistic regression (C = 0.01) on the features: five-fold cross-validation, and 80 labelled images against the rest."""
    model.fc = nn.Identity()
    with torch.no_grad():
        features = torch.cat(
            [model.eval()(model.normalisation(part)) for part in images.split(128)]
        ).numpy()

    def scores(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000)).fit(
            features[train], labels[train]
        )
        return head.decision_function(features[test])

    whole, few = [], []
    for seed in range(REPETITIONS):
        score = np.zeros(len(labels))
        for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(
            features, labels, groups
        ):
            score[test] = scores(train, test)
        whole.append(float(roc_auc_score(labels, score)))
    for seed in range(5 * REPETITIONS):
        order = (
            np.random.default_rng(seed).permutation(groups.max() + 1)[groups].argsort(kind="stable")
        )
        train, rest = order[:80], order[80:]
        rest = rest[~np.isin(groups[rest], groups[train])]
        few.append(float(roc_auc_score(labels[rest], scores(train, rest))))
    return {"probe": whole, "probe, 80 images": few}


def tuned(make, images: torch.Tensor, labels: np.ndarray, groups: np.ndarray) -> list[float]:
    """AUC after fine-tuning on 100 labelled images (80 to train, 20 to watch), on all images that are no near-copies of them."""
    aucs = []
    task = load_task("breastmnist")
    for seed in range(REPETITIONS):
        few = load_task("breastmnist", n_train=100, seed=seed)
        known = {i.numpy().tobytes() for i in torch.cat([few.train.images, few.val.images])}
        used = np.array([i.numpy().tobytes() in known for i in images])
        rest = ~np.isin(groups, groups[used])
        test = Split(
            "test",
            images[rest],
            torch.tensor(np.where(labels[rest] == 1, task.positive, 1 - task.positive)),
            task.classes,
            task.positive,
        )
        torch.manual_seed(seed)
        model = replace_head(make(), 2)
        fine_tune(model, dataclasses.replace(few, _test=test), lr=3e-4, seed=seed, progress=False)
        aucs.append(float(roc_auc_score(labels[rest], predict(model, test)[:, task.positive])))
    return aucs


def summarise(rows: dict) -> list[dict]:
    summary = []
    for name, row in rows.items():
        for measure in MEASURES:
            difference = np.array(row[measure]) - np.array(rows["whole"][measure])
            half = (
                stats.t.ppf(0.975, len(difference) - 1)
                * difference.std(ddof=1)
                / len(difference) ** 0.5
            )
            summary.append({"source": name, "measure": measure, "auc": round(float(np.mean(row[measure])), 4), "difference": round(float(difference.mean()), 4),
                            "low": round(float(difference.mean() - half), 4), "high": round(float(difference.mean() + half), 4)})  # fmt: skip
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--passes", type=int, default=64_000)
    a = parser.parse_args()
    table = json.loads(OUT.read_text()) if OUT.is_file() else {"rows": {}}
    if table.get("passes", a.passes) != a.passes:
        raise SystemExit(
            f"{OUT.name} was made with --passes {table['passes']}. Move it away to start afresh."
        )
    real = real_images()
    for name in [n for n in a.only if n not in table["rows"]]:
        began, (functions, arguments) = time.time(), SOURCES[name]
        with tempfile.TemporaryDirectory() as folder, replaced(**functions):
            result = pretrain.pretrain(
                **{"n_images": 20_000, "passes": a.passes, "out": Path(folder), **arguments}
            )
            make = lambda: load_model(next(Path(folder).glob("*.safetensors")))
            row = {
                "accuracy": result["accuracy"],
                **probes(make(), *real),
                "fine-tuned": tuned(make, *real),
            }
        table["rows"][name] = row | {"minutes": round((time.time() - began) / 60, 1)}
        table |= {"command": "python data/results/make_source_ablation.py", "passes": a.passes, "repetitions": REPETITIONS,
                  "versions": {"python": platform.python_version(), "torch": torch.__version__.split("+")[0]},
                  "summary": summarise(table["rows"]) if "whole" in table["rows"] else []}  # fmt: skip
        OUT.write_text(json.dumps(table, indent=1) + "\n")
        print(name, {k: round(float(np.mean(row[k])), 3) for k in MEASURES}, flush=True)


if __name__ == "__main__":
    main()
